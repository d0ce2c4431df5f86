"""Readers of predictions meet more than one schema: `check` says so before a worker writes it."""

from pathlib import Path

import pytest
from service import Service, service
from typer.testing import CliRunner

from stream_ml.cli.app import app

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


def scored(made: Service, count: int, port: int) -> None:
    """Some more events are scored by a worker, which carries what is configured now."""
    worker = made.start(http={"port": port})
    for number in range(count, count + 5):
        made.visit(number)
    made.wait_until_done()
    assert worker.stop() == 0


def test_another_schema_of_predictions_is_told_before_a_worker_writes_it(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        scored(made, 0, 0)
        (before,) = fingerprints(made)
        assert "the schema of predictions" not in typed(made, "check", "CONFIG", "--online")
        made.settings |= {"predictions": {"topic": f"{app_id}-predictions", "carry": ["kind"]}}
        made.config = made.write()
        said = typed(made, "check", "CONFIG", "--online")
        assert f"note  the schema of predictions would change: {app_id}-predictions has fingerprint {before}" in said
        assert "carried" in said and "stream-ml schema show CONFIG predictions" in said
