"""The core of one partition: a batch of events and labels in, everything to be published out, as values.

`process` changes nothing; `apply` makes its changes real once their transaction is committed.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stream_ml.core.drift.signals import encode_signal
from stream_ml.core.fold.replica import Replica
from stream_ml.core.inputs.events import Events, picked
from stream_ml.core.inputs.labels import Labels
from stream_ml.core.inputs.readers import EventReader
from stream_ml.core.join.join import Join, Pair, Resolved, StagedJoin
from stream_ml.core.join.pending import Rows, Tag, known_or_nan
from stream_ml.core.join.watermark import BEGINNING
from stream_ml.core.log.entry import encode_schema
from stream_ml.core.model.scoring import Scores
from stream_ml.core.partition.commit_metadata import Metadata, OutputEnds, RestorePoints, last_signalled, signalled_upto
from stream_ml.core.partition.examples import Examples, encode_examples
from stream_ml.core.partition.outputs import (
    RECORD_OVERHEAD,
    encode_dead_letter,
    encode_outcome,
    record_bytes,
    trace_headers,
)
from stream_ml.core.partition.predictions import PredictionCodec
from stream_ml.records import Block, Clock, DeadLetter, Produce, Record, Records, Version

ENTRY_BYTES = 4_096  # what a log entry holds beside event, id and scores, rounded up
_NO_TIME = BEGINNING.watermark_ms

Coordinates = tuple[str, int, int]


class Topics(NamedTuple):
    """Where outputs go, beside predictions."""

    training_log: str
    outcomes: str
    dead_letters: str
    signals: str


class PartitionSettings(NamedTuple):
    """What the cores of all partitions share. A model that has learned fewer than `cold_below` examples is cold.

    `inputs_id` names the two topics that are read, as Kafka knows them.
    """

    reader: EventReader
    predictions: PredictionCodec
    topics: Topics
    writer: str
    record_bytes_max: int
    cold_below: int = 1
    inputs_id: tuple[str, str] = ("", "")


class Batch(NamedTuple):
    """Decoded input of one turn for one partition, each in offset order."""

    events: Events
    feedback: Labels
    events_at_end: bool
    feedback_at_end: bool
    poison_records: Collection[Coordinates] = ()

    def coordinates(self) -> list[Coordinates]:
        """Topic, partition and offset of each record."""
        both = (self.events.records, self.feedback.records)
        return [(records.topic, records.partition, offset) for records in both for offset in records.offsets]


class Outputs(NamedTuple):
    """Everything that one batch gives: records in order, the state to commit, and what to count.

    `dead_letters` has the first dead letter of each reason, for people.
    """

    blocks: list[Block]
    events_position: int
    feedback_position: int
    metadata: Metadata
    counts: Counter[tuple[str, str]]
    staged: StagedJoin
    dead_letters: dict[str, DeadLetter]

    @property
    def moved(self) -> bool:
        """Whether there is anything to commit."""
        return any(block.keys for block in self.blocks)

    @property
    def records(self) -> Iterator[Produce]:
        """The records one by one, in the order of each topic."""
        return (produce for block in self.blocks for produce in block.produces())


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
        self.restore_points = RestorePoints(*floors, ends)
        self.signalled: Mapping[str, int] = {}
        self.undecodable_labels: list[
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
        turn.take_dead_letters(self.undecodable_labels)
        turn.take_events(batch.events)
        turn.take_feedback(batch.feedback)
        return turn.outputs(token)

    def apply(self, outputs: Outputs) -> None:
        """Take over what a committed batch changed."""
        self.join.apply(outputs.staged)
        self.undecodable_labels = []
        self.events_position, self.feedback_position = outputs.events_position, outputs.feedback_position
        self.next_sequence, self.signalled = outputs.metadata.next_sequence, outputs.metadata.signalled
        self.restore_points.prune(outputs.metadata.events_floor, outputs.metadata.feedback_floor)

    def claim_metadata(self, floors: tuple[int, int], token: str) -> Metadata:
        """The state as it was committed, before anything is rebuilt: for the transaction that claims a partition."""
        return self.metadata_of(StagedJoin(self.join), floors, self.next_sequence, token, self.signalled)

    def metadata_of(
        self,
        staged: StagedJoin,
        floors: tuple[int, int],
        next_sequence: int,
        token: str,
        signalled: Mapping[str, int],
    ) -> Metadata:
        ends = self.restore_points.before(*floors)
        inputs_ms = (staged.inputs.events_ms, staged.inputs.feedback_ms)
        settings = self.settings
        return Metadata(
            next_sequence=next_sequence,
            times=staged.times,
            inputs_ms=inputs_ms,
            events_floor=floors[0],
            feedback_floor=floors[1],
            ends=ends,
            token=token,
            writer=settings.writer,
            signalled=signalled,
            inputs_id=settings.inputs_id,
        )


class _Turn:
    """One call of `process`: what it has gathered so far."""

    def __init__(self, partition: Partition, batch: Batch, replica: Replica, clock: Clock, stale: bool) -> None:
        self._partition, self._settings = partition, partition.settings
        self._batch, self._replica, self._clock = batch, replica, clock
        self._staged = StagedJoin(partition.join)
        self._version: Version = replica.version
        self._flags = (("stale",) if stale else ()) + (("learning_halted",) if replica.halt else ())
        self._cold = replica.examples_learned < partition.settings.cold_below
        topics, number = partition.settings.topics, partition.number
        self._predictions = Block.empty(partition.settings.predictions.topic, number)
        self._log = Block.empty(topics.training_log, 0)
        self._outcomes = Block.empty(topics.outcomes, number)
        self._dead_letters = Block.empty(topics.dead_letters, number)
        self._pairs: list[Pair] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first_by_reason: dict[str, DeadLetter] = {}
        self._next_sequence = partition.next_sequence
        self._events_ms, self._feedback_ms = _NO_TIME, _NO_TIME

    def outputs(self, token: str) -> Outputs:
        """What the turn gives, once everything is taken."""
        partition, batch = self._partition, self._batch
        self._examples()
        ends = (batch.events_at_end, batch.feedback_at_end)
        for resolved in self._staged.advance(self._events_ms, self._feedback_ms, ends, self._clock):
            self._resolved(resolved)
        if self._staged.shed_events:
            self._counts["events_shed", ""] += self._staged.shed_events
        offsets = batch.events.records.offsets
        events_position = offsets[-1] + 1 if offsets else partition.events_position
        taken = batch.feedback.records.offsets
        feedback_position = taken[-1] + 1 if taken else partition.feedback_position
        floors = self._staged.floors(events_position, feedback_position)
        signals, signalled = self._signals()
        metadata = partition.metadata_of(self._staged, floors, self._next_sequence, token, signalled)
        blocks = [self._predictions, self._log, self._outcomes, self._dead_letters, signals]
        return Outputs(
            blocks, events_position, feedback_position, metadata, self._counts, self._staged, self._first_by_reason
        )

    def _signals(self) -> tuple[Block, Mapping[str, int]]:
        """What the fold has found and nobody has written yet; told by the owner of partition 0 alone."""
        block, signalled = Block.empty(self._settings.topics.signals, 0), self._partition.signalled
        if self._partition.number == 0:
            lineage = self._version.lineage
            last = last_signalled(signalled, lineage)
            for signal in self._replica.signals_after(last):
                block.add(signal.key.encode(), encode_signal(signal, self._clock))
                last = max(last, signal.position)
                self._counts["signals", signal.kind] += 1
            if block.keys:
                signalled = signalled_upto(signalled, lineage, last)
        return block, signalled

    # --- events ---

    def take_events(self, events: Events) -> None:
        """Score, publish and remember a batch; each row that cannot be used becomes a dead letter."""
        dead_letters = dict(events.dead_letters)
        for row in self._poison_rows(events.records):
            dead_letters[row] = _poison_dead_letter(events.records.record(row))
        self._events_ms = events.latest_ms(self._events_ms, dead_letters)
        if len(events) and not self._replica.is_healthy:
            self._flags += ("unsound",)
        scores = self._replica.model.score_many(events.features, len(events))
        for row, why in scores.failed.items():
            if row not in dead_letters:
                dead_letters[row] = DeadLetter(
                    events.records.record(row), "model_refused", f"the model raised {why}", "score"
                )
        self._publish(events, scores, dead_letters)
        for row in sorted(dead_letters):
            self._dead(dead_letters[row])

    def _publish(self, events: Events, scores: Scores, dead_letters: dict[int, DeadLetter]) -> None:
        """Predictions of all rows but the dead letters, to which those are added whose prediction is too large."""
        while True:
            rows: Sequence[int] = range(len(events))
            if dead_letters:
                rows = [row for row in rows if row not in dead_letters]
            duplicates = self._staged.duplicates(picked(events.ids, rows))
            flags = self._all_flags(events, rows, scores, duplicates)
            said = (self._version, self._replica.examples_learned, self._clock)
            values = self._settings.predictions.encode_many(events, rows, scores, flags, said)
            headers = {
                number: trace_headers(events.records.headers[row])
                for number, row in enumerate(rows if events.records.headers else ())
                if row in events.records.headers
            }
            keys = picked(events.records.keys, rows)
            block = Block(self._predictions.topic, self._partition.number, keys, list(values), headers)
            large = self._too_large(block)
            if not large:
                break
            for number, size in large.items():  # an event that is not remembered makes no other a duplicate
                message = f"its prediction would take {size} bytes"
                dead_letters[rows[number]] = DeadLetter(
                    events.records.record(rows[number]), "too_large", message, "score"
                )
        self._predictions = block
        self._counts["predictions", ""] += len(rows)
        for flag, count in Counter(flag for row_flags in flags for flag in row_flags).items():
            self._counts["flags", flag] += count
        self._remember(events, scores, [number for number in range(len(rows)) if number not in duplicates], rows, flags)

    def _too_large(self, block: Block) -> dict[int, int]:
        """Sizes of those records that are too large to be written."""
        limit = self._settings.record_bytes_max
        largest = max(map(len, block.values), default=0) + max((len(key or b"") for key in block.keys), default=0)  # type: ignore[arg-type]
        if largest + RECORD_OVERHEAD <= limit and not block.headers:
            return {}
        sizes = ((number, record_bytes(produce)) for number, produce in enumerate(block.produces()))
        return {number: size for number, size in sizes if size > limit}

    def _all_flags(
        self, events: Events, rows: Sequence[int], scores: Scores, duplicates: set[int]
    ) -> list[tuple[str, ...]]:
        said: list[Any] = picked(scores.values if scores.values is not None else scores.class_names, rows)
        if not duplicates and not events.imputed and not scores.clipped and (self._cold or None not in said):
            return [self._flags + (("cold",) if self._cold else ())] * len(rows)
        found = []
        for number, row in enumerate(rows):
            own = {
                "cold": self._cold or said[number] is None,
                "duplicate_event": number in duplicates,
                "imputed": row in events.imputed,
                "clipped": row in scores.clipped,
            }
            found.append(self._flags + tuple(name for name, is_set in own.items() if is_set))
        return found

    def _remember(
        self, events: Events, scores: Scores, fresh: list[int], rows: Sequence[int], flags: list[tuple[str, ...]]
    ) -> None:
        """Hold the first event of each id; those for which labels wait are joined."""
        expired_ms = self._partition.join.times.events_expired_ms
        self._counts["events_too_old", ""] += sum(time_ms < expired_ms for time_ms in picked(events.times_ms, rows))
        held = pending_rows(events, scores, rows, fresh, flags, self._version, self._settings.record_bytes_max)
        for number, joined, ended in self._staged.events(held):
            for resolved in ended:
                self._resolved(resolved)
            if joined is not None:
                self._pairs.append(joined.pair(events.records.topic, events.records.offsets[rows[fresh[number]]]))

    # --- feedback ---

    def take_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Publish labels that cannot be used."""
        for dead_letter in dead_letters:
            self._dead(_poison_dead_letter(dead_letter.record) if self._is_poison(dead_letter.record) else dead_letter)

    def take_feedback(self, labels: Labels) -> None:
        """Join labels; each ends, or waits."""
        dead_letters = dict(labels.dead_letters)
        for row in self._poison_rows(labels.records):
            dead_letters[row] = _poison_dead_letter(labels.records.record(row))
        self._feedback_ms = labels.latest_ms(self._feedback_ms, dead_letters)
        first = 0
        for row in [*sorted(dead_letters), len(labels)]:
            pairs, ended = self._staged.join_many(labels, first, row)
            self._pairs += pairs
            for resolved in ended:
                self._resolved(resolved)
            if row in dead_letters:
                self._dead(dead_letters[row])
            first = row + 1

    def _examples(self) -> None:
        """Log entries of all pairs, in the order in which they were joined."""
        if not self._pairs:
            return
        framing = self._settings.reader.payloads.framing
        examples = Examples(self._partition.number, self._next_sequence, framing, self._pairs)
        for fingerprint in dict.fromkeys(examples.schemas):
            self._write_schema(fingerprint)
        values = encode_examples(examples, written_at_ms=self._clock.now_ms, writer=self._settings.writer)
        self._log.keys.extend(event_id.encode() for event_id in examples.event_ids)
        self._log.values.extend(values)
        self._next_sequence += len(values)
        self._counts["labels", "joined"] += len(values)

    def _write_schema(self, fingerprint: int) -> None:
        if fingerprint in self._replica.facts.schemas:
            return
        text = self._settings.reader.payloads.schemas[fingerprint].text
        value = encode_schema(fingerprint, text, written_at_ms=self._clock.now_ms, writer=self._settings.writer)
        self._log.add(None, value)

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
        self._outcomes.add(produce.key, produce.value)
        self._counts["labels", resolved.kind] += 1
        if resolved.passed:
            self._counts["labels_passed", resolved.kind] += 1

    # --- what cannot be used ---

    def _dead(self, dead_letter: DeadLetter) -> None:
        settings = self._settings
        produce = encode_dead_letter(settings.topics.dead_letters, dead_letter, self._clock, settings.record_bytes_max)
        self._dead_letters.add(*produce[2:])
        self._counts["dead_letters", dead_letter.reason] += 1
        self._first_by_reason.setdefault(dead_letter.reason, dead_letter)

    def _is_poison(self, record: Record) -> bool:
        poison_records = self._batch.poison_records
        return bool(poison_records) and (record.topic, record.partition, record.offset) in poison_records

    def _poison_rows(self, records: Records) -> list[int]:
        if not self._batch.poison_records:
            return []
        return [row for row, record in enumerate(records) if self._is_poison(record)]


def pending_rows(
    events: Events,
    scores: Scores,
    rows: Sequence[int],
    fresh: Sequence[int],
    flags: Sequence[tuple[str, ...]],
    version: Version,
    record_bytes_max: int,
) -> Rows:
    """Scored events as the join keeps them.

    Parameters
    ----------
    rows
        Which m of the batch's events were published; `flags` of each of them.
    fresh
        Which of the m are the first of their id.
    """
    scored = scores.values is None
    numbers = scores.scores if scored else scores.values
    chosen = [rows[number] for number in fresh]
    schemas, names = events.schemas, scores.class_names
    shared = [(schemas[row], names[row], flags[number]) for number, row in zip(fresh, chosen, strict=True)]
    tags = {
        (schema, name, flags_): Tag(schema, name, version.lineage, version.position, flags_, scored)
        for schema, name, flags_ in set(shared)
    }
    held = Rows()
    held.extend(
        picked(events.records.offsets, chosen),
        picked(events.times_ms, chosen),
        picked(events.ids, chosen),
        [events.records.values[row] or b"" for row in chosen],
        [tags[of] for of in shared],
        known_or_nan(picked(numbers, chosen), len(chosen)),
        picked(scores.maps, chosen),
    )
    held.limit(record_bytes_max - ENTRY_BYTES)
    return held


def _poison_dead_letter(record: Record) -> DeadLetter:
    return DeadLetter(record, "too_large", "Kafka refused what would have been written for it", "write")
