"""Bytes that Avro does not allow are no record, in a batch and alone, in the topics and in the training log."""

from typing import Any

import pytest

from stream_ml.core.avro.columnar import ROWS_MIN
from stream_ml.core.avro.framing import Payloads, Rejected
from stream_ml.core.avro.record import avro_long
from stream_ml.core.avro.schema import Schema
from stream_ml.core.fold.replica import Replica
from stream_ml.core.inputs.readers import EventReader, FeedbackReader
from stream_ml.core.log.entry import decode_entry
from stream_ml.core.log.entry_columns import decode_entries
from stream_ml.records import DeadLetter, Label, Record, Records, Served
from tests.support.inputs import NOW_MS, domain_of, events_of, feedback_of, plan_of, record_type, schema_of
from tests.support.partition import example, fold_settings, log_of

ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}
INTS = {"type": "array", "items": "int"}
BROKEN: dict[str, tuple[Any, bytes]] = {
    "the last symbol, from behind": (ENUM, b"\x01"),
    "the first symbol, from behind": (ENUM, b"\x05"),
    "a symbol too many": (ENUM, b"\x06"),
    "a branch from behind": (["null", "int"], b"\x01\x0a"),
    "null from behind": (["null", "int"], b"\x03"),
    "a branch too many": (["null", "int"], b"\x04"),
    "a wider union's branch from behind": (["null", "int", "string"], b"\x01\x02a"),
    "an int of 33 bits": ("int", avro_long(2**31)),
    "a negative int of 33 bits": ("int", avro_long(-(2**31) - 1)),
    "an int of 41 bits": (["null", "int"], b"\x02" + avro_long(2**40)),
    "a boolean of 2": ("boolean", b"\x02"),
    "a boolean of 7": ("boolean", b"\x07"),
    "a boolean of 255": ("boolean", b"\xff"),
    "a long of 11 bytes": ("long", b"\x82" + b"\x80" * 9 + b"\x00"),
    "a long of 67 bits": ("long", b"\xff" * 9 + b"\x7f"),
    "a long of 65 bits": ("long", b"\xff" * 9 + b"\x02"),
    "a string of -1 bytes": ("string", b"\x01"),
    "bytes of -1 bytes": ("bytes", b"\x01"),
    "an item of 33 bits": (INTS, b"\x02" + avro_long(2**31) + b"\x00"),
    "a block of another size": (INTS, avro_long(-2) + avro_long(99) + b"\x02\x04\x00"),
    "a block of a negative size": (INTS, avro_long(-2) + avro_long(-2) + b"\x02\x04\x00"),
    "a key of -1 bytes": ({"type": "map", "values": "int"}, b"\x02\x01\x02\x00"),
    "a symbol in a record in a record": (
        record_type("Outer", ("inner", ["null", record_type("Inner", ("e", ENUM))])),
        b"\x02\x01",
    ),
    "a symbol in an array": ({"type": "array", "items": ENUM}, b"\x02\x01\x00"),
    "a symbol in a map": ({"type": "map", "values": ENUM}, b"\x02\x02a\x01\x00"),
}
STRANGE: dict[str, tuple[Any, bytes, Any]] = {
    "a long that is longer than it must be": ("long", b"\x82\x80\x00", 1),
    "a long of ten bytes": ("long", b"\x82" + b"\x80" * 8 + b"\x00", 1),
    "the least long": ("long", avro_long(-(2**63)), -(2**63)),
    "the largest int": ("int", avro_long(2**31 - 1), 2**31 - 1),
    "an int that is longer than it must be": ("int", b"\x82\x80\x00", 1),
    "a symbol that is longer than it must be": (ENUM, b"\x82\x00", "B"),
    "a branch that is longer than it must be": (["null", "int"], b"\x82\x00\x0a", 5),
    "a length that is longer than it must be": ("string", b"\x82\x00a", "a"),
    "a block with its size": (INTS, avro_long(-2) + avro_long(2) + b"\x02\x04\x00", [1, 2]),
    "two blocks": (INTS, b"\x02\x02\x02\x04\x00", [1, 2]),
    "a map's block with its size": (
        {"type": "map", "values": "int"},
        avro_long(-1) + avro_long(3) + b"\x02a\x04\x00",
        {"a": 2},
    ),
    "a key that stands twice": ({"type": "map", "values": "int"}, b"\x04\x02a\x04\x02a\x06\x00", {"a": 3}),
}


def _schema(type_: Any) -> Schema:
    return schema_of(("a", type_), ("x", "double"))


X = b"\x00\x00\x00\x00\x00\x00\xf0\x3f"  # 1.0


def _records(value: bytes) -> Records:
    return Records.of("t", 0, [Record("t", 0, row, NOW_MS, b"k", value) for row in range(ROWS_MIN)])


@pytest.mark.parametrize("name", BROKEN)
def test_bytes_that_avro_does_not_allow_are_a_dead_letter_in_a_batch_and_alone(name: str) -> None:
    type_, bytes_ = BROKEN[name]
    schema = _schema(type_)
    reader = EventReader(events_of(), Payloads("bare", schema, {}), plan_of(schema, include=["x"]), [])
    records = _records(bytes_ + X)
    one = reader.decode_one(records.record(0), NOW_MS)
    assert isinstance(one, DeadLetter)
    assert one.reason == "not_avro"
    assert {
        row: dead_letter.reason for row, dead_letter in reader.decode_many(records, NOW_MS).dead_letters.items()
    } == dict.fromkeys(range(ROWS_MIN), "not_avro")


@pytest.mark.parametrize("name", BROKEN)
def test_bytes_that_avro_does_not_allow_are_none_where_the_reader_leaves_the_field_out(name: str) -> None:
    type_, bytes_ = BROKEN[name]
    writer, reader = _schema(type_), schema_of(("x", "double"))
    found = Payloads("confluent", reader, {1: writer}).decode_one(b"\x00\x00\x00\x00\x01" + bytes_ + X)
    assert isinstance(found, Rejected)
    assert found.reason == "not_avro"


@pytest.mark.parametrize("name", STRANGE)
def test_what_avro_allows_is_read_however_it_is_written(name: str) -> None:
    type_, bytes_, value = STRANGE[name]
    schema = _schema(type_)
    payloads = Payloads("bare", schema, {})
    assert payloads.decode_one(bytes_ + X) == (schema.fingerprint, {"a": value, "x": 1.0})
    assert payloads.decode_logged_one(schema.fingerprint, "bare", bytes_ + X) == {"a": value, "x": 1.0}


@pytest.mark.parametrize(
    ("task", "type_", "bytes_"),
    [
        ("multiclass", ENUM, b"\x01"),
        ("binary", "boolean", b"\x07"),
        ("binary", ["null", "boolean"], b"\x01\x01"),
        ("regression", "int", avro_long(2**31)),
    ],
)
def test_a_label_of_bytes_that_avro_does_not_allow_is_never_learned(task: str, type_: Any, bytes_: bytes) -> None:
    """A label enum of byte 01 was learned as the last symbol."""
    schema = schema_of(("late", type_))
    reader = FeedbackReader(feedback_of(), Payloads("bare", schema, {}), domain_of(task, type_))
    found = [*reader.decode_many(_records(bytes_), NOW_MS), reader.decode_one(_records(bytes_).record(0), NOW_MS)]
    assert {item.reason for item in found if isinstance(item, DeadLetter)} == {"not_avro"}
    assert not [item for item in found if isinstance(item, Label)]


# --- the training log ---


@pytest.mark.parametrize("name", BROKEN)
def test_an_event_of_the_log_that_avro_does_not_allow_is_not_read(name: str) -> None:
    type_, bytes_ = BROKEN[name]
    schema = _schema(type_)
    found = Payloads("bare", schema, {}).decode_logged_one(schema.fingerprint, "bare", bytes_ + X)
    assert isinstance(found, Rejected)
    assert found.reason == "not_avro"


KIND = 1  # where an entry has its kind; before it the format, a byte


@pytest.mark.parametrize("kind", [b"\x01", b"\x03", b"\x05", b"\x07"])
def test_an_entry_of_a_kind_from_behind_is_none(kind: bytes) -> None:
    """A command of byte 05 was read as one, an example of byte 07 was learned."""
    value = example(0)
    damaged = value[:KIND] + kind + value[KIND + 1 :]
    with pytest.raises(ValueError, match="its kind is -"):
        decode_entry(damaged)
    assert isinstance(decode_entries([damaged] * ROWS_MIN)[0], ValueError)


@pytest.mark.parametrize("count", [1, ROWS_MIN])
def test_learning_halts_at_an_entry_that_avro_does_not_allow(count: int) -> None:
    values = [example(sequence) for sequence in range(count)]
    values.append(values[-1][:KIND] + b"\x07" + values[-1][KIND + 1 :])
    replica = Replica(fold_settings())
    replica.fold(log_of(values))
    assert replica.halt is not None
    assert (replica.halt.position, replica.halt.reason) == (count, "not_an_entry")


def test_what_is_said_of_a_cut_entry_is_the_same_in_every_process() -> None:
    """The message of a halt is published; fastavro's names an address in memory."""
    value = example(0, served=Served("true", 0.5, None, None, "l", 1, ()))
    told = {
        str(found) for end in range(len(value)) if isinstance(found := decode_entries([value[:end]])[0], ValueError)
    }
    assert told
    assert not [words for words in told if "0x" in words]


def test_a_count_of_items_without_bytes_is_refused_at_once() -> None:
    import fastavro

    from stream_ml.core.avro.record import avro_long
    from stream_ml.core.avro.walk import NotAvro, walk_of

    schema = {"type": "record", "name": "r", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]}
    with pytest.raises(NotAvro):
        walk_of(fastavro.parse_schema(schema))(avro_long(20_000_000) + b"\0", 0)
