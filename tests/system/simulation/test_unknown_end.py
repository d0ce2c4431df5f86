"""A transaction that holds records and moves no offset, ended nobody knows how: equal offsets prove nothing there."""

from tests.system.simulation.app import EVENTS, FEEDBACK, OUTCOMES
from tests.system.simulation.directed import Directed, Steps, event, label


def committed_to(schedule: Directed, events: int, feedback: int) -> bool:
    """Whether partition 0 is committed up to these offsets, and no orphan has its outcome yet."""
    stored = schedule.cluster.group.committed
    found = [stored[topic, 0].offset if (topic, 0) in stored else 0 for topic in (EVENTS, FEEDBACK)]
    return found == [events, feedback] and not schedule.committed(OUTCOMES)


def test_a_lost_commit_of_outcomes_alone_is_done_again() -> None:
    """Time passes a label by when the inputs have been at their end for a while: no record is consumed for it."""
    lost: list[str] = []

    def lose_the_next_end(schedule: Directed) -> bool:
        if committed_to(schedule, 1, 2):
            schedule.sim.armed_faults.append("end lost")
            lost.append("armed")
        return bool(lost)

    script = Steps(
        lambda s: s.owned("w1") == [0, 1] and s.give(label(0, 1)) is None,
        lambda s: committed_to(s, 0, 1) and s.give(event(0, 100), label(0, 2)) is None,
        lose_the_next_end,
        lambda s: "end lost" not in s.sim.armed_faults and len(s.committed(OUTCOMES)) == 2,
    )
    schedule = Directed("w1", script=script)
    assert schedule.outcome() == []
    assert [said for said in schedule.sim.trace if "fault: end lost" in said]
