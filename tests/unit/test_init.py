"""``stream-ml init`` without Kafka: files that pass the check, for each task and for schemas that exist."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from stream_ml.cli.app import app
from stream_ml.config import load_config
from stream_ml.kafka.proposal import schema_of


def typed(*arguments: str) -> Result:
    """A verb's outcome."""
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_what_is_written_passes_the_check(tmp_path: Path, task: str) -> None:
    made = typed("init", str(tmp_path / "app"), "--task", task, "--app", "shop")
    assert made.exit_code == 0, made.output
    checked = typed("check", str(tmp_path / "app" / "stream_ml.yaml"))
    assert checked.exit_code == 0, checked.output
    assert len((tmp_path / "app" / "README.md").read_text("utf-8").splitlines()) <= 10


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("mine", "utf-8")
    refused = typed("init", str(tmp_path), "--app", "shop")
    assert refused.exit_code == 1 and "model.py" in str(refused.exception)
    assert (tmp_path / "model.py").read_text("utf-8") == "mine"
    assert not (tmp_path / "stream_ml.yaml").exists()


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    refused = typed("init", str(tmp_path / "app"), "--task", "ranking")
    assert "ranking is no task" in str(refused.exception)


@pytest.mark.parametrize("name", ["my app", "-x", ""])
def test_a_name_that_kafka_would_not_take_is_refused(tmp_path: Path, name: str) -> None:
    refused = typed("init", str(tmp_path / "app"), "--app", name)
    assert "is no name for an app or a topic" in str(refused.exception)
    assert not (tmp_path / "app").exists()


def test_a_name_that_yaml_takes_for_a_number_stays_a_name(tmp_path: Path) -> None:
    typed("init", str(tmp_path / "2024"), "--events", "007")
    assert load_config(tmp_path / "2024" / "stream_ml.yaml").app.id == "2024"
    assert load_config(tmp_path / "2024" / "stream_ml.yaml").events.topic == "007"


def test_classes_of_a_schema_that_exists_are_asked_for_and_not_made_up(tmp_path: Path) -> None:
    label = {
        "type": "record",
        "name": "L",
        "fields": [{"name": "id", "type": "string"}, {"name": "y", "type": "string"}],
    }
    (tmp_path / "label.avsc").write_text(json.dumps(label), "utf-8")
    typed("init", str(tmp_path / "app"), "--task", "multiclass", "--label-schema", str(tmp_path / "label.avsc"))
    checked = typed("check", str(tmp_path / "app" / "stream_ml.yaml"))
    assert checked.exit_code == 78 and "model.labels" in checked.output


def test_roles_of_the_fields_of_a_schema_that_exists_are_guessed(tmp_path: Path) -> None:
    millis = {"type": "long", "logicalType": "timestamp-millis"}
    event = [("amount", "double"), ("ordered_at", millis), ("order_id", "string")]
    label = [("order_id", "string"), ("paid_at", millis), ("note", "string"), ("truth", "boolean")]
    for name, fields in (("order", event), ("payment", label)):
        schema = {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields]}
        (tmp_path / f"{name}.avsc").write_text(json.dumps(schema), "utf-8")
    made = typed(
        "init", str(tmp_path / "app"), "--framing", "single-object",
        "--event-schema", str(tmp_path / "order.avsc"), "--label-schema", str(tmp_path / "payment.avsc"),
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    config = load_config(tmp_path / "app" / "stream_ml.yaml")
    assert (config.events.id, config.events.time, config.events.framing) == ("order_id", "ordered_at", "single-object")
    assert (config.feedback.id, config.feedback.time, config.feedback.label) == ("order_id", "paid_at", "truth")
    checked = typed("check", str(tmp_path / "app" / "stream_ml.yaml"))
    assert checked.exit_code == 0, checked.output


def test_a_schema_is_proposed_that_holds_every_row() -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "n": 1, "x": 1, "at": "2026-01-31T12:30:00Z", "ok": True, "in": {"k": "v"}},
        {"id": "b", "n": 2, "x": 1.5, "at": "2026-01-31T12:30:01+01:00", "ok": None, "in": {"k": None}},
    ]
    found = {field["name"]: field["type"] for field in schema_of("some-topic", rows)["fields"]}
    assert found["id"] == "string" and found["n"] == "long" and found["x"] == "double"
    assert found["at"] == {"type": "long", "logicalType": "timestamp-millis"}
    assert found["ok"] == ["null", "boolean"]
    twice = [{"a": {"k": 1}, "b": {"k": {"x": 1}}}]
    names = [field["type"]["name"] for field in schema_of("t", twice)["fields"]]
    assert len(set(names)) == 2, "a name stands for one type"
    assert found["in"]["fields"] == [{"name": "k", "type": ["null", "string"], "default": None}]
    assert schema_of("some-topic", rows)["name"] == "SomeTopic"
