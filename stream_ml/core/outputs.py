"""Predictions, outcomes and dead letters as records; and the part of a prediction that a rebuild reads back."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import fastavro
import pyarrow as pa
from fastavro.schema import to_parsing_canonical_form

from stream_ml import schemas
from stream_ml.config import Framing
from stream_ml.core.avro_columns import ROWS_MIN, avro_columns
from stream_ml.core.binary import decode_own, encode_record
from stream_ml.core.columns import doubles_column, maps_column, same_values, texts_column
from stream_ml.core.events import Events, picked
from stream_ml.core.fields import find_field
from stream_ml.core.join import Resolved
from stream_ml.core.learner import Scored
from stream_ml.core.schema import HEADER_BYTES, Schema, fingerprint, single_object_header
from stream_ml.core.scoring import Scores
from stream_ml.errors import ConfigError
from stream_ml.records import Clock, DeadLetter, Event, Headers, Produce, Record, Served, Version

FORMAT = 1
RECORD_OVERHEAD = 256  # bytes of a record batch and record beside key, value and headers, rounded up
DEAD_LETTER_VALUE_MAX = 900_000
TRACE_HEADERS = ("traceparent", "tracestate")  # W3C Trace Context: forwarded as they came
_MESSAGE_MAX = 1_000  # characters of a dead letter's message

_OUTCOME = fastavro.parse_schema(schemas.load("outcome"))
_OUTCOME_HEADER = single_object_header(fingerprint(to_parsing_canonical_form(schemas.load("outcome"))))


def prediction_schema(event: Schema, carry: list[str]) -> dict[str, Any]:
    """The concrete schema of an app's predictions: `carried` typed from the event's schema."""
    raw = schemas.load("prediction")
    if carry:
        seen: set[str] = set()
        fields: list[dict[str, Any]] = []
        for name in carry:
            field = find_field(event, name, where="predictions.carry")
            type_ = _inlined(_raw_type(event, field.path), event, seen)
            if any(other["name"] == name.replace(".", "_") for other in fields):
                raise ConfigError(f"predictions.carry: two fields would be named {name.replace('.', '_')}")
            fields.append({"name": name.replace(".", "_"), "type": type_, "doc": f"Field {name} of the event."})
        record = {
            "type": "record",
            "name": "Carried",
            "doc": "Event fields passed through.",
            "fields": fields,
        }
        raw["fields"][-1]["type"] = ["null", record]
    return raw


def _raw_type(schema: Schema, path: tuple[str, ...]) -> Any:
    fields = schema.fields
    for part in path[:-1]:
        type_ = next(field["type"] for field in fields if field["name"] == part)
        branches = type_ if isinstance(type_, list) else [type_]
        record = schema.resolve(next(branch for branch in branches if branch != "null"))
        fields = record["fields"]
    type_ = next(field["type"] for field in fields if field["name"] == path[-1])
    nullable = len(path) > 1 and "null" not in (type_ if isinstance(type_, list) else [type_])
    return ["null", *(type_ if isinstance(type_, list) else [type_])] if nullable else type_


def _inlined(node: Any, schema: Schema, seen: set[str]) -> Any:
    """A type on its own: named types written out where they first occur, under names of their own."""
    if isinstance(node, list):
        return [_inlined(branch, schema, seen) for branch in node]
    if isinstance(node, str):
        return _inlined(schema.named[node], schema, seen) if node in schema.named else node
    if isinstance(node, dict) and node.get("type") in ("record", "enum", "fixed"):
        name = "carried." + str(node["name"]).replace(".", "_")
        if name in seen:
            return name
        seen.add(name)
        inner = {k: v for k, v in node.items() if k not in ("namespace", "aliases")} | {"name": name}
        if "fields" in inner:
            inner["fields"] = [{**f, "type": _inlined(f["type"], schema, seen)} for f in inner["fields"]]
        return inner
    if isinstance(node, dict):
        return {k: _inlined(v, schema, seen) if k in ("type", "items", "values") else v for k, v in node.items()}
    return node


class Published(NamedTuple):
    """What a rebuild needs of a published prediction."""

    topic: str
    partition: int
    offset: int
    event_id: str
    event_time_ms: int
    served: Served


class PredictionCodec:
    """Predictions of one app to records, and back as far as a rebuild needs."""

    def __init__(self, topic: str, framing: Framing, schema_id: int | None, concrete: dict[str, Any]) -> None:
        self.topic = topic
        self.schema = concrete
        self._parsed = fastavro.parse_schema(concrete)
        self.header = {
            "bare": b"",
            "confluent": b"\x00" + (schema_id or 0).to_bytes(4, "big"),
            "single-object": single_object_header(fingerprint(to_parsing_canonical_form(concrete))),
        }[framing]
        self._marker = {"bare": 0, "confluent": 1, "single-object": 2}[framing]
        self._head = _head_of(concrete)
        columns = avro_columns(concrete)
        carried = None if columns is None else columns.schema.field("carried").type
        flat = carried is not None and not any(pa.types.is_nested(field.type) for field in _fields(carried))
        self._columns = columns if flat else None

    def encode_many(
        self,
        events: Events,
        rows: Sequence[int],
        scores: Scores,
        flags: Sequence[tuple[str, ...]],
        said: tuple[Version, int, Clock],
    ) -> list[bytes]:
        """The values of m predictions.

        Parameters
        ----------
        rows
            Which m of the batch's events.
        flags
            Of each of the m.
        said
            Version and number of examples learned of the model, and the time.
        """
        version, examples_learned, clock = said
        if self._columns is None or len(rows) < ROWS_MIN:
            return [
                self._encode_row(events, row, scores.of(row), flags[number], said) for number, row in enumerate(rows)
            ]
        records, count, schema = events.records, len(rows), self._columns.schema
        of = partial(picked, rows=rows)
        columns: dict[str, Any] = {
            "format": same_values(FORMAT, count, pa.int32()),
            "event_id": pa.array(of(events.ids), pa.string()),
            "event_time": pa.array(of(events.times_ms), pa.int64()),
            "class": pa.array(of(scores.class_names), pa.string()),
            "score": pa.array(of(scores.scores), pa.float64()),
            "scores": maps_column(of(scores.maps), schema.field("scores").type, count),
            "value": doubles_column(of(scores.values), count),
            "lineage": same_values(version.lineage, count, pa.string()),
            "position": same_values(version.position, count, pa.int64()),
            "examples_learned": same_values(examples_learned, count, pa.int64()),
            "origin": pa.StructArray.from_arrays(
                [
                    same_values(records.topic, count, pa.string()),
                    same_values(records.partition, count, pa.int32()),
                    pa.array(of(records.offsets), pa.int64()),
                ],
                fields=list(schema.field("origin").type),
            ),
            "scored_at": same_values(clock.now_ms, count, pa.int64()),
            "flags": texts_column(flags),
            "carried": pa.array(of(events.carried) or [None] * count, schema.field("carried").type),
        }
        header = self.header
        return [header + value for value in self._columns.encode(columns[field.name] for field in schema)]

    def _encode_row(
        self, events: Events, row: int, scored: Scored, flags: tuple[str, ...], said: tuple[Version, int, Clock]
    ) -> bytes:
        carried = events.carried[row] if events.carried else None
        event = Event(events.records.record(row), events.ids[row], events.times_ms[row], {}, False, carried, 0)
        version, examples_learned, clock = said
        return self.encode(event, scored, served_of(scored, version, flags), examples_learned, clock).value or b""

    def encode(self, event: Event, scored: Scored, served: Served, examples_learned: int, clock: Clock) -> Produce:
        """The record of a prediction, with the event's key and its trace headers."""
        record = event.record
        value = encode_record(
            self._parsed,
            {
                "format": FORMAT,
                "event_id": event.event_id,
                "event_time": event.time_ms,
                "class": scored.class_name,
                "score": scored.score,
                "scores": scored.scores,
                "value": scored.value,
                "lineage": served.lineage,
                "position": served.position,
                "examples_learned": examples_learned,
                "origin": {"topic": record.topic, "partition": record.partition, "offset": record.offset},
                "scored_at": clock.now_ms,
                "flags": served.flags,
                "carried": event.carried,
            },
            self.header,
        )
        return Produce(self.topic, record.partition, record.key, value, trace_headers(record.headers))

    def decode(self, value: bytes) -> Published:
        """The head of a prediction written by this app, whatever it carried; ValueError where it is none."""
        if value[: self._marker] != self.header[: self._marker]:
            raise ValueError("not a prediction: other framing")
        raw, _ = decode_own(value, self._head, len(self.header))
        served = Served(
            raw["class"],
            raw["score"],
            raw["scores"],
            raw["value"],
            raw["lineage"],
            raw["position"],
            tuple(raw["flags"]),
        )
        origin = raw["origin"]
        return Published(
            origin["topic"], origin["partition"], origin["offset"], raw["event_id"], raw["event_time"], served
        )


def _fields(type_: pa.DataType) -> list[pa.Field]:
    return list(type_) if pa.types.is_struct(type_) else []


def trace_headers(headers: Headers) -> Headers:
    """Those of an event's headers that its prediction takes along."""
    return [header for header in headers if header[0] in TRACE_HEADERS] if headers else ()


def prediction_origin(value: bytes, framing: Framing) -> int:
    """Offset of the event of a prediction, whatever it carries; ValueError where it is none."""
    return int(decode_own(value, _HEAD, HEADER_BYTES[framing])[0]["origin"]["offset"])


def _head_of(prediction: dict[str, Any]) -> Any:
    """A prediction's schema up to what it carries."""
    head = {**prediction, "name": "PredictionHead", "fields": prediction["fields"][:-1]}
    return fastavro.parse_schema(_plain_times(head))


def _plain_times(node: Any) -> Any:
    fields = []
    for field in node["fields"]:
        time = isinstance(field["type"], dict) and str(field["type"].get("logicalType", "")).startswith("timestamp")
        fields.append({**field, "type": "long"} if time else field)
    return {**node, "fields": fields}


_HEAD = _head_of(schemas.load("prediction"))


def served_of(scored: Scored, version: Version, flags: tuple[str, ...]) -> Served:
    """What the join keeps of a prediction until its label comes."""
    return Served(
        scored.class_name, scored.score, scored.scores, scored.value, version.lineage, version.position, flags
    )


def encode_outcome(topic: str, partition: int, resolved: Resolved, clock: Clock) -> Produce:
    """The record of what became of a label."""
    label = resolved.label
    value = encode_record(
        _OUTCOME,
        {
            "format": FORMAT,
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
    """An outcome record as values; ValueError where it is none."""
    if value[: len(_OUTCOME_HEADER)] != _OUTCOME_HEADER:
        raise ValueError("not an outcome: other framing or schema")
    return decode_own(value, _OUTCOME, len(_OUTCOME_HEADER))[0]


def encode_dead_letter(topic: str, letter: DeadLetter, clock: Clock, limit_bytes: int) -> Produce:
    """The record of a dead letter: the original, as much of it as fits, and why.

    Header names are those of Kafka Connect's dead-letter queue, so that existing tools read them.
    """
    record = letter.record
    context: list[tuple[str, bytes]] = [
        (f"__connect.errors.{name}", text.encode())
        for name, text in (
            ("topic", record.topic),
            ("partition", str(record.partition)),
            ("offset", str(record.offset)),
            ("exception.class.name", letter.reason),
            ("exception.message", letter.message[:_MESSAGE_MAX]),
            ("stage", letter.stage),
            ("timestamp", str(clock.now_ms)),
        )
    ]
    room = limit_bytes - RECORD_OVERHEAD - _header_bytes(context) - 256  # for the three headers of a truncated one
    key, value, headers = record.key, record.value, list(record.headers or ())
    if key is not None and len(key) > room // 4:
        key = key[: room // 4]
    if _header_bytes(headers) > room // 4:
        headers = []
    value_max = min(DEAD_LETTER_VALUE_MAX, room - len(key or b"") - _header_bytes(headers))
    if value is not None and len(value) > value_max:
        context += [
            ("stream_ml.value.sha256", hashlib.sha256(value).hexdigest().encode()),
            ("stream_ml.value.bytes", str(len(value)).encode()),
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
