"""One event unlike all others, on a real Kafka: told, left out or halted at in every replica; refused by bounds."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stream_ml.core.drift.signals import decode_signal
from stream_ml.embedded.broker import free_port
from tests.support.service import Service, brothers, service

pytestmark = pytest.mark.kafka

POISON = 1e15


def learned(made: Service, numbers: range, **values: Any) -> None:
    """Events with their labels, all of them read."""
    for number in numbers:
        made.visit(number, **values)
        made.truth(number)
    made.flush()
    made.wait_for(lambda: len(set(made.progress())) == 1, "reading all")


def model(made: Service) -> dict[str, Any]:
    """What the status says of it."""
    found: dict[str, Any] = made.status().get("model", {})
    return found


def signals(made: Service) -> list[Any]:
    """What stands in the topic of signals about far examples."""
    found = [decode_signal(record.value or b"") for record in made.read(made.config.signals)]
    return [signal for signal in found if signal.kind == "far_example"]


@pytest.mark.parametrize("mode", brothers("divert", "tell"))
def test_a_far_example_is_told_once_by_all_and_each_surface(kafka: str, app_id: str, tmp_path: Path, mode: str) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, learning={"quarantine": mode}) as made:
        worker = made.start("w1")
        learned(made, range(300))
        learned(made, range(300, 301), x=POISON)
        learned(made, range(301, 330))
        count = 330 if mode == "tell" else 329
        made.wait_for(lambda: model(made).get("examples_learned") == count, "learning")
        made.wait_for(lambda: bool(signals(made)), "the signal")
        assert model(made)["examples_far"] == 1 and made.ready
        assert "examples far from all others: 1, left out" in made.problems() or mode == "tell"
        assert "stream_ml_examples_far 1.0" in made.asked("/metrics")[1]
        assert worker.stop() == 0
        worker = made.start("w1", checkpoints={"directory": "elsewhere"})  # folds the whole log anew
        made.wait_for(lambda: model(made).get("examples_learned") == count and made.ready, "the second start")
        assert model(made)["examples_far"] == 1
        assert worker.stop() == 0
        assert len(signals(made)) == 1
        found = made.audited(sample=330)
        assert not found["findings"] and not found["waiting"], found
        assert found["rescored"]["checked"] > 100


def test_a_strict_quarantine_waits_for_accept(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, learning={"quarantine": "halt"}) as made:
        worker = made.start("w1")
        learned(made, range(200))
        learned(made, range(200, 201), x=POISON)
        made.wait_for(lambda: model(made).get("halted") is not None, "the halt")
        halted = model(made)["halted"]
        assert halted["reason"] == "far_example" and "x is 1e+15" in halted["why"]
        assert f"stream-ml accept CONFIG {halted['position']}" in worker.log
        command = [sys.executable, "-m", "stream_ml", "accept", str(made.folder / "w1.yaml"), str(halted["position"])]
        assert subprocess.run(command, check=False, timeout=60).returncode == 0
        learned(made, range(201, 230))
        made.wait_for(lambda: model(made).get("examples_learned") == 230, "learning")
        assert worker.stop() == 0
        assert not made.audited()["findings"]


def test_bounds_refuse_the_event_and_leave_what_the_log_holds_out(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start("w1")
        learned(made, range(100))
        learned(made, range(100, 101), x=POISON)
        made.wait_for(lambda: model(made).get("examples_learned") == 101, "learning")
        assert worker.stop() == 0
        bounded = {"bounds": {"x": {"min": 0, "max": 1000}}}
        worker = made.start("w1", features={**made.settings["features"], **bounded})
        learned(made, range(101, 102), x=-1.0)
        learned(made, range(102, 120))
        made.wait_for(lambda: model(made).get("examples_learned") == 118, "learning without the far one")
        assert worker.stop() == 0
        found = made.audited()
        assert not found["findings"], found
        assert found["dead_letters"] == {"out_of_bounds": 1}
