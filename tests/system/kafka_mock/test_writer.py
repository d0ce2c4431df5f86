"""What the scoring API writes: each confirmation is that of its record, and nothing else is taken for one."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from stream_ml.core.api.problems import Problem
from stream_ml.records import Headers
from stream_ml.serve import producer
from stream_ml.serve.producer import Confirmed, Writer
from tests.system.kafka_mock.mock_cluster import MockCluster, Request
from tests.system.kafka_mock.test_commit_outcomes import CODES, config_of

PARTITIONS, COUNT = 3, 60


@pytest.fixture(name="cluster")
def _cluster() -> Iterator[MockCluster]:
    with MockCluster() as made:
        made.create_topic("feedback", PARTITIONS)
        yield made


@pytest.fixture(name="writing")
def _writing(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Writer]]:
    """Makes writers, which are closed in the end without waiting for what nobody confirms."""
    made: list[Writer] = []
    monkeypatch.setattr(producer, "FLUSH_S", 0.1)

    def make(ack_timeout_ms: int = 20_000) -> Writer:
        config = config_of(cluster)
        made.append(
            Writer(config.model_copy(update={"serve": config.serve.model_copy(update={"ack_timeout": ack_timeout_ms})}))
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


def records(count: int) -> list[tuple[bytes, bytes, Headers]]:
    return [(b"k%d" % number, b"v%d" % number, [("n", b"%d" % number)]) for number in range(count)]


def there(cluster: MockCluster) -> dict[Confirmed, Any]:
    """Key, value and headers by place."""
    reader = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "g", "log_level": 0})
    reader.assign([TopicPartition("feedback", number, 0) for number in range(PARTITIONS)])
    found: dict[Confirmed, Any] = {}
    for _ in range(COUNT):
        message = reader.poll(20.0)
        assert message is not None and message.error() is None
        place = Confirmed(message.partition() or 0, message.offset() or 0)
        found[place] = (message.key(), message.value(), message.headers())
    reader.close()
    return found


def test_each_record_stands_where_its_confirmation_says(cluster: MockCluster, writing: Callable[..., Writer]) -> None:
    given = records(COUNT)
    confirmed = asyncio.run(writing().write("feedback", given))
    assert {one.partition for one in confirmed} == set(range(PARTITIONS))
    found = there(cluster)
    assert [found[place] for place in confirmed] == given


def test_what_is_not_confirmed_in_time_is_not_recorded(cluster: MockCluster, writing: Callable[..., Writer]) -> None:
    cluster.down()
    with pytest.raises(Problem) as refused:
        asyncio.run(writing(200).write("feedback", records(2)))
    assert (refused.value.kind, refused.value.headers) == ("not-recorded", {"Retry-After": "2"})
    assert "no confirmation in 0.2 s" in refused.value.detail


def test_what_kafka_refuses_is_not_recorded(cluster: MockCluster, writing: Callable[..., Writer]) -> None:
    cluster.answer(Request.PRODUCE, *[CODES["TOPIC_AUTHORIZATION_FAILED"]] * PARTITIONS)
    with pytest.raises(Problem) as refused:
        asyncio.run(writing().write("feedback", records(1)))
    assert refused.value.kind == "not-recorded" and "no confirmation" not in refused.value.detail
