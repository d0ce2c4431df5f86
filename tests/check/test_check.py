"""``stream-ml check`` without Kafka: every problem at once, each with the way out, and what one core holds."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stream_ml.cli.app import app

FILE = """
app: {id: a}
kafka: {bootstrap_servers: "none:9"}
events: {topic: events, schema: event.avsc, id: id, time: at}
feedback: {topic: feedback, schema: label.avsc, id: id, label: late, ttl: 2d}
predictions: {topic: predictions, carry: [place]}
model: {factory: "river.linear_model:LogisticRegression", task: binary}
"""
EVENT = """{"type": "record", "name": "E", "fields": [
  {"name": "id", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
  {"name": "x", "type": "double"}, {"name": "place", "type": "string"}, {"name": "tags", "type": {"type": "array",
  "items": "string"}}]}"""
LABEL = (
    '{"type": "record", "name": "L", "fields": [{"name": "id", "type": "string"}, {"name": "late", "type": "boolean"}]}'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration with nothing wrong."""
    (tmp_path / "event.avsc").write_text(EVENT, "utf-8")
    (tmp_path / "label.avsc").write_text(LABEL, "utf-8")
    (tmp_path / "stream_ml.yaml").write_text(FILE.replace("carry: [place]", "carry: []"), "utf-8")
    return tmp_path


def check(folder: Path, *flags: str) -> Result:
    """What it prints, and its exit code."""
    return CliRunner().invoke(app, ["check", str(folder / "stream_ml.yaml"), *flags])


def test_what_is_right_is_said_with_the_features_and_a_rate(folder: Path) -> None:
    found = check(folder, "--set", "features.exclude=[place]")
    assert found.exit_code == 0, found.output
    assert "the model sees 1: x (number)" in found.output
    assert "labels: false, true" in found.output
    rates = re.search(r"holds about ([\d,]+) events/s, or ([\d,]+) when", found.output)
    assert rates and 0 < int(rates[2].replace(",", "")) < int(rates[1].replace(",", ""))


def test_every_problem_is_told_not_the_first(folder: Path) -> None:
    found = check(
        folder,
        *("--set", "events.id=nr"),
        *("--set", "feedback.label=later"),
        *("--set", "features.include=[tags, z, x]"),
        *("--set", "predictions.carry=[w]"),
        *("--set", "model.factory=nowhere:build"),
    )
    assert found.exit_code == 78
    for told in (
        "events.id: E has no field 'nr'",
        "feedback.label: L has no field 'later'",
        "features.include: tags is an array, which no model can take",
        "features: E has no field 'z'",
        "predictions.carry: E has no field 'w'",
        "model.factory nowhere:build cannot be imported",
    ):
        assert told in found.output
    assert found.output.count("->") >= 6, "each says what to type or which names there are"


def test_a_model_that_breaks_its_contract_is_told_why(folder: Path) -> None:
    text = "from river import forest\n\n\ndef build():\n    return forest.ARFClassifier()\n"
    (folder / "model_without_a_seed.py").write_text(text, "utf-8")
    found = check(folder, "--set", "model.factory=model_without_a_seed:build", "--set", "features.exclude=[place]")
    assert found.exit_code == 78
    assert "ARFClassifier.seed has no seed" in found.output


def test_a_feature_that_the_model_cannot_take_is_found_before_the_first_event(folder: Path) -> None:
    found = check(folder)
    assert found.exit_code == 78
    assert "it fails on features" in found.output and "place" in found.output


def test_a_wrong_configuration_is_told_with_its_lines(folder: Path) -> None:
    (folder / "stream_ml.yaml").write_text(FILE.replace("ttl: 2d", "ttl: 2").replace("task", "taks"), "utf-8")
    found = CliRunner().invoke(app, ["check", str(folder / "stream_ml.yaml")])
    assert found.exception is not None and "stream_ml.yaml:5: feedback.ttl" in str(found.exception)
    assert "stream_ml.yaml:7: model.taks: no such key; did you mean task?" in str(found.exception)


def test_a_kafka_that_does_not_answer_is_an_exit_code_of_its_own(folder: Path) -> None:
    found = check(
        folder, "--online", "--set", "features.exclude=[place]", "--set", "kafka.bootstrap_servers=127.0.0.1:1"
    )
    assert found.exit_code == 69
    assert "Kafka at 127.0.0.1:1 does not answer" in found.output


def test_what_is_wrong_offline_is_told_also_when_kafka_is_away(folder: Path) -> None:
    found = check(folder, "--online", "--set", "events.id=nope", "--set", "kafka.bootstrap_servers=127.0.0.1:1")
    assert found.exit_code == 78
    assert "events.id: E has no field 'nope'" in found.output and "127.0.0.1:1 does not answer" in found.output


def test_a_downtime_without_a_unit_is_refused(folder: Path) -> None:
    found = check(folder, "--online", "--downtime", "5")
    assert "--downtime: '5' is not a duration" in found.output
    assert found.exit_code == 78


def test_a_feature_that_may_be_null_is_noted_before_its_events_become_dead_letters(folder: Path) -> None:
    text = EVENT.replace('{"name": "x", "type": "double"}', '{"name": "x", "type": ["null", "double"]}')
    (folder / "event.avsc").write_text(text, "utf-8")
    flags = ("--set", "features.exclude=[place]")
    assert "note  x may be null, and its event is then a dead letter" in check(folder, *flags).output
    assert "may be null" not in check(folder, *flags, "--set", "features.missing.x=drop").output


def test_a_missing_schema_names_the_nearest_file_and_problems_are_counted_right(folder: Path) -> None:
    found = check(folder, "--set", "events.schema=evnt.avsc", "--set", "feedback.label=z")
    assert f"schema {folder / 'evnt.avsc'} cannot be read: there is no such file" in found.output
    assert "did you mean event.avsc?" in found.output and "2 problems" in found.output


def test_a_factory_that_imports_what_is_missing_is_not_said_to_be_missing_itself(folder: Path) -> None:
    (folder / "mine.py").write_text("import not_there_at_all\n", "utf-8")
    found = check(folder, "--set", "model.factory=mine:build")
    assert "No module named 'not_there_at_all'" in found.output and "mine was found" in found.output


@pytest.mark.parametrize(
    ("was", "is_", "wrong"),
    [
        ('"name": "E"', '"name": "E", "namespace": "com.my-shop"', "com.my-shop"),
        ('"name": "tags"', '"name": "größe"', "größe"),
        ('"name": "x"', '"name": "x-y"', "x-y"),
        ('"items": "string"', '"items": ["null", "null"]', "union"),
    ],
    ids=["namespace", "field", "feature", "union"],
)
@pytest.mark.parametrize("carry", ["[]", "[at]"])
def test_a_schema_outside_of_avros_grammar_is_refused_in_words(
    folder: Path, was: str, is_: str, wrong: str, carry: str
) -> None:
    """It ended in a traceback, of the rate or of the predictions' schema."""
    (folder / "event.avsc").write_text(EVENT.replace(was, is_), "utf-8")
    found = check(folder, "--set", "features.exclude=[place]", "--set", f"predictions.carry={carry}")
    assert found.exit_code == 78, repr(found.exception)
    assert wrong in found.output
    assert "event.avsc" in found.output


def test_numbers_that_nothing_bounds_are_named_with_bounds_from_the_samples(folder: Path) -> None:
    (folder / "samples.jsonl").write_text(
        "".join(f'{{"id": "e", "at": 1, "x": {x}, "place": "p", "tags": []}}\n' for x in (0.5, 3.0, 9.5)), "utf-8"
    )
    without = check(folder, "--set", "features.exclude=[place]")
    assert "note  nothing bounds x: one labelled event" in without.output
    assert "features.bounds: {default: {sigma: 8}}" in without.output
    found = check(folder, "--set", "features.exclude=[place]", "--set", "model.samples=samples.jsonl")
    assert "features.bounds: {x: {min: 0, max: 18}}, from the samples" in found.output
    bounded = check(folder, "--set", "features.exclude=[place]", "--set", "features.bounds={x: {max: 18}}")
    assert bounded.exit_code == 0 and "nothing bounds" not in bounded.output
