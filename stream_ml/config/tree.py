"""The one configuration tree of ``stream_ml.yaml``: every key with its type, default and meaning.

Relative paths are relative to the file. The documents' reference and the JSON Schema for editors are made from it.
"""

import ipaddress
import math
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stream_ml.records import Framing, Scalar, Task
from stream_ml.units import Duration, Size, duration_ms, size_bytes

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=200)]
OWN_NAME_MAX = 64  # both stand in the metadata of every commit, which has 1,000 bytes
OwnName = Annotated[str, Field(pattern=NAME, max_length=OWN_NAME_MAX)]

OWNED_KEYS = {
    "bootstrap.servers": "set kafka.bootstrap_servers",
    "metadata.broker.list": "set kafka.bootstrap_servers",
    "group.id": "it is app.id",
    "group.instance.id": "it is <app.id>-<worker.instance>",
    "transactional.id": "it is <app.id>-<worker.instance>",
    "enable.auto.commit": "offsets travel inside the transactions",
    "enable.auto.offset.store": "offsets travel inside the transactions",
    "enable.idempotence": "transactions need it",
    "isolation.level": "aborted records must never be read",
    "auto.offset.reset": "a lost offset must never be skipped in silence",
    "enable.partition.eof": "the end of a partition is told by it",
    "partition.assignment.strategy": "cooperative ones tear events and feedback apart",
    "group.protocol": "the new protocol's default assignor tears events and feedback apart",
    "transaction.timeout.ms": "set delivery.transaction_timeout",
    "session.timeout.ms": "set delivery.session_timeout",
}


def _is_file(name: str, value: Scalar) -> bool:
    """Whether a librdkafka key has a path as its value; ssl.ca.location may also be the word probe."""
    return isinstance(value, str) and value != "probe" and name.endswith((".location", ".file", ".keytab"))


def _is_loopback(host: str) -> bool:
    """Whether nothing but this machine can reach it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def key(default: Any, meaning: str, **limits: Any) -> Any:
    """A key of the tree; `...` for one that has no default."""
    return Field(default, description=meaning, **limits)


class Section(BaseModel):
    """A part of the tree: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class App(Section):
    """Who the application is."""

    id: OwnName = key(..., "group id; prefix of topics and transactional ids")


class Worker(Section):
    """Who this process is among the workers of the application."""

    instance: OwnName | None = key(
        None, "name of this worker among its like; null: the host name. Two processes must never share one"
    )

    @field_validator("instance", mode="before")
    @classmethod
    def _null(cls, given: Any) -> Any:
        return None if given == "null" else given  # as an environment variable writes it


class Kafka(Section):
    """Where Kafka is, and librdkafka's own keys for all clients, the consumers, the producer."""

    bootstrap_servers: str = key(..., "where Kafka is")
    properties: dict[str, Scalar] = key(
        {}, "librdkafka's own keys, for all clients; keys that the service owns are refused"
    )
    consumer: dict[str, Scalar] = key({}, "librdkafka's own keys for consumers alone; they go before `properties`")
    producer: dict[str, Scalar] = key({}, "librdkafka's own keys for the producer alone; they go before `properties`")

    @field_validator("properties", "consumer", "producer")
    @classmethod
    def _owned(cls, given: dict[str, Scalar]) -> dict[str, Scalar]:
        owned = [f"{name} belongs to the service: {OWNED_KEYS[name]}" for name in given if name in OWNED_KEYS]
        if owned:
            raise ValueError("; ".join(owned))
        return given


class Source(Section):
    """A topic of Avro records, and how its bytes name their schema."""

    topic: Name = key(..., "topic of the records")
    schema_: Path = key(..., "Avro record schema (.avsc) that they are read into", alias="schema")
    framing: Framing = key("bare", "`bare`, `confluent` or `single-object`; stated, never guessed")
    schema_ids: dict[int, Path] = key(
        {}, "writer schemas: `{id: file}`; confluent needs them, single-object may have more than one writer"
    )
    id: str = key(..., "field with the id of the event, dotted for nested ones, or `key`: the record key")
    time: str = key("record", "field with a timestamp or date type, or `record`: Kafka's timestamp")

    @model_validator(mode="after")
    def _ids(self) -> Self:
        if self.framing == "confluent" and not self.schema_ids:
            raise ValueError("framing confluent needs schema_ids: {id: file of the writer's schema}")
        if self.framing == "bare" and self.schema_ids:
            raise ValueError("framing bare has no schema_ids: its bytes name no schema; leave them out")
        return self


class Events(Source):
    """The events to be scored."""


class Feedback(Source):
    """The truth about events, which comes later."""

    label: str = key(..., "field with the label")
    ttl: Duration = key(..., "how long after its event a label joins")
    early_ttl: Duration = key(duration_ms("1h"), "how long before its event a label may be known")


class Predictions(Section):
    """Where predictions go and in which form."""

    topic: Name = key(..., "predictions")
    framing: Framing = key(
        "single-object", "how the bytes of a prediction name their schema: `bare`, `confluent` or `single-object`"
    )
    schema_id: int | None = key(None, "id for confluent framing, from 0 to 2^32-1", ge=0, lt=2**32)
    carry: list[str] = key([], "event fields passed through, typed as in the event")

    @model_validator(mode="after")
    def _id(self) -> Self:
        if (self.framing == "confluent") != (self.schema_id is not None):
            raise ValueError("framing confluent needs schema_id, and only it has one")
        return self


class Impute(Section):
    """Fill a missing feature with a value."""

    impute: Scalar


class Bounds(Section):
    """What a feature may be: outside is a dead letter; what is far from the rest, or one too many, is clipped."""

    min: float | None = None
    max: float | None = None
    sigma: float | None = Field(default=None, ge=1.0, le=1e6)
    length: int | None = Field(default=None, ge=1, le=10_000_000)
    distinct: int | None = Field(default=None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        given = [value for value in (self.min, self.max, self.sigma) if value is not None]
        if not given and self.length is None and self.distinct is None:
            raise ValueError("say min, max or sigma of a number, length or distinct of a text")
        if not all(map(math.isfinite, given)):
            raise ValueError("a bound is a finite number")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Features(Section):
    """Which fields the model sees, and what happens where one is missing."""

    include: list[str] | None = key(
        None, "fields that the model sees; null: every scalar field but id and time. Always in schema order"
    )
    exclude: list[str] = key([], "fields that it does not see")
    missing: dict[str, Literal["reject", "drop"] | Impute] = key(
        {"default": "reject"},
        "where a feature is null: `reject` (a dead letter), `drop`, or `{impute: value}`; by feature, or `default`",
    )
    bounds: dict[str, Bounds] = key(
        {},
        "by feature, or `default`. Of a number: `{min: value, max: value}`, outside a dead letter `out_of_bounds`; "
        "`{sigma: 8}`: clipped to so many spreads around the median of the examples learned last, and flagged. Of a "
        "text: `{length: 1000}` characters, else a dead letter; `{distinct: 1000}` values are learned, others are "
        "`(other)`",
    )


class Model(Section):
    """What is learned. `factory` is ``module:attribute``."""

    factory: str = key(
        ...,
        "`module:attribute`: a function that gives a River estimator, or an estimator; beside the file, or installed",
        pattern=r"^[\w.]+:[\w.]+$",
    )
    params: dict[str, Any] = key(
        {}, "arguments of the function; one named `seed` gets model.seed, the only place for it"
    )
    task: Task = key(..., "`binary`, `multiclass` or `regression`")
    positive: Scalar = key(True, "binary: the label that the score is about")
    labels: list[Scalar] | None = key(None, "the closed list of labels, where the type of the label does not say it")

    @field_validator("labels")
    @classmethod
    def _finite(cls, given: list[Scalar] | None) -> list[Scalar] | None:
        if any(isinstance(label, float) and not math.isfinite(label) for label in given or ()):
            raise ValueError("a label that is no number is none: quote it, where it is a text")
        return given

    threshold: float = key(0.5, "binary: score from which the positive class is predicted, 0 to 1", ge=0.0, le=1.0)
    seed: int = key(7, "seed of everything random, and part of the hash seed", ge=0, lt=2**31)
    memory_max: Size | None = key(
        None, "how large the model may be, as its checkpoint unpacked; null: a quarter of the memory that there is"
    )
    memory_policy: Literal["tell", "freeze", "halt"] = key(
        "tell",
        "what is done beyond it: `tell`; `freeze`: learning stops for all workers by a command in the log, until "
        "`resume`; `halt`: the worker ends",
    )
    samples: Path | None = key(
        None, "file with sample events, a JSON object a line, that the model is tried with at start; null: made-up ones"
    )
    checkpoint_types: list[str] = key(
        [], "`module.Class` or `module.function` beyond River's and numpy's that a checkpoint may hold"
    )


class Delivery(Section):
    """Limits of a batch and of its transaction."""

    batch_max_records: int = key(5000, "records in one turn, over all partitions", ge=1, le=100_000)
    partitions_per_turn: int = key(
        16, "partitions in one turn and its transaction; the others wait in line", ge=1, le=1_000
    )
    commit_least: Duration = key(
        0, "pause after a transaction for more records, unless a turn is full; 50ms where many workers share a broker"
    )
    first_record_wait: Duration = key(
        duration_ms("100ms"), "longest wait for the first record; then what is there is the batch"
    )
    transaction_timeout: Duration = key(
        duration_ms("10s"), "after it Kafka aborts the transaction of a worker that died", ge=1_000, le=900_000
    )
    session_timeout: Duration = key(
        duration_ms("10s"), "after it the partitions of a worker that died go to others", ge=1_000, le=1_800_000
    )
    membership: Literal["static", "dynamic"] = key(
        "static", "`static`: a worker that restarts in time keeps its partitions; `dynamic`: they move at once"
    )


class Learning(Section):
    """How long a turn may fold, and how far learning may lag."""

    budget_per_turn: Duration = key(duration_ms("50ms"), "longest time that a turn folds")
    lag_max: Duration = key(
        duration_ms("60s"), "learning further behind than this: a backlog waits, live predictions are flagged `stale`"
    )
    guard: float = key(
        100.0,
        "an example is far from all others where a number, or a regression's label, is so many spreads from the "
        "median of those learned last; 0: off",
        ge=0.0,
        le=1e9,
    )
    quarantine: Literal["halt", "divert", "tell"] = key(
        "tell", "what becomes of a far example: `halt` learning before it, `divert`: leave it out, or only `tell`"
    )

    @field_validator("guard")
    @classmethod
    def _far_enough(cls, given: float) -> float:
        if 0 < given < 10:
            raise ValueError("below 10 spreads an honest example is far; 0 is off")
        return given


class Quality(Section):
    """Windows over which the quality of what was served is reported, beside its whole life."""

    window: int = key(1000, "labelled predictions of the rolling window", ge=50, le=10_000)
    window_time: Duration = key(
        duration_ms("1d"), "the window by time: labels not older than this before the newest; of 10,000 at most"
    )
    cold_below: int = key(
        1,
        "examples that a model must have learned; before, predictions are flagged cold, outside of quality",
        ge=1,
    )


MISS_DETECTORS = ("ddm", "eddm", "hddm-a", "hddm-w")  # they see misses of a classification, no losses
Detector = Literal["adwin", "page-hinkley", "kswin", "ddm", "eddm", "hddm-a", "hddm-w", "none"]


class ConceptDrift(Section):
    """What watches the loss, inside of the fold."""

    detector: Detector = key(
        "adwin", "River's detector of a change in the loss; ddm, eddm and hddm see only misses of a classification"
    )
    params: dict[str, Scalar] = key({}, "arguments of the detector, as River names them")
    watch: Literal["loss", "advantage"] = key(
        "loss", "`loss`, or `advantage`: the loss beside the baseline's, which a new share of labels moves less"
    )


class InputDrift(Section):
    """What watches features and scores, in each worker."""

    reference: int = key(
        5000, "events of a worker that make the reference, at most 500 of each batch; 0: off", ge=0, le=100_000
    )
    window: int = key(1000, "events of a window that is compared with it", ge=200, le=100_000)
    psi: float = key(0.2, "population stability index from which two windows in a row are drift", gt=0)
    exclude: list[str] = key([], "features that are not watched, like the hour or the month")


class Drift(Section):
    """What counts as drift."""

    concept: ConceptDrift = ConceptDrift()
    inputs: InputDrift = InputDrift()
    label_starvation: Duration | None = key(
        None, "so much record time of events without one label is reported; null: feedback.ttl"
    )


class Watch(Section):
    """Shares of the last records from which on something is wrong: a problem in words on every surface."""

    window: int = key(1000, "records over which the shares are taken", ge=100, le=1_000_000)
    least: int = key(100, "records from which on a share is reported", ge=1)
    duplicates_max: float = key(0.2, "events whose id came before", ge=0.0, le=1.0)
    too_old_max: float = key(0.2, "events older than feedback.ttl when they come", ge=0.0, le=1.0)
    orphans_max: float = key(0.2, "labels that found no event", ge=0.0, le=1.0)
    late_max: float = key(0.2, "labels that came later than feedback.ttl", ge=0.0, le=1.0)
    waiting_max: float = key(0.5, "labels that wait, of these and those that have joined", ge=0.0, le=1.0)


class Pending(Section):
    """Caps of what waits for its other half, per partition."""

    events_max: int = key(
        1_000_000,
        "events held per partition, waiting or remembered; beyond it the oldest are forgotten and counted",
        ge=1,
    )
    early_labels_max: int = key(100_000, "early labels per partition; beyond it the oldest end as `shed`", ge=1)
    bytes_max: Size = key(size_bytes("1GiB"), "memory of both per partition, about")


class Checkpoints(Section):
    """Where caches of the fold are kept."""

    directory: Path = key(Path("checkpoints"), "where they are kept")
    interval: Duration = key(duration_ms("60s"), "time between two checkpoints, while anything is learned")
    stop_wait: Duration = key(
        duration_ms("20s"), "for the last one after SIGTERM: less than whoever sends it waits before SIGKILL"
    )
    keep: int = key(5, "number of newest checkpoints that stay on the disk", ge=1)
    key_file: Path | None = key(
        None,
        "file with a key of at least 16 bytes that seals them; null: `.stream_ml-<app.id>.key` beside this file, made "
        "at the first run",
    )
    unsealed: bool = key(
        False, "do without a key where none can be made: who may write to the directory can run code in the worker"
    )


class TrainingLog(Section):
    """Who may write to the training log: without a key everybody whom Kafka lets."""

    key_file: Path | None = key(
        None,
        "file with a key of at least 16 bytes that seals each entry, the same for all workers and operators; learning "
        "halts at an entry without a seal. null: Kafka's rights alone say who may write",
    )
    old_key_files: list[Path] = key([], "files with keys that sealed older entries, where the key was replaced")
    sealed_from: int = key(0, "position of the first entry that has to be sealed: the log's end as sealing began", ge=0)

    @model_validator(mode="after")
    def _one_key(self) -> "TrainingLog":
        if self.key_file is None and (self.old_key_files or self.sealed_from):
            raise ValueError("old_key_files and sealed_from are read only with a key_file")
        return self


class Http(Section):
    """Where /metrics answers. Port 0: off."""

    host: str = key("127.0.0.1", "where /metrics, /livez, /readyz and /v1/status answer")
    port: int = key(8080, "port of the HTTP endpoints; 0: none are served", ge=0, lt=65536)
    hosts: list[str] = key(
        [], "names of this machine under which it may be asked, beside localhost and every address: what a browser says"
    )
    token_file: Path | None = key(
        None, "file with a token of at least 16 bytes that each request has to bring, but /livez and /readyz"
    )
    public: bool = key(False, "answer other machines without a token, where http.host is none of this one alone")


class Log(Section):
    """How much is logged, and in which form (auto: text on a terminal, else JSON)."""

    level: Literal["debug", "info", "warning", "error"] = key("info", "`debug`, `info`, `warning` or `error`")
    format: Literal["auto", "text", "json"] = key("auto", "`text`, `json`, or `auto`: text on a terminal")


class Config(BaseSettings):
    """The whole of ``stream_ml.yaml``."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="STREAM_ML_",
        env_nested_delimiter="__",
        hide_input_in_errors=True,
        title="stream_ml.yaml",
    )
    _folder: Path = PrivateAttr(default=Path())
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    app: App
    worker: Worker = Worker()
    kafka: Kafka
    events: Events
    feedback: Feedback
    predictions: Predictions
    features: Features = Features()
    model: Model
    start: Literal["earliest", "latest"] = key(
        "earliest", "`earliest` or `latest`: where a partition begins that was never committed"
    )
    delivery: Delivery = Delivery()
    learning: Learning = Learning()
    quality: Quality = Quality()
    drift: Drift = Drift()
    watch: Watch = Watch()
    pending: Pending = Pending()
    training_log: TrainingLog = TrainingLog()
    checkpoints: Checkpoints = Checkpoints()
    http: Http = Http()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # load.py merges the sources, because it can say where each value comes from

    @model_validator(mode="after")
    def _nothing_to_do(self) -> Self:
        roles = [(part, name) for part in ("events", "feedback") for name in ("id", "time", "label")]
        left = [f"{part}.{name}" for part, name in roles if getattr(getattr(self, part), name, "") == "TODO"]
        if left:
            raise ValueError("; ".join(f"{name} is TODO: name the field" for name in left))
        return self

    @model_validator(mode="after")
    def _of_the_task(self) -> Self:
        unread = {"regression": ("labels", "positive", "threshold"), "multiclass": ("positive", "threshold")}
        for name in unread.get(self.model.task, ()):
            if getattr(self.model, name) != Model.model_fields[name].default:
                raise ValueError(f"model.{name}: task {self.model.task} does not read it")
        return self

    @model_validator(mode="after")
    def _one_seed(self) -> Self:
        for name, params in (("model", self.model.params), ("drift.concept", self.drift.concept.params)):
            if "seed" in params:
                raise ValueError(f"{name}.params.seed: set model.seed, there is one seed")
        return self

    @model_validator(mode="after")
    def _topics(self) -> Self:
        uses = {part: getattr(self, part).topic for part in ("events", "feedback", "predictions")}
        uses |= {"training-log": self.training_log_topic, "outcomes": self.outcomes}
        uses |= {"dead-letters": self.dead_letters, "signals": self.signals}
        names = list(uses.values())
        for twice in sorted({name for name in names if names.count(name) > 1}):
            both = " and for ".join(use for use, name in uses.items() if name == twice)
            raise ValueError(f"topic {twice} is named for {both}: give each a topic of its own")
        return self

    @model_validator(mode="after")
    def _host(self) -> Self:
        if len(self.instance) > OWN_NAME_MAX:
            raise ValueError(
                f"worker.instance is the host name by default, which has {len(self.instance)} characters; "
                f"at most {OWN_NAME_MAX}: set worker.instance"
            )
        return self

    @model_validator(mode="after")
    def _private(self) -> Self:
        http = self.http
        if http.port and not http.public and http.token_file is None and not _is_loopback(http.host):
            raise ValueError(
                f"http.host {http.host} lets other machines ask, without a token: set http.token_file, or "
                "http.public: true where the network keeps strangers out"
            )
        return self

    @model_validator(mode="after")
    def _detector(self) -> Self:
        if self.model.task == "regression" and self.drift.concept.detector in MISS_DETECTORS:
            raise ValueError(
                f"drift.concept.detector {self.drift.concept.detector} sees misses, and a regression has none: "
                "take adwin, page-hinkley or kswin"
            )
        return self

    @property
    def instance(self) -> str:
        """Name of this worker: configured, or the host's."""
        return self.worker.instance or socket.gethostname()

    @property
    def transactional_id(self) -> str:
        """Id under which this worker's producer fences its predecessor."""
        return f"{self.app.id}-{self.instance}"

    def origin(self, dotted: str) -> str:
        """Where the value of a key comes from: a line of the file, a variable, a flag, a secret file, the default."""
        return self._origins.get(dotted, "default")

    def path(self, path: Path) -> Path:
        """Path as seen from the configuration file's folder."""
        return self._folder / path

    def client_properties(self, kind: Literal["consumer", "producer"] | None = None) -> dict[str, Scalar]:
        """librdkafka's own keys for all clients, or those that one kind adds; files as seen from this one's folder."""
        kafka = self.kafka
        given = kafka.properties if kind is None else kafka.consumer if kind == "consumer" else kafka.producer
        return {
            name: str(self.path(Path(str(value))).absolute()) if _is_file(name, value) else value
            for name, value in given.items()
        }

    @property
    def training_log_topic(self) -> str:
        """Topic of the training log."""
        return f"{self.app.id}.training-log"

    @property
    def outcomes(self) -> str:
        """Topic of the outcomes."""
        return f"{self.app.id}.outcomes"

    @property
    def dead_letters(self) -> str:
        """Topic of the dead letters."""
        return f"{self.app.id}.dead-letters"

    @property
    def signals(self) -> str:
        """Topic of the signals."""
        return f"{self.app.id}.signals"
