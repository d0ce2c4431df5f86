"""A worker's status for the eyes: a few lines on a terminal, made anew several times a second.

rich is imported where something is drawn: a worker that nobody watches starts without it.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from stream_ml.observe.problems import backlog_words, printable
from stream_ml.observe.status import AnyStatus, CheckpointStatus, Latency, ModelsStatus, ModelStatus, Point, Status

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

# The first metric of a task that is there is shown, with its baseline.
METRICS = {"auc": "ROC AUC", "log_loss": "log loss", "accuracy": "accuracy", "mae": "MAE", "rmse": "RMSE", "r2": "R2"}
SHOWN_METRICS = 2
STYLES = {"critical": "bold red", "warning": "yellow", "info": "dim"}


def panel(status: AnyStatus) -> "RenderableType":
    """The status as lines; while a worker starts, only why it is not ready."""
    from rich.console import Group
    from rich.text import Text

    title = Text(f"{status['app']} / {status['instance']}  ", style="bold")
    title.append("ready" if status["ready"] else "not ready", style="green" if status["ready"] else "yellow")
    lines: list[Any] = [title]
    if "model" in status:
        lines.append(_table(status))
    for one in status["problems"]:
        sign = "!!" if one["severity"] == "critical" else "!"
        told = Text(f"{sign} {printable(one['text'])}", style=STYLES[one["severity"]])
        lines.append(told.append(f"; type {one['suggestion']}" if one["suggestion"] else ""))
    return Group(*lines)


def line(status: Status) -> str:
    """The status in one line, for a log."""
    rates, model = status["per_second"], status["model"]
    return (
        f"{rates['events']:,.0f} events/s, {rates['labels']:,.0f} labels/s, {_lag(status, 'events')} behind, "
        f"{_sum(status['since_start'], 'dead_letters'):,} dead letters so far, model {_version(model)}, "
        f"{model['examples_learned']:,} examples, learning {model['lag_seconds']:.0f} s behind"
        + "".join(f", {text}" for text in _quality(status["quality"]))
        + (f"; {backlog_words(status['first_backlog'])}" if status["first_backlog"]["left"] else "")
    )


def point(status: Status) -> Point:
    """What a chart keeps of a status; times in unix seconds."""
    owned = status["partitions"]["owned"].values()
    shown = next((name for name in METRICS if f"{name}_baseline" in status["quality"]), "")
    last = status["quality_windows"].get("last")
    window = {} if last is None else last["measures"]
    return {
        "at": round(time.time(), 1),
        "events": status["per_second"]["events"],
        "labels": status["per_second"]["labels"],
        "lag_seconds": max((partition["events"]["lag_seconds"] for partition in owned), default=0.0),
        "learning_lag_seconds": status["model"]["lag_seconds"],
        "p50": status["latency_seconds"]["p50"],
        "p99": status["latency_seconds"]["p99"],
        "metric": METRICS.get(shown, ""),
        "quality": window.get(shown),
        "baseline": window.get(f"{shown}_baseline"),
        "loss": status["concept"]["loss"],
    }


def _table(status: Status) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    since, rates, model = status["since_start"], status["per_second"], status["model"]
    owned, suspended = status["partitions"]["owned"], status["partitions"]["suspended"]
    joined, dead_letters = since.get("labels.joined", 0), _sum(since, "dead_letters")
    rows = [
        (
            "events",
            f"{rates['events']:>9,.0f} /s",
            f"{since.get('predictions', 0):,} predicted, {dead_letters:,} dead letters",
        ),
        ("", "", f"{_lag(status, 'events')} behind"),
        (
            "labels",
            f"{rates['labels']:>9,.0f} /s",
            f"{joined:,} joined, {_sum(since, 'labels') - since.get('labels', 0) - joined:,} without an example",
        ),
        (
            "model",
            "",
            f"{_version(model)}, {model['examples_learned']:,} examples, {model['lag_seconds']:.1f} s behind",
        ),
        *(("" if number else "models", "", text) for number, text in enumerate(_models(status["models"]))),
        ("latency", "", _latency(status["latency_seconds"])),
        ("quality", "", "; ".join(_quality(status["quality"])) or "no labelled prediction yet"),
        ("  recent", "", _recent(status)),
        ("drift", "", _drift(status)),
        ("pending", "", f"{status['pending']['events']:,} events, {status['pending']['bytes'] / 1e6:,.0f} MB"),
        ("partitions", "", f"{len(owned)} owned" + (f", {len(suspended)} suspended" if suspended else "")),
        ("checkpoint", "", _checkpoint(status["checkpoint"])),
    ]
    for name, rate, text in rows:
        table.add_row(Text(name, style="dim"), Text(rate), Text(text))  # plain text would be markup
    return table


def _sum(since: dict[str, int], prefix: str) -> int:
    return sum(count for name, count in since.items() if name.partition(".")[0] == prefix)


def _version(model: ModelStatus) -> str:
    return f"{model['lineage'][:8]}/{model['position']}"


def _models(models: ModelsStatus) -> list[str]:
    """Who serves, and each that stands by; a line each."""
    return [
        f"{one['name'] or one['lineage'][:8]}: {one['told']}"
        for one in models["lines"]
        if one["role"] in ("serves", "standby") or one["lineage"] == models["answers"]
    ]


def _lag(status: Status, topic: Literal["events", "feedback"]) -> str:
    lags = [partition[topic] for partition in status["partitions"]["owned"].values()]
    records = sum(lag["lag_records"] or 0 for lag in lags)
    return f"{records:,} records ({max((lag['lag_seconds'] for lag in lags), default=0):,.0f} s)"


def _quality(quality: dict[str, float]) -> list[str]:
    named = [name for name in METRICS if name in quality and f"{name}_baseline" in quality][:SHOWN_METRICS]
    return [f"{METRICS[n]} {quality[n]:.3f} (knowing only the labels {quality[f'{n}_baseline']:.3f})" for n in named]


def _latency(latency: Latency) -> str:
    if latency["p50"] is None:
        return "nothing scored in the last minute"
    return f"half within {1000 * latency['p50']:,.0f} ms, 99 of 100 within {1000 * (latency['p99'] or 0):,.0f} ms"


def _recent(status: Status) -> str:
    window, maturity = status["quality_windows"].get("last"), status["maturity"]
    told = "; ".join(_quality(window["measures"])) if window else ""
    share = f"{maturity['labelled_share']:.0%} of the newest events have their label" if maturity else ""
    return "; ".join(text for text in (told, share) if text) or "no labels yet"


def _drift(status: Status) -> str:
    drift, concept = status["drift"], status["concept"]
    if not drift["referenced"]:
        return f"loss {concept['loss']:.3f}; inputs: reference of {drift['of']:,} events is being made"
    most = sorted(drift["subjects"].items(), key=lambda item: -item[1]["psi"])[:3]
    told = ", ".join(f"{name.removeprefix('feature:')} {of['psi']:.2f}" for name, of in most)
    return f"loss {concept['loss']:.3f}; inputs, against {drift['threshold']:g}: {told or 'first window not full yet'}"


def _checkpoint(checkpoint: CheckpointStatus) -> str:
    position, age_s = checkpoint["position"], checkpoint["age_seconds"]
    return "none yet" if position is None or age_s is None else f"at {position}, {age_s:.0f} s ago"


class Shown:
    """A renderable that asks for the newest status each time it is drawn."""

    def __init__(self, status: Callable[[], AnyStatus]) -> None:
        self._status = status

    def __rich__(self) -> "RenderableType":
        return panel(self._status())
