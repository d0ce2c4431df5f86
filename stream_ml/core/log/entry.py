"""The training log's record, to bytes and back. Flat, the event's bytes last: a prefix reader needs no more."""

import json
from typing import Any, NamedTuple

import fastavro

from stream_ml import formats
from stream_ml.core.avro.json_text import read_json
from stream_ml.core.avro.record import (
    FORMATS_MAX,
    Decoder,
    LaterFormat,
    check_format,
    decode_own,
    encode_record,
)
from stream_ml.core.avro.texts import joined, words_of
from stream_ml.records import Framing, Served, Target

FORMAT = 2
KINDS = ("example", "command", "schema", "start", "genesis")  # by the number that stands in an entry
EXAMPLE = 0
FRAMINGS: tuple[Framing, ...] = ("bare", "confluent", "single-object")  # by the number that stands in an entry
ARGUMENTS_NESTING_MAX = 10  # brackets; what is written has one pair
SPEC_NESTING_MAX = 100  # of a declaration, which holds the description of an estimator
PARTITIONS_MAX = 1_000_000
TEXTS_MAX = {  # bytes of UTF-8; an event's id has 1,024 characters at most, Kafka's names 249
    "event_id": 4_096,
    "label_class": 20_000,
    "served_class": 20_000,
    "served_scores": 4_000_000,  # of 1,000 classes
    "served_lineage": 64,
    "served_arm": 64,
    "served_flags": 2_000,
    "command": 64,
    "writer": 2_000,
}
ARGUMENTS_VERSION = 1  # `v` of arguments
ROLE_COMMANDS = ("declare", "serve", "retire")  # which models there are, and who serves
COMMANDS = ("skip", "accept", "accept-gap", "freeze", "resume", "rebase", "rebaseline", "require", *ROLE_COMMANDS)
NUMBERS = {"trigger": range(-1, 2), "event_framing": range(len(FRAMINGS))}  # what else stands there is no entry
UNUSED = ("weight", "key_id")  # reserved: an entry that has one means something that this version does not know
READER = 2  # entries, commands and headers up to this number are understood

_RAW = formats.load("log_entry")
_SCHEMA = fastavro.parse_schema(_RAW)
_HEAD_FIELDS = 11  # format ... feedback_offset: they stand so in every format


def _no_logical(raw: dict[str, Any]) -> Any:
    fields = [
        {**field, "type": "long"} if isinstance(field["type"], dict) and "logicalType" in field["type"] else field
        for field in raw["fields"]
    ]
    return fastavro.parse_schema({**raw, "fields": fields})


_READ = Decoder(_no_logical(_RAW))
HEAD = Decoder(_no_logical({**_RAW, "name": "LogEntryHead", "fields": _RAW["fields"][:_HEAD_FIELDS]}))


class LaterEntry(LaterFormat):
    """An entry that a later version wrote: of a format or kind, or a command, that this one does not know.

    `reason` is that of the halt. `skip` does not end it: the version that wrote the entry would have obeyed it. Where
    an operator knows that none wrote it, ``skip --later`` does.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{message}; it was written by a later version, which goes on from here")
        self.reason = reason


class Example(NamedTuple):
    """A labelled event as it goes into the log: the pair, what was served, and its place in the sequence."""

    source_partition: int
    sequence: int
    trigger: int
    trigger_offset: int
    event_id: str
    event_time_ms: int
    event_offset: int
    event_schema: int
    event_framing: Framing
    event: bytes
    label_time_ms: int
    target: Target
    feedback_offset: int
    served: Served


class Entry(NamedTuple):
    """A decoded log entry. Fields as in schemas/log_entry.avsc; kind and framing by their names."""

    kind: str
    source_partition: int
    sequence: int
    trigger: int
    trigger_offset: int
    event_id: str
    event_time_ms: int
    event_offset: int
    feedback_offset: int
    label_time_ms: int
    target: Target
    served: Served
    event_schema: int
    event_framing: Framing
    command: str
    arguments: str
    control: int
    written_at_ms: int
    writer: str
    derived_schema: int
    derived: bytes
    event: bytes

    def parsed_arguments(self) -> dict[str, Any]:
        """Arguments as JSON; empty where there are none, ValueError where they are no JSON."""
        nesting_max = SPEC_NESTING_MAX if self.command == "declare" else ARGUMENTS_NESTING_MAX
        found = read_json(self.arguments or "{}", nesting_max)
        return found if isinstance(found, dict) else {}

    def check_known(self) -> None:
        """LaterEntry at a command that this version does not know, or at arguments of a later version."""
        if self.kind == "command" and self.command not in COMMANDS:
            raise LaterEntry("unknown_command", f"the command {self.command!r}")
        if self.kind == "example" or (self.kind == "schema" and self.event_schema):
            return  # no arguments of ours
        arguments = self.parsed_arguments()
        if not isinstance(arguments.get("v", 1), int) or arguments.get("v", 1) > ARGUMENTS_VERSION:
            version = str(arguments["v"])[:50]
            what = f"the command {self.command}" if self.kind == "command" else f"a {self.kind}"
            raise LaterEntry("unknown_command", f"{what} in version {version}")
        arms = arguments.get("arms") if self.command == "serve" else None
        if isinstance(arms, list) and len(arms) > 1:
            raise LaterEntry("unknown_command", f"a table of {len(arms)} models that share the events")
        reader = arguments.get("reader") if self.command == "require" else None
        if isinstance(reader, int) and reader > READER:
            raise LaterEntry("unknown_command", f"an operator requires reader {reader}, and this version is {READER}")


def encode_example(example: Example, *, written_at_ms: int, writer: str) -> bytes:
    """Bytes of an entry of kind example."""
    served = example.served
    return _encode(
        kind=EXAMPLE,
        source_partition=example.source_partition,
        sequence=example.sequence,
        trigger=example.trigger,
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
        served_log_partition=served.log_partition,
        served_position=served.position,
        served_epoch=served.epoch,
        served_arm=served.arm,
        served_flags=joined(served.flags),
        event_schema=example.event_schema,
        event_framing=FRAMINGS.index(example.event_framing),
        written_at=written_at_ms,
        writer=writer,
        event_size=len(example.event),
        event=example.event,
    )


def encode_schema(fingerprint: int, text: str, topic: str = "", *, written_at_ms: int, writer: str) -> bytes:
    """Bytes of an entry of kind schema, which must precede the first record written with it.

    Without a topic it is a writer schema of the events, whose bytes the log's examples hold.
    """
    if topic:
        arguments = {"topic": topic, "fingerprint": fingerprint, "schema": text}
        return _encode_arguments("schema", arguments, written_at=written_at_ms, writer=writer)
    return _encode(
        kind=KINDS.index("schema"),
        event_schema=fingerprint,
        arguments=text,
        written_at=written_at_ms,
        writer=writer,
    )


def begins_as_schema(value: bytes) -> bool:
    """Whether an entry is of kind schema, by its first two bytes: for who looks for them in a long log."""
    return value[:2] == _SCHEMA_BEGINS


def is_command(value: bytes) -> bool:
    """Whether an entry is of kind command, by its first two bytes: for who looks for them in a long log."""
    return value[:2] == _COMMAND_BEGINS


def encode_start(
    partition: int,
    events: int,
    feedback: int,
    partitions: int = 1,
    backlog_end: int = 0,
    *,
    written_at_ms: int,
    writer: str,
) -> bytes:
    """Bytes of an entry of kind start: partition begins at these offsets, for the first time, as one of so many.

    Events before `backlog_end` lay there already: they are its first backlog.
    """
    arguments = {"events": events, "feedback": feedback, "partitions": partitions, "backlog_end": backlog_end}
    return _encode_arguments("start", arguments, source_partition=partition, written_at=written_at_ms, writer=writer)


def encode_genesis(log_id: str, hash_key: str, app: str, *, written_at_ms: int, writer: str) -> bytes:
    """Bytes of an entry of kind genesis: the first of a log, and its identity."""
    arguments = {
        "log_id": log_id,
        "hash_key": hash_key,
        "partition": 0,
        "partitions": 1,
        "scope": "global",
        "parent": None,
        "app": app,
    }
    return _encode_arguments("genesis", arguments, written_at=written_at_ms, writer=writer)


def encode_command(command: str, arguments: dict[str, Any], *, written_at_ms: int, writer: str) -> bytes:
    """Bytes of an entry of kind command."""
    return _encode_arguments("command", arguments, command=command, written_at=written_at_ms, writer=writer)


_BLANK: dict[str, Any] = {
    "format": FORMAT,
    "source_partition": -1,
    "sequence": -1,
    "trigger": -1,
    "trigger_offset": -1,
    "event_id": "",
    "event_time": 0,
    "label_time": 0,
    "event_offset": -1,
    "feedback_offset": -1,
    **{field["name"]: field["default"] for field in _RAW["fields"] if "default" in field},
    "derived": b"",
    "event": b"",
}


def _encode(**fields: Any) -> bytes:
    return encode_record(_SCHEMA, {**_BLANK, **fields})


def _encode_arguments(kind: str, arguments: dict[str, Any], **fields: Any) -> bytes:
    """Bytes of an entry that says what it has to say in arguments: canonical JSON, which digests are made of."""
    text = json.dumps({"v": ARGUMENTS_VERSION, **arguments}, sort_keys=True, separators=(",", ":"))
    return _encode(kind=KINDS.index(kind), arguments=text, **fields)


_SCHEMA_BEGINS = encode_schema(0, "", written_at_ms=0, writer="")[:2]
_COMMAND_BEGINS = encode_command("", {}, written_at_ms=0, writer="")[:2]


def _judge(raw: dict[str, Any]) -> None:
    """LaterEntry or ValueError where an entry has what this version does not write, as `_strange` judges many."""
    if len(KINDS) <= raw["kind"] <= FORMATS_MAX:
        raise LaterEntry("unknown_kind", f"a log entry of kind {raw['kind']}")
    if raw["kind"] not in range(len(KINDS)):
        raise ValueError(f"its kind is {raw['kind']}, and {len(KINDS) - 1} is the most")
    if not -1 <= raw["source_partition"] < PARTITIONS_MAX:
        raise ValueError(f"partition {raw['source_partition']} is none")
    for name in ("event", "derived"):
        if len(raw[name]) != raw[f"{name}_size"]:
            raise ValueError(f"its {name} has {len(raw[name]):,} bytes, and it says {raw[f'{name}_size']:,}")
    if raw["kind"] == EXAMPLE and raw["trigger"] < 0:
        raise ValueError(f"its trigger is {raw['trigger']}, and an example has one")
    for name, known in NUMBERS.items():
        if raw[name] not in known:
            raise ValueError(f"its {name} is {raw[name]}, and {known.stop - 1} is the most")
    for name in UNUSED:
        if raw[name] is not None:
            raise LaterEntry("later_format", f"a log entry with a {name}, which this version does not use")
    for name, most in TEXTS_MAX.items():
        size = len((raw[name] or "").encode("utf-8", "surrogatepass"))
        if size > most:
            raise ValueError(f"its {name} has a size of {size:,}, and {most:,} is the most")


def decode_entry(value: bytes) -> Entry:
    """A log entry. LaterEntry where a later version wrote it, ValueError where the bytes are none."""
    try:
        check_format(value, 0, FORMAT, "a log entry")
    except LaterFormat as error:
        decode_own(value, HEAD)  # else it is somebody else's bytes
        raise LaterEntry("later_format", str(error)) from None
    raw = decode_own(value, _READ)
    _judge(raw)
    return Entry(
        kind=KINDS[raw["kind"]],
        source_partition=raw["source_partition"],
        sequence=raw["sequence"],
        trigger=raw["trigger"],
        trigger_offset=raw["trigger_offset"],
        event_id=raw["event_id"],
        event_time_ms=raw["event_time"],
        event_offset=raw["event_offset"],
        feedback_offset=raw["feedback_offset"],
        label_time_ms=raw["label_time"],
        target=Target(raw["label_class"], raw["label_value"]),
        served=Served(
            class_name=raw["served_class"],
            score=raw["served_score"],
            scores=raw["served_scores"],
            value=raw["served_value"],
            lineage=raw["served_lineage"],
            position=raw["served_position"],
            flags=words_of(raw["served_flags"]),
            log_partition=raw["served_log_partition"],
            epoch=raw["served_epoch"],
            arm=raw["served_arm"],
        ),
        event_schema=raw["event_schema"],
        event_framing=FRAMINGS[raw["event_framing"]],
        command=raw["command"],
        arguments=raw["arguments"],
        control=raw["control"],
        written_at_ms=raw["written_at"],
        writer=raw["writer"],
        derived_schema=raw["derived_schema"],
        derived=raw["derived"],
        event=raw["event"],
    )
