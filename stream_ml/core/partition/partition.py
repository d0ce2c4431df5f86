"""The core of one partition: a batch of events and labels in, everything to be published out, as values.

`process` changes nothing; `apply` makes its changes real once their transaction is committed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stream_ml.core.drift.signals import encode_signal
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.inputs.events import Events, picked
from stream_ml.core.inputs.labels import Labels
from stream_ml.core.join.join import Join, Pair, StagedJoin
from stream_ml.core.join.watermark import BEGINNING
from stream_ml.core.log.entry import encode_schema
from stream_ml.core.model.scoring import Scores
from stream_ml.core.partition.answered import FLAG, Answer, read_answers, said_of, with_answers
from stream_ml.core.partition.batch import Batch, Outputs, PartitionSettings
from stream_ml.core.partition.commit_metadata import Metadata, OutputEnds, RestorePoints, signalled_upto
from stream_ml.core.partition.examples import Examples, encode_examples
from stream_ml.core.partition.held import pending_rows
from stream_ml.core.partition.outputs import RECORD_OVERHEAD, OutputBuilder, record_bytes, trace_headers
from stream_ml.core.partition.predictions import Said
from stream_ml.core.partition.serving import Serving
from stream_ml.records import BY_EVENT, Block, Clock, DeadLetter, Record, Records, Version

_NO_TIME = BEGINNING.watermark_ms


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
        self.ready: Sequence[str] | None = None  # lineages, as they were committed last
        # Labels that were taken before, and can no longer be read: they end with the next batch.
        self.undecodable_labels: list[DeadLetter] = []

    def process(self, batch: Batch, serving: Serving, clock: Clock, *, stale: bool, token: str) -> Outputs:
        """Score, join and encode one batch.

        Parameters
        ----------
        batch
            Events from `events_position` on and labels from `feedback_position` on.
        serving
            Who scores, and what the log holds.
        stale
            Whether learning lags, which flags every prediction.
        token
            Names the transaction in the metadata.
        """
        turn = _Turn(self, batch, serving, clock, stale)
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
        self.ready = [lineage for lineage, _ in outputs.metadata.ready]
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
            key_ids=settings.answers.key_ids if settings.answers is not None else (),
        )


class _Turn:
    """One call of `process`: what it has gathered so far.

    So many attributes: events, labels, their times, answers and outputs of one batch are of one conversation.
    """

    def __init__(self, partition: Partition, batch: Batch, serving: Serving, clock: Clock, stale: bool) -> None:
        self._partition = partition
        self._batch, self._serving, self._clock = batch, serving, clock
        self._staged = StagedJoin(partition.join)
        self._version: Version = serving.model.version
        self._flags = serving.flags(stale=stale)
        settings = partition.settings
        self._out = OutputBuilder(settings.topics, partition.number, clock, settings.record_bytes_max)
        self._pairs: list[Pair] = []
        self._next_sequence = partition.next_sequence
        self._events_ms, self._feedback_ms = _NO_TIME, _NO_TIME
        self._answers: dict[int, Answer] = {}

    @property
    def _model(self) -> LineageModel:
        return self._serving.model

    @property
    def _settings(self) -> PartitionSettings:
        return self._partition.settings

    def outputs(self, token: str) -> Outputs:
        """What the turn gives, once everything is taken."""
        partition, batch = self._partition, self._batch
        self._examples()
        ends, out = (batch.events_at_end, batch.feedback_at_end), self._out
        for resolved in self._staged.advance(self._events_ms, self._feedback_ms, ends, self._clock):
            out.resolved(resolved)
        if self._staged.shed_events:
            out.counts["events_shed", ""] += self._staged.shed_events
        offsets = batch.events.records.offsets
        events_position = offsets[-1] + 1 if offsets else partition.events_position
        taken = batch.feedback.records.offsets
        feedback_position = taken[-1] + 1 if taken else partition.feedback_position
        floors = self._staged.floors(events_position, feedback_position)
        signals, signalled = self._signals()
        metadata = partition.metadata_of(self._staged, floors, self._next_sequence, token, signalled)
        ready = self._serving.ready
        return Outputs(
            blocks=[out.predictions, out.training_log, out.outcomes, out.dead_letters, signals],
            events_position=events_position,
            feedback_position=feedback_position,
            metadata=metadata._replace(ready=ready),
            readies=partition.ready != [lineage for lineage, _ in ready],
            counts=out.counts,
            staged=self._staged,
            dead_letters=out.first_by_reason,
        )

    def _signals(self) -> tuple[Block, Mapping[str, int]]:
        """What the fold has found and nobody has written yet; told by the owner of partition 0 alone."""
        block, signalled = Block.empty(self._settings.topics.signals, 0), self._partition.signalled
        if self._partition.number == 0:
            for signal in self._serving.signals_after(signalled):
                block.add(signal.key.encode(), encode_signal(signal, self._clock))
                signalled = signalled_upto(signalled, signal.origin, signal.position)
                self._out.counts["signals", signal.kind] += 1
        return block, signalled

    # --- events ---

    def take_events(self, events: Events) -> None:
        """Score, publish and remember a batch; each row that cannot be used becomes a dead letter."""
        dead_letters = dict(events.dead_letters)
        for row in self._poison_rows(events.records):
            dead_letters[row] = _poison_dead_letter(events.records.record(row))
        self._events_ms = events.latest_ms(self._events_ms, dead_letters)
        if len(events) and not self._model.is_healthy:
            self._flags += ("unsound",)
        self._answers, counts = read_answers(self._settings.answers, events, dead_letters.keys())
        for outcome, count in counts.items():
            self._out.counts["served_headers", outcome] += count
        scores = self._model.model.score_many(events.features, len(events))
        scores = with_answers(scores, self._answers)
        for row, why in scores.failed.items():
            if row not in dead_letters:
                dead_letters[row] = DeadLetter(
                    events.records.record(row), "model_refused", f"the model raised {why}", "score"
                )
        self._publish(events, scores, dead_letters)
        for row in sorted(dead_letters):
            self._out.dead(dead_letters[row])

    def _publish(self, events: Events, scores: Scores, dead_letters: dict[int, DeadLetter]) -> None:
        """Predictions of all rows but the dead letters, to which those are added whose prediction is too large."""
        while True:
            rows: Sequence[int] = range(len(events))
            if dead_letters:
                rows = [row for row in rows if row not in dead_letters]
            duplicates = self._staged.duplicates(picked(events.ids, rows))
            flags = self._all_flags(events, rows, scores, duplicates)
            said = Said(self._version, self._model.examples_learned, self._clock, self._serving.epoch)
            others = {row: said_of(answer) for row, answer in self._answers.items()}
            values = self._settings.predictions.encode_many(events, rows, scores, flags, said, others)
            headers = {
                number: trace_headers(events.records.headers[row])
                for number, row in enumerate(rows if events.records.headers else ())
                if row in events.records.headers
            }
            keys = picked(events.records.keys, rows)
            block = Block(self._settings.predictions.topic, self._partition.number, keys, list(values), headers)
            large = self._too_large(block)
            if not large:
                break
            for number, size in large.items():  # an event that is not remembered makes no other a duplicate
                message = f"its prediction would take {size} bytes"
                dead_letters[rows[number]] = DeadLetter(
                    events.records.record(rows[number]), "too_large", message, "score"
                )
        self._out.predictions = block
        self._out.counts["predictions", ""] += len(rows)
        for flag, count in Counter(flag for row_flags in flags for flag in row_flags).items():
            self._out.counts["flags", flag] += count
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
        cold = self._model.examples_learned < self._settings.cold_below
        if not any((duplicates, events.imputed, scores.clipped, self._answers)) and (cold or None not in said):
            return [self._flags + (("cold",) if cold else ())] * len(rows)
        found = []
        for number, row in enumerate(rows):
            own = {
                "cold": cold or said[number] is None,
                "duplicate_event": number in duplicates,
                "imputed": row in events.imputed,
                "clipped": row in scores.clipped,
            }
            answer = self._answers.get(row)
            if answer is None:
                found.append(self._flags + tuple(name for name, is_set in own.items() if is_set))
            else:
                twice = ("duplicate_event",) if number in duplicates else ()
                found.append((*answer.served.flags, *twice, FLAG))
        return found

    def _remember(
        self, events: Events, scores: Scores, fresh: list[int], rows: Sequence[int], flags: list[tuple[str, ...]]
    ) -> None:
        """Hold the first event of each id; those for which labels wait are joined."""
        expired_ms = self._partition.join.times.events_expired_ms
        self._out.counts["events_too_old", ""] += sum(time_ms < expired_ms for time_ms in picked(events.times_ms, rows))
        by, limit = (self._version, self._serving.epoch), self._settings.record_bytes_max
        others = {
            row: (Version(answer.served.lineage, answer.served.position), answer.served.epoch)
            for row, answer in self._answers.items()
        }
        held = pending_rows(events, scores, rows, fresh, flags, by, limit, others)
        for number, joined, ended in self._staged.events(held):
            for resolved in ended:
                self._out.resolved(resolved)
            if joined is not None:
                self._pairs.append(joined.pair(BY_EVENT, events.records.offsets[rows[fresh[number]]]))

    # --- feedback ---

    def take_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Publish labels that cannot be used."""
        for dead_letter in dead_letters:
            poison = self._is_poison(dead_letter.record)
            self._out.dead(_poison_dead_letter(dead_letter.record) if poison else dead_letter)

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
                self._out.resolved(resolved)
            if row in dead_letters:
                self._out.dead(dead_letters[row])
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
        self._out.training_log.keys.extend([None] * len(values))
        self._out.training_log.values.extend(values)
        self._next_sequence += len(values)
        self._out.counts["labels", "joined"] += len(values)

    def _write_schema(self, fingerprint: int) -> None:
        if fingerprint in self._serving.book.facts.schemas:
            return
        text = self._settings.reader.payloads.schemas[fingerprint].text
        value = encode_schema(fingerprint, text, written_at_ms=self._clock.now_ms, writer=self._settings.writer)
        self._out.training_log.add(None, value)

    # --- what cannot be used ---

    def _is_poison(self, record: Record) -> bool:
        poison_records = self._batch.poison_records
        return bool(poison_records) and (record.topic, record.partition, record.offset) in poison_records

    def _poison_rows(self, records: Records) -> list[int]:
        if not self._batch.poison_records:
            return []
        return [row for row, record in enumerate(records) if self._is_poison(record)]


def _poison_dead_letter(record: Record) -> DeadLetter:
    return DeadLetter(record, "too_large", "Kafka refused what would have been written for it", "write")
