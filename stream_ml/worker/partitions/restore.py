"""What a taken up partition's join needs from the topics: which ranges, and what each record in them says."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from stream_ml.app.parts import Parts
from stream_ml.core.avro.record import LaterFormat
from stream_ml.core.log.heads import Pair, decode_pairs
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.partition.commit_metadata import OutputEnds
from stream_ml.core.partition.partition import Partition
from stream_ml.core.partition.restore import CommittedOutputs, rebuilt_labels
from stream_ml.kafka.reading.log_reader import is_sealed
from stream_ml.kafka.reading.ranges import Where
from stream_ml.records import Block, Record, Records


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
    """

    def __init__(self, parts: Parts, claimed: Claimed, now: OutputEnds, record_bytes_max: int) -> None:
        config, partition = parts.config, claimed.partition
        self.claimed, self._parts, self._record_bytes_max = claimed, parts, record_bytes_max
        positions = (partition.events_position, partition.feedback_position)
        topics = (config.events.topic, config.feedback.topic)
        payloads = parts.reader.payloads
        self._evidence = CommittedOutputs(partition.number, claimed.floors, positions, topics, payloads)
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
        """Records of one of the ranges, those of the training log apart.

        LaterFormat where a later version wrote one of them; its `row` counts from the records' beginning.
        """
        where = (records.topic, records.partition)
        if where not in self.ranges:
            return
        given = len(records)
        records = records.since(self.ranges[where][0])
        try:
            self._take(records)
        except LaterFormat as later:
            later.row += given - len(records)
            raise

    def _take(self, records: Records) -> None:
        config, evidence = self._parts.config, self._evidence
        if records.topic == config.events.topic:
            evidence.events.take(records)
        elif records.topic == config.feedback.topic:
            self._labels += [record for record in records if record.offset not in evidence.ended_labels]
        elif records.topic == config.predictions.topic:
            evidence.events.published([value or b"" for value in records.values], self._parts.predictions)
        elif records.topic == config.outcomes:
            for row, value in enumerate(records.values):
                try:
                    evidence.outcome(value or b"")
                except LaterFormat as later:
                    later.row = row
                    raise
        elif records.topic == config.dead_letters:
            for record in records:
                evidence.dead_letter(record)

    def example(self, offset: int, pair: Pair) -> None:
        """An example of the partition, which stands in the training log at this offset."""
        if offset >= self.ranges.get((self._parts.config.training_log_topic, 0), (offset + 1, 0))[0]:
            self._evidence.example(pair)

    def finish(self) -> None:
        """Fill the join."""
        partition, evidence = self.claimed.partition, self._evidence
        found = rebuilt_labels(self._labels, evidence, self._parts.feedback, partition.number)
        waiting, partition.undecodable_labels = found
        partition.join.rebuild(evidence.events.finish(evidence.joined_events, self._record_bytes_max), waiting)


def take_log(rebuilds: Mapping[int, Rebuild], records: Records, seal: LogSeal | None) -> None:
    """Records of the training log, decoded once for all partitions; what is not sealed says nothing."""
    rows = [row for row, record in enumerate(records) if is_sealed(record, seal)]
    pairs = decode_pairs([records.values[row] or b"" for row in rows])
    for row, pair in zip(rows, pairs, strict=True):
        if pair is not None and pair.source_partition in rebuilds:
            rebuilds[pair.source_partition].example(records.offsets[row], pair)


def merged(rebuilds: Iterable[Rebuild]) -> dict[Where, tuple[int, int]]:
    """The ranges of all; of a partition that several read (the training log) the hull."""
    found: dict[Where, tuple[int, int]] = {}
    for rebuild in rebuilds:
        for where, (start, stop) in rebuild.ranges.items():
            before = found.get(where, (start, stop))
            found[where] = (min(start, before[0]), max(stop, before[1]))
    return found
