"""Predictions derived again: fold the log to the version that a prediction names, score its event, compare."""

from collections import deque
from typing import NamedTuple

from stream_ml.app.parts import Parts
from stream_ml.audit.coordinates import Findings
from stream_ml.audit.sample import Sample
from stream_ml.core.fold.halt import Refold, Remake
from stream_ml.core.fold.replica import Replica
from stream_ml.core.join.watermark import NEVER_MS
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.model.estimator import ModelFailed, Scored
from stream_ml.core.model.scoring import class_scores, same
from stream_ml.core.partition.predictions import Published
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.records import Event, LogRecord, Record, Served

Pairs = deque[tuple[Published, Record]]


class Rescored(NamedTuple):
    """How many predictions came out as published, and how many could not be derived.

    `unchecked`: the model is another one than the configuration's, or the log has lost its beginning.
    """

    checked: int
    unchecked: int
    position: int
    examples_learned: int
    probe_bits: list[tuple[str, ...]]
    quality: dict[str, float]


def rescore(parts: Parts, lineage: str, sample: Sample, found: Findings, seal: LogSeal | None) -> Rescored:
    """Fold the whole log, and on the way score each event of the sample with the version that its prediction names."""
    config = parts.config
    log = (config.training_log_topic, 0)
    first, end = ends(admin(config), [log])[log]
    left: Pairs = deque(sample.pairs())
    rescorer = _Rescorer(parts, lineage, found, seal)
    if first == 0:
        while _fold(parts, rescorer, left, end):
            pass
        rescorer.score(left, rescorer.replica.position)
    replica = rescorer.replica
    return Rescored(
        rescorer.checked,
        len(left),
        replica.position,
        replica.only.examples_learned,
        replica.only.probe_bits(),
        replica.watch.quality.report(),
    )


def _fold(parts: Parts, rescorer: "_Rescorer", left: Pairs, end: int) -> bool:
    """Fold up to the log's end; True where it has to go back and begin anew from the replica's position."""
    topic = parts.config.training_log_topic
    start = rescorer.replica.read_position
    for batch in read_range(parts.config, topic, 0, start, end, keep_alive=lambda: None):
        for record in batch:
            replica = rescorer.replica
            if replica.halt is None:
                rescorer.score(left, record.offset)
            result = replica.fold([LogRecord(record.offset, log_value(record, rescorer.seal))])
            if isinstance(result, Remake):
                rescorer.replica = replica.successor(Replica(rescorer.settings))
                return True
            if isinstance(result, Refold):
                replica.clear_halt()
                return True
    return False


class _Rescorer:
    def __init__(self, parts: Parts, lineage: str, found: Findings, seal: LogSeal | None) -> None:
        self.seal = seal
        self.settings = parts.fold_settings(lineage)
        self.replica = Replica(self.settings)
        self.checked = 0
        self._parts, self._found = parts, found

    def score(self, left: Pairs, position: int) -> None:
        """Score those whose version is this position or before it."""
        while left and left[0][0].served.position <= position:
            said, record = left.popleft()
            if "unsound" in said.served.flags:
                continue  # the log does not give what a corrupted model said, and the flag says so
            where = (said.topic, said.partition, said.offset)
            self.checked += 1
            if said.served.position != self.replica.position:
                message = f"its model version {said.served.position} is none: the log gives {self.replica.position}"
                self._found.add("version", *where, message)
                continue
            event = self._parts.reader.decode_one(record, NEVER_MS)
            if not isinstance(event, Event):
                self._found.add("score", *where, f"its event cannot be scored again: {event.message}")
                continue
            try:
                scored = self.replica.only.model.score_one(event.features)
            except ModelFailed as error:
                self._found.add("score", *where, f"the model raises: {error}")
                continue
            if not agrees(scored, said.served):
                message = f"version {said.served.position} gives {_numbers(scored)}, published {_numbers(said.served)}"
                self._found.add("score", *where, message)


def agrees(scored: Scored, served: Served) -> bool:
    """Whether a prediction derived again is the one that was published: its class, and its numbers to AGREE."""
    try:
        return scored.class_name == served.class_name and same(scored, served)
    except ValueError:
        return False  # its scores are none


def _numbers(said: Scored | Served) -> dict[str, float | str | None]:
    try:
        scores = class_scores(said)
    except ValueError as error:
        return {"class": said.class_name, "score": said.score, "value": said.value, "scores": str(error)}
    named = {f"score of {name}": score for name, score in sorted(scores.items())}
    return {"class": said.class_name, "score": said.score, "value": said.value, **named}
