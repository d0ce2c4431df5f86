"""The model of one lineage, as a fold of what the book gives to be learned. It has the bits that it would have alone.

1. Examples are learned in log order, one at a time, so every replica has the same bits.
2. What one model cannot learn halts that model alone; it keeps its version until the halt's command stands in the log.
3. `learn_one` that raised may have changed half of the model: it is *corrupted*. Its driver puts a successor in its
   place, from a checkpoint, which halts just before that example. So does it with one whose halt has ended.

Read first: `LineageModel.fold`, `_learn_run`, `_learn_one`.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from stream_ml.core.avro.framing import Rejected
from stream_ml.core.drift.signals import KEPT_MAX, Signal
from stream_ml.core.fold.batches import FoldSettings, Run, Single, features_of
from stream_ml.core.fold.book import Judged
from stream_ml.core.fold.halt import ENDING_A_HALT, Halt, HaltControl
from stream_ml.core.fold.health import CHECK_EVERY, NOT_FINITE, HealthCheck
from stream_ml.core.fold.limits import FIRST
from stream_ml.core.fold.model import Model
from stream_ml.core.fold.model_signals import command_signal, far_signal
from stream_ml.core.fold.way_out import halt_signal
from stream_ml.core.log.entry import Entry
from stream_ml.core.model.born_sets import keep_born_sets
from stream_ml.core.model.estimator import ModelFailed
from stream_ml.core.model.freezing import Freezing
from stream_ml.records import Version


class LineageModel:
    """One model that learns what a book has judged; one thread only.

    Attributes
    ----------
    position
        So many entries of the log are in it: less than the book's while it is halted.
    unusable
        Examples that it could not learn under its settings.
    freezing
        Whether a command, or its specification, has frozen its learning.
    signals
        What it has found.

    So many attributes: they are what a checkpoint keeps of it.
    """

    def __init__(self, settings: FoldSettings) -> None:
        self.settings = settings
        self.model = Model(settings)
        self.health = HealthCheck()
        self.halts = HaltControl(settings.lineage)
        self.position = self.unusable = 0
        self.freezing = Freezing(settings.selection)
        self.signals: deque[Signal] = deque(maxlen=KEPT_MAX)

    @property
    def version(self) -> Version:
        """Every prediction of it carries it."""
        return Version(self.settings.lineage, self.position)

    @property
    def examples_learned(self) -> int:
        """So many examples it has learned."""
        return self.model.examples_learned

    @property
    def frozen(self) -> bool:
        """Whether nothing is learned, by a command or by its specification."""
        return self.freezing.frozen

    @property
    def halt(self) -> Halt | None:
        """Where its learning is halted; None while it is not."""
        return self.halts.current

    @property
    def corrupted(self) -> bool:
        """Whether it cannot be used any more."""
        return self.halts.corrupted

    @property
    def is_to_be_remade(self) -> bool:
        """Whether a successor has to take its place: it is corrupted, or a command has ended its halt."""
        return self.halts.corrupted or self.halts.refold_from is not None

    @property
    def is_healthy(self) -> bool:
        """Whether it answers to its probe examples with finite numbers.

        A checkpoint of one that does not is useless, and the log never gives what it predicts: once the fold finds it,
        learning halts at the example that did it. Asked before each batch; nothing is done twice for one model.
        """
        return not self.halts.corrupted and self.health.is_healthy(self.model.learner, self.model.examples_learned)

    # --- what is given to be learned ---

    def fold(self, judged: Sequence[Judged]) -> None:
        """Take what the book has judged, each once, in order."""
        for one in judged:
            if isinstance(one.item, Run):
                self._fold_selected(one.item)
            else:
                self._fold_single(one, one.item)

    def _fold_single(self, one: Judged, single: Single) -> None:
        entry, offset = single.entry, single.record.offset
        if self.halts.current is not None:
            if entry is not None and one.obeyed:
                self.halts.obey(entry)
                if self.halts.refold_from is not None:
                    self.freezing.halt_ended(self.halts.refold_from, entry)
            return
        self.freezing.reach(self.position, offset)
        if entry is not None and one.learns:
            if not self.settings.selection.excludes(offset):
                self._example(offset, single, entry)
        elif entry is not None and one.obeyed:
            self._obey(offset, entry)
        if self.halts.current is None:
            self.position = offset + 1

    def _obey(self, offset: int, entry: Entry) -> None:
        said = entry.parsed_arguments()
        named = said.get("lineage")
        if named not in (None, self.settings.lineage):
            if entry.command in ("freeze", "resume", *ENDING_A_HALT):
                self.freezing.of_another(offset)
            return
        changes = False
        if entry.command in ("freeze", "resume"):
            changes = self.freezing.obey(offset, entry, own=named is not None)
        elif entry.command in ENDING_A_HALT:
            changes = self.halts.overrides.ends(entry.command, said.get("position"))
        if changes:
            self.signals.append(command_signal(self.settings.lineage, entry, offset))
            self._may_report(offset)

    def _example(self, offset: int, single: Single, entry: Entry) -> None:
        features = single.features
        if isinstance(features, Halt):
            features = features_of(self.settings, entry)  # its schema may stand in the log just before it
        if features is None or isinstance(features, Rejected | Halt) or not self.settings.domain.fits(entry.target):
            # Written under other settings, which is another lineage: nothing to learn here.
            self.unusable += 1
        else:
            self._learn(offset, features, self.settings.domain.y(entry.target), entry.written_at_ms)

    # --- a run ---

    def _fold_selected(self, run: Run) -> None:
        """Learn those of a run that the specification selects; the others are passed."""
        selection = self.settings.selection
        while run.size and self.halts.current is None:
            offset = run.records[0].offset
            self.freezing.reach(self.position, offset)
            part, run = run.before(selection.next_bound(offset))
            if selection.excludes(offset):
                self.position = part.records[-1].offset + 1
            else:
                self._fold_run(part)

    def _fold_run(self, run: Run) -> None:
        """Learn a run in a few loops, as far as there is nothing to say about it; the rest one by one."""
        if self.halts.current is not None:
            return
        if self.frozen and not self.halts.noted_after(run.records[0].offset):
            self.position = run.records[-1].offset + 1
            return
        lead = min(run.size, max(0, CHECK_EVERY - self.model.examples_learned))  # where probes are gathered
        self._learn_singles(run.some(0, lead))
        rest = run.some(lead, run.size)
        while rest.size and self._is_usual(rest):
            plain = rest.some(0, min(rest.size, self.model.limits.until_next))
            plain = plain.some(0, self.model.limits.first_far(plain.names, plain.rows, plain.ys, plain.extremes))
            done = self._learn_run(plain) if plain.size else 0
            if done < plain.size or not plain.size:  # the next one is to be judged alone
                self._learn_singles(rest.some(done, done + 1))
                done += 1
            rest = rest.some(done, rest.size)
        self._learn_singles(rest)

    def _is_usual(self, run: Run) -> bool:
        """Whether nothing is known of these examples that has to be said at one of them."""
        if self.halts.current is not None or self.frozen or self.health.each_after is not None:
            return False
        enough = self.model.examples_learned >= CHECK_EVERY
        return enough and not self.halts.noted_after(run.records[0].offset)

    def _learn_singles(self, run: Run) -> None:
        for number, record in enumerate(run.records):
            if self.halts.current is None:
                self._learn(record.offset, run.features(number), run.ys[number], run.written_at_ms[number])
            if self.halts.current is None:
                self.position = record.offset + 1

    def _learn_run(self, run: Run) -> int:
        """Learn the examples of a run; the row of the one that halted learning, else how many they are."""
        first, began, taken = 0, 0, list[Sequence[Any]]()
        while first < run.size:
            last = min(run.size, first + CHECK_EVERY - self.model.examples_learned % CHECK_EVERY)
            rows, ys = self.model.limits.clip_rows(run.names, run.rows[first:last]), run.ys[first:last]
            learned, failed = self.model.learner.learn_in_order(run.names, rows, ys)
            self.model.examples_learned += learned
            first += learned
            if failed is not None:
                self._raised(run.records[first].offset, failed)
            else:
                taken += rows
                if self.model.limits.names_others:  # what is one too many depends on the rows before it
                    self.model.learned_many(run, began, taken)
                    began, taken = first, []
                if not self._check_health(run.records[last - 1].offset, dict(zip(run.names, rows[-1], strict=True))):
                    first = last - 1
            if first:
                self.position = run.records[first - 1].offset + 1
            if self.halts.current is not None:
                break
        self.model.learned_many(run, began, taken)
        return first

    # --- one example ---

    def _learn(self, offset: int, features: dict[str, Any], y: Any, at_ms: int) -> None:
        """Learn the example at this offset, unless it is to be left out, or learning frozen or halted here."""
        override, stop_at = self.halts.overrides.get(offset), self.halts.stop_at
        if override != "skip" and stop_at is not None and offset == stop_at.position:
            self.halts.current = stop_at._replace(corrupted=False)
        elif override == "skip":
            self._pass_halt(offset, at_ms)
        elif not self.frozen and (override is not None or self._judge(offset, features, y, at_ms)):
            self._learn_one(offset, features, y, at_ms)
        if override is not None and override != "skip" and self.halts.current is None:
            self._pass_halt(offset, at_ms)

    def _pass_halt(self, offset: int, at_ms: int) -> None:
        """Tell a halt that was ended, where its position is passed for good."""
        halt = self.halts.overrides.passed(offset)
        if halt is not None:
            self.signals.append(halt_signal(self.settings.lineage, halt, at_ms))

    def _judge(self, offset: int, features: dict[str, Any], y: Any, at_ms: int) -> bool:
        """Whether an example is to be learned: not where it is far from all others, and the quarantine is strict."""
        why, mode = self.model.limits.why_far(features, y), self.settings.quarantine
        if not why:
            return True
        if mode == "halt":
            self.halts.current = Halt(offset, "far_example", why)
            return False
        if self.model.far.met(offset, self.model.limits.seen):
            self.signals.append(self._far(offset, why, at_ms))
        if mode == "divert":
            self.model.limits.saw_one(features, y)
        return self._may_report(offset) and mode != "divert"

    def _far(self, offset: int, why: str, at_ms: int) -> Signal:
        left_out = self.settings.quarantine == "divert"
        return far_signal(self.settings.lineage, offset, why, at_ms, count=self.model.far.count, left_out=left_out)

    def _may_report(self, offset: int) -> bool:
        """Check a model that has just found a signal: a corrupted one halts before it, in every replica alike."""
        if not self.signals or self.signals[-1].position != offset or self.is_healthy:
            return True
        self.halts.current = Halt(offset, "not_finite", NOT_FINITE, corrupted=True, exact=False)
        return False

    def _learn_one(self, offset: int, features: dict[str, Any], y: Any, at_ms: int) -> None:
        self.model.limits.keep_first(offset, features, y)
        features = self.model.limits.clip_one(features)
        try:
            self.model.learner.learn_y(features, y)
        except ModelFailed as error:
            self._raised(offset, error)
            return
        self.model.examples_learned += 1
        self.model.limits.saw_one(features, y)
        again = self.model.limits.begin_again() if self.model.limits.seen == FIRST else []
        if not again or self._begin_again(again, offset, at_ms):
            self._check_health(offset, features)

    def _begin_again(self, first: Sequence[tuple[int, dict[str, Any], Any]], offset: int, at_ms: int) -> bool:
        """Learn the first examples anew, now that it is known which of them is unlike the others.

        It is reported here, at `offset`: what was reported before stands in its order.
        """
        divert = self.settings.quarantine == "divert"
        self.model.begin(self.settings.build())
        self.model.examples_learned = 0
        for position, features, y in first:
            why = self.model.limits.why_far(features, y)
            if why and self.model.far.met(position, self.model.limits.seen):
                self.signals.append(self._far(position, why, at_ms)._replace(position=offset))
            if why and divert:
                continue
            try:
                self.model.learner.learn_y(self.model.limits.clip_one(features), y)
            except ModelFailed as error:
                self._raised(position, error)
                return False
            self.model.examples_learned += 1
        self.health.probes = [self.model.limits.clip_one(features) for features in self.health.probes]
        return self._may_report(offset)

    def _raised(self, offset: int, error: ModelFailed) -> None:
        self.halts.current = Halt(offset, "model_raised", f"learn_one raised {error}", corrupted=True)

    def _check_health(self, offset: int, features: dict[str, Any]) -> bool:
        """After an example was learned: check the model where that is due; False where it halted learning."""
        number = self.model.examples_learned
        if self.health.learned(self.model.learner, number, features):
            return True
        exact = self.health.each(number)
        self.halts.current = Halt(offset, "not_finite", NOT_FINITE, corrupted=True, exact=exact)
        return False

    # --- a successor ---

    def successor(self, restored: "LineageModel") -> "LineageModel":
        """The model to take the place of this one, which is to be remade; it goes on from its own position.

        A failed health check comes at a later example than the one that corrupted the model: the successor is checked
        after every example, so that all replicas halt at the same one.

        Parameters
        ----------
        restored
            From a checkpoint at or before the halt; a new one is made where it is later than the last healthy example.
        """
        halt = self.halts.current
        assert halt is not None  # noqa: S101
        if not halt.exact and restored.examples_learned > self.health.healthy_examples:
            restored = LineageModel(self.settings)
        open_halts = restored.halts.overrides.state()
        restored.halts.overrides = self.halts.overrides.handed_on()
        restored.halts.overrides.restore(open_halts)
        if halt.corrupted:
            restored.halts.stop_at = halt if halt.exact else None
            restored.health.each_after = None if halt.exact else self.health.healthy_examples
        restored.freezing.commanded = restored.freezing.commanded.and_of(self.freezing.commanded)
        return restored

    def recovered(self) -> None:
        """Check it from now on where others check theirs: what corrupted the predecessor is behind."""
        self.health.each_after = None

    # --- what others ask ---

    def probe_bits(self) -> list[tuple[str, ...]]:
        """What it says of its probe examples, to the last bit: the identity of a replica."""
        return self.health.bits(self.model.learner)

    def signals_after(self, position: int, at_ms: int) -> list[Signal]:
        """What it has found after this position, in its order, a halt included."""
        halt = self.halts.current
        if halt is not None and halt.corrupted:
            return []  # its successor finds them, without those of examples since the model was corrupted
        found = [signal for signal in self.signals if signal.position > position]
        if halt is not None and halt.position > position:
            found.append(halt_signal(self.settings.lineage, halt, at_ms))
        return found

    # --- a checkpoint's content ---

    def state(self) -> dict[str, Any]:
        """Everything that it has accumulated; only while not halted."""
        assert self.halts.current is None  # noqa: S101 - a halted one's position is not the book's
        return {
            "estimator": self.model.learner.estimator,
            "position": self.position,
            "examples_learned": self.model.examples_learned,
            "healthy_examples": self.health.healthy_examples,
            "unusable": self.unusable,
            **self.freezing.state(),
            "open_halts": self.halts.overrides.state(),
            "probes": self.health.probes,
            "limits": self.model.limits.state(),
            "far": self.model.far.state(),
            "signals": [signal.plain() for signal in self.signals],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.model.begin(keep_born_sets(state["estimator"], self.settings.build()))
        self.position, self.unusable = state["position"], state["unusable"]
        self.freezing.restore(state)
        self.model.examples_learned = state["examples_learned"]
        self.health.healthy_examples, self.health.probes = state["healthy_examples"], state["probes"]
        self.halts.overrides.restore(state["open_halts"])
        self.model.limits.restore(state["limits"])
        self.model.far.restore(state["far"])
        told = (
            Signal(**{**signal, "origin": self.settings.lineage}) for signal in state["signals"]
        )  # of a seed its own
        self.signals = deque(told, maxlen=KEPT_MAX)
