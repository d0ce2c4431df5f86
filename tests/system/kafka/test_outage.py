"""Kafka goes away while a worker runs."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from stream_ml.kafka import clients
from stream_ml.kafka.threads import call_within
from tests.support.brokers import broker
from tests.support.service import service, until

pytestmark = pytest.mark.kafka


@pytest.mark.long
def test_a_worker_that_is_told_to_stop_while_kafka_is_away_ends(app_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    with broker("embedded", tmp_path / "kafka") as servers, service(folder, servers, app_id) as made:
        worker = made.start()
        for number in range(50):
            made.visit(number)
        made.wait_until_done()
        kept = made.workers.pop()  # it outlives its Kafka
    try:
        assert until(lambda: "Kafka does not answer" in worker.log, 20), worker.log
        assert worker.stop() == 0, worker.log
    finally:
        kept.kill()
    assert "Traceback" not in worker.log, worker.log


class Spins:
    """A consumer whose close never returns, as one of librdkafka's was seen to."""

    def __init__(self) -> None:
        import threading

        self.close = threading.Event().wait


def test_a_consumer_that_cannot_be_closed_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clients, "CLOSE_S", 0.05)
    clients.close_within(Spins())
    assert "did not close within" in caplog.text
    with pytest.raises(KafkaException):
        call_within(Spins().close, 0.05)
