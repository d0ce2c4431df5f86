"""Readers of predictions meet more than one schema: `check` says so before, and each is had by its fingerprint."""

import json
from pathlib import Path

import fastavro
import pytest
from typer.testing import CliRunner

from stream_ml.app.assemble import assemble
from stream_ml.cli.app import app
from stream_ml.core.log.entry import encode_schema
from stream_ml.embedded.broker import free_port
from tests.support.service import Service, read_single_object, service
from tests.system.kafka.test_endpoints import get

pytestmark = pytest.mark.kafka


def typed(made: Service, *verb: str) -> str:
    """What a verb prints; CONFIG stands for the configuration."""
    words = [str(made.folder / "w1.yaml") if word == "CONFIG" else word for word in verb]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    return done.output


def fingerprints(made: Service) -> list[str]:
    """Those that the predictions name, as hex of their bytes, in the order of the topic."""
    return list(dict.fromkeys((r.value or b"")[2:10].hex() for r in made.read(made.config.predictions.topic)))


def scored(made: Service, count: int) -> None:
    """Some more events are scored by a worker, which carries what is configured now."""
    worker = made.start()
    for number in range(count, count + 5):
        made.visit(number)
    made.wait_until_done()
    assert worker.stop() == 0


def test_another_schema_of_predictions_is_told_before_a_worker_writes_it(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        scored(made, 0)
        (before,) = fingerprints(made)
        assert "the schema of predictions" not in typed(made, "check", "CONFIG", "--online")
        made.settings |= {"predictions": {"topic": f"{app_id}-predictions", "carry": ["kind"]}}
        made.config = made.write()
        said = typed(made, "check", "CONFIG", "--online")
        assert f"note  the schema of predictions would change: {app_id}-predictions has fingerprint {before}" in said
        assert "carried" in said and "stream-ml schema show CONFIG predictions" in said


def test_every_schema_that_predictions_were_written_with_is_listed_shown_and_served(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    port, topic = free_port(), f"{app_id}-predictions"
    with service(tmp_path, kafka, app_id) as made:
        scored(made, 0)
        made.settings |= {"predictions": {"topic": topic, "carry": ["kind"]}}
        made.config = made.write()
        scored(made, 5)
        first, second = fingerprints(made)
        listed = [json.loads(line) for line in typed(made, "schema", "list", "CONFIG", "--json").splitlines()]
        of = [(one["fingerprint"], one["current"]) for one in listed if one["topic"] == topic]
        assert of == [(first, False), (second, True)]
        assert f"{first}  before  {topic}" in typed(made, "schema", "list", "CONFIG")
        made.start(http={"port": port})
        made.settings["http"]["port"] = port
        made.wait_for(lambda: get(made, "/readyz")[0] == 200, "readiness")
        assert json.loads(get(made, "/v1/schemas")[1]) == listed
        tailed = [json.loads(line) for line in typed(made, "tail", "CONFIG", "predictions", "--json").splitlines()]
        assert [one["event_id"] for one in tailed] == [f"v{number}" for number in range(10)]
        assert f"schema show CONFIG {first}" in tailed[0]["carried"] and tailed[9]["carried_kind"] == "k0"
        for number, record in enumerate(made.read(topic)):
            name = (record.value or b"")[2:10].hex()
            shown = json.loads(typed(made, "schema", "show", "CONFIG", name))
            assert json.loads(get(made, f"/v1/schemas/{name}")[1]) == shown
            read = read_single_object(record.value or b"", fastavro.parse_schema(shown))
            assert read["event_id"] == f"v{number}"
        assert get(made, "/v1/schemas/0011223344556677")[0] == 404


def test_a_fingerprint_that_nothing_has_is_refused_with_what_to_type(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        done = CliRunner().invoke(app, ["schema", "show", str(made.folder / "w1.yaml"), "0011223344556677"])
        assert "0011223344556677" in str(done.exception) and "schema list" in str(getattr(done.exception, "hint", ""))


def test_entries_that_are_no_schemas_as_they_say_are_counted_and_the_others_listed(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        codec = assemble(made.config).predictions
        for text, topic in (("{", codec.topic), ('"string"', codec.topic), (codec.text, "two\nlines")):
            made.raw_log(encode_schema(codec.fingerprint, text, topic, written_at_ms=0, writer="x"))
        made.raw_log(b"\x04\x04junk")
        made.raw_log(encode_schema(codec.fingerprint, codec.text, codec.topic, written_at_ms=0, writer="x"))
        made.flush()
        done = CliRunner().invoke(app, ["schema", "list", str(made.folder / "w1.yaml")])
        assert "4 entries of" in done.stderr and "at 1, 2, 3, 4" in done.stderr
        assert done.stdout.count(codec.topic) == 1 and done.stdout.count("\n") == 6
        shown = typed(made, "schema", "show", "CONFIG", codec.header[2:].hex().upper())
        assert json.loads(shown) == codec.schema


@pytest.mark.parametrize("framing", ["bare", "single-object"])
def test_a_prediction_that_carries_something_else_is_read_as_far_as_it_is_the_same(
    kafka: str, app_id: str, tmp_path: Path, framing: str
) -> None:
    output = {"topic": f"{app_id}-predictions", "framing": framing}
    with service(tmp_path, kafka, app_id, predictions={**output, "carry": ["x"]}) as made:
        scored(made, 0)
        for carry in (["kind"], [], ["note"]):
            made.settings["predictions"] = {**output, "carry": carry}
            made.config = made.write()
            tailed = [json.loads(line) for line in typed(made, "tail", "CONFIG", "predictions", "--json").splitlines()]
            assert [one["event_id"] for one in tailed] == [f"v{number}" for number in range(5)]
            assert ["by another schema" in one["carried"] for one in tailed] == [True] * 5
