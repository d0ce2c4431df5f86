"""The fold: a model, its quality and its ledger as a pure function of a prefix of the training log.

1. Entries are folded in log order, one example at a time, so every replica has the same bits.
2. Nothing here knows who produced an entry: what is folded is what a read_committed consumer returned.
3. A halted replica keeps its version, reads on without learning, and folds again from the halt when its command
   (skip, accept or accept-gap) stands in the log.
4. `learn_one` that raised may have changed half of the model: the replica is *tainted*, and its driver makes a new
   one from a checkpoint, told to halt just before that example.
"""

import contextlib
import hashlib
import math
from collections.abc import Sequence
from typing import Any

from stream_ml.core.avro.framing import Refused
from stream_ml.core.avro.resolution import check_meaning
from stream_ml.core.avro.schema import load_schema
from stream_ml.core.drift.concept import TOLD_COMMANDS
from stream_ml.core.drift.signals import Signal
from stream_ml.core.evaluation.progressive import Quality
from stream_ml.core.fold.batches import FoldSettings, Halt, Run, Single, features_of, prepare
from stream_ml.core.fold.far_examples import Far
from stream_ml.core.fold.limits import FIRST
from stream_ml.core.fold.overrides import LIFTING, Pardons, is_order
from stream_ml.core.inputs.events import Features
from stream_ml.core.log.entry import Entry
from stream_ml.core.log.logged_schemas import LoggedSchema
from stream_ml.core.log.seals import is_new
from stream_ml.core.log.sequences import Account, Ledger, Place
from stream_ml.core.model.born_sets import keep_born_sets
from stream_ml.core.model.estimator import Learner, ModelFailed, Scored, bits
from stream_ml.core.model.scoring import Scorer, Scores
from stream_ml.errors import ConfigError, FatalError, StreamMLError
from stream_ml.records import LogRecord, Version

PROBES_MAX = 16  # features of the examples numbered 1, 2, 4, 8 ...: the last so many of them
SOUND_EVERY = 64  # examples; probing costs up to 16 predictions, 1 us an example for a linear model that is asked


_NOT_FINITE = "the model's answers to its probes are no longer finite numbers"
_NO_SENSE = (LookupError, TypeError, ValueError, OverflowError, StreamMLError)


class Replica:
    """One model as a fold of the training log; one thread only."""

    def __init__(self, settings: FoldSettings) -> None:
        self._settings = settings
        self._take(settings.build())
        self.quality = Quality(settings.domain)
        self.concept = settings.concept()
        self.ledger = Ledger()
        self.seen = self.ledger
        self.position = 0
        self.read_position = 0
        self.examples_learned = 0
        self.dropped = 0
        self.unusable = 0
        self.frozen = False
        self.rebaselined_at = -1
        self.commanded_at = -1
        self.started: dict[int, dict[str, Any]] = {}
        self.schemas: dict[int, str] = {}
        self.output_schemas: dict[tuple[str, int], str] = {}
        self._refused: dict[int, str] = {}
        self.probes: list[dict[str, Any]] = []
        self._last: str | bytes = ""  # the digest of the entry folded last, or the entry itself
        self.last_written_at_ms = 0
        self.halt: Halt | None = None
        self.refold_from: int | None = None
        self.pardons = Pardons()
        self.stop_at: Halt | None = None
        self.check_each_after: int | None = None
        self.sound_examples = 0
        self.ranges = settings.ranges()
        self.far = Far()
        self.torn = False

    def _take(self, estimator: Any) -> None:
        self.learner = Learner(estimator, self._settings.domain)
        self.scorer = Scorer(self.learner)
        self._probed: tuple[int, bool] | None = None  # examples learned when the model was probed last, and its verdict

    @property
    def version(self) -> Version:
        """Version of the model: every prediction carries it."""
        return Version(self._settings.lineage, self.position)

    def score(self, features: dict[str, Any]) -> Scored:
        """Score one event with the model as it stands."""
        return self.learner.score(self.ranges.clip_one(features))

    def score_many(self, features: Features, count: int) -> Scores:
        """Scores of a batch of `count` events with the model as it stands."""
        within, clipped = self.ranges.clip_many(features)
        scores = self.scorer.score(within, count)
        return scores._replace(clipped=clipped) if clipped else scores

    def prepare(self, records: Sequence[LogRecord]) -> list[Run | Single]:
        """Decode records of the log, as far as that goes without the model."""
        return prepare(self._settings, records)

    def fold(self, records: Sequence[LogRecord]) -> None:
        """Fold committed records of the log, in order, each once."""
        self.fold_prepared(self.prepare(records))

    def fold_prepared(self, prepared: Sequence[Run | Single]) -> None:
        """Fold what was prepared.

        Stops early when a command lifts the halt: `refold_from` then says where its reader must go back to.

        Raises
        ------
        FatalError
            An earlier call was interrupted (Ctrl-C, or what nobody foresaw): what it left is half of an example, or
            examples that count as seen and were not learned. Only a checkpoint helps.
        """
        if self.torn:
            raise FatalError("the fold was interrupted in the middle of an example", "start again, from a checkpoint")
        self.torn = True
        for item in prepared:
            if isinstance(item, Run):
                self._fold_run(item)
            elif self.refold_from is None:
                self._fold_single(item)
        self.torn = False

    def _fold_single(self, single: Single) -> None:
        record, entry = single.record, single.entry
        if entry is None:
            self._foreign(record.offset, single.problem)
        else:
            self.last_written_at_ms = entry.written_at_ms
            if self.halt is None and entry.kind == "example":
                self._fold_example(single, entry)
            elif self.halt is None:
                self._fold_other(single, entry)
            if self.halt is not None:
                if self.seen is self.ledger:
                    self.seen = self.ledger.copy()
                self._read_on(entry)
        if self.halt is None:
            self.position = record.offset + 1
            self._last = record.value
        self.read_position = record.offset + 1

    # --- a run ---

    def _fold_run(self, run: Run) -> None:
        """Fold a run in a few loops, as far as there is nothing to say about it; the rest one by one."""
        lead = min(run.size, max(0, SOUND_EVERY - self.examples_learned))  # where probes are gathered
        self._fold_singles(run.some(0, lead))
        rest = run.some(lead, run.size)
        while rest.size and self._is_usual(rest):
            plain = rest.some(0, min(rest.size, self.ranges.until_next))
            plain = plain.some(0, self.ranges.first_far(plain.names, plain.rows, plain.ys, plain.extremes))
            done = self._fold_new(plain, self.ledger.saw_new(plain.places)) if plain.size else 0
            if done < plain.size or not plain.size:  # the next one is to be judged alone
                self._fold_singles(rest.some(done, done + 1))
                done += 1
            rest = rest.some(done, rest.size)
        self._fold_singles(rest)

    def _is_usual(self, run: Run) -> bool:
        """Whether nothing is known of these examples that has to be said at one of them."""
        if self.halt is not None or self.refold_from is not None or self.frozen or self.check_each_after is not None:
            return False
        if self.examples_learned < SOUND_EVERY or self._refused:
            return False
        noted = [*self.pardons, *([self.stop_at.position] if self.stop_at is not None else [])]
        started = all(map(self._has_started, {place[0] for place in run.places}))
        return started and all(at < run.records[0].offset for at in noted)

    def _fold_singles(self, run: Run) -> None:
        for single in run.singles():
            if self.refold_from is None:
                self._fold_single(single)

    def _fold_new(self, run: Run, count: int) -> int:
        """Fold the first `count` examples, all new to the ledger; how many were, before one halted learning.

        The ledger and the quality run ahead of the model. Where learning then halts, the model is tainted, and with
        it all of this replica is thrown away.
        """
        known, rows = self.quality.update_many(run.labelled, run.first, run.first + count)
        offsets = [run.records[number].offset for number in known]
        done = seen = 0
        while seen < len(known):
            seen += self.concept.update_many(rows[seen:], self._settings.lineage, offsets[seen:])
            at = known[seen - 1]
            done = self._learn_new(run, done, at)
            if self.halt is not None or not self._may_tell(run.records[at].offset):
                return done
        return self._learn_new(run, done, count)

    def _learn_new(self, run: Run, first: int, stop: int) -> int:
        """Learn the examples of these rows; the row of the one that halted learning, else `stop`."""
        began, taken = first, list[Sequence[Any]]()
        while first < stop:
            last = min(stop, first + SOUND_EVERY - self.examples_learned % SOUND_EVERY)
            rows, ys = self.ranges.clip_rows(run.names, run.rows[first:last]), run.ys[first:last]
            learned, failed = self.learner.learn_many(run.names, rows, ys)
            self.examples_learned += learned
            first += learned
            if failed is not None:
                self._model_raised(run.records[first].offset, failed)
            else:
                taken += rows
                if self.ranges.names_others:  # what is one too many depends on the rows before it
                    self._saw(run, began, taken)
                    began, taken = first, []
                if not self._look(run.records[last - 1].offset, dict(zip(run.names, rows[-1], strict=True))):
                    first = last - 1
            if first:
                self._passed(run.records[first - 1], run.written_at_ms[first - 1])
            if self.halt is not None:
                break
        self._saw(run, began, taken)
        return first

    def _saw(self, run: Run, first: int, rows: Sequence[Sequence[Any]]) -> None:
        """Note what was learned of a run from this row on, as the model got it."""
        self.ranges.saw_many(run.names, rows, run.ys[first : first + len(rows)])

    def _passed(self, record: LogRecord, written_at_ms: int) -> None:
        self.position = self.read_position = record.offset + 1
        self._last, self.last_written_at_ms = record.value, written_at_ms

    @property
    def last_digest(self) -> str:
        """SHA-256 of the last entry that was folded; empty before the first."""
        if isinstance(self._last, bytes):
            self._last = hashlib.sha256(self._last).hexdigest()
        return self._last

    def lift(self) -> None:
        """Forget the halt whose command was met; fold again from its position."""
        assert self.refold_from is not None  # noqa: S101 - drivers ask `refold_from` first
        self.halt, self.read_position, self.refold_from = None, self.refold_from, None
        self.stop_at = None
        self.seen = self.ledger

    def heir(self, restored: "Replica") -> "Replica":
        """The replica to take the place of this one, which is spoilt; fold it from its position on.

        A failed probe is found at a later example than the one that spoilt the model: the heir then probes after every
        example, so that all replicas halt at the same one.

        Parameters
        ----------
        restored
            From a checkpoint at or before the halt; a new one is made where it is later than the last sound example.
        """
        halt = self.halt
        assert halt is not None and halt.tainted  # noqa: S101
        if not halt.exact and restored.examples_learned > self.sound_examples:
            restored = Replica(self._settings)
        open_halts = restored.pardons.state()
        restored.pardons = self.pardons.handed_on()
        restored.pardons.restore(open_halts)
        restored.stop_at = halt if halt.exact else None
        restored.check_each_after = None if halt.exact else self.sound_examples
        return restored

    def probe_bits(self) -> list[tuple[str, ...]]:
        """What the model says of its probes, to the last bit: the identity of a replica."""
        return [bits(self.learner.score(features)) for features in self.probes]

    def sound(self) -> bool:
        """Whether the model answers to its probes with finite numbers.

        A checkpoint of one that does not is useless, and the log never gives what it predicts: once the fold finds it,
        learning halts at the example that spoilt it. Asked before each batch; nothing is done twice for one model.
        """
        if self.halt is not None and self.halt.tainted:
            return False
        if self._probed is None or self._probed[0] != self.examples_learned:
            self._probed = (self.examples_learned, self.learner.sound(self.probes))
        return self._probed[1]

    def signals_after(self, position: int) -> list[Signal]:
        """What the fold has found after this position, in its order, a halt included."""
        halt = self.halt
        if halt is not None and halt.tainted:
            return []  # its heir finds them, those of the examples since the model was spoilt left out
        found = [signal for signal in self.concept.signals if signal.position > position]
        if halt is not None and halt.position > position:
            found.append(self._halted(halt))
        return found

    def _halted(self, halt: Halt) -> Signal:
        words = f"learning is halted at {halt.position}, {halt.reason}: {halt.message}"
        of = (self._settings.lineage, "halted", "learning", halt.position, "critical", self.last_written_at_ms)
        return Signal._make((*of, {}, words, f"stream-ml skip CONFIG {halt.position}"))

    def knows_schema(self, fingerprint: int) -> bool:
        """Whether the log holds this writer schema of events up to where it was read."""
        return fingerprint in self.schemas

    @property
    def logged_schemas(self) -> list[LoggedSchema]:
        """Every schema that the log holds up to where it was read; may be asked from another thread."""
        events = [LoggedSchema("", fingerprint, text) for fingerprint, text in list(self.schemas.items())]
        return events + [LoggedSchema(*of, text) for of, text in list(self.output_schemas.items())]

    # --- one entry ---

    def _foreign(self, offset: int, error: Exception | None) -> None:
        """Halt at bytes that are no entry: somebody else wrote into the log."""
        if self.halt is None and self.pardons.get(offset) == "skip":
            self._pass_halt(offset)
        elif self.halt is None:
            self.halt = Halt(offset, "not_an_entry", f"the training log holds something else at {offset}: {error}")

    def _pass_halt(self, offset: int) -> None:
        """Tell a halt that was lifted, where its position is passed for good."""
        halt = self.pardons.passed(offset)
        if halt is not None:
            self.concept.signals.append(self._halted(halt))

    def _changes_something(self, entry: Entry) -> bool:
        """Whether a command is to be told: one that lifts no halt, or freezes what is frozen, is not."""
        if entry.command in LIFTING:
            return self.pardons.ends(entry.command, entry.parsed_arguments().get("position"))
        if entry.command in ("freeze", "resume"):
            return self.frozen is not (entry.command == "freeze")
        return entry.command in TOLD_COMMANDS

    def _fold_other(self, single: Single, entry: Entry) -> None:
        try:
            self._check_new(single.record.offset, entry)
            self._note(entry)
            told = self._changes_something(entry)
        except _NO_SENSE as error:
            self._foreign(single.record.offset, error)
        else:
            if is_order(entry):
                self.commanded_at = single.record.offset
            if entry.command in ("freeze", "resume"):
                self.frozen = entry.command == "freeze"
            if told and entry.command is not None:
                at = single.record.offset
                self.concept.command(entry.command, self._settings.lineage, at, entry.written_at_ms)
                self._may_tell(at)
            if entry.command == "rebaseline":
                self.rebaselined_at = single.record.offset

    def _check_new(self, offset: int, entry: Entry) -> None:
        """ValueError at an order that somebody without a key has written once more: a later one was known by then."""
        sealed_from = self._settings.sealed_from
        if sealed_from is None or offset < sealed_from or not is_order(entry):
            return
        said = entry.parsed_arguments()
        if not is_new(said, self.commanded_at, offset):
            seen = said.get("seen")
            message = f"{entry.command} says that the log ended at {seen} when it was written, and a command stands at"
            raise ValueError(f"{message} {self.commanded_at}: it was written once more, or two were at once")

    def _note(self, entry: Entry) -> None:
        """Facts that hold whether learning is halted or not."""
        if entry.kind == "schema":
            if entry.trigger_topic:
                found = LoggedSchema.of(entry)
                self.output_schemas.setdefault((found.topic, found.fingerprint), found.text)
            else:
                self._note_schema(entry.event_schema, entry.arguments or "")
        elif entry.kind == "start":
            self.started[entry.source_partition] = _start_of(entry)
        elif entry.command == "rebase" and entry.parsed_arguments().get("back", True):
            partition = int(entry.parsed_arguments()["partition"])
            if self._has_started(partition):
                self.seen.rebase(partition)

    def _note_schema(self, fingerprint: int, text: str) -> None:
        """Know a writer schema by its own fingerprint; the first text of one stays, whatever comes later."""
        if fingerprint in self.schemas:
            return
        schema = load_schema(text, where="a schema entry of the training log")
        if schema.fingerprint != fingerprint:
            raise ValueError(f"a schema entry says fingerprint {fingerprint}, its text has {schema.fingerprint}")
        self.schemas[fingerprint] = text
        try:
            check_meaning(schema, self._settings.payloads.reader, where="the schema that the log holds for it")
        except ConfigError as error:
            # Its examples halt: a fingerprint leaves logical types out, so the log cannot tell the two apart.
            self._refused[fingerprint] = f"{error.message}; give the field another name, or take another app.id"
            return
        self._settings.payloads.add(schema)

    def _fold_example(self, single: Single, entry: Entry) -> None:
        place: Place = entry[1:5]
        offset = single.record.offset
        pardon = self.pardons.get(offset)
        if pardon != "skip" and not self._has_started(entry.source_partition):
            partition = entry.source_partition
            message = f"an example of partition {partition}, which no worker has started: somebody else wrote it"
            self.halt = Halt(offset, "not_an_entry", message)
            return
        verdict = self.ledger.judge(*place)
        if self.stop_at is not None and offset == self.stop_at.position and pardon != "skip":
            self.halt = self.stop_at._replace(tainted=False)
            return
        if pardon == "skip":
            self._pass_halt(offset)
            old = entry.sequence < self.ledger.next_sequence(entry.source_partition)
            if self._has_started(entry.source_partition) and not old:
                self.ledger.saw(*place)
        elif verdict == "drop" and pardon != "accept-gap":
            self.dropped += 1
        elif verdict != "learn" and pardon != "accept-gap":
            self.halt = Halt(offset, verdict, _sequence_words(entry, self.ledger, verdict))
        elif self._learn(single, entry):
            if pardon is not None:
                self._pass_halt(offset)
            if pardon == "accept-gap":
                self.ledger.take(*place)
            else:
                self.ledger.saw(*place)

    def _has_started(self, partition: int) -> bool:
        return partition in self.started or partition in self._settings.started

    def _learn(self, single: Single, entry: Entry) -> bool:
        """Learn the example, unless frozen; False where that halted learning."""
        features = single.features
        if entry.event_schema in self._refused:
            features = Halt(-1, "schema_mismatch", self._refused[entry.event_schema])
        elif isinstance(features, Halt):
            features = features_of(self._settings, entry)  # its schema may stand in the log just before it
        if isinstance(features, Halt):
            self.halt = features._replace(position=single.record.offset)
            return False
        if features is None or isinstance(features, Refused) or not self._fits(entry):
            self.unusable += 1  # written under other settings, which is another lineage: nothing to learn here
            return True
        offset = single.record.offset
        if not self.frozen and offset not in self.pardons and not self._judge(offset, features, entry):
            return self.halt is None
        row = self.quality.update(entry.target, entry.served, entry.label_time_ms, entry.event_time_ms)
        if row is not None and offset not in self.pardons:  # whose position stands for the halt that was told
            self.concept.update(row, self._settings.lineage, offset)
            if not self._may_tell(offset):
                return False
        return True if self.frozen else self._learn_features(single.record.offset, features, entry)

    def _judge(self, offset: int, features: dict[str, Any], entry: Entry) -> bool:
        """Whether an example is to be learned: not where it is far from all others, and the quarantine is strict."""
        y, mode = self._settings.domain.y(entry.target), self._settings.quarantine
        why = self.ranges.why_far(features, y)
        if not why:
            return True
        if mode == "halt":
            self.halt = Halt(offset, "far_example", why)
            return False
        if self.far.met(offset, self.ranges.seen):
            self.concept.signals.append(self._far_signal(offset, why, entry))
        if mode == "divert":
            self.ranges.saw_one(features, y)
        return self._may_tell(offset) and mode != "divert"

    def _far_signal(self, offset: int, why: str, entry: Entry) -> Signal:
        left_out = self._settings.quarantine == "divert"
        what = "is not learned" if left_out else "was learned; features.bounds would leave it out, and its like"
        words = f"the example at {offset} is far from all others and {what}: {why}"
        of = (self._settings.lineage, "far_example", "learning", offset, "warning", entry.written_at_ms)
        evidence = {"far_examples": float(self.far.count)}
        return Signal._make((*of, evidence, words, "stream-ml tail CONFIG training-log"))

    def _may_tell(self, offset: int) -> bool:
        """Probe a model that has just found a signal: one that is spoilt halts before it, in every replica alike."""
        signals = self.concept.signals
        if not signals or signals[-1].position != offset or self.sound():
            return True
        self.halt = Halt(offset, "not_finite", _NOT_FINITE, tainted=True, exact=False)
        return False

    def _fits(self, entry: Entry) -> bool:
        domain, target = self._settings.domain, entry.target
        if domain.task == "regression":
            return target.value is not None and math.isfinite(target.value)
        return target.class_name in domain.classes

    def _learn_features(self, offset: int, features: dict[str, Any], entry: Entry) -> bool:
        y = self._settings.domain.y(entry.target)
        self.ranges.keep_first(offset, features, y)
        features = self.ranges.clip_one(features)
        try:
            self.learner.learn_y(features, y)
        except ModelFailed as error:
            self._model_raised(offset, error)
            return False
        self.examples_learned += 1
        self.ranges.saw_one(features, y)
        again = self.ranges.begin_again() if self.ranges.seen == FIRST else []
        if again and not self._begin_again(again, offset, entry):
            return False
        return self._look(offset, features)

    def _begin_again(self, first: Sequence[tuple[int, dict[str, Any], Any]], offset: int, entry: Entry) -> bool:
        """Learn the first examples anew, now that it is known which of them is unlike the others.

        It is told here, at `offset`: what was told before stands in its order.
        """
        divert = self._settings.quarantine == "divert"
        self._take(self._settings.build())
        self.examples_learned = 0
        for position, features, y in first:
            why = self.ranges.why_far(features, y)
            if why and self.far.met(position, self.ranges.seen):
                self.concept.signals.append(self._far_signal(position, why, entry)._replace(position=offset))
            if why and divert:
                continue
            try:
                self.learner.learn_y(self.ranges.clip_one(features), y)
            except ModelFailed as error:
                self._model_raised(position, error)
                return False
            self.examples_learned += 1
        self.probes = [self.ranges.clip_one(features) for features in self.probes]
        return self._may_tell(offset)

    def _model_raised(self, offset: int, error: ModelFailed) -> None:
        self.halt = Halt(offset, "model_raised", f"learn_one raised {error}", tainted=True)

    def _look(self, offset: int, features: dict[str, Any]) -> bool:
        """After an example was learned: keep it as a probe, or probe the model, where it is time; False: it halted."""
        number = self.examples_learned
        if number & (number - 1) == 0:
            self.probes = [*self.probes, features][-PROBES_MAX:]
        singly = self.check_each_after is not None and number > self.check_each_after
        if (singly or number % SOUND_EVERY == 0) and not self.sound():
            self.halt = Halt(offset, "not_finite", _NOT_FINITE, tainted=True, exact=singly)
            return False
        if number % SOUND_EVERY == 0:
            self.sound_examples = number
        return True

    def _read_on(self, entry: Entry) -> None:
        """Pass an entry while halted: nothing is learned, but what was seen counts."""
        assert self.halt is not None  # noqa: S101
        with contextlib.suppress(*_NO_SENSE):  # it is met again, and halts then, once this halt is lifted
            self._note(entry)
            self._look_for_command(entry, self.halt)
        if entry.kind == "example" and self._has_started(entry.source_partition):
            self.seen.saw(entry.source_partition, entry.sequence, entry.trigger_topic, entry.trigger_offset)

    def _look_for_command(self, entry: Entry, halt: Halt) -> None:
        if entry.command in LIFTING:
            position = int(entry.parsed_arguments()["position"])
            if position == halt.position and self.pardons.get(position) != entry.command:
                self.pardons.lift(halt, entry.command)
                self.refold_from = position

    # --- a checkpoint's content ---

    def state(self) -> dict[str, Any]:
        """Everything that the fold has accumulated; only while not halted."""
        assert self.halt is None and not self.torn  # noqa: S101 - a halted replica's position is not its model's
        return {
            "estimator": self.learner.estimator,
            "quality": self.quality.state(),
            "concept": self.concept.state(),
            "accounts": self.ledger.plain(),
            "position": self.position,
            "examples_learned": self.examples_learned,
            "sound_examples": self.sound_examples,
            "dropped": self.dropped,
            "unusable": self.unusable,
            "frozen": self.frozen,
            "rebaselined_at": self.rebaselined_at,
            "commanded_at": self.commanded_at,
            "started": self.started,
            "open_halts": self.pardons.state(),
            "schemas": self.schemas,
            "output_schemas": self.output_schemas,
            "probes": self.probes,
            "ranges": self.ranges.state(),
            "far": self.far.state(),
            "last_digest": self.last_digest,
            "last_written_at_ms": self.last_written_at_ms,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self._take(keep_born_sets(state["estimator"], self._settings.build()))
        self.quality.restore(state["quality"])
        self.concept.restore(state["concept"])
        self.ledger = Ledger({p: Account(*account) for p, account in state["accounts"].items()})
        self.seen = self.ledger
        self.read_position = state["position"]
        for name in ("position", "examples_learned", "sound_examples", "dropped", "unusable", "frozen"):
            setattr(self, name, state[name])
        for name in ("started", "probes", "last_written_at_ms", "rebaselined_at"):
            setattr(self, name, state[name])
        self.commanded_at = state.get("commanded_at", -1)  # of before entries were sealed
        self.output_schemas = state.get("output_schemas", {})  # of before they stood in the log: there are none
        self.pardons.restore(state["open_halts"])
        self.ranges.restore(state["ranges"])
        self.far.restore(state["far"])
        self._last = state["last_digest"]
        for fingerprint, text in state["schemas"].items():
            self._note_schema(fingerprint, text)


def _start_of(entry: Entry) -> dict[str, Any]:
    """Where a partition started, and nothing else that somebody may have written there."""
    said = entry.parsed_arguments()
    found: dict[str, Any] = {name: said[name] for name in ("events", "feedback")}
    found |= {"partitions": said["partitions"]} if "partitions" in said else {}
    if entry.source_partition < 0 or not all(type(of) is int and 0 <= of < 2**63 for of in found.values()):
        raise ValueError(f"a start of partition {entry.source_partition} at {str(said)[:50]}")
    return found


def _sequence_words(entry: Entry, ledger: Ledger, verdict: str) -> str:
    partition = entry.source_partition
    last = ledger.last_trigger(partition, entry.trigger_topic)
    return (
        f"partition {partition}: sequence {entry.sequence} where {ledger.next_sequence(partition)} is next, trigger "
        f"{entry.trigger_topic}:{entry.trigger_offset} after {last}: "
        + ("examples are missing" if verdict == "gap" else "sequence and trigger disagree")
    )
