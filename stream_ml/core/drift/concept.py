"""Concept drift and quality below its baseline, inside of the fold: every replica finds the same at the same position.

1. The detector sees one bounded loss per labelled prediction, in log order; what is not finite never reaches it (one
   NaN makes ADWIN blind for ever).
2. A rising loss is drift; a falling one is what learning is for, and only ends a drift that was reported.
3. Sums are of integers (millionths), so they do not depend on the order in which rows enter and leave a window.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from itertools import chain, islice
from operator import mul
from typing import Any, NamedTuple

import numpy as np

from stream_ml.core.drift.signals import KEPT_MAX, Kind, Severity, Signal
from stream_ml.core.evaluation.window import (
    BASELINE_PROBABILITY,
    BASELINE_SAID,
    LABEL_MS,
    PROBABILITY,
    SAID,
    TRUE,
    Floats,
    Row,
    as_rows,
)

UNIT = 1_000_000
RECENT = 200  # losses whose mean is "now" when the detector fires
LEAST = 300  # losses since the last change before a drift is reported: an untrained model's loss moves
LOOK_EVERY = 64  # rows between two looks at the baseline and at a recovery
SURE = 3.0  # standard errors by which a loss must have risen, or the baseline be better
RECOVERED = 0.25  # of the rise may be left
SETTLED = 10  # windows after which a loss that stays high is what is normal now
DETECTORS = {  # River's classes; those of `binary` see whether a prediction missed
    "adwin": "river.drift:ADWIN",
    "page-hinkley": "river.drift:PageHinkley",
    "kswin": "river.drift:KSWIN",
    "ddm": "river.drift.binary:DDM",
    "eddm": "river.drift.binary:EDDM",
    "hddm-a": "river.drift.binary:HDDMA",
    "hddm-w": "river.drift.binary:HDDMW",
}


def detector_of(name: str, params: Mapping[str, Any]) -> Any:
    """A new detector of River's; None for ``none``. TypeError or ValueError where it does not take the parameters."""
    if name == "none":
        return None
    module, _, attribute = DETECTORS[name].partition(":")
    return getattr(import_module(module), attribute)(**params)


class Window:
    """The sum, and the sum of squares, of the last `size` numbers, as integers of a millionth."""

    def __init__(self, size: int) -> None:
        self.numbers: deque[int] = deque(maxlen=size)
        self.sum = self.squares = 0

    def add(self, number: float) -> None:
        """Take one; the oldest goes when the window is full."""
        self.extend([int(number * UNIT)])

    def extend(self, new: Sequence[int]) -> None:
        """Add some values that are integers already."""
        held = self.numbers
        gone = list(islice(chain(held, new), max(0, len(held) + len(new) - (held.maxlen or 0))))
        held.extend(new)
        self.sum += sum(new) - sum(gone)
        self.squares += sum(map(mul, new, new)) - sum(map(mul, gone, gone))

    def restore(self, numbers: Iterable[int]) -> None:
        """Fill an empty one with what another held."""
        self.numbers.extend(numbers)
        self.sum = sum(self.numbers)
        self.squares = sum(number * number for number in self.numbers)

    @property
    def full(self) -> bool:
        """Whether it holds `size` numbers."""
        return len(self.numbers) == self.numbers.maxlen

    def mean(self) -> float:
        """Of what it holds; 0 of nothing."""
        return self.sum / len(self.numbers) / UNIT if self.numbers else 0.0

    def error(self) -> float:
        """Standard error of the mean."""
        return _error(len(self.numbers), self.sum, self.squares)


class ConceptMonitor:
    """Watches the loss of what was served; `signals` has what it found, the last KEPT_MAX.

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
        self._begin()

    def _begin(self) -> None:
        self.detector = self._make()
        self.losses, self.worse = Window(self._size), Window(self._size)  # than the baseline: above 0
        self.watched = self.losses if self._watch == "loss" else Window(self._size)
        self._since = [0, 0]  # number and sum of what is watched, since the last change
        self._scale = Window(self._size)  # logarithms of the baseline's absolute errors
        self.suspicion: dict[str, float] | None = None
        self.drifted: dict[str, float] | None = None
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
        loss, baseline = self._losses(row)
        worse = loss * loss - baseline * baseline
        watched = loss if self._watch == "loss" else (1.0 + worse) / 2
        given = row.true != row.said if self._binary else watched
        seen = _Seen(
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
        losses, baselines = self._losses_many(rows)
        worse = losses * losses - baselines * baselines
        watched = losses if self._watch == "loss" else (1.0 + worse) / 2
        given = rows[:, TRUE] != rows[:, SAID] if self._binary else watched
        seen = _Seen(
            losses=_integers(losses * UNIT),
            worse=_integers(worse * UNIT),
            watched=_integers(watched * UNIT),
            given=given.tolist(),
            label_ms=_integers(rows[:, LABEL_MS]),
            positions=positions,
        )
        taken, told = 0, False
        while taken < len(rows) and not told:
            count, told = self._take(seen.some(taken, taken + LOOK_EVERY - self._count % LOOK_EVERY), origin)
            taken += count
        return taken

    def _take(self, seen: "_Seen", origin: str) -> tuple[int, bool]:
        """Take n, all before the next look, up to the first at which the detector fires: how many; whether it told."""
        count, changed = self._look_at(seen)
        said = _Said(self.signals, origin, seen.positions[count - 1], seen.label_ms[count - 1])
        if changed:
            self._changed(said)
        if self._count % LOOK_EVERY == 0:
            self._confirm(said)
            self._recovery(said)
            self._against_baseline(said)
        return count, said.told

    def _look_at(self, seen: "_Seen") -> tuple[int, bool]:
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
        self._since[0] += count
        self._since[1] += sum(watched)
        self._count += count
        return count, changed

    def command(self, command: str, origin: str, position: int, at_ms: int) -> None:
        """An operator's command took effect: it is reported, and `rebaseline` forgets what was before."""
        kind, words = _COMMANDS[command]
        if command == "rebaseline":
            self._begin()
        _Said(self.signals, origin, position, at_ms).add(kind, "learning", "info", {}, words, "stream-ml top CONFIG")

    def _losses(self, row: Row) -> tuple[float, float]:
        """Of the prediction and of the baseline, from 0 to 1; hit or miss of both where no probability was said."""
        if self._task == "regression":
            return self._scaled(row)
        if row.probability != row.probability:
            return float(row.true != row.said), float(row.true != row.baseline_said)
        if self._task == "binary":
            return abs(row.true - row.probability), abs(row.true - row.baseline_probability)
        return 1.0 - row.probability, 1.0 - row.baseline_probability

    def _losses_many(self, rows: Floats) -> tuple[Floats, Floats]:
        """Losses of many rows, of a task whose loss has no scale."""
        found, missing = [], np.isnan(rows[:, PROBABILITY])
        for said, probability in ((SAID, PROBABILITY), (BASELINE_SAID, BASELINE_PROBABILITY)):
            of = rows[:, probability]
            losses = np.abs(rows[:, TRUE] - of) if self._task == "binary" else 1.0 - of
            found.append(np.where(missing, rows[:, TRUE] != rows[:, said], losses))
        return found[0], found[1]

    def _scaled(self, row: Row) -> tuple[float, float]:
        """e / (e + s) of the absolute error e, where s is the geometric mean of the baseline's last ones.

        So it has no unit, and one outlier moves it by a factor at most.
        """
        errors = abs(row.true - row.said), abs(row.true - row.baseline_said)
        if errors[1] > 0:
            self._scale.add(math.log(errors[1]))
        scale = math.exp(self._scale.mean())
        first, second = (error / (error + scale) if error > 0 else 0.0 for error in errors)
        return first, second

    def _changed(self, said: "_Said") -> None:
        """The detector fired: what the loss was before is kept until the rise is sure, or RECENT rows have come."""
        count, total = self._since
        recent = self._last(RECENT)
        if count >= LEAST:
            before = (total - sum(recent)) / max(1, count - len(recent)) / UNIT
            self.suspicion = {"before": before, "labels": float(count), "until": float(self._count + RECENT)}
        self._since = [len(recent), sum(recent)]
        self._confirm(said)

    def _confirm(self, said: "_Said") -> None:
        suspicion = self.suspicion
        if suspicion is None:
            return
        before, now, spread = suspicion["before"], *_mean_and_error(self._last(RECENT))
        if now - before <= SURE * spread:
            if self._count >= suspicion["until"]:
                self.suspicion = None
            return
        self.suspicion = None
        if self.drifted is not None:
            return  # it is told already, until it is over
        self.drifted = {"before": before, "worst": now, "count": 0.0}
        evidence = {"mean_before": before, "mean_now": now, "labels_since_last_change": suspicion["labels"]}
        words = f"the {self._name} rose from {before:.3f} to {now:.3f}: what was learned holds less than it did"
        said.add("drift", "loss", "warning", evidence, words, "stream-ml top CONFIG")

    @property
    def _name(self) -> str:
        return "loss" if self._watch == "loss" else "loss beside the baseline's"

    def _last(self, count: int) -> list[int]:
        numbers = self.watched.numbers
        return list(islice(numbers, max(0, len(numbers) - count), None))

    def _recovery(self, said: "_Said") -> None:
        drifted = self.drifted
        if drifted is None:
            return
        drifted["count"] += LOOK_EVERY
        now, _ = _mean_and_error(self._last(RECENT))
        drifted["worst"] = max(drifted["worst"], now)
        level = drifted["before"] + RECOVERED * (drifted["worst"] - drifted["before"])
        since, _ = _mean_and_error(self._last(min(int(drifted["count"]), self._size)))
        back = drifted["count"] >= RECENT and since <= level and now <= level
        if not back and drifted["count"] < SETTLED * self._size:
            return
        evidence = {"mean_before": drifted["before"], "mean_worst": drifted["worst"], "mean_now": now}
        self.drifted = None
        words = (
            f"the {self._name} is back at {now:.3f}" if back else f"the {self._name} stays at {now:.3f}: the new normal"
        )
        said.add("recovered" if back else "rebaselined", "loss", "info", evidence, words, "stream-ml top CONFIG")

    def _against_baseline(self, said: "_Said") -> None:
        """Below: worse by SURE standard errors over a full window; above again: better."""
        mean = self.worse.mean()
        if not self.below and self.worse.full and mean > SURE * self.worse.error() and mean > 0:
            self.below = True
            evidence = {"mean_loss": self.losses.mean(), "worse_than_baseline": mean, "labels": float(self._size)}
            words = "over the last labels a guess that knows only their frequencies does better than what was served"
            said.add("below_baseline", "quality", "critical", evidence, words, "stream-ml tail CONFIG training-log")
        elif self.below and mean < 0:
            self.below = False
            evidence = {"mean_loss": self.losses.mean(), "worse_than_baseline": mean}
            said.add("recovered", "quality", "info", evidence, "better than the baseline again", "stream-ml top CONFIG")

    def _windows(self) -> dict[str, Window]:
        found = {"losses": self.losses, "worse": self.worse, "_scale": self._scale}
        return found if self.watched is self.losses else found | {"watched": self.watched}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain values and the detector."""
        detector = {} if self.detector is None else vars(self.detector)
        return {
            **{name: list(window.numbers) for name, window in self._windows().items()},
            "detector": {name: value for name, value in detector.items() if not callable(value)},
            **{name: getattr(self, name) for name in _PLAIN},
            "signals": [{**signal._asdict(), "evidence": dict(signal.evidence)} for signal in self.signals],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._begin()
        for name, window in self._windows().items():
            window.restore(state[name])
        for name in _PLAIN:
            setattr(self, name, state[name])
        if self.detector is not None:
            vars(self.detector).update(state["detector"])
        self.signals = deque((Signal(**signal) for signal in state["signals"]), maxlen=KEPT_MAX)


_PLAIN = ("_since", "suspicion", "drifted", "below", "_count")
_COMMANDS: dict[str, tuple[Kind, str]] = {
    "skip": ("resumed", "skip: one example is left out, and learning goes on"),
    "accept": ("resumed", "accept: an example that is far from all others is learned, and learning goes on"),
    "accept-gap": ("resumed", "accept-gap: examples are missing, and learning goes on"),
    "freeze": ("frozen", "freeze: nothing is learned until resume"),
    "resume": ("resumed", "resume: learning goes on"),
    "rebaseline": ("rebaselined", "rebaseline: what is now is the reference of every drift"),
}
REPORTED_COMMANDS = frozenset(_COMMANDS)


class _Seen(NamedTuple):
    """n labelled predictions in log order: losses and what is watched in millionths, and what the detector is given."""

    losses: Sequence[int]
    worse: Sequence[int]
    watched: Sequence[int]
    given: Sequence[float]
    label_ms: Sequence[int]
    positions: Sequence[int]

    def some(self, first: int, stop: int) -> "_Seen":
        """Those from `first` to before `stop`, as far as there are."""
        of = slice(first, stop)
        return _Seen(
            losses=self.losses[of],
            worse=self.worse[of],
            watched=self.watched[of],
            given=self.given[of],
            label_ms=self.label_ms[of],
            positions=self.positions[of],
        )


class _Said:
    """Where a finding goes, and its identity."""

    def __init__(self, signals: deque[Signal], origin: str, position: int, at_ms: int) -> None:
        self._signals, self._origin, self._position, self._at_ms = signals, origin, position, at_ms
        self.told = False

    def add(
        self, kind: Kind, subject: str, severity: Severity, evidence: Mapping[str, float], words: str, suggestion: str
    ) -> None:
        self._signals.append(
            Signal(
                origin=self._origin,
                kind=kind,
                subject=subject,
                position=self._position,
                severity=severity,
                since_ms=self._at_ms,
                evidence=evidence,
                message=words,
                suggestion=suggestion,
            )
        )
        self.told = True


def _integers(numbers: Floats) -> list[int]:
    """As `int` makes them."""
    found: list[int] = numbers.astype(np.int64).tolist()
    return found


def _error(count: int, total: int, squares: int) -> float:
    variance = squares / count - (total / count) ** 2 if count else 0.0
    return math.sqrt(max(0.0, variance) / count) / UNIT if count else 0.0


def _mean_and_error(numbers: list[int]) -> tuple[float, float]:
    total = sum(numbers)
    squares = sum(number * number for number in numbers)
    return (total / len(numbers) / UNIT, _error(len(numbers), total, squares)) if numbers else (0.0, 0.0)
