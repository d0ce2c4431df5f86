"""One prediction looked into: published where, by which version, derived again, and what each feature added."""

from collections.abc import Callable
from typing import Any, NamedTuple

from stream_ml.app.parts import Parts
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.log.entry import Entry, decode_entry
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.model.contributions import Contributions, NothingToSay, contributions
from stream_ml.core.model.estimator import ModelFailed, Scored
from stream_ml.core.model.scoring import same
from stream_ml.core.partition.predictions import Published
from stream_ml.errors import ConfigError, StreamMLError
from stream_ml.follower.past.derive import Derived, model_at
from stream_ml.follower.recipes import Recipe, Recipes
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.newest import partitions_of
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import TopicFacts
from stream_ml.records import Record, Served

PIECE = 50_000  # offsets read at once, from the end backwards

Say = Callable[[str], None]


class Told(NamedTuple):
    """A published prediction, and where it stands."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    of: Published
    duplicate: bool


class Learned(NamedTuple):
    """The label of an event in the log: where it stands, what came true, how long that took."""

    position: int
    label: Any
    delay_ms: int


class Again(NamedTuple):
    """A prediction derived again.

    Parameters
    ----------
    differs
        Whether it is another one than was published.
    why
        Why it cannot be derived; empty where it was.
    """

    scored: Scored | None
    contributions: Contributions | None
    examples_learned: int
    began_at: int
    differs: bool
    why: str
    clipped: bool = False


def find(parts: Parts, event_id: str | None, origin: tuple[int, int] | None, say: Say) -> list[Told]:
    """Predictions of an event, the newest first; all of one piece of a partition.

    Parameters
    ----------
    origin
        Partition and offset of the event; then its id is not asked for.

    Raises
    ------
    ConfigError
        There is none: it was never published, or is older than what the topic keeps.
    """
    config, topic = parts.config, parts.config.predictions.topic
    where = [one for one in partitions_of(config, topic) if origin is None or one[1] == origin[0]]
    bounds = ends(admin(config), where)
    found: list[Told] = []
    for _, number in where:
        first, end = bounds[topic, number]
        found += _in_partition(parts, number, first, end, event_id, origin, say)
    if not found:
        what = f"event {event_id}" if origin is None else f"event {origin[0]}:{origin[1]}"
        held = ", ".join(f"{number}: {first:,} to {end:,}" for (_, number), (first, end) in bounds.items())
        raise ConfigError(
            f"no prediction of {what} is in {topic} (it holds {held})",
            "an event without one is a dead letter (stream-ml dead-letters ls CONFIG), was not scored yet, or is older "
            "than the topic's retention",
        )
    return sorted(found, key=lambda one: -one.at_ms)


def _in_partition(
    parts: Parts, number: int, first: int, end: int, event_id: str | None, origin: tuple[int, int] | None, say: Say
) -> list[Told]:
    config, codec = parts.config, parts.predictions
    upto = end
    while upto > first:
        start = max(first, upto - PIECE)
        found = []
        for batch in read_range(config, codec.topic, number, start, upto, keep_alive=lambda: None):
            for record, published in zip(batch, codec.decode_many([one.value or b"" for one in batch]), strict=True):
                if isinstance(published, Published) and _is_wanted(published, event_id, origin):
                    found.append(_told(record, published))
        if found:
            return found
        upto = start
        if upto > first:
            say(f"partition {number}: looked back to {upto:,}")
    return []


def _is_wanted(published: Published, event_id: str | None, origin: tuple[int, int] | None) -> bool:
    if origin is not None:
        return (published.partition, published.offset) == origin
    return published.event_id == event_id


def _told(record: Record, published: Published) -> Told:
    flags = published.served.flags
    return Told(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=record.timestamp_ms,
        of=published,
        duplicate="duplicate_event" in flags,
    )


class Explainer:
    """Derives predictions of one app again."""

    def __init__(self, parts: Parts, recipes: Recipes, facts: TopicFacts, seal: LogSeal | None) -> None:
        self._parts, self._recipes, self._facts, self._seal = parts, recipes, facts, seal

    # --- its event and its label ---

    def event(self, told: Told, learned: Entry | None) -> Record | None:
        """The event's record; out of the log where its topic has lost it; None where both have."""
        of, config = told.of, self._parts.config
        (bounds,) = ends(admin(config), [(of.topic, of.partition)]).values()
        if bounds[0] <= of.offset < bounds[1]:
            read = read_range(config, of.topic, of.partition, of.offset, of.offset + 1, keep_alive=lambda: None)
            for batch in read:
                for record in batch:
                    return record
        if learned is None:
            return None
        return Record(of.topic, of.partition, of.offset, learned.event_time_ms, of.event_id.encode(), learned.event)

    def label(self, told: Told, end: int) -> tuple[Learned, Entry] | None:
        """Where its example stands in the log; None where it was not learned by then."""
        config = self._parts.config
        first = max(0, told.of.served.position)
        for batch in read_range(config, config.training_log_topic, 0, first, end, keep_alive=lambda: None):
            for record in batch:
                entry = _example_of(log_value(record, self._seal), told.of)
                if entry is None:
                    continue
                target = entry.target
                label = target.value if target.class_name is None else target.class_name
                return Learned(record.offset, label, entry.label_time_ms - entry.event_time_ms), entry
        return None

    # --- the model ---

    def recipe(self, told: Told, declared: Any) -> Recipe | str:
        """That of the lineage which made it; why there is none."""
        return self._recipes.of(told.of.served.lineage, declared)

    def again(self, recipe: Recipe, position: int | None, event: Record, served: Served | None) -> Again:
        """What a version says of an event; compared with what was published, where that is given."""
        try:
            derived = model_at(recipe, self._recipes.fresh(recipe), self._facts, position, self._seal)
        except StreamMLError as error:
            return Again(None, None, 0, 0, False, error.message)
        features = self._features(recipe, derived, event)
        if isinstance(features, str):
            return Again(None, None, derived.model.examples_learned, derived.began_at, False, features)
        model = derived.model.model
        learned, began_at = derived.model.examples_learned, derived.began_at
        within = model.limits.clip_one(features)
        try:
            scored = model.score_one(features)
        except ModelFailed as error:
            return Again(None, None, learned, began_at, False, f"the model raises: {error}")
        try:
            parts = contributions(model.learner.estimator, within, recipe.parts.domain)
        except NothingToSay:
            parts = None
        differs = served is not None and not (scored.class_name == served.class_name and same(scored, served))
        return Again(scored, parts, learned, began_at, differs, "", within is not features)

    def _features(self, recipe: Recipe, derived: Derived, event: Record) -> dict[str, Any] | str:
        payload = recipe.parts.reader.payloads.decode_one(event.value)
        if isinstance(payload, Rejected):  # a writer schema that stands in the log alone
            return f"its event cannot be read: {payload.message}"
        found = derived.settings.plan.extract_one(payload[1])
        return f"its event is refused: {found.message}" if isinstance(found, Rejected) else found[0]


def _example_of(value: bytes, of: Published) -> Entry | None:
    """The entry in these bytes, where it is an example of this event."""
    if of.event_id.encode() not in value:  # as in nearly all: what is decoded is little
        return None
    try:
        entry = decode_entry(value)
    except ValueError:
        return None
    is_it = entry.kind == "example" and (entry.source_partition, entry.event_offset) == (of.partition, of.offset)
    return entry if is_it else None
