"""After which records a partition would go on, by what stands in its newest outputs."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from stream_ml.config import Config
from stream_ml.core.avro.record import LaterFormat
from stream_ml.core.log.heads import decode_pair
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.partition.outputs import dead_letter_origin, decode_outcome
from stream_ml.core.partition.predictions import prediction_origin
from stream_ml.kafka.clients import admin
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.messages import record_of
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import is_sealed
from stream_ml.kafka.reading.ranges import read_ranges
from stream_ml.records import Record

TAIL = 20_000  # newest records of an output that are read to see where a partition was


class Continuation(NamedTuple):
    """What the newest outputs of a partition say: after which event and label it stood, and what had no end yet."""

    events: int
    feedback: int
    unlabelled: set[int]  # events that have a prediction and no example
    ended: set[int]  # labels that have an end
    whole: bool  # whether all outputs were read, and not only the newest

    def words(self, events: int, feedback: int, floors: tuple[int, int]) -> str:
        """What follows from setting the partition's offsets to these."""
        found = []
        if events < self.events:
            found.append(f"events {events} to {self.events - 1} have an end already and get a second one")
        if events > self.events:
            found.append(f"events {self.events} to {events - 1} are never scored")
        if feedback < self.feedback:
            found.append(f"labels from {feedback} to {self.feedback - 1} are looked at again")
        waiting = sum(floors[0] <= offset < events for offset in self.unlabelled)
        labels = sum(offset not in self.ended for offset in range(floors[1], feedback))
        if not self.whole:
            found.append("what waits for its other half is found again")
        elif waiting or labels:
            found.append(f"{waiting} events and {labels} labels wait for their other half")
        return "".join(f"; {text}" for text in found)


def continuation(config: Config, partition: int, seal: LogSeal | None = None) -> Continuation:
    """Where a partition would go on by what stands in its outputs: after the last event and label that have an end.

    Only the newest TAIL records of each output are read.
    """
    client = admin(config)
    topics = (config.predictions.topic, config.outcomes, config.dead_letters, config.training_log_topic)
    places = [(topic, 0 if topic == config.training_log_topic else partition) for topic in topics]
    scored: set[int] = set()
    ended: dict[str, set[int]] = {config.events.topic: set(), config.feedback.topic: set()}
    with reaching(config):
        found = ends(client, places)
        ranges = {where: (max(first, end - TAIL), end) for where, (first, end) in found.items()}
        for batch in read_ranges(config, ranges, keep_alive=lambda: None):
            for record in map(record_of, batch):
                for topic, offset in _ended(config, partition, record, seal):
                    of = scored if record.topic == config.predictions.topic else ended.setdefault(topic, set())
                    of.add(offset)
    events, labels = ended[config.events.topic], ended[config.feedback.topic]
    after = max(scored | events, default=-1) + 1
    whole = all(end - first <= TAIL for first, end in found.values())
    return Continuation(after, max(labels, default=-1) + 1, scored - events, labels, whole)


def _ended(config: Config, partition: int, record: Record, seal: LogSeal | None) -> Iterator[tuple[str, int]]:
    """The inputs that an output of the partition ends."""
    value = record.value or b""
    with contextlib.suppress(ValueError):
        if record.topic == config.outcomes:
            yield config.feedback.topic, _label_of(value)
        elif record.topic == config.dead_letters:
            origin = dead_letter_origin(record)
            if origin is not None:
                yield origin[0], origin[2]
        elif record.topic == config.training_log_topic:
            pair = decode_pair(value) if is_sealed(record, seal) else None
            if pair is not None and pair.source_partition == partition:
                yield config.events.topic, pair.event_offset
                yield config.feedback.topic, pair.feedback_offset
        else:
            yield config.events.topic, prediction_origin(value, config.predictions.framing)


def _label_of(outcome: bytes) -> int:
    """Offset of the label that an outcome is of, whichever version wrote it; ValueError where it is none."""
    try:
        return int(decode_outcome(outcome)["feedback_offset"])
    except LaterFormat as later:
        if later.where is None:
            raise
        return later.where[2]
