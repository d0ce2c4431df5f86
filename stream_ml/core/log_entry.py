"""The training log's record, to bytes and back. Flat, the event's bytes last: a prefix reader needs no more."""

import json
from typing import Any, NamedTuple

import fastavro

from stream_ml import schemas
from stream_ml.core.binary import decode_own, encode_record
from stream_ml.records import NOT_SERVED, Label, Served, Target

FORMAT = 1
COMMANDS = ("skip", "accept-gap", "freeze", "resume", "rebase")

_SCHEMA = fastavro.parse_schema(schemas.load("log_entry"))
_RAW = schemas.load("log_entry")
_HEAD_FIELDS = 11  # format ... feedback_offset: enough to know which records an entry is made of
_HEAD = fastavro.parse_schema({**_RAW, "name": "LogEntryHead", "fields": _RAW["fields"][:_HEAD_FIELDS]})


def _no_logical(raw: dict[str, Any]) -> Any:
    fields = [
        {**field, "type": "long"} if isinstance(field["type"], dict) and "logicalType" in field["type"] else field
        for field in raw["fields"]
    ]
    return fastavro.parse_schema({**raw, "fields": fields})


_READ = _no_logical(_RAW)


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
    label: Label
    served: Served


class Entry(NamedTuple):
    """A decoded log entry. Fields as in schemas/log_entry.avsc."""

    kind: str
    source_partition: int
    sequence: int
    trigger_topic: str
    trigger_offset: int
    event_id: str
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
        """Arguments of a command or a start; empty where there are none."""
        found = json.loads(self.arguments or "{}")
        return found if isinstance(found, dict) else {}


def encode_example(example: Example, *, written_at_ms: int, writer: str) -> bytes:
    """Bytes of an entry of kind example."""
    label, served = example.label, example.served
    return _encode(
        kind="example",
        source_partition=example.source_partition,
        sequence=example.sequence,
        trigger_topic=example.trigger_topic,
        trigger_offset=example.trigger_offset,
        event_id=example.event_id,
        event_time=example.event_time_ms,
        label_time=label.time_ms,
        event_offset=example.event_offset,
        feedback_offset=label.record.offset,
        label_class=label.target.class_name,
        label_value=label.target.value,
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


def encode_schema(fingerprint: int, text: str, *, written_at_ms: int, writer: str) -> bytes:
    """Bytes of an entry of kind schema, which must precede the first example written with it."""
    return _encode(kind="schema", event_schema=fingerprint, arguments=text, written_at=written_at_ms, writer=writer)


def encode_start(partition: int, events: int, feedback: int, *, written_at_ms: int, writer: str) -> bytes:
    """Bytes of an entry of kind start: partition begins at these offsets, for the first time."""
    arguments = json.dumps({"events": events, "feedback": feedback})
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


def decode_entry(value: bytes) -> Entry:
    """A log entry. ValueError where the bytes are none, or of a format from the future."""
    raw, _ = decode_own(value, _READ)
    if raw["format"] != FORMAT:
        raise ValueError(f"log entry of format {raw['format']}; this version reads {FORMAT}")
    return Entry(
        raw["kind"],
        raw["source_partition"],
        raw["sequence"],
        raw["trigger_topic"],
        raw["trigger_offset"],
        raw["event_id"],
        raw["event_offset"],
        raw["feedback_offset"],
        raw["label_time"],
        Target(raw["label_class"], raw["label_value"]),
        Served(
            raw["served_class"],
            raw["served_score"],
            raw["served_scores"],
            raw["served_value"],
            raw["served_lineage"],
            raw["served_position"],
            tuple(raw["served_flags"]),
        ),
        raw["event_schema"],
        raw["event_framing"].replace("_", "-"),
        raw["command"],
        raw["arguments"],
        raw["written_at"],
        raw["writer"],
        raw["event"],
    )


class Pair(NamedTuple):
    """Which records an example is made of."""

    source_partition: int
    sequence: int
    event_offset: int
    feedback_offset: int


def decode_pair(value: bytes) -> Pair | None:
    """The pair behind an example, from the entry's prefix alone; None for other kinds, ValueError for other bytes.

    Source: Avro has no framing between fields, so a reader with a prefix of the schema stops early.
    """
    head, _ = decode_own(value, _HEAD)
    if head["kind"] != "example":
        return None
    return Pair(head["source_partition"], head["sequence"], head["event_offset"], head["feedback_offset"])
