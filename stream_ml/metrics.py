"""The one table of metrics: emitted once per batch, label values from closed sets only."""

from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metric(NamedTuple):
    """A metric as it is registered. `kind` is counter, gauge or histogram; counters end in _total when exposed."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


TABLE = (
    Metric("stream_ml_predictions", "counter", (), "Predictions committed."),
    Metric("stream_ml_labels", "counter", ("outcome",), "Labels by what became of them; joined ones became examples."),
    Metric("stream_ml_dead_letters", "counter", ("reason",), "Records that could not be used, by reason."),
    Metric("stream_ml_flags", "counter", ("flag",), "Flags on predictions."),
    Metric("stream_ml_events_shed", "counter", (), "Events forgotten before their time because a cap was reached."),
    Metric("stream_ml_transactions", "counter", ("ending",), "Transactions by ending: committed, aborted, unknown."),
    Metric(
        "stream_ml_stage_seconds",
        "histogram",
        ("stage",),
        "Time of a batch in a stage: fold, process, commit; seconds.",
    ),
    Metric("stream_ml_consumer_lag_records", "gauge", ("topic",), "Records of events or feedback not yet committed."),
    Metric("stream_ml_consumer_lag_seconds", "gauge", ("topic",), "Age of the last record read, where more wait."),
    Metric("stream_ml_examples_learned", "gauge", (), "Examples that the model has learned."),
    Metric("stream_ml_examples_dropped", "gauge", (), "Examples met a second time in the log and not learned again."),
    Metric("stream_ml_model_position", "gauge", (), "Model version: offset of the next log entry to fold."),
    Metric("stream_ml_learning_lag_seconds", "gauge", (), "How far learning is behind the log, in seconds."),
    Metric("stream_ml_learning_halted", "gauge", (), "1 while learning is halted."),
    Metric("stream_ml_learning_frozen", "gauge", (), "1 while learning is frozen."),
    Metric("stream_ml_ready", "gauge", (), "1 while /readyz says yes."),
    Metric("stream_ml_partitions", "gauge", ("state",), "Partitions that this worker owns or has parked."),
    Metric(
        "stream_ml_partitioners_differ", "gauge", (), "1 while keys of events and feedback stand in other partitions."
    ),
    Metric("stream_ml_pending_events", "gauge", (), "Events held, waiting or remembered."),
    Metric("stream_ml_pending_labels", "gauge", (), "Early labels that wait for their event."),
    Metric("stream_ml_pending_bytes", "gauge", (), "Memory that both take, in bytes, about."),
    Metric("stream_ml_checkpoint_timestamp_seconds", "gauge", (), "When the last checkpoint was written."),
    Metric("stream_ml_checkpoint_failures", "counter", (), "Checkpoints that could not be written or used."),
    Metric("stream_ml_quality", "gauge", ("metric",), "Progressive quality of what was served, with baselines."),
)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._by_name = {
            metric.name: kinds[metric.kind](metric.name, metric.meaning, metric.labels, registry=self.registry)
            for metric in TABLE
        }

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._of(name, labels).inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._of(name, labels).set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add to a histogram."""
        self._of(name, labels).observe(value)

    def _of(self, name: str, labels: dict[str, str]) -> Any:
        metric: Any = self._by_name[f"stream_ml_{name}"]
        return metric.labels(**labels) if labels else metric
