"""SIGTERM finds a worker that folds, waits or learns: it ends at once, in order, and what it has folded is kept."""

import json
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_ml.app.assemble import assemble
from stream_ml.core.avro.record import encode_record
from stream_ml.core.log.entry import Example, encode_example
from stream_ml.embedded.broker import free_port
from stream_ml.records import NOT_SERVED, Target
from tests.support.brokers import cold
from tests.support.service import MODEL, T0, Service, Worker, service

pytestmark = pytest.mark.kafka

EXAMPLES = 6_000
LEARN_S = 0.005  # of the model below: the whole log takes half a minute
STOP_S = 5.0  # from SIGTERM to the end, a checkpoint included; Kubernetes waits 30 s
SLOW = f"""
import time
from river import base


class Slow(base.Classifier):
    def learn_one(self, x, y):
        time.sleep({LEARN_S})

    def predict_proba_one(self, x):
        return {{False: 0.5, True: 0.5}}


def slow():
    return Slow()
"""


def fill_log(made: Service, count: int) -> None:
    """Examples as an owner of another partition would have written them, a second apart."""
    fingerprint = assemble(made.config).reader.payloads.reader.fingerprint
    made.start_partition(7)
    for number in range(count):
        payload = {"id": f"v{number}", "at": T0 + number, "x": 3.0, "kind": "k1", "note": None}
        example = Example(
            source_partition=7,
            sequence=number,
            trigger=1,
            trigger_offset=number,
            event_id=f"v{number}",
            event_time_ms=T0 + number,
            event_offset=number,
            event_schema=fingerprint,
            event_framing="bare",
            event=encode_record(made.VISIT_SCHEMA, payload),
            label_time_ms=T0 + number,
            target=Target("true", None),
            feedback_offset=number,
            served=NOT_SERVED,
        )
        value = encode_example(example, written_at_ms=int(1000 * time.time()), writer="x")
        made.raw_log(value)
    made.flush()


@pytest.fixture
def slow(kafka: str, app_id: str, tmp_path: Path) -> Iterator[Service]:
    """An app whose model learns 200 examples a second."""
    model = {"factory": f"model_{app_id}:slow", "checkpoint_types": [f"model_{app_id}.Slow"]}
    changes: dict[str, Any] = {"model": model, "checkpoints": {"interval": "1s"}, "http": {"port": free_port()}}
    with service(tmp_path, kafka, app_id, **changes) as made:
        (tmp_path / f"model_{app_id}.py").write_text(MODEL + SLOW, "utf-8")
        yield made


def status(made: Service) -> dict[str, Any]:
    """What the worker says of itself; nothing as long as nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{made.config.http.port}/v1/status", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
    except OSError:
        return {}
    return found


def hears_sigterm(worker: Worker) -> bool:
    """Whether the process has a handler for it, as Linux tells."""
    lines = Path(f"/proc/{worker.process.pid}/status").read_text("ascii").splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt")).split()[1]
    return bool(int(caught, 16) & 1 << (signal.SIGTERM - 1))


def stop_s(worker: Worker) -> float:
    """How long it takes to end after SIGTERM; it ends with 0."""
    began_s = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(90) == 0, worker.log
    return time.monotonic() - began_s


def test_sigterm_while_the_start_folds_ends_the_worker_with_a_checkpoint(slow: Service) -> None:
    fill_log(slow, EXAMPLES)
    worker = slow.start()
    slow.wait_for(lambda: (status(slow).get("folding") or {}).get("position"), "something that is folded")
    assert stop_s(worker) < STOP_S
    assert 0 < slow.newest_checkpoint()["examples_learned"] < EXAMPLES


def test_a_long_start_writes_checkpoints_and_says_how_far_it_is(slow: Service) -> None:
    fill_log(slow, EXAMPLES)
    worker = slow.start()
    folder = slow.config.path(slow.config.checkpoints.directory)
    slow.wait_for(lambda: any(folder.glob("*/*.ckpt")), "a checkpoint")
    assert not worker.joined, "it was to be written on the way"
    said = status(slow)
    assert not said["ready"]
    assert 0 < said["folding"]["position"] < EXAMPLES <= said["folding"]["end"]
    assert f"of {EXAMPLES + 2:,}" in said["reasons"][0], said
    slow.wait_for(lambda: f"of {EXAMPLES + 2:,}" in worker.log, "a line on the way")
    worker.kill()
    again = slow.start()
    slow.wait_for(lambda: "checkpoint at" in again.log, "a start from what was folded")


def test_sigterm_does_not_wait_until_a_backlog_of_learning_is_learned(slow: Service) -> None:
    """What is not folded within a bound the next process folds, however much there is."""
    worker = slow.start()
    slow.wait_for(lambda: "owned" in worker.log, "joining")
    fill_log(slow, EXAMPLES)
    assert stop_s(worker) < STOP_S
    assert slow.newest_checkpoint()["examples_learned"] < EXAMPLES


def test_sigterm_while_kafka_is_awaited_ends_the_worker_in_order(app_id: str, tmp_path: Path) -> None:
    """Of a Kafka that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        made = Service(tmp_path, f"127.0.0.1:{silent.getsockname()[1]}", app_id)
        worker = made.start()
        try:
            made.wait_for(lambda: hears_sigterm(worker), "the worker's own handler")
            assert stop_s(worker) < STOP_S
        finally:
            made.close()
    assert "Traceback" not in worker.log, worker.log


@pytest.mark.long
def test_a_worker_that_is_told_to_stop_while_it_waits_for_partitions_ends(app_id: str, tmp_path: Path) -> None:
    """By Kafka's own settings a group waits 3 s for more members; a consumer given partitions in its close hangs."""
    with cold(tmp_path / "kafka") as servers, service(tmp_path, servers, app_id) as made:
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            worker = made.start()
            made.wait_for(lambda worker=worker: worker.joined, "a start")  # type: ignore[misc]
            worker.process.send_signal(sign)
            assert worker.wait() in (0, 130)


@pytest.mark.long
def test_a_last_checkpoint_that_takes_too_long_is_given_up_and_said(kafka: str, app_id: str, tmp_path: Path) -> None:
    """The one before stands, and the next start folds on from there."""
    changes: dict[str, Any] = {
        "checkpoints": {"interval": "100ms", "stop_wait": "500ms"},
        "http": {"port": free_port()},
    }
    with service(tmp_path, kafka, app_id, **changes) as made:
        first = made.start()
        made.pairs(range(30))
        made.flush()
        made.wait_for(lambda: made.learned == 30, "30 examples")
        assert first.stop() == 0
        stands = made.newest_checkpoint()
        second = made.start(fail="checkpoint-written:sleep:1:60s", checkpoints={"interval": "1h"})
        made.pairs(range(30, 60))
        made.flush()
        made.wait_for(lambda: made.learned == 60, "60 examples")
        assert stop_s(second) < STOP_S
        assert "was not written within 0.5 s (checkpoints.stop_wait): the one at " in second.log
        assert f"the one at {stands['position']} stands" in second.log, second.log
        assert made.newest_checkpoint() == stands
        made.start()
        made.wait_for(lambda: made.learned == 60, "the same again")
