"""The one configuration tree of ``stream_ml.yaml``: every key with its type, default and meaning.

Relative paths are relative to the file. The documents' reference and the JSON Schema for editors are made from it.
"""

import ipaddress
import socket
from pathlib import Path
from typing import Literal, Self

from pydantic import PrivateAttr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stream_ml.config.inputs import Events, Features, Feedback, Predictions
from stream_ml.config.model import MISS_DETECTORS, Drift, Learning, Model, Quality, Watch
from stream_ml.config.section import OWN_NAME_MAX, key
from stream_ml.config.serve import Serve
from stream_ml.config.service import App, Checkpoints, Delivery, Http, Kafka, Log, Models, Pending, TrainingLog, Worker
from stream_ml.config.traces import Traces
from stream_ml.records import Scalar


def _is_file(name: str, value: Scalar) -> bool:
    """Whether a librdkafka key has a path as its value; ssl.ca.location may also be the word probe."""
    return isinstance(value, str) and value != "probe" and name.endswith((".location", ".file", ".keytab"))


def _is_loopback(host: str) -> bool:
    """Whether nothing but this machine can reach it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
    models: Models = Models()
    http: Http = Http()
    serve: Serve = Serve()
    traces: Traces = Traces()
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
        uses |= {"dead-letters": self.dead_letters, "signals": self.signals, "jobs": self.jobs}
        uses |= {"job-requests": self.job_requests, "job-results": self.job_results}
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
    def _admitted(self) -> Self:
        serve = self.serve
        if not _is_loopback(serve.host) and serve.auth.is_open and not serve.auth.none:
            raise ValueError(
                f"serve.host {serve.host} lets other machines ask, without a credential: set serve.auth.keys_file "
                "(stream-ml keys new), or serve.auth.none: true where the network keeps strangers out"
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
    def jobs(self) -> str:
        """Topic of the jobs: one record for each that is submitted or cancelled."""
        return f"{self.app.id}.jobs"

    @property
    def job_requests(self) -> str:
        """Topic of what jobs ask for."""
        return f"{self.app.id}.job-requests"

    @property
    def job_results(self) -> str:
        """Topic of what they are answered."""
        return f"{self.app.id}.job-results"

    @property
    def dead_letters(self) -> str:
        """Topic of the dead letters."""
        return f"{self.app.id}.dead-letters"

    @property
    def signals(self) -> str:
        """Topic of the signals."""
        return f"{self.app.id}.signals"
