"""Random schedules: whatever is killed, frozen, replaced or lost, every input ends once and every replica is equal."""

import gc
import time
from collections.abc import Iterator

import pytest

from tests.support.service import brothers
from tests.system.simulation.judge import audited, judged
from tests.system.simulation.plan import plan_of
from tests.system.simulation.world import Schedule

BUDGET_S = 20.0  # of the schedules drawn below; a slow machine runs fewer
SEEDS = range(600)
BLOCKS = 2  # the second one is run by `make faults`
AUDIT_EVERY = 3


@pytest.fixture(scope="module", autouse=True)
def calm_collector() -> Iterator[None]:
    """What was imported is large, and every full collection would walk it: a fifth of the time."""
    gc.freeze()
    yield
    gc.unfreeze()


def run(seed: int) -> list[str]:
    """Findings of the schedule of a seed; the service's own audit is asked where no cap has freed anything."""
    schedule = Schedule(plan_of(seed))
    schedule.run()
    found = judged(schedule)
    if schedule.plan.pending_max is None and seed % AUDIT_EVERY == 0:
        found += audited(schedule)
    return found


@pytest.mark.parametrize("block", brothers(*range(BLOCKS)))
def test_every_input_ends_once_and_replicas_are_equal(block: int) -> None:
    until = time.monotonic() + BUDGET_S / BLOCKS
    for count, seed in enumerate(SEEDS[block::BLOCKS]):
        if time.monotonic() > until and count:
            break
        assert run(seed) == [], f"python -m tests.system.simulation --seed {seed}"


def test_a_seed_gives_the_same_schedule_each_time() -> None:
    first, second = (Schedule(plan_of(7), tracing=True) for _ in range(2))
    first.run()
    second.run()
    assert first.sim.trace == second.sim.trace
    assert len(first.sim.trace) > 50


# --- seeds that once failed; test_found.py says why, with schedules that do not change with the plan ---

SHOWS_A_PLANTED_BUG = (2743, 3265, 3382, 3605, 3864, 4155, 4510)  # group metadata taken after a rebalance: 3 in 1,000
FAILED_ONCE = (45, 75, 76, 142, 210, 217, 218, 294, 306, 354, 359)


@pytest.mark.parametrize("seed", FAILED_ONCE + SHOWS_A_PLANTED_BUG)
def test_schedule_that_failed_once_or_shows_a_planted_bug_is_right(seed: int) -> None:
    assert run(seed) == []
