"""Quality over windows: each measure as River's for the same predictions, beside the baseline's."""

import random
from typing import Any

import numpy as np
import pytest
from river import metrics

from stream_ml.core.avro.texts import scores_text
from stream_ml.core.evaluation.progressive import Quality
from stream_ml.core.evaluation.window import ROWS_MAX, RecentPredictions, Row, delays, matrix, measures
from stream_ml.records import Served, Target
from tests.support.partition import T0, parts

SECOND, HOUR = 1_000, 3_600_000


def said(class_name: str | None, score: float | None, scores: Any = None, value: float | None = None) -> Served:
    return Served(class_name, score, None if scores is None else scores_text(scores), value, "l", 7, ())


def binary_rows(count: int) -> tuple[Quality, list[tuple[bool, float]]]:
    source, quality, pairs = random.Random(3), Quality(parts().domain), []
    for number in range(count):
        y = source.random() < 0.3
        score = min(1.0, max(0.0, source.gauss(0.65 if y else 0.4, 0.2)))
        pairs.append((y, score))
        target = Target("true" if y else "false", None)
        label_ms = T0 + number * SECOND
        quality.update(target, said("true", score), label_ms, label_ms - HOUR * (number % 3))
    return quality, pairs


def test_every_measure_of_a_binary_window_is_rivers() -> None:
    quality, pairs = binary_rows(3_000)
    of_river = {
        "accuracy": metrics.Accuracy(),
        "precision": metrics.Precision(),
        "recall": metrics.Recall(),
        "f1": metrics.F1(),
        "log_loss": metrics.LogLoss(),
        "auc": metrics.ROCAUC(n_thresholds=2_000),
    }
    for y, score in pairs[-1_000:]:
        for name, metric in of_river.items():
            metric.update(y, score if name in ("log_loss", "auc") else score >= 0.5)  # type: ignore[attr-defined]
    found = quality.windows(1_000, HOUR)["last"]
    assert found["examples"] == 1_000
    for name, metric in of_river.items():
        assert found["measures"][name] == pytest.approx(metric.get(), abs=2e-3 if name == "auc" else 1e-5), name  # type: ignore[attr-defined]


def test_whole_life_and_a_window_of_all_of_it_say_the_same() -> None:
    quality, _ = binary_rows(2_000)
    life, window = quality.report(), quality.windows(2_000, 10 * HOUR)["last"]["measures"]
    assert life.keys() == window.keys()
    for name, value in life.items():
        assert window[name] == pytest.approx(value, abs=2e-3 if name != "auc_baseline" else 0.05), name


def test_calibration_error_is_the_gap_between_scores_and_what_came_true() -> None:
    rows = np.array([Row(0, 0, float(n % 10 < 3), 1.0, 0.9, 1.0, 0.3) for n in range(1_000)])
    found = measures("binary", rows, 2)
    assert found["calibration_error"] == pytest.approx(0.6)
    assert found["calibration_error_baseline"] == pytest.approx(0.0, abs=1e-12)


def test_window_by_time_ends_with_the_newest_label() -> None:
    quality, _ = binary_rows(3_000)
    assert quality.windows(10, 500 * SECOND)["since"]["examples"] == 501


def test_delays_are_told_in_seconds() -> None:
    quality, _ = binary_rows(300)
    assert quality.windows(300, HOUR)["last"]["delay_seconds"]["p50"] == 3_600
    assert delays(np.empty((0, 7))) == {}


def test_no_more_rows_are_kept_than_the_longest_window_has() -> None:
    recent = RecentPredictions()
    rows = matrix([Row(number, 0, 1.0, 1.0, 0.5, 1.0, 0.5) for number in range(3 * ROWS_MAX + 5)])
    for first in range(0, len(rows), 999):
        recent.extend(rows[first : first + 999])
        seen = rows[: first + 999]
        assert np.array_equal(recent.last(len(rows)), seen[-ROWS_MAX:])
        assert np.array_equal(recent.last(7), seen[-7:])
    again = RecentPredictions()
    again.restore(recent.state())
    again.extend(rows[:1])
    assert np.array_equal(again.last(ROWS_MAX), [*rows[1 - ROWS_MAX :], rows[0]])
    again.extend(rows)
    assert np.array_equal(again.state(), recent.state())


def test_multiclass_and_regression_windows_are_rivers() -> None:
    source = random.Random(5)
    classes, values = Quality(parts("multiclass").domain), Quality(parts("regression").domain)
    accuracy, f1, log_loss = metrics.Accuracy(), metrics.MacroF1(), metrics.LogLoss()
    mae, rmse, r2 = metrics.MAE(), metrics.RMSE(), metrics.R2()
    for number in range(500):
        y = source.choice("aab")
        scores = {"a": 0.5, "b": 0.3, "c": 0.2} if source.random() < 0.7 else {"a": 0.2, "b": 0.7, "c": 0.1}
        best = max(scores, key=scores.__getitem__)
        classes.update(Target(y, None), said(best, scores[best], scores), T0 + number, T0)
        accuracy.update(y, best)
        f1.update(y, best)
        log_loss.update(True, scores[y])
        value = source.gauss(0, 1)
        guess = value + source.gauss(0, 0.5)
        values.update(Target(None, value), said(None, None, None, guess), T0 + number, T0)
        for metric in (mae, rmse, r2):
            metric.update(value, guess)
    found = classes.windows(500, HOUR)["last"]["measures"]
    assert found["accuracy"] == pytest.approx(accuracy.get()) and found["log_loss"] == pytest.approx(log_loss.get())
    assert found["macro_f1"] == pytest.approx(f1.get())
    found = values.windows(500, HOUR)["last"]["measures"]
    assert [found[n] for n in ("mae", "rmse", "r2")] == pytest.approx([mae.get(), rmse.get(), r2.get()])
    assert found["mae"] < found["mae_baseline"]


def test_nothing_is_said_of_no_rows() -> None:
    assert Quality(parts().domain).windows(100, HOUR)["last"] == {"examples": 0, "measures": {}, "delay_seconds": {}}
