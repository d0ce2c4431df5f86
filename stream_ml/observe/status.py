"""The status of a worker: `/v1/status`, and what page, terminal, metrics and problems in words are made from.

Each class is one object of the JSON. `FORMAT` grows when a key changes its meaning or goes; new keys may come any time.
"""

from typing import Any, NotRequired, final

from typing_extensions import TypedDict  # pydantic, which brings it, reads no other before Python 3.12

FORMAT = 1


class Problem(TypedDict):
    """Something that is wrong, in words. `suggestion` is a command, or empty."""

    severity: str
    text: str
    suggestion: str


class Lag(TypedDict):
    """How far one input of a partition is read. An open transaction holds back what lies behind `held_at`."""

    position: int
    end: int | None
    lag_records: int | None
    lag_seconds: float
    held_at: NotRequired[int]
    held_seconds: NotRequired[float]


class PartitionStatus(TypedDict):
    """One partition that the worker owns."""

    events: Lag
    feedback: Lag
    watermark_ms: int | None
    next_sequence: int


class Partitions(TypedDict):
    """Partitions by number: what is owned, and why others are not worked on."""

    owned: dict[str, PartitionStatus]
    suspended: dict[str, str]


class HaltStatus(TypedDict):
    """Where learning is halted, why, and what to type."""

    position: int
    reason: str
    why: str
    suggestion: str


class CostStatus(TypedDict):
    """Microseconds of the processor a record, and how many times as much as at least."""

    us: float
    growth: float


class ModelStatus(TypedDict):
    """The model of now. `lag_seconds`: how far learning is behind the log."""

    lineage: str
    position: int
    examples_learned: int
    examples_dropped: int
    examples_far: int
    lag_seconds: float
    cost: dict[str, CostStatus]
    bytes: int
    bytes_max: int
    halted: HaltStatus | None
    frozen: bool
    checkpoints_sealed: bool
    cold_below: int


class ModelLine(TypedDict):
    """One model of the log, and in words what it does.

    `ready`: this worker has it at the log's end; `problem`: why it cannot have it.
    """

    lineage: str
    name: str
    role: str
    ready: bool
    position: int | None
    examples_learned: int | None
    left_seconds: float | None
    halted: HaltStatus | None
    problem: str
    declared_by: str
    declared_ms: int | None
    told: str


class ModelsStatus(TypedDict):
    """Who serves by the log (`serves`, of `epoch`), who answers in this worker, and since when they differ."""

    epoch: int
    serves: str
    answers: str
    superseded_seconds: float
    refused: int
    log_end: int
    lines: list[ModelLine]


class QualityWindow(TypedDict):
    """Quality over a window of labelled predictions, beside its baseline; `delay_seconds` by quantile."""

    examples: int
    measures: dict[str, float]
    delay_seconds: dict[str, float]


class ConceptStatus(TypedDict):
    """The loss as the drift detector sees it."""

    loss: float
    drifted: bool
    below_baseline: bool


class Latency(TypedDict):
    """From an event to its committed prediction, over the last minute, in seconds."""

    p50: float | None
    p99: float | None


class DriftStatus(TypedDict):
    """Input drift. `seen` of `of` events of the reference or the window; `subjects` by ``feature:x`` and ``score:``."""

    on: bool
    referenced: bool
    seen: int
    of: int
    threshold: float
    subjects: dict[str, dict[str, Any]]


class CheckpointStatus(TypedDict):
    """The last checkpoint that this process has written."""

    position: int | None
    age_seconds: float | None


class PendingMax(TypedDict):
    """Caps of the join of one partition."""

    events: int
    labels: int
    bytes: int


class PendingStatus(TypedDict):
    """What waits for its other half, over all owned partitions."""

    events: int
    labels: int
    bytes: int
    shed: int
    max_per_partition: PendingMax


class Share(TypedDict):
    """`count` of the last `of` records; a share above `max` is a problem. None where there were too few."""

    count: int
    of: int
    share: float | None
    max: float
    passed: NotRequired[int]


class Rates(TypedDict):
    """Records a second, over the last seconds."""

    events: float
    labels: float


class Point(TypedDict):
    """What a chart keeps of a status; `at` in unix seconds."""

    at: float
    events: float
    labels: float
    lag_seconds: float
    learning_lag_seconds: float
    p50: float | None
    p99: float | None
    metric: str
    quality: float | None
    baseline: float | None
    loss: float


NO_POINT = Point(
    at=0.0,
    events=0.0,
    labels=0.0,
    lag_seconds=0.0,
    learning_lag_seconds=0.0,
    p50=None,
    p99=None,
    metric="",
    quality=None,
    baseline=None,
    loss=0.0,
)


class FirstBacklog(TypedDict):
    """Events that lay there when the app first started, of partitions that are owned: `left` of them are unread."""

    left: int
    events: int


class Folding(TypedDict):
    """How far the fold is that comes before everything else."""

    position: int
    end: int
    left_seconds: float | None


@final
class Starting(TypedDict):
    """The status until the model is folded. `state` is ``starting``."""

    format: int
    app: str
    instance: str
    state: str
    ready: bool
    reasons: list[str]
    problems: list[Problem]
    folding: NotRequired[Folding]


@final
class Status(TypedDict):
    """The status of a worker that turns. `state`: rebalancing, restoring, running, blocked or stopping."""

    format: int
    app: str
    instance: str
    uptime_seconds: float
    state: str
    ready: bool
    reasons: list[str]
    warnings: list[str]
    problems: list[Problem]
    partitions: Partitions
    model: ModelStatus
    models: ModelsStatus
    quality: dict[str, float]
    quality_windows: dict[str, QualityWindow]
    concept: ConceptStatus
    first_backlog: FirstBacklog
    latency_seconds: Latency
    scores: list[int]
    drift: DriftStatus
    maturity: dict[str, float]
    starving: list[int]
    last_predictions: list[dict[str, Any]]
    signals: list[dict[str, Any]]
    checkpoint: CheckpointStatus
    pending: PendingStatus
    watch: dict[str, Share]
    since_start: dict[str, int]
    per_second: Rates
    versions: dict[str, str]
    point: Point


AnyStatus = Status | Starting


class Monitored(TypedDict):
    """The part of a status that `worker.monitor` knows."""

    latency_seconds: Latency
    scores: list[int]
    drift: DriftStatus
    maturity: dict[str, float]
    starving: list[int]
    last_predictions: list[dict[str, Any]]
