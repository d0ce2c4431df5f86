"""Predictions as records; and the part of one that a rebuild reads back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import fastavro
import pyarrow as pa
import pyarrow.compute as pc
from fastavro.schema import to_parsing_canonical_form

from stream_ml import formats
from stream_ml.core.avro.arrow import doubles_column, same_values, texts_column
from stream_ml.core.avro.columnar import ROWS_MIN, avro_columns
from stream_ml.core.avro.fields import Field, find_field, scalar_fields
from stream_ml.core.avro.record import (
    FORMATS_MAX,
    Decoder,
    LaterFormat,
    check_format,
    check_format_of,
    decode_own,
    encode_record,
)
from stream_ml.core.avro.schema import HEADER_BYTES, Schema, fingerprint, single_object_header
from stream_ml.core.avro.texts import joined, scores_text, words_of
from stream_ml.core.inputs.events import Events, picked
from stream_ml.core.log.entry import TEXTS_MAX
from stream_ml.core.model.estimator import Scored
from stream_ml.core.model.scoring import Scores
from stream_ml.core.partition.outputs import trace_headers
from stream_ml.errors import ConfigError
from stream_ml.records import Clock, Event, Framing, Produce, Served, Version

FORMAT = 2
HEAD_FIELDS = 21  # format ... derived_size: what a rebuild reads; behind it stands what the app carries
CARRIED = "carried_"
_WHERE = ("event_topic", "event_partition", "event_offset")
_SERVED = ("class", "score", "scores", "value", "lineage", "position", "flags", "log_partition", "epoch", "arm")


def prediction_schema(event: Schema, carry: list[str]) -> dict[str, Any]:
    """The concrete schema of an app's predictions: one nullable column for each field that is carried.

    Raises
    ------
    ConfigError
        There is no such field, it is no scalar, or two would have one name.
    """
    raw = formats.load("prediction")
    for name in carry:
        column = CARRIED + name.replace(".", "_")
        if any(other["name"] == column for other in raw["fields"]):
            raise ConfigError(f"predictions.carry: two fields would be named {column}")
        type_ = _carried_type(event, find_field(event, name, where="predictions.carry"))
        field = {"name": column, "type": ["null", type_], "default": None, "doc": f"Field {name} of the event."}
        raw["fields"].append(field)
    return raw


def _carried_type(event: Schema, field: Field) -> Any:
    """A scalar without a name of its own: tools that read flat records have a column for it."""
    type_: dict[str, Any] = field.type_ if isinstance(field.type_, dict) else {}
    kept = {name: type_[name] for name in ("logicalType", "precision", "scale") if field.logical and name in type_}
    if field.base == "enum":
        return "string"
    if field.base == "fixed":
        return {"type": "bytes", **kept} if field.logical == "decimal" else "bytes"
    if field.base in ("record", "array", "map", "union"):
        what = f"predictions.carry: {field.name} of {event.name} is a {field.base}, and a column holds one value"
        inner = [leaf.name for leaf in scalar_fields(event) if leaf.path[: len(field.path)] == field.path]
        raise ConfigError(what, f"name fields in it: {', '.join(inner)}" if inner else "leave it out")
    return {"type": field.base, **kept} if kept else field.base


BYTES_MAX = {  # of texts, as an entry of the log may hold them: one of a larger prediction would halt
    "event_id": TEXTS_MAX["event_id"],
    "class": TEXTS_MAX["served_class"],
    "scores": TEXTS_MAX["served_scores"],
    "lineage": TEXTS_MAX["served_lineage"],
    "arm": TEXTS_MAX["served_arm"],
    "flags": TEXTS_MAX["served_flags"],
}


class Published(NamedTuple):
    """What a rebuild needs of a published prediction."""

    topic: str
    partition: int
    offset: int
    event_id: str
    event_time_ms: int
    served: Served


class Said(NamedTuple):
    """What all predictions of a batch say of who made them: version and examples of the model, epoch, and when."""

    version: Version
    examples_learned: int
    clock: Clock
    epoch: int = 0


_NOBODY: Mapping[int, Said] = {}


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
        self._carried = [field["name"] for field in concrete["fields"][HEAD_FIELDS:]]
        self._columns = avro_columns(concrete)

    def encode_many(
        self,
        events: Events,
        rows: Sequence[int],
        scores: Scores,
        flags: Sequence[tuple[str, ...]],
        said: Said,
        others: Mapping[int, Said] = _NOBODY,
    ) -> list[bytes]:
        """The values of m predictions.

        Parameters
        ----------
        rows
            Which m of the batch's events.
        flags
            Of each of the m.
        said
            Of all of them but `others`, by row.
        """
        version, examples_learned, clock, epoch = said
        if self._columns is None or len(rows) < ROWS_MIN:
            return [
                self._encode_row(events, row, scores, flags[number], others.get(row, said))
                for number, row in enumerate(rows)
            ]
        records, count, schema = events.records, len(rows), self._columns.schema
        of = partial(picked, rows=rows)
        columns: dict[str, Any] = {
            "format": same_values(FORMAT, count, pa.int32()),
            "event_id": pa.array(of(events.ids), pa.string()),
            "event_time": pa.array(of(events.times_ms), pa.int64()),
            "event_topic": same_values(records.topic, count, pa.string()),
            "event_partition": same_values(records.partition, count, pa.int32()),
            "event_offset": pa.array(of(records.offsets), pa.int64()),
            "class": pa.array(of(scores.class_names), pa.string()),
            "score": pa.array(of(scores.scores), pa.float64()),
            "scores": texts_column(of(scores.texts), count),
            "value": doubles_column(of(scores.values), count),
            "lineage": same_values(version.lineage, count, pa.string()),
            "log_partition": same_values(0, count, pa.int32()),
            "position": same_values(version.position, count, pa.int64()),
            "epoch": same_values(epoch, count, pa.int64()),
            "arm": same_values("", count, pa.string()),
            "examples_learned": same_values(examples_learned, count, pa.int64()),
            "unit_examples": same_values(-1, count, pa.int64()),
            "scored_at": same_values(clock.now_ms, count, pa.int64()),
            "flags": pa.array(map(joined, flags), pa.string(), size=count),
            "derived_schema": same_values(0, count, pa.int64()),
            "derived_size": same_values(0, count, pa.int32()),
        }
        if self._carried:
            carried = [one or {} for one in of(events.carried) or [None] * count]
            for name in self._carried:
                values = [one.get(name.removeprefix(CARRIED)) for one in carried]
                columns[name] = pa.array(values, schema.field(name).type)
        header = self.header
        found = [header + value for value in self._columns.encode(columns[field.name] for field in schema)]
        for number, row in enumerate(rows if others else ()):
            if row in others:
                found[number] = self._encode_row(events, row, scores, flags[number], others[row])
        return found

    def _encode_row(self, events: Events, row: int, scores: Scores, flags: tuple[str, ...], said: Said) -> bytes:
        carried = events.carried[row] if events.carried else None
        event = Event(events.records.record(row), events.ids[row], events.times_ms[row], {}, False, carried, 0)
        version, examples_learned, clock, epoch = said
        served = served_of(scores.of(row), version, flags)._replace(epoch=epoch)
        return self.encode(event, served, examples_learned, clock).value or b""

    def encode(self, event: Event, served: Served, examples_learned: int, clock: Clock) -> Produce:
        """The record of a prediction, with the event's key and its trace headers."""
        record = event.record
        value = encode_record(
            self._parsed,
            {
                "format": FORMAT,
                "event_id": event.event_id,
                "event_time": event.time_ms,
                "event_topic": record.topic,
                "event_partition": record.partition,
                "event_offset": record.offset,
                "class": served.class_name,
                "score": served.score,
                "scores": served.scores,
                "value": served.value,
                "lineage": served.lineage,
                "log_partition": served.log_partition,
                "position": served.position,
                "epoch": served.epoch,
                "arm": served.arm,
                "examples_learned": examples_learned,
                "unit_examples": -1,
                "scored_at": clock.now_ms,
                "flags": joined(served.flags),
                "derived_schema": 0,
                "derived_size": 0,
                **{CARRIED + name: carried for name, carried in (event.carried or {}).items()},
            },
            self.header,
        )
        return Produce(self.topic, record.partition, record.key, value, trace_headers(record.headers))

    def framed(self, value: bytes) -> bool:
        """Whether a value has the framing of this app's predictions, whichever schema it names."""
        return value[: self._marker] == self.header[: self._marker]

    def decode(self, value: bytes) -> Published:
        """The head of a prediction written by this app, whatever it carried.

        Raises
        ------
        LaterFormat
            A later version wrote it.
        ValueError
            It is none.
        """
        if not self.framed(value):
            raise ValueError("not a prediction: other framing")
        start = len(self.header)
        check_format_of(value, start, FORMAT, _ORIGIN, "a prediction", "event")
        raw = decode_own(value, self._head, start)
        served = Served._make([*(raw[name] for name in _SERVED)])._replace(flags=words_of(raw["flags"]))
        if any(len((raw[name] or "").encode()) > most for name, most in BYTES_MAX.items()):
            raise ValueError("not a prediction: larger than any entry that could be made of it")
        where = (raw[name] for name in _WHERE)
        return Published._make([*where, raw["event_id"], raw["event_time"], served])

    def decode_many(self, values: Sequence[bytes]) -> list[Published | LaterFormat | None]:
        """The heads of n values; None in the place of each that is none, LaterFormat of one that a later version wrote.

        Fast path of `decode`, equal to it value by value: tests/core/partition/test_outputs.py.
        """
        found: list[Published | LaterFormat | None] = [None] * len(values)
        ours = [row for row, value in enumerate(values) if self.framed(value)]
        known: set[int] = set()
        if self._head_columns is not None and len(ours) >= ROWS_MIN:
            size = len(self.header)
            batch, rows, _ = self._head_columns.decode_prefixes([values[row][size:] for row in ours])
            right = (~_strange(batch)).tolist()
            for number, is_right, published in zip(rows, right, _published(batch), strict=True):
                if is_right:
                    found[ours[number]] = published
                    known.add(ours[number])
        for row in ours:
            if row not in known:
                try:
                    found[row] = self.decode(values[row])
                except LaterFormat as later:
                    found[row] = later
                except ValueError:
                    continue
        return found


def _strange(batch: pa.RecordBatch) -> Any:
    """Which rows the reference decoder has to judge."""
    found = batch.column("format").to_numpy(zero_copy_only=False) != FORMAT
    for name, most in BYTES_MAX.items():
        lengths = pc.binary_length(batch.column(name))
        if (pc.max(lengths).as_py() or 0) > most:
            found |= pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False) > most
    return found


def _published(batch: pa.RecordBatch) -> Iterator[Published]:
    """Heads of predictions out of their columns; made without a call for each value."""
    of = {name: batch.column(name).to_pylist() for name in ("event_id", "event_time", *_WHERE, *_SERVED)}
    of["flags"] = list(map(words_of, of["flags"]))
    served = map(Served._make, zip(*(of[name] for name in _SERVED), strict=True))
    where = [of[name] for name in _WHERE]
    return map(Published._make, zip(*where, of["event_id"], of["event_time"], served, strict=True))


def halted_at(value: bytes, framing: Framing) -> int | None:
    """Where learning was halted when a prediction was made; None where it was not, ValueError where it is none."""
    check_format(value, HEADER_BYTES[framing], FORMAT, "a prediction")
    head = decode_own(value, _HEAD, HEADER_BYTES[framing])
    return int(head["position"]) if "learning_halted" in words_of(head["flags"]) else None


def prediction_origin(value: bytes, framing: Framing) -> int:
    """Offset of the event of a prediction, whatever it carries and of whichever format; ValueError where it is none."""
    found = decode_own(value, _ORIGIN, HEADER_BYTES[framing])
    if found["format"] not in range(FORMAT, FORMATS_MAX + 1):
        raise ValueError(f"a prediction of format {found['format']}")
    return int(found["event_offset"])


def head_of(prediction: dict[str, Any]) -> dict[str, Any]:
    """A prediction's schema up to what it carries, which is the same whatever that is."""
    return {**prediction, "name": "PredictionHead", "fields": prediction["fields"][:HEAD_FIELDS]}


def _plain_head_of(prediction: dict[str, Any]) -> Any:
    return _plain_times(head_of(prediction))


def _plain_times(node: Any) -> Any:
    fields = []
    for field in node["fields"]:
        time = isinstance(field["type"], dict) and str(field["type"].get("logicalType", "")).startswith("timestamp")
        fields.append({**field, "type": "long"} if time else field)
    return {**node, "fields": fields}


def _first(count: int) -> Decoder:
    """The first fields of a prediction."""
    raw = _plain_times(formats.load("prediction"))
    return Decoder(fastavro.parse_schema({**raw, "name": f"Prediction{count}", "fields": raw["fields"][:count]}))


_ORIGIN, _HEAD = _first(6), _first(HEAD_FIELDS)


def served_of(scored: Scored, version: Version, flags: tuple[str, ...]) -> Served:
    """What the join keeps of a prediction until its label comes."""
    return Served(
        class_name=scored.class_name,
        score=scored.score,
        scores=None if scored.scores is None else scores_text(scored.scores),
        value=scored.value,
        lineage=version.lineage,
        position=version.position,
        flags=flags,
    )
