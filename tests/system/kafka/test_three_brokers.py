"""Three brokers, each record on all of them: one dies, two die and come back, all are restarted; nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_ml.check.online import check_online
from stream_ml.embedded.broker import free_port
from stream_ml.embedded.cluster import EmbeddedCluster
from tests.support.service import Service, service

pytestmark = [pytest.mark.kafka, pytest.mark.long]
START_S = 150.0


@pytest.fixture(scope="module", name="cluster")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(name="made")
def _made(cluster: EmbeddedCluster, app_id: str, tmp_path: Path) -> Iterator[Service]:
    http = {"port": free_port()}
    with service(tmp_path, cluster.bootstrap_servers, app_id, partitions=4, http=http) as found:
        found.start("w1")
        found.pairs(range(100))
        found.wait_until_done()
        yield found


def right(made: Service) -> None:
    """All that was produced is scored and learned, and the topics hold what they should."""
    made.wait_until_done()
    for worker in made.workers:
        if worker.process.poll() is None:
            assert worker.stop() == 0, worker.log[-2000:]
    found = made.audited()
    assert found["findings"] == [] and found["unread"] == 0 and found["predictions"] == found["events"]


def test_the_check_finds_nothing_wrong_with_it(made: Service) -> None:
    found = check_online(made.config, 86_400_000)
    assert [str(problem) for problem in found.problems.found if "broker" in str(problem)] == []
    assert not any("broker" in note for note in found.notes)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_each_broker_may_die_and_come_back_while_events_flow(
    made: Service, cluster: EmbeddedCluster, number: int
) -> None:
    cluster.nodes[number].kill()
    made.pairs(range(100, 300))
    made.wait_until_done()
    cluster.nodes[number].start(timeout_s=START_S)
    made.pairs(range(300, 400))
    right(made)


def test_with_two_of_three_dead_nothing_is_written_and_nothing_lost_once_one_is_back(
    made: Service, cluster: EmbeddedCluster
) -> None:
    before = made.progress()[0]
    cluster.nodes[0].kill()
    cluster.nodes[1].kill()
    made.pairs(range(100, 150))
    made.wait_for(lambda: not made.ready, "it says that it is not ready")
    cluster.nodes[1].start(timeout_s=START_S)
    made.wait_until_done()
    assert made.progress()[0] == before + 100
    cluster.nodes[0].start(timeout_s=START_S)
    made.wait_for(lambda: made.ready, "it is ready again")
    right(made)


def test_all_brokers_are_restarted_one_after_the_other(made: Service, cluster: EmbeddedCluster) -> None:
    for first, node in zip(range(100, 400, 100), cluster.nodes, strict=True):
        made.pairs(range(first, first + 100))
        node.stop()
        node.start(timeout_s=START_S)
    right(made)
