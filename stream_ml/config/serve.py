"""How ``stream-ml serve`` answers: where, how many processes, limits, who may ask."""

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from stream_ml.config.section import OwnName, Section, is_private, key
from stream_ml.units import Duration, Size, duration_ms, size_bytes

ScopeName = Literal["predict", "feedback", "jobs", "admin"]
SCOPES: tuple[str, ...] = get_args(ScopeName)  # what a credential may allow
TAKEN = (
    "/v1/predict",
    "/v1/feedback",
    "/v1/model",
    "/v1/labels",
    "/v1/jobs",
    "/v1/explain",
    "/v1/schema",
    "/v1/models",
)


Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class Jwt(Section):
    """Tokens of an issuer (OpenID Connect, or any that publishes its keys); needs the extra `jwt`."""

    issuer: str = key(..., "claim `iss` that a token has to have", min_length=1)
    audience: str = key(..., "claim `aud` that a token has to have", min_length=1)
    jwks_url: str = key(..., "where the issuer publishes its keys; https, or http on this machine", min_length=1)
    algorithms: list[Algorithm] = key(
        ["RS256", "ES256", "EdDSA"], "that a token may be signed with; none of them shares a secret", min_length=1
    )
    scope_claim: str = key("scope", "claim that holds what a token allows: predict, feedback, jobs, admin")
    leeway: Duration = key(duration_ms("60s"), "that clocks may differ by", le=600_000)

    @field_validator("jwks_url")
    @classmethod
    def _safe(cls, url: str) -> str:
        if not is_private(url):
            raise ValueError("jwks_url begins with https:// (http:// only on this machine)")
        return url


class Mtls(Section):
    """Certificates of clients, signed by an authority of yours; needs tls_cert."""

    ca_file: Path = key(..., "certificates of the authorities (PEM) whose clients are admitted; read again")
    names: list[str] = key([], "common names that are admitted; empty: all that the authorities have signed")
    scopes: list[ScopeName] = key(["predict"], "what such a client may do")


class Auth(Section):
    """Who may ask. Any credential that is configured admits."""

    keys_file: Path | None = key(
        None, "file of API keys, made by `stream-ml keys new`; read again when it changes. null: no keys"
    )
    jwt: Jwt | None = key(None, "tokens of an issuer. null: none")
    mtls: Mtls | None = key(None, "certificates of clients. null: none")
    none: bool = key(False, "answer everybody, where serve.host is none of this machine alone")

    @property
    def is_open(self) -> bool:
        """Whether nobody has to say who asks."""
        return self.keys_file is None and self.jwt is None and self.mtls is None

    @model_validator(mode="after")
    def _either(self) -> "Auth":
        if self.none and not self.is_open:
            raise ValueError("none and a credential (keys_file, jwt, mtls) exclude each other")
        return self


class Alias(Section):
    """A path of its own with field names of its own: one object in, one out."""

    path: str = key(..., "path under /v1/, as /v1/sentiment", pattern=r"^/v1/[a-z0-9][a-z0-9_-]{0,63}$")
    in_: dict[str, str] = Field(
        ..., alias="in", description="names of the request, and the fields of the event they are"
    )
    set: dict[str, Any] = key({}, "fields of the event that every request has, and their values")
    out: dict[str, Literal["class", "score", "scores", "value", "id", "flags"]] = key(
        ..., "names of the answer, and what of the prediction they are"
    )
    max_chars: int = key(10_000, "longest text of a field of the request", ge=1, le=1_000_000)

    @field_validator("path")
    @classmethod
    def _free(cls, path: str) -> str:
        if path in TAKEN:
            raise ValueError(f"{path} is a path of the API itself: take another one")
        return path


class Jobs(Section):
    """Many instances scored aside: callers leave them here, runners (`stream-ml jobs`) score them."""

    rows_max: int = key(100_000, "instances of one job", ge=1, le=10_000_000)
    body_max: Size = key(size_bytes("32MiB"), "largest body that submits one")
    keep: Duration = key(duration_ms("1d"), "from its beginning until a job and its results are gone", ge=60_000)
    active_max: int = key(100, "jobs of one caller that are on their way at once", ge=1, le=10_000)
    port: int = key(8002, "port of a runner's /metrics, /readyz and /livez, on http.host; 0: none", ge=0, lt=65536)


class Serve(Section):
    """The scoring API: `stream-ml serve`."""

    host: str = key("127.0.0.1", "where the API answers; elsewhere than on this machine it needs serve.auth")
    port: int = key(8000, "port of the API", ge=1, lt=65536)
    grpc_port: int | None = key(
        None,
        "port of the Open Inference Protocol over gRPC, on the same host; null: off. Needs the extra `grpc`",
        ge=1,
        lt=65536,
    )
    processes: int = key(1, "processes that answer, each with a model of its own; about one for a core", ge=1, le=64)
    admin_port: int = key(
        8001, "port of /metrics, /readyz, /livez and /v1/status of all processes; 0: none", ge=0, lt=65536
    )
    fold_slice: Duration = key(duration_ms("1ms"), "longest fold between two looks at requests", ge=1, le=1_000)
    fold_share: float = key(
        0.5, "part of its time that a process folds while it is behind and requests come", ge=0.05, le=0.95
    )
    wait: Duration = key(
        duration_ms("1s"),
        "longest wait for a position that a request asks for; `Prefer: wait=` may say another",
        le=30_000,
    )
    age_max: Duration | None = key(None, "answers of a model that is older are refused (503 stale); null: flagged only")
    record: Literal["off", "ack"] = key(
        "off",
        "`ack`: each event that is asked about is written to the events topic with what was answered, which the worker "
        "publishes as it is; the answer waits for Kafka. `off`: nothing is written",
    )
    provenance_key_file: Path | None = key(
        None,
        "file with a key of at least 16 bytes that seals answers in their events, the same for API and workers; needed "
        "for `record: ack`",
    )
    old_provenance_key_files: list[Path] = key([], "files with keys that sealed older answers, while a key is replaced")
    feedback: bool = key(False, "take labels at /v1/feedback and write them to the feedback topic")
    jobs: Jobs | None = key(None, "jobs at /v1/jobs; their topics: `stream-ml topics create`. null: none are taken")
    ack_timeout: Duration = key(
        duration_ms("2s"), "longest wait for Kafka to confirm a label; then 503 not-recorded", ge=100, le=60_000
    )
    body_max: Size = key(size_bytes("1MiB"), "largest body of a request")
    instances_max: int = key(1_000, "instances in one request", ge=1, le=100_000)
    in_flight_max: int = key(256, "requests at once in one process; beyond it 503 overloaded", ge=1, le=10_000)
    connections_max: int = key(
        1_024, "connections of one process; beyond it the oldest idle one is closed", ge=8, le=65_536
    )
    read_timeout: Duration = key(
        duration_ms("10s"), "from the first byte of a request to its last; then 408 too-slow", ge=100, le=600_000
    )
    idle_timeout: Duration = key(
        duration_ms("75s"),
        "a connection without a request is closed; longer than the balancer's",
        ge=1_000,
        le=3_600_000,
    )
    drain: Duration = key(
        duration_ms("5s"),
        "from SIGTERM until connections are closed; longer than the balancer takes to notice",
        le=600_000,
    )
    rate: float | None = key(
        None, "requests a second of one credential, in each process; null: no limit. A key may have its own", gt=0
    )
    auth: Auth = Auth()
    tls_cert: Path | None = key(
        None, "certificate chain (PEM); with tls_key the API speaks TLS. Read again when it changes"
    )
    tls_key: Path | None = key(None, "private key of tls_cert (PEM)")
    model_name: OwnName | None = key(None, "name of the model in the Open Inference Protocol; null: app.id")
    aliases: list[Alias] = key([], "paths with field names of their own")
    verbose_errors: bool = key(True, "refusals may repeat what is wrong with a value; false: code and place only")
    public_schema: bool = key(True, "/openapi.json, its page and /v1/schema need no credential")

    @model_validator(mode="after")
    def _both(self) -> "Serve":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        if self.record == "ack" and self.provenance_key_file is None:
            raise ValueError(
                "record: ack needs provenance_key_file (openssl rand -hex 32 > FILE), workers the same one"
            )
        if self.old_provenance_key_files and self.provenance_key_file is None:
            raise ValueError("old_provenance_key_files are read only with a provenance_key_file")
        paths = [alias.path for alias in self.aliases]
        if len(set(paths)) < len(paths):
            raise ValueError("two aliases have the same path")
        ports = [
            self.port,
            *([self.admin_port] if self.admin_port else []),
            *([self.grpc_port] if self.grpc_port else []),
        ]
        if len(set(ports)) < len(ports):
            raise ValueError(f"port, admin_port and grpc_port are not all different: {ports}")
        if self.auth.mtls is not None and self.tls_cert is None:
            raise ValueError("auth.mtls needs tls_cert and tls_key: without TLS there are no certificates")
        return self
