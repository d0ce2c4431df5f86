"""What is answered over HTTP is what is published, learned from and derived again: with kills of both sides."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from stream_ml.core.avro.record import encode_record
from stream_ml.core.partition.answered import FLAG
from tests.support.api_process import ApiProcess
from tests.support.service import T0, Service, service, until

pytestmark = pytest.mark.kafka

KEY = "k" * 40


def whole(number: int) -> dict[str, Any]:
    """An event as it is recorded."""
    return {"id": f"r{number}", "at": T0 + 1000 * number, "x": float(number * 7919 % 100), "kind": "k1", "note": None}


def recorded(made: Service, **serve: Any) -> dict[str, Any]:
    """The section that records answers; its key is there."""
    (made.folder / "answers.key").write_text(KEY)
    return {"record": "ack", "provenance_key_file": "answers.key", **serve}


def started(made: Service, name: str = "w1") -> Any:
    worker = made.start(name, serve={"provenance_key_file": "answers.key"})
    made.wait_for(lambda: bool(worker.owned), "owning")
    return worker


def test_what_was_answered_is_published_learned_from_and_derived_again_through_kills_of_both(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        serve = recorded(made)
        worker = started(made)
        made.pairs(range(300))
        made.wait_until_done()
        answered: dict[str, dict[str, Any]] = {}

        def ask(api: ApiProcess, numbers: range) -> None:
            for first in numbers[::5]:
                said = api.predict(*(whole(number) for number in range(first, first + 5)))
                for one in said["predictions"]:
                    assert "recorded" in one["flags"]
                    answered[one["id"]] = {**one, **said["model"]}

        with ApiProcess(made, processes=2, **serve) as api:
            api.wait_ready(2)
            ask(api, range(50))
            worker.kill()
            ask(api, range(50, 100))  # nobody scores meanwhile: it is published later
            worker = started(made)
            ask(api, range(100, 150))
            victim = api.pids[0]
            os.kill(victim, signal.SIGKILL)
            assert until(lambda: victim not in api.pids, 20)
            api.wait_ready(2)
            ask(api, range(150, 200))
            for number in range(0, 200, 2):
                label = {"id": f"r{number}", "at": T0 + 1000 * (number + 30), "y": number % 4 == 0}
                assert api.ask("POST", "/v1/feedback", {"labels": [label]})[0] == 202
            made_up = {"x": 1.0, "kind": "k1", "note": None}
            without_id = api.predict(made_up)["predictions"][0]
            assert len(without_id["id"]) == 36 and "recorded" in without_id["flags"]
            status, _, said = api.ask("POST", "/v1/predict", {"instances": [made_up], "record": False})
            assert status == 200 and "recorded" not in said["predictions"][0]["flags"]
            assert api.ask("POST", "/v1/predict", {"instances": [{"x": 1.0}]})[0] == 422, "an event is whole"
            assert api.stop() == 0
        made.wait_until_done()
        published = {one["event_id"]: one for one in made.predictions() if FLAG in one["flags"].split(",")}
        assert published.keys() == {*answered, without_id["id"]}
        for event_id, one in answered.items():
            there = published[event_id]
            assert there["score"].hex() == one["score"].hex() and there["class"] == str(one["class"]).lower()
            assert (there["lineage"], there["position"], there["epoch"]) == (
                one["lineage"],
                one["position"],
                one["epoch"],
            )
            flags = [flag for flag in one["flags"] if flag not in ("recorded", "frozen")]
            assert there["flags"].split(",") == [*flags, FLAG]
        assert worker.stop() == 0
        found = made.audited(sample=1_000)
        assert found["findings"] == [] and found["examples"] == 400, found


@pytest.mark.long
def test_workers_that_do_not_have_the_key_are_found_before_anything_is_answered(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        serve = recorded(made)
        worker = made.start()
        made.pairs(range(20))
        made.wait_until_done()
        with ApiProcess(made, **serve) as api:
            assert api.process.wait(40) == 78
            assert "do not have the key" in api.log and "restart the workers" in api.log
        assert worker.stop() == 0
        started(made)
        with ApiProcess(made, **serve) as api:
            api.wait_ready()


def test_a_header_of_somebody_without_the_key_is_not_believed_and_counted(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": 0}) as made:
        recorded(made)
        worker = started(made)
        value = encode_record(Service.VISIT_SCHEMA, whole(1))
        made.raw_visit(value, key=b"r1", headers=[("stream_ml.served", b"\x01" + b"x" * 200)])
        made.wait_until_done()
        (one,) = made.predictions()
        assert FLAG not in one["flags"] and one["event_id"] == "r1"
        assert worker.stop() == 0, worker.log
