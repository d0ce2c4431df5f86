"""Avro schemas: fingerprints, names, and the ones that are refused before any byte is decoded."""

import json
import subprocess
from typing import Any

import pytest

from stream_ml.core.avro.fields import find_field
from stream_ml.core.avro.schema import fingerprint, load_schema, single_object_header
from stream_ml.errors import ConfigError
from tests.support.inputs import encoded, record_type, run_python, schema_of

ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}


def _nested(depth: int) -> Any:
    found: Any = "int"
    for _ in range(depth):
        found = {"type": "array", "items": found}
    return found


# Avro specification and the Java implementation's test cases, big-endian.
@pytest.mark.parametrize(
    ("canonical", "crc"),
    [('"null"', "63dd24e7cc258f8a"), ('"int"', "7275d51a3f395c8f"), ('"string"', "8f014872634503c7")],
)
def test_fingerprint_is_crc_64_avro(canonical: str, crc: str) -> None:
    assert (fingerprint(canonical) & (2**64 - 1)) == int(crc, 16)
    assert fingerprint(canonical).to_bytes(8, "little", signed=True) == bytes.fromhex(crc)[::-1]


def test_single_object_header_has_the_fingerprint_little_endian() -> None:
    assert single_object_header(fingerprint('"null"')).hex() == "c3018a8f25cce724dd63"
    assert single_object_header(fingerprint('"string"')).hex() == "c301c70345637248018f"


def test_fingerprint_is_signed_as_a_long() -> None:
    assert fingerprint('"string"') == 0x8F014872634503C7 - 2**64


def test_doc_default_and_order_of_keys_leave_the_fingerprint() -> None:
    plain = load_schema('{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}', where="a")
    noted = load_schema(
        '{"fields":[{"doc":"d","default":1,"type":{"type":"int"},"name":"a"}],"doc":"x","name":"R","type":"record"}',
        where="b",
    )
    assert plain.fingerprint == noted.fingerprint


def test_name_of_a_field_changes_the_fingerprint() -> None:
    assert schema_of(("a", "int")).fingerprint != schema_of(("b", "int")).fingerprint


def test_nested_named_types_with_namespaces_load() -> None:
    place = record_type("Place", ("kind", ENUM | {"name": "Kind"}), namespace="geo.shape")
    schema = schema_of(
        ("a", place), ("b", "geo.shape.Place"), ("c", "geo.shape.Kind"), ("d", ["null", "geo.shape.Kind"])
    )
    values = {"a": {"kind": "A"}, "b": {"kind": "B"}, "c": "A", "d": "B"}
    assert encoded(schema, values) == bytes([0, 2, 0, 2, 2])
    assert find_field(schema, "b.kind", where="x").base == "enum"


def test_named_type_in_the_namespace_of_its_parent_is_found() -> None:
    inner = record_type("Inner", ("k", ENUM))
    schema = schema_of(("a", inner), ("b", "Inner"), ("c", "space.Inner"), namespace="space")
    for name in ("a.k", "b.k", "c.k"):
        assert find_field(schema, name, where="x").base == "enum"


def test_equal_short_names_in_two_namespaces_are_two_types() -> None:
    first = {"type": "enum", "name": "x.Kind", "symbols": ["A"]}
    second = record_type("Holder", ("kind", {"type": "fixed", "name": "Kind", "size": 2}), ("again", "Kind"))
    schema = schema_of(("first", first), ("second", second | {"namespace": "y"}))
    assert find_field(schema, "first", where="x").base == "enum"
    assert find_field(schema, "second.again", where="x").base == "fixed"


@pytest.mark.parametrize(
    "link",
    [
        "R",
        ["null", "R"],
        {"type": "array", "items": "R"},
        {"type": "map", "values": "R"},
        {"type": "array", "items": ["null", {"type": "map", "values": "R"}]},
    ],
    ids=["direct", "union", "array", "map", "all"],
)
def test_recursion_is_refused(link: Any) -> None:
    with pytest.raises(ConfigError, match="contains itself"):
        schema_of(("v", "int"), ("next", link))


def test_mutual_recursion_is_refused() -> None:
    other = record_type("Other", ("back", ["null", "R"]))
    with pytest.raises(ConfigError, match="contains itself"):
        schema_of(("other", other))


def test_recursion_below_the_root_is_refused() -> None:
    tree = record_type("Tree", ("children", {"type": "array", "items": "Tree"}))
    with pytest.raises(ConfigError, match=r"R\.tree\.children contains itself"):
        schema_of(("tree", tree))


def test_recursion_by_the_full_name_is_refused() -> None:
    tree = record_type("Tree", ("children", {"type": "array", "items": "space.Tree"}))
    with pytest.raises(ConfigError, match="contains itself"):
        schema_of(("tree", tree), namespace="space")


def test_recursion_behind_an_equal_short_name_is_refused() -> None:
    node = record_type("Node", ("next", ["null", "Node"]), namespace="y")
    with pytest.raises(ConfigError, match="contains itself"):
        schema_of(("kind", {"type": "enum", "name": "x.Node", "symbols": ["A"]}), ("node", node))


def test_type_used_twice_is_no_recursion() -> None:
    point = record_type("Point", ("x", "int"))
    assert schema_of(("a", point), ("b", "Point"), ("c", {"type": "array", "items": "Point"})).name == "R"


@pytest.mark.parametrize(
    "items",
    [
        "null",
        {"type": "null"},
        record_type("Empty"),
        {"type": "fixed", "name": "Nothing", "size": 0},
        record_type("Nested", ("a", "null"), ("b", record_type("Inner"))),
    ],
    ids=["null", "wrapped null", "empty record", "fixed of 0", "nested empty"],
)
def test_array_whose_items_take_no_bytes_is_refused(items: Any) -> None:
    with pytest.raises(ConfigError, match=r"R\.a is an array whose items take no bytes"):
        schema_of(("a", {"type": "array", "items": items}))


@pytest.mark.parametrize("items", ["string", ["null", "int"], ENUM, {"type": "array", "items": "int"}])
def test_array_whose_items_take_a_byte_loads(items: Any) -> None:
    assert schema_of(("a", {"type": "array", "items": items})).name == "R"


def test_nesting_of_thirty_types_loads() -> None:
    assert schema_of(("a", _nested(30))).name == "R"


@pytest.mark.parametrize("depth", [33, 100, 200, 240, 300, 400, 600, 900, 2_000, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    type_ = '{"type":"array","items":' * depth + '"int"' + "}" * depth
    with pytest.raises(ConfigError):
        load_schema(f'{{"type":"record","name":"R","fields":[{{"name":"a","type":{type_}}}]}}', where="deep.avsc")


def test_deep_json_is_refused() -> None:
    with pytest.raises(ConfigError):
        load_schema("[" * 100_000, where="deep.avsc")


def test_two_thousand_fields_load_and_one_more_does_not() -> None:
    assert len(schema_of(*((f"f{i}", "int") for i in range(2_000))).fields) == 2_000
    with pytest.raises(ConfigError, match="2001 fields"):
        schema_of(*((f"f{i}", "int") for i in range(2_001)))


def test_fields_of_nested_records_count() -> None:
    inner = record_type("Inner", *((f"i{i}", "int") for i in range(1_500)))
    with pytest.raises(ConfigError, match="2001 fields"):
        schema_of(("inner", inner), *((f"f{i}", "int") for i in range(500)))


def test_fixed_of_a_mebibyte_loads_and_a_larger_one_does_not() -> None:
    assert schema_of(("a", {"type": "fixed", "name": "F", "size": 1_048_576})).name == "R"
    with pytest.raises(ConfigError, match=r"R\.a is a fixed of 1048577 bytes"):
        schema_of(("a", {"type": "fixed", "name": "F", "size": 1_048_577}))


def test_fixed_of_negative_size_is_refused() -> None:
    with pytest.raises(ConfigError):
        schema_of(("a", {"type": "fixed", "name": "F", "size": -1}))


def test_type_reached_in_many_ways_is_linted_once() -> None:
    inner: Any = "int"
    for i in range(28):
        inner = record_type(f"L{i}", ("a", inner), ("b", f"L{i - 1}" if i else "int"))
    code = "import sys; from stream_ml.core.avro.schema import load_schema; load_schema(sys.argv[1], where='w')"
    try:
        ended = run_python(code, json.dumps(record_type("R", ("a", inner))), timeout_s=3)
    except subprocess.TimeoutExpired:
        pytest.fail("a schema of 57 fields was not read in 3 s")
    assert ended.returncode == 0 or "ConfigError" in ended.stderr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "42",
        "{}",
        '{"type":"record"}',
        '{"type":"record","name":"R","fields":[{"name":"a","type":"strin"}]}',
        '{"type":"record","name":"R","fields":[{"name":"a"}]}',
        '{"type":"record","name":"R","fields":3}',
        '{"type":"record","name":"R","fields":[3]}',
        '{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"fixed","name":"F"}}]}',
        '{"type":"record","name":5,"fields":[]}',
        '"string"',
        '["null","string"]',
        '{"type":"map","values":"int"}',
    ],
)
def test_text_that_is_no_record_schema_is_refused_with_the_file(text: str) -> None:
    with pytest.raises(ConfigError, match=r"wrong\.avsc"):
        load_schema(text, where="wrong.avsc")


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"record","name":"R"}',
        '{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"fixed","name":"F","size":"x"}}]}',
        '{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}',
    ],
    ids=["no fields", "size is text", "doubled field"],
)
def test_schema_that_the_library_lets_pass_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"wrong\.avsc"):
        load_schema(text, where="wrong.avsc")


# --- names and unions outside of Avro's grammar ---

GRAMMAR = "letters, digits and underscores"


def _with(*fields: dict[str, Any], **more: Any) -> str:
    plain = [{"name": "id", "type": "string"}, {"name": "x", "type": "double"}]
    return json.dumps({"type": "record", "name": "R", "fields": [*plain, *fields], **more})


def _field(name: Any, type_: Any = "double", **more: Any) -> str:
    return _with({"name": name, "type": type_, **more})


NAMES: dict[str, tuple[str, str]] = {
    "a namespace with a dash": (_with(namespace="com.my-shop"), "com.my-shop"),
    "a namespace with a digit first": (_with(namespace="com.2shop"), "com.2shop"),
    "a namespace with two dots": (_with(namespace="com..shop"), "com..shop"),
    "a namespace with a dot at its end": (_with(namespace="com."), "com."),
    "a namespace that is a number": (_with(namespace=5), "5"),
    "a record with a dash": (_with(name="my-R"), "my-R"),
    "a record with a digit first": (_with(name="2R"), "2R"),
    "a record without a name": (_with(name=""), "''"),
    "a record with a dash in its full name": (_with(name="com.my-shop.R"), "com.my-shop.R"),
    "a record with a dot at its end": (_with(name="a.R."), "a.R."),
    "a record with an umlaut": (_with(name="Größe"), "Größe"),
    "a record that is a number": (_with(name=5), "5"),
    "a field with an umlaut": (_field("größe"), "größe"),
    "a field with a dash": (_field("a-b"), "a-b"),
    "a field with a dot": (_field("a.b"), "a.b"),
    "a field with a digit first": (_field("1a"), "1a"),
    "a field with a space": (_field("a b"), "a b"),
    "a field with a line's end": (_field("ab\n"), "ab"),
    "a field with a letter of another width": (_field("\uff41"), "\uff41"),
    "a field with a digit of another kind": (_field("a\u00b2"), "a\u00b2"),
    "a field without a name": (_field(""), "''"),
    "a field that is a number": (_field(5), "5"),
    "an alias with a dash": (_field("y", aliases=["a-b"]), "a-b"),
    "an alias of the record": (_with(aliases=["com.my-shop.R"]), "com.my-shop.R"),
    "a symbol with a dash": (_field("e", {**ENUM, "symbols": ["a-b", "c"]}), "a-b"),
    "a symbol with a digit first": (_field("e", {**ENUM, "symbols": ["a", "1"]}), "1"),
    "a symbol with an umlaut": (_field("e", {**ENUM, "symbols": ["ä", "b"]}), "ä"),
    "a symbol of no letters": (_field("e", {**ENUM, "symbols": ["", "b"]}), "''"),
    "an enum with a dash": (_field("e", {**ENUM, "name": "E-1"}), "E-1"),
    "an enum in a namespace with a dash": (_field("e", {**ENUM, "namespace": "a-b"}), "a-b"),
    "a fixed with a dash": (_field("e", {"type": "fixed", "name": "F-1", "size": 2}), "F-1"),
    "a record in a record": (_field("e", record_type("I-1", ("q", "int"))), "I-1"),
    "a field of a record in a record": (_field("e", record_type("I", ("q-q", "int"))), "q-q"),
    "an enum in an array": (_field("e", {"type": "array", "items": {**ENUM, "name": "E-1"}}), "E-1"),
    "an enum in a map in a union": (
        _field("e", ["null", {"type": "map", "values": {**ENUM, "name": "E-1"}}]),
        "E-1",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_outside_of_avros_grammar_is_refused_at_load_with_the_grammar(name: str) -> None:
    """Small batches were read; the first of 64 ended the worker, and so did every start again."""
    text, wrong = NAMES[name]
    with pytest.raises(ConfigError) as refused:
        load_schema(text, where="r.avsc")
    assert wrong in str(refused.value)
    assert GRAMMAR in str(refused.value)
    assert "r.avsc" in str(refused.value)


def test_names_within_avros_grammar_load() -> None:
    names = ("_", "a1", "Z_9", "null", "class", "double")
    schema = load_schema(_with(*({"name": n, "type": "int"} for n in names), namespace="_a.B2.c"), where="r")
    assert [field["name"] for field in schema.fields][2:] == list(names)


@pytest.mark.parametrize(
    "union",
    [["null", "null"], [["null", "int"], "null"], ["null", "int", "int"], ["null", ["int", "string"]], []],
    ids=["two nulls", "a union first", "two ints", "a union inside", "empty"],
)
def test_a_union_that_avro_does_not_allow_is_refused_at_load(union: Any) -> None:
    """Two branches of one type, or a union in a union (Avro specification, "Unions"): these too ended the worker."""
    with pytest.raises(ConfigError, match=r"R\.y\b.*union"):
        load_schema(_field("y", union), where="r.avsc")
