"""The core of one partition: a batch of events and labels in, everything to be published out, as values.

`process` changes nothing; `apply` makes its changes real once their transaction is committed.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from stream_ml.core.codec import EventReader
from stream_ml.core.join import BEGINNING, Join, Joined, PendingEvent, Resolved, StagedJoin
from stream_ml.core.learner import ModelFailed, Scored
from stream_ml.core.log_entry import Example, encode_example, encode_schema
from stream_ml.core.metadata import Landmarks, Metadata, OutputEnds
from stream_ml.core.outputs import (
    PredictionCodec,
    encode_dead_letter,
    encode_outcome,
    record_bytes,
    served_of,
)
from stream_ml.core.replica import Replica
from stream_ml.records import Clock, DeadLetter, Event, Label, Produce, Record, Served, Version

ENTRY_BYTES = 4_096  # what a log entry holds beside event, id and scores, rounded up
_NO_TIME = BEGINNING.watermark_ms

Coordinates = tuple[str, int, int]


class Topics(NamedTuple):
    """Where outputs go, beside predictions."""

    training_log: str
    outcomes: str
    dead_letters: str


class PartitionSettings(NamedTuple):
    """What the cores of all partitions share."""

    reader: EventReader
    predictions: PredictionCodec
    topics: Topics
    writer: str
    record_bytes_max: int


class Batch(NamedTuple):
    """Decoded input of one turn for one partition, each in offset order."""

    events: Sequence[Event | DeadLetter]
    feedback: Sequence[Label | DeadLetter]
    events_at_end: bool
    feedback_at_end: bool
    condemned: Collection[Coordinates] = ()


class Outputs(NamedTuple):
    """Everything that one batch gives: records in order, the state to commit, and what to count.

    `letters` has the first dead letter of each reason, for people.
    """

    records: list[Produce]
    events_position: int
    feedback_position: int
    metadata: Metadata
    counts: Counter[tuple[str, str]]
    staged: StagedJoin
    letters: dict[str, DeadLetter]

    @property
    def moved(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.records)


class Partition:
    """State of one partition: join, next sequence, positions."""

    def __init__(
        self,
        settings: PartitionSettings,
        number: int,
        join: Join,
        positions: tuple[int, int],
        next_sequence: int,
        ends: OutputEnds,
        floors: tuple[int, int],
    ) -> None:
        self.settings = settings
        self.number = number
        self.join = join
        self.events_position, self.feedback_position = positions
        self.next_sequence = next_sequence
        self.landmarks = Landmarks(*floors, ends)
        self.signalled = -1
        self.leftovers: list[
            DeadLetter
        ] = []  # labels taken before, which can no longer be read: ended with the next batch

    def process(self, batch: Batch, replica: Replica, clock: Clock, *, stale: bool, token: str) -> Outputs:
        """Score, join and encode one batch.

        Parameters
        ----------
        batch
            Events from `events_position` on and labels from `feedback_position` on.
        replica
            Scores, and says which writer schemas the log holds.
        stale
            Whether learning lags, which flags every prediction.
        token
            Names the transaction in the metadata.
        """
        turn = _Turn(self, batch, replica, clock, stale)
        turn.take_feedback(self.leftovers)
        turn.take_events(batch.events)
        turn.take_feedback(batch.feedback)
        return turn.outputs(token)

    def apply(self, outputs: Outputs) -> None:
        """Take over what a committed batch changed."""
        self.join.apply(outputs.staged)
        self.leftovers = []
        self.events_position, self.feedback_position = outputs.events_position, outputs.feedback_position
        self.next_sequence = outputs.metadata.next_sequence
        self.landmarks.prune(outputs.metadata.events_floor, outputs.metadata.feedback_floor)

    def claim_metadata(self, floors: tuple[int, int], token: str) -> Metadata:
        """The state as it was committed, before anything is rebuilt: for the transaction that claims a partition."""
        return self.metadata_of(StagedJoin(self.join), floors, self.next_sequence, token)

    def metadata_of(self, staged: StagedJoin, floors: tuple[int, int], next_sequence: int, token: str) -> Metadata:
        ends = self.landmarks.before(*floors)
        inputs_ms = (staged.inputs.events_ms, staged.inputs.feedback_ms)
        return Metadata(
            next_sequence, staged.times, inputs_ms, *floors, ends, token, self.settings.writer, self.signalled
        )


class _Turn:
    """One call of `process`: what it has gathered so far."""

    def __init__(self, partition: Partition, batch: Batch, replica: Replica, clock: Clock, stale: bool) -> None:
        self._partition, self._settings = partition, partition.settings
        self._batch, self._replica, self._clock = batch, replica, clock
        self._staged = StagedJoin(partition.join)
        self._version: Version = replica.version
        self._flags = (("stale",) if stale else ()) + (("learning_halted",) if replica.halt else ())
        self._records: list[Produce] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._letters: dict[str, DeadLetter] = {}
        self._next_sequence = partition.next_sequence
        self._schemas_written: set[int] = set()
        self._events_ms, self._feedback_ms = _NO_TIME, _NO_TIME

    def take_events(self, items: Sequence[Event | DeadLetter]) -> None:
        decoded = [_condemned_letter(item.record) if self._condemned(item.record) else item for item in items]
        # All are scored before the first is encoded: in turns the two take twice as long (the processor's caches).
        for event, scored in [(event, self._scored(event)) for event in decoded]:
            if isinstance(event, DeadLetter):
                self._dead(event)
                continue
            self._events_ms = max(self._events_ms, event.time_ms)
            if isinstance(scored, DeadLetter):
                self._dead(scored)
            else:
                self._publish(event, scored)

    def take_feedback(self, items: Sequence[Label | DeadLetter]) -> None:
        found: list[tuple[Joined | Resolved | DeadLetter | None, Record]] = []
        for item in items:
            if self._condemned(item.record):
                found.append((_condemned_letter(item.record), item.record))
            elif isinstance(item, DeadLetter):
                found.append((item, item.record))
            else:
                self._feedback_ms = max(self._feedback_ms, item.time_ms)
                found.append((self._staged.label(item), item.record))
        for end, trigger in found:  # encoded when all are joined, for the same reason
            if isinstance(end, Joined):
                self._example(end, trigger)
            elif isinstance(end, Resolved):
                self._resolved(end)
            elif end is not None:
                self._dead(end)

    def outputs(self, token: str) -> Outputs:
        partition, batch = self._partition, self._batch
        ends = (batch.events_at_end, batch.feedback_at_end)
        for resolved in self._staged.advance(self._events_ms, self._feedback_ms, ends, self._clock):
            self._resolved(resolved)
        if self._staged.shed_events:
            self._counts["events_shed", ""] += self._staged.shed_events
        events_position = batch.events[-1].record.offset + 1 if batch.events else partition.events_position
        feedback_position = batch.feedback[-1].record.offset + 1 if batch.feedback else partition.feedback_position
        floors = self._staged.floors(events_position, feedback_position)
        metadata = partition.metadata_of(self._staged, floors, self._next_sequence, token)
        return Outputs(
            self._records, events_position, feedback_position, metadata, self._counts, self._staged, self._letters
        )

    # --- events ---

    def _scored(self, event: Event | DeadLetter) -> Scored | DeadLetter:
        if isinstance(event, DeadLetter):
            return event
        try:
            return self._replica.score(event.features)
        except ModelFailed as error:
            return DeadLetter(event.record, "model_refused", f"the model raised {error}", "score")

    def _publish(self, event: Event, scored: Scored) -> None:
        duplicate = self._staged.knows(event.event_id)
        served = served_of(scored, self._version, self._flags_of(event, scored, duplicate))
        produce = self._settings.predictions.encode(event, scored, served, self._replica.examples_learned, self._clock)
        if record_bytes(produce) > self._settings.record_bytes_max:
            message = f"its prediction would take {record_bytes(produce)} bytes"
            self._dead(DeadLetter(event.record, "too_large", message, "score"))
            return
        self._records.append(produce)
        self._counts["predictions", ""] += 1
        for flag in served.flags:
            self._counts["flags", flag] += 1
        if not duplicate:
            joined, ended = self._staged.event(self._pending(event, served))
            for resolved in ended:
                self._resolved(resolved)
            if joined is not None:
                self._example(joined, event.record)

    def _flags_of(self, event: Event, scored: Scored, duplicate: bool) -> tuple[str, ...]:
        own = (scored.cold, "cold"), (duplicate, "duplicate_event"), (event.imputed, "imputed")
        return self._flags + tuple(name for is_set, name in own if is_set)

    def _pending(self, event: Event, served: Served) -> PendingEvent:
        record = event.record
        return pending_event(
            record.offset,
            event.event_id,
            event.time_ms,
            event.schema,
            record.value or b"",
            served,
            record_bytes_max=self._settings.record_bytes_max,
        )

    # --- pairs ---

    def _example(self, pair: Joined, trigger: Record) -> None:
        event, settings = pair.event, self._settings
        self._write_schema(event.schema)
        example = Example(
            source_partition=self._partition.number,
            sequence=self._next_sequence,
            trigger_topic=trigger.topic,
            trigger_offset=trigger.offset,
            event_id=event.event_id,
            event_time_ms=event.time_ms,
            event_offset=event.offset,
            event_schema=event.schema,
            event_framing=settings.reader.payloads.framing,
            event=event.value,
            label=pair.label,
            served=event.served,
        )
        value = encode_example(example, written_at_ms=self._clock.now_ms, writer=settings.writer)
        self._log(event.event_id.encode(), value)
        self._next_sequence += 1
        self._counts["labels", "joined"] += 1

    def _write_schema(self, fingerprint: int) -> None:
        if fingerprint in self._schemas_written or self._replica.knows_schema(fingerprint):
            return
        self._schemas_written.add(fingerprint)
        text = self._settings.reader.payloads.schemas[fingerprint].text
        value = encode_schema(fingerprint, text, written_at_ms=self._clock.now_ms, writer=self._settings.writer)
        self._log(None, value)

    def _log(self, key: bytes | None, value: bytes) -> None:
        self._records.append(Produce(self._settings.topics.training_log, 0, key, value))

    def _resolved(self, resolved: Resolved) -> None:
        if resolved.kind == "too_large":
            message = f"the example with event {resolved.label.event_id!r} would be larger than a record may be"
            self._dead(DeadLetter(resolved.label.record, "too_large", message, "join"))
            return
        settings = self._settings
        produce = encode_outcome(settings.topics.outcomes, self._partition.number, resolved, self._clock)
        if record_bytes(produce) > settings.record_bytes_max:
            message = f"{resolved.kind}; the outcome, with the label's key, would take {record_bytes(produce)} bytes"
            self._dead(DeadLetter(resolved.label.record, "too_large", message, "join"))
            return
        self._records.append(produce)
        self._counts["labels", resolved.kind] += 1

    # --- what cannot be used ---

    def _dead(self, letter: DeadLetter) -> None:
        settings = self._settings
        self._records.append(
            encode_dead_letter(settings.topics.dead_letters, letter, self._clock, settings.record_bytes_max)
        )
        self._counts["dead_letters", letter.reason] += 1
        self._letters.setdefault(letter.reason, letter)

    def _condemned(self, record: Record) -> bool:
        condemned = self._batch.condemned
        return bool(condemned) and (record.topic, record.partition, record.offset) in condemned


def pending_event(
    offset: int,
    event_id: str,
    time_ms: int,
    schema: int,
    value: bytes,
    served: Served,
    *,
    record_bytes_max: int,
) -> PendingEvent:
    """The event as the join keeps it; oversize, and then without bytes, where its example could not be written."""
    scores = sum(len(name) + 16 for name in served.scores or ())
    oversize = len(value) + ENTRY_BYTES + 8 * len(event_id) + scores > record_bytes_max
    return PendingEvent(offset, event_id, time_ms, schema, b"" if oversize else value, served, oversize=oversize)


def _condemned_letter(record: Record) -> DeadLetter:
    return DeadLetter(record, "too_large", "Kafka refused what would have been written for it", "write")
