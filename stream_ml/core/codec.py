"""Bytes of a topic to values: three framings, reader and writer schemas, and dead letters instead of exceptions."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from fastavro.read import SchemaResolutionError

from stream_ml.config import Events, Feedback, Framing, Source
from stream_ml.core.binary import decode_record, encode_record
from stream_ml.core.features import FeaturePlan, Refused
from stream_ml.core.fields import NotUsable, converter, find_field, getter, id_text_of, time_ms_of
from stream_ml.core.labels import LabelDomain
from stream_ml.core.schema import HEADER_BYTES, Schema, single_object_header
from stream_ml.records import DeadLetter, Event, Label, Record, Target

ID_MAX_CHARS = 1_024
AHEAD_MAX_MS = 86_400_000  # a day: beyond it a time is a mistake, not a clock that runs ahead
OLDEST_MS = -62_135_596_800_000  # year 1

_BROKEN = (
    ValueError,
    IndexError,
    TypeError,
    KeyError,
    OverflowError,
    ArithmeticError,
    AttributeError,
    struct.error,
)


class Payloads:
    """Decodes the values of one topic into the reader schema's form.

    Parameters
    ----------
    framing
        How bytes name their writer schema.
    reader
        The schema that values are read into.
    by_id
        Confluent: writer schemas by their registered id.
    writers
        Single-object: writer schemas beside the reader, found by their fingerprints.
    """

    def __init__(
        self, framing: Framing, reader: Schema, by_id: dict[int, Schema], writers: Sequence[Schema] = ()
    ) -> None:
        self.framing = framing
        self.reader = reader
        self._by_id = by_id
        self._by_fingerprint = {s.fingerprint: s for s in (reader, *by_id.values(), *writers)}

    @property
    def schemas(self) -> dict[int, Schema]:
        """Writer schemas by fingerprint."""
        return self._by_fingerprint

    def add(self, writer: Schema) -> None:
        """Make one more writer schema known."""
        self._by_fingerprint[writer.fingerprint] = writer

    def decode(self, value: bytes | None) -> tuple[int, dict[str, Any]] | Refused:
        """Fingerprint of the writer schema, and the record; or why it cannot be read."""
        if value is None:
            return Refused("empty", "the value is null (a tombstone)")
        if not value:
            return Refused("empty", "the value has no bytes")
        found = self._writer(value)
        if isinstance(found, Refused):
            return found
        writer, start = found
        payload = self.read(writer, value, start)
        return payload if isinstance(payload, Refused) else (writer.fingerprint, payload)

    def encode(self, payload: dict[str, Any]) -> bytes:
        """A record, as the reader schema writes it, in this topic's framing; ValueError where no id names that schema.

        Single-object and Confluent header: Avro specification, and Confluent's "Wire format".
        """
        header = b""
        if self.framing == "single-object":
            header = single_object_header(self.reader.fingerprint)
        elif self.framing == "confluent":
            ids = [number for number, s in self._by_id.items() if s.fingerprint == self.reader.fingerprint]
            if not ids:
                raise ValueError(f"no id in schema_ids stands for the schema of {self.reader.name}")
            header = b"\x00" + max(ids).to_bytes(4, "big")
        return encode_record(self.reader.parsed, payload, header)

    def fingerprint_of(self, value: bytes) -> int:
        """Fingerprint of the writer schema that a readable value names."""
        found = self._writer(value)
        return self.reader.fingerprint if isinstance(found, Refused) else found[0].fingerprint

    def decode_logged(self, fingerprint: int, framing: Framing, value: bytes) -> dict[str, Any] | Refused:
        """A value from the training log, whose entry names schema and framing."""
        writer = self._by_fingerprint.get(fingerprint)
        if writer is None:
            return Refused("unknown_schema", f"the writer schema {fingerprint} does not stand in the log before it")
        return self.read(writer, value, HEADER_BYTES[framing])

    def read(self, writer: Schema, value: bytes, start: int) -> dict[str, Any] | Refused:
        """The record whose bytes begin at `start`; all bytes must belong to it."""
        reader = None if writer.fingerprint == self.reader.fingerprint else self.reader.parsed
        try:
            payload, end = decode_record(value, writer.parsed, start, reader)
        except EOFError:
            return Refused("truncated", f"the bytes end before the record does{_guess(value, self.framing)}")
        except SchemaResolutionError as error:
            return Refused("schema_mismatch", f"{writer.name} cannot be read as {self.reader.name}: {error}")
        except _BROKEN as error:
            return Refused(
                "not_avro",
                f"not a {writer.name}: {error or type(error).__name__}{_guess(value, self.framing)}",
            )
        left = len(value) - end
        if left:
            return Refused("not_avro", f"{left} bytes are left after the record{_guess(value, self.framing)}")
        return payload

    def _writer(self, value: bytes) -> tuple[Schema, int] | Refused:
        if self.framing == "bare":
            return self.reader, 0
        if self.framing == "confluent":
            if value[0] != 0 or len(value) < 5:
                return Refused("framing", f"Confluent framing begins with byte 00{_guess(value, self.framing)}")
            schema_id = int.from_bytes(value[1:5], "big")
            writer = self._by_id.get(schema_id)
            if writer is None:
                return Refused("unknown_schema", f"schema id {schema_id} is not in the configuration (schema_ids)")
            return writer, 5
        if value[:2] != b"\xc3\x01" or len(value) < 10:
            return Refused("framing", f"single-object encoding begins with bytes c3 01{_guess(value, self.framing)}")
        fingerprint = int.from_bytes(value[2:10], "little", signed=True)
        writer = self._by_fingerprint.get(fingerprint)
        if writer is None:
            return Refused(
                "unknown_schema",
                f"no configured schema has the fingerprint {value[2:10].hex()} (schema_ids lists more)",
            )
        return writer, 10


def _guess(value: bytes, framing: Framing) -> str:
    head = value.lstrip()[:1]
    if head in (b"{", b"["):
        return "; this is JSON"
    if value[:2] == b"\xc3\x01" and framing != "single-object":
        return "; this looks like single-object encoding"
    if value[:1] == b"\x00" and framing != "confluent" and len(value) > 5:
        return "; this may be Confluent framing"
    return f"; it begins with {value[:8].hex(' ')}"


class _Reader:
    """What events and feedback share: payload, id and time, each of which can be wrong."""

    def __init__(self, source: Source, payloads: Payloads, where: str) -> None:
        schema = payloads.reader
        self.payloads = payloads
        self._id: Callable[[Any], str] | None = None
        self._time: Callable[[Any], int | None] | None = None
        if source.id != "key":
            field = find_field(schema, source.id, where=f"{where}.id")
            self._id = composed(getter(field), id_text_of(field, where=f"{where}.id"))
        if source.time != "record":
            field = find_field(schema, source.time, where=f"{where}.time")
            self._time = composed(getter(field), time_ms_of(field, where=f"{where}.time"))

    def head(self, record: Record, now_ms: int) -> tuple[int, dict[str, Any], str, int] | Refused:
        """Writer's fingerprint, payload, id and time of one record."""
        decoded = self.payloads.decode(record.value)
        if isinstance(decoded, Refused):
            return decoded
        fingerprint, payload = decoded
        event_id = self._id_of(record, payload)
        if isinstance(event_id, Refused):
            return event_id
        time_ms = record.timestamp_ms if self._time is None else self._time(payload)
        if time_ms is None:
            return Refused("out_of_range_time", "the time is null")
        if time_ms > now_ms + AHEAD_MAX_MS:
            return Refused(
                "out_of_range_time", f"the time {time_ms} ms lies more than a day ahead of this host's clock"
            )
        if time_ms < OLDEST_MS:
            return Refused("out_of_range_time", f"the time {time_ms} ms lies before the year 1")
        return fingerprint, payload, event_id, time_ms

    def _id_of(self, record: Record, payload: dict[str, Any]) -> str | Refused:
        try:
            text = self._id(payload) if self._id is not None else _key_text(record.key)
        except (ValueError, TypeError) as error:
            return Refused("missing_id", f"the id cannot be read: {error}")
        if not text:
            return Refused(
                "missing_id",
                "the record key is null or empty" if self._id is None else "the id is null or empty",
            )
        if len(text) > ID_MAX_CHARS:
            return Refused("missing_id", f"the id has {len(text)} characters; at most {ID_MAX_CHARS}")
        return text


def composed(get: Callable[[Any], Any], convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function from a record to a converted field; None where the field is null."""

    def value_of(payload: Any) -> Any:
        value = get(payload)
        return None if value is None else convert(value)

    return value_of


def _key_text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8")


class EventReader(_Reader):
    """Batches of event records to Events and dead letters, in the same order."""

    def __init__(self, source: Events, payloads: Payloads, plan: FeaturePlan, carry: Sequence[str]) -> None:
        super().__init__(source, payloads, "events")
        self.plan = plan
        fields = [find_field(payloads.reader, name, where="predictions.carry") for name in carry]
        self._carry = [(field.name.replace(".", "_"), getter(field)) for field in fields]

    def decode(self, records: Sequence[Record], now_ms: int) -> list[Event | DeadLetter]:
        """n records to n Events or DeadLetters. Errors are values; nothing is raised for data."""
        return [self._decode_one(record, now_ms) for record in records]

    def latest_ms(self, items: Sequence[Event | DeadLetter], otherwise_ms: int) -> int:
        """The largest event time of a batch, or the other one where that is later."""
        return max([otherwise_ms, *(item.time_ms for item in items if isinstance(item, Event))])

    def _decode_one(self, record: Record, now_ms: int) -> Event | DeadLetter:
        head = self.head(record, now_ms)
        if isinstance(head, Refused):
            return DeadLetter(record, head.reason, head.message, "decode")
        fingerprint, payload, event_id, time_ms = head
        extracted = self.plan.extract(payload)
        if isinstance(extracted, Refused):
            return DeadLetter(record, extracted.reason, extracted.message, "features")
        features, imputed = extracted
        return Event(record, event_id, time_ms, features, imputed, self.carried(payload), fingerprint)

    def carried(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """Fields of the event that its prediction takes along; None where there are none."""
        return {name: get(payload) for name, get in self._carry} if self._carry else None


class FeedbackReader(_Reader):
    """Batches of feedback records to Labels and dead letters, in the same order."""

    def __init__(self, source: Feedback, payloads: Payloads, domain: LabelDomain) -> None:
        super().__init__(source, payloads, "feedback")
        self.domain = domain
        field = find_field(payloads.reader, source.label, where="feedback.label")
        self._label = getter(field)
        self._convert = converter(field) if domain.task == "regression" else None

    def decode(self, records: Sequence[Record], now_ms: int) -> list[Label | DeadLetter]:
        """n records to n Labels or DeadLetters. Errors are values; nothing is raised for data."""
        return [self._decode_one(record, now_ms) for record in records]

    def _decode_one(self, record: Record, now_ms: int) -> Label | DeadLetter:
        head = self.head(record, now_ms)
        if isinstance(head, Refused):
            return DeadLetter(record, head.reason, head.message, "decode")
        _, payload, event_id, time_ms = head
        target = self._target(self._label(payload))
        if isinstance(target, Refused):
            return DeadLetter(record, target.reason, target.message, "label")
        return Label(record, event_id, time_ms, target)

    def _target(self, value: Any) -> Target | Refused:
        if value is None or self._convert is None:
            return self.domain.canonical(value)
        try:
            return self.domain.canonical(self._convert(value))
        except NotUsable as error:
            return Refused("not_finite", f"the label: {error}")
