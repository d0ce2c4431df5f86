"""Labels: made canonical, checked against the task's closed list, or refused."""

from typing import Any

import pytest

from stream_ml.config import Model
from stream_ml.core.avro.fields import find_field
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.inputs.label_domain import LabelDomain, class_text
from stream_ml.errors import ConfigError
from stream_ml.records import Target
from tests.support.inputs import domain_of, schema_of

ENUM = {"type": "enum", "name": "E", "symbols": ["LOST", "WON"]}


def _reason(domain: LabelDomain, value: Any) -> str:
    found = domain.canonical(value)
    assert isinstance(found, Rejected)
    return found.reason


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (1, "1"), ("1", "1"), ("True", "True"), (-3, "-3"), ("", "")]
)
def test_class_has_one_canonical_text(value: object, text: str) -> None:
    assert class_text(value) == text


# --- binary ---


def test_boolean_label_is_true_or_false() -> None:
    domain = domain_of("binary")
    assert (domain.classes, domain.positive, domain.negative) == (["false", "true"], "true", "false")
    assert domain.canonical(True) == Target("true", None)
    assert domain.y(Target("true", None)) is True
    assert domain.y(Target("false", None)) is False


def test_positive_false_turns_the_sides() -> None:
    domain = domain_of("binary", positive=False)
    assert (domain.positive, domain.negative) == ("false", "true")
    assert domain.y(Target("false", None)) is True


@pytest.mark.parametrize("type_", ["int", "long", ["null", "int"]])
def test_integer_label_is_0_or_1(type_: Any) -> None:
    domain = domain_of("binary", type_)
    assert (domain.classes, domain.positive) == (["0", "1"], "1")
    assert domain.canonical(1) == Target("1", None)
    assert domain.canonical(0) == Target("0", None)
    assert _reason(domain, 2) == "label_domain"


def test_positive_zero_of_integers() -> None:
    assert domain_of("binary", "int", positive=False).positive == "0"
    assert domain_of("binary", "int", positive=0).positive == "0"


def test_text_label_with_a_list() -> None:
    domain = domain_of("binary", "string", labels=["yes", "no"], positive="yes")
    assert (domain.classes, domain.positive, domain.negative) == (["no", "yes"], "yes", "no")
    assert _reason(domain, "Yes") == "label_domain"


@pytest.mark.parametrize("labels", [[1, 0], ["1", "0"], [1, "0"]])
def test_number_and_text_of_a_label_are_the_same_class(labels: list[Any]) -> None:
    for type_, value in (("int", 1), ("string", "1")):
        domain = domain_of("binary", type_, labels=labels, positive="1")
        assert domain.canonical(value) == Target("1", None)


def test_true_and_1_are_different_classes() -> None:
    assert _reason(domain_of("binary"), 1) == "label_domain"
    assert _reason(domain_of("binary", "int"), True) == "label_domain"


def test_enum_label_has_its_symbols() -> None:
    domain = domain_of("binary", ENUM, positive="WON")
    assert (domain.classes, domain.positive) == (["LOST", "WON"], "WON")
    assert domain.canonical("LOST") == Target("LOST", None)


def test_nullable_enum_label_has_its_symbols() -> None:
    assert domain_of("binary", ["null", ENUM], positive="WON").classes == ["LOST", "WON"]


def test_enum_label_beside_another_of_its_name_has_its_own_symbols() -> None:
    other = {"type": "enum", "name": "Kind", "namespace": "a", "symbols": ["X", "Y", "Z"]}
    schema = schema_of(("other", other), ("late", ENUM | {"name": "Kind", "namespace": "b"}))
    model = Model(factory="module:build", task="binary", positive="WON")
    domain = LabelDomain(model, find_field(schema, "late", where="feedback.label"), schema)
    assert domain.classes == ["LOST", "WON"]


@pytest.mark.parametrize(
    ("type_", "model"),
    [
        (ENUM, {}),
        (ENUM, {"positive": "DRAWN"}),
        ({"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}, {"positive": "A"}),
        ("string", {"labels": ["yes"], "positive": "yes"}),
        ("string", {"labels": ["yes", "yes"], "positive": "yes"}),
        ("string", {"labels": ["yes", "no", "?"], "positive": "yes"}),
        ("string", {"labels": [], "positive": "yes"}),
        ("int", {"labels": [1, 2]}),
        ("boolean", {"positive": "yes"}),
    ],
)
def test_binary_without_two_labels_one_of_them_positive_is_refused(type_: Any, model: dict[str, Any]) -> None:
    if type_ == "int":
        model = model | {"positive": 3}
    with pytest.raises(ConfigError, match=r"two labels, one of them model\.positive"):
        domain_of("binary", type_, **model)


@pytest.mark.parametrize("type_", ["string", "double", "bytes", ["int", "string"], {"type": "array", "items": "int"}])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_label_without_a_closed_list_is_refused_with_the_way_out(task: str, type_: Any) -> None:
    with pytest.raises(ConfigError, match="not a closed list") as refused:
        domain_of(task, type_)
    assert "model.labels" in refused.value.hint


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_null_label_is_outside_the_domain(task: str) -> None:
    domain = domain_of(task, "string", labels=["a", "b"], positive="a")
    assert _reason(domain, None) == "label_domain"


@pytest.mark.parametrize(
    ("type_", "labels", "positive"),
    [("boolean", [0, 1], 1), ("double", [0, 1], 1), (ENUM, ["won", "lost"], "won"), ("int", ["no", "yes"], "yes")],
)
def test_labels_that_the_field_can_never_have_are_refused(type_: Any, labels: list[Any], positive: Any) -> None:
    try:
        domain = domain_of("binary", type_, labels=labels, positive=positive)
    except ConfigError:
        return
    values: list[Any] = [True, False] if type_ == "boolean" else [0.0, 1.0] if type_ == "double" else ["LOST", "WON", 0]
    assert any(isinstance(domain.canonical(value), Target) for value in values)


# --- multiclass ---


def test_multiclass_learns_the_text_of_the_class() -> None:
    domain = domain_of("multiclass", labels=["c", "a", "b"])
    assert (domain.classes, domain.positive) == (["a", "b", "c"], "")
    assert domain.y(Target("b", None)) == "b"
    assert domain.canonical("b") == Target("b", None)
    refused = domain.canonical("d")
    assert isinstance(refused, Rejected)
    assert refused.reason == "label_domain"
    assert "'d'" in refused.message
    assert "a, b, c" in refused.message


def test_multiclass_of_integers() -> None:
    domain = domain_of("multiclass", "int", labels=[1, 2, 10])
    assert domain.classes == ["1", "10", "2"]
    assert domain.canonical(10) == Target("10", None)


def test_multiclass_of_an_enum() -> None:
    assert domain_of("multiclass", {"type": "enum", "name": "E", "symbols": ["Z", "A"]}).classes == ["A", "Z"]


def test_more_than_a_thousand_classes_are_refused() -> None:
    assert len(domain_of("multiclass", "int", labels=list(range(1_000))).classes) == 1_000
    with pytest.raises(ConfigError, match="1001 classes"):
        domain_of("multiclass", "int", labels=list(range(1_001)))


# --- regression ---


@pytest.mark.parametrize(("type_", "value"), [("double", 1.5), ("float", 1.5), ("int", 3), ("long", -4)])
def test_regression_learns_a_float(type_: str, value: float) -> None:
    found = domain_of("regression", type_).canonical(value)
    assert found == Target(None, float(value))
    assert type(found.value) is float


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e308, 1e19, 10**19, 10**400])
def test_regression_label_that_ruins_models_is_not_finite(value: float) -> None:
    assert _reason(domain_of("regression"), value) == "not_finite"


def test_regression_null_is_outside_the_domain() -> None:
    assert _reason(domain_of("regression", ["null", "double"]), None) == "label_domain"


@pytest.mark.parametrize("type_", ["string", "boolean", ENUM, "bytes", ["int", "string"]])
def test_regression_of_something_that_is_no_number_is_refused(type_: Any) -> None:
    with pytest.raises(ConfigError, match="regression needs a number"):
        domain_of("regression", type_)
