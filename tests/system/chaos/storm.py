"""A storm: workers, brokers and disks fail while producers go on; then everything that stands in the topics is judged.

``python -m tests.system.chaos.storm --rounds 100 --seed 1``: the seed alone repeats the schedule. Ends with JSON.
"""

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from stream_ml.admin.models.log import ModelLog
from tests.support.service import Service, Worker, service, until
from tests.system.chaos import serving
from tests.system.chaos.answers_judged import judged
from tests.system.chaos.asking import Asking
from tests.system.chaos.hostile import PROTECTED, Hostile, compared, memory_mb
from tests.system.chaos.model_faults import OWN, ModelFaults
from tests.system.chaos.schedule import INSTANCES, WEIGHTS, Fault, schedule
from tests.system.chaos.surroundings import Surroundings
from tests.system.chaos.traffic import Traffic

PARTITIONS = 4
FENCED = "Static consumer fenced by other consumer"  # what Kafka says to one whose session it has ended
SESSION_S = 6.0  # the least that brokers allow by default
RECOVERY_MAX_S = 60.0  # until every partition has moved on; longer is a failure
REACH_MAX_S = 15.0  # for a fail point to be passed; counted where it is not
SAMPLE, SAMPLE_SERVED = 100, 100_000  # predictions that are derived again; of a storm with the API about all


class Storm:
    """One service in trouble."""

    def __init__(
        self, around: Surroundings, made: Service, seed: int, say: Callable[[str], None], recovery_max_s: float
    ) -> None:
        self._around, self._made, self._say, self._recovery_max_s = around, made, say, recovery_max_s
        self._chance = random.Random(seed + 1)
        self._models = ModelFaults(made, random.Random(seed + 2))
        self.workers: dict[str, Worker] = {}
        self.faults: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.unreached: Counter[str] = Counter()
        self.ended_by_themselves = 0
        self.recoveries_s: list[float] = []
        self.replicas: serving.Replicas | None = None
        self.asking: Asking | None = None

    def serve(self, seed: int) -> None:
        """Let replicas of the API answer from now on, and clients ask."""
        self.replicas = serving.Replicas(self._made, random.Random(seed + 3), self._say)
        for name in serving.PROCESSES:
            self.replicas.start(name)
        self._made.wait_for(self.replicas.ready, "the start of the API")
        self.asking = Asking(self.replicas.ports, seed)
        self.asking.start()

    def start(self, instance: str, fail: str = "") -> Worker:
        """A worker with a disk of its own."""
        checkpoints = self._around.checkpoints(instance)
        self.workers[instance] = self._made.start(instance, fail, checkpoints=checkpoints)
        return self.workers[instance]

    def round(self, number: int, fault: Fault) -> None:
        """Peace, then a fault, then the wait until every partition has moved on."""
        until(lambda: False, fault.peace_s)
        self._around.perhaps_store_fails()
        self._care()
        self.faults[fault.kind] += 1
        before = self._positions()
        if self.replicas is not None and fault.kind in serving.WEIGHTS:
            fault = fault._replace(instance=self.replicas.harm(fault.kind))
        else:
            getattr(self, "_" + fault.kind.replace("-", "_"))(fault)
        started, before, answered = time.monotonic(), self._positions() or before, self._answered
        going_on = lambda: self._moved(before) and (self.asking is None or self._answered > answered)  # noqa: E731
        self._made.wait_for(going_on, f"going on after {fault}", self._recovery_max_s)
        took_s = time.monotonic() - started
        self.recoveries_s.append(took_s)
        self._say(f"{number:4} {took_s:5.1f} s  {fault.kind:16} {fault.instance} {fault.detail}")

    # --- faults ---

    def _kill(self, fault: Fault) -> None:
        self._worker(fault.instance).kill()
        self.kills["anywhere"] += 1
        self._around.perhaps_new_machine(self._made.folder / f"checkpoints-{fault.instance}")
        self.start(fault.instance)

    def _kill_at(self, fault: Fault) -> None:
        place = fault.detail.partition(":")[0]
        self._worker(fault.instance).kill()
        worker = self.start(fault.instance, fault.detail)
        if place == "on-revoke":
            other = next(name for name in INSTANCES if name != fault.instance)
            self._worker(other).stop()
            until(lambda: worker.process.poll() is not None, SESSION_S)
            self.start(other)
        until(lambda: worker.process.poll() is not None, REACH_MAX_S)
        if worker.process.poll() is None:
            self.unreached[place] += 1
            worker.kill()
        else:
            self.kills[place] += 1
        self.start(fault.instance)

    def _raise_at(self, fault: Fault) -> None:
        self._worker(fault.instance).kill()
        worker = self.start(fault.instance, fault.detail)
        until(lambda: worker.process.poll() is not None, REACH_MAX_S)
        self.unreached[fault.detail.partition(":")[0]] += worker.process.poll() is None

    def _zombie(self, fault: Fault) -> None:
        worker = self._worker(fault.instance)
        worker.process.send_signal(signal.SIGSTOP)
        until(lambda: False, SESSION_S * 1.4)
        worker.process.send_signal(signal.SIGCONT)

    def _leave(self, fault: Fault) -> None:
        worker = self._worker(fault.instance)
        until(
            lambda: worker.joined or worker.process.poll() is not None, self._recovery_max_s
        )  # before that SIGTERM kills
        code = self._stopped(fault.instance)
        assert code == 0, (code, self.workers[fault.instance].log[-3000:])
        del self.workers[fault.instance]

    def _join(self, fault: Fault) -> None:
        free = [name for name in INSTANCES if name not in self.workers]
        if not free:  # all are here: one goes and comes back
            self._leave(fault)
        self.start(free[0] if free else fault.instance)

    def _broker_restarts(self, fault: Fault) -> None:
        self._around.restart_brokers(2 * self._recovery_max_s)

    def _broker_dies(self, fault: Fault) -> None:
        before = self._positions()
        wait_moved = lambda: self._made.wait_for(  # noqa: E731
            lambda: self._moved(before), "going on without a broker", self._recovery_max_s
        )
        self._around.kill_broker(wait_moved, 2 * self._recovery_max_s)

    def _disk_full(self, fault: Fault) -> None:
        self._worker(fault.instance).kill()
        self.start(fault.instance, "checkpoint-probed:full, checkpoint-written:full")

    def _bytes_flip(self, fault: Fault) -> None:
        self._worker(fault.instance).kill()
        files = sorted((self._made.folder / f"checkpoints-{fault.instance}").glob("*/*.ckpt"))
        if files:
            content = bytearray(files[-1].read_bytes())
            for _ in range(3):
                content[self._chance.randrange(len(content))] ^= 1 << self._chance.randrange(8)
            files[-1].write_bytes(content)
        self.start(fault.instance)

    def _declare(self, fault: Fault) -> None:
        self._say(f"     {self._models.declare()}")

    def _promote(self, fault: Fault) -> None:
        self._say(f"     {self._models.promote()}")

    def _retire(self, fault: Fault) -> None:
        self._say(f"     {self._models.retire()}")

    # --- looking ---

    def _worker(self, instance: str) -> Worker:
        return self.workers[instance] if instance in self.workers else self.start(instance)

    def _care(self) -> None:
        """What a supervisor does: a worker that ended is started again, and so is a replica of the API."""
        if self.replicas is not None:
            self.replicas.care()
        for instance, worker in list(self.workers.items()):
            code = worker.process.poll()
            if code is not None:
                self.ended_by_themselves += 1
                self._say(f"     {instance} ended with {code}: {worker.log.strip().rpartition(chr(10))[2][:400]}")
                assert code in (1, 69), worker.log[-3000:]
                self.start(instance)
        if len(self.workers) < 2:
            self._worker(next(name for name in INSTANCES if name not in self.workers))

    @property
    def _answered(self) -> int:
        return 0 if self.asking is None else self.asking.answered

    def _positions(self) -> dict[int, int]:
        try:
            return {pair.partition: pair.events or 0 for pair in self._made.observer.pairs()}
        except (KafkaException, RuntimeError):
            return {}

    def _moved(self, before: dict[int, int]) -> bool:
        self._care()
        now = self._positions()
        return len(now) == self._made.partitions and all(now[p] > before.get(p, 0) for p in now)

    def _stopped(self, instance: str) -> int:
        """The exit code of a worker that is told to stop. One that ended by itself just then is started once more.

        After an outage longer than its session Kafka fences it; it says so, and its supervisor would start it again.
        """
        worker = self.workers[instance]
        by_itself = worker.process.poll() in (1, 69)
        code = worker.stop()
        if by_itself or (code == 1 and FENCED in worker.log):
            self.ended_by_themselves += by_itself
            worker = self.start(instance)
            self._made.wait_for(lambda: worker.joined, "the start of one that was fenced")
            code = worker.stop()
        return code

    def silence(self) -> None:
        """Let clients come to their ends, then the API; what it has written stands in Kafka from then on."""
        if self.replicas is not None and self.asking is not None:
            self._made.wait_for(self.replicas.ready, "the API's processes", self._recovery_max_s)
            self.asking.stop()
            self.replicas.stop()

    def finish(self) -> dict[str, Any]:
        """All workers up, everything read, all stopped in order; then the judge, and every replica's model."""
        served, self.replicas = self.replicas, None
        self._care()
        for instance in INSTANCES:
            self._worker(instance)
        self._made.wait_for(self._all_read, "reading everything", 2 * self._recovery_max_s)
        self._made.wait_for(lambda: all(worker.joined for worker in self.workers.values()), "the start of all")
        self._models.own_again()
        self._made.wait_for(self._all_read, "reading everything", 2 * self._recovery_max_s)
        codes = {instance: self._stopped(instance) for instance in list(self.workers)}
        assert set(codes.values()) == {0}, (codes, self._made.logs())
        found = self._made.audited(sample=SAMPLE if served is None else SAMPLE_SERVED)
        models, own = {}, ModelLog(self._made.config).named(OWN).lineage
        for instance in INSTANCES:
            newest = max((self._made.folder / f"checkpoints-{instance}").glob(f"{own}/*.ckpt"))
            models[instance] = self._made.refold(int(newest.stem), instance)
        answers = {} if served is None or self.asking is None else self._judged(served, self.asking)
        return {"audit": found, "models": models, "answers": answers}

    def _judged(self, served: serving.Replicas, asking: Asking) -> dict[str, Any]:
        return {
            **judged(self._made, asking.events),
            "api_kills": dict(served.kills),
            "api_ended_by_themselves": served.ended_by_themselves,
            "api_started_too_soon": served.too_soon,
            "tried_again": dict(asking.refused),
            "failed_for_good": len(asking.failed_for_good),
            "failures": asking.failed_for_good[:10],
            "api_tracebacks": served.tracebacks[:10],
        }

    def close(self) -> None:
        """End the API whatever it does."""
        if self.replicas is not None:
            self.replicas.close()

    def _all_read(self) -> bool:
        self._care()
        return len(set(self._made.progress())) == 1


def storm(
    rounds: int,
    seed: int,
    folder: Path,
    say: Callable[[str], None],
    kinds: Sequence[str] = tuple(WEIGHTS),
    *,
    hostile: bool = False,
    serve: bool = False,
    nodes: int = 1,
    store: bool = False,
    partitions: int = PARTITIONS,
    commit_least: str = "0ms",
    recovery_max_s: float = RECOVERY_MAX_S,
) -> dict[str, Any]:
    """Run it; the result as printed.

    Parameters
    ----------
    hostile
        Beside producers that mean no good.
    serve
        Beside two replicas of the API that record what they answer, and fail as well.
    nodes, store
        As of `Surroundings`.
    """
    started, memory_max_mb = time.monotonic(), list[float]()
    with Surroundings(folder, seed, nodes=nodes, store=store) as around, contextlib.ExitStack() as stack:
        (folder / "app").mkdir()
        around.prepare(folder / "app")
        delivery = {"batch_max_records": 200, "session_timeout": f"{SESSION_S:.0f}s", "commit_least": commit_least}
        changes: dict[str, Any] = {"delivery": delivery}
        changes |= PROTECTED if hostile else {}
        if serve:
            changes["serve"] = serving.SETTINGS
            (folder / "app" / "answers.key").write_text(serving.KEY, "utf-8")
        with service(folder / "app", around.kafka.bootstrap_servers, "storm", partitions=partitions, **changes) as made:
            tumult = Storm(around, made, seed, say, recovery_max_s)
            stack.callback(tumult.close)
            traffic, flood = (
                Traffic(made, seed, as_it_happens=hostile or serve),
                Hostile(made, seed) if hostile else None,
            )
            tumult.start("w1")
            tumult.start("w2")
            traffic.start()
            if flood is not None:
                flood.start()
            if serve:
                tumult.serve(seed)
            faults = schedule(seed, rounds, kinds)
            for number, fault in enumerate(faults, 1):
                tumult.round(number, fault)
                memory = [memory_mb(worker.process.pid) for worker in tumult.workers.values() if worker.joined]
                memory_max_mb.append(max(memory, default=0.0))
            if flood is not None:
                flood.stop()
            tumult.silence()
            traffic.stop()
            result = tumult.finish()
            unspoilt = compared(made, made.with_hash_seed()) if hostile else {}
    audit, models, half = result["audit"], result["models"], max(1, len(memory_max_mb) // 2)
    return {
        "rounds": sum(tumult.faults.values()),
        "seed": seed,
        "faults": dict(tumult.faults),
        "kills": dict(tumult.kills),
        "places_not_reached": dict(+tumult.unreached),
        "ended_by_themselves": tumult.ended_by_themselves,
        "events": audit["events"],
        "predictions": audit["predictions"],
        "examples": audit["examples"],
        "outcomes": audit["outcomes"],
        "dead_letters": audit["dead_letters"],
        "lost": audit["counts"].get("lost", 0) + audit["unread"],
        "duplicated": audit["counts"].get("repeated", 0) + audit["counts"].get("sequence", 0),
        "findings": audit["findings"][:20],
        "waiting": len(audit["waiting"]),
        "rescored": audit["rescored"]["checked"],
        "models_identical": all(m["equal"] and m["quality_equal"] and not m["dropped"] for m in models.values()),
        "positions": {instance: m["checkpoint_position"] for instance, m in models.items()},
        **({"hostile": {**unspoilt, "sent": flood.sent}} if flood is not None else {}),
        **result["answers"],
        **around.result,
        "memory_mb": [round(max(memory_max_mb[:half]), 1), round(max(memory_max_mb[half:]), 1)],
        "worst_recovery_s": round(max(tumult.recoveries_s, default=0.0), 1),
        "seconds": round(time.monotonic() - started, 1),
    }


def passed(result: dict[str, Any], rounds: int) -> bool:
    """Whether a storm left nothing wrong."""
    whole = result["rounds"] == rounds and result["models_identical"]
    if "hostile" in result:
        whole = whole and abs(result["hostile"]["auc"] - result["hostile"]["auc_without"]) < 0.01
    if "answered" in result:
        whole = whole and not result["contradictions"] and not result["failed_for_good"] and result["answered"] > 0
        whole = whole and not result["api_tracebacks"]
    return whole and not result["findings"] and not result["lost"] and not result["duplicated"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--hostile", action="store_true", help="beside producers that mean no good")
    arguments.add_argument("--serve", action="store_true", help="beside replicas of the API, which fail as well")
    arguments.add_argument("--nodes", type=int, default=1, help="brokers: 1, or 3 and more")
    arguments.add_argument("--store", choices=["s3"], help="checkpoints in an object store too, which fails as well")
    every = [*WEIGHTS, *serving.WEIGHTS]
    arguments.add_argument("--only", nargs="*", choices=every, help="kinds of faults (default: all there are)")
    arguments.add_argument("--partitions", type=int, default=PARTITIONS)
    arguments.add_argument("--commit-least", default="0ms", help="delivery.commit_least of the workers")
    least = "longest recovery that is no failure, in seconds; more on a machine that does much else"
    arguments.add_argument("--recovery-max", type=float, default=RECOVERY_MAX_S, help=f"{least} (default: %(default)s)")
    given = arguments.parse_args()
    kinds = given.only or (every if given.serve else tuple(WEIGHTS))
    folder = Path(tempfile.mkdtemp(prefix="stream-ml-storm-"))
    try:
        result = storm(
            *(given.rounds, given.seed, folder, lambda line: print(line, file=sys.stderr, flush=True), kinds),
            hostile=given.hostile,
            serve=given.serve,
            nodes=given.nodes,
            store=given.store == "s3",
            partitions=given.partitions,
            commit_least=given.commit_least,
            recovery_max_s=given.recovery_max,
        )
    except BaseException:
        print(f"topics, logs and checkpoints are in {folder}", file=sys.stderr)
        raise
    print(json.dumps(result))
    if not passed(result, given.rounds):
        sys.exit(f"topics, logs and checkpoints are in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
