"""An EndTxn that was sent twice, and the second time so late that it ends the producer's next transaction.

Before the second part of KIP-890 nothing tells the broker that it is an old one: the epoch is the same. What the
service can do is see it in the data. Here it must, and without its checks it must not: else these tests test nothing.
"""

from typing import Any
from unittest import mock

import pytest

from stream_ml.core.log.heads import decode_place
from stream_ml.core.log.sequences import SequenceTracker
from stream_ml.worker.partitions.assignment import Ownership
from tests.support.service import brothers
from tests.system.simulation.app import EVENTS, FEEDBACK, LOG, PREDICTIONS
from tests.system.simulation.directed import Directed, Steps, pairs
from tests.system.simulation.judge import judged
from tests.system.simulation.logs import Where
from tests.system.simulation.plan import plan_of
from tests.system.simulation.transactions import End
from tests.system.simulation.world import Schedule

WORKER = "app-w1"
LATE_SEEDS = (range(50, 70), range(170))  # 59 and 61 do harm; all of them are run by `make faults`


def holds_example(schedule: Directed) -> bool:
    """Whether the open transaction has written into the training log."""
    transaction = schedule.cluster.coordinator.find(WORKER)
    return transaction.state == "ongoing" and (LOG, 0) in transaction.partitions


def land(schedule: Directed, end: End) -> None:
    """The late EndTxn arrives, and its markers are written."""
    coordinator = schedule.cluster.coordinator
    transaction = coordinator.find(WORKER)
    coordinator.finish(WORKER, transaction.epoch, end)
    for where in list(transaction.markers):
        coordinator.write(transaction, where)
    schedule.sim.note(f"a late {end} ends the open transaction")


def schedule_with_late(end: End, *, then_kill: bool) -> tuple[Directed, list[End]]:
    """Two pairs are learned; the transaction of a third one is ended by a late EndTxn between its records and offsets.

    Parameters
    ----------
    then_kill
        Whether the worker is killed there; otherwise it goes on, and two more pairs follow.
    """
    landed: list[End] = []

    def on_request(kind: str, process: Any) -> None:
        if kind == "offsets" and not landed and holds_example(schedule):
            landed.append(end)
            land(schedule, end)
            if then_kill:
                schedule.kill("w1")

    def begin(schedule: Directed) -> bool:
        schedule.sim.on_request = on_request
        return schedule.give(*pairs(0, 3)) is None

    script = Steps(
        lambda s: s.owned("w1") == [0, 1] and s.give(*pairs(0, 1, 2)) is None,
        lambda s: at_rest(s, 2),
        begin,
        lambda s: bool(landed) and s.give(*pairs(0, 4, 5)) is None,
    )
    schedule = Directed("w1", script=script)
    return schedule, landed


def at_rest(schedule: Directed, examples: int) -> bool:
    """Whether so many examples are committed and no transaction is open."""
    return len(examples_at(schedule)) == examples and schedule.cluster.coordinator.find(WORKER).state == "complete"


def examples_at(schedule: Directed) -> list[Where]:
    """Where the committed examples stand."""
    return [(LOG, offset) for offset, entry in schedule.log() if decode_place(entry.value or b"") is not None]


def alarms(schedule: Directed) -> list[str]:
    """What the service itself says is wrong."""
    halted = [f"halted: {replica.halt.reason}" for replica in schedule.replicas if replica.halt is not None]
    dropped = [f"dropped {replica.dropped}" for replica in schedule.replicas if replica.dropped]
    return [*halted, *dropped, *(f"suspended {number}" for number in schedule.suspended)]


def unchecked() -> Any:
    """The service without the checks of sequence and trigger, in the fold and on taking up."""
    return mock.patch.multiple(SequenceTracker, check=lambda *_: "learn"), mock.patch.multiple(
        Ownership, _sequence_is_right=lambda *_: True
    )


def test_an_abort_that_lands_in_the_next_transaction_halts_learning() -> None:
    schedule, landed = schedule_with_late("abort", then_kill=False)
    schedule.run()
    assert landed == ["abort"]
    assert alarms(schedule) == ["halted: gap"]
    assert f"{(FEEDBACK, 0, 2)} has no end" in judged(schedule)


def test_a_commit_that_lands_in_the_next_transaction_of_a_worker_that_dies_then_parks_the_partition() -> None:
    schedule, landed = schedule_with_late("commit", then_kill=True)
    schedule.run()
    assert landed == ["commit"]
    assert alarms(schedule) == ["suspended 0"]
    assert not any("times" in finding for finding in judged(schedule)), (
        "suspended before anything is done a second time"
    )


def test_a_commit_that_lands_in_the_next_transaction_of_a_worker_that_goes_on_does_no_harm() -> None:
    schedule, landed = schedule_with_late("commit", then_kill=False)
    assert schedule.outcome() == []
    assert landed == ["commit"]


@pytest.mark.parametrize(("end", "then_kill"), [("abort", False), ("commit", True)])
def test_without_the_checks_nobody_would_notice(end: End, then_kill: bool) -> None:
    schedule, landed = schedule_with_late(end, then_kill=then_kill)
    judge, right = unchecked()
    with judge, right:
        schedule.run()
        found = judged(schedule)
    assert landed == [end]
    assert alarms(schedule) == []
    assert found != []


@pytest.mark.parametrize("seeds", brothers(*LATE_SEEDS), ids=str)
def test_examples_lost_or_repeated_in_random_schedules_never_pass_unnoticed(seeds: range) -> None:
    harmed = 0
    for seed in seeds:
        schedule = Schedule(plan_of(seed, late=True))
        schedule.run()
        if any(finding.startswith("log ") for finding in judged(schedule)):
            harmed += 1
            assert alarms(schedule), f"python -m tests.system.simulation --late --seed {seed}"
    assert harmed, "no schedule did any harm: the fault is gone"


def test_predictions_alone_are_lost_without_a_sign_in_the_sequence() -> None:
    """The limit of the check: a batch without an example has no sequence to miss. Only an audit sees its loss."""
    landed: list[str] = []

    def on_request(kind: str, process: Any) -> None:
        transaction = schedule.cluster.coordinator.find(WORKER)
        if (
            kind == "offsets"
            and not landed
            and transaction.state == "ongoing"
            and (PREDICTIONS, 0) in transaction.partitions
        ):
            landed.append(kind)
            land(schedule, "abort")

    script = Steps(
        lambda s: s.owned("w1") == [0, 1] and setattr(s.sim, "on_request", on_request) is None,
        lambda s: s.give(pairs(0, 1)[0]) is None,
        lambda s: bool(landed) and s.give(*pairs(0, 2, 3)) is None,
    )
    schedule = Directed("w1", script=script)
    found = schedule.outcome()
    assert found == [f"{(EVENTS, 0, 0)} has no end"]
    assert alarms(schedule) == []
