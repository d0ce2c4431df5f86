"""What a worker says that it does: from the topics, the group and what is owned."""

from types import SimpleNamespace
from typing import Any

import pytest

from stream_ml.kafka.topic_watch import Verdict
from stream_ml.observe.problems import starting
from stream_ml.worker.report.health import Health
from stream_ml.worker.state import WorkerState, state_of


def verdict(*, blocking: tuple[str, ...] = (), uneven: tuple[str, ...] = ()) -> Verdict:
    return Verdict(blocking=blocking, uneven=uneven, warnings=(), partitions=4, asked_s=0.0, answered_s=1e18)


@pytest.mark.parametrize(
    ("blocking", "settled", "wanted", "state"),
    [
        (("shop-events is not there",), True, [], WorkerState.BLOCKED),
        (("shop-events is not there",), False, [1], WorkerState.BLOCKED),
        ((), False, [], WorkerState.REBALANCING),
        ((), False, [1], WorkerState.REBALANCING),
        ((), True, [1], WorkerState.RESTORING),
        ((), True, [], WorkerState.RUNNING),
    ],
)
def test_the_state_follows_from_topics_group_and_partitions(
    blocking: tuple[str, ...], settled: bool, wanted: list[int], state: WorkerState
) -> None:
    group: Any = SimpleNamespace(settled=settled)
    ownership: Any = SimpleNamespace(wanted=wanted)
    assert state_of(verdict(blocking=blocking), group, ownership) is state


def test_a_status_before_the_first_turn_names_the_state_as_the_worker_does() -> None:
    assert starting("shop", "w1", ["starting"])["state"] == WorkerState.STARTING.value


def test_a_worker_that_stops_is_not_ready_and_says_why() -> None:
    config: Any = SimpleNamespace(kafka=SimpleNamespace(bootstrap_servers="127.0.0.1:1"))
    health = Health(config, SimpleNamespace(verdict=verdict(uneven=("feedback has 2 partitions",))))  # type: ignore[arg-type]
    assert health.wrong() == ["feedback has 2 partitions"]
    health.stopping = "SIGTERM"
    assert health.wrong() == ["stopping, because of SIGTERM: what is committed is learned, then a checkpoint"]
