"""JSON as people write it becomes what the schema says, or an error that names the field and what to write."""

import datetime
import decimal
import io
import json
import uuid
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml.core.avro.from_json import SchemaMismatch, from_json, value_of
from stream_ml.core.avro.record import Decoder, encode_record
from stream_ml.core.avro.schema import Schema, load_schema


def schema_of(**types: Any) -> Schema:
    """A record with these fields."""
    fields = [{"name": name, "type": type_} for name, type_ in types.items()]
    return load_schema(json.dumps({"type": "record", "name": "R", "fields": fields}), where="r.avsc")


def through(type_: Any, value: Any) -> Any:
    """What a reader of the bytes gets, logical types included."""
    schema = schema_of(f=type_)
    encoded = encode_record(schema.parsed, from_json(schema, {"f": value}))
    full = fastavro.parse_schema({"type": "record", "name": "R", "fields": [{"name": "f", "type": type_}]})
    return fastavro.schemaless_reader(io.BytesIO(encoded), full, None)["f"]  # type: ignore[index, call-overload]


UTC = datetime.UTC
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}


@pytest.mark.parametrize(
    ("type_", "given", "expected"),
    [
        ("string", "x", "x"),
        ("double", 3, 3.0),
        ("int", -7, -7),
        ("int", 1.0, 1),
        ("long", -9007199254740992.0, -(2**53)),
        (MILLIS, 1e3, datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("boolean", True, True),
        ("bytes", "aGk=", b"hi"),
        (["null", "string"], None, None),
        (["null", "string"], "x", "x"),
        (["null", "long", "string"], "x", "x"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "B"),
        ({"type": "array", "items": "int"}, [1, 2], [1, 2]),
        ({"type": "map", "values": ["null", "int"]}, {"a": 1, "b": None}, {"a": 1, "b": None}),
        (MILLIS, "2026-01-31T12:30:00.25Z", datetime.datetime(2026, 1, 31, 12, 30, 0, 250_000, UTC)),
        (MILLIS, "2026-01-31T14:30:00+02:00", datetime.datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        (MILLIS, "2026-01-31T12:30:00", datetime.datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        (MILLIS, 1_000, datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (MILLIS, "1969-12-31T23:59:59.5Z", datetime.datetime(1969, 12, 31, 23, 59, 59, 500_000, UTC)),
        (
            {"type": "long", "logicalType": "timestamp-micros"},
            "1970-01-01T00:00:00.000001Z",
            datetime.datetime(1970, 1, 1, 0, 0, 0, 1, UTC),
        ),
        ({"type": "int", "logicalType": "date"}, "2026-01-31", datetime.date(2026, 1, 31)),
        ({"type": "int", "logicalType": "time-millis"}, "12:30:00", datetime.time(12, 30)),
        (DECIMAL, "-12.34", decimal.Decimal("-12.34")),
        (DECIMAL, 5, decimal.Decimal("5.00")),
        (
            {"type": "string", "logicalType": "uuid"},
            "12345678-1234-1234-1234-123456789abc",
            uuid.UUID("12345678-1234-1234-1234-123456789abc"),
        ),
    ],
)
def test_a_value_arrives_as_it_was_meant(type_: Any, given: Any, expected: Any) -> None:
    assert through(type_, given) == expected


@pytest.mark.parametrize(
    ("type_", "given", "told"),
    [
        ("int", "7", "f is '7', and it is int"),
        ("int", 2**31, "more than 32 bits"),
        ("int", True, "f is True, and it is int"),
        ("double", "x", "f is 'x', and it is double"),
        ("string", None, "f is null, and it is string"),
        (MILLIS, "yesterday", "write 2026-01-31T12:30:00Z"),
        ({"type": "int", "logicalType": "date"}, "31.1.2026", "write 2026-01-31"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "C", "one of A, B"),
        (DECIMAL, "1.234", "more than 2 decimal places"),
        ("bytes", "?", "write base64"),
        ({"type": "fixed", "name": "F", "size": 4}, "aGk=", "f has 2 bytes, and it has 4"),
        ({"type": "array", "items": "int"}, [1, "x"], r"f\[1\] is 'x'"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_words(type_: Any, given: Any, told: str) -> None:
    with pytest.raises(SchemaMismatch, match=told):
        from_json(schema_of(f=type_), {"f": given})


def test_fields_that_are_left_out_take_their_default_or_null_or_are_asked_for() -> None:
    fields = [
        {"name": "a", "type": "int", "default": 5},
        {"name": "b", "type": ["null", "string"]},
        {"name": "c", "type": "string"},
    ]
    schema = load_schema(json.dumps({"type": "record", "name": "R", "fields": fields}), where="r.avsc")
    assert from_json(schema, {"c": "x"}) == {"a": 5, "b": None, "c": "x"}
    with pytest.raises(SchemaMismatch, match="c is missing; it is string"):
        from_json(schema, {})
    with pytest.raises(SchemaMismatch, match="d is no field; there are a, b, c"):
        from_json(schema, {"c": "x", "d": 1})


@pytest.mark.parametrize(
    "text", ["1e300000", "-1e300000", "9" * 100_000, "12345678", "1e99999999", "inf", "nan", "snan"]
)
def test_a_decimal_of_more_digits_than_its_schema_has_is_refused_at_once(text: str) -> None:
    with pytest.raises(SchemaMismatch, match=r"^f is "):
        from_json(schema_of(f=DECIMAL), {"f": text})


@pytest.mark.parametrize("text", ["1e300000", "9" * 100_000])
def test_a_decimal_without_precision_has_a_bound_too(text: str) -> None:
    with pytest.raises(SchemaMismatch, match="more than 1000 digits before its point"):
        value_of(schema_of(), {"type": "bytes", "logicalType": "decimal"}, text, "f")


@pytest.mark.parametrize(("type_", "given"), [("string", "\ud800"), ({"type": "map", "values": "int"}, {"\udfff": 1})])
def test_half_of_a_character_is_refused_in_words(type_: Any, given: Any) -> None:
    with pytest.raises(SchemaMismatch, match="f holds half of a character"):
        from_json(schema_of(f=type_), {"f": given})


@pytest.mark.parametrize(("type_", "given"), [("int", 1.5), ("long", 2.0**54), ("int", 1e300), ("long", float("inf"))])
def test_a_number_that_is_no_exact_integer_is_refused(type_: str, given: float) -> None:
    with pytest.raises(SchemaMismatch, match=r"^f is "):
        from_json(schema_of(f=type_), {"f": given})


def test_a_decimal_keeps_all_its_digits() -> None:
    wide = {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 2}
    assert through(wide, "123456789012345678901234567890.12") == decimal.Decimal("123456789012345678901234567890.12")


def test_a_default_of_bytes_is_text_of_code_points_and_no_base64() -> None:
    field = {"name": "f", "type": "bytes", "default": "abcd\u00ff"}
    schema = load_schema(json.dumps({"type": "record", "name": "R", "fields": [field]}), where="r.avsc")
    assert from_json(schema, {}) == {"f": b"abcd\xff"}


def test_a_number_beyond_a_double_is_refused() -> None:
    with pytest.raises(SchemaMismatch, match="f is beyond what a double holds"):
        from_json(schema_of(f="double"), {"f": 10**400})


def test_nested_fields_are_named_with_their_path() -> None:
    inner = {"type": "record", "name": "I", "fields": [{"name": "x", "type": "int"}]}
    with pytest.raises(SchemaMismatch, match=r"place\.x is 'a', and it is int"):
        from_json(schema_of(place=inner), {"place": {"x": "a"}})


PLAIN = st.fixed_dictionaries(
    {
        "i": st.integers(-(2**31), 2**31 - 1),
        "d": st.floats(allow_nan=False, allow_infinity=False),
        "s": st.none() | st.text(),
        "l": st.lists(st.booleans()),
    }
)


@settings(max_examples=200, deadline=None)
@given(value=PLAIN)
def test_plain_json_comes_back_as_it_was(value: dict[str, Any]) -> None:
    schema = schema_of(i="int", d="double", s=["null", "string"], l={"type": "array", "items": "boolean"})
    given_ = json.loads(json.dumps(value))
    decoded, _ = Decoder(schema.parsed).decode(encode_record(schema.parsed, from_json(schema, given_)))
    assert decoded == value
