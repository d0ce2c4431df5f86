"""A status for the eyes: what stands on the terminal, and in the line of the log."""

import io
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console

from stream_ml.observe.problems import problems, starting
from stream_ml.observe.status import FORMAT, NO_POINT, Status
from stream_ml.observe.terminal import Shown, line, panel

STATUS: dict[str, Any] = {
    "format": FORMAT,
    "app": "flights",
    "instance": "w1",
    "state": "running",
    "ready": True,
    "reasons": [],
    "warnings": ["learning is frozen; stream-ml resume CONFIG goes on"],
    "partitions": {
        "owned": {
            "0": {
                "events": {"position": 100, "end": 1300, "lag_records": 1200, "lag_seconds": 3.4},
                "feedback": {"position": 90, "end": 90, "lag_records": 0, "lag_seconds": 0.0},
                "watermark_ms": 1_600_000_000_000,
                "next_sequence": 80,
            },
            "1": {
                "events": {"position": 7, "end": None, "lag_records": None, "lag_seconds": 0.0},
                "feedback": {
                    "position": 0,
                    "end": 0,
                    "lag_records": 0,
                    "lag_seconds": 0.0,
                    "held_at": 0,
                    "held_seconds": 1.5,
                },
                "watermark_ms": None,
                "next_sequence": 0,
            },
        },
        "suspended": {"3": "why"},
    },
    "model": {
        "lineage": "35940ee9b80f232d",
        "position": 3288,
        "examples_learned": 3000,
        "examples_dropped": 0,
        "examples_far": 0,
        "lag_seconds": 0.25,
        "cost": {"learn": {"us": 16.0, "growth": 1.0}},
        "bytes": 1000,
        "bytes_max": 10**9,
        "halted": None,
        "frozen": True,
        "checkpoints_sealed": True,
        "cold_below": 1,
    },
    "models": {
        "epoch": 12,
        "serves": "35940ee9b80f232d",
        "answers": "35940ee9b80f232d",
        "superseded_seconds": 0.0,
        "refused": 0,
        "log_end": 3288,
        "lines": [
            {
                "lineage": "35940ee9b80f232d",
                "name": "build",
                "role": "serves",
                "ready": True,
                "position": 3288,
                "examples_learned": 3000,
                "left_seconds": None,
                "halted": None,
                "problem": "",
                "declared_by": "w1",
                "declared_ms": 1_600_000_000_000,
                "told": "serves, epoch 12",
            }
        ],
    },
    "quality_windows": {
        "last": {"examples": 1000, "measures": {"auc": 0.6, "auc_baseline": 0.5}, "delay_seconds": {"p50": 9.0}}
    },
    "concept": {"loss": 0.25, "drifted": False, "below_baseline": False},
    "first_backlog": {"left": 0, "events": 0},
    "latency_seconds": {"p50": 0.012, "p99": 0.2},
    "maturity": {"events": 900, "labelled_share": 0.4},
    "starving": [2],
    "drift": {
        "on": True,
        "referenced": True,
        "seen": 0,
        "of": 1000,
        "threshold": 0.2,
        "subjects": {"feature:x": {"psi": 0.31, "drifted": True}, "score": {"psi": 0.01, "drifted": False}},
    },
    "quality": {"auc": 0.714, "auc_baseline": 0.507, "log_loss": 0.51, "log_loss_baseline": 0.556, "accuracy": 0.8},
    "checkpoint": {"position": 3200, "age_seconds": 12.3},
    "pending": {
        "events": 4567,
        "labels": 0,
        "bytes": 12_000_000,
        "shed": 12,
        "max_per_partition": {"events": 10_000, "labels": 10_000, "bytes": 10**8},
    },
    "uptime_seconds": 61.5,
    "scores": [0, 1, 2],
    "last_predictions": [],
    "signals": [],
    "watch": {},
    "versions": {"python": "3.11"},
    "point": NO_POINT,
    "problems": [],
    "since_start": {
        "predictions": 5000,
        "labels.joined": 3000,
        "labels.late": 7,
        "dead_letters.truncated": 2,
        "labels": 3010,
    },
    "per_second": {"events": 1234.4, "labels": 567.0},
}
STATUS["problems"] = problems(STATUS)  # type: ignore[arg-type]


def shown(renderable: Any) -> str:
    """What a terminal of 120 columns would hold."""
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_panel_says_how_it_goes() -> None:
    said = shown(panel(STATUS))
    for text in (
        "flights / w1  ready",
        "1,234 /s",
        "5,000 predicted, 2 dead letters",
        "1,200 records (3 s) behind",
        "3,000 joined, 7 without an example",
        "35940ee9/3288, 3,000 examples, 0.2 s behind",
        "build: serves, epoch 12",
        "ROC AUC 0.714 (knowing only the labels 0.507); log loss 0.510 (knowing only the labels 0.556)",
        "4,567 events, 12 MB",
        "half within 12 ms, 99 of 100 within 200 ms",
        "ROC AUC 0.600 (knowing only the labels 0.500); 40% of the newest events have their label",
        "loss 0.250; inputs, against 0.2: x 0.31, score 0.01",
        "! feature x has moved away from its reference (index 0.31); type stream-ml rebaseline CONFIG",
        "! partition 2: labels stay away",
        "! 12 events were forgotten before their time",
        "2 owned, 1 suspended",
        "at 3200, 12 s ago",
        "! learning is frozen; stream-ml resume CONFIG goes on",
    ):
        assert text in said


def test_before_the_first_status_only_the_reason_is_shown() -> None:
    status = starting("flights", "w1", ["starting: reading the training log"])
    assert shown(panel(status)) == "flights / w1  not ready\n! not ready: starting: reading the training log\n"


def test_each_drawing_asks_for_the_newest_status() -> None:
    statuses = iter([STATUS, {**STATUS, "instance": "w2"}])
    view = Shown(lambda: next(statuses))
    assert "flights / w1" in shown(view) and "flights / w2" in shown(view)


def test_the_line_of_the_log_holds_the_same() -> None:
    assert line(STATUS) == (
        "1,234 events/s, 567 labels/s, 1,200 records (3 s) behind, 2 dead letters so far, model 35940ee9/3288, "
        "3,000 examples, learning 0 s "
        "behind, ROC AUC 0.714 (knowing only the labels 0.507), log loss 0.510 (knowing only the labels 0.556)"
    )


def test_without_a_labelled_prediction_no_quality_is_claimed() -> None:
    assert "no labelled prediction yet" in shown(panel({**STATUS, "quality": {}}))


def test_the_status_of_these_tests_is_one() -> None:
    assert TypeAdapter(Status).validate_python(STATUS, strict=True)["format"] == FORMAT
