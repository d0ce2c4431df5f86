"""What passes by itself is waited out: each call that asks a coordinator, a leader or the controller, beside the errors
that a fresh broker or a failover gives for a moment. (Those of a transaction stand in test_commit_outcomes.py.)

1. Answered so a few times, the call gives what it would have given.
2. Answered so for ever, it ends within its bound, in a TransientError: a supervisor tries again.
3. An error that stays (a right that is missing) ends it at once.

Which of them a fresh container gives was seen by asking one from 50 clients while it started: NOT_COORDINATOR,
COORDINATOR_LOAD_IN_PROGRESS, UNKNOWN_TOPIC_OR_PART, NOT_LEADER_FOR_PARTITION, "no leaders found", a topic not there.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError

from stream_ml.admin.observer import Observer
from stream_ml.admin.offsets import set_offsets
from stream_ml.admin.redrive import redrive
from stream_ml.config import Config
from stream_ml.errors import ConfigError, TransientError
from stream_ml.kafka import topics
from stream_ml.kafka.clients import admin
from stream_ml.kafka.committed import read_committed, stable_pair
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.newest import partitions_of
from tests.system.kafka_mock.mock_cluster import MockCluster, Request
from tests.system.kafka_mock.test_commit_outcomes import CLOSED, CODES, COORDINATOR, config_of

TOPICS = "in feedback out app.training-log app.outcomes app.dead-letters app.signals"
TIMES = 3  # answers in a row: one alone may be met by a second question that the client asks anyway
BOUND_S = 25.0
LEADER = "NOT_LEADER_FOR_PARTITION OFFSET_NOT_AVAILABLE KAFKA_STORAGE_ERROR UNKNOWN_TOPIC_OR_PART"
SLOW = f"REQUEST_TIMED_OUT {CLOSED}"

Call = Callable[[Config], Any]
CALLS: dict[str, Call] = {
    "read_committed": lambda config: read_committed(config, [0], stable=False),
    "stable_pair": lambda config: stable_pair(config, 0),
    "observer": lambda config: Observer(config, 1).pairs(),
    "set_offsets": lambda config: set_offsets(config, 0, 0, 0),
    "redrive": lambda config: redrive(config, "truncated", 10, dry_run=False),
    "ends": lambda config: ends(admin(config), [("in", 0)]),
    "partitions_of": lambda config: partitions_of(config, "in"),
}
COMMITTED = ("read_committed", "stable_pair", "observer", "set_offsets", "redrive")
TABLE = [
    *[(call, Request.OFFSET_FETCH, COORDINATOR) for call in COMMITTED],
    ("read_committed", Request.FIND_COORDINATOR, f"{COORDINATOR} {CLOSED}"),
    ("set_offsets", Request.OFFSET_COMMIT, f"{COORDINATOR} UNKNOWN_TOPIC_OR_PART {SLOW}"),
    ("redrive", Request.INIT_PRODUCER_ID, "COORDINATOR_LOAD_IN_PROGRESS CONCURRENT_TRANSACTIONS"),
    ("redrive", Request.LIST_OFFSETS, f"NOT_LEADER_FOR_PARTITION {SLOW}"),
    ("ends", Request.LIST_OFFSETS, f"{LEADER} {SLOW}"),
]
LASTING = [
    ("read_committed", Request.OFFSET_FETCH, "NOT_COORDINATOR"),
    ("set_offsets", Request.OFFSET_COMMIT, "COORDINATOR_LOAD_IN_PROGRESS"),
    ("ends", Request.LIST_OFFSETS, "NOT_LEADER_FOR_PARTITION"),
]
DENIED = [
    ("read_committed", Request.OFFSET_FETCH, "GROUP_AUTHORIZATION_FAILED"),
    ("ends", Request.LIST_OFFSETS, "TOPIC_AUTHORIZATION_FAILED"),
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockCluster]:
    """A cluster of the test's own. It has no controller, which alone knows the ids of topics."""
    monkeypatch.setattr(topics, "TIMEOUT_S", 0.2)
    with MockCluster() as made:
        for topic in TOPICS.split():
            made.create_topic(topic)
        yield made


def rows(table: list[Any]) -> Any:
    """One test for each error of each line."""
    return [
        pytest.param(call, request, CODES[name], id=f"{call}-{request.name}-{name}")
        for call, request, names in table
        for name in names.split()
    ]


def asked(cluster: MockCluster, call: str) -> Any:
    """The call, as the command line and the worker make it."""
    config = config_of(cluster)
    with reaching(config):
        return CALLS[call](config)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("call", "request_", "code"), rows(TABLE))
def test_error_that_passes_is_waited_out(cluster: MockCluster, call: str, request_: Request, code: int) -> None:
    cluster.answer(request_, *[code] * TIMES)
    asked(cluster, call)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("call", "request_", "code"), rows(LASTING))
def test_error_that_should_have_passed_ends_within_the_bound(
    cluster: MockCluster, call: str, request_: Request, code: int
) -> None:
    cluster.answer(request_, *[code] * 10_000)
    started = time.monotonic()
    with pytest.raises(TransientError):
        asked(cluster, call)
    assert 1.0 < time.monotonic() - started < BOUND_S, "asked again, and not for ever"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("call", "request_", "code"), rows(DENIED))
def test_error_that_stays_ends_at_once(cluster: MockCluster, call: str, request_: Request, code: int) -> None:
    cluster.answer(request_, *[code] * 100)
    started = time.monotonic()
    with pytest.raises(ConfigError):
        asked(cluster, call)
    assert time.monotonic() - started < 2.0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("call", ["ends", "partitions_of"])
def test_topic_that_was_just_made_is_waited_for(cluster: MockCluster, call: str) -> None:
    """Metadata of it comes a moment later than the answer of who made it."""
    cluster.refuse_topic("in", KafkaError.UNKNOWN_TOPIC_OR_PART)
    timer = threading.Timer(0.5, cluster.refuse_topic, ["in", KafkaError.NO_ERROR])
    timer.start()
    try:
        assert asked(cluster, call)
    finally:
        timer.join()
