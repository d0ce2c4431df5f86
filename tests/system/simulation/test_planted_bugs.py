"""Bugs planted into the service, or guards taken from Kafka: random schedules must turn red, each for its reason."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from stream_ml.core.join.join import Join
from stream_ml.kafka.committed import read_committed
from stream_ml.kafka.writing.transaction import Ending, Transactor
from stream_ml.worker.commit import Committed, Committer
from stream_ml.worker.partitions import assignment
from tests.support.service import brothers
from tests.system.simulation import groups
from tests.system.simulation.judge import judged
from tests.system.simulation.plan import plan_of
from tests.system.simulation.scheduler import Stuck
from tests.system.simulation.test_found import heir_of_one_whose_markers_are_being_written
from tests.system.simulation.world import Schedule

SEEDS_MAX = 250


def unknown_is_aborted(committer: Committer, outputs: Any) -> Committed:
    """Nobody asks for the token."""
    committer._transactor.open()
    return Committed({}, rest_aborted=True)


def unknown_is_committed(real: Callable[..., Ending]) -> Callable[..., Ending]:
    """A commit without an answer is taken for one with."""

    def commit(transactor: Transactor, made: Any) -> Ending:
        ending = real(transactor, made)
        if ending is Ending.UNKNOWN:
            transactor.open()
        return Ending.COMMITTED

    return commit


def unstable_pairs(config: Any, numbers: list[int]) -> Any:
    """Offsets are read while a transaction holds them."""
    return read_committed(config, numbers, stable=False)


PLANTED = {
    "unknown is committed": (
        mock.patch.object(Transactor, "_commit", unknown_is_committed(Transactor._commit)),
        "has no end",
    ),
    "nothing is rebuilt": (mock.patch.object(Join, "rebuild", lambda *_: None), "has no end"),
    "unknown is aborted": (mock.patch.object(Committer, "_resolve", unknown_is_aborted), "ends 2 times"),
    "Kafka lets old members commit": (mock.patch.object(groups.Group, "check", lambda *_: ""), "ends 2 times"),
}


def test_offsets_that_are_read_unstable_are_found() -> None:
    with mock.patch.object(assignment, "read_committed_stable", unstable_pairs):
        found = heir_of_one_whose_markers_are_being_written().outcome()
    assert any("suspended" in finding for finding in found)


@pytest.mark.parametrize("name", brothers(*PLANTED, tried=3))
def test_planted_bug_is_found(name: str) -> None:
    patch, expected = PLANTED[name]
    with patch:
        for seed in range(SEEDS_MAX):
            schedule = Schedule(plan_of(seed))
            try:
                schedule.run()
            except Stuck:  # a bug may also do that; here another sign of it is looked for
                continue
            if any(expected in finding for finding in judged(schedule)):
                return
    pytest.fail(f"{SEEDS_MAX} schedules, and none shows that something {expected!r}")
