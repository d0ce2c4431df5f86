"""What is traced, and where spans are sent (OpenTelemetry)."""

from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from stream_ml.config.section import Section, is_private, key


class Traces(Section):
    """Spans of turns and requests, sent to a collector by OTLP over HTTP; needs the extra `otel`."""

    endpoint: str | None = key(
        None,
        "where the collector takes OTLP over HTTP, as http://collector:4318; null: nothing is traced",
        pattern=r"^https?://[^@\s/?#]+(/[^\s?#]*)?$",
    )
    ratio: float = key(
        0.01, "share of turns and requests that are traced where no caller has decided, from 0 to 1", ge=0, le=1
    )
    turns_per_second: int = key(10, "at most so many turns of a worker are traced each second", ge=1, le=1_000)
    requests_per_second: int = key(
        100, "at most so many requests of a process are traced each second, whoever wants it", ge=1, le=10_000
    )
    token: str | None = key(None, "sent as `Authorization: Bearer`; as a secret file: traces.token")

    @field_validator("endpoint")
    @classmethod
    def _whole(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        return endpoint if urlsplit(endpoint).path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"

    @model_validator(mode="after")
    def _in_private(self) -> "Traces":
        if self.token is not None and self.endpoint is not None and not is_private(self.endpoint):
            raise ValueError("token would be sent in the clear: traces.endpoint begins with https://")
        return self
