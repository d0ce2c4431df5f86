"""What random schedules found, each as the shortest schedule that shows it."""

from itertools import product
from typing import Any

import pytest
from river import linear_model

from stream_ml.config.model import Learning
from tests.system.simulation.app import LOG, PREDICTIONS
from tests.system.simulation.directed import Directed, Steps, pairs
from tests.system.simulation.transactions import OFFSETS, Transaction


def test_a_claim_that_fails_beside_a_kept_partition_does_not_end_the_worker() -> None:
    def lose_the_next_end(schedule: Directed) -> bool:
        schedule.kill("w2", for_good=True)
        schedule.sim.armed_faults.append("end lost")
        return True

    script = Steps(
        lambda s: s.shared(),
        lose_the_next_end,
        lambda s: not s.sim.armed_faults and s.give(*pairs(0, 1), *pairs(1, 2)) is None,
    )
    assert Directed("w1", "w2", script=script).outcome() == []


def test_a_start_beside_one_whose_markers_are_being_written_is_not_refused() -> None:
    asked: list[str] = []

    def withheld(transaction: Transaction, where: Any) -> bool:
        return where == OFFSETS and len(asked) < 4

    def note(kind: str, process: Any) -> None:
        if process.name.startswith("w2") and kind == "committed":
            asked.append(kind)

    def hold_the_offsets_back(schedule: Directed) -> bool:
        schedule.sim.withheld, schedule.sim.on_request = withheld, note
        return True

    script = Steps(
        hold_the_offsets_back,
        lambda s: bool(s.log()) and s.add("w2") is None,
        lambda s: s.shared(),
    )
    assert Directed("w1", script=script).outcome() == []


def heir_of_one_whose_markers_are_being_written() -> Directed:
    """What w2 learned last stands in the log and its offsets do not yet; it is dead, and w1 takes its partition up."""
    dead_s: list[float] = []

    def withheld(transaction: Transaction, where: Any) -> bool:
        learned = transaction.transactional_id == "app-w2" and (LOG, 0) in transaction.partitions
        return learned and where == OFFSETS and (not dead_s or schedule.sim.now_s < dead_s[0] + 30)

    def learn(schedule: Directed) -> bool:
        schedule.sim.withheld = withheld
        return schedule.give(*pairs(schedule.owned("w2")[0], 1, 2)) is None

    def die(schedule: Directed) -> bool:
        found = schedule.cluster.coordinator.find("app-w2")
        if found.markers == [OFFSETS] and withheld(found, OFFSETS):
            dead_s.append(schedule.sim.now_s)
            schedule.kill("w2", for_good=True)
        return bool(dead_s)

    schedule = Directed("w1", "w2", script=Steps(lambda s: s.shared() and learn(s), die))
    return schedule


def test_the_heir_of_one_whose_markers_are_being_written_waits_for_them() -> None:
    assert heir_of_one_whose_markers_are_being_written().outcome() == []


SHOWN_BY = (
    (20, 1),
    (57, 1),
    (81, 1),
    (85, 1),
    (86, 1),
    (118, 1),
)  # of a thousand: seed and request at which a claimer without this care suspends


@pytest.mark.parametrize(("seed", "request_number"), [*product(range(4), range(1, 9)), *SHOWN_BY])
def test_a_claimer_that_stood_still_while_others_went_on_parks_nothing(seed: int, request_number: int) -> None:
    """It stands still from this request after its claim on, and hears of the group only when it has read the log."""
    since_claim: list[str] = []

    def freeze_after_the_claim(kind: str, process: Any) -> None:
        if not process.name.startswith("w1") or (not since_claim and kind != "commit"):
            return
        since_claim.append(kind)
        if len(since_claim) == 1 + request_number:
            schedule.sim.freeze(process, 40)

    script = Steps(
        lambda s: setattr(s.sim, "on_request", freeze_after_the_claim) is None,
        lambda s: len(since_claim) > request_number and s.add("w2") is None,
        lambda s: s.owned("w2") == [0, 1] and s.give(*pairs(0, 1, 2), *pairs(1, 3, 4)) is None,
        lambda s: len(s.log()) > 4,
    )
    schedule = Directed("w1", script=script, seed=seed)
    assert schedule.outcome() == []


def test_a_claim_by_a_member_that_was_thrown_out_is_not_repeated_until_the_worker_gives_up() -> None:
    frozen: list[str] = []

    def freeze_in_the_claim(kind: str, process: Any) -> None:
        if process.name.startswith("w1") and kind == "offsets" and not frozen:
            frozen.append(kind)
            schedule.sim.freeze(process, 25)

    script = Steps(
        lambda s: setattr(s.sim, "on_request", freeze_in_the_claim) is None,
        lambda s: bool(frozen) and s.add("w2") is None,
        lambda s: s.owned("w2") == [0, 1] and s.give(*pairs(0, 1, 2)) is None,
        lambda s: len(s.log()) > 3,
    )
    schedule = Directed("w1", script=script, membership="dynamic")
    assert schedule.outcome() == []
    assert not [said for said in schedule.fatal if "in a row" in said]


def test_learning_that_lags_in_a_backlog_catches_up_and_the_worker_goes_on() -> None:
    """Nothing was folded while events waited for the fold: a worker of a heavy model stood still for ever."""
    script = Steps(
        lambda s: s.owned("w1") == [0, 1] and s.give(*pairs(0, *range(40)), *pairs(1, *range(40, 80))) is None,
        lambda s: len(s.committed(PREDICTIONS)) == 80,
    )
    schedule = Directed("w1", script=script, batch=2)
    schedule.configured["learning"] = Learning(budget_per_turn="1ms", lag_max="1ms")
    assert schedule.outcome() == []
    assert len(schedule.committed(PREDICTIONS)) == 80


class Brittle(linear_model.LogisticRegression):
    """Raises at one event, when half of it has changed."""

    def learn_one(self, x: dict[str, Any], y: bool, w: float = 1.0) -> None:
        super().learn_one(x, y, w)
        if x["x"] == 13.0:
            raise ValueError("half learned")


def test_a_model_that_is_spoilt_in_a_backlog_is_made_anew_and_scoring_goes_on() -> None:
    script = Steps(
        lambda s: s.owned("w1") == [0, 1] and s.give(*pairs(0, *range(60))) is None,
        lambda s: len(s.committed(PREDICTIONS)) == 60,
    )
    schedule = Directed("w1", script=script, batch=2)
    schedule.build = Brittle
    schedule.run()
    (replica,) = schedule.replicas
    assert replica.halt is not None
    assert (replica.halt.reason, replica.halt.corrupted) == ("model_raised", False)
    assert len(schedule.committed(PREDICTIONS)) == 60
