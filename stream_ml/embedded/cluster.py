"""Several embedded Kafkas that are one: each record on three, written once two have it; for tests and trials.

Each node is a broker and a controller in a folder of its own. One may be stopped, killed and started again while the
others go on: `nodes`. Memory: about 250 MB each.
"""

import base64
import threading
import uuid
from pathlib import Path
from typing import Self

from stream_ml.embedded.broker import EmbeddedKafka, free_port
from stream_ml.errors import ConfigError, FatalError

REPLICAS, IN_SYNC = 3, 2
_SETTINGS = """\
node.id={number}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
unclean.leader.election.enable=false
initial.broker.registration.timeout.ms=180000
"""
"""A broker gives up after its last setting: Kafka's 60 s are not enough where three start on a busy machine."""


class EmbeddedCluster:
    """Brokers on 127.0.0.1, their state in `directory`; not for use by several threads.

    Parameters
    ----------
    nodes
        Three or more.
    port
        Of the first node, the others follow; 0: free ones.
    settings
        More lines of each server.properties, as of `EmbeddedKafka`.

    Attributes
    ----------
    nodes
        Each an `EmbeddedKafka`, which keeps its port.
    """

    def __init__(
        self, directory: Path, *, nodes: int = REPLICAS, port: int = 0, heap: str = "384m", settings: str = ""
    ) -> None:
        if nodes < REPLICAS:
            raise ConfigError(f"a cluster has {REPLICAS} nodes at least, not {nodes}", "or one: a single broker")
        taken: list[int] = []
        while len(taken) < 2 * nodes:
            found = free_port()
            if found not in taken:
                taken.append(found)
        ports = [port + number for number in range(nodes)] if port else taken[:nodes]
        controllers = taken[nodes:]
        voters = ",".join(f"{number}@127.0.0.1:{where}" for number, where in enumerate(controllers, 1))
        cluster_id = _cluster_id(directory)
        self.nodes = [
            EmbeddedKafka(
                directory / f"node-{number}",
                port=own,
                heap=heap,
                settings=_SETTINGS.format(
                    number=number,
                    voters=voters,
                    port=own,
                    controller=controller,
                    replicas=REPLICAS,
                    in_sync=IN_SYNC,
                )
                + settings,
                cluster_id=cluster_id,
            )
            for number, (own, controller) in enumerate(zip(ports, controllers, strict=True), 1)
        ]
        self.bootstrap_servers = ",".join(node.bootstrap_servers for node in self.nodes)

    def start(self, *, timeout_s: float = 90.0) -> None:
        """Start all at once, for none serves alone; errors as of `EmbeddedKafka.start`, after which none runs."""
        failed: list[BaseException] = []

        def begin(node: EmbeddedKafka) -> None:
            try:
                node.start(timeout_s=timeout_s)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=begin, args=(node,), daemon=True) for node in self.nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            self.stop()
            raise failed[0]

    def stop(self) -> None:
        """Stop all in order; the last ones alone cannot hand over, and are killed after a moment."""
        for node in self.nodes:
            node.stop(timeout_s=5.0)

    def kill(self) -> None:
        """End all as a crash would."""
        for node in self.nodes:
            node.kill()

    def wait(self) -> None:
        """Stay until one ends by itself, which it does for a reason: FatalError."""
        ended = threading.Event()
        words: list[FatalError] = []

        def look(node: EmbeddedKafka) -> None:
            try:
                node.wait()
            except FatalError as error:
                words.append(error)
            ended.set()

        for node in self.nodes:
            threading.Thread(target=look, args=(node,), daemon=True).start()
        while not ended.wait(0.5):
            pass
        raise words[0]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _cluster_id(directory: Path) -> str:
    """Of the nodes in a folder, the same at every start."""
    file = directory / "cluster.id"
    if not file.exists():
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="), "ascii")
    return file.read_text("ascii")
