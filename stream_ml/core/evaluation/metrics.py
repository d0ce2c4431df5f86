"""Measures of quality, each in both ways in which it is computed.

As a class it is kept up example by example, in the fold: every replica has the same bits. `of` computes it from all
rows of a window at once. Where River's own class is kept up (MacroF1, MAE, RMSE, R2) only the second stands here.
tests/core/evaluation/test_window.py holds both equal.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

AUC_BINS = 1_000  # an AUC is then right to about 0.001
CALIBRATION_BINS = 10
LEAST_PROBABILITY = 1e-15  # of the true class in a log loss, as River clips it: one miss costs at most 34.5

Floats = NDArray[np.float64]


class BinnedRocAuc:
    """ROC AUC over scores from 0 to 1, kept as counts per bin; ties within a bin count one half."""

    def __init__(self) -> None:
        self.counts = ([0] * (AUC_BINS + 1), [0] * (AUC_BINS + 1))

    def update(self, y_true: bool, score: float) -> None:
        """Count one score."""
        self.counts[y_true][int(score * AUC_BINS)] += 1

    def update_many(self, trues: NDArray[np.bool_], scores: Floats) -> None:
        """Count n."""
        for counts, some in zip(self.counts, (scores[~trues], scores[trues]), strict=True):
            for number in (some * AUC_BINS).astype(np.int64).tolist():
                counts[number] += 1

    def get(self) -> float:
        """Probability that a positive scores above a negative; 0.5 while one of them is missing."""
        below, won = 0, 0.0
        for negatives, positives in zip(*self.counts, strict=True):
            won += positives * (below + 0.5 * negatives)
            below += negatives
        total = below * sum(self.counts[True])
        return won / total if total else 0.5

    def calibration_error(self) -> float:
        """Mean distance of a score from the share of positives among its tenth; right to 1 / AUC_BINS.

        Source: expected calibration error (Naeini et al. 2015), ten bins of equal width.
        """
        found, width = 0.0, AUC_BINS // CALIBRATION_BINS
        for first in range(0, AUC_BINS, width):
            last = first + width if first + width < AUC_BINS else AUC_BINS + 1
            negatives, positives = (of[first:last] for of in self.counts)
            scores = sum((first + n + 0.5) * sum(both) for n, both in enumerate(zip(negatives, positives, strict=True)))
            found += abs(scores / AUC_BINS - sum(positives))
        total = sum(map(sum, self.counts))
        return found / total if total else 0.0

    @staticmethod
    def of(positive: NDArray[np.bool_], scores: Floats) -> float:
        """Exactly, of n scores: probability that a positive scores above a negative; 0.5 while one is missing.

        Source: Mann-Whitney's U from mean ranks.
        """
        _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks = ((ends - counts) + (ends + 1)) / 2
        of_positives = int(positive.sum())
        pairs = of_positives * (len(positive) - of_positives)
        won = float(ranks[place][positive].sum()) - of_positives * (of_positives + 1) / 2
        return won / pairs if pairs else 0.5

    @staticmethod
    def calibration_error_of(positive: NDArray[np.bool_], scores: Floats) -> float:
        """Exactly, of n scores, one at least."""
        bins = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        sums = [np.bincount(bins, of, CALIBRATION_BINS) for of in (scores, positive)]
        return float(np.abs(sums[0] - sums[1]).sum() / len(scores))


class Accuracy:
    """Share of predictions that came true."""

    def __init__(self) -> None:
        self.hits, self.count = 0, 0

    def update(self, y_true: object, y_pred: object) -> None:
        """Count one prediction."""
        self.hits += y_true == y_pred
        self.count += 1

    def get(self) -> float:
        """The share; 0 before the first."""
        return self.hits / self.count if self.count else 0.0

    @staticmethod
    def of(true: Floats, said: Floats) -> float:
        """Of n predictions, one at least."""
        return float((true == said).mean())


class ConfusionMatrix:
    """Counts of a binary task: what came true, by what was said."""

    def __init__(self) -> None:
        self.counts = [0, 0, 0, 0]  # true noes, false alarms, missed, hits: 2 * true + said

    def update(self, y_true: bool, said: bool) -> None:
        """Count one prediction."""
        self.counts[2 * y_true + said] += 1

    def update_many(self, trues: NDArray[np.bool_], said: NDArray[np.bool_]) -> None:
        """Count n."""
        found = np.bincount(2 * trues + said, minlength=4).tolist()
        self.counts = [count + more for count, more in zip(self.counts, found, strict=True)]

    def report(self) -> dict[str, float]:
        """Accuracy, precision, recall and F1; 0 where there is nothing to divide by."""
        noes, false_alarms, missed, hits = self.counts
        return _from_confusion(hits, false_alarms, missed, noes)

    @staticmethod
    def of(true: Floats, said: Floats) -> dict[str, float]:
        """The report of n predictions; 1 stands for yes."""
        counts = {(t, s): int(np.count_nonzero((true == t) & (said == s))) for t in (0, 1) for s in (0, 1)}
        return _from_confusion(counts[1, 1], counts[0, 1], counts[1, 0], counts[0, 0])


class MeanLogLoss:
    """Mean of -ln of the probability that was given to what came true."""

    def __init__(self) -> None:
        self.sum, self.count = 0.0, 0

    def update(self, probability: float) -> None:
        """Count the probability of the true class."""
        self.update_many([probability])

    def update_many(self, probabilities: Sequence[float]) -> None:
        """Take n probabilities, one after the other: floats add up to the same only in the same order."""
        total, log = self.sum, math.log
        for probability in probabilities:
            total -= log(probability if probability > LEAST_PROBABILITY else LEAST_PROBABILITY)
        self.sum = total
        self.count += len(probabilities)

    def get(self) -> float:
        """The mean; 0 before the first."""
        return self.sum / self.count if self.count else 0.0

    @staticmethod
    def of(probabilities: Floats) -> float:
        """Of n probabilities of what came true, one at least."""
        return -float(np.log(np.maximum(probabilities, LEAST_PROBABILITY)).mean())


def _from_confusion(hits: int, false_alarms: int, missed: int, correct_noes: int) -> dict[str, float]:
    """Accuracy, precision, recall and F1 out of counts; those that are 0/0 are 0, as in River."""
    of = hits + false_alarms + missed + correct_noes
    return {
        "accuracy": (hits + correct_noes) / of if of else 0.0,
        "precision": hits / (hits + false_alarms) if hits + false_alarms else 0.0,
        "recall": hits / (hits + missed) if hits + missed else 0.0,
        "f1": 2 * hits / (2 * hits + false_alarms + missed) if hits + false_alarms + missed else 0.0,
    }


def macro_f1(true: Floats, said: Floats, classes: int) -> float:
    """Mean F1 of the classes that came true or were said, of n predictions: River's MacroF1, of a window."""
    found = []
    for number in range(classes):
        hits = int(np.count_nonzero((true == number) & (said == number)))
        either = int(np.count_nonzero(true == number)) + int(np.count_nonzero(said == number))
        if either:
            found.append(2 * hits / either)
    return sum(found) / len(found) if found else 0.0


def regression_errors(true: Floats, said: Floats) -> dict[str, float]:
    """Of n predictions, one at least: River's MAE, RMSE and R2, of a window."""
    errors = said - true
    spread = float(((true - true.mean()) ** 2).sum())
    squares = float((errors**2).sum())
    return {
        "mae": float(np.abs(errors).mean()),
        "rmse": math.sqrt(squares / len(errors)),
        "r2": 1 - squares / spread if spread else math.nan,
    }
