"""A record that cannot be read says in words which field is to blame, and nothing of Python."""

import io
import json
from typing import Any

import fastavro
import pytest

from stream_ml.core.avro.framing import Payloads, Rejected
from stream_ml.core.avro.schema import Schema, load_schema

KIND = {"type": "enum", "name": "K", "symbols": ["A", "B"]}
PLACE = {"type": "record", "name": "Place", "fields": [{"name": "kind", "type": KIND}]}


def order(**types: Any) -> Schema:
    """The schema of an order with these fields."""
    fields = [{"name": name, "type": type_} for name, type_ in types.items()]
    return load_schema(json.dumps({"type": "record", "name": "Order", "fields": fields}), where="order.avsc")


def words(found: Any) -> str:
    """Why a record is refused."""
    assert isinstance(found, Rejected), found
    return found.message


@pytest.mark.parametrize(
    ("types", "value", "told"),
    [
        ({"id": "string", "kind": KIND}, b"\x02a\xc6\x01", "Order: kind names symbol 99 of an enum with 2; it begins"),
        ({"id": "string", "kind": KIND}, b"\x02a\x01", "Order: kind names symbol -1 of an enum with 2; it begins"),
        (
            {"id": "string", "x": ["null", "double"]},
            b"\x02a\x08",
            "Order: x names branch 4 of a union with 2; it begin",
        ),
        (
            {"id": "string", "at": PLACE},
            b"\x02a\x04",
            "Order: at.kind names symbol 2 of an enum with 2; it begins with",
        ),
        (
            {"many": {"type": "array", "items": KIND}},
            b"\x04\x00\x0a\x00",
            "Order: many names symbol 5 of an enum with 2",
        ),
        ({"id": "string"}, b"\x02\xff", "Order: id is not UTF-8; it begins with 02 ff"),
        (
            {"id": "string", "x": "double"},
            b"\x02a\x00\x00",
            "Order: the bytes end inside of x; it begins with 02 61 00",
        ),
        ({"id": "string", "x": "string"}, b"\x02a\x7f", "Order: the length of x is -64; it begins with 02 61 7f"),
    ],
)
def test_bytes_that_are_no_record_name_the_field(types: dict[str, Any], value: bytes, told: str) -> None:
    said = words(Payloads("bare", order(**types), {}).decode_one(value))
    assert said.startswith(told)


@pytest.mark.parametrize(
    ("writer", "reader", "value", "told"),
    [
        ({"x": "string"}, {"x": "double"}, {"x": "a"}, "x is string there and double here"),
        ({"x": ["null", "string"]}, {"x": "long"}, {"x": "a"}, "x is null or string there and long here"),
        ({"at": PLACE}, {"at": "string"}, {"at": {"kind": "A"}}, "at is record Place there and string here"),
        (
            {"at": PLACE},
            {"at": {**PLACE, "fields": [{"name": "kind", "type": "int"}]}},
            {"at": {"kind": "A"}},
            "at.kind is enum K there and int here",
        ),
        ({"k": KIND}, {"k": {**KIND, "name": "Q"}}, {"k": "B"}, "k is enum K there and enum Q here"),
        (
            {"k": KIND},
            {"k": {**KIND, "symbols": ["A"]}},
            {"k": "B"},
            "k is B, which enum K here does not have",
        ),
        (
            {"x": {"type": "fixed", "name": "F", "size": 3}},
            {"x": {"type": "fixed", "name": "F", "size": 4}},
            {"x": b"abc"},
            "x is fixed F of 3 bytes there and fixed F of 4 bytes here",
        ),
        (
            {"x": {"type": "array", "items": "string"}},
            {"x": {"type": "array", "items": "int"}},
            {"x": ["a"]},
            "x is array of string there and array of int here",
        ),
        (
            {"x": "double"},
            {"x": "double", "y": "string"},
            {"x": 1.0},
            "y is not there, and has no default here",
        ),
    ],
)
def test_a_schema_that_cannot_be_read_into_another_names_the_field_and_both_types(
    writer: dict[str, Any], reader: dict[str, Any], value: dict[str, Any], told: str
) -> None:
    theirs = order(**writer)
    written = io.BytesIO(b"\x00\x00\x00\x00\x07")
    written.seek(5)
    fastavro.schemaless_writer(written, theirs.parsed, value)
    said = words(Payloads("confluent", order(**reader), {7: theirs}).decode_one(written.getvalue()))
    assert said == f"written with schema id 7: {told}"
