"""When a worker says that it is ready: who restarts workers one after the other waits for it."""

from tests.system.simulation.directed import Directed, Steps


def test_a_worker_that_comes_is_not_ready_while_others_give_up_its_share() -> None:
    """The group gives it nothing in its first round: who would stop the next one then would leave nobody to answer."""
    seen: list[tuple[bool, list[int]]] = []

    def look(schedule: Directed) -> None:
        processes = [p for p in schedule.sim.processes if p.name.startswith("w2.") and p.worker and not p.doomed]
        if processes:
            reasons = processes[0].worker.report._maker._reasons()  # its status is renewed each second only
            seen.append((not reasons, schedule.owned("w2")))

    def both(schedule: Directed) -> bool:
        look(schedule)
        return schedule.shared()

    script = Steps(lambda s: s.owned("w1") == [0, 1], lambda s: s.add("w2") is None, both)
    assert Directed("w1", script=script).outcome() == []
    assert len(seen) > 5
    assert [owned for ready, owned in seen if ready and not owned] == []
