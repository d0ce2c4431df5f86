"""A worker's endpoints on a real Kafka: what they say while it works, while it cannot, and what they never say."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.embedded.broker import free_port
from stream_ml.observe.status import Status
from tests.support.service import Service, service

pytestmark = pytest.mark.kafka

CANARY = "correct-horse-battery"


def get(made: Service, path: str) -> tuple[int, str]:
    """Status and body; 0 while nobody listens."""
    url = f"http://127.0.0.1:{made.settings['http']['port']}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def status(made: Service) -> dict[str, Any]:
    """What /v1/status says."""
    return json.loads(get(made, "/v1/status")[1] or "{}")  # type: ignore[no-any-return]


def test_a_worker_says_what_it_does_and_never_a_secret(kafka: str, app_id: str, tmp_path: Path) -> None:
    secret = {"sasl.password": CANARY, "ssl.key.password": CANARY}
    changes: dict[str, Any] = {
        "http": {"port": free_port()},
        "kafka": {"properties": secret},
        "log": {"level": "debug"},
    }
    with service(tmp_path, kafka, app_id, partitions=2, checkpoints={"interval": "1s"}, **changes) as made:
        worker = made.start()
        made.wait_for(lambda: get(made, "/readyz")[0] == 200, "readiness")
        made.pairs(range(10))
        made.wait_for(lambda: status(made)["model"]["examples_learned"] == 10, "a model that is not cold")
        for number in range(10, 40):
            made.visit(number)
        for number in range(10, 30):
            made.truth(number)
        made.flush()

        def learned() -> bool:
            now = status(made)
            return now["model"]["examples_learned"] == 30 and now["checkpoint"]["position"] is not None

        made.wait_for(learned, "thirty examples and a checkpoint")
        assert TypeAdapter(Status).validate_json(get(made, "/v1/status")[1], strict=True)["app"] == app_id
        made.wait_for(lambda: "stream_ml_examples_learned 30.0" in get(made, "/metrics")[1], "metrics of the same")
        now, metrics = status(made), get(made, "/metrics")[1]
        assert get(made, "/livez") == (200, "the loop turns\n")
        assert sorted(now["partitions"]["owned"]) == ["0", "1"]
        lags = [p["events"] for p in now["partitions"]["owned"].values()]
        assert sum(lag["position"] for lag in lags) >= 40 and all(lag["lag_records"] == 0 for lag in lags)
        assert now["since_start"]["predictions"] == 40 and now["since_start"]["labels.joined"] == 30
        assert now["pending"]["events"] == 40 and "log_loss_baseline" in now["quality"]
        for name in (
            "stream_ml_predictions_total 40.0",
            'stream_ml_labels_total{outcome="joined"} 30.0',
            'stream_ml_consumer_lag_records{topic="events"} 0.0',
            'stream_ml_stage_seconds_count{stage="commit"}',
            "stream_ml_ready 1.0",
        ):
            assert name in metrics
        shown = CliRunner().invoke(app, ["config", "show", str(tmp_path / "w1.yaml"), "--origin"]).output
        said = [json.dumps(now), metrics, worker.log, shown]
        assert worker.stop() == 0
        assert len(worker.log) > 1_000
        assert not [text for text in [*said, worker.log] if CANARY in text]


def test_an_error_about_the_connection_holds_no_secret(tmp_path: Path, kafka: str, app_id: str) -> None:
    with service(tmp_path, kafka, app_id) as made:
        flags = ["--set", "kafka.bootstrap_servers=127.0.0.1:1", "--set", f"kafka.properties.sasl.password={CANARY}"]
        refused = CliRunner().invoke(app, ["run", str(made.folder / "w1.yaml"), *flags])
        wrong = CliRunner().invoke(
            app, ["run", str(made.folder / "w1.yaml"), *flags, "--set", "kafka.properties.sasl.x=1"]
        )
    for result in (refused, wrong):
        assert result.exception is not None
        assert CANARY not in f"{result.output}{result.exception}"


def test_a_freeze_is_said_in_words_while_scoring_goes_on(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.wait_for(lambda: get(made, "/readyz")[0] == 200, "readiness")
        CliRunner().invoke(app, ["freeze", str(tmp_path / "w1.yaml")])
        made.wait_for(lambda: "stream-ml resume CONFIG" in " ".join(status(made)["warnings"]), "the freeze")
        assert status(made)["model"]["frozen"] is True
        assert get(made, "/readyz")[0] == 200, "scoring goes on"


def test_every_problem_says_what_to_type(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(5))
        made.wait_for(lambda: status(made).get("model", {}).get("examples_learned") == 5, "a model that is not cold")
        made.raw_visit(b'{"id": "a"}')
        made.wait_until_done()
        CliRunner().invoke(app, ["freeze", str(tmp_path / "w1.yaml")])
        made.wait_for(lambda: len(status(made).get("problems", [])) == 2, "both problems")
        found = {problem["text"]: problem["suggestion"] for problem in status(made)["problems"]}
        (dead_letter,) = (text for text in found if "became a dead letter" in text)
        assert found == {
            dead_letter: "stream-ml dead-letters ls CONFIG",
            "learning is frozen": "stream-ml resume CONFIG",
        }
