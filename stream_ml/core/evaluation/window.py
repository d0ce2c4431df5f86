"""The last labelled predictions, one row each, and every measure of quality over a window of them.

A row holds seven numbers: label time and delay in ms, what came true, what was said, the probability behind it, and
what the baseline would have said, with which probability. Classes stand as their number in sorted order.

=============  ==================  ==================  ==================================
task           true                said                probability
=============  ==================  ==================  ==================================
binary         1 is positive       1 is positive       of the positive class, or nan
multiclass     number of a class   number of a class   of what came true, or nan
regression     the value           the value           nan
=============  ==================  ==================  ==================================
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROWS_MAX = 10_000  # the longest window of either kind: 1.1 MB of memory, 0.5 MB of a checkpoint
LEAST_PROBABILITY = 1e-15  # of the true class in a log loss, as River clips it: one miss costs at most 34.5
CALIBRATION_BINS = 10

Floats = NDArray[np.float64]


class Row(NamedTuple):
    """One labelled prediction; see the module's table."""

    label_ms: int
    delay_ms: int
    true: float
    said: float
    probability: float
    baseline_said: float
    baseline_probability: float


LABEL_MS, _, TRUE, SAID, PROBABILITY, BASELINE_SAID, BASELINE_PROBABILITY = range(7)  # columns of a matrix of rows


def matrix(rows: Sequence[Row]) -> Floats:
    """n rows as an n by 7 matrix."""
    return np.array(rows, np.float64).reshape(len(rows), len(Row._fields))


def as_rows(numbers: Floats) -> list[Row]:
    """An n by 7 matrix as n rows."""
    return [Row(int(label_ms), int(delay_ms), *rest) for label_ms, delay_ms, *rest in numbers.tolist()]


class Recent:
    """The last rows, ROWS_MAX at most, oldest first."""

    def __init__(self) -> None:
        self._rows = np.empty((2 * ROWS_MAX, len(Row._fields)))
        self._end = 0

    def extend(self, rows: Floats) -> None:
        """Add n rows, the newest ones; n by 7."""
        rows = rows[-ROWS_MAX:]
        if self._end + len(rows) > len(self._rows):
            kept = self.last(ROWS_MAX)
            self._rows[: len(kept)], self._end = kept, len(kept)
        self._rows[self._end : self._end + len(rows)] = rows
        self._end += len(rows)

    def last(self, count: int) -> Floats:
        """The last `count` rows, or as many as there are; n by 7."""
        return self._rows[max(0, self._end - min(count, ROWS_MAX)) : self._end].copy()

    def since(self, duration_ms: int) -> Floats:
        """The rows whose labels are not older than that before the newest one; n by 7."""
        rows = self.last(ROWS_MAX)
        times = rows[:, 0]
        return rows[times >= times.max() - duration_ms] if len(rows) else rows

    def state(self) -> Floats:
        """What a checkpoint keeps."""
        return self.last(ROWS_MAX)

    def restore(self, state: Floats) -> None:
        """Take back what `state` gave."""
        self._end = 0
        self.extend(state)


def measures(task: str, rows: Floats, classes: int) -> dict[str, float]:
    """Each measure under its name, and the baseline's under ``<name>_baseline``; empty without rows.

    Parameters
    ----------
    rows
        n by 7.
    classes
        How many there are; of a regression 0.
    """
    if not len(rows):
        return {}
    true = rows[:, 2]
    found: dict[str, float] = {}
    for end, (said, probability) in {"": (3, 4), "_baseline": (5, 6)}.items():
        of = _MEASURES[task](true, rows[:, said], rows[:, probability], classes)
        found |= {f"{name}{end}": float(value) for name, value in of.items() if math.isfinite(value)}
    if "auc_baseline" in found:
        found["auc_baseline"] = 0.5  # one guess for all has no order; what moves it within a window is noise
    return found


def delays(rows: Floats) -> dict[str, float]:
    """How long labels took, in seconds: median, nine in ten, 99 in a hundred; empty without rows."""
    if not len(rows):
        return {}
    found = np.quantile(rows[:, 1] / 1000, [0.5, 0.9, 0.99]).tolist()
    return dict(zip(("p50", "p90", "p99"), found, strict=True))


def _binary(true: Floats, said: Floats, probability: Floats, _: int) -> dict[str, float]:
    known = ~np.isnan(probability)
    counts = {(t, s): int(np.count_nonzero((true == t) & (said == s))) for t in (0, 1) for s in (0, 1)}
    found = from_confusion(counts[1, 1], counts[0, 1], counts[1, 0], counts[0, 0])
    if known.any():
        of_true = np.where(true == 1, probability, 1 - probability)[known]
        found["log_loss"] = -float(np.log(np.maximum(of_true, LEAST_PROBABILITY)).mean())
        found["auc"] = _auc(true[known] == 1, probability[known])
        bins = np.minimum((probability[known] * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        sums = [np.bincount(bins, of, CALIBRATION_BINS) for of in (probability[known], true[known])]
        found["calibration_error"] = float(np.abs(sums[0] - sums[1]).sum() / known.sum())
    return found


def from_confusion(hits: int, false_alarms: int, missed: int, correct_noes: int) -> dict[str, float]:
    """Accuracy, precision, recall and F1 out of counts; those that are 0/0 are 0, as in River."""
    of = hits + false_alarms + missed + correct_noes
    return {
        "accuracy": (hits + correct_noes) / of if of else 0.0,
        "precision": hits / (hits + false_alarms) if hits + false_alarms else 0.0,
        "recall": hits / (hits + missed) if hits + missed else 0.0,
        "f1": 2 * hits / (2 * hits + false_alarms + missed) if hits + false_alarms + missed else 0.0,
    }


def _auc(positive: NDArray[np.bool_], scores: Floats) -> float:
    """Probability that a positive scores above a negative, equal scores one half; 0.5 while one is missing.

    Source: Mann-Whitney's U from mean ranks.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = ((ends - counts) + (ends + 1)) / 2
    of_positives = int(positive.sum())
    pairs = of_positives * (len(positive) - of_positives)
    won = float(ranks[place][positive].sum()) - of_positives * (of_positives + 1) / 2
    return won / pairs if pairs else 0.5


def _multiclass(true: Floats, said: Floats, probability: Floats, classes: int) -> dict[str, float]:
    found = {"accuracy": float((true == said).mean()), "macro_f1": _macro_f1(true, said, classes)}
    known = ~np.isnan(probability)
    if known.any():
        found["log_loss"] = -float(np.log(np.maximum(probability[known], LEAST_PROBABILITY)).mean())
    return found


def _macro_f1(true: Floats, said: Floats, classes: int) -> float:
    """Mean F1 of the classes that came true or were said."""
    found = []
    for number in range(classes):
        hits = int(np.count_nonzero((true == number) & (said == number)))
        either = int(np.count_nonzero(true == number)) + int(np.count_nonzero(said == number))
        if either:
            found.append(2 * hits / either)
    return sum(found) / len(found) if found else 0.0


def _regression(true: Floats, said: Floats, _: Floats, __: int) -> dict[str, float]:
    errors = said - true
    spread = float(((true - true.mean()) ** 2).sum())
    squares = float((errors**2).sum())
    return {
        "mae": float(np.abs(errors).mean()),
        "rmse": math.sqrt(squares / len(errors)),
        "r2": 1 - squares / spread if spread else math.nan,
    }


_MEASURES: dict[str, Any] = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}
