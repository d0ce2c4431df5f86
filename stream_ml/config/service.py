"""How a worker runs: Kafka, delivery, pending store, checkpoints, training log, port, log lines."""

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from stream_ml.config.section import OwnName, Section, key
from stream_ml.records import Scalar
from stream_ml.units import Duration, Size, duration_ms, size_bytes

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
    "partition.assignment.strategy": "it is cooperative-sticky",
    "group.protocol": "the service is written for the classic one",
    "transaction.timeout.ms": "set delivery.transaction_timeout",
    "session.timeout.ms": "set delivery.session_timeout",
}


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

    @model_validator(mode="after")
    def _token(self) -> "Kafka":
        """A client that is to bring tokens and is not told where from waits for ever, and says nothing."""
        named = {**self.properties}
        mechanism = str(named.get("sasl.mechanism", named.get("sasl.mechanisms", ""))).upper()
        for_trials = str(named.get("enable.sasl.oauthbearer.unsecure.jwt")).lower() == "true"
        has_method = for_trials or str(named.get("sasl.oauthbearer.method")).lower() == "oidc"
        if mechanism == "OAUTHBEARER" and not has_method:
            raise ValueError("OAUTHBEARER needs sasl.oauthbearer.method: oidc, and a token endpoint")
        return self


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


class Pending(Section):
    """Caps of what waits for its other half, per partition."""

    events_max: int = key(
        1_000_000,
        "events held per partition, waiting or remembered; beyond it the oldest are forgotten and counted",
        ge=1,
    )
    early_labels_max: int = key(100_000, "early labels per partition; beyond it the oldest end as `shed`", ge=1)
    bytes_max: Size = key(size_bytes("1GiB"), "memory of both per partition, about")


class BucketSettings(Section):
    """A bucket of an object store that speaks S3, where checkpoints are kept too; needs the extra `s3`."""

    url: str = key(
        ..., "s3://BUCKET/PREFIX, one prefix for an app", pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.+)?$"
    )
    endpoint: str | None = key(
        None, "where it answers, as https://minio:9000; null: at Amazon", pattern=r"^https?://[^@\s/]+(/\S*)?$"
    )
    region: str = key("us-east-1", "its region")
    access_key_id: str | None = key(
        None, "of the credentials; null: what the environment gives (AWS_..., a web identity, the machine's role)"
    )
    secret_access_key: str | None = key(None, "as a secret file: checkpoints.bucket.secret_access_key")
    timeout: Duration = key(duration_ms("30s"), "for one request, its repetitions included", ge=1_000, le=600_000)
    wait: Duration = key(
        duration_ms("60s"),
        "at a start, for what only the bucket has; behind it the log is folded from what is here",
        le=3_600_000,
    )

    @model_validator(mode="after")
    def _both(self) -> "BucketSettings":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key are given together, or neither")
        return self


class Checkpoints(Section):
    """Where caches of the fold are kept."""

    directory: Path = key(Path("checkpoints"), "where they are kept")
    bucket: BucketSettings | None = key(
        None, "where they are kept too, so that a worker on a new machine begins with one. null: nowhere"
    )
    interval: Duration = key(duration_ms("60s"), "time between two checkpoints, while anything is learned")
    stop_wait: Duration = key(
        duration_ms("20s"), "for the last one after SIGTERM: less than whoever sends it waits before SIGKILL"
    )
    keep: int = key(5, "number of newest checkpoints that stay on the disk", ge=1)
    spaced: bool = key(
        True, "keep older ones of models as well, ever fewer: about three for each doubling of the log's length"
    )
    key_file: Path | None = key(
        None,
        "file with a key of at least 16 bytes that seals them; null: `.stream_ml-<app.id>.key` beside this file, made "
        "at the first run",
    )
    unsealed: bool = key(
        False, "do without a key where none can be made: who may write to the directory can run code in the worker"
    )

    @model_validator(mode="after")
    def _common_key(self) -> "Checkpoints":
        if self.bucket is not None and self.key_file is None and not self.unsealed:
            raise ValueError(
                "bucket needs key_file, the same for all: a key that each machine makes for itself fits nothing that "
                "another one has put there"
            )
        return self


class Models(Section):
    """Several models on one log: which are kept ready, and how a changed one takes over."""

    upgrade: Literal["auto", "manual"] = key(
        "auto",
        "a model that the log does not know yet: `auto`: it is declared, learns behind the one that serves, and takes "
        "over once it is ready; `manual`: the worker ends and says what to type",
    )

    @field_validator("upgrade", mode="before")
    @classmethod
    def _not_yet(cls, given: Any) -> Any:
        if given == "checked":
            raise ValueError("`checked` needs replay, which this version does not have: take auto or manual")
        return given

    directory: Path = key(Path("model-store"), "where specifications and sources of models are kept, by lineage")
    key_file: Path | None = key(
        None,
        "file with a key of at least 16 bytes that seals models in the log, the same for all workers and operators; "
        "null: only models of the own disk are built",
    )
    standbys_max: int = key(2, "models that are kept ready beside the one that serves, the newest first", ge=0, le=3)
    background_share: float = key(
        0.25, "part of a turn's time to fold that models get which are behind, while the log is busy", ge=0.01, le=1.0
    )
    grace: Duration = key(duration_ms("10m"), "predictions flagged `superseded` for longer are a problem")


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
