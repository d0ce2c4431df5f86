"""A tape of the topics of events and labels themselves, joined as a worker joins them: history that nobody has scored.

Each partition is played through the service's own core in the order of its records' times, so `feedback.ttl`, early
labels and duplicates are what they are live; nothing is learned and nothing written meanwhile. Then the examples of all
partitions stand in one order, by the times of events and labels, as they would have come one after another.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stream_ml.app.parts import Parts
from stream_ml.config import Config
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.replica import Replica
from stream_ml.core.inputs.labels import Labels
from stream_ml.core.join.join import Join
from stream_ml.core.log.entry_columns import decode_entries
from stream_ml.core.partition.batch import Batch
from stream_ml.core.partition.commit_metadata import OutputEnds
from stream_ml.core.partition.partition import Partition
from stream_ml.core.partition.serving import Serving
from stream_ml.errors import ConfigError
from stream_ml.kafka.reading.newest import offsets_of, offsets_since
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.offline.replay.examples import ExampleFile, timeline
from stream_ml.offline.replay.tape import Tape
from stream_ml.records import Clock, Records

SLICE = 1_000  # events at once; labels of as much time go with them
RECORD_BYTES_MAX = 2**30  # nothing is written to Kafka, so nothing is too large for it
PASSED_MS = 10**12  # of the clock that judges idle inputs, when both are at their end


class FromTopics(NamedTuple):
    """A tape, how many records were read, and what became of labels and records that made no example, in words."""

    tape: Tape
    events: int
    labels: int
    notes: list[str]


def tape_of_topics(
    parts: Parts,
    settings: Sequence[FoldSettings],
    work: Path,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    said: Callable[[int, int], None] = lambda *_: None,
) -> FromTopics:
    """Read both topics once and write their tape.

    Parameters
    ----------
    settings
        Of models with different plans, one of each plan.
    from_ms, to_ms
        Times of Kafka's records: events that came in between, and labels that came since the first; None: no bound.
    said
        Told how many records are read, of how many at most.

    Raises
    ------
    ConfigError
        A topic is not there, their numbers of partitions differ, or no label meets its event.
    """
    config = parts.config
    events = _ranges(config, config.events.topic, from_ms, to_ms)
    labels = _ranges(config, config.feedback.topic, from_ms, None)
    if events.keys() != labels.keys():
        raise ConfigError(
            f"{config.events.topic} has {len(events)} partitions and {config.feedback.topic} {len(labels)}: labels "
            "would not meet their events",
            "stream-ml check CONFIG --online",
        )
    most = sum(stop - first for of in (events, labels) for first, stop in of.values())
    playing = _Playing(parts, settings[0], ExampleFile(work), lambda read: said(read, most))
    for number in events:
        playing.play(number, events[number], labels[number])
    if not playing.examples.count:
        raise ConfigError(
            f"no label of {config.feedback.topic} meets its event in {config.events.topic}"
            + "".join(f"; {words}" for words in playing.notes()),
            "stream-ml tail CONFIG events and feedback show what is there",
        )
    return FromTopics(playing.tape(settings), playing.events, playing.labels, playing.notes())


def _ranges(config: Config, topic: str, from_ms: int | None, to_ms: int | None) -> dict[int, tuple[int, int]]:
    """First offset and stop of each partition."""
    there = offsets_of(config, topic)
    first = {number: begin for number, (begin, _) in there.items()}
    stop = {number: end for number, (_, end) in there.items()}
    if from_ms is not None:
        first = offsets_since(config, topic, from_ms)
    if to_ms is not None:
        stop = offsets_since(config, topic, to_ms)
    return {number: (first[number], max(first[number], stop[number])) for number in there}


class _Playing:
    """One partition after the other through the core; their examples in one file."""

    def __init__(
        self, parts: Parts, settings: FoldSettings, examples: ExampleFile, said: Callable[[int], None]
    ) -> None:
        self._parts, self.examples, self._told = parts, examples, said
        self._serving = Serving.of(Replica(settings))
        self._topic = parts.config.training_log_topic
        self._counts: Counter[tuple[str, str]] = Counter()
        self._places: list[tuple[int, int]] = []
        self.events = self.labels = 0

    def play(self, number: int, events: tuple[int, int], labels: tuple[int, int]) -> None:
        """One partition, from its first record to its last."""
        parts = self._parts
        join, settings = Join(parts.join_settings()), parts.partition_settings(RECORD_BYTES_MAX)
        ends_of_none = OutputEnds(0, 0, 0, 0)
        core = Partition(settings, number, join, (events[0], labels[0]), 0, ends_of_none, (events[0], labels[0]))
        waiting = _Waiting(self._labels_of(number, labels))
        latest_ms, now_ms = 0, time.time_ns() // 1_000_000
        for records in self._events_of(number, events):
            decoded = parts.reader.decode_many(records, now_ms)
            latest_ms = decoded.latest_ms(latest_ms)
            self.events += len(records)
            self._take(core, Batch(decoded, waiting.upto(latest_ms), False, waiting.is_over), now_ms)
        nothing = parts.reader.decode_many(Records.of(parts.config.events.topic, number, ()), now_ms)
        while not waiting.is_over:
            self._take(core, Batch(nothing, waiting.upto(None), True, waiting.is_over), now_ms)
        none = parts.feedback.decode_many(Records.of(parts.config.feedback.topic, number, ()), now_ms)
        self._take(core, Batch(nothing, none, True, True), now_ms, passed_ms=PASSED_MS)

    def _take(self, core: Partition, batch: Batch, now_ms: int, passed_ms: int = 0) -> None:
        self.labels += len(batch.feedback)
        clock = Clock(now_ms, time.monotonic_ns() // 1_000_000 + passed_ms)
        outputs = core.process(batch, self._serving, clock, stale=False, token="")
        core.apply(outputs)
        self._counts += outputs.counts
        self._keep([value or b"" for block in outputs.blocks if block.topic == self._topic for value in block.values])
        self._told(self.events + self.labels)

    def _keep(self, values: Sequence[bytes]) -> None:
        """Examples among entries of a training log; what else stands there, the models know."""
        pairs = zip(values, decode_entries(list(values)), strict=True)
        found = [(value, one) for value, one in pairs if not isinstance(one, ValueError) and one.kind == "example"]
        if found:
            moments, due = [one.event_time_ms for _, one in found], [one.label_time_ms for _, one in found]
            self.examples.add([value for value, _ in found], moments, due)
            self._places += [(one.source_partition, one.event_offset) for _, one in found]

    def _events_of(self, number: int, bounds: tuple[int, int]) -> Iterator[Records]:
        topic = self._parts.config.events.topic
        for batch in read_range(self._parts.config, topic, number, *bounds, keep_alive=lambda: None):
            for first in range(0, len(batch), SLICE):
                yield Records.of(topic, number, batch[first : first + SLICE])

    def _labels_of(self, number: int, bounds: tuple[int, int]) -> Iterator[Labels]:
        config, feedback, now_ms = self._parts.config, self._parts.feedback, time.time_ns() // 1_000_000
        for batch in read_range(config, config.feedback.topic, number, *bounds, keep_alive=lambda: None):
            yield feedback.decode_many(Records.of(config.feedback.topic, number, batch), now_ms)

    def tape(self, settings: Sequence[FoldSettings]) -> Tape:
        """All partitions' examples as they would have come: asked about by the times of events, learned by labels'."""
        moments, due = self.examples.times()
        partitions, offsets = (np.array(column, np.int64) for column in zip(*self._places, strict=True))
        asked = np.lexsort((offsets, partitions, moments))
        learned, before = timeline((moments[asked], due[asked]), in_line=False)
        positions, ranks = np.empty_like(before), np.empty_like(before)
        positions[asked], ranks[asked] = before, np.arange(len(asked))
        return self.examples.tape(settings, asked[learned], positions, ranks)

    def notes(self) -> list[str]:
        """What became of what made no example."""
        said = []
        unlabelled = self._counts["predictions", ""] - self.examples.count
        if unlabelled > 0:
            said.append(f"events without a label: {unlabelled:,}")
        for (what, why), count in sorted(self._counts.items()):
            if what == "labels" and why != "joined" and count:
                said.append(f"labels that made no example, {why or 'unknown'}: {count:,}")
            if what == "dead_letters" and count:
                said.append(f"records that cannot be used, {why}: {count:,}")
            if what == "events_shed" and count:
                said.append(f"events that were forgotten before their time, at a cap of `pending`: {count:,}")
        return said


class _Waiting:
    """Labels of one partition, as far as the time of its events has come; in the order of their offsets."""

    def __init__(self, batches: Iterator[Labels]) -> None:
        self._batches = batches
        self._held: Labels | None = next(batches, None)

    @property
    def is_over(self) -> bool:
        """Whether all were given."""
        return self._held is None

    def upto(self, latest_ms: int | None) -> Labels:
        """Those before the first that is later than the events; None: a batch of what is left."""
        found: list[Labels] = []
        while self._held is not None:
            held = self._held
            stop = len(held) if latest_ms is None else _first_later(held, latest_ms)
            if stop:
                found.append(held[:stop])
            self._held = held[stop:] if stop < len(held) else next(self._batches, None)
            if stop < len(held) or latest_ms is None:
                break
        return Labels.joined(found)


def _first_later(labels: Labels, latest_ms: int) -> int:
    """How many labels stand before the first from which on all are later.

    One that is dated far ahead holds nothing back: a worker lets it go after a while, too.
    """
    times = np.array(labels.times_ms, np.int64)
    times[list(labels.dead_letters)] = np.iinfo(np.int64).max  # it has no time: it lets none before it go
    return int(np.searchsorted(np.minimum.accumulate(times[::-1])[::-1], latest_ms, side="right"))
