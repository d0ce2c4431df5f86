"""Bytes to events and labels: three framings, schema resolution, ids, times, and damage that must be a value."""

import subprocess
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stream_ml.core.avro.framing import Payloads, Rejected
from stream_ml.core.avro.schema import Schema, single_object_header
from stream_ml.core.inputs.readers import EventReader, FeedbackReader
from stream_ml.errors import ConfigError
from stream_ml.records import DeadLetter, Event, Label
from tests.support.inputs import (
    NOW_MS,
    domain_of,
    encoded,
    events_of,
    feedback_of,
    plan_of,
    record,
    record_type,
    run_python,
    schema_of,
)

REASONS = {
    "empty",
    "not_avro",
    "truncated",
    "unknown_schema",
    "framing",
    "schema_mismatch",
    "missing_id",
    "missing_feature",
    "not_finite",
    "out_of_range_time",
    "label_domain",
    "too_large",
    "model_refused",
}
FRAMINGS = ["bare", "confluent", "single-object"]
UUID = "9f2c5d1e-0f3b-4a53-9d2e-0a1b2c3d4e5f"
DAY_MS = 86_400_000

EVERYTHING = schema_of(
    ("id", "string"),
    ("flag", "boolean"),
    ("i", "int"),
    ("l", "long"),
    ("f", "float"),
    ("d", "double"),
    ("b", "bytes"),
    ("kind", {"type": "enum", "name": "Kind", "symbols": ["A", "B", "C"]}),
    ("list", {"type": "array", "items": "long"}),
    ("map", {"type": "map", "values": "string"}),
    ("either", ["null", "string", "long"]),
    ("price", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}),
    ("uid", {"type": "string", "logicalType": "uuid"}),
    ("uid16", {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}),
    ("fix", {"type": "fixed", "name": "F", "size": 4}),
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("inner", ["null", record_type("Inner", ("x", "double"), ("day", {"type": "int", "logicalType": "date"}))]),
)
VALUES: dict[str, Any] = {
    "id": "one",
    "flag": True,
    "i": -300,
    "l": 2**40,
    "f": 1.5,
    "d": -2.25,
    "b": b"\x00\xff",
    "kind": "B",
    "list": [1, -2, 300],
    "map": {"k": "v"},
    "either": 7,
    "price": (1250).to_bytes(2, "big"),
    "uid": UUID,
    "uid16": bytes(range(16)),
    "fix": b"\xde\xad\xbe\xef",
    "at": NOW_MS,
    "inner": {"x": 0.5, "day": 19_675},
}


def _payloads(framing: Any, schema: Schema = EVERYTHING) -> Payloads:
    return Payloads(framing, schema, {9: schema} if framing == "confluent" else {})


def _header(framing: str, schema: Schema = EVERYTHING) -> bytes:
    return {
        "bare": b"",
        "confluent": b"\x00\x00\x00\x00\x09",
        "single-object": single_object_header(schema.fingerprint),
    }[framing]


def _value(framing: str) -> bytes:
    return encoded(EVERYTHING, VALUES, _header(framing))


def _refused(framing: str, value: bytes | None) -> Rejected:
    found = _payloads(framing).decode_one(value)
    assert isinstance(found, Rejected)
    return found


# --- framings ---


@pytest.mark.parametrize("framing", FRAMINGS)
def test_record_comes_back(framing: str) -> None:
    assert _payloads(framing).decode_one(_value(framing)) == (EVERYTHING.fingerprint, VALUES)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("value", [None, b""], ids=["tombstone", "empty"])
def test_nothing_is_empty(framing: str, value: bytes | None) -> None:
    assert _refused(framing, value).reason == "empty"


def test_tombstone_is_called_so() -> None:
    assert "tombstone" in _refused("bare", None).message


@pytest.mark.parametrize("framing", ["confluent", "single-object"])
@pytest.mark.parametrize("other", FRAMINGS)
def test_other_framing_is_refused_as_framing(framing: str, other: str) -> None:
    if framing != other:
        assert _refused(framing, _value(other)).reason == "framing"


@pytest.mark.parametrize(("other", "guess"), [("confluent", "Confluent framing"), ("single-object", "single-object")])
def test_framed_value_read_as_bare_is_refused_with_a_guess(other: str, guess: str) -> None:
    schema = schema_of(("a", "int"), ("b", "int"))
    found = Payloads("bare", schema, {}).decode_one(encoded(schema, {"a": 1, "b": 2}, _header(other, schema)))
    assert isinstance(found, Rejected)
    assert guess in found.message


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("text", [b'{"id": "one", "flag": true}', b'  {"id": 1}', b"[1, 2, 3]", b"\n[{}]"])
def test_json_is_recognised(framing: str, text: bytes) -> None:
    found = _refused(framing, text)
    assert found.reason in ({"not_avro", "truncated"} if framing == "bare" else {"framing"})
    assert "this is JSON" in found.message


def test_unknown_schema_id_is_named() -> None:
    found = _refused("confluent", b"\x00\x00\x00\x01\x02rest")
    assert (found.reason, "258" in found.message) == ("unknown_schema", True)


def test_unknown_fingerprint_is_named() -> None:
    found = _refused("single-object", b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08rest")
    assert (found.reason, "0102030405060708" in found.message) == ("unknown_schema", True)


@pytest.mark.parametrize(("framing", "size"), [("confluent", 5), ("single-object", 10)])
def test_cut_header_is_refused_as_framing(framing: str, size: int) -> None:
    for end in range(1, size):
        assert _refused(framing, _value(framing)[:end]).reason == "framing"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_trailing_bytes_are_refused_with_their_number(framing: str) -> None:
    found = _refused(framing, _value(framing) + b"\x00\x00\x00")
    assert (found.reason, "3 bytes are left" in found.message) == ("not_avro", True)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_record_cut_anywhere_is_truncated(framing: str) -> None:
    value, start = _value(framing), len(_header(framing))
    wrong = [end for end in range(max(start, 1), len(value)) if _refused(framing, value[:end]).reason != "truncated"]
    assert wrong == []


@pytest.mark.parametrize("framing", FRAMINGS)
def test_record_cut_at_the_border_of_a_string_is_truncated(framing: str) -> None:
    start = len(_header(framing))
    assert _refused(framing, _value(framing)[: start + 2]).reason == "truncated"


@pytest.mark.parametrize(
    ("type_", "bytes_"),
    [
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x04"),
        (["null", "int"], b"\x08\x02"),
        ("string", b"\x04\xff\xfe"),
    ],
    ids=["enum index", "union branch", "no UTF-8"],
)
def test_bytes_of_another_type_are_not_avro(type_: Any, bytes_: bytes) -> None:
    found = Payloads("bare", schema_of(("a", type_)), {}).decode_one(bytes_)
    assert isinstance(found, Rejected)
    assert found.reason == "not_avro"


# A decimal of 900 kB made into digits takes minutes, growing with the square.
def test_large_decimal_is_decided_in_little_time() -> None:
    code = """
from stream_ml.core.avro.framing import Payloads
from stream_ml.config import Features
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.avro.schema import load_schema
text = ('{"type":"record","name":"R","fields":[{"name":"a","type":'
        '{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}')
value = bytes.fromhex("c0ee6d") + b"\\x7f" * 900_000
schema = load_schema(text, where="w")
print(FeaturePlan(schema, Features(), set()).extract_one(Payloads("bare", schema, {}).decode_one(value)[1])[0])
"""
    try:
        ended = run_python(code, timeout_s=4)
    except subprocess.TimeoutExpired:
        pytest.fail("a record of 900 kB was not decided in 4 s")
    assert ended.stdout.strip() in REASONS


# --- reader and writer ---


def _read_as(reader: Schema, writer: Schema, values: dict[str, Any]) -> Any:
    payloads = Payloads("confluent", reader, {1: writer})
    found = payloads.decode_one(encoded(writer, values, b"\x00\x00\x00\x00\x01"))
    if not isinstance(found, Rejected):
        assert found[0] == writer.fingerprint
        return found[1]
    return found


def test_field_that_only_the_writer_has_is_passed_over() -> None:
    writer = schema_of(("a", "int"), ("more", {"type": "array", "items": "string"}), ("b", "int"))
    assert _read_as(schema_of(("a", "int"), ("b", "int")), writer, {"a": 1, "more": ["x"], "b": 2}) == {"a": 1, "b": 2}


def test_field_that_the_writer_lacks_takes_its_default() -> None:
    reader = schema_of(("a", "int"), ("b", "int"))
    reader = _with_default(reader, "b", 5)
    assert _read_as(reader, schema_of(("a", "int")), {"a": 1}) == {"a": 1, "b": 5}


def _with_default(schema: Schema, name: str, default: Any) -> Schema:
    fields = [(f["name"], f["type"]) for f in schema.fields]
    raw = record_type("R", *fields)
    next(f for f in raw["fields"] if f["name"] == name)["default"] = default
    return schema_of(**{k: v for k, v in raw.items() if k == "fields"})


@pytest.mark.parametrize(
    ("written", "read", "value"),
    [
        ("int", "long", 7),
        ("int", "double", 7),
        ("long", "float", 7),
        ("float", "double", 1.5),
        ("string", "bytes", "x"),
        ("int", ["null", "int"], 7),
        ("int", ["null", "long"], 7),
    ],
)
def test_promotions_of_the_specification_are_read(written: Any, read: Any, value: Any) -> None:
    found = _read_as(schema_of(("a", read)), schema_of(("a", written)), {"a": value})
    assert found == {"a": b"x" if read == "bytes" else value}


@pytest.mark.parametrize(
    ("written", "read", "value"),
    [("string", "int", "x"), ("double", "int", 1.5), ("long", "int", 7), (["null", "int"], "int", None)],
)
def test_types_that_do_not_resolve_are_a_schema_mismatch(written: Any, read: Any, value: Any) -> None:
    found = _read_as(schema_of(("a", read)), schema_of(("a", written)), {"a": value})
    assert (found.reason, "a is " in found.message and " there and " in found.message) == ("schema_mismatch", True)


def test_field_without_default_that_the_writer_lacks_is_a_schema_mismatch() -> None:
    found = _read_as(schema_of(("a", "int"), ("b", "int")), schema_of(("a", "int")), {"a": 1})
    assert found.reason == "schema_mismatch"


def test_symbol_that_the_reader_does_not_know_is_a_schema_mismatch() -> None:
    writer = schema_of(("a", {"type": "enum", "name": "E", "symbols": ["A", "NEW"]}))
    reader = schema_of(("a", {"type": "enum", "name": "E", "symbols": ["A"]}))
    assert _read_as(reader, writer, {"a": "A"}) == {"a": "A"}
    assert _read_as(reader, writer, {"a": "NEW"}).reason == "schema_mismatch"


def test_single_object_finds_its_writer_by_fingerprint() -> None:
    reader, writer = schema_of(("a", "long")), schema_of(("a", "int"), ("b", "string"))
    value = encoded(writer, {"a": 7, "b": "x"}, single_object_header(writer.fingerprint))
    assert Payloads("single-object", reader, {}, [writer]).decode_one(value) == (writer.fingerprint, {"a": 7})
    found = Payloads("single-object", reader, {}).decode_one(value)
    assert isinstance(found, Rejected)
    assert found.reason == "unknown_schema"


def test_writer_added_later_is_known_from_then_on() -> None:
    reader, writer = schema_of(("a", "long")), schema_of(("a", "int"))
    payloads = Payloads("single-object", reader, {})
    payloads.add(writer)
    value = encoded(writer, {"a": 7}, single_object_header(writer.fingerprint))
    assert payloads.decode_one(value) == (writer.fingerprint, {"a": 7})
    assert payloads.decode_logged_one(writer.fingerprint, "single-object", value) == {"a": 7}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_logged_value_is_read_by_the_fingerprint_of_its_entry(framing: Any) -> None:
    payloads = Payloads("bare", EVERYTHING, {})
    assert payloads.decode_logged_one(EVERYTHING.fingerprint, framing, _value(framing)) == VALUES
    missing = payloads.decode_logged_one(1, framing, _value(framing))
    assert isinstance(missing, Rejected)
    assert missing.reason == "unknown_schema"


# --- ids ---


def _event(type_: Any, value: Any, *, id_: str = "id", key: bytes | None = b"k") -> Event | DeadLetter:
    schema = schema_of(("id", type_), ("x", "double"))
    reader = EventReader(events_of(id=id_), Payloads("bare", schema, {}), plan_of(schema, include=["x"]), [])
    return reader.decode_one(record(encoded(schema, {"id": value, "x": 1.0}), key=key), NOW_MS)


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        ("string", "F-1", "F-1"),
        ("string", "Zürich ✈", "Zürich ✈"),
        ("int", -5, "-5"),
        ("long", 2**62, "4611686018427387904"),
        ("long", 0, "0"),
        ({"type": "string", "logicalType": "uuid"}, UUID, UUID),
        ({"type": "string", "logicalType": "uuid"}, UUID.upper(), UUID),
        ({"type": "string", "logicalType": "uuid"}, "{" + UUID.replace("-", "") + "}", UUID),
        (
            {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"},
            bytes.fromhex(UUID.replace("-", "")),
            UUID,
        ),
        ({"type": "fixed", "name": "F", "size": 3}, b"\x00\xab\xff", "00abff"),
        (["null", "string"], "F-1", "F-1"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "A", "A"),
    ],
)
def test_id_has_a_canonical_text(type_: Any, value: Any, text: str) -> None:
    found = _event(type_, value)
    assert isinstance(found, Event)
    assert found.event_id == text


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (["null", "string"], None),
        ("string", ""),
        ("string", "x" * 1_025),
        ({"type": "string", "logicalType": "uuid"}, "no uuid"),
    ],
    ids=["null", "empty", "too long", "no uuid"],
)
def test_id_that_cannot_be_read_is_missing(type_: Any, value: Any) -> None:
    found = _event(type_, value)
    assert isinstance(found, DeadLetter)
    assert (found.reason, found.stage) == ("missing_id", "decode")


def test_id_of_1024_characters_is_one() -> None:
    assert isinstance(_event("string", "x" * 1_024), Event)


@pytest.mark.parametrize("type_", ["double", "boolean", "bytes", {"type": "array", "items": "int"}])
def test_type_that_cannot_be_an_id_is_refused_at_start(type_: Any) -> None:
    with pytest.raises(ConfigError, match=r"events\.id: id is"):
        schema = schema_of(("id", type_), ("x", "double"))
        EventReader(events_of(id="id"), Payloads("bare", schema, {}), plan_of(schema, include=["x"]), [])


def test_id_that_no_field_has_is_refused_with_the_fields() -> None:
    with pytest.raises(ConfigError, match=r"events\.id") as refused:
        _event("string", "F-1", id_="flight")
    assert "id, x" in refused.value.hint


def test_id_in_a_nested_record_is_found_and_its_null_parent_is_missing() -> None:
    schema = schema_of(("head", ["null", record_type("H", ("id", "string"))]), ("x", "double"))
    reader = EventReader(events_of(id="head.id"), Payloads("bare", schema, {}), plan_of(schema, include=["x"]), [])
    values = [{"head": {"id": "F-1"}, "x": 1.0}, {"head": None, "x": 1.0}]
    first, second = [reader.decode_one(record(encoded(schema, v)), NOW_MS) for v in values]
    assert isinstance(first, Event)
    assert first.event_id == "F-1"
    assert isinstance(second, DeadLetter)
    assert second.reason == "missing_id"


def test_key_is_the_id_where_asked() -> None:
    found = _event("string", "ignored", id_="key", key="Ü1".encode())
    assert isinstance(found, Event)
    assert found.event_id == "Ü1"


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe", b"x" * 1_025], ids=["null", "empty", "no UTF-8", "long"])
def test_key_that_is_no_id_is_missing(key: bytes | None) -> None:
    found = _event("string", "ignored", id_="key", key=key)
    assert isinstance(found, DeadLetter)
    assert found.reason == "missing_id"


def test_uuid_on_a_number_is_a_number() -> None:
    found = _event({"type": "long", "logicalType": "uuid"}, 5)
    assert isinstance(found, Event)
    assert found.event_id == "5"


# --- times ---


def _timed(type_: Any, value: Any, *, time: str = "at", timestamp_ms: int = NOW_MS) -> Event | DeadLetter:
    schema = schema_of(("at", type_), ("x", "double"))
    reader = EventReader(events_of(time=time), Payloads("bare", schema, {}), plan_of(schema, include=["x"]), [])
    return reader.decode_one(record(encoded(schema, {"at": value, "x": 1.0}), timestamp_ms=timestamp_ms), NOW_MS)


@pytest.mark.parametrize(
    ("type_", "value", "ms"),
    [
        ({"type": "long", "logicalType": "timestamp-millis"}, 1_357_016_400_123, 1_357_016_400_123),
        ({"type": "long", "logicalType": "timestamp-micros"}, 1_357_016_400_123_456, 1_357_016_400_123),
        ({"type": "long", "logicalType": "timestamp-micros"}, -1, -1),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, 5, 5),
        ({"type": "int", "logicalType": "date"}, 15_706, 1_356_998_400_000),
        ({"type": "int", "logicalType": "date"}, -1, -DAY_MS),
        (["null", {"type": "long", "logicalType": "timestamp-millis"}], 17, 17),
    ],
)
def test_time_is_in_milliseconds(type_: Any, value: int, ms: int) -> None:
    found = _timed(type_, value)
    assert isinstance(found, Event)
    assert found.time_ms == ms


def test_time_of_the_record_is_kafkas() -> None:
    found = _timed("string", "ignored", time="record", timestamp_ms=1_234)
    assert isinstance(found, Event)
    assert found.time_ms == 1_234


@pytest.mark.parametrize("type_", ["long", "string", {"type": "long", "logicalType": "time-micros"}])
def test_field_without_a_timestamp_type_is_refused_as_time(type_: Any) -> None:
    with pytest.raises(ConfigError, match=r"events\.time: at has no timestamp type"):
        _timed(type_, 1)


def test_timestamp_on_text_is_refused_as_time() -> None:
    with pytest.raises(ConfigError, match=r"events\.time"):
        _timed({"type": "string", "logicalType": "timestamp-millis"}, "yesterday")


@pytest.mark.parametrize("ms", [NOW_MS, NOW_MS + DAY_MS, 0, -1, -62_135_596_800_000])
def test_old_time_and_a_day_ahead_are_fine(ms: int) -> None:
    found = _timed({"type": "long", "logicalType": "timestamp-millis"}, ms)
    assert isinstance(found, Event)
    assert found.time_ms == ms


@pytest.mark.parametrize("ms", [NOW_MS + DAY_MS + 1, 2**63 - 1, -62_135_596_800_001, -(2**63)])
def test_time_far_ahead_or_before_the_year_1_is_out_of_range(ms: int) -> None:
    found = _timed({"type": "long", "logicalType": "timestamp-millis"}, ms)
    assert isinstance(found, DeadLetter)
    assert found.reason == "out_of_range_time"


def test_null_time_is_out_of_range() -> None:
    found = _timed(["null", {"type": "long", "logicalType": "timestamp-millis"}], None)
    assert isinstance(found, DeadLetter)
    assert found.reason == "out_of_range_time"


def test_time_of_the_record_far_ahead_is_out_of_range() -> None:
    found = _timed("string", "x", time="record", timestamp_ms=NOW_MS + 2 * DAY_MS)
    assert isinstance(found, DeadLetter)
    assert found.reason == "out_of_range_time"


# --- batches ---


def test_batch_keeps_its_order_and_bad_records_their_place() -> None:
    schema = schema_of(("x", "double"))
    reader = EventReader(events_of(), Payloads("bare", schema, {}), plan_of(schema), ["x"])
    good = encoded(schema, {"x": 1.5})
    found = [reader.decode_one(record(value), NOW_MS) for value in (good, b"\x01", None, good)]
    assert [type(item) for item in found] == [Event, DeadLetter, DeadLetter, Event]
    assert found[1].record.value == b"\x01"
    last = found[3]
    assert isinstance(last, Event)
    assert (last.features, last.carried, last.schema) == ({"x": 1.5}, {"x": 1.5}, schema.fingerprint)


def test_feature_problem_is_a_dead_letter_of_its_stage() -> None:
    schema = schema_of(("x", "double"))
    reader = EventReader(events_of(), Payloads("bare", schema, {}), plan_of(schema), [])
    found = reader.decode_one(record(encoded(schema, {"x": float("nan")})), NOW_MS)
    assert isinstance(found, DeadLetter)
    assert (found.reason, found.stage) == ("not_finite", "features")


def test_label_problem_is_a_dead_letter_of_its_stage() -> None:
    schema = schema_of(("late", ["null", "boolean"]))
    reader = FeedbackReader(feedback_of(), Payloads("bare", schema, {}), domain_of("binary"))
    right, wrong = [reader.decode_one(record(encoded(schema, {"late": late})), NOW_MS) for late in (True, None)]
    assert isinstance(right, Label)
    assert (right.target.class_name, right.event_id, right.time_ms) == ("true", "k", NOW_MS)
    assert isinstance(wrong, DeadLetter)
    assert (wrong.reason, wrong.stage) == ("label_domain", "label")


# --- damage ---


def _everything_reader(framing: Any) -> EventReader:
    plan = plan_of(EVERYTHING, {"id", "at"}, missing={"default": "drop"})
    return EventReader(
        events_of(id="id", time="at", framing=framing, schema_ids={} if framing == "bare" else {9: "nine.avsc"}),
        _payloads(framing),
        plan,
        ["inner", "price", "kind"],
    )


READERS = {framing: _everything_reader(framing) for framing in FRAMINGS}
UUID_READER = EventReader(
    events_of(id="uid16", time="inner.day"), _payloads("bare"), plan_of(EVERYTHING, missing={"default": "drop"}), []
)


def _is_a_value(reader: EventReader, value: bytes) -> None:
    found = reader.decode_one(record(value), NOW_MS)
    if isinstance(found, DeadLetter):
        assert found.reason in REASONS
        found.message.encode()
    else:
        assert 0 < len(found.event_id) <= 1_024
        assert all(abs(x) <= 1e18 for x in found.features.values() if isinstance(x, int | float))


@given(value=st.binary(max_size=200), body=st.booleans())
@settings(max_examples=300, deadline=None)
def test_random_bytes_never_raise(value: bytes, body: bool) -> None:
    for framing, reader in READERS.items():
        _is_a_value(reader, _header(framing) + value if body else value)
    _is_a_value(UUID_READER, value)


def _mutated(value: bytes, edits: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, place, bit, more in edits:
        at = place % (len(value) + 1)
        if kind == "flip" and at < len(value):
            value = value[:at] + bytes([value[at] ^ (1 << bit)]) + value[at + 1 :]
        elif kind == "cut":
            value = value[:at] + value[at + bit + 1 :]
        elif kind == "insert":
            value = value[:at] + more + value[at:]
    return value


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert"]),
        st.integers(0, 500),
        st.integers(0, 7),
        st.sampled_from([b"\xff", b"\x00", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\xff\xff\xff\xff\x0f", b"{"]),
    ),
    min_size=1,
    max_size=4,
)


@given(edits=EDITS)
@example(edits=[("flip", 0, 7, b"")])
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_records_never_raise(edits: list[tuple[str, int, int, bytes]]) -> None:
    for framing, reader in READERS.items():
        _is_a_value(reader, _mutated(_value(framing), edits))
    _is_a_value(UUID_READER, _mutated(_value("bare"), edits))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_flip_of_one_bit_is_a_value(framing: str) -> None:
    value = _value(framing)
    for at in range(len(value)):
        for bit in range(8):
            _is_a_value(READERS[framing], _mutated(value, [("flip", at, bit, b"")]))


@given(edits=EDITS)
@settings(max_examples=200, deadline=None)
def test_mutated_records_of_another_writer_never_raise(edits: list[tuple[str, int, int, bytes]]) -> None:
    writer = schema_of(*((f["name"], f["type"]) for f in EVERYTHING.fields if f["name"] not in ("flag", "list")))
    reader = _with_defaults()
    header = b"\x00\x00\x00\x00\x01"
    values = {k: v for k, v in VALUES.items() if k not in ("flag", "list")}
    found = Payloads("confluent", reader, {1: writer}).decode_one(_mutated(encoded(writer, values, header), edits))
    if isinstance(found, Rejected):
        assert found.reason in REASONS


def _with_defaults() -> Schema:
    defaults: dict[str, Any] = {"flag": {"default": False}, "list": {"default": []}}
    named = [(f["name"], f["type"]) for f in EVERYTHING.fields]
    return schema_of(fields=[{"name": name, "type": type_, **defaults.get(name, {})} for name, type_ in named])
