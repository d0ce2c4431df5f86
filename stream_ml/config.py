"""The one configuration tree of ``stream_ml.yaml``; an unknown key is an error.

Order of precedence: environment (``STREAM_ML_KAFKA__BOOTSTRAP_SERVERS``), then the file, then the default.
Relative paths are relative to the file.
"""

import socket
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError
from pydantic_settings import YamlConfigSettingsSource as YamlSource

from stream_ml.errors import ConfigError
from stream_ml.units import Duration, Size, duration_ms, size_bytes

Framing = Literal["bare", "confluent", "single-object"]
Scalar = bool | int | float | str
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]

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


class Section(BaseModel):
    """A part of the tree: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class App(Section):
    """Who the application is."""

    id: Name


class Worker(Section):
    """Who this process is among the workers of the application."""

    instance: Name | None = None


class Kafka(Section):
    """Where Kafka is, and librdkafka's own keys for all clients, the consumers, the producer."""

    bootstrap_servers: str
    properties: dict[str, Scalar] = {}
    consumer: dict[str, Scalar] = {}
    producer: dict[str, Scalar] = {}

    @model_validator(mode="after")
    def _owned(self) -> Self:
        for keys in (self.properties, self.consumer, self.producer):
            for key in keys:
                if key in OWNED_KEYS:
                    raise ValueError(f"{key} belongs to the service: {OWNED_KEYS[key]}")
        return self


class Source(Section):
    """A topic of Avro records, and how its bytes name their schema."""

    topic: Name
    schema_: Path = Field(alias="schema")
    framing: Framing = "bare"
    schema_ids: dict[int, Path] = {}
    id: str
    time: str = "record"

    @model_validator(mode="after")
    def _ids(self) -> Self:
        if self.framing == "confluent" and not self.schema_ids:
            raise ValueError("framing confluent needs schema_ids: {id: file of the writer's schema}")
        return self


class Events(Source):
    """The events to be scored."""


class Feedback(Source):
    """The truth about events, which comes later."""

    label: str
    ttl: Duration
    early_ttl: Duration = duration_ms("1h")


class Predictions(Section):
    """Where predictions go and in which form."""

    topic: Name
    framing: Framing = "single-object"
    schema_id: int | None = Field(default=None, ge=0, lt=2**32)
    carry: list[str] = []

    @model_validator(mode="after")
    def _id(self) -> Self:
        if (self.framing == "confluent") != (self.schema_id is not None):
            raise ValueError("framing confluent needs schema_id, and only it has one")
        return self


class Impute(Section):
    """Fill a missing feature with a value."""

    impute: Scalar


class Features(Section):
    """Which fields the model sees, and what happens where one is missing."""

    include: list[str] | None = None
    exclude: list[str] = []
    missing: dict[str, Literal["reject", "drop"] | Impute] = {"default": "reject"}


class Model(Section):
    """What is learned. `factory` is ``module:attribute``."""

    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    params: dict[str, Any] = {}
    task: Literal["binary", "multiclass", "regression"]
    positive: Scalar = True
    labels: list[Scalar] | None = None
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    seed: int = Field(default=7, ge=0, lt=2**31)
    checkpoint_types: list[str] = []


class Delivery(Section):
    """Limits of a batch and of its transaction."""

    batch_max_records: int = Field(default=5000, ge=1, le=100_000)
    first_record_wait: Duration = duration_ms("100ms")
    transaction_timeout: Duration = Field(default=duration_ms("10s"), ge=1_000, le=900_000)
    session_timeout: Duration = Field(default=duration_ms("10s"), ge=1_000, le=1_800_000)
    membership: Literal["static", "dynamic"] = "static"


class Learning(Section):
    """How long a turn may fold, and how far learning may lag."""

    budget_per_turn: Duration = duration_ms("50ms")
    lag_max: Duration = duration_ms("60s")


class Pending(Section):
    """Caps of what waits for its other half, per partition."""

    events_max: int = Field(default=1_000_000, ge=1)
    early_labels_max: int = Field(default=100_000, ge=1)
    bytes_max: Size = size_bytes("1GiB")


class Checkpoints(Section):
    """Where caches of the fold are kept."""

    directory: Path = Path("checkpoints")
    interval: Duration = duration_ms("60s")
    keep: int = Field(default=5, ge=1)
    key_file: Path | None = None


class Http(Section):
    """Where /metrics answers. Port 0: off."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, lt=65536)


class Log(Section):
    """How much is logged, and in which form (auto: text on a terminal, else JSON)."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class Config(BaseSettings):
    """The whole of ``stream_ml.yaml``."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="STREAM_ML_",
        env_nested_delimiter="__",
        hide_input_in_errors=True,
    )
    _folder: Path = PrivateAttr(default=Path())

    app: App
    worker: Worker = Worker()
    kafka: Kafka
    events: Events
    feedback: Feedback
    predictions: Predictions
    features: Features = Features()
    model: Model
    start: Literal["earliest", "latest"] = "earliest"
    delivery: Delivery = Delivery()
    learning: Learning = Learning()
    pending: Pending = Pending()
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
        return (env_settings, init_settings)

    @model_validator(mode="after")
    def _topics(self) -> Self:
        names = [self.events.topic, self.feedback.topic, self.predictions.topic]
        names += [self.training_log, self.outcomes, self.dead_letters, self.signals]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"topic {', '.join(twice)} is named for two purposes")
        return self

    @property
    def instance(self) -> str:
        """Name of this worker: configured, or the host's."""
        return self.worker.instance or socket.gethostname()

    @property
    def transactional_id(self) -> str:
        """Id under which this worker's producer fences its predecessor."""
        return f"{self.app.id}-{self.instance}"

    def path(self, path: Path) -> Path:
        """Path as seen from the configuration file's folder."""
        return self._folder / path

    @property
    def training_log(self) -> str:
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


def load_config(file: Path) -> Config:
    """The configuration in a YAML file, overlaid by the environment.

    Raises
    ------
    ConfigError
        The file cannot be read, is not YAML, or a key or value is wrong; the operator mends it.
    """
    try:
        values = YamlSource(Config, yaml_file=file)() if file.is_file() else None
    except (yaml.YAMLError, OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file} cannot be read as YAML: {error}") from error
    if values is None:
        raise ConfigError(f"{file} does not exist", "name the configuration file: stream-ml run FILE")
    unknown = [str(key) for key in values if key not in Config.model_fields]
    if unknown:
        raise ConfigError(
            f"{file} is not a valid configuration:\n  " + "\n  ".join(f"{key}: no such key" for key in unknown)
        )
    try:
        config = Config(**values)
    except SettingsError as error:
        raise ConfigError(f"an environment variable STREAM_ML_... cannot be read: {error}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in problem['loc'])}: {_words(problem)}" for problem in error.errors()]
        raise ConfigError(f"{file} is not a valid configuration:\n  " + "\n  ".join(lines)) from None
    config._folder = file.parent  # noqa: SLF001 - set once, here, beside the class that owns it
    return config


def _words(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "no such key"
    return str(problem["msg"]).removeprefix("Value error, ")
