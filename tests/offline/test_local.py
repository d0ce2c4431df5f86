"""The library without Kafka: the same core, rows in, predictions and outcomes out; and the contract check for tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from river import forest, linear_model
from typer.testing import CliRunner

from stream_ml import LocalApp
from stream_ml.cli.app import app as command_line
from stream_ml.core.avro.from_json import SchemaMismatch
from stream_ml.errors import ConfigError, FatalError
from stream_ml.testing import check_model

EVENT = {"type": "record", "name": "E", "fields": [{"name": "x", "type": "double"}, {"name": "k", "type": "string"}]}


@pytest.fixture(params=["binary", "multiclass", "regression"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A new app of each task, with its sample records."""
    CliRunner().invoke(command_line, ["init", str(tmp_path / "app"), "--task", request.param])
    return tmp_path / "app"


def rows(file: Path) -> list[dict[str, object]]:
    """Rows of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_samples_are_scored_learned_and_measured(folder: Path) -> None:
    app = LocalApp(folder / "stream_ml.yaml")
    events, labels = rows(folder / "events.jsonl"), rows(folder / "labels.jsonl")
    for start in range(0, 200, 20):
        said = app.predict_many(events[start : start + 20])
        assert [one["event_id"] for one in said] == [row["id"] for row in events[start : start + 20]]
        assert [one["position"] for one in said] == [said[0]["position"]] * 20
        assert app.learn_many(labels[start : start + 20]) == [{"outcome": "joined"}] * 20
    assert app.examples_learned == 200
    quality = app.quality
    better = "log_loss" if "log_loss" in quality else "mae"
    assert quality[better] < quality[f"{better}_baseline"]
    assert app.model is app.model and hasattr(app.model, "learn_one")


def test_each_row_has_its_end_in_order(tmp_path: Path) -> None:
    CliRunner().invoke(command_line, ["init", str(tmp_path / "app")])
    app = LocalApp(str(tmp_path / "app" / "stream_ml.yaml"))
    time = "2026-01-01T00:00:00Z"
    label = {"id": "a", "time": time, "label": True}
    assert app.learn_many([label]) == [{"outcome": "waiting"}]
    event = {"id": "a", "time": time, "amount": 1.0, "kind": "x"}
    first, bad, again = app.predict_many([event, {**event, "amount": 1e300}, event])
    assert first["event_id"] == "a" and first["flags"] == "cold"
    assert bad["dead_letter"] == "not_finite" and "amount" in bad["message"]
    assert again["flags"] == "cold,duplicate_event"
    assert app.examples_learned == 1, "the label that waited"
    assert app.learn_many([label]) == [{"outcome": "duplicate"}]


def test_a_model_that_raises_while_it_learns_is_no_longer_asked(tmp_path: Path) -> None:
    CliRunner().invoke(command_line, ["init", str(tmp_path / "app")])
    text = (
        "from river import linear_model\n\n\nclass Brittle(linear_model.LogisticRegression):\n"
        "    def learn_one(self, x, y):\n        if x.get('amount') == 666.0:\n            raise ValueError('no')\n"
        "        super().learn_one({'amount': x['amount']}, y)\n\n"
        "    def predict_proba_one(self, x):\n        return super().predict_proba_one({'amount': x['amount']})\n\n\n"
        "def build():\n    return Brittle()\n"
    )
    (tmp_path / "app" / "model.py").write_text(text, "utf-8")
    extra = "  checkpoint_types: [model.Brittle]\n"
    with (tmp_path / "app" / "stream_ml.yaml").open("a", encoding="utf-8") as file:
        file.write(extra)
    app = LocalApp(tmp_path / "app" / "stream_ml.yaml")
    app.predict_many([{"id": "a", "time": 0, "amount": 666.0, "kind": "x"}])
    with pytest.raises(FatalError, match="cannot learn on: learn_one raised"):
        app.learn_many([{"id": "a", "time": 1, "label": True}])


def test_a_row_that_is_not_of_the_schema_is_an_error_that_names_the_field(tmp_path: Path) -> None:
    CliRunner().invoke(command_line, ["init", str(tmp_path / "app")])
    app = LocalApp(tmp_path / "app" / "stream_ml.yaml")
    with pytest.raises(SchemaMismatch, match="amount is missing; it is double"):
        app.predict_many([{"id": "a", "time": 0, "kind": "x"}])
    assert app.predict_many([]) == []


def test_a_model_is_checked_in_ones_own_tests() -> None:
    check_model(linear_model.LogisticRegression, EVENT, exclude=["k"])
    check_model(linear_model.LinearRegression, EVENT, task="regression", include=["x"])
    with pytest.raises(AssertionError, match="it fails on features"):
        check_model(linear_model.LogisticRegression, EVENT)
    with pytest.raises(AssertionError, match=r"ARFClassifier\.seed has no seed"):
        check_model(lambda: forest.ARFClassifier(n_models=2), EVENT, exclude=["k"])
    with pytest.raises(ConfigError, match="has no field 'z'"):
        check_model(linear_model.LogisticRegression, EVENT, include=["z"])


def test_the_package_imports_nothing_heavy_until_it_is_asked() -> None:
    program = (
        "import sys, stream_ml; print('river' in sys.modules, 'confluent_kafka' in sys.modules, stream_ml.LocalApp)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False False <class")


@pytest.mark.parametrize("amount", [1e4, -1e9, 1e18])
def test_one_labelled_event_does_not_ruin_the_model_that_init_writes(tmp_path: Path, amount: float) -> None:
    """Numbers are clipped by default, and flagged; nothing of it needs a setting."""
    said = {}
    for name, poison in (("honest", False), ("poisoned", True)):
        CliRunner().invoke(command_line, ["init", str(tmp_path / name), "--ttl", "30d"])
        app, time = LocalApp(tmp_path / name / "stream_ml.yaml"), "2026-01-01T00:00:00Z"
        for number in range(600):
            value = amount if poison and number == 300 else number * 37 % 100 / 10
            event = {"id": f"e{number}", "time": time, "amount": value, "kind": "ab"[number % 2]}
            (one,) = app.predict_many([event])
            assert ("clipped" in one["flags"]) is (value == amount)
            app.learn_many([{"id": f"e{number}", "time": time, "label": value > 5 if value != amount else amount < 0}])
        asked = [{"id": f"a{n}", "time": time, "amount": n / 10, "kind": "a"} for n in range(100)]
        said[name] = [one["score"] for one in app.predict_many(asked)]
    wrong = [n for n, (a, b) in enumerate(zip(*said.values(), strict=True)) if (a > 0.5) != (b > 0.5)]
    assert len(wrong) <= 5, wrong
