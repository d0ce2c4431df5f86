"""Concept drift and quality below its baseline, inside of the fold: every replica finds the same at the same position.

1. The detector sees one bounded loss per labelled prediction, in log order; what is not finite never reaches it (one
   NaN makes ADWIN blind for ever).
2. A rising loss is drift; a falling one is what learning is for, and only ends a drift that was reported.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stream_ml.core.drift.losses import UNIT, Losses, LossWindow, integers, mean_and_error
from stream_ml.core.drift.signals import KEPT_MAX, Kind, Severity, Signal
from stream_ml.core.evaluation.metrics import Floats
from stream_ml.core.evaluation.window import LABEL_MS, SAID, TRUE, Row, as_rows

RECENT = 200  # losses whose mean is "now" when the detector fires
LEAST = 300  # losses since the last change before a drift is reported: an untrained model's loss moves
LOOK_EVERY = 64  # rows between two looks at the baseline and at a recovery
SURE = 3.0  # standard errors by which a loss must have risen, or the baseline be better
RECOVERED = 0.25  # of the rise may be left
SETTLED = 10  # windows after which a loss that stays high is what is normal now


class Since(NamedTuple):
    """Labels since the last change, and the sum, in millionths, of what is watched in them."""

    labels: int
    total: int


class Suspicion(NamedTuple):
    """The detector fired, and the rise is not sure yet.

    `before` is the mean until then, over `labels` labels; it is given up at the label of number `until`.
    """

    before: float
    labels: float
    until: float


class Drifted(NamedTuple):
    """A drift that was reported and is not over: the mean before it, the worst since, and labels since."""

    before: float
    worst: float
    labels: float


class Finding(NamedTuple):
    """What is to be reported; `signal` gives it its place in the log."""

    kind: Kind
    subject: str
    severity: Severity
    evidence: Mapping[str, float]
    message: str
    suggestion: str

    def signal(self, origin: str, position: int, at_ms: int) -> Signal:
        """As a signal of a lineage, found at this position."""
        return Signal(
            origin=origin,
            kind=self.kind,
            subject=self.subject,
            position=position,
            severity=self.severity,
            since_ms=at_ms,
            evidence=self.evidence,
            message=self.message,
            suggestion=self.suggestion,
        )


class ConceptMonitor:
    """Watches the loss of what was served; `signals` has what it found, the last KEPT_MAX.

    So many attributes: five are its settings, four are sums over the last losses, the rest is what it has found so far.

    Parameters
    ----------
    task
        Of the model: says what a row's loss is.
    window
        Labelled predictions over which a recovery and the baseline are judged.
    make
        Gives a new detector, or None.
    watch
        ``loss``, or ``advantage``: how much worse than the baseline's it is, which a new share of labels moves less.
    binary
        Whether the detector takes misses instead.
    """

    def __init__(self, task: str, window: int, make: Callable[[], Any], *, watch: str, binary: bool) -> None:
        self._task, self._make, self._binary, self._size, self._watch = task, make, binary, window, watch
        self.signals: deque[Signal] = deque(maxlen=KEPT_MAX)
        self.begin()

    def begin(self) -> None:
        """Forget what was before; signals stay."""
        self.detector = self._make()
        self.losses, self.worse = LossWindow(self._size), LossWindow(self._size)  # than the baseline: above 0
        self.watched = self.losses if self._watch == "loss" else LossWindow(self._size)
        self._since = Since(0, 0)
        self._of = Losses(self._task, self._size)
        self.suspicion: Suspicion | None = None
        self.drifted: Drifted | None = None
        self.below = False
        self._count = 0

    def update(self, row: Row, origin: str, position: int) -> bool:
        """Take one labelled prediction; whether it showed something.

        Parameters
        ----------
        origin
            The lineage.
        position
            Offset of the prediction's example in the training log.
        """
        loss, baseline = self._of.of_one(row)
        worse = loss * loss - baseline * baseline
        watched = loss if self._watch == "loss" else (1.0 + worse) / 2
        given = row.true != row.said if self._binary else watched
        seen = _Chunk(
            losses=[int(loss * UNIT)],
            worse=[int(worse * UNIT)],
            watched=[int(watched * UNIT)],
            given=[given],
            label_ms=[row.label_ms],
            positions=[position],
        )
        return self._take(seen, origin)[1]

    def update_many(self, rows: Floats, origin: str, positions: Sequence[int]) -> int:
        """Take n rows, n by 7, in their order; how many were taken: up to the first that showed something.

        Fast path of `update`, with the same bits: tests/equivalence/test_batches.py.
        """
        if self._task == "regression":  # a scale follows each
            singles = zip(as_rows(rows), positions, strict=True)
            shown = (number for number, (row, at) in enumerate(singles, 1) if self.update(row, origin, at))
            return next(shown, len(rows))
        losses, baselines = self._of.of_many(rows)
        worse = losses * losses - baselines * baselines
        watched = losses if self._watch == "loss" else (1.0 + worse) / 2
        given = rows[:, TRUE] != rows[:, SAID] if self._binary else watched
        seen = _Chunk(
            losses=integers(losses * UNIT),
            worse=integers(worse * UNIT),
            watched=integers(watched * UNIT),
            given=given.tolist(),
            label_ms=integers(rows[:, LABEL_MS]),
            positions=positions,
        )
        taken, found = 0, False
        while taken < len(rows) and not found:
            count, found = self._take(seen.some(taken, taken + LOOK_EVERY - self._count % LOOK_EVERY), origin)
            taken += count
        return taken

    def _take(self, seen: "_Chunk", origin: str) -> tuple[int, bool]:
        """Take n, all before the next look, up to the first at which the detector fires.

        How many were taken, and whether anything was found.
        """
        count, changed = self._look_at(seen)
        findings = [*self._changed()] if changed else []
        if self._count % LOOK_EVERY == 0:
            findings += [*self._confirm(), *self._recovery(), *self._against_baseline()]
        for finding in findings:
            self.signals.append(finding.signal(origin, seen.positions[count - 1], seen.label_ms[count - 1]))
        return count, bool(findings)

    def _look_at(self, seen: "_Chunk") -> tuple[int, bool]:
        """Take what is before the next look, up to where the detector fires: how many, and whether it did."""
        count, changed = len(seen.given), False
        if self.detector is not None:
            detector = self.detector
            for number, value in enumerate(seen.given, 1):
                detector.update(value)
                if detector.drift_detected:
                    count, changed = number, True
                    break
        watched = seen.watched[:count]
        self.losses.extend(seen.losses[:count])
        self.worse.extend(seen.worse[:count])
        if self._watch != "loss":
            self.watched.extend(watched)
        self._since = Since(self._since.labels + count, self._since.total + sum(watched))
        self._count += count
        return count, changed

    def command(self, command: str, origin: str, position: int, at_ms: int) -> None:
        """An operator's command took effect: it is reported, and `rebaseline` forgets what was before."""
        if command == "rebaseline":
            self.begin()
        self.signals.append(command_finding(command).signal(origin, position, at_ms))

    def _changed(self) -> Iterator[Finding]:
        """The detector fired: what the loss was before is kept until the rise is sure, or RECENT rows have come."""
        count, total = self._since
        recent = self.watched.last(RECENT)
        if count >= LEAST:
            before = (total - sum(recent)) / max(1, count - len(recent)) / UNIT
            self.suspicion = Suspicion(before=before, labels=float(count), until=float(self._count + RECENT))
        self._since = Since(len(recent), sum(recent))
        yield from self._confirm()

    def _confirm(self) -> Iterator[Finding]:
        """Whether the loss has risen for sure since the detector fired."""
        suspicion = self.suspicion
        if suspicion is None:
            return
        before, now, spread = suspicion.before, *mean_and_error(self.watched.last(RECENT))
        if now - before <= SURE * spread:
            if self._count >= suspicion.until:
                self.suspicion = None
            return
        self.suspicion = None
        if self.drifted is not None:
            return  # it is reported already, until it is over
        self.drifted = Drifted(before=before, worst=now, labels=0.0)
        evidence = {"mean_before": before, "mean_now": now, "labels_since_last_change": suspicion.labels}
        words = f"the {self._name} rose from {before:.3f} to {now:.3f}: what was learned holds less than it did"
        yield Finding("drift", "loss", "warning", evidence, words, "stream-ml top CONFIG")

    @property
    def _name(self) -> str:
        return "loss" if self._watch == "loss" else "loss beside the baseline's"

    def _recovery(self) -> Iterator[Finding]:
        """Whether the loss is back, or so long high that this is what is normal now."""
        if self.drifted is None:
            return
        now, _ = mean_and_error(self.watched.last(RECENT))
        before, worst, labels = self.drifted.before, max(self.drifted.worst, now), self.drifted.labels + LOOK_EVERY
        self.drifted = Drifted(before=before, worst=worst, labels=labels)
        level = before + RECOVERED * (worst - before)
        since, _ = mean_and_error(self.watched.last(min(int(labels), self._size)))
        back = labels >= RECENT and since <= level and now <= level
        if not back and labels < SETTLED * self._size:
            return
        self.drifted = None
        evidence = {"mean_before": before, "mean_worst": worst, "mean_now": now}
        kind: Kind = "recovered" if back else "rebaselined"
        words = f"the {self._name} is back at {now:.3f}" if back else f"the {self._name} stays at {now:.3f}"
        words = words if back else f"{words}: the new normal"
        yield Finding(kind, "loss", "info", evidence, words, "stream-ml top CONFIG")

    def _against_baseline(self) -> Iterator[Finding]:
        """Below: worse by SURE standard errors over a full window; above again: better."""
        mean = self.worse.mean()
        if not self.below and self.worse.full and mean > SURE * self.worse.error() and mean > 0:
            self.below = True
            evidence = {"mean_loss": self.losses.mean(), "worse_than_baseline": mean, "labels": float(self._size)}
            words = "over the last labels a guess that knows only their frequencies does better than what was served"
            yield Finding(
                "below_baseline", "quality", "critical", evidence, words, "stream-ml tail CONFIG training-log"
            )
        elif self.below and mean < 0:
            self.below = False
            evidence = {"mean_loss": self.losses.mean(), "worse_than_baseline": mean}
            words = "better than the baseline again"
            yield Finding("recovered", "quality", "info", evidence, words, "stream-ml top CONFIG")

    def _windows(self) -> dict[str, LossWindow]:
        found = {"losses": self.losses, "worse": self.worse, "_scale": self._of.scale}
        return found if self.watched is self.losses else found | {"watched": self.watched}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain values and the detector."""
        detector = {} if self.detector is None else vars(self.detector)
        return {
            **{name: list(window.numbers) for name, window in self._windows().items()},
            "detector": {name: value for name, value in detector.items() if not callable(value)},
            "_since": list(self._since),
            "suspicion": None if self.suspicion is None else self.suspicion._asdict(),
            "drifted": None if self.drifted is None else self.drifted._asdict(),
            "below": self.below,
            "_count": self._count,
            "signals": [{**signal._asdict(), "evidence": dict(signal.evidence)} for signal in self.signals],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.begin()
        for name, window in self._windows().items():
            window.restore(state[name])
        self._since = Since(*state["_since"])
        self.suspicion = None if state["suspicion"] is None else Suspicion(**state["suspicion"])
        self.drifted = None if state["drifted"] is None else Drifted(**state["drifted"])
        self.below, self._count = state["below"], state["_count"]
        if self.detector is not None:
            vars(self.detector).update(state["detector"])
        self.signals = deque((Signal(**signal) for signal in state["signals"]), maxlen=KEPT_MAX)


_COMMANDS: dict[str, tuple[Kind, str]] = {
    "skip": ("resumed", "skip: one example is left out, and learning goes on"),
    "accept": ("resumed", "accept: an example that is far from all others is learned, and learning goes on"),
    "accept-gap": ("resumed", "accept-gap: examples are missing, and learning goes on"),
    "freeze": ("frozen", "freeze: nothing is learned until resume"),
    "resume": ("resumed", "resume: learning goes on"),
    "rebaseline": ("rebaselined", "rebaseline: what is now is the reference of every drift"),
}
REPORTED_COMMANDS = frozenset(_COMMANDS)


def command_finding(command: str) -> Finding:
    """What is to be reported of one of these that took effect."""
    kind, words = _COMMANDS[command]
    return Finding(kind, "learning", "info", {}, words, "stream-ml top CONFIG")


class _Chunk(NamedTuple):
    """n labelled predictions in log order: losses and what is watched in millionths, and what the detector is given."""

    losses: Sequence[int]
    worse: Sequence[int]
    watched: Sequence[int]
    given: Sequence[float]
    label_ms: Sequence[int]
    positions: Sequence[int]

    def some(self, first: int, stop: int) -> "_Chunk":
        """Those from `first` to before `stop`, as far as there are."""
        of = slice(first, stop)
        return _Chunk(
            losses=self.losses[of],
            worse=self.worse[of],
            watched=self.watched[of],
            given=self.given[of],
            label_ms=self.label_ms[of],
            positions=self.positions[of],
        )
