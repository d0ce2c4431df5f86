"""Events of the partitions that are owned: what comes while something else takes long is kept, and told afterwards."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from stream_ml.kafka import consumers
from stream_ml.kafka.consumers import Group
from tests.system.kafka_mock.mock_cluster import MockCluster
from tests.system.kafka_mock.test_commit_outcomes import config_of

WAIT_S = 20.0


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    made = MockCluster()
    made.create_topic("in", 2)
    yield made
    made.close()


@pytest.fixture
def group(cluster: MockCluster) -> Iterator[Group]:
    found = Group(config_of(cluster), 2)
    found.start({0: 0, 1: 0})
    yield found
    found.close()


def produce(cluster: MockCluster, partition: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
    for number in range(count):
        producer.produce("in", b"v%d" % number, partition=partition)
    assert producer.flush(WAIT_S) == 0


def until(fact: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not fact():
        assert time.monotonic() < deadline


@pytest.mark.timeout(60)
def test_what_came_while_a_member_was_kept_alive_is_told_by_the_next_read(
    cluster: MockCluster, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "KEEP_ALIVE_S", 0.0)
    produce(cluster, 1, 3)
    until(lambda: group.keep_alive() or group.waiting == 3)
    assert list(group.read(3, 0.0)) == [1]
    assert list(group.take(1, 10).offsets) == [0, 1, 2]


@pytest.mark.timeout(60)
def test_a_partition_is_at_its_end_only_when_nothing_of_it_waits(cluster: MockCluster, group: Group) -> None:
    produce(cluster, 0, 2)
    came: set[int] = set()
    until(lambda: came.update(group.read(5_000, 0.05)) or (group.waiting == 2 and group.ends.reached(1)))
    assert came == {0} and not group.ends.reached(0)
    assert list(group.take(0, 1).offsets) == [0]
    assert not group.ends.reached(0)
    assert list(group.take(0, 1).offsets) == [1]
    until(lambda: group.read(5_000, 0.05) or group.ends.reached(0))


@pytest.mark.timeout(60)
def test_after_going_back_nothing_waits_and_all_comes_again(cluster: MockCluster, group: Group) -> None:
    produce(cluster, 0, 2)
    until(lambda: group.read(5_000, 0.05) and group.waiting == 2)
    group.start({0: 0, 1: 0})
    assert group.waiting == 0
    until(lambda: group.read(5_000, 0.05) and group.waiting == 2)
    assert list(group.take(0, 10).offsets) == [0, 1]
