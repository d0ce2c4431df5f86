"""Outcomes and dead letters as records, and back."""

import hashlib
from collections import Counter
from typing import Any, NamedTuple

import fastavro
from fastavro.schema import to_parsing_canonical_form

from stream_ml import formats
from stream_ml.core.avro.record import Decoder, check_format_of, decode_own, encode_record
from stream_ml.core.avro.schema import fingerprint, single_object_header
from stream_ml.core.join.join import Resolved
from stream_ml.records import (
    HEADERS_CUT,
    KEY_CUT,
    VALUE_BYTES,
    VALUE_CUT,
    Block,
    Clock,
    DeadLetter,
    Headers,
    Produce,
    Record,
)

FORMAT = 2
FORMAT_HEADER = "stream_ml.format"  # of a dead letter
RECORD_OVERHEAD = 256  # bytes of a record batch and record beside key, value and headers, rounded up
DEAD_LETTER_VALUE_MAX = 900_000
CUT = (VALUE_CUT, KEY_CUT, HEADERS_CUT)  # headers of a dead letter that has not all of its record
REASONS = (  # of a dead letter: the closed list
    *("empty", "not_avro", "truncated", "unknown_schema", "framing", "schema_mismatch", "missing_id"),
    *("missing_feature", "not_finite", "out_of_bounds", "out_of_range_time", "label_domain", "too_large"),
    *("model_refused", "not_unpacked"),
)
TRACE_HEADERS = ("traceparent", "tracestate")  # W3C Trace Context: forwarded as they came
_MESSAGE_MAX = 1_000  # characters of a dead letter's message

_OUTCOME = fastavro.parse_schema(formats.load("outcome"))
_OUTCOME_DECODER = Decoder(_OUTCOME)
_OUTCOME_HEAD = Decoder(
    fastavro.parse_schema(
        {**formats.load("outcome"), "name": "OutcomeHead", "fields": formats.load("outcome")["fields"][:5]}
    )
)
_OUTCOME_HEADER = single_object_header(fingerprint(to_parsing_canonical_form(formats.load("outcome"))))


def trace_headers(headers: Headers) -> Headers:
    """Those of an event's headers that its prediction takes along."""
    return [header for header in headers if header[0] in TRACE_HEADERS] if headers else ()


def encode_outcome(topic: str, partition: int, resolved: Resolved, clock: Clock) -> Produce:
    """The record of what became of a label."""
    label = resolved.label
    value = encode_record(
        _OUTCOME,
        {
            "format": FORMAT,
            "feedback_topic": label.record.topic,
            "feedback_partition": label.record.partition,
            "feedback_offset": label.record.offset,
            "event_id": label.event_id,
            "outcome": resolved.kind,
            "event_offset": resolved.event_offset,
            "decided_at": clock.now_ms,
        },
        _OUTCOME_HEADER,
    )
    return Produce(topic, partition, label.record.key, value)


def decode_outcome(value: bytes) -> dict[str, Any]:
    """An outcome record as values.

    Raises
    ------
    LaterFormat
        A later version wrote it.
    ValueError
        It is none.
    """
    if value[:2] != _OUTCOME_HEADER[:2]:
        raise ValueError("not an outcome: other framing")
    check_format_of(value, len(_OUTCOME_HEADER), FORMAT, _OUTCOME_HEAD, "an outcome", "feedback")
    return decode_own(value, _OUTCOME_DECODER, len(_OUTCOME_HEADER))


def encode_dead_letter(topic: str, dead_letter: DeadLetter, clock: Clock, limit_bytes: int) -> Produce:
    """The record of a dead letter: the original, as much of it as fits, and why.

    Header names are those of Kafka Connect's dead-letter queue, so that existing tools read them.
    """
    record = dead_letter.record
    context: list[tuple[str, bytes]] = [(FORMAT_HEADER, str(FORMAT).encode())]
    context += [
        (f"__connect.errors.{name}", text.encode())
        for name, text in (
            ("topic", record.topic),
            ("partition", str(record.partition)),
            ("offset", str(record.offset)),
            ("exception.class.name", dead_letter.reason),
            ("exception.message", dead_letter.message[:_MESSAGE_MAX]),
            ("stage", dead_letter.stage),
            ("timestamp", str(clock.now_ms)),
        )
    ]
    room = limit_bytes - RECORD_OVERHEAD - _header_bytes(context) - 384  # for the headers of a truncated one
    key, value, headers = record.key, record.value, list(record.headers or ())
    if key is not None and len(key) > room // 4:
        context.append((KEY_CUT, str(len(key)).encode()))
        key = key[: room // 4]
    if _header_bytes(headers) > room // 4:
        context.append((HEADERS_CUT, str(len(headers)).encode()))
        headers = []
    value_max = min(DEAD_LETTER_VALUE_MAX, room - len(key or b"") - _header_bytes(headers))
    if value is not None and len(value) > value_max:
        context += [
            (VALUE_CUT, hashlib.sha256(value).hexdigest().encode()),
            (VALUE_BYTES, str(len(value)).encode()),
        ]
        value = value[:value_max]
    return Produce(topic, record.partition, key, value, [*headers, *context])


def dead_letter_origin(record: Record) -> tuple[str, int, int] | None:
    """Topic, partition and offset that a dead letter names; None where the headers are not ours."""
    headers = dict(record.headers or ())
    try:
        return (
            headers["__connect.errors.topic"].decode(),
            int(headers["__connect.errors.partition"]),
            int(headers["__connect.errors.offset"]),
        )
    except (KeyError, ValueError, AttributeError):
        return None


def dead_letter_words(record: Record) -> tuple[str, str]:
    """Reason and message of a dead letter; empty where the headers are not ours."""
    headers = dict(record.headers or ())
    reason, message = (headers.get(f"__connect.errors.exception.{name}") or b"" for name in ("class.name", "message"))
    return reason.decode("utf-8", "replace"), message.decode("utf-8", "replace")


def _header_bytes(headers: Headers) -> int:
    return sum(len(name) + len(value or b"") + 8 for name, value in headers)


def record_bytes(produce: Produce) -> int:
    """Upper bound of what a record takes on the wire, uncompressed."""
    return len(produce.value or b"") + len(produce.key or b"") + _header_bytes(produce.headers) + RECORD_OVERHEAD


class Topics(NamedTuple):
    """Where outputs go, beside predictions."""

    training_log: str
    outcomes: str
    dead_letters: str
    signals: str


class OutputBuilder:
    """Gathers what one turn of a partition publishes: a block a topic, counts, the first dead letter of each reason.

    Parameters
    ----------
    partition
        Of all topics but the training log, which has one.
    record_bytes_max
        Of a record; an outcome that would be larger becomes a dead letter.
    """

    def __init__(self, topics: Topics, partition: int, clock: Clock, record_bytes_max: int) -> None:
        self._clock, self._record_bytes_max = clock, record_bytes_max
        self.predictions = Block.empty("", partition)  # until they are made, all at once
        self.training_log = Block.empty(topics.training_log, 0)
        self.outcomes = Block.empty(topics.outcomes, partition)
        self.dead_letters = Block.empty(topics.dead_letters, partition)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.first_by_reason: dict[str, DeadLetter] = {}

    def resolved(self, resolved: Resolved) -> None:
        """Publish what became of a label."""
        label = resolved.label
        if resolved.kind == "too_large":
            message = f"the example with event {label.event_id!r} would be larger than a record may be"
            self.dead(DeadLetter(label.record, "too_large", message, "join"))
            return
        produce = encode_outcome(self.outcomes.topic, self.outcomes.partition, resolved, self._clock)
        if record_bytes(produce) > self._record_bytes_max:
            message = f"{resolved.kind}; the outcome, with the label's key, would take {record_bytes(produce)} bytes"
            self.dead(DeadLetter(label.record, "too_large", message, "join"))
            return
        self.outcomes.add(produce.key, produce.value)
        self.counts["labels", resolved.kind] += 1
        if resolved.passed:
            self.counts["labels_passed", resolved.kind] += 1

    def dead(self, dead_letter: DeadLetter) -> None:
        """Publish a record that cannot be used."""
        produce = encode_dead_letter(self.dead_letters.topic, dead_letter, self._clock, self._record_bytes_max)
        self.dead_letters.add(*produce[2:])
        self.counts["dead_letters", dead_letter.reason] += 1
        self.first_by_reason.setdefault(dead_letter.reason, dead_letter)
