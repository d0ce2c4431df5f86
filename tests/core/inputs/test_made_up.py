"""What ``stream-ml check`` tries a model with: values that the schema allows, or the user's own sample records."""

import json
import math
import struct
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from stream_ml.app.assemble import assemble
from stream_ml.app.trial import checked
from stream_ml.cli.app import app
from stream_ml.config import load_config
from stream_ml.core.model.lineage import PRIVATE
from stream_ml.errors import ConfigError
from stream_ml.testing import check_model
from tests.support.inputs import record_type

MODEL = """
from river import base, compose, feature_extraction, linear_model, naive_bayes, preprocessing, stats

SEEN = []


class Seeing(base.Classifier):
    @property
    def _multiclass(self):
        return True

    def learn_one(self, x, y):
        SEEN.append((dict(x), y))

    def predict_proba_one(self, x):
        SEEN.append((dict(x), None))
        return {True: 0.5, False: 0.5}


def by_words():
    return feature_extraction.BagOfWords(on="f") | linear_model.LogisticRegression()


def by_place():
    return feature_extraction.Agg("g", "f", stats.Count()) | linear_model.LogisticRegression()


def counts():
    return naive_bayes.MultinomialNB()


class Positive(base.Classifier):
    def learn_one(self, x, y):
        if x["f"] <= 0:
            raise ValueError("f is a price, and this is none")

    def predict_proba_one(self, x):
        return {True: 0.5, False: 0.5}
"""
CONFIG = """
app: {id: a}
kafka: {bootstrap_servers: "none:9"}
events: {topic: events, schema: event.avsc, id: id}
feedback: {topic: feedback, schema: label.avsc, id: id, label: late, ttl: 2d}
predictions: {topic: predictions}
model: {factory: "made_up_model:Seeing", task: binary, checkpoint_types: [made_up_model.Seeing, made_up_model.Positive]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration whose model remembers what it was shown."""
    for name in [name for name in sys.modules if name.startswith(PRIVATE)]:
        del sys.modules[name]
    (tmp_path / "made_up_model.py").write_text(MODEL, "utf-8")
    (tmp_path / "label.avsc").write_text(json.dumps(record_type("L", ("id", "string"), ("late", "boolean"))), "utf-8")
    (tmp_path / "stream_ml.yaml").write_text(CONFIG, "utf-8")
    _event(tmp_path, ("f", "int"))
    return tmp_path


def _event(folder: Path, *fields: tuple[str, Any]) -> None:
    (folder / "event.avsc").write_text(json.dumps(record_type("E", ("id", "string"), *fields)), "utf-8")


def _check(folder: Path, *settings: str) -> Result:
    flags = [flag for setting in settings for flag in ("--set", setting)]
    return CliRunner().invoke(app, ["check", str(folder / "stream_ml.yaml"), *flags])


def _seen(folder: Path, *settings: str) -> list[dict[str, Any]]:
    checked(assemble(load_config(folder / "stream_ml.yaml", list(settings))))
    (module,) = [module for name, module in sys.modules.items() if name.endswith(".made_up_model")]
    return [features for features, _ in module.SEEN]


def _rows(folder: Path, *rows: Any) -> None:
    (folder / "visits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


# --- values by the schema ---


def _logical(base: str, logical: str, **more: Any) -> dict[str, Any]:
    return {"type": base, "logicalType": logical, **more}


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _number(least: float, most: float) -> Callable[[Any], bool]:
    return lambda value: type(value) is float and least <= value <= most


def _single(value: Any) -> bool:
    return type(value) is float and struct.unpack("f", struct.pack("f", value))[0] == value


def _cents(value: Any) -> bool:
    return type(value) is float and abs(value) < 10_000_000 and math.isclose(value * 100, round(value * 100))


def _uuid(value: Any) -> bool:
    return type(value) is str and str(uuid.UUID(value)) == value


KINDS: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "enum": ({"type": "enum", "name": "Colour", "symbols": ["red", "green"]}, lambda value: value in ("red", "green")),
    "enum of one symbol": ({"type": "enum", "name": "One", "symbols": ["v9"]}, lambda value: value == "v9"),
    "string": ("string", lambda value: type(value) is str),
    "uuid": (_logical("string", "uuid"), _uuid),
    "uuid of sixteen bytes": (_logical("fixed", "uuid", name="U", size=16), _uuid),
    "boolean": ("boolean", lambda value: type(value) is bool),
    "int": ("int", _whole(-(2**31), 2**31 - 1)),
    "long": ("long", _whole(-(10**18), 10**18)),
    "float": ("float", _single),
    "double": ("double", _number(-1e18, 1e18)),
    "decimal": (_logical("bytes", "decimal", precision=9, scale=2), _cents),
    "decimal of fixed size": (_logical("fixed", "decimal", name="D", size=4, precision=9, scale=2), _cents),
    "date": (_logical("int", "date"), _whole(0, 47_482)),  # to 2100
    "time-millis": (_logical("int", "time-millis"), _number(0, 86_400)),
    "time-micros": (_logical("long", "time-micros"), _number(0, 86_400)),
    "timestamp-millis": (_logical("long", "timestamp-millis"), _number(0, 4_102_444_800)),
    "timestamp-micros": (_logical("long", "timestamp-micros"), _number(0, 4_102_444_800)),
    "local-timestamp-millis": (_logical("long", "local-timestamp-millis"), _number(0, 4_102_444_800)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nullable", [False, True], ids=["", "nullable"])
def test_made_up_value_is_one_that_the_schema_allows(folder: Path, kind: str, nullable: bool) -> None:
    type_, fits = KINDS[kind]
    _event(folder, ("f", ["null", type_] if nullable else type_))
    seen = _seen(folder)
    assert len(seen) > 100
    assert [features for features in seen if not fits(features["f"])] == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "enum of one symbol"])
def test_made_up_values_differ(folder: Path, kind: str) -> None:
    _event(folder, ("f", KINDS[kind][0]))
    assert len({features["f"] for features in _seen(folder)}) > 1


def test_made_up_value_of_a_nested_record_is_one_that_the_schema_allows(folder: Path) -> None:
    _event(folder, ("r", record_type("Inner", ("f", {"type": "enum", "name": "C", "symbols": ["red", "green"]}))))
    assert {features["r.f"] for features in _seen(folder)} == {"red", "green"}


def test_made_up_numbers_have_both_signs_where_the_schema_allows_it(folder: Path) -> None:
    _event(folder, ("f", "double"))
    assert {features["f"] > 0 for features in _seen(folder)} == {True, False}


# --- features that may be absent ---

DROPPED = ["null", "double"]


def test_each_feature_that_may_be_dropped_is_left_out_of_some_and_not_of_all(folder: Path) -> None:
    _event(folder, ("f", DROPPED), ("g", DROPPED), ("h", "double"))
    seen = _seen(folder, "features.missing.default=drop")
    assert {("f" in features, "g" in features) for features in seen} >= {(True, False), (False, True), (True, True)}
    assert all("h" in features for features in seen)


def test_feature_of_a_record_that_may_be_absent_is_left_out_of_some(folder: Path) -> None:
    _event(folder, ("r", ["null", record_type("Inner", ("f", "double"))]), ("h", "double"))
    seen = _seen(folder, "features.missing.default=drop")
    assert {"r.f" in features for features in seen} == {True, False}


def test_feature_that_is_imputed_is_the_value_in_some(folder: Path) -> None:
    _event(folder, ("f", DROPPED), ("h", "double"))
    seen = _seen(folder, "features.missing.f={impute: -77.5}")
    assert all("f" in features for features in seen)
    assert 0 < sum(features["f"] == -77.5 for features in seen) < len(seen)


@pytest.mark.parametrize("rejected", ["{}", "{missing: {f: reject}}"])
def test_feature_whose_absence_is_a_dead_letter_is_never_left_out(folder: Path, rejected: str) -> None:
    _event(folder, ("f", DROPPED), ("h", "double"))
    assert all("f" in features for features in _seen(folder, f"features={rejected}"))


@pytest.mark.parametrize(("factory", "type_"), [("by_words", "string"), ("by_place", "string")])
def test_pipeline_that_needs_a_feature_that_may_be_absent_is_refused(folder: Path, factory: str, type_: str) -> None:
    _event(folder, ("f", ["null", type_]), ("g", "double"))
    found = _check(folder, f"model.factory=made_up_model:{factory}", "features.missing.default=drop")
    assert found.exit_code == 78
    assert "KeyError: 'f'" in found.output


# --- sample records ---


def test_sample_records_are_used_instead(folder: Path) -> None:
    _rows(folder, {"id": "1", "f": 3}, {"id": "2", "f": 5})
    assert {features["f"] for features in _seen(folder, "model.samples=visits.jsonl")} == {3, 5}


def test_model_of_counts_passes_with_sample_records(folder: Path) -> None:
    _event(folder, ("f", "double"), ("g", "double"))
    _rows(folder, *({"id": str(n), "f": n % 3 + 0.5, "g": n % 5} for n in range(20)))
    found = _check(folder, "model.factory=made_up_model:counts", "model.samples=visits.jsonl")
    assert found.exit_code == 0, found.output


def test_failure_on_made_up_values_names_the_way_out(folder: Path) -> None:
    _event(folder, ("f", "double"))
    refused = _check(folder, "model.factory=made_up_model:Positive")
    assert refused.exit_code == 78
    assert "f is a price, and this is none" in refused.output
    assert "model.samples" in refused.output


def test_logical_types_of_sample_records_are_written_as_produce_reads_them(folder: Path) -> None:
    _event(folder, ("f", _logical("bytes", "decimal", precision=9, scale=2)), ("g", _logical("int", "date")))
    _rows(folder, {"id": "1", "f": "3.14", "g": "1970-01-11"}, {"id": "2", "f": "2.50", "g": "1970-01-02"})
    seen = _seen(folder, "model.samples=visits.jsonl")
    assert {(features["f"], features["g"]) for features in seen} == {(3.14, 10), (2.5, 1)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": "1", "f": 1}\n{"id": "2", "f": "x"}\n', "line 2: f is 'x', and it is int"),
        ('{"id": "1", "f": 1}\n{"id": \n', "line 2: is no JSON"),
        ('{"id": "1", "f": 1, "z": 2}\n', "line 1: z is no field"),
        ("\n\n", "holds no record"),
        ("", "holds no record"),
    ],
    ids=["not of the schema", "no JSON", "no field", "blank", "empty"],
)
def test_sample_that_is_none_is_told_with_file_and_line(folder: Path, text: str, words: str) -> None:
    (folder / "visits.jsonl").write_text(text, "utf-8")
    found = _check(folder, "model.samples=visits.jsonl")
    assert found.exit_code == 78
    assert "visits.jsonl" in found.output and words in found.output


def test_sample_that_would_be_a_dead_letter_is_told(folder: Path) -> None:
    _event(folder, ("f", DROPPED))
    _rows(folder, {"id": "1", "f": 1.0}, {"id": "2", "f": None})
    found = _check(folder, "model.samples=visits.jsonl")
    assert found.exit_code == 78
    assert "line 2: feature f is null" in found.output


def test_samples_that_are_not_there_are_told(folder: Path) -> None:
    found = _check(folder, "model.samples=visitz.jsonl")
    assert found.exit_code == 78
    assert "model.samples" in found.output and "visitz.jsonl cannot be read" in found.output


def test_samples_leave_the_lineage_as_it_is(folder: Path) -> None:
    _rows(folder, {"id": "1", "f": 3})
    plain = assemble(load_config(folder / "stream_ml.yaml")).lineage("t")
    text = CONFIG.replace("task: binary", "task: binary, samples: visits.jsonl")
    (folder / "stream_ml.yaml").write_text(text, "utf-8")
    assert assemble(load_config(folder / "stream_ml.yaml")).lineage("t") == plain


def test_samples_of_a_models_own_test() -> None:
    from river import naive_bayes

    event = record_type("E", ("f", "double"), ("g", "double"))
    with pytest.raises(AssertionError, match="samples"):
        check_model(naive_bayes.MultinomialNB, event)
    check_model(naive_bayes.MultinomialNB, event, samples=[{"f": 1.0, "g": 2.0}, {"f": 0.0, "g": 3.0}])
    with pytest.raises(ConfigError, match="g is missing"):
        check_model(naive_bayes.MultinomialNB, event, samples=[{"f": 1.0}])
