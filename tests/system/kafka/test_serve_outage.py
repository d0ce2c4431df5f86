"""Kafka goes away while a process of the API starts."""

import signal
from pathlib import Path

import pytest

from stream_ml.embedded.broker import EmbeddedKafka
from tests.support.api_process import ApiProcess
from tests.support.service import MODEL, service, until

pytestmark = [pytest.mark.kafka, pytest.mark.long]

GATED = """
import pathlib
import time

FOLDER = pathlib.Path(__file__).parent


def gated():
    while (FOLDER / "gate").exists():
        (FOLDER / "waits").touch()
        time.sleep(0.05)
    return build()
"""


def test_a_process_that_starts_while_kafka_is_away_says_so_and_is_replaced_until_kafka_is_there(
    app_id: str, tmp_path: Path
) -> None:
    """The gate holds it between what it asks of Kafka first, and the reading of the log."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / f"gated_{app_id}.py").write_text(MODEL + GATED, "utf-8")
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        model = {"factory": f"gated_{app_id}:gated"}
        with service(folder, kafka.bootstrap_servers, app_id, model=model) as made:
            worker = made.start()
            made.pairs(range(50))
            made.wait_until_done()
            assert worker.stop() == 0
            with ApiProcess(made) as api:
                api.wait_ready()
                (folder / "gate").touch()
                api.process.send_signal(signal.SIGHUP)
                made.wait_for((folder / "waits").exists, "the start of the successor")
                kafka.kill()
                (folder / "gate").unlink()
                assert until(lambda: "the new process ended with" in api.log, 60), api.log
                assert "the new process ended with 69" in api.log, api.log
                assert "does not answer" in api.log and "Traceback" not in api.log, api.log
                assert api.predict({"x": 1.0, "kind": "k1", "note": None})["predictions"], "the old one stays"
                kafka.start()
                api.process.send_signal(signal.SIGHUP)
                assert until(lambda: "all processes are replaced" in api.log, 60), api.log
                assert api.stop() == 0
