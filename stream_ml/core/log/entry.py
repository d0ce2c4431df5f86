"""The training log's record, to bytes and back. Flat, the event's bytes last: a prefix reader needs no more."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_ml import formats
from stream_ml.core.avro.columnar import ROWS_MIN, AvroColumns, avro_columns
from stream_ml.core.avro.json_text import read_json
from stream_ml.core.avro.record import Decoder, avro_long, decode_own, encode_record
from stream_ml.records import NOT_SERVED, Served, Target

FORMAT = 1
ARGUMENTS_NESTING_MAX = 10  # brackets; what is written has one pair
PARTITIONS_MAX = 1_000_000
LISTS_MAX = {"served_flags": 64, "served_scores": 2_000}  # a task has 1,000 classes at most
TEXTS_MAX = {  # bytes of UTF-8; an event's id has 1,024 characters at most, Kafka's names 249
    "trigger_topic": 249,
    "event_id": 4_096,
    "label_class": 20_000,
    "served_class": 20_000,
    "served_lineage": 64,
    "command": 64,
    "writer": 2_000,
}
COMMANDS = ("skip", "accept", "accept-gap", "freeze", "resume", "rebase", "rebaseline")

_SCHEMA = fastavro.parse_schema(formats.load("log_entry"))
_RAW = formats.load("log_entry")
_HEAD_FIELDS = 11  # format ... feedback_offset: enough to know which records an entry is made of
_HEAD = Decoder(fastavro.parse_schema({**_RAW, "name": "LogEntryHead", "fields": _RAW["fields"][:_HEAD_FIELDS]}))


def _no_logical(raw: dict[str, Any]) -> Any:
    fields = [
        {**field, "type": "long"} if isinstance(field["type"], dict) and "logicalType" in field["type"] else field
        for field in raw["fields"]
    ]
    return fastavro.parse_schema({**raw, "fields": fields})


_READ = Decoder(_no_logical(_RAW))


def _prefix() -> AvroColumns:
    """Codec of all fields but the last: the event's bytes, which are the rest of a record."""
    found = avro_columns({**_RAW, "fields": _RAW["fields"][:-1]})
    assert found is not None  # noqa: S101 - its types are on the list
    return found


PREFIX = _prefix()
_SIZE = "event_size"


class Example(NamedTuple):
    """A labelled event as it goes into the log: the pair, what was served, and its place in the sequence."""

    source_partition: int
    sequence: int
    trigger_topic: str
    trigger_offset: int
    event_id: str
    event_time_ms: int
    event_offset: int
    event_schema: int
    event_framing: str
    event: bytes
    label_time_ms: int
    target: Target
    feedback_offset: int
    served: Served


class Entry(NamedTuple):
    """A decoded log entry. Fields as in schemas/log_entry.avsc."""

    kind: str
    source_partition: int
    sequence: int
    trigger_topic: str
    trigger_offset: int
    event_id: str
    event_time_ms: int
    event_offset: int
    feedback_offset: int
    label_time_ms: int
    target: Target
    served: Served
    event_schema: int
    event_framing: str
    command: str | None
    arguments: str | None
    written_at_ms: int
    writer: str
    event: bytes

    def parsed_arguments(self) -> dict[str, Any]:
        """Arguments of a command or a start; empty where there are none, ValueError where they are no JSON."""
        found = read_json(self.arguments or "{}", ARGUMENTS_NESTING_MAX)
        return found if isinstance(found, dict) else {}


def encode_example(example: Example, *, written_at_ms: int, writer: str) -> bytes:
    """Bytes of an entry of kind example."""
    served = example.served
    return _encode(
        kind="example",
        source_partition=example.source_partition,
        sequence=example.sequence,
        trigger_topic=example.trigger_topic,
        trigger_offset=example.trigger_offset,
        event_id=example.event_id,
        event_time=example.event_time_ms,
        label_time=example.label_time_ms,
        event_offset=example.event_offset,
        feedback_offset=example.feedback_offset,
        label_class=example.target.class_name,
        label_value=example.target.value,
        served_class=served.class_name,
        served_score=served.score,
        served_scores=served.scores,
        served_value=served.value,
        served_lineage=served.lineage,
        served_position=served.position,
        served_flags=list(served.flags),
        event_schema=example.event_schema,
        event_framing=example.event_framing.replace("-", "_"),
        written_at=written_at_ms,
        writer=writer,
        event_size=len(example.event),
        event=example.event,
    )


def encode_schema(fingerprint: int, text: str, topic: str = "", *, written_at_ms: int, writer: str) -> bytes:
    """Bytes of an entry of kind schema, which must precede the first record written with it.

    Without a topic it is a writer schema of the events, whose bytes the log's examples hold.
    """
    of = {"trigger_topic": topic, "event_schema": fingerprint, "arguments": text}
    return _encode(kind="schema", **of, written_at=written_at_ms, writer=writer)


def begins_as_schema(value: bytes) -> bool:
    """Whether an entry is of kind schema, by its first two bytes: for who looks for them in a long log."""
    return value[:2] == _SCHEMA_BEGINS


def encode_start(
    partition: int, events: int, feedback: int, partitions: int = 1, *, written_at_ms: int, writer: str
) -> bytes:
    """Bytes of an entry of kind start: partition begins at these offsets, for the first time, as one of so many."""
    arguments = json.dumps({"events": events, "feedback": feedback, "partitions": partitions})
    return _encode(
        kind="start", source_partition=partition, arguments=arguments, written_at=written_at_ms, writer=writer
    )


def encode_command(command: str, arguments: dict[str, Any], *, written_at_ms: int, writer: str) -> bytes:
    """Bytes of an entry of kind command."""
    text = json.dumps(arguments, sort_keys=True)
    return _encode(kind="command", command=command, arguments=text, written_at=written_at_ms, writer=writer)


_BLANK: dict[str, Any] = {
    "format": FORMAT,
    "source_partition": -1,
    "sequence": -1,
    "trigger_topic": "",
    "trigger_offset": -1,
    "event_id": "",
    "event_time": 0,
    "label_time": 0,
    "event_offset": -1,
    "feedback_offset": -1,
    "label_class": None,
    "label_value": None,
    "served_class": None,
    "served_score": None,
    "served_scores": None,
    "served_value": None,
    "served_lineage": NOT_SERVED.lineage,
    "served_position": NOT_SERVED.position,
    "served_flags": [],
    "event_schema": 0,
    "event_framing": "bare",
    "command": None,
    "arguments": None,
    "event_size": 0,
    "event": b"",
}


def _encode(**fields: Any) -> bytes:
    return encode_record(_SCHEMA, {**_BLANK, **fields})


_SCHEMA_BEGINS = encode_schema(0, "", written_at_ms=0, writer="")[:2]


def decode_entries(values: list[bytes]) -> list[Entry | ValueError]:
    """n log entries; an error in the place of each that `decode_entry` would raise it for.

    Fast path of `decode_entry`, equal to it row by row: tests/equivalence/test_columnar_is_reference.py.
    """
    found: dict[int, Entry] = {}
    if len(values) >= ROWS_MIN:
        many = decode_columns(values)
        columns = [array.to_pylist() for array in many.batch.columns]
        found = dict(zip(many.rows, _entries(columns, many.events), strict=True))
    return [found.get(row) or _one(value) for row, value in enumerate(values)]


def _one(value: bytes) -> Entry | ValueError:
    try:
        return decode_entry(value)
    except ValueError as error:
        return error


class EntryColumns(NamedTuple):
    """k of n entries: which they are, all of their fields but the last as columns, and that last one, the event."""

    rows: Sequence[int]
    batch: pa.RecordBatch
    events: list[bytes]

    def numbers(self, name: str) -> list[Any]:
        """A column of numbers without a null, as Python's."""
        found: list[Any] = self.batch.column(name).to_numpy(zero_copy_only=False).tolist()
        return found

    def texts(self, name: str) -> list[Any]:
        """A column of texts or nulls of which there are few different ones, as few objects."""
        codes = self.batch.column(name).dictionary_encode(null_encoding="encode")
        words: list[Any] = codes.dictionary.to_pylist()
        if len(words) == 1:
            return words * len(codes)
        return [words[code] for code in codes.indices.to_pylist()]


def decode_columns(values: list[bytes]) -> EntryColumns:
    """Entries whose fields but the last decode as columns, and whose rest is the event, of the size that they say."""
    batch, rows, lengths = PREFIX.decode_prefixes(values)
    sizes: list[int] = batch.column(_SIZE).to_pylist()
    spelt = {size: avro_long(size) for size in set(sizes)}
    whole = values if len(rows) == len(values) else [values[row] for row in rows]
    begins = [len(value) - size for value, size in zip(whole, sizes, strict=True)]
    events = [value[begin:] for value, begin in zip(whole, begins, strict=True)]
    wrong = [
        number
        for number, (value, length, begin, size) in enumerate(zip(whole, lengths, begins, sizes, strict=True))
        if not length <= begin <= len(value) or value[length:begin] != spelt[size]
    ]
    strange = np.flatnonzero((batch.column(0).to_numpy(zero_copy_only=False) != FORMAT) | _beyond(batch)).tolist()
    if not (wrong or strange):
        return EntryColumns(rows, batch, events)
    right = sorted(set(range(len(rows))).difference(wrong, strange))
    return EntryColumns([rows[n] for n in right], batch.take(pa.array(right, pa.int64())), [events[n] for n in right])


def _beyond(batch: pa.RecordBatch) -> Any:
    """Which rows have something larger than a worker would write: nobody looks at more of them."""
    partition = batch.column("source_partition").to_numpy(zero_copy_only=False)
    found = (partition < -1) | (partition >= PARTITIONS_MAX)
    for name, most in TEXTS_MAX.items():
        lengths = pc.fill_null(pc.binary_length(batch.column(name)), 0)
        found |= lengths.to_numpy(zero_copy_only=False) > most
    for name, most in LISTS_MAX.items():
        found |= np.diff(batch.column(name).offsets.to_numpy(zero_copy_only=False)) > most
    return found


def _check_bounds(raw: dict[str, Any]) -> None:
    """ValueError where a field of one entry is larger than a worker would write, as `_beyond` judges many."""
    if not -1 <= raw["source_partition"] < PARTITIONS_MAX:
        raise ValueError(f"partition {raw['source_partition']} is none")
    for name, most in (TEXTS_MAX | LISTS_MAX).items():
        found = raw[name] or ""
        size = len(found.encode("utf-8", "surrogatepass") if isinstance(found, str) else found)
        if size > most:
            raise ValueError(f"its {name} has a size of {size:,}, and {most:,} is the most")


def _entries(columns: Sequence[Sequence[Any]], events: Sequence[bytes]) -> Iterator[Entry]:
    """Out of the columns of all fields but the last, in the order of the schema; made without a call for each value."""
    scores = [None if of is None else dict(of) for of in columns[15]]
    served = map(Served._make, zip(*columns[13:15], scores, *columns[16:19], map(tuple, columns[19]), strict=True))
    framings = [framing.replace("_", "-") for framing in columns[21]]
    targets = map(Target._make, zip(*columns[11:13], strict=True))
    found = zip(
        *columns[1:8],
        *columns[9:11],
        *(columns[8], targets, served, columns[20], framings),
        *columns[22:26],
        events,
        strict=True,
    )
    return map(Entry._make, found)


def decode_entry(value: bytes) -> Entry:
    """A log entry. ValueError where the bytes are none, or of a format from the future."""
    raw = decode_own(value, _READ)
    if raw["format"] != FORMAT:
        raise ValueError(f"log entry of format {raw['format']}; this version reads {FORMAT}")
    _check_bounds(raw)
    return next(_entries([[raw[field["name"]]] for field in _RAW["fields"]], [raw["event"]]))


class Pair(NamedTuple):
    """Which records an example is made of."""

    source_partition: int
    sequence: int
    event_offset: int
    feedback_offset: int


def decode_pairs(values: list[bytes]) -> list[Pair | None]:
    """The pairs behind n entries; None in the place of each that is no example, or no entry."""
    found: list[Pair | None] = [None] * len(values)
    rows: Sequence[int] = ()
    if len(values) >= ROWS_MIN:
        many = decode_columns(values)
        rows, kinds = many.rows, many.texts("kind")
        columns = zip(*(many.numbers(name) for name in Pair._fields), strict=True)
        for row, kind, pair in zip(rows, kinds, columns, strict=True):
            if kind == "example":
                found[row] = Pair(*pair)
    for row in set(range(len(values))).difference(rows):
        with contextlib.suppress(ValueError):
            found[row] = decode_pair(values[row])
    return found


def decode_pair(value: bytes) -> Pair | None:
    """The pair behind an example, from the entry's prefix alone; None for other kinds, ValueError for other bytes.

    Source: Avro has no framing between fields, so a reader with a prefix of the schema stops early.
    """
    head = decode_own(value, _HEAD)
    if head["kind"] != "example":
        return None
    return Pair(head["source_partition"], head["sequence"], head["event_offset"], head["feedback_offset"])
