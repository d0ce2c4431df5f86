"""The fold: a model, its quality and its sequences as a pure function of a prefix of the training log.

1. Entries are folded in log order, one example at a time, so every replica has the same bits.
2. Nothing here knows who produced an entry: what is folded is what a read_committed consumer returned.
3. A halted replica keeps its version, reads on without learning, and folds again from the halt when its command
   (skip, accept or accept-gap) stands in the log.
4. `learn_one` that raised may have changed half of the model: the replica is *corrupted*, and its driver makes its
   successor from a checkpoint, which halts just before that example.

`follower` has the one driver. Read first: `Replica.fold_prepared`, `_fold_single`, `_fold_run`.
"""

import contextlib
import hashlib
import math
from collections.abc import Sequence
from typing import Any

from stream_ml.core.avro.framing import Rejected
from stream_ml.core.drift.concept import REPORTED_COMMANDS
from stream_ml.core.drift.signals import Signal
from stream_ml.core.evaluation.progressive import Quality
from stream_ml.core.fold.batches import FoldSettings, Run, Single, features_of, prepare
from stream_ml.core.fold.facts import LogFacts
from stream_ml.core.fold.halt import ENDING_A_HALT, FoldResult, Halt, HaltControl
from stream_ml.core.fold.health import CHECK_EVERY, NOT_FINITE, HealthCheck
from stream_ml.core.fold.limits import FIRST
from stream_ml.core.fold.model import Model
from stream_ml.core.fold.way_out import way_out
from stream_ml.core.log.entry import Entry, LaterEntry
from stream_ml.core.log.heads import decode_place
from stream_ml.core.log.sequences import Place, SequenceState, SequenceTracker
from stream_ml.core.model.born_sets import keep_born_sets
from stream_ml.core.model.estimator import ModelFailed
from stream_ml.errors import FatalError, StreamMLError
from stream_ml.records import LogRecord, Version

_NO_SENSE = (LookupError, TypeError, ValueError, OverflowError, StreamMLError)


class Progress:
    """How far a replica is: entries that are folded and read, and of the last one digest or bytes, and time."""

    __slots__ = ("last", "position", "read_position", "written_at_ms")

    def __init__(self) -> None:
        self.position = self.read_position = self.written_at_ms = 0
        self.last: str | bytes = ""


class PassedOverCounts:
    """Examples that were not learned: `dropped` as repeats, `unusable` under these settings."""

    def __init__(self) -> None:
        self.dropped = self.unusable = 0


class Replica:
    """One model as a fold of the training log; one thread only."""

    def __init__(self, settings: FoldSettings) -> None:
        self._settings = settings
        self.model = Model(settings)
        self.quality = Quality(settings.domain)
        self.concept = settings.concept()
        self.sequences = SequenceTracker()
        self.seen = self.sequences  # while halted it runs ahead of what is learned
        self.facts = LogFacts(settings)
        self.health = HealthCheck()
        self.halts = HaltControl()
        self.progress = Progress()
        self.passed_over = PassedOverCounts()
        self.interrupted = False  # in the middle of an example, by Ctrl-C or what nobody foresaw

    @property
    def version(self) -> Version:
        """Version of the model: every prediction carries it."""
        return Version(self._settings.lineage, self.progress.position)

    @property
    def position(self) -> int:
        """So many entries of the log are folded; less than `read_position` while learning is halted."""
        return self.progress.position

    @property
    def read_position(self) -> int:
        """Offset of the entry that is to be read next."""
        return self.progress.read_position

    @property
    def examples_learned(self) -> int:
        """So many examples the model has learned."""
        return self.model.examples_learned

    @property
    def halt(self) -> Halt | None:
        """Where learning is halted; None while it is not."""
        return self.halts.current

    @property
    def corrupted(self) -> bool:
        """Whether the model cannot be used any more, and a successor has to be made."""
        return self.halts.corrupted

    @property
    def is_healthy(self) -> bool:
        """Whether the model answers to its probe examples with finite numbers.

        A checkpoint of one that does not is useless, and the log never gives what it predicts: once the fold finds it,
        learning halts at the example that did it. Asked before each batch; nothing is done twice for one model.
        """
        return not self.halts.corrupted and self.health.is_healthy(self.model.learner, self.model.examples_learned)

    def prepare(self, records: Sequence[LogRecord]) -> list[Run | Single]:
        """Decode records of the log, as far as that goes without the model."""
        return prepare(self._settings, records)

    def fold(self, records: Sequence[LogRecord]) -> FoldResult:
        """Fold committed records of the log, in order, each once; see `fold_prepared`."""
        return self.fold_prepared(self.prepare(records))

    def fold_prepared(self, prepared: Sequence[Run | Single]) -> FoldResult:
        """Fold what was prepared, and say what came of it.

        Returns
        -------
        FoldResult
            Folded; Halted where learning has halted now; Corrupted where a `successor` has to be made; Refold where a
            command has ended the halt: nothing after it was folded, `clear_halt` and read again from there.

        Raises
        ------
        FatalError
            An earlier call was interrupted (Ctrl-C, or what nobody foresaw): what it left is half of an example, or
            examples that count as seen and were not learned. Only a checkpoint helps.
        """
        if self.interrupted:
            raise FatalError("the fold was interrupted in the middle of an example", "start again, from a checkpoint")
        before = self.halts.current
        self.interrupted = True
        for item in prepared:
            if isinstance(item, Run):
                self._fold_run(item)
            elif self.halts.refold_from is None:
                self._fold_single(item)
        self.interrupted = False
        return self.halts.result(before)

    def _fold_single(self, single: Single) -> None:
        record, entry = single.record, single.entry
        if entry is None:
            self._foreign(record.offset, single.problem)
            if self.halts.current is not None:
                self._read_on_unread(single)
        else:
            self.progress.written_at_ms = entry.written_at_ms
            if self.halts.current is None and entry.kind == "example":
                self._fold_example(single, entry)
            elif self.halts.current is None:
                self._fold_other(single, entry)
            if self.halts.current is not None:
                self._read_on(entry)
        if self.halts.current is None:
            self.progress.position = record.offset + 1
            self.progress.last = record.value
        self.progress.read_position = record.offset + 1

    # --- a run ---

    def _fold_run(self, run: Run) -> None:
        """Fold a run in a few loops, as far as there is nothing to say about it; the rest one by one."""
        lead = min(run.size, max(0, CHECK_EVERY - self.model.examples_learned))  # where probes are gathered
        self._fold_singles(run.some(0, lead))
        rest = run.some(lead, run.size)
        while rest.size and self._is_usual(rest):
            plain = rest.some(0, min(rest.size, self.model.limits.until_next))
            plain = plain.some(0, self.model.limits.first_far(plain.names, plain.rows, plain.ys, plain.extremes))
            done = self._fold_new(plain, self.sequences.record_new(plain.places)) if plain.size else 0
            if done < plain.size or not plain.size:  # the next one is to be judged alone
                self._fold_singles(rest.some(done, done + 1))
                done += 1
            rest = rest.some(done, rest.size)
        self._fold_singles(rest)

    def _is_usual(self, run: Run) -> bool:
        """Whether nothing is known of these examples that has to be said at one of them."""
        if self.halts.current is not None or self.halts.refold_from is not None:
            return False
        if self.facts.frozen or self.facts.unreadable or self.health.each_after is not None:
            return False
        if self.model.examples_learned < CHECK_EVERY:
            return False
        started = all(map(self.facts.has_started, {place[0] for place in run.places}))
        return started and not self.halts.noted_after(run.records[0].offset)

    def _fold_singles(self, run: Run) -> None:
        for single in run.singles():
            if self.halts.refold_from is None:
                self._fold_single(single)

    def _fold_new(self, run: Run, count: int) -> int:
        """Fold the first `count` examples, all new to the tracker; how many were, before one halted learning.

        Sequences and quality run ahead of the model. Where learning then halts, the model is corrupted, and all of this
        replica is thrown away.
        """
        known, rows = self.quality.update_many(run.labelled, run.first, run.first + count)
        offsets = [run.records[number].offset for number in known]
        done = seen = 0
        while seen < len(known):
            seen += self.concept.update_many(rows[seen:], self._settings.lineage, offsets[seen:])
            at = known[seen - 1]
            done = self._learn_new(run, done, at)
            if self.halts.current is not None or not self._may_report(run.records[at].offset):
                return done
        return self._learn_new(run, done, count)

    def _learn_new(self, run: Run, first: int, stop: int) -> int:
        """Learn the examples of these rows; the row of the one that halted learning, else `stop`."""
        began, taken = first, list[Sequence[Any]]()
        while first < stop:
            last = min(stop, first + CHECK_EVERY - self.model.examples_learned % CHECK_EVERY)
            rows, ys = self.model.limits.clip_rows(run.names, run.rows[first:last]), run.ys[first:last]
            learned, failed = self.model.learner.learn_in_order(run.names, rows, ys)
            self.model.examples_learned += learned
            first += learned
            if failed is not None:
                self._model_raised(run.records[first].offset, failed)
            else:
                taken += rows
                if self.model.limits.names_others:  # what is one too many depends on the rows before it
                    self.model.learned_many(run, began, taken)
                    began, taken = first, []
                if not self._check_health(run.records[last - 1].offset, dict(zip(run.names, rows[-1], strict=True))):
                    first = last - 1
            if first:
                self._passed(run.records[first - 1], run.written_at_ms[first - 1])
            if self.halts.current is not None:
                break
        self.model.learned_many(run, began, taken)
        return first

    def _passed(self, record: LogRecord, written_at_ms: int) -> None:
        progress = self.progress
        progress.position = progress.read_position = record.offset + 1
        progress.last, progress.written_at_ms = record.value, written_at_ms

    @property
    def last_digest(self) -> str:
        """SHA-256 of the last entry that was folded; empty before the first."""
        if isinstance(self.progress.last, bytes):
            self.progress.last = hashlib.sha256(self.progress.last).hexdigest()
        return self.progress.last

    def clear_halt(self) -> int:
        """Forget the halt that a command has ended; the offset from which the log is to be read again."""
        position = self.progress.read_position = self.halts.clear()
        self.seen = self.sequences
        return position

    def successor(self, restored: "Replica") -> "Replica":
        """The replica to take the place of this one, which is corrupted; fold it from its position on.

        A failed health check comes at a later example than the one that corrupted the model: the successor is checked
        after every example, so that all replicas halt at the same one.

        Parameters
        ----------
        restored
            From a checkpoint at or before the halt; a new one is made where it is later than the last healthy example.
        """
        halt = self.halts.current
        assert halt is not None and halt.corrupted  # noqa: S101
        if not halt.exact and restored.examples_learned > self.health.healthy_examples:
            restored = Replica(self._settings)
        open_halts = restored.halts.overrides.state()
        restored.halts.overrides = self.halts.overrides.handed_on()
        restored.halts.overrides.restore(open_halts)
        restored.halts.stop_at = halt if halt.exact else None
        restored.health.each_after = None if halt.exact else self.health.healthy_examples
        return restored

    def recovered(self) -> None:
        """Check the model from now on where others check theirs: what corrupted the predecessor is behind."""
        self.health.each_after = None

    def probe_bits(self) -> list[tuple[str, ...]]:
        """What the model says of its probe examples, to the last bit: the identity of a replica."""
        return self.health.bits(self.model.learner)

    def signals_after(self, position: int) -> list[Signal]:
        """What the fold has found after this position, in its order, a halt included."""
        halt = self.halts.current
        if halt is not None and halt.corrupted:
            return []  # its successor finds them, without those of examples since the model was corrupted
        found = [signal for signal in self.concept.signals if signal.position > position]
        if halt is not None and halt.position > position:
            found.append(self._halt_signal(halt))
        return found

    def _halt_signal(self, halt: Halt) -> Signal:
        words = f"learning is halted at {halt.position}, {halt.reason}: {halt.message}"
        return Signal(
            origin=self._settings.lineage,
            kind="halted",
            subject="learning",
            position=halt.position,
            severity="critical",
            since_ms=self.progress.written_at_ms,
            evidence={},
            message=words,
            suggestion=way_out(halt.reason, halt.position),
        )

    # --- one entry ---

    def _foreign(self, offset: int, error: Exception | None) -> None:
        """Halt at bytes that are no entry: somebody else wrote into the log."""
        if self.halts.current is None and self.halts.overrides.get(offset) == "skip":
            self._pass_halt(offset)
        elif self.halts.current is None and isinstance(error, LaterEntry):
            self.halts.current = Halt(offset, error.reason, f"at {offset} the training log holds {error}")
        elif self.halts.current is None:
            self.halts.current = Halt(
                offset, "not_an_entry", f"the training log holds something else at {offset}: {error}"
            )

    def _pass_halt(self, offset: int) -> None:
        """Tell a halt that was ended, where its position is passed for good."""
        halt = self.halts.overrides.passed(offset)
        if halt is not None:
            self.concept.signals.append(self._halt_signal(halt))

    def _changes_something(self, entry: Entry) -> bool:
        """Whether a command is to be reported: one that lifts no halt, or freezes what is frozen, is not."""
        if entry.command in ENDING_A_HALT:
            return self.halts.overrides.ends(entry.command, entry.parsed_arguments().get("position"))
        if entry.command in ("freeze", "resume"):
            return self.facts.frozen is not (entry.command == "freeze")
        return entry.command in REPORTED_COMMANDS

    def _fold_other(self, single: Single, entry: Entry) -> None:
        try:
            entry.check_known()
            self.facts.check_new(single.record.offset, entry)
            self.facts.note(entry, self.seen)
            changes = self._changes_something(entry)
        except _NO_SENSE as error:
            self._foreign(single.record.offset, error)
        else:
            self.facts.obey(single.record.offset, entry)
            if changes:
                at = single.record.offset
                self.concept.command(entry.command, self._settings.lineage, at, entry.written_at_ms)
                self._may_report(at)

    def _fold_example(self, single: Single, entry: Entry) -> None:
        place: Place = entry[1:5]
        offset = single.record.offset
        override = self.halts.overrides.get(offset)
        if override != "skip" and not self.facts.has_started(entry.source_partition):
            partition = entry.source_partition
            message = f"an example of partition {partition}, which no worker has started: somebody else wrote it"
            self.halts.current = Halt(offset, "not_an_entry", message)
            return
        verdict = self.sequences.check(*place)
        if self.halts.stop_at is not None and offset == self.halts.stop_at.position and override != "skip":
            self.halts.current = self.halts.stop_at._replace(corrupted=False)
            return
        if override == "skip":
            self._pass_halt(offset)
            old = entry.sequence < self.sequences.next_sequence(entry.source_partition)
            if self.facts.has_started(entry.source_partition) and not old:
                self.sequences.record(*place)
        elif verdict == "drop" and override != "accept-gap":
            self.passed_over.dropped += 1
        elif verdict != "learn" and override != "accept-gap":
            self.halts.current = Halt(offset, verdict, _sequence_words(entry, self.sequences, verdict))
        elif self._learn(single, entry):
            if override is not None:
                self._pass_halt(offset)
            if override == "accept-gap":
                self.sequences.accept_gap(*place)
            else:
                self.sequences.record(*place)

    def _learn(self, single: Single, entry: Entry) -> bool:
        """Learn the example, unless frozen; False where that halted learning."""
        features = single.features
        if entry.event_schema in self.facts.unreadable:
            features = Halt(-1, "schema_mismatch", self.facts.unreadable[entry.event_schema])
        elif isinstance(features, Halt):
            features = features_of(self._settings, entry)  # its schema may stand in the log just before it
        if isinstance(features, Halt):
            self.halts.current = features._replace(position=single.record.offset)
            return False
        if features is None or isinstance(features, Rejected) or not self._fits(entry):
            # Written under other settings, which is another lineage: nothing to learn here.
            self.passed_over.unusable += 1
            return True
        offset = single.record.offset
        if not self.facts.frozen and offset not in self.halts.overrides and not self._judge(offset, features, entry):
            return self.halts.current is None
        row = self.quality.update(entry.target, entry.served, entry.label_time_ms, entry.event_time_ms)
        # The position of an overridden example stands for the halt that was reported there.
        if row is not None and offset not in self.halts.overrides:
            self.concept.update(row, self._settings.lineage, offset)
            if not self._may_report(offset):
                return False
        return True if self.facts.frozen else self._learn_features(single.record.offset, features, entry)

    def _judge(self, offset: int, features: dict[str, Any], entry: Entry) -> bool:
        """Whether an example is to be learned: not where it is far from all others, and the quarantine is strict."""
        y, mode = self._settings.domain.y(entry.target), self._settings.quarantine
        why = self.model.limits.why_far(features, y)
        if not why:
            return True
        if mode == "halt":
            self.halts.current = Halt(offset, "far_example", why)
            return False
        if self.model.far.met(offset, self.model.limits.seen):
            self.concept.signals.append(self._far_signal(offset, why, entry))
        if mode == "divert":
            self.model.limits.saw_one(features, y)
        return self._may_report(offset) and mode != "divert"

    def _far_signal(self, offset: int, why: str, entry: Entry) -> Signal:
        left_out = self._settings.quarantine == "divert"
        what = "is not learned" if left_out else "was learned; features.bounds would leave it out, and its like"
        words = f"the example at {offset} is far from all others and {what}: {why}"
        return Signal(
            origin=self._settings.lineage,
            kind="far_example",
            subject="learning",
            position=offset,
            severity="warning",
            since_ms=entry.written_at_ms,
            evidence={"far_examples": float(self.model.far.count)},
            message=words,
            suggestion="stream-ml tail CONFIG training-log",
        )

    def _may_report(self, offset: int) -> bool:
        """Check a model that has just found a signal: a corrupted one halts before it, in every replica alike."""
        signals = self.concept.signals
        if not signals or signals[-1].position != offset or self.is_healthy:
            return True
        self.halts.current = Halt(offset, "not_finite", NOT_FINITE, corrupted=True, exact=False)
        return False

    def _fits(self, entry: Entry) -> bool:
        domain, target = self._settings.domain, entry.target
        if domain.task == "regression":
            return target.value is not None and math.isfinite(target.value)
        return target.class_name in domain.classes

    def _learn_features(self, offset: int, features: dict[str, Any], entry: Entry) -> bool:
        y = self._settings.domain.y(entry.target)
        self.model.limits.keep_first(offset, features, y)
        features = self.model.limits.clip_one(features)
        try:
            self.model.learner.learn_y(features, y)
        except ModelFailed as error:
            self._model_raised(offset, error)
            return False
        self.model.examples_learned += 1
        self.model.limits.saw_one(features, y)
        again = self.model.limits.begin_again() if self.model.limits.seen == FIRST else []
        if again and not self._begin_again(again, offset, entry):
            return False
        return self._check_health(offset, features)

    def _begin_again(self, first: Sequence[tuple[int, dict[str, Any], Any]], offset: int, entry: Entry) -> bool:
        """Learn the first examples anew, now that it is known which of them is unlike the others.

        It is reported here, at `offset`: what was reported before stands in its order.
        """
        divert = self._settings.quarantine == "divert"
        self.model.begin(self._settings.build())
        self.model.examples_learned = 0
        for position, features, y in first:
            why = self.model.limits.why_far(features, y)
            if why and self.model.far.met(position, self.model.limits.seen):
                self.concept.signals.append(self._far_signal(position, why, entry)._replace(position=offset))
            if why and divert:
                continue
            try:
                self.model.learner.learn_y(self.model.limits.clip_one(features), y)
            except ModelFailed as error:
                self._model_raised(position, error)
                return False
            self.model.examples_learned += 1
        self.health.probes = [self.model.limits.clip_one(features) for features in self.health.probes]
        return self._may_report(offset)

    def _model_raised(self, offset: int, error: ModelFailed) -> None:
        self.halts.current = Halt(offset, "model_raised", f"learn_one raised {error}", corrupted=True)

    def _check_health(self, offset: int, features: dict[str, Any]) -> bool:
        """After an example was learned: check the model where that is due; False where it halted learning."""
        number = self.model.examples_learned
        if self.health.learned(self.model.learner, number, features):
            return True
        exact = self.health.each(number)
        self.halts.current = Halt(offset, "not_finite", NOT_FINITE, corrupted=True, exact=exact)
        return False

    def _read_on(self, entry: Entry) -> None:
        """Pass an entry while halted: nothing is learned, but what was seen counts."""
        self._run_ahead()
        with contextlib.suppress(*_NO_SENSE):  # it is met again, and halts then, once this halt is ended
            self.facts.note(entry, self.seen)
            self.halts.obey(entry)
        if entry.kind == "example" and self.facts.has_started(entry.source_partition):
            self.seen.record(entry.source_partition, entry.sequence, entry.trigger, entry.trigger_offset)

    def _read_on_unread(self, single: Single) -> None:
        """Pass an entry of a later version: which example it is stands in front, in every format."""
        self._run_ahead()
        if isinstance(single.problem, LaterEntry):
            with contextlib.suppress(ValueError):
                place = decode_place(single.record.value)
                if place is not None and self.facts.has_started(place[0]):
                    self.seen.record(*place)

    def _run_ahead(self) -> None:
        """While halted, what was seen is counted apart from what was learned."""
        if self.seen is self.sequences:
            self.seen = self.sequences.copy()

    # --- a checkpoint's content ---

    def state(self) -> dict[str, Any]:
        """Everything that the fold has accumulated; only while not halted."""
        assert self.halts.current is None and not self.interrupted  # noqa: S101 - a halted replica's position is not its model's
        return {
            "estimator": self.model.learner.estimator,
            "quality": self.quality.state(),
            "concept": self.concept.state(),
            "sequences": self.sequences.plain(),
            "position": self.progress.position,
            "examples_learned": self.model.examples_learned,
            "healthy_examples": self.health.healthy_examples,
            "dropped": self.passed_over.dropped,
            "unusable": self.passed_over.unusable,
            "facts": self.facts.state(),
            "open_halts": self.halts.overrides.state(),
            "probes": self.health.probes,
            "limits": self.model.limits.state(),
            "far": self.model.far.state(),
            "last_digest": self.last_digest,
            "last_written_at_ms": self.progress.written_at_ms,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.model.begin(keep_born_sets(state["estimator"], self._settings.build()))
        self.quality.restore(state["quality"])
        self.concept.restore(state["concept"])
        self.sequences = SequenceTracker({p: SequenceState(*known) for p, known in state["sequences"].items()})
        self.seen = self.sequences
        progress = self.progress
        progress.position = progress.read_position = state["position"]
        progress.last, progress.written_at_ms = state["last_digest"], state["last_written_at_ms"]
        self.model.examples_learned = state["examples_learned"]
        self.health.healthy_examples, self.health.probes = state["healthy_examples"], state["probes"]
        self.passed_over.dropped, self.passed_over.unusable = state["dropped"], state["unusable"]
        self.halts.overrides.restore(state["open_halts"])
        self.model.limits.restore(state["limits"])
        self.model.far.restore(state["far"])
        self.facts.restore(state["facts"])


def _sequence_words(entry: Entry, sequences: SequenceTracker, verdict: str) -> str:
    partition = entry.source_partition
    last = sequences.last_trigger(partition, entry.trigger)
    of = ("events", "feedback")[entry.trigger]
    return (
        f"partition {partition}: sequence {entry.sequence} where {sequences.next_sequence(partition)} is next, trigger "
        f"{of}:{entry.trigger_offset} after {last}: "
        + ("examples are missing" if verdict == "gap" else "sequence and trigger disagree")
    )
