"""The nouns that cross module borders, as small tuples (0.35 us to make, a frozen dataclass 1.0 us)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

Headers = Sequence[tuple[str, bytes]]


class Record(NamedTuple):
    """One record as a consumer returned it. `timestamp_ms` is Kafka's; value None is a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def carried_bytes(record: Record) -> int:
    """Bytes of key, value and headers: what a record takes as long as it is held."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers or ())
    return len(record.key or b"") + len(record.value or b"") + headers


class Produce(NamedTuple):
    """One record to be written."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Event(NamedTuple):
    """A decoded event. `features` has d values in schema order; `imputed` says that one was filled in."""

    record: Record
    event_id: str
    time_ms: int
    features: dict[str, Any]
    imputed: bool
    carried: dict[str, Any] | None
    schema: int


class Target(NamedTuple):
    """A label made canonical: `class_name` for classification, `value` for regression."""

    class_name: str | None
    value: float | None


class Label(NamedTuple):
    """Truth about an event. `time_ms` says when it became known. `record` is kept for a dead letter."""

    record: Record
    event_id: str
    time_ms: int
    target: Target


class DeadLetter(NamedTuple):
    """A record that cannot be used, why (`reason` from a closed list), and in words."""

    record: Record
    reason: str
    message: str
    stage: str


class Served(NamedTuple):
    """What was published for an event, as far as quality and the training log need it."""

    class_name: str | None
    score: float | None
    scores: dict[str, float] | None
    value: float | None
    lineage: str
    position: int
    flags: tuple[str, ...]


NOT_SERVED = Served(None, None, None, None, "", -1, ())


class Clock(NamedTuple):
    """Time as a value: `now_ms` is the host's calendar, `monotonic_ms` only measures intervals."""

    now_ms: int
    monotonic_ms: int


class LogRecord(NamedTuple):
    """One committed record of the training log."""

    offset: int
    value: bytes


class Version(NamedTuple):
    """A model version: a lineage and the offset of the next log entry to fold."""

    lineage: str
    position: int
