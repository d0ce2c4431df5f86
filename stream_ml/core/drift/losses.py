"""The loss of a labelled prediction and of its baseline, from 0 to 1, and sums over the last of them.

Sums are of integers (millionths), so they do not depend on the order in which rows enter and leave a window.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from operator import mul

import numpy as np

from stream_ml.core.evaluation.metrics import Floats
from stream_ml.core.evaluation.window import (
    BASELINE_PROBABILITY,
    BASELINE_SAID,
    PROBABILITY,
    SAID,
    TRUE,
    Row,
)

UNIT = 1_000_000


class LossWindow:
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
        return standard_error(len(self.numbers), self.sum, self.squares)

    def last(self, count: int) -> list[int]:
        """The newest `count` numbers, or as many as there are."""
        return list(islice(self.numbers, max(0, len(self.numbers) - count), None))


class Losses:
    """Losses of the predictions of a task; of a regression each depends on the ones before.

    Parameters
    ----------
    size
        Labels whose baseline errors make the scale of a regression.
    """

    def __init__(self, task: str, size: int) -> None:
        self._task = task
        self.scale = LossWindow(size)  # logarithms of the baseline's absolute errors

    def of_one(self, row: Row) -> tuple[float, float]:
        """Of the prediction and of the baseline; hit or miss of both where no probability was said."""
        if self._task == "regression":
            return self._scaled(row)
        if row.probability != row.probability:
            return float(row.true != row.said), float(row.true != row.baseline_said)
        if self._task == "binary":
            return abs(row.true - row.probability), abs(row.true - row.baseline_probability)
        return 1.0 - row.probability, 1.0 - row.baseline_probability

    def of_many(self, rows: Floats) -> tuple[Floats, Floats]:
        """Losses of n rows, n by 7, of a task whose loss has no scale.

        Fast path of `of_one`, with the same bits: tests/equivalence/test_batches.py.
        """
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
            self.scale.add(math.log(errors[1]))
        scale = math.exp(self.scale.mean())
        first, second = (error / (error + scale) if error > 0 else 0.0 for error in errors)
        return first, second


def integers(numbers: Floats) -> list[int]:
    """As `int` makes them."""
    found: list[int] = numbers.astype(np.int64).tolist()
    return found


def standard_error(count: int, total: int, squares: int) -> float:
    """Of the mean of `count` numbers in millionths, from their sum and the sum of their squares."""
    variance = squares / count - (total / count) ** 2 if count else 0.0
    return math.sqrt(max(0.0, variance) / count) / UNIT if count else 0.0


def mean_and_error(numbers: Sequence[int]) -> tuple[float, float]:
    """Of numbers in millionths; 0 of none."""
    total = sum(numbers)
    squares = sum(number * number for number in numbers)
    return (total / len(numbers) / UNIT, standard_error(len(numbers), total, squares)) if numbers else (0.0, 0.0)
