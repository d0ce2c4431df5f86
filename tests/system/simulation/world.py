"""What happens around the workers: records come, faults happen, a supervisor starts anew what ended, all calms down."""

import pickle
from typing import Any, NamedTuple

from stream_ml.errors import StreamMLError
from stream_ml.kafka.errors import reaching
from stream_ml.worker.loop import Worker
from tests.system.simulation.app import (
    EVENTS,
    FACTS,
    FEEDBACK,
    LOG,
    PARTITIONS,
    TOPICS,
    Counts,
    lineage,
    parts_of,
    simulated,
)
from tests.system.simulation.cluster import Cluster
from tests.system.simulation.groups import Group
from tests.system.simulation.logs import Entry
from tests.system.simulation.plan import REFUSED_BY_KAFKA, Input, Plan
from tests.system.simulation.scheduler import EPOCH_MS, Process, Simulation

SESSION_S = 10.0
LOOK_EVERY = 8  # steps between two looks of the supervisor, and at whether all is done
RESTARTS_MAX = 40


class Replica(NamedTuple):
    """What a worker's replica was when it ended."""

    name: str
    position: int
    bits: list[tuple[str, ...]]
    halt: Any
    dropped: int


class Schedule:
    """One run of a plan."""

    def __init__(self, plan: Plan, *, tracing: bool = False) -> None:
        self.plan = plan
        self.sim = sim = Simulation(plan.seed, tracing=tracing)
        group = Group(PARTITIONS, SESSION_S, sim.note)
        self.cluster = sim.cluster = Cluster(TOPICS, group, lambda: EPOCH_MS + int(sim.now_s * 1000), sim.note)
        self.cluster.too_large = REFUSED_BY_KAFKA
        sim.world = self
        self.given: dict[tuple[str, int, int], Input] = {}
        self.replicas: list[Replica] = []
        self.suspended: dict[int, str] = {}
        self.fatal: list[str] = []
        self.checkpoints = self.cluster.checkpoints = {}
        self._inputs = list(reversed(plan.inputs))
        self._faults = list(reversed(plan.faults))
        self._starts: list[tuple[float, str]] = [(0.0, "w1"), (0.5, "w2")]
        self._wanted = {"w1", "w2"}
        self._restarts = 0
        self._calm = self._closing = False
        self._tracing = tracing
        self.configured: dict[str, Any] = {}  # sections of the configuration that a test sets
        self.build: Any = None  # another model

    def run(self) -> None:
        """Run to the end; `sim.failures` tells what should not have happened."""
        with simulated(self.sim, tracing=self._tracing):
            try:
                self.sim.run()
            finally:
                self.sim.abandon()
        coordinator = self.cluster.coordinator
        while unmarked := list(coordinator.unmarked()):  # the last commit's markers come, whoever is still there
            coordinator.write(*unmarked[0])

    # --- one worker ---

    def _body(self, process: Process) -> None:
        instance = process.name.split(".")[0]
        plan = self.plan
        parts = parts_of(instance, batch=plan.batch, membership=plan.membership, pending_max=plan.pending_max)
        parts = parts._replace(config=parts.config.model_copy(update=self.configured), build=self.build or parts.build)
        self.sim.note("starts")
        try:
            with reaching(parts.config):
                process.worker = worker = Worker(parts, FACTS, Counts(), lambda: process.stopping)  # type: ignore[arg-type]
                worker.start()
                try:
                    worker.run()
                except Exception:
                    worker.close()
                    raise
                worker.close()
            self.sim.note("stopped")
        except StreamMLError as error:
            self.sim.note(f"ends: {type(error).__name__}: {error}")
            self.fatal.append(f"{type(error).__name__}: {error}")
            if error.exit_code == 78:
                raise
        finally:
            self._remember(process)

    def _remember(self, process: Process) -> None:
        if process.worker is None:
            return
        follower = process.worker.follower
        if not any(replica.models for replica in follower.lineup.replicas):
            return  # it was stopped before it had one
        model, dropped = follower.serving.model, follower.book.dropped
        if follower.halt is None:
            self.replicas.append(Replica(process.name, model.position, model.probe_bits(), None, dropped))
        else:
            self.replicas.append(Replica(process.name, -1, [], follower.halt, dropped))
        self.suspended |= process.worker.ownership.suspended

    def _start(self, instance: str) -> None:
        self._restarts += 1
        number = self._restarts
        self.sim.processes.append(Process(f"{instance}.{number}", self._body, self.sim))

    # --- a step of the world ---

    def step(self) -> None:
        """Records, faults, starts."""
        sim = self.sim
        if self._inputs and sim.rng.random() < self.plan.haste:
            for _ in range(sim.rng.choice((1, 1, 2, 6))):
                if self._inputs:
                    self._produce(self._inputs.pop())
        if self._faults and (self._faults[-1][0] <= len(self.given) or not self._inputs) and sim.rng.random() < 0.1:
            self._fault(self._faults.pop()[1])
        if sim.steps % LOOK_EVERY == 0:
            self._supervise()
        if not self._calm and not self._inputs and not self._faults:
            self._calm = True
            sim.note("all calm from here")

    def _produce(self, record: Input) -> None:
        offset = self.cluster.put(record.topic, record.partition, record.key, record.value)
        self.given[record.topic, record.partition, offset] = record
        self.sim.note(f"{record.topic} [{record.partition}] {offset}: {record.event_id} at {record.time_ms}")

    def _supervise(self) -> None:
        now_s, alive = self.sim.now_s, {p.name.split(".")[0] for p in self.sim.processes if not p.doomed}
        for at_s, instance in [start for start in self._starts if start[0] <= now_s]:
            self._starts.remove((at_s, instance))
            if self._closing or instance not in self._wanted or instance in alive:
                continue
            if self._restarts < RESTARTS_MAX:
                self._start(instance)
        if not self._closing:
            due = {instance for _, instance in self._starts}
            for instance in sorted(self._wanted - alive - due):
                self._starts.append((now_s + self.sim.rng.choice((0.1, 1.0, 5.0, 15.0)), instance))

    # --- faults ---

    def _fault(self, kind: str) -> None:
        sim, rng = self.sim, self.sim.rng
        running = [p for p in sim.processes if not p.doomed and not p.frozen]
        if kind == "add":
            self._wanted.add("w3")
        elif kind in ("kill", "freeze", "replace", "remove"):
            if running:
                self._strike(kind, running[rng.randrange(len(running))])
            return
        else:
            sim.armed_faults.append(kind)
        sim.note(f"fault to come: {kind}")

    def _strike(self, kind: str, process: Process) -> None:
        sim = self.sim
        sim.note(f"fault: {kind} {process.name}")
        if kind == "kill":
            process.doomed = True
            process.wake_s = process.frozen_until_s = sim.now_s
        elif kind == "freeze":
            process.frozen_until_s = sim.now_s + sim.rng.choice((3.0, 11.0, 12.0, 25.0))
        elif kind == "replace":
            process.frozen_until_s = sim.now_s + sim.rng.choice((1.0, 5.0, 15.0))
            self._start(process.name.split(".")[0])
        elif kind == "remove" and len(self._wanted) > 1:
            instance = process.name.split(".")[0]
            self._wanted.discard(instance)
            process.stopping = True
            if sim.rng.random() < 0.5:
                self._wanted.add(instance)

    # --- the end ---

    def at_rest(self) -> bool:
        """Whether everything is over."""
        sim = self.sim
        if self._closing:
            return not sim.processes
        if self._calm and sim.steps % LOOK_EVERY == 0 and (self._quiet() or self._restarts >= RESTARTS_MAX):
            sim.note("at rest; the workers are stopped")
            self._closing = True
            for process in sim.processes:
                process.stopping = True
        return False

    def _quiet(self) -> bool:
        cluster, group = self.cluster, self.cluster.group
        running = [p for p in self.sim.processes if not p.doomed and not p.frozen and p.worker is not None]
        if len(running) < len(self.sim.processes) or not running or not group.stable or self._starts:
            return False
        if group.pending or any(t.state in ("ongoing", "preparing") for t in cluster.coordinator.transactions.values()):
            return False
        owned = [number for p in running for number in (*p.worker.ownership.owned, *p.worker.ownership.suspended)]
        if sorted(owned) != list(range(PARTITIONS)):
            return False
        suspended = {number for p in running for number in p.worker.ownership.suspended}
        for number in range(PARTITIONS):
            for topic in (EVENTS, FEEDBACK):
                stored = group.committed.get((topic, number))
                end = cluster.logs[topic, number].end
                if number not in suspended and end and (stored is None or stored.offset != end):
                    return False
        last = max((offset for offset, _ in self.log()), default=-1)
        return all(p.worker.follower.replica.read_position == last + 1 for p in running)

    def checkpoint_bits(self) -> list[tuple[int, Any]]:
        """Positions and probes of the checkpoints that were kept."""
        files = self.checkpoints.get(lineage(), {})
        return [(position, pickle.loads(kept)["probe_bits"]) for position, (_, kept) in files.items()]

    def log(self) -> list[tuple[int, Entry]]:
        """Committed entries of the training log."""
        return self.cluster.logs[LOG, 0].committed()
