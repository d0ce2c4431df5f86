"""What a taken up partition's join needs from the topics: which ranges, and what each record in them says."""

from collections.abc import Iterable
from typing import NamedTuple

from stream_ml.assembly import Parts
from stream_ml.core.metadata import OutputEnds
from stream_ml.core.partition import Partition
from stream_ml.core.rebuild import Evidence, rebuilt_events, rebuilt_labels
from stream_ml.core.seals import LogSeal
from stream_ml.kafka.reading import Where, is_sealed
from stream_ml.records import Block, LogRecord, Record, Records


class Claimed(NamedTuple):
    """A partition before its join is rebuilt; `blocks` go into the transaction that claims it."""

    partition: Partition
    floors: tuple[int, int]
    ends: OutputEnds
    blocks: list[Block]


class Rebuild:
    """The rebuild of one partition: `ranges` are to be read, each record taken, then `finish`.

    Parameters
    ----------
    now
        Ends of what the partition writes to, taken after its claim.
    seal
        Of the training log's entries; others say nothing.
    """

    def __init__(
        self, parts: Parts, claimed: Claimed, now: OutputEnds, record_bytes_max: int, seal: LogSeal | None
    ) -> None:
        self._seal = seal
        config, partition = parts.config, claimed.partition
        self.claimed, self._parts, self._record_bytes_max = claimed, parts, record_bytes_max
        self._evidence = Evidence(partition.number, *claimed.floors, config.events.topic, config.feedback.topic)
        self._events = Records.of(config.events.topic, partition.number, ())
        self._labels: list[Record] = []
        number, since = partition.number, claimed.ends
        inputs = {
            (config.events.topic, number): (claimed.floors[0], partition.events_position),
            (config.feedback.topic, number): (claimed.floors[1], partition.feedback_position),
        }
        outputs = {
            (config.predictions.topic, number): (since.predictions, now.predictions),
            (config.outcomes, number): (since.outcomes, now.outcomes),
            (config.dead_letters, number): (since.dead_letters, now.dead_letters),
            (config.training_log_topic, 0): (since.training_log, now.training_log),
        }
        nothing_held = claimed.floors == (partition.events_position, partition.feedback_position)
        found = inputs if nothing_held else inputs | outputs
        self.ranges = {where: (start, stop) for where, (start, stop) in found.items() if start < stop}

    def take(self, records: Records) -> None:
        """Records of one of the ranges, or of the training log before the partition's own range in it."""
        config, evidence = self._parts.config, self._evidence
        where = (records.topic, records.partition)
        if where not in self.ranges:
            return
        records = records.since(self.ranges[where][0])
        if records.topic == config.events.topic:
            self._events.extend(records)
        elif records.topic == config.feedback.topic:
            self._labels += records
        elif records.topic == config.predictions.topic:
            evidence.predictions([value or b"" for value in records.values], self._parts.predictions)
        elif records.topic == config.outcomes:
            for value in records.values:
                evidence.outcome(value or b"")
        elif records.topic == config.dead_letters:
            for record in records:
                evidence.dead_letter(record)
        else:
            for record in records:
                if is_sealed(record, self._seal):
                    evidence.log_record(LogRecord(record.offset, record.value or b""))

    def finish(self) -> None:
        """Fill the join."""
        partition, payloads = self.claimed.partition, self._parts.reader.payloads
        waiting, partition.leftovers = rebuilt_labels(self._labels, self._evidence, self._parts.feedback)
        events = rebuilt_events(self._events, self._evidence, payloads, record_bytes_max=self._record_bytes_max)
        partition.join.rebuild(events, waiting)


def merged(rebuilds: Iterable[Rebuild]) -> dict[Where, tuple[int, int]]:
    """The ranges of all; of a partition that several read (the training log) the hull."""
    found: dict[Where, tuple[int, int]] = {}
    for rebuild in rebuilds:
        for where, (start, stop) in rebuild.ranges.items():
            before = found.get(where, (start, stop))
            found[where] = (min(start, before[0]), max(stop, before[1]))
    return found
