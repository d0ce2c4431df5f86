"""Features: which fields, in which order, as which values, and what is refused."""

from typing import Any

import pytest

from stream_ml.config import Features
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.avro.schema import Schema
from stream_ml.errors import ConfigError
from tests.support.inputs import plan_of, record_type, schema_of

UUID = "9f2c5d1e-0f3b-4a53-9d2e-0a1b2c3d4e5f"
ABC = schema_of(("a", "double"), ("b", "string"), ("c", "int"))


def _one(type_: Any, value: Any, **settings: Any) -> Any:
    """The value of the only feature, or the refusal."""
    found = plan_of(schema_of(("x", type_)), **settings).extract_one({"x": value})
    return found if isinstance(found, Rejected) else found[0].get("x", "dropped")


# --- choice and order ---


def test_features_keep_the_order_of_the_schema_whatever_the_order_of_include() -> None:
    plan = plan_of(ABC, include=["c", "a", "b"])
    assert plan.names == ["a", "b", "c"]
    found = plan.extract_one({"c": 3, "b": "x", "a": 1.0})
    assert not isinstance(found, Rejected)
    assert list(found[0].items()) == [("a", 1.0), ("b", "x"), ("c", 3)]


def test_order_of_include_leaves_what_the_lineage_sees() -> None:
    assert plan_of(ABC, include=["c", "a"]).resolved == plan_of(ABC, include=["a", "c"]).resolved


def test_default_is_every_scalar_but_id_and_time() -> None:
    schema = schema_of(
        ("id", "string"), ("x", "double"), ("tags", {"type": "array", "items": "string"}), ("at", "long"), ("y", "int")
    )
    assert plan_of(schema, {"id", "at"}).names == ["x", "y"]


def test_id_and_time_are_features_where_they_are_included() -> None:
    assert plan_of(schema_of(("id", "string"), ("x", "double")), {"id"}, include=["x", "id"]).names == ["id", "x"]


def test_excluded_field_is_no_feature() -> None:
    assert plan_of(ABC, exclude=["b"]).names == ["a", "c"]
    assert plan_of(ABC, include=["a", "b"], exclude=["b"]).names == ["a"]


def test_field_named_twice_is_one_feature() -> None:
    assert plan_of(ABC, include=["a", "a"]).names == ["a"]


@pytest.mark.parametrize("settings", [{"include": []}, {"exclude": ["a", "b", "c"]}])
def test_no_feature_at_all_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="none is left"):
        plan_of(ABC, **settings)


@pytest.mark.parametrize("settings", [{"include": ["z"]}, {"exclude": ["z"]}, {"include": ["a.z"]}])
def test_unknown_name_is_refused_with_the_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="z"):
        plan_of(ABC, **settings)


def test_unknown_name_in_missing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"features\.missing: z is not a feature"):
        plan_of(ABC, missing={"z": "drop"})


def test_left_out_field_in_missing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"features\.missing: b is not a feature"):
        plan_of(ABC, exclude=["b"], missing={"b": "drop"})


# --- bounds ---

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


@pytest.mark.parametrize("value", [-0.1, 10.1, 1e18, -1e18, 5e-324 * -1])
def test_a_number_outside_of_its_bounds_is_refused_with_the_bounds(value: float) -> None:
    plan = plan_of(schema_of(("x", "double")), bounds={"x": {"min": 0, "max": 10}})
    assert plan.extract_one({"x": 0.0}) == ({"x": 0.0}, False) and plan.extract_one({"x": 10.0}) == ({"x": 10.0}, False)
    refused = plan.extract_one({"x": value})
    assert isinstance(refused, Rejected) and refused.reason == "out_of_bounds"
    assert "feature x" in refused.message and "below 0.0 or above 10.0" in refused.message


def test_default_bounds_reach_numbers_that_are_no_times() -> None:
    schema = schema_of(("x", "double"), ("n", "long"), ("t", MILLIS), ("k", "string"), ("own", "int"))
    plan = plan_of(schema, bounds={"default": {"sigma": 8}, "own": {"max": 3}})
    assert plan.sigmas == {"x": 8, "n": 8} and plan.bounded == {"x", "n", "own"}
    assert plan.measured == ["x", "n", "own"]


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"z": {"max": 1}}, r"features\.bounds: z is not a feature"),
        ({"k": {"max": 1}}, "k is string, which has length and distinct"),
        ({"x": {"distinct": 1}}, "x is double, which has min, max and sigma"),
        ({"b": {"max": 1}}, "b is boolean, which has no bounds"),
        ({"t": {"sigma": 3}}, "t is a time"),
    ],
)
def test_bounds_that_cannot_hold_are_refused(bounds: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_of(schema_of(("x", "double"), ("t", MILLIS), ("k", "string"), ("b", "boolean")), bounds=bounds)


@pytest.mark.parametrize(
    "bound", [{}, {"min": 2, "max": 1}, {"min": float("nan")}, {"max": float("inf")}, {"sigma": 0}]
)
def test_bounds_that_say_nothing_or_nonsense_are_refused(bound: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"bound|min|sigma"):
        Features(bounds={"x": bound})


def test_default_bounds_reach_each_kind_with_its_own() -> None:
    enum = {"type": "enum", "name": "E", "symbols": ["A"]}
    plan = plan_of(
        schema_of(("x", "double"), ("k", "string"), ("e", enum), ("b", "boolean")),
        bounds={"default": {"sigma": 8, "distinct": 5, "length": 3}},
    )
    assert (plan.sigmas, plan.distinct, plan.bounded) == ({"x": 8}, {"k": 5}, {"x", "k"})
    refused = plan.extract_one({"x": 1.0, "k": "four", "e": "A", "b": True})
    assert isinstance(refused, Rejected) and refused.reason == "out_of_bounds" and "has 4 characters" in refused.message
    assert not isinstance(plan.extract_one({"x": 1.0, "k": "thr", "e": "A", "b": True}), Rejected)


def test_bounds_are_in_the_lineage() -> None:
    schema = schema_of(("x", "double"))
    assert plan_of(schema).resolved != plan_of(schema, bounds={"x": {"max": 1}}).resolved


# --- nested records ---


def _nested(nullable: bool) -> Schema:
    inner = record_type("Inner", ("x", "double"), ("deep", record_type("Deep", ("y", "string"))))
    return schema_of(("first", "int"), ("in", ["null", inner] if nullable else inner), ("last", "int"))


@pytest.mark.parametrize("nullable", [False, True])
def test_nested_fields_are_features_by_dotted_name_in_place(nullable: bool) -> None:
    plan = plan_of(_nested(nullable))
    assert plan.names == ["first", "in.x", "in.deep.y", "last"]
    found = plan.extract_one({"first": 1, "in": {"x": 0.5, "deep": {"y": "s"}}, "last": 2})
    assert found == ({"first": 1, "in.x": 0.5, "in.deep.y": "s", "last": 2}, False)


def test_null_record_makes_its_fields_missing() -> None:
    payload = {"first": 1, "in": None, "last": 2}
    refused = plan_of(_nested(True)).extract_one(payload)
    assert isinstance(refused, Rejected)
    assert refused.reason == "missing_feature"
    assert "in.x" in refused.message
    assert plan_of(_nested(True), missing={"default": "drop"}).extract_one(payload) == ({"first": 1, "last": 2}, False)
    imputed = plan_of(_nested(True), missing={"in.x": {"impute": 9.5}, "in.deep.y": {"impute": "?"}}).extract_one(
        payload
    )
    assert imputed == ({"first": 1, "in.x": 9.5, "in.deep.y": "?", "last": 2}, True)


def test_record_itself_is_no_feature() -> None:
    with pytest.raises(ConfigError, match="in is a record, which no model can take"):
        plan_of(_nested(False), include=["in"])


# --- conversion ---


@pytest.mark.parametrize(
    ("type_", "raw", "value"),
    [
        ("double", 1.5, 1.5),
        ("float", -0.25, -0.25),
        ("int", 7, 7),
        ("long", 10**18, 10**18),
        ("long", -(10**18), -(10**18)),
        ("boolean", True, True),
        ("boolean", False, False),
        ("string", "", ""),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "A", "A"),
        ({"type": "long", "logicalType": "timestamp-millis"}, 1_500, 1.5),
        ({"type": "long", "logicalType": "timestamp-micros"}, 1_500_000, 1.5),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, 250, 0.25),
        ({"type": "int", "logicalType": "time-millis"}, 500, 0.5),
        ({"type": "long", "logicalType": "time-micros"}, 500_000, 0.5),
        ({"type": "int", "logicalType": "date"}, 19_675, 19_675),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, (1250).to_bytes(2, "big"), 12.5),
        (
            {"type": "fixed", "name": "D", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 2},
            (-1).to_bytes(4, "big", signed=True),
            -0.01,
        ),
        ({"type": "string", "logicalType": "uuid"}, UUID.upper(), UUID),
        (
            {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"},
            bytes.fromhex(UUID.replace("-", "")),
            UUID,
        ),
        (["null", "double"], 1.5, 1.5),
        (["double", "null"], 1.5, 1.5),
        (["null", {"type": "enum", "name": "E", "symbols": ["A"]}], "A", "A"),
        (["string"], "x", "x"),
    ],
)
def test_value_is_converted_by_its_type(type_: Any, raw: Any, value: Any) -> None:
    found = _one(type_, raw)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("int", "number"),
        ("boolean", "boolean"),
        ("string", "text"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "text"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "number"),
        ({"type": "int", "logicalType": "date"}, "number"),
        ({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, "text"),
    ],
)
def test_kind_says_what_the_model_gets(type_: Any, kind: str) -> None:
    assert plan_of(schema_of(("x", type_))).kinds == {"x": kind}


@pytest.mark.parametrize(
    ("type_", "word"),
    [
        ({"type": "array", "items": "int"}, "an array"),
        ({"type": "map", "values": "int"}, "a map"),
        ("bytes", "a bytes"),
        ({"type": "fixed", "name": "F", "size": 4}, "a fixed"),
        (["null", "int", "string"], "a union"),
        (["int", "string"], "a union"),
        (["null", {"type": "array", "items": "int"}], "an array"),
        ("null", "a null"),
    ],
)
def test_type_that_no_model_takes_is_refused_with_its_name(type_: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=f"features.include: x is {word}, which no model can take"):
        plan_of(schema_of(("x", type_), ("y", "int")), include=["x"])


def test_type_that_no_model_takes_is_passed_over_by_default() -> None:
    assert plan_of(schema_of(("x", ["null", "int", "string"]), ("m", "bytes"), ("y", "int"))).names == ["y"]


# timestamp-nanos (Avro 1.12) as a plain number is beyond 1e18 today: every event would become a dead letter.
@pytest.mark.parametrize("logical", ["timestamp-nanos", "local-timestamp-nanos"])
def test_nanoseconds_are_seconds_or_refused_at_start(logical: str) -> None:
    try:
        found = _one({"type": "long", "logicalType": logical}, 1_700_000_000_000_000_000, include=["x"])
    except ConfigError:
        return
    assert found == 1_700_000_000.0


def test_uuid_on_a_number_is_a_number() -> None:
    assert _one({"type": "long", "logicalType": "uuid"}, 5) == 5


def test_text_that_is_no_uuid_is_refused_as_a_value() -> None:
    found = _one({"type": "string", "logicalType": "uuid"}, "no uuid")
    assert isinstance(found, Rejected)
    assert found.reason == "schema_mismatch"


# --- missing ---


def test_null_is_rejected_by_default_with_a_way_out() -> None:
    found = _one(["null", "double"], None)
    assert isinstance(found, Rejected)
    assert found.reason == "missing_feature"
    assert "x is null" in found.message
    assert "drop" in found.message


def test_null_is_dropped_where_asked() -> None:
    assert plan_of(schema_of(("x", ["null", "double"])), missing={"x": "drop"}).extract_one({"x": None}) == ({}, False)


@pytest.mark.parametrize(
    ("type_", "fill"), [("double", 1.5), ("int", 3), ("string", "none"), ("boolean", False), ("double", 0)]
)
def test_null_is_imputed_and_flagged(type_: str, fill: Any) -> None:
    plan = plan_of(schema_of(("x", ["null", type_])), missing={"x": {"impute": fill}})
    assert plan.extract_one({"x": None}) == ({"x": fill}, True)
    assert type(plan.extract_one({"x": None})[0]["x"]) is type(fill)  # type: ignore[index]


def test_present_value_is_not_flagged() -> None:
    plan = plan_of(schema_of(("x", ["null", "double"])), missing={"x": {"impute": 1.5}})
    assert plan.extract_one({"x": 2.5}) == ({"x": 2.5}, False)


@pytest.mark.parametrize(
    ("type_", "fill"),
    [
        ("double", "none"),
        ("double", True),
        ("string", 1.0),
        ("boolean", 1),
        ("boolean", "true"),
        ("double", float("nan")),
        ("double", float("inf")),
        ("double", 1e19),
        ("long", 10**19),
        pytest.param("long", 10**400, id="401 digits"),
    ],
)
def test_imputed_value_of_another_type_is_refused(type_: str, fill: Any) -> None:
    with pytest.raises(ConfigError, match=r"features\.missing\.x: .* is not a usable"):
        plan_of(schema_of(("x", ["null", type_])), missing={"x": {"impute": fill}})


def test_default_reaches_the_fields_of_its_type_only() -> None:
    schema = schema_of(("n", ["null", "double"]), ("t", ["null", "string"]))
    plan = plan_of(schema, missing={"default": {"impute": 0.0}})
    assert plan.extract_one({"n": None, "t": "x"}) == ({"n": 0.0, "t": "x"}, True)
    assert isinstance(plan.extract_one({"n": 1.0, "t": None}), Rejected)


def test_own_rule_goes_before_the_default() -> None:
    schema = schema_of(("a", ["null", "double"]), ("b", ["null", "double"]))
    plan = plan_of(schema, missing={"default": "drop", "b": "reject"})
    assert plan.extract_one({"a": None, "b": 1.0}) == ({"b": 1.0}, False)
    assert isinstance(plan.extract_one({"a": 1.0, "b": None}), Rejected)


def test_missing_policy_is_part_of_what_the_lineage_sees() -> None:
    first = plan_of(ABC, missing={"default": "drop"}).resolved
    second = plan_of(ABC, missing={"default": {"impute": 1.0}}).resolved
    assert [f["missing"] for f in first] == ["drop", "drop", "drop"]
    assert second[0]["missing"] == {"impute": 1.0}


# --- not finite ---


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 1e19, 1.1e18])
def test_number_that_ruins_models_is_not_finite(value: float) -> None:
    found = _one("double", value)
    assert isinstance(found, Rejected)
    assert found.reason == "not_finite"
    assert "feature x" in found.message


@pytest.mark.parametrize("value", [10**18 + 1, -(10**18) - 1, 2**63 - 1])
def test_integer_beyond_the_range_is_not_finite(value: int) -> None:
    found = _one("long", value)
    assert isinstance(found, Rejected)
    assert found.reason == "not_finite"


@pytest.mark.parametrize("value", [1e18, -1e18, 0.0, -0.0, 5e-324])
def test_number_within_the_range_is_a_feature(value: float) -> None:
    assert _one("double", value) == value


def test_decimal_beyond_the_range_is_not_finite() -> None:
    type_ = {"type": "bytes", "logicalType": "decimal", "precision": 400, "scale": 0}
    for value in (10**19, -(10**399)):
        found = _one(type_, value.to_bytes(166, "big", signed=True))
        assert isinstance(found, Rejected)
        assert found.reason == "not_finite"


def test_not_finite_is_refused_even_where_missing_is_imputed() -> None:
    found = _one(["null", "double"], float("nan"), missing={"x": {"impute": 0.0}})
    assert isinstance(found, Rejected)
    assert found.reason == "not_finite"
