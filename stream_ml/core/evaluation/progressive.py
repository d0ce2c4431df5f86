"""Progressive validation of what was served, beside a baseline that knows only the labels.

Updated once per example in log order, so every replica has the same bits. ROC AUC comes from counts of scores in
bins: River's metric with as many thresholds takes 390 us an update, this 0.3 us. The rolling windows are computed where
they are asked for, out of the last rows (see `window`).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river import metrics

from stream_ml.core.avro.fields import MAGNITUDE_MAX
from stream_ml.core.avro.texts import scores_of
from stream_ml.core.evaluation.labelled import Labelled, LabelledColumns, ScoredColumns
from stream_ml.core.evaluation.metrics import Accuracy, BinnedRocAuc, ConfusionMatrix, Floats, MeanLogLoss
from stream_ml.core.evaluation.window import (
    BASELINE_PROBABILITY,
    BASELINE_SAID,
    PROBABILITY,
    SAID,
    RecentPredictions,
    Row,
    delays,
    matrix,
    measures,
)
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.estimator import is_probability
from stream_ml.records import Served, Target

_NAN: Final = math.nan


class Quality:
    """Metrics of the served predictions, and the same metrics of the baseline.

    The baseline predicts the labels' frequencies so far, each class counted once more than it was seen (Laplace), or
    their mean. A prediction that was not served, is cold or unsound, or no probability is left out of both, so that
    the two are compared on equal terms.
    """

    def __init__(self, domain: LabelDomain) -> None:
        self._domain = domain
        self.count = 0
        self.left_out = 0
        self.recent = RecentPredictions()
        self._numbers = {name: float(number) for number, name in enumerate(domain.classes)}
        self._labels: Counter[str] = Counter()
        self._total = 0  # of them
        self._mean = (0.0, 0)
        of_task = {"regression": self._update_regression, "binary": self._update_binary}
        self._update = of_task.get(domain.task, self._update_multiclass)
        self._served_metrics, self._baseline_metrics = _metrics(domain.task), _metrics(domain.task)

    def update(self, target: Target, served: Served, label_ms: int, event_ms: int) -> Row | None:
        """Count one labelled prediction, then the baseline learns the label; the row that it is, if it counts.

        Parameters
        ----------
        label_ms, event_ms
            Times of the label and of its event.
        """
        row = self._counted(Labelled.of(self._domain.y(target), served, label_ms, event_ms))
        if row is not None:
            self.recent.extend(matrix([row]))
        return row

    def update_many(self, labelled: LabelledColumns, first: int, stop: int) -> tuple[Sequence[int], Floats]:
        """Take n labelled predictions, one after the other: which count, k of `range(n)`, and their rows, k by 7.

        Fast path of `update`, with the same bits: tests/equivalence/test_batches.py.
        """
        scored = labelled.scored(first, stop) if self._domain.task == "binary" else None
        if scored is not None:
            known, rows = self._binaries(scored)
        else:
            each = [self._counted(one) for one in labelled.rows(first, stop)]
            known = [number for number, row in enumerate(each) if row is not None]
            rows = matrix([row for row in each if row is not None])
        self.recent.extend(rows)
        return known, rows

    def _counted(self, one: Labelled) -> Row | None:
        row = None
        if one.position >= 0 and one.usable and self._usable(one):
            self.count += 1
            row = Row(one.label_ms, one.label_ms - one.event_ms, *self._update(one))
        else:
            self.left_out += 1
        self._learn(one.y)
        return row

    def _usable(self, one: Labelled) -> bool:
        if self._domain.task == "regression":
            return one.value is not None and abs(one.value) <= MAGNITUDE_MAX
        if one.class_name is None or not (one.score is None or 0.0 <= one.score <= 1.0):
            return False
        try:
            return one.scores is None or all(map(is_probability, scores_of(one.scores).values()))
        except ValueError:
            return False

    def _learn(self, y: Any) -> None:
        if self._domain.task == "regression":
            mean, count = self._mean
            self._mean = (mean + (y - mean) / (count + 1), count + 1)
        else:
            self._learn_many([y])

    def _learn_many(self, ys: Sequence[Any]) -> None:
        """Take n labels that are classes."""
        names = ys
        if self._domain.task == "binary":
            positive, negative = self._domain.positive, self._domain.negative
            names = [positive if y else negative for y in ys]
        self._labels.update(names)
        self._total += len(names)

    def _frequency(self, class_name: str) -> float:
        return (self._labels[class_name] + 1) / (self._total + len(self._domain.classes))

    def _update_binary(self, one: Labelled) -> tuple[float, ...]:
        threshold, name = self._domain.threshold, self._domain.positive
        said = one.class_name == name if one.score is None else one.score >= threshold
        frequency = self._frequency(name)
        _count(self._baseline_metrics, one.y, frequency >= threshold, frequency)
        _count(self._served_metrics, one.y, said, one.score)
        return one.y, said, _NAN if one.score is None else one.score, frequency >= threshold, frequency

    def _binaries(self, labelled: ScoredColumns) -> tuple[Sequence[int], Floats]:
        """Take many binary predictions with a score, in a fifth of the time."""
        threshold, name = self._domain.threshold, self._domain.positive
        trues, scores = labelled.ys, labelled.scores
        positives = self._labels[name] + np.cumsum(trues)
        frequencies = (positives - trues + 1) / (self._total + 2 + np.arange(len(trues)))
        delays_ms, said = labelled.label_ms - labelled.event_ms, scores >= threshold
        columns = (labelled.label_ms, delays_ms, trues, said, scores, frequencies >= threshold, frequencies)
        rows = np.column_stack(columns)
        usable = labelled.said & labelled.usable & (scores >= 0.0) & (scores <= 1.0) & (labelled.positions >= 0)
        known: Sequence[int] = range(len(trues))
        if not usable.all():
            known, rows, trues = np.flatnonzero(usable).tolist(), rows[usable], trues[usable]
        _count_many(self._served_metrics, trues, rows[:, SAID], rows[:, PROBABILITY])
        _count_many(self._baseline_metrics, trues, rows[:, BASELINE_SAID], rows[:, BASELINE_PROBABILITY])
        self.count += len(known)
        self.left_out += len(labelled.ys) - len(known)
        self._learn_many(labelled.ys.tolist())
        return known, rows

    def _update_multiclass(self, one: Labelled) -> tuple[float, ...]:
        y, class_name, found = one.y, one.class_name, self._served_metrics
        scores = None if one.scores is None else scores_of(one.scores)
        found["accuracy"].update(y, class_name)
        found["macro_f1"].update(y, class_name)
        probability = _NAN if scores is None else scores.get(y, 0.0)
        if scores is not None:
            found["log_loss"].update(probability)
        found, majority = self._baseline_metrics, ""
        if self._labels:
            majority = max(sorted(self._labels), key=lambda name: self._labels[name])
            found["accuracy"].update(y, majority)
            found["macro_f1"].update(y, majority)
        frequency = self._frequency(y)
        found["log_loss"].update(frequency)
        number = self._numbers
        said = number.get(class_name or "", -1.0)
        return number[y], said, probability, number.get(majority, -1.0), frequency

    def _update_regression(self, one: Labelled) -> tuple[float, ...]:
        mean = self._mean[0]
        for name in self._served_metrics:
            self._served_metrics[name].update(one.y, one.value)
            self._baseline_metrics[name].update(one.y, mean)
        return one.y, one.value or 0.0, _NAN, mean, _NAN

    def report(self) -> dict[str, float]:
        """Each metric under its name, and the baseline's under ``<name>_baseline``; empty before the first."""
        if not self.count:
            return {}
        return _reported(self._served_metrics, "") | _reported(self._baseline_metrics, "_baseline")

    def windows(self, count: int, duration_ms: int) -> dict[str, dict[str, Any]]:
        """Quality over the last `count` predictions and over those whose labels came last, with how long that took."""
        both = {"last": self.recent.last(count), "since": self.recent.within(duration_ms)}
        task, classes = self._domain.task, len(self._domain.classes)
        return {
            name: {"examples": len(rows), "measures": measures(task, rows, classes), "delay_seconds": delays(rows)}
            for name, rows in both.items()
        }

    def state(self) -> Any:
        """What a checkpoint keeps."""
        both = (self._served_metrics, self._baseline_metrics)
        return (self.count, self.left_out, self._labels, self._mean, *both, self.recent.state())

    def restore(self, state: Any) -> None:
        """Take back what `state` gave."""
        self.count, self.left_out, self._labels, self._mean, *both, recent = state
        self._served_metrics, self._baseline_metrics = both
        self.recent.restore(recent)
        self._total = self._labels.total()


def _count(found: dict[str, Any], y_true: bool, said: bool, score: float | None) -> None:
    """Count a prediction of a binary task."""
    found["classes"].update(y_true, said)
    if score is not None:
        found["auc"].update(y_true, score)
        found["log_loss"].update(score if y_true else 1.0 - score)


def _count_many(found: dict[str, Any], trues: NDArray[np.bool_], said: Floats, scores: Floats) -> None:
    """Count n predictions that have a score; 1 stands for the positive class."""
    found["classes"].update_many(trues, said == 1)
    found["auc"].update_many(trues, scores)
    found["log_loss"].update_many(np.where(trues, scores, 1.0 - scores).tolist())


def _metrics(task: str) -> dict[str, Any]:
    if task == "binary":
        return {"auc": BinnedRocAuc(), "log_loss": MeanLogLoss(), "classes": ConfusionMatrix()}
    if task == "multiclass":
        return {"accuracy": Accuracy(), "macro_f1": metrics.MacroF1(), "log_loss": MeanLogLoss()}
    return {"mae": metrics.MAE(), "rmse": metrics.RMSE(), "r2": metrics.R2()}


def _reported(found: dict[str, Any], end: str) -> dict[str, float]:
    report: dict[str, float] = {}
    for name, metric in found.items():
        if isinstance(metric, ConfusionMatrix):
            report |= {f"{measure}{end}": value for measure, value in metric.report().items()}
        else:
            report[f"{name}{end}"] = float(metric.get())
        if isinstance(metric, BinnedRocAuc):
            report[f"calibration_error{end}"] = metric.calibration_error()
    return report
