"""What a storm stands in: one broker or three, disks alone or an object store beside them; and how these fail."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from stream_ml.embedded.broker import EmbeddedKafka
from stream_ml.embedded.cluster import EmbeddedCluster
from tests.support.object_store import ObjectStore

STORE_FAILS = 0.25  # chance that the store goes away, or comes back, in a round
MACHINE_GOES = 0.5  # chance that a worker that is killed comes back on another machine, where there is a store


class Surroundings:
    """Started as a block; the service in it has its addresses from here.

    Parameters
    ----------
    nodes
        Brokers: 1, or 3 and more.
    store
        Whether checkpoints are kept in an object store too.
    """

    def __init__(self, folder: Path, seed: int, *, nodes: int = 1, store: bool = False) -> None:
        self._chance = random.Random(seed + 4)
        self.kafka = EmbeddedKafka(folder / "kafka") if nodes == 1 else EmbeddedCluster(folder / "kafka", nodes=nodes)
        self._store = ObjectStore(folder / "objects") if store else None
        self._store_runs = False
        self.without_node_s: list[float] = []
        self.new_machines = self.store_outages = 0

    def __enter__(self) -> Self:
        self.kafka.start()
        if self._store is not None:
            self._store.start()
            self._store_runs = True
        return self

    def __exit__(self, *_: object) -> None:
        self.kafka.stop()
        if self._store is not None:
            self._store.kill()

    # --- brokers ---

    def restart_brokers(self, timeout_s: float) -> None:
        """Stop each in order and start it again, one after the other."""
        for node in self.kafka.nodes if isinstance(self.kafka, EmbeddedCluster) else [self.kafka]:
            node.stop()
            node.start(timeout_s=timeout_s)

    def kill_broker(self, wait_moved: Callable[[], Any], timeout_s: float) -> None:
        """Kill one. Of several the others have to go on without it before it comes back."""
        if not isinstance(self.kafka, EmbeddedCluster):
            self.kafka.kill()
            self.kafka.start(timeout_s=timeout_s)
            return
        node, began_s = self._chance.choice(self.kafka.nodes), time.monotonic()
        node.kill()
        wait_moved()
        self.without_node_s.append(time.monotonic() - began_s)
        node.start(timeout_s=timeout_s)

    # --- disks and the store ---

    def checkpoints(self, instance: str) -> dict[str, Any]:
        """Settings of a worker: a disk of its own."""
        found: dict[str, Any] = {"directory": f"checkpoints-{instance}", "interval": "1s", "keep": 3}
        if self._store is not None:
            bucket = self._store.settings("storm", timeout="1s", wait="5s")
            found |= {"bucket": bucket, "key_file": "checkpoints.key"}
        return found

    def prepare(self, folder: Path) -> None:
        """What all workers share."""
        if self._store is not None:
            (folder / "checkpoints.key").write_text("storm" * 8, "ascii")

    def perhaps_new_machine(self, folder: Path) -> None:
        """The disk of a worker that has been killed may be gone with its machine."""
        if self._store is not None and self._chance.random() < MACHINE_GOES:
            shutil.rmtree(folder, ignore_errors=True)
            self.new_machines += 1

    def perhaps_store_fails(self) -> None:
        """The store goes away for a while."""
        if self._store is None or self._chance.random() >= STORE_FAILS:
            return
        if self._store_runs:
            self._store.kill()
            self.store_outages += 1
        else:
            self._store.start()
        self._store_runs = not self._store_runs

    @property
    def result(self) -> dict[str, Any]:
        """What it came to."""
        found: dict[str, Any] = {}
        if isinstance(self.kafka, EmbeddedCluster):
            worst = round(max(self.without_node_s, default=0.0), 1)
            found |= {"node_deaths": len(self.without_node_s), "longest_until_going_on_without_node_s": worst}
        if self._store is not None:
            found |= {"new_machines": self.new_machines, "store_outages": self.store_outages}
        return found
