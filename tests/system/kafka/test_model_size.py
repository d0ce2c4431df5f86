"""A model larger than `model.memory_max`: told, frozen for all workers, or the end of the worker."""

from pathlib import Path
from typing import Any

import pytest

from stream_ml.embedded.broker import free_port
from tests.support.service import service

pytestmark = pytest.mark.kafka

SAID = "of model.memory_max"
OFTEN = {"interval": "200ms"}


def limited(policy: str) -> dict[str, Any]:
    return {
        "http": {"port": free_port()},
        "model": {"memory_max": "2KiB", "memory_policy": policy},
        "checkpoints": OFTEN,
    }


def test_tell_goes_on_learning_and_says_so(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, **limited("tell")) as made:
        made.start()
        made.pairs(range(50))
        made.wait_for(lambda: SAID in made.problems(), "the problem")
        made.pairs(range(50, 100))
        made.wait_for(lambda: made.learned == 100, "learning")
        assert "stream_ml_model_bytes_max 2048.0" in made.asked("/metrics")[1]


def test_freeze_stops_learning_for_all_workers_at_one_position(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, **limited("freeze")) as made:
        worker = made.start()
        made.pairs(range(50))
        made.wait_for(lambda: made.status().get("model", {}).get("frozen", False), "the freeze")
        then = made.learned
        made.pairs(range(50, 100))
        made.wait_until_done()
        assert made.learned == then and SAID in made.problems()
        assert "learning is frozen at" in worker.log
        assert worker.stop() == 0
        audited = made.audited()
        assert audited["counts"] == {} and audited["predictions"] == 100


def test_exit_ends_the_worker_with_its_reason(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, **limited("exit")) as made:
        worker = made.start()
        made.pairs(range(50))
        assert worker.wait() != 0
        assert SAID in worker.log and "model.memory_policy is exit" in worker.log
