"""Predictions derived again: fold the log to the version that a prediction names, score its event, compare."""

from collections import deque
from typing import NamedTuple

from stream_ml.app.parts import Parts
from stream_ml.audit.coordinates import Findings
from stream_ml.audit.sample import Sample
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.halt import Refold, Remake
from stream_ml.core.fold.replica import Replica
from stream_ml.core.fold.roles import Roles
from stream_ml.core.join.watermark import NEVER_MS
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.model.estimator import ModelFailed, Scored
from stream_ml.core.model.scoring import class_scores, same
from stream_ml.core.partition.predictions import Published
from stream_ml.follower.recipes import Recipe, Recipes
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.records import Event, LogRecord, Record, Served

Pairs = deque[tuple[Published, Record]]


class Rescored(NamedTuple):
    """How many predictions came out as published, and how many could not be derived.

    `unchecked`: the model cannot be built here, or the log has lost its beginning; `unbuildable` says why, by lineage.
    The others are of the configuration's model.
    """

    checked: int
    unchecked: int
    position: int
    examples_learned: int
    probe_bits: list[tuple[str, ...]]
    quality: dict[str, float]
    unbuildable: dict[str, str]


def rescore(
    parts: Parts, recipes: Recipes, roles: Roles, sample: Sample, found: Findings, seal: LogSeal | None
) -> Rescored:
    """Fold the whole log for each model, and on the way score each event with the version that its prediction names."""
    config = parts.config
    log = (config.training_log_topic, 0)
    first, end = ends(admin(config), [log])[log]
    own = recipes.own.lineage
    left: dict[str, Pairs] = {own: deque()}
    for pair in sample.pairs():
        left.setdefault(pair[0].served.lineage, deque()).append(pair)
    rescorers: dict[str, _Rescorer] = {}
    unbuildable: dict[str, str] = {}
    for lineage, pairs in left.items():
        recipe = recipes.of(lineage, roles.declared.get(lineage))
        if isinstance(recipe, str):
            unbuildable[lineage] = recipe
            continue
        rescorer = rescorers[lineage] = _Rescorer(recipe, recipes.fresh(recipe), found, seal)
        if first == 0:
            while _fold(parts, rescorer, pairs, end):
                pass
            rescorer.score(pairs, rescorer.replica.position)
    replica = rescorers[own].replica
    return Rescored(
        checked=sum(rescorer.checked for rescorer in rescorers.values()),
        unchecked=sum(map(len, left.values())),
        position=replica.position,
        examples_learned=replica.only.examples_learned,
        probe_bits=replica.only.probe_bits(),
        quality=replica.watch.quality.report(),
        unbuildable=unbuildable,
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
    def __init__(self, recipe: Recipe, settings: FoldSettings, found: Findings, seal: LogSeal | None) -> None:
        self.seal = seal
        self.settings = settings
        self.replica = Replica(settings)
        self.checked = 0
        self._reader, self._found = recipe.parts.reader, found

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
            event = self._reader.decode_one(record, NEVER_MS)
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
