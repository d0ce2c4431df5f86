"""Schedules written by hand: the same cluster and workers, records given, and something done at one request."""

from collections.abc import Callable
from typing import Any

from tests.system.simulation.app import EVENTS, FEEDBACK, T0, encoded
from tests.system.simulation.judge import judged
from tests.system.simulation.plan import Input, Plan
from tests.system.simulation.scheduler import Process
from tests.system.simulation.world import Schedule


def event(partition: int, number: int) -> Input:
    """Event number so much; they lie a minute apart."""
    event_id, time_ms = f"e{number}", T0 + number * 60_000
    value = encoded(EVENTS, id=event_id, t=time_ms, x=float(number))
    return Input(EVENTS, partition, event_id.encode(), value, event_id, time_ms, float(number))


def label(partition: int, number: int) -> Input:
    """Its label, half a minute later."""
    event_id, time_ms = f"e{number}", T0 + number * 60_000 + 30_000
    value = encoded(FEEDBACK, id=event_id, t=time_ms, y=number % 2 == 0)
    return Input(FEEDBACK, partition, event_id.encode(), value, event_id, time_ms)


def pairs(partition: int, *numbers: int) -> list[Input]:
    """Events, each followed by its label."""
    return [record for number in numbers for record in (event(partition, number), label(partition, number))]


class Directed(Schedule):
    """A schedule whose workers, records and disturbances a test gives, step by step.

    Parameters
    ----------
    script
        Called at each step of the world; true once it has nothing more to do.
    """

    def __init__(
        self,
        *workers: str,
        script: Callable[["Directed"], bool],
        seed: int = 1,
        membership: str = "static",
        batch: int = 4,
    ) -> None:
        super().__init__(Plan(seed, membership, batch, None, [], [], 0.0), tracing=True)
        self._starts = [(0.0, name) for name in workers]
        self._wanted = set(workers)
        self._script = script

    def step(self) -> None:
        """The script's next part, and the supervisor."""
        self._calm = self._script(self) and not self.sim.armed_faults
        self._supervise()

    def give(self, *records: Input) -> None:
        """Produce these now."""
        for record in records:
            self._produce(record)

    def process(self, instance: str) -> Process:
        """The process that runs as this instance."""
        return next(p for p in self.sim.processes if p.name.startswith(f"{instance}.") and not p.doomed)

    def owned(self, instance: str) -> list[int]:
        """Partitions that it owns."""
        found = [p for p in self.sim.processes if p.name.startswith(f"{instance}.") and p.worker and not p.doomed]
        return sorted(found[0].worker.ownership.owned) if found else []

    def shared(self) -> bool:
        """Whether two workers own a partition each."""
        return sorted(self.owned("w1") + self.owned("w2")) == [0, 1] and len(self.owned("w1")) == 1

    def kill(self, instance: str, *, for_good: bool = False) -> None:
        """End its process; its supervisor starts another one, unless it is for good."""
        if for_good:
            self._wanted.discard(instance)
        self._strike("kill", self.process(instance))

    def add(self, instance: str) -> None:
        """One more worker."""
        self._wanted.add(instance)
        self._starts.append((self.sim.now_s, instance))

    def outcome(self) -> list[str]:
        """Run; what is wrong in the end."""
        self.run()
        return judged(self)

    def committed(self, topic: str) -> list[Any]:
        """What a read_committed reader sees of all partitions of a topic."""
        return [entry for (name, _), log in self.cluster.logs.items() if name == topic for entry in log.committed()]


class Steps:
    """A script of parts, each waited for: a part is done when it returns true."""

    def __init__(self, *parts: Callable[[Directed], Any]) -> None:
        self.parts = list(parts)

    def __call__(self, schedule: Directed) -> bool:
        if self.parts and self.parts[0](schedule):
            self.parts.pop(0)
        return not self.parts
