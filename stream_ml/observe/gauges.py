"""The gauges of a worker, as its status says them."""

from collections.abc import Collection

from stream_ml.observe.metrics import Metrics
from stream_ml.observe.status import Lag, ModelsStatus, Status


def set_gauges(metrics: Metrics, status: Status, *, above: Collection[str], learning_lag_s: float) -> None:
    """Set all that stands in a status.

    Parameters
    ----------
    above
        Names of the shares of the last records that are too large, of partitions that are owned.
    learning_lag_s
        As the follower says it; the status rounds it for people.
    """
    _of_model(metrics, status)
    _of_quality(metrics, status)
    pending, partitions = status["pending"], status["partitions"]
    metrics.set("ready", status["ready"])
    metrics.set("learning_lag_seconds", learning_lag_s)
    metrics.set("pending_events", pending["events"])
    metrics.set("pending_labels", pending["labels"])
    metrics.set("pending_bytes", pending["bytes"])
    metrics.set("partitions", len(partitions["owned"]), state="owned")
    metrics.set("partitions", len(partitions["suspended"]), state="suspended")
    _of_lags(metrics, "events", [partition["events"] for partition in partitions["owned"].values()])
    _of_lags(metrics, "feedback", [partition["feedback"] for partition in partitions["owned"].values()])
    for name, share in status["watch"].items():
        metrics.set("watched_ratio", share["share"] or 0.0, of=name)
        metrics.set("watched_above", name in above, of=name)
    for subject, values in status["drift"]["subjects"].items():
        metrics.set("drift_index", values["psi"], subject=subject)
        metrics.set("drifted", values["drifted"], subject=subject)
        metrics.set("feature_missing_ratio", values["missing"], subject=subject)
    if status["maturity"]:
        metrics.set("labelled_ratio", status["maturity"]["labelled_share"])
    metrics.set("first_backlog_events", status["first_backlog"]["left"])
    metrics.set("label_starvation", len(status["starving"]))


def _of_models(metrics: Metrics, models: ModelsStatus) -> None:
    wanted = [one for one in models["lines"] if one["role"] in ("serves", "standby")]
    metrics.set("model_epoch", models["epoch"])
    metrics.set("superseded", models["serves"] != models["answers"])
    states = {
        "missing": sum(bool(one["problem"]) for one in wanted),
        "halted": sum(one["halted"] is not None for one in wanted),
        "ready": sum(one["ready"] and one["halted"] is None for one in wanted),
    }
    for state, count in {**states, "behind": len(wanted) - sum(states.values())}.items():
        metrics.set("models", count, state=state)


def _of_model(metrics: Metrics, status: Status) -> None:
    model, concept, halted = status["model"], status["concept"], status["model"]["halted"]
    metrics.set("examples_learned", model["examples_learned"])
    metrics.set("examples_dropped", model["examples_dropped"])
    metrics.set("examples_far", model["examples_far"])
    metrics.set("model_bytes", model["bytes"])
    metrics.set("model_bytes_max", model["bytes_max"])
    for of, cost in model["cost"].items():
        metrics.set("cost_seconds", cost["us"] / 1e6, of=of)
        metrics.set("cost_growth", cost["growth"], of=of)
    metrics.set("model_position", model["position"])
    _of_models(metrics, status["models"])
    metrics.set("learning_halted", halted is not None)
    metrics.set("learning_frozen", model["frozen"])
    metrics.set("exactly_once_broken", halted is not None and halted["reason"] in ("gap", "disagree"))
    metrics.set("loss", concept["loss"])
    metrics.set("concept_drifted", concept["drifted"])
    metrics.set("below_baseline", concept["below_baseline"])


def _of_lags(metrics: Metrics, topic: str, lags: list[Lag]) -> None:
    metrics.set("consumer_lag_records", sum(lag["lag_records"] or 0 for lag in lags), topic=topic)
    metrics.set("consumer_lag_seconds", max((lag["lag_seconds"] for lag in lags), default=0), topic=topic)


def _of_quality(metrics: Metrics, status: Status) -> None:
    windows = status["quality_windows"]
    found = {"life": status["quality"]} | {name: window["measures"] for name, window in windows.items()}
    for window, values in found.items():
        for name, value in values.items():
            of = "baseline" if name.endswith("_baseline") else "served"
            metrics.set("quality", value, metric=name.removesuffix("_baseline"), window=window, of=of)
    for name, one in windows.items():
        metrics.set("quality_examples", one["examples"], window=name)
    if "last" in windows:
        for quantile, seconds in windows["last"]["delay_seconds"].items():
            metrics.set("label_delay_seconds", seconds, quantile=quantile)
