"""One clock, one source of randomness, one baton: of all processes, only the one that holds it runs.

Whoever holds the baton decides at its next call, by the seed alone, who goes on. Nothing else in a schedule depends
on threads, on the host's clock or on chance.
"""

import random
import threading
import traceback
from collections.abc import Callable
from typing import Any, Protocol

STEPS_MAX = 30_000
CHECK_S = 0.5  # between two looks at session and transaction timeouts
EPOCH_MS = 1_700_000_000_000


class Killed(BaseException):
    """The process ends here, at this call, and does nothing more."""


class Stuck(Exception):
    """The schedule does not come to rest."""


class Process:
    """A process that takes part: a thread and what the scheduler knows of it."""

    def __init__(self, name: str, body: Callable[["Process"], None], sim: "Simulation") -> None:
        self.name = name
        self.baton = threading.Lock()
        self.baton.acquire()
        self.wake_s = sim.now_s
        self.frozen_until_s = -1.0
        self.doomed = self.dead = self.ended = self.stopping = False
        self.memberships: list[Any] = []
        self.worker: Any = None
        self._sim, self._body = sim, body
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.baton.acquire()
        try:
            self._sim.check(self)
            self._body(self)
        except Killed:
            self._sim.note("killed")
        except BaseException:  # the judge tells it
            self._sim.failures.append(f"{self.name}: {traceback.format_exc()}")
        self.ended = self.dead = True
        self.memberships.clear()
        self._sim.leave(self)

    @property
    def frozen(self) -> bool:
        """Whether it is paused, its background threads included."""
        return self.frozen_until_s > self._sim.now_s


class World(Protocol):
    """What happens outside the processes."""

    def step(self) -> None:
        """Something, perhaps."""

    def at_rest(self) -> bool:
        """Whether the schedule is over."""


class Simulation:
    """The clock, the baton, and who may hold it."""

    def __init__(self, seed: int, *, tracing: bool = False) -> None:
        self.rng = random.Random(seed)
        self.now_s = 0.0
        self.steps = 0
        self.cluster: Any = None
        self.world: World | None = None
        self.processes: list[Process] = []
        self.failures: list[str] = []
        self.trace: list[str] = []
        self.armed_faults: list[str] = []
        self.on_request: Callable[[str, Any], None] = lambda kind, process: None
        self.withheld: Callable[[Any, Any], bool] = lambda transaction, where: False
        self._tracing = tracing
        self._over = False
        self._later: list[tuple[int, Callable[[], None]]] = []
        self._checked_s = 0.0
        self._main = threading.Lock()
        self._main.acquire()
        self._outside: Any = _Outside()
        self.current: Any = self._outside

    # --- the baton ---

    def run(self) -> None:
        """Run the processes until the world is at rest; raises Stuck where that never comes."""
        self._hand_over()
        self._main.acquire()
        self.current = self._outside
        if self.steps >= STEPS_MAX:
            raise Stuck(f"not at rest after {STEPS_MAX} steps, {self.now_s:.0f} s")

    def request(self, kind: str, process: Process) -> None:
        """A request begins. A directed test does something at this point by setting `on_request`."""
        self.on_request(kind, process)
        self.pause(process)

    def freeze(self, process: Process, seconds: float) -> None:
        """The process that runs stands still for so long, as after SIGSTOP."""
        self.note(f"stands still for {seconds:.0f} s")
        process.frozen_until_s = self.now_s + seconds
        self._switch(process)

    def pause(self, process: Process, chance: float = 0.4) -> None:
        """A call of this process begins or ends: perhaps another one goes on."""
        if process is self._outside:
            self._outside_step()
            return
        if process.dead:
            raise Killed
        if self.rng.random() < chance:
            self._switch(process)

    def idle(self, process: Process, wait_s: float) -> None:
        """Wait so long; as the operating system does, perhaps for longer."""
        if process is self._outside:
            self._outside_step()
            self.now_s += wait_s
            return
        process.wake_s = self.now_s + wait_s + self.rng.choice(_OVERSLEPT_S)
        self._switch(process)

    def wait(self, process: Process, timeout_s: float, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; False when the time was over first."""
        deadline = self.now_s + timeout_s
        while not condition():
            if self.now_s >= deadline:
                return False
            self.idle(process, min(0.05, deadline - self.now_s))
        return True

    def _switch(self, process: Process) -> None:
        chosen = self._step()
        if chosen is not process:
            self._pass(chosen)
            process.baton.acquire()
            self.current = process
        self.check(process)
        for membership in process.memberships:
            if self.rng.random() < 0.5:
                membership.heartbeat()

    def check(self, process: Process) -> None:
        """Kill the process that goes on, where it is to die."""
        self.current = process
        if process.doomed:
            process.dead = True
            raise Killed

    def leave(self, process: Process) -> None:
        """A process has ended."""
        self.processes.remove(process)
        if not self._over:
            self._hand_over()

    def abandon(self) -> None:
        """End the processes that are left, one after another."""
        self._over = True
        for process in list(self.processes):
            process.doomed = True
            process.baton.release()
            process.thread.join(5)
        self.current = self._outside

    def _hand_over(self) -> None:
        try:
            self._pass(self._step())
        except BaseException:  # a fault of the simulation itself must not hang it
            self.failures.append(f"simulation: {traceback.format_exc()}")
            self._main.release()

    def _pass(self, chosen: Process | None) -> None:
        if chosen is None:
            self._main.release()
        else:
            chosen.baton.release()

    # --- a step ---

    def _step(self) -> Process | None:
        """Let the world go on, then choose; None when all is over."""
        self.steps += 1
        assert self.world is not None
        if self.steps >= STEPS_MAX:
            return None
        self.now_s += self.rng.random() ** 4 * 0.05
        self._go_on()
        self.world.step()
        while True:
            if self.world.at_rest():
                return None
            ready = [p for p in self.processes if max(p.wake_s, p.frozen_until_s) <= self.now_s]
            if ready:
                return ready[self.rng.randrange(len(ready))] if len(ready) > 1 else ready[0]
            self.steps += 1
            if self.steps >= STEPS_MAX:
                return None
            self._sleep()
            self._go_on()
            self.world.step()

    def _sleep(self) -> None:
        """Nobody can go on: it gets later."""
        wakes = [max(p.wake_s, p.frozen_until_s) for p in self.processes]
        self.now_s = max(self.now_s, min([*wakes, self.now_s + 1.0]))

    def _go_on(self) -> None:
        coordinator = self.cluster.coordinator
        markers = [found for found in coordinator.unmarked() if not self.withheld(*found)]
        if markers and self.rng.random() < 0.7:
            coordinator.write(*markers[self.rng.randrange(len(markers))])
        if self._later and self._later[0][0] <= self.steps:
            due = [action for step, action in self._later if step <= self.steps]
            del self._later[: len(due)]
            for action in due:
                action()
        if self.now_s - self._checked_s >= CHECK_S:
            self._checked_s = self.now_s
            for process in self.processes:
                if not process.frozen and not process.doomed:
                    for membership in process.memberships:
                        self.cluster.group.heard(membership.name, self.now_s)
            self.cluster.group.expire(self.now_s)
            coordinator.expire(self.now_s)

    def _outside_step(self) -> None:
        self.now_s += 0.001
        for _ in range(len(self.cluster.coordinator.unmarked())):
            self._go_on()

    def later(self, action: Callable[[], None]) -> None:
        """Let this happen some steps from now."""
        self._later.append((self.steps + self.rng.randint(1, 60), action))
        self._later.sort(key=lambda item: item[0])

    def once(self, condition: Callable[[], bool], action: Callable[[], None]) -> None:
        """Let this happen at some step at which the condition holds, if there is one."""

        def look() -> None:
            if condition() and self.rng.random() < 0.3:
                action()
            else:
                self.once(condition, action)

        self._later.append((self.steps + 1, look))
        self._later.sort(key=lambda item: item[0])

    # --- faults of requests ---

    def armed(self, kind: str) -> bool:
        """Whether this request is to fail; each fault happens once."""
        if kind not in self.armed_faults:
            return False
        self.armed_faults.remove(kind)
        self.note(f"fault: {kind}")
        return True

    def armed_end(self) -> str:
        """What is to happen to this EndTxn; empty for nothing."""
        kind = next((kind for kind in self.armed_faults if kind.startswith("end ")), "")
        if kind:
            self.armed(kind)
        return kind.removeprefix("end ")

    # --- the trace ---

    def note(self, text: str) -> None:
        """A line of the trace."""
        if self._tracing:
            self.trace.append(f"{self.steps:6d} {self.now_s:9.3f} {self.current.name:>8}  {text}")


class _Outside:
    """Who calls while no process runs: the judge."""

    name = "world"
    dead = frozen = False

    def __init__(self) -> None:
        self.memberships: list[Any] = []


_OVERSLEPT_S = (0.0, 0.0, 0.0, 0.05, 0.3, 1.0)
_active: list[Simulation] = []


def simulation() -> Simulation:
    """The simulation that runs now."""
    return _active[-1]


def activate(sim: Simulation | None) -> None:
    """Make this the simulation that runs; None: no more."""
    _active.clear()
    if sim is not None:
        _active.append(sim)


class SimulatedTime:
    """Takes the place of the module `time`."""

    @staticmethod
    def monotonic() -> float:
        return simulation().now_s

    @staticmethod
    def monotonic_ns() -> int:
        return int(simulation().now_s * 1e9)

    @staticmethod
    def time() -> float:
        return EPOCH_MS / 1000 + simulation().now_s

    @staticmethod
    def time_ns() -> int:
        return EPOCH_MS * 1_000_000 + int(simulation().now_s * 1e9)

    @staticmethod
    def sleep(seconds: float) -> None:
        sim = simulation()
        sim.idle(sim.current, seconds)
