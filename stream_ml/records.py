"""The nouns that cross module borders, as small tuples (0.35 us to make, a frozen dataclass 1.0 us)."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, Literal, NamedTuple

Framing = Literal["bare", "confluent", "single-object"]  # how the bytes of a value name their schema
Scalar = bool | int | float | str
Trigger = Literal[0, 1]  # which input completed a pair: BY_EVENT or BY_LABEL
Task = Literal["binary", "multiclass", "regression"]
BY_EVENT: Trigger = 0
BY_LABEL: Trigger = 1
Headers = Sequence[tuple[str, bytes]]
NOT_UNPACKED = "stream_ml.not_unpacked"  # header of what stands for a record that the client could not unpack
NOT_SEALED = "stream_ml.not_sealed"  # in place of an entry of the training log that no key of ours has sealed
TOO_LARGE = "stream_ml.too_large"  # header of a record whose value or key was left out
VALUE_CUT, VALUE_BYTES = "stream_ml.value.sha256", "stream_ml.value.bytes"  # of what a dead letter has not, or in part
UNREADABLE_HEADERS = "stream_ml.headers.unreadable"  # in place of headers of which a name is no UTF-8
KEY_CUT, HEADERS_CUT = "stream_ml.key.bytes", "stream_ml.headers.dropped"


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
    size = len(record.key or b"") + len(record.value or b"")
    return size + sum(len(name) + len(value or b"") for name, value in record.headers) if record.headers else size


class Records:
    """Records of one partition as columns of n, in offset order; `headers` by row, of those that have any."""

    __slots__ = ("headers", "keys", "offsets", "partition", "timestamps_ms", "topic", "values")

    def __init__(
        self,
        topic: str,
        partition: int,
        offsets: list[int],
        timestamps_ms: list[int],
        keys: list[bytes | None],
        values: list[bytes | None],
        headers: dict[int, Headers],
    ) -> None:
        self.topic, self.partition = topic, partition
        self.offsets, self.timestamps_ms = offsets, timestamps_ms
        self.keys, self.values, self.headers = keys, values, headers

    @classmethod
    def of(cls, topic: str, partition: int, records: Sequence[Record]) -> "Records":
        """The columns of records that are there one by one."""
        headers = {row: record.headers for row, record in enumerate(records) if record.headers}
        return cls(
            topic,
            partition,
            [record.offset for record in records],
            [record.timestamp_ms for record in records],
            [record.key for record in records],
            [record.value for record in records],
            headers,
        )

    def __len__(self) -> int:
        """n."""
        return len(self.offsets)

    def record(self, row: int) -> Record:
        """The record of this row."""
        return Record(
            self.topic,
            self.partition,
            self.offsets[row],
            self.timestamps_ms[row],
            self.keys[row],
            self.values[row],
            self.headers.get(row, ()),
        )

    def __iter__(self) -> Iterator[Record]:
        """All, one by one."""
        if self.headers:
            return map(self.record, range(len(self)))
        columns = (self.offsets, self.timestamps_ms, self.keys, self.values)
        return map(Record, repeat(self.topic), repeat(self.partition), *columns)

    def extend(self, others: "Records") -> None:
        """Append later ones of the same partition."""
        self.headers |= {len(self) + row: headers for row, headers in others.headers.items()}
        self.offsets += others.offsets
        self.timestamps_ms += others.timestamps_ms
        self.keys += others.keys
        self.values += others.values

    def since(self, offset: int) -> "Records":
        """Those at this offset or later."""
        if not self.offsets or self.offsets[0] >= offset:
            return self
        return self.part(bisect_left(self.offsets, offset), len(self))

    def part(self, first: int, stop: int) -> "Records":
        """Those of some rows that stand one after another."""
        return Records(
            self.topic,
            self.partition,
            self.offsets[first:stop],
            self.timestamps_ms[first:stop],
            self.keys[first:stop],
            self.values[first:stop],
            {row - first: headers for row, headers in self.headers.items() if first <= row < stop},
        )

    def carried_bytes(self, first: int, stop: int) -> int:
        """Bytes of keys, values and headers of some rows: what they take as long as they are held."""
        keys, values = self.keys[first:stop], self.values[first:stop]
        size = sum(len(key) for key in keys if key) + sum(len(value) for value in values if value)
        for row, headers in self.headers.items():
            if first <= row < stop:
                size += sum(len(name) + len(value or b"") for name, value in headers)
        return size


class Produce(NamedTuple):
    """One record to be written."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Block(NamedTuple):
    """Records to be written to one partition, as columns; `headers` by row, of those that have any."""

    topic: str
    partition: int
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: dict[int, Headers]

    @classmethod
    def empty(cls, topic: str, partition: int) -> "Block":
        """One to be filled."""
        return cls(topic, partition, [], [], {})

    def add(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Append a record."""
        if headers:
            self.headers[len(self.keys)] = headers
        self.keys.append(key)
        self.values.append(value)

    def produces(self) -> Iterator[Produce]:
        """Its records, one by one."""
        for row, (key, value) in enumerate(zip(self.keys, self.values, strict=True)):
            yield Produce(self.topic, self.partition, key, value, self.headers.get(row, ()))


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
    """What was published for an event, as far as quality and the training log need it.

    `scores` is the text that was published. `epoch` and `arm` say which table of models was in force, and which of its
    lineages the event was assigned to (empty: there was one).
    """

    class_name: str | None
    score: float | None
    scores: str | None
    value: float | None
    lineage: str
    position: int
    flags: tuple[str, ...]
    log_partition: int = 0
    epoch: int = 0
    arm: str = ""


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
