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

from stream_ml.core.evaluation.metrics import (
    Accuracy,
    BinnedRocAuc,
    ConfusionMatrix,
    Floats,
    MeanLogLoss,
    macro_f1,
    regression_errors,
)

ROWS_MAX = 10_000  # the longest window of either kind: 1.1 MB of memory, 0.5 MB of a checkpoint


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


class RecentPredictions:
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

    def within(self, duration_ms: int) -> Floats:
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
        of = measured(task, true, rows[:, said], rows[:, probability], classes)
        found |= {f"{name}{end}": value for name, value in of.items()}
    if "auc_baseline" in found:
        found["auc_baseline"] = 0.5  # one guess for all has no order; what moves it within a window is noise
    return found


def measured(task: str, true: Floats, said: Floats, probability: Floats, classes: int) -> dict[str, float]:
    """Each measure of n predictions under its name, one at least; those that are not defined are left out."""
    of: dict[str, float] = _MEASURES[task](true, said, probability, classes)
    return {name: float(value) for name, value in of.items() if math.isfinite(value)}


def delays(rows: Floats) -> dict[str, float]:
    """How long the labels of rows took: see `delay_quantiles`."""
    return delay_quantiles(rows[:, 1])


def delay_quantiles(delay_ms: NDArray[Any]) -> dict[str, float]:
    """How long labels took, in seconds: median, nine in ten, 99 in a hundred; empty without any."""
    if not len(delay_ms):
        return {}
    found = np.quantile(delay_ms / 1000, [0.5, 0.9, 0.99]).tolist()
    return dict(zip(("p50", "p90", "p99"), found, strict=True))


def _binary(true: Floats, said: Floats, probability: Floats, _: int) -> dict[str, float]:
    found = ConfusionMatrix.of(true, said)
    known = ~np.isnan(probability)
    if known.any():
        positive, scores = true[known] == 1, probability[known]
        found["log_loss"] = MeanLogLoss.of(np.where(positive, scores, 1 - scores))
        found["auc"] = BinnedRocAuc.of(positive, scores)
        found["calibration_error"] = BinnedRocAuc.calibration_error_of(positive, scores)
    return found


def _multiclass(true: Floats, said: Floats, probability: Floats, classes: int) -> dict[str, float]:
    found = {"accuracy": Accuracy.of(true, said), "macro_f1": macro_f1(true, said, classes)}
    known = ~np.isnan(probability)
    if known.any():
        found["log_loss"] = MeanLogLoss.of(probability[known])
    return found


def _regression(true: Floats, value: Floats, _: Floats, __: int) -> dict[str, float]:
    return regression_errors(true, value)


_MEASURES: dict[str, Any] = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}
