"""The one table of metrics: emitted once per batch, label values from closed sets only.

The table in the documents, the dashboard and the rules in deploy/ name nothing else; tests hold that.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stream_ml.core.drift.signals import Kind
from stream_ml.core.partition.answered import REASONS as HEADER_ENDS
from stream_ml.core.partition.outputs import REASONS

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)  # seconds


class Metric(NamedTuple):
    """A metric as it is registered. `kind` is counter, gauge or histogram; counters end in _total when exposed."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def exposed(self) -> tuple[str, ...]:
        """Names of its series."""
        ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[self.kind]
        return tuple(f"{self.name}{end}" for end in ends)


def _counter(name: str, unit: str, labels: tuple[str, ...], meaning: str) -> Metric:
    return Metric(f"stream_ml_{name}", "counter", unit, labels, meaning)


def _gauge(name: str, unit: str, labels: tuple[str, ...], meaning: str) -> Metric:
    return Metric(f"stream_ml_{name}", "gauge", unit, labels, meaning)


def _histogram(name: str, labels: tuple[str, ...], meaning: str) -> Metric:
    return Metric(f"stream_ml_{name}", "histogram", "seconds", labels, meaning)


SPANS = _counter("spans", "spans", ("outcome",), "Spans of traces by what became of them: sent, failed, dropped.")

TABLE = (
    # records
    _counter("predictions", "records", (), "Predictions committed."),
    _counter("labels", "records", ("outcome",), "Labels by what became of them; joined ones became examples."),
    _counter(
        "labels_passed",
        "records",
        ("outcome",),
        "Labels in time by their own dates that came when their partition's time had gone on: late or orphan.",
    ),
    _counter("dead_letters", "records", ("reason",), "Records that could not be used, by reason."),
    _counter("flags", "records", ("flag",), "Flags on predictions."),
    _counter(
        "served_headers",
        "records",
        ("outcome",),
        "Events that say what the scoring API answered: honoured ones are published so, others were scored here.",
    ),
    _counter("events_shed", "records", (), "Events forgotten before their time because a cap was reached."),
    _counter("events_too_old", "records", (), "Events older than feedback.ttl when they came: no label can join them."),
    _counter("scores", "records", ("upto",), "Predictions by score, in tenths: above the one before, up to this."),
    _counter("signals", "records", ("kind",), "Signals written by this worker, by kind."),
    # time
    _histogram("event_to_prediction_seconds", (), "From Kafka's timestamp of a batch's oldest event to its commit."),
    _histogram("stage_seconds", ("stage",), "Time of a batch in a stage: fold, process, commit."),
    _gauge("consumer_lag_records", "records", ("topic",), "Records of events or feedback not yet committed."),
    _gauge("consumer_lag_seconds", "seconds", ("topic",), "Age of the last record read, where more wait."),
    # Kafka
    _counter("transactions", "transactions", ("ending",), "Transactions by ending: committed, aborted, unknown."),
    _counter("rebalances", "times", (), "Times that the group gave or took partitions."),
    _gauge("partitions", "partitions", ("state",), "Partitions that this worker owns or has suspended."),
    _gauge("partitioners_differ", "0 or 1", (), "1 while keys of events and feedback stand in other partitions."),
    _gauge("broker_round_trip_seconds", "seconds", ("of",), "Round trip to the slowest broker: mean and p99."),
    _gauge("broker_throttle_seconds", "seconds", (), "How long the slowest broker held answers back, on average."),
    _gauge("brokers_up", "brokers", (), "Brokers that the producer is connected to."),
    # learning
    _gauge("examples_learned", "examples", (), "Examples that the model has learned."),
    _gauge(
        "examples_far", "examples", (), "Examples that were far from all others when they were learned, or left out."
    ),
    _gauge("examples_dropped", "examples", (), "Examples met a second time in the log and not learned again."),
    _gauge("model_bytes", "bytes", (), "Size of the model, as the last checkpoint found it unpacked; 0 before it."),
    _gauge("model_bytes_max", "bytes", (), "What model.memory_max allows."),
    _gauge("cost_seconds", "seconds", ("of",), "The processor's time for one event (score) or example (learn)."),
    _gauge("cost_growth", "times", ("of",), "How many times as much that is as at least since the model was new."),
    _gauge("model_position", "offset", (), "Model version: offset of the next log entry to fold."),
    _gauge("model_epoch", "offset", (), "Epoch of the table of who serves: the position after its command."),
    _gauge("superseded", "0 or 1", (), "1 while another model answers than the one that serves by the log."),
    _gauge("models", "models", ("state",), "Models wanted here: ready, behind, halted, not to be had."),
    _gauge("learning_lag_seconds", "seconds", (), "How far learning is behind the log."),
    _gauge("learning_halted", "0 or 1", (), "1 while learning is halted."),
    _gauge("learning_frozen", "0 or 1", (), "1 while learning is frozen."),
    _gauge("exactly_once_broken", "0 or 1", (), "1 while a sequence has a gap or contradicts its trigger."),
    _gauge(
        "checkpoint_timestamp_seconds",
        "unix time",
        (),
        "When the last checkpoint was written, else this process began.",
    ),
    _gauge("checkpoint_bytes", "bytes", (), "Size of the last checkpoint: the model and what belongs to it, packed."),
    _gauge("checkpoint_seconds", "seconds", (), "How long the last checkpoint took, or held up the loop."),
    _gauge("checkpoint_failing", "0 or 1", (), "1 while the last checkpoint could not be written."),
    _gauge("checkpoint_away", "0 or 1", (), "1 while the newest checkpoints are not in checkpoints.bucket."),
    _counter("checkpoint_failures", "times", (), "Checkpoints that could not be written or used."),
    # quality and drift
    _gauge(
        "quality",
        "as the metric",
        ("metric", "window", "of"),
        "Progressive quality over its life, the last n and the last t; of what was served and of the baseline.",
    ),
    _gauge("quality_examples", "examples", ("window",), "Labelled predictions in a window of quality."),
    _gauge("labelled_ratio", "0 to 1", (), "Share of the last window's events that have a label: its maturity."),
    _gauge("watched_ratio", "0 to 1", ("of",), "Of the last records: duplicates, too_old, orphans, late, waiting."),
    _gauge("watched_above", "0 or 1", ("of",), "1 while that share is above its bound in watch:."),
    _gauge("label_delay_seconds", "seconds", ("quantile",), "From event to label, over the last n labels."),
    _gauge("loss", "0 to 1", (), "Mean loss of the last n labelled predictions, as the drift detector sees it."),
    _gauge("concept_drifted", "0 or 1", (), "1 from a rise of the loss until it is back."),
    _gauge("below_baseline", "0 or 1", (), "1 while the baseline does better than what was served."),
    _gauge("drift_index", "index", ("subject",), "Population stability index of a feature or the score."),
    _gauge("drifted", "0 or 1", ("subject",), "1 while a feature or the score has moved away from its reference."),
    _gauge("feature_missing_ratio", "0 to 1", ("subject",), "Share of the last window's events without the feature."),
    _gauge(
        "first_backlog_events",
        "events",
        (),
        "Events from before the app's first start that are unread: until then no drift is told.",
    ),
    _gauge("label_starvation", "partitions", (), "Partitions whose labels stay away."),
    # the process
    SPANS,
    _gauge("ready", "0 or 1", (), "1 while /readyz says yes."),
    _gauge("start_timestamp_seconds", "unix time", (), "When this process started."),
    _gauge(
        "certificate_expires_timestamp_seconds",
        "unix time",
        ("of",),
        "When the certificate of Kafka's clients expires, and the last of the authorities that they believe.",
    ),
    _gauge("pending_events", "events", (), "Events held, waiting or remembered."),
    _gauge("pending_labels", "labels", (), "Early labels that wait for their event."),
    _gauge("pending_bytes", "bytes", (), "Memory that both take, about."),
)


CLOSED: tuple[tuple[str, str, tuple[str, ...]], ...] = (  # label values that are known beforehand
    ("signals", "kind", get_args(Kind)),
    ("dead_letters", "reason", REASONS),
    ("labels", "outcome", ("joined", "duplicate", "late", "orphan", "shed", "invalid")),
    ("labels_passed", "outcome", ("late", "orphan")),
    ("served_headers", "outcome", HEADER_ENDS),
    ("transactions", "ending", ("committed", "aborted", "unknown")),
)


def reference(table: Sequence[Metric] = TABLE) -> str:
    """A table as Markdown, for the documents."""
    rows = ["| metric | kind | unit | meaning |", "|---|---|---|---|"]
    for metric in table:
        name = metric.name + ("_total" if metric.kind == "counter" else "")
        labels = "{" + ",".join(metric.labels) + "}" if metric.labels else ""
        rows.append(f"| `{name}{labels}` | {metric.kind} | {metric.unit} | {metric.meaning} |")
    return "\n".join(rows)


SERVE_TABLE = (
    _counter("http_requests", "requests", ("route", "status"), "Requests answered, by path of the API and status."),
    _counter("http_refusals", "requests", ("kind",), "Requests refused, by kind of problem."),
    _histogram("http_seconds", ("route",), "From a request's head to its answer."),
    _counter("auth_failures", "requests", (), "Requests without a right credential."),
    _gauge("serve_ready", "0 or 1", (), "Whether a model answers."),
    _gauge("serve_age_seconds", "seconds", (), "Since the model had everything that Kafka had."),
    _gauge("serve_position", "entries", (), "Position of the model that answers."),
    _gauge("serve_connections", "connections", (), "Connections that are open."),
    _counter("serve_evicted", "connections", (), "Connections closed because there were serve.connections_max."),
    _gauge("serve_in_flight", "requests", (), "Requests that are being answered."),
    _counter("serve_folded", "entries", (), "Entries of the training log folded since the start."),
    SPANS,
)
"""Of ``stream-ml serve``: each process has them, told apart by the label `child`."""

JOBS_TABLE = (
    _gauge("jobs_ready", "0 or 1", (), "Whether it scores: its model is ready, and it is a member of its group."),
    _counter("jobs_chunks", "chunks", (), "Chunks of jobs that were scored and committed."),
    _counter("jobs_rows", "rows", (), "Rows of them."),
    _counter("jobs_rows_failed", "rows", (), "Rows of them for which the model raised, or that it cannot use."),
    _counter("jobs_passed_by", "chunks", (), "Chunks that were cancelled, too late, or no chunks."),
    _counter("jobs_repeated", "transactions", (), "Transactions that were given up, whose chunks were taken again."),
    _gauge("jobs_waiting", "chunks", (), "Chunks that wait in its partitions."),
    SPANS,
)
"""Of ``stream-ml jobs``."""


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self, table: Sequence[Metric] = TABLE) -> None:
        self.registry = CollectorRegistry()
        self._children: dict[Any, Any] = {}  # by name and labels: the client looks one up as slowly as it counts
        kinds: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": partial(Histogram, buckets=BUCKETS)}
        self._by_name = {
            metric.name: kinds[metric.kind](metric.name, metric.meaning, metric.labels, registry=self.registry)
            for metric in table
        }
        for name, label, values in (
            CLOSED if table is TABLE else ()
        ):  # a series that is born with its first count has no increase
            for value in values:
                self._of(name, {label: value})

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._of(name, labels).inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._of(name, labels).set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add to a histogram."""
        self._of(name, labels).observe(value)

    def child(self, name: str, **labels: str) -> Any:
        """What counts or observes under these labels: for who does so thousands of times a second."""
        return self._of(name, labels)

    def _of(self, name: str, labels: dict[str, str]) -> Any:
        key = (name, *labels.values())
        found = self._children.get(key)
        if found is None:
            metric: Any = self._by_name[f"stream_ml_{name}"]
            found = self._children[key] = metric.labels(**labels) if labels else metric
        return found
