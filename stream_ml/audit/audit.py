"""What really stands in the topics, read read_committed from the first offset; no counter of the service is asked.

Counting (`audit(..., sample=None)`) compares coordinates. A whole audit also compares what the records say, and folds
the training log from its beginning to see whether a sample of predictions comes out as it was published. It only
reads, with ``assign()``, so it can run beside a service at work: what is committed meanwhile is not its subject.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from stream_ml.app.parts import Parts
from stream_ml.audit.contents import Contents
from stream_ml.audit.coordinates import Coordinates, Ends, Finding, Findings, Progress, Rule
from stream_ml.audit.rescore import Rescored, rescore
from stream_ml.audit.roles import RolesAudit
from stream_ml.audit.sample import Sample
from stream_ml.config import Config
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.avro.record import LaterFormat
from stream_ml.core.drift.signals import OF_THE_FOLD, decode_signal
from stream_ml.core.join.watermark import BEGINNING, NEVER_MS
from stream_ml.core.log.entry import decode_entry
from stream_ml.core.log.heads import decode_pair
from stream_ml.core.partition.outputs import dead_letter_origin, decode_outcome
from stream_ml.core.partition.predictions import Published
from stream_ml.follower.recipes import Recipes
from stream_ml.kafka.clients import admin
from stream_ml.kafka.committed import read_committed
from stream_ml.kafka.messages import record_of
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import is_sealed
from stream_ml.kafka.reading.ranges import read_messages, read_range
from stream_ml.kafka.topics import TopicFacts
from stream_ml.records import Label, Record, Records
from stream_ml.storage.keys import log_seal


class Audit(NamedTuple):
    """Counts of records, and what is wrong with them.

    `waiting` are coordinates of labels that have been read and may still meet their event; `unread` counts inputs
    that are not committed yet. `rescored` is None where no score was derived again. `given_up` counts events that an
    operator passed over when offsets were set by hand, `duplicates` predictions of events whose id came before.
    """

    events: int
    feedback: int
    predictions: int
    examples: int
    outcomes: Counter[str]
    dead_letters: Counter[str]
    unread: int
    waiting: list[tuple[str, int, int]]
    findings: list[Finding]
    counts: Counter[Rule]
    rescored: Rescored | None
    given_up: int = 0
    duplicates: int = 0


def audit(parts: Parts, facts: TopicFacts, sample: int | None) -> Audit:
    """Read everything and compare.

    Parameters
    ----------
    sample
        How many predictions are derived again from the log; None: only coordinates are compared.
    """
    return _Audit(parts, facts, sample).run()


class _Audit:
    """One audit. So many attributes: they are what each topic has said so far."""

    @property
    def _config(self) -> Config:
        return self._parts.config

    def __init__(self, parts: Parts, facts: TopicFacts, sample: int | None) -> None:
        self._parts = parts
        self._whole = sample is not None
        self._found = Findings()
        self._sample = Sample(sample or 0)
        self._seal = log_seal(parts.config, facts.training_log_topic_id)
        self._recipes = Recipes(parts, facts, self._seal)
        self._roles = RolesAudit(facts.log.log_id, self._found)
        self._numbers = range(facts.partitions)
        self._pairs = {pair.partition: pair for pair in read_committed(parts.config, list(self._numbers), stable=True)}
        config = parts.config
        inputs = [(topic, p) for p in self._numbers for topic in (config.events.topic, config.feedback.topic)]
        self._inputs = ends(admin(config), inputs)  # before the outputs' ends: every input seen has its outputs seen
        self._coordinates = {p: self._coordinates_of(p) for p in self._numbers}
        topics = (config.events.topic, config.feedback.topic)
        self._contents = {p: Contents(topics, parts.join_settings(), self._found) for p in self._numbers}

    def _coordinates_of(self, partition: int) -> Coordinates:
        pair, config = self._pairs[partition], self._config
        progress = None
        if pair.events is not None and pair.feedback is not None and pair.metadata is not None:
            progress = Progress(pair.events, pair.feedback, pair.metadata.feedback_floor)
        events, feedback = (
            Ends(topic, partition, *self._inputs[topic, partition], self._found)
            for topic in (config.events.topic, config.feedback.topic)
        )
        return Coordinates(partition, progress, events, feedback, self._found)

    def run(self) -> Audit:
        config = self._config
        outputs = [
            (t, p) for p in self._numbers for t in (config.predictions.topic, config.outcomes, config.dead_letters)
        ]
        outputs.append((config.signals, 0))
        log = (config.training_log_topic, 0)
        client = admin(config)
        self._outputs = ends(client, outputs)
        self._outputs |= ends(client, [log])  # last: beside a service at work, every version read is in the log
        for partition in self._numbers:
            if self._sample.size:
                self._choose(partition)
            self._read_inputs(partition)
            self._read_outputs(partition)
        self._read_log(*self._outputs[log])
        self._read_signals()
        self._roles.finish()
        waiting = [(config.feedback.topic, p, offset) for p in self._numbers for offset in self._finish(p)]
        rescored = (
            rescore(self._parts, self._recipes, self._roles.roles, self._sample, self._found, self._seal)
            if self._sample.size
            else None
        )
        every = self._coordinates.values()
        return Audit(
            sum(c.events.count for c in every),
            sum(c.feedback.count for c in every),
            sum(c.predictions for c in every),
            sum(c.examples for c in every),
            sum((c.outcomes for c in every), Counter()),
            sum((c.reasons for c in every), Counter()),
            sum(self._unread(c) for c in every),
            waiting,
            self._found.kept,
            self._found.counts,
            rescored,
            sum(c.given_up for c in every),
            sum(c.duplicates for c in every),
        )

    # --- one partition ---

    def _choose(self, partition: int) -> None:
        """Which predictions are derived again: known before the events are read, so that these can be kept."""
        for record in self._all(self._config.predictions.topic, partition):
            said = self._published(record)
            if said is not None:
                self._sample.offer(said)

    def _read_inputs(self, partition: int) -> None:
        coordinates = self._coordinates[partition]
        for topic, ends_of in (
            (self._config.events.topic, coordinates.events),
            (self._config.feedback.topic, coordinates.feedback),
        ):
            first, end = self._inputs[topic, partition]
            for batch in read_messages(self._config, topic, partition, first, end, keep_alive=lambda: None):
                for message in batch:
                    ends_of.exists(message.offset())
                if self._whole:
                    self._look_into(partition, [record_of(message) for message in batch])

    def _look_into(self, partition: int, records: list[Record]) -> None:
        parts, contents = self._parts, self._contents[partition]
        if records and records[0].topic == self._config.feedback.topic:
            for item in parts.feedback.decode_many(Records.of(records[0].topic, partition, records), NEVER_MS):
                if isinstance(item, Label):
                    contents.label(item)
            return
        for record in records:
            head = parts.reader.head(record, NEVER_MS)
            if not isinstance(head, Rejected):
                contents.event(record, head[2], head[3])
                self._sample.keep(record)

    def _read_outputs(self, partition: int) -> None:
        coordinates, config = self._coordinates[partition], self._config
        log_end = self._outputs[config.training_log_topic, 0][1]
        for record in self._all(config.predictions.topic, partition):
            try:
                said = self._published(record)
            except LaterFormat as later:
                coordinates.predictions += 1
                if later.where is not None and later.where[:2] == (config.events.topic, partition):
                    coordinates.events.ended(later.where[2], record[:3])
                continue
            if said is None:
                self._found.add("foreign", *record[:3], "it is no prediction of this app")
                continue
            coordinates.predictions += 1
            coordinates.duplicates += "duplicate_event" in said.served.flags
            self._roles.prediction(record[:3], said.served)
            coordinates.events.ended(said.offset, record[:3])
            if self._whole:
                self._contents[partition].prediction(record[:3], record.key, said, log_end)
        for record in self._all(config.outcomes, partition):
            try:
                outcome = decode_outcome(record.value or b"")
            except LaterFormat as later:
                if later.where is not None and later.where[:2] == (config.feedback.topic, partition):
                    coordinates.feedback.ended(later.where[2], record[:3])
                continue
            except ValueError:
                self._found.add("foreign", *record[:3], "it is no outcome of this app")
                continue
            coordinates.outcomes[outcome["outcome"]] += 1
            coordinates.feedback.ended(outcome["feedback_offset"], record[:3])
            if self._whole:
                self._contents[partition].outcome(
                    record[:3], outcome["outcome"], outcome["feedback_offset"], outcome["event_offset"]
                )
        for record in self._all(config.dead_letters, partition):
            origin = dead_letter_origin(record)
            if origin is None or origin[1] != partition:
                self._found.add("foreign", *record[:3], "it names no record of this partition")
                continue
            coordinates.reasons[dict(record.headers)["__connect.errors.exception.class.name"].decode()] += 1
            is_event = origin[0] == config.events.topic
            (coordinates.events if is_event else coordinates.feedback).ended(origin[2], record[:3])

    def _published(self, record: Record) -> Published | None:
        try:
            return self._parts.predictions.decode(record.value or b"")
        except LaterFormat:
            raise
        except ValueError:
            return None

    # --- the training log ---

    def _read_log(self, first: int, end: int) -> None:
        for record in self._all(self._config.training_log_topic, 0):
            where, value = record[:3], record.value or b""
            if not is_sealed(record, self._seal):
                self._found.add("foreign", *where, "it is not sealed with the key of training_log.key_file")
                continue
            try:
                pair = decode_pair(value)
                entry = decode_entry(value) if self._whole or pair is None else None
                said = entry.parsed_arguments() if entry is not None and entry.kind != "schema" else {}
            except ValueError as error:
                self._found.add("foreign", *where, f"it is no log entry: {error}")
                continue
            if entry is not None and entry.kind == "start" and entry.source_partition in self._coordinates:
                events, feedback = said.get("events"), said.get("feedback")
                if not (isinstance(events, int) and isinstance(feedback, int)):
                    self._found.add("foreign", *where, "it is a start without offsets")
                    continue
                self._coordinates[entry.source_partition].begin = (events, feedback)
            if entry is not None and entry.kind == "command":
                self._roles.command(record.offset, entry)
            if entry is not None and entry.command == "rebase":
                self._rebased(said)
            if pair is None:
                continue
            if pair.source_partition not in self._coordinates:
                self._found.add("foreign", *where, f"there is no partition {pair.source_partition}")
                continue
            self._coordinates[pair.source_partition].example(where, pair.sequence, pair.feedback_offset)
            if self._whole and entry is not None:
                self._contents[pair.source_partition].example(where, entry)

    def _rebased(self, said: dict[str, Any]) -> None:
        """Events between where a partition stood and where an operator set it are given up, not lost."""
        numbers = [said.get(name) for name in ("partition", "from_events", "events")]
        partition, first, stop = (number if isinstance(number, int) else -1 for number in numbers)
        if partition in self._coordinates and first >= 0:
            self._coordinates[partition].pass_over(first, stop)

    # --- signals ---

    def _read_signals(self) -> None:
        """What the fold finds is reported once, however many replicas have found it."""
        seen: dict[str, int] = {}
        for record in self._all(self._config.signals, 0):
            try:
                signal = decode_signal(record.value or b"")
            except ValueError as error:
                self._found.add("foreign", *record[:3], f"it is no signal: {error}")
                continue
            before = seen.setdefault(signal.key, record.offset)
            if before != record.offset and signal.subject in OF_THE_FOLD:
                self._found.add("repeated", *record[:3], f"signal {signal.key} stands at {before} already")

    # --- the end ---

    def _finish(self, partition: int) -> list[int]:
        config, coordinates = self._config, self._coordinates[partition]
        coordinates.finish(config.events.topic, config.feedback.topic)
        if self._whole:
            now = read_committed(config, [partition], stable=True)[0].metadata
            times, floor = (now.times, now.events_floor) if now else (BEGINNING, 0)
            self._contents[partition].finish(partition, coordinates.waiting, times, floor)
        return coordinates.waiting

    def _unread(self, coordinates: Coordinates) -> int:
        progress = coordinates.progress
        both = zip((coordinates.events, coordinates.feedback), progress[:2] if progress else (0, 0), strict=True)
        return sum(len(list(found.open(position, NEVER_MS))) for found, position in both)

    def _all(self, topic: str, partition: int) -> Iterator[Record]:
        first, end = self._outputs[topic, partition]
        for batch in read_range(self._config, topic, partition, first, end, keep_alive=lambda: None):
            yield from batch
