"""While Kafka is away a worker says so by itself, within seconds, wherever its loop stands at that moment."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.embedded.broker import EmbeddedKafka, free_port
from tests.support.service import Service, service, until

pytestmark = pytest.mark.kafka  # with an embedded broker of their own: it is killed, or stopped for a while

SOON_S = 10.0  # a few silent seconds, and some for a busy machine

AWAY: dict[str, Callable[[EmbeddedKafka], None]] = {
    "killed": lambda broker: broker.kill(),
    "stopped": lambda broker: os.kill(broker.pid or 0, signal.SIGSTOP),  # its connections stay open
}


@contextmanager
def working(folder: Path, app_id: str, *, load: bool) -> Iterator[tuple[Service, EmbeddedKafka]]:
    """A ready worker with a broker of its own, under load or idle."""
    (folder / "app").mkdir()
    broker, ended = EmbeddedKafka(folder / "kafka"), threading.Event()

    def produce(made: Service) -> None:
        for number in range(100_000):
            if ended.wait(0.02):
                return
            made.pairs([number])

    try:
        broker.start()
        with service(folder / "app", broker.bootstrap_servers, app_id, http={"port": free_port()}) as made:
            made.start()
            made.wait_for(lambda: made.ready, "readiness")
            made.pairs(range(100_000, 100_010))
            made.wait_for(lambda: made.status()["since_start"].get("events") == 10, "ten events")
            if load:
                threading.Thread(target=produce, args=(made,), daemon=True).start()
                made.wait_for(lambda: made.status()["per_second"]["events"] > 20, "the load")
            yield made, broker
    finally:
        ended.set()
        broker.kill()


@pytest.mark.parametrize(
    ("how", "load"),
    [
        pytest.param("killed", True, id="killed-load"),
        pytest.param("killed", False, id="killed-idle", marks=pytest.mark.long),
        pytest.param("stopped", True, id="stopped-load", marks=pytest.mark.long),
        pytest.param("stopped", False, id="stopped-idle", marks=pytest.mark.long),
    ],
)
def test_a_worker_whose_kafka_is_away_is_not_ready_within_seconds_and_says_why(
    app_id: str, tmp_path: Path, how: str, load: bool
) -> None:
    with working(tmp_path, app_id, load=load) as (made, broker):
        AWAY[how](broker)
        assert until(lambda: not made.ready, SOON_S), made.status()["per_second"]
        said, now = made.asked("/readyz")[1], made.status()
        assert f"Kafka at {broker.bootstrap_servers}" in said
        assert not now["ready"] and now["reasons"] and now["per_second"] == {"events": 0.0, "labels": 0.0}
        assert broker.bootstrap_servers in made.problems()
        assert until(lambda: "stream_ml_ready 0.0" in made.asked("/metrics")[1], SOON_S)
        assert "stream_ml_brokers_up 0.0" in made.asked("/metrics")[1]
        shown = CliRunner().invoke(app, ["top", str(made.folder / "w1.yaml"), "--once"])
        assert shown.exit_code == 1 and "not ready" in shown.output


def test_a_worker_that_works_says_how_many_brokers_it_is_connected_to(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.wait_for(lambda: made.ready, "readiness")
        made.pairs(range(10))
        made.wait_until_done()
        metrics = made.asked("/metrics")[1]
        assert "stream_ml_ready 1.0" in metrics
        assert "stream_ml_brokers_up 0.0" not in metrics, "unknown is not 0: nothing was counted yet"


@pytest.mark.long
def test_a_worker_is_ready_again_soon_after_kafka_is_back(app_id: str, tmp_path: Path) -> None:
    """A static member that was away for longer than the session timeout is fenced: then a supervisor starts it."""
    with working(tmp_path, app_id, load=True) as (made, broker):
        broker.kill()
        assert until(lambda: not made.ready, SOON_S), made.status()["per_second"]
        broker.start()
        worker = made.workers[0]
        if not until(lambda: made.ready or worker.process.poll() is not None, 60) or worker.process.poll() is not None:
            assert "start it again" in worker.log, worker.log[-2000:]
            made.start()
        made.wait_for(lambda: made.ready, "readiness")
        assert until(lambda: "stream_ml_brokers_up 0.0" not in made.asked("/metrics")[1], SOON_S)
