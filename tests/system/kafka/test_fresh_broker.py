"""A broker with Kafka's own settings, asked while it starts: no coordinator yet, no leaders, topics that come later."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stream_ml.kafka.committed import read_committed
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.topics import inspect_topics
from tests.support.brokers import broker
from tests.support.service import Service, service

pytestmark = pytest.mark.kafka

GROUPS = 20


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[str]:
    """It starts while the test runs."""
    with broker("cold", tmp_path / "kafka") as servers:
        yield servers


@pytest.mark.long
def test_committed_offsets_are_read_as_soon_as_there_is_a_coordinator(fresh: str, app_id: str, tmp_path: Path) -> None:
    def ask(number: int) -> bool:
        config = made.write(f"w{number}", app={"id": f"{app_id}n{number}"})
        with reaching(config):
            return read_committed(config, [0], stable=False)[0].absent

    made = Service(tmp_path, fresh, app_id)
    with ThreadPoolExecutor(GROUPS) as pool:
        assert all(pool.map(ask, range(GROUPS)))


@pytest.mark.long
def test_topics_that_were_just_made_are_there(fresh: str, app_id: str, tmp_path: Path) -> None:
    for number in range(5):
        made = Service(tmp_path, fresh, f"{app_id}n{number}")
        made.create_topics()
        assert inspect_topics(made.config).partitions == 1


def test_a_worker_that_starts_with_its_broker_scores_and_learns(fresh: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, fresh, app_id, partitions=2) as made:
        worker = made.start()
        made.pairs(range(200))
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        assert not made.audit().findings
