"""``stream-ml init`` without Kafka: files that pass the check, for each task and for schemas that exist."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from stream_ml.admin.infer_schema import schema_of
from stream_ml.cli.app import app
from stream_ml.cli.scaffold import Answers, Side, files, sample_side
from stream_ml.config import load_config


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


# --- what a schema does not say is left to be done, and never guessed ---

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
VERDICT = {"type": "enum", "name": "V", "symbols": ["FRAUD", "OK"]}
MERCHANT = {"type": "record", "name": "Merchant", "fields": [{"name": "id", "type": "string"}]}
EVENT: list[tuple[str, Any]] = [("id", "string"), ("amount", "double"), ("at", MILLIS)]
LABEL: list[tuple[str, Any]] = [("id", "string"), ("truth", "boolean"), ("at", MILLIS)]


def made_of(folder: Path, event: list[tuple[str, Any]], label: list[tuple[str, Any]], *flags: str) -> dict[str, Any]:
    """The settings that `init` writes for two schemas that exist."""
    for name, fields in (("event", event), ("label", label)):
        schema = {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields]}
        (folder / f"{name}.avsc").write_text(json.dumps(schema), "utf-8")
    sides = ["--event-schema", str(folder / "event.avsc"), "--label-schema", str(folder / "label.avsc")]
    made = typed("init", str(folder / "app"), "--app", "shop", *sides, *flags)
    assert made.exit_code == 0, f"{made.output}{made.exception}"
    settings: dict[str, Any] = yaml.safe_load((folder / "app" / "stream_ml.yaml").read_text("utf-8"))
    return settings


def checked(folder: Path) -> str:
    """What `check` prints of them; it refuses them."""
    found = typed("check", str(folder / "app" / "stream_ml.yaml"))
    assert found.exit_code != 0, found.output
    return found.output + str(found.exception or "")


@pytest.mark.parametrize(
    ("event", "label"),
    [
        pytest.param([("merchant", MERCHANT), ("sum", "double"), ("at", MILLIS)], LABEL, id="of-something-else"),
        pytest.param([("card_id", "string"), ("shop_id", "string"), ("at", MILLIS)], LABEL, id="one-of-two"),
        pytest.param([("merchant_id", "string"), ("sum", "double"), ("at", MILLIS)], LABEL, id="not-in-the-label"),
        pytest.param(
            [("paid", "string"), ("valid", "long"), ("grid", "int"), ("at", MILLIS)], LABEL, id="no-id-at-all"
        ),
    ],
)
def test_an_id_that_is_not_clear_is_left_to_be_named(
    tmp_path: Path, event: list[tuple[str, Any]], label: list[tuple[str, Any]]
) -> None:
    assert made_of(tmp_path, event, label)["events"]["id"] == "TODO"
    assert "events.id is TODO: name the field" in checked(tmp_path)


def test_the_id_is_the_field_that_both_schemas_have(tmp_path: Path) -> None:
    event = [("merchant", MERCHANT), ("merchant_id", "string"), ("reference", "string"), ("sum", "double")]
    found = made_of(tmp_path, event, [("attempts", "long"), ("reference", "string"), ("truth", "boolean")])
    assert (found["events"]["id"], found["feedback"]["id"]) == ("reference", "reference")


@pytest.mark.parametrize(
    ("task", "fields", "label"),
    [
        ("binary", [("attempts", "long"), ("verdict", VERDICT)], "verdict"),
        ("binary", [("note", "string"), ("ok", "boolean"), ("score", "double")], "ok"),
        ("regression", [("verdict", VERDICT), ("minutes", "double")], "minutes"),
        ("binary", [("seen", "boolean"), ("ok", "boolean")], "TODO"),
        ("binary", [("attempts", "long"), ("score", "long")], "TODO"),
        ("multiclass", [("reviewer", "string"), ("kind", "string")], "TODO"),
        ("binary", [("attempts", "long"), ("label", "int")], "label"),
    ],
)
def test_the_label_is_the_one_field_that_can_be_it(
    tmp_path: Path, task: str, fields: list[tuple[str, Any]], label: str
) -> None:
    found = made_of(tmp_path, EVENT, [("id", "string"), *fields], "--task", task)
    assert found["feedback"]["label"] == label
    if label == "TODO":
        assert "feedback.label is TODO: name the field" in checked(tmp_path)


def test_which_of_two_labels_is_the_positive_one_is_left_to_be_named(tmp_path: Path) -> None:
    found = made_of(tmp_path, EVENT, [("id", "string"), ("verdict", VERDICT)])
    assert found["model"]["positive"] == "TODO"
    assert "model.positive is TODO: name one of FRAUD, OK" in checked(tmp_path)


def test_one_of_two_times_is_left_to_be_named(tmp_path: Path) -> None:
    event = [("id", "string"), ("born", MILLIS), ("ordered", MILLIS), ("amount", "double")]
    assert made_of(tmp_path, event, LABEL)["events"]["time"] == "TODO"
    assert "events.time is TODO: name the field" in checked(tmp_path)


def test_confluent_framing_passes_the_check_with_its_ids(tmp_path: Path) -> None:
    ids = ["--event-schema-id", "7", "--label-schema-id", "8"]
    found = made_of(tmp_path, EVENT, LABEL, "--framing", "confluent", *ids)
    assert found["events"]["schema_ids"] == {7: "event.avsc"} and found["feedback"]["schema_ids"] == {8: "label.avsc"}
    passed = typed("check", str(tmp_path / "app" / "stream_ml.yaml"))
    assert passed.exit_code == 0, f"{passed.output}{passed.exception}"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--framing", "confluent"], "--event-schema-id"),
        (["--framing", "avro"], "avro is no framing"),
        (["--ttl", "5 parsecs"], "'5 parsecs' is not a duration"),
        (["--kafka", ""], "--kafka"),
    ],
)
def test_an_answer_that_check_would_refuse_is_refused_at_once(tmp_path: Path, flags: list[str], told: str) -> None:
    (tmp_path / "event.avsc").write_text(sample_side("binary", label=False).text, "utf-8")
    refused = typed("init", str(tmp_path / "app"), "--event-schema", str(tmp_path / "event.avsc"), *flags)
    assert refused.exit_code != 0 and told in f"{refused.output}{refused.exception}"
    assert not (tmp_path / "app").exists()


@pytest.mark.parametrize(
    "text",
    ["a: b", "x\nhttp: {port: 1}", "[x", "a # b", '"', "'", "no", "2024", "- x", "a\u0085b", "{{x}}", "\ttab", ""],
)
def test_no_name_becomes_a_setting(text: str) -> None:
    answers = Answers("shop", f"h:9092{text}", "e", "l", "p", "binary", "2d")
    events = Side("{}", f"i{text}", f"t{text}", "", nullable=(f"n{text}", "null", "no"))
    found = yaml.safe_load(files(answers, events, sample_side("binary", label=True), samples=False)["stream_ml.yaml"])
    assert sorted(found) == ["app", "events", "features", "feedback", "kafka", "learning", "model", "predictions"]
    assert found["kafka"] == {"bootstrap_servers": f"h:9092{text}"}
    assert (found["events"]["id"], found["events"]["time"]) == (f"i{text}", f"t{text}")
    assert found["features"]["missing"] == {"default": "reject", f"n{text}": "drop", "null": "drop", "no": "drop"}
