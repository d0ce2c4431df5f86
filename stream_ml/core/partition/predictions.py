"""Predictions as records; and the part of one that a rebuild reads back."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import fastavro
import pyarrow as pa
from fastavro.schema import to_parsing_canonical_form

from stream_ml import formats
from stream_ml.core.avro.arrow import doubles_column, maps_column, same_values, texts_column
from stream_ml.core.avro.columnar import ROWS_MIN, avro_columns
from stream_ml.core.avro.fields import find_field
from stream_ml.core.avro.record import Decoder, decode_own, encode_record
from stream_ml.core.avro.schema import HEADER_BYTES, Schema, fingerprint, single_object_header
from stream_ml.core.inputs.events import Events, picked
from stream_ml.core.model.estimator import Scored
from stream_ml.core.model.scoring import Scores
from stream_ml.core.partition.outputs import trace_headers
from stream_ml.errors import ConfigError
from stream_ml.records import Clock, Event, Framing, Produce, Served, Version

FORMAT = 1
_ORIGIN = ("topic", "partition", "offset")
_SERVED = ("class", "score", "scores", "value", "lineage", "position")  # fields of Served, in its order, but the flags


def prediction_schema(event: Schema, carry: list[str]) -> dict[str, Any]:
    """The concrete schema of an app's predictions: `carried` typed from the event's schema."""
    raw = formats.load("prediction")
    if carry:
        seen: dict[str, str] = {}
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


def _inlined(node: Any, schema: Schema, seen: dict[str, str]) -> Any:
    """A type on its own: named types written out where they first occur, under names of their own."""
    if isinstance(node, list):
        return [_inlined(branch, schema, seen) for branch in node]
    if isinstance(node, str):
        return _inlined(schema.named[node], schema, seen) if node in schema.named else node
    if isinstance(node, dict) and node.get("type") in ("record", "enum", "fixed"):
        full = str(node["name"])
        if full in seen:
            return seen[full]
        plain = "carried." + full.replace(".", "_")
        taken = sum(other == plain or other.startswith(f"{plain}__") for other in seen.values())
        name = seen[full] = f"{plain}__{taken + 1}" if taken else plain  # a.b_E and a.b.E are two types
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
        self.text = json.dumps(concrete, separators=(",", ":"))
        self.fingerprint = fingerprint(to_parsing_canonical_form(concrete))
        self._parsed = fastavro.parse_schema(concrete)
        self.header = {
            "bare": b"",
            "confluent": b"\x00" + (schema_id or 0).to_bytes(4, "big"),
            "single-object": single_object_header(self.fingerprint),
        }[framing]
        self._marker = {"bare": 0, "confluent": 1, "single-object": 2}[framing]
        head = _plain_head_of(concrete)
        self._head, self._head_columns = Decoder(fastavro.parse_schema(head)), avro_columns(head)
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

    def framed(self, value: bytes) -> bool:
        """Whether a value has the framing of this app's predictions, whichever schema it names."""
        return value[: self._marker] == self.header[: self._marker]

    def decode(self, value: bytes) -> Published:
        """The head of a prediction written by this app, whatever it carried; ValueError where it is none."""
        if not self.framed(value):
            raise ValueError("not a prediction: other framing")
        raw = decode_own(value, self._head, len(self.header))
        served = Served._make([*(raw[name] for name in _SERVED), tuple(raw["flags"])])
        where = (raw["origin"][name] for name in _ORIGIN)
        return Published._make([*where, raw["event_id"], raw["event_time"], served])

    def decode_many(self, values: Sequence[bytes]) -> list[Published | None]:
        """The heads of n values; None in the place of each for which `decode` has none."""
        found: list[Published | None] = [None] * len(values)
        ours = [row for row, value in enumerate(values) if self.framed(value)]
        known: set[int] = set()
        if self._head_columns is not None and len(ours) >= ROWS_MIN:
            size = len(self.header)
            batch, rows, _ = self._head_columns.decode_prefixes([values[row][size:] for row in ours])
            for number, published in zip(rows, _published(batch), strict=True):
                found[ours[number]] = published
                known.add(ours[number])
        for row in ours:
            if row not in known:
                with contextlib.suppress(ValueError):
                    found[row] = self.decode(values[row])
        return found


def _published(batch: pa.RecordBatch) -> Iterator[Published]:
    """Heads of predictions out of their columns; made without a call for each value."""
    of = {name: batch.column(name).to_pylist() for name in ("event_id", "event_time", *_SERVED, "flags")}
    of["scores"] = [None if scores is None else dict(scores) for scores in of["scores"]]
    served = map(Served._make, zip(*(of[name] for name in _SERVED), map(tuple, of["flags"]), strict=True))
    origin = batch.column("origin")
    where = [origin.field(name).to_pylist() for name in _ORIGIN]
    return map(Published._make, zip(*where, of["event_id"], of["event_time"], served, strict=True))


def _fields(type_: pa.DataType) -> list[pa.Field]:
    return list(type_) if pa.types.is_struct(type_) else []


def halted_at(value: bytes, framing: Framing) -> int | None:
    """Where learning was halted when a prediction was made; None where it was not, ValueError where it is none."""
    head = decode_own(value, _HEAD, HEADER_BYTES[framing])
    return int(head["position"]) if "learning_halted" in head["flags"] else None


def prediction_origin(value: bytes, framing: Framing) -> int:
    """Offset of the event of a prediction, whatever it carries; ValueError where it is none."""
    return int(decode_own(value, _HEAD, HEADER_BYTES[framing])["origin"]["offset"])


def head_of(prediction: dict[str, Any]) -> dict[str, Any]:
    """A prediction's schema up to what it carries, which is the same whatever that is."""
    return {**prediction, "name": "PredictionHead", "fields": prediction["fields"][:-1]}


def _plain_head_of(prediction: dict[str, Any]) -> Any:
    return _plain_times(head_of(prediction))


def _plain_times(node: Any) -> Any:
    fields = []
    for field in node["fields"]:
        time = isinstance(field["type"], dict) and str(field["type"].get("logicalType", "")).startswith("timestamp")
        fields.append({**field, "type": "long"} if time else field)
    return {**node, "fields": fields}


_HEAD = Decoder(fastavro.parse_schema(_plain_head_of(formats.load("prediction"))))


def served_of(scored: Scored, version: Version, flags: tuple[str, ...]) -> Served:
    """What the join keeps of a prediction until its label comes."""
    return Served(
        scored.class_name, scored.score, scored.scores, scored.value, version.lineage, version.position, flags
    )
