"""A broker of three dies: how long partitions stand still, and how much of that is this service's.

Run it as ``python -m benchmarks.broker_death [ROUNDS]``. Beside a worker under steady load stands a bare transactional
producer of librdkafka that does what no service can do without: one transaction after another over as many partitions.
Each round kills another node, watches for WATCH_S, and starts it again. Seconds by the times at which brokers wrote:
the longest that a partition of predictions stood still, and the longest that one of the bare producer's did. JSON in
the end; `ours` is the difference of the medians.
"""

import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from stream_ml.embedded.broker import free_port
from stream_ml.embedded.cluster import EmbeddedCluster
from tests.support.service import service, under_load

PARTITIONS, PER_S = 4, 100
STEADY_S, WATCH_S, BACK_S = 6.0, 25.0, 12.0
BARE = "bare"
SERVICE = {"acks": "all", "linger.ms": 2, "log_level": 0}


class Bare(threading.Thread):
    """One transaction after another, each with a record in every partition."""

    def __init__(self, servers: str) -> None:
        super().__init__(daemon=True)
        self._servers, self.ended = servers, threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            producer = Producer(
                {
                    "bootstrap.servers": self._servers,
                    "transactional.id": BARE,
                    "transaction.timeout.ms": 10_000,
                    **SERVICE,
                }
            )
            try:
                producer.init_transactions(60)
                while not self.ended.is_set():
                    producer.begin_transaction()
                    for number in range(PARTITIONS):
                        producer.produce(BARE, b"x", partition=number)
                    producer.commit_transaction(60)
                    time.sleep(0.02)  # the rate
            except KafkaException:
                continue  # another producer, as whoever is fenced or fails for good does


class Watched:
    """Longest time between two records of each partition of a topic, by the times at which brokers wrote them."""

    def __init__(self, servers: str, topics: tuple[str, ...]) -> None:
        settings = {"bootstrap.servers": servers, "group.id": "watch", "isolation.level": "read_committed"}
        self._consumer = Consumer({**settings, "auto.offset.reset": "latest", "log_level": 0})
        self._consumer.subscribe(list(topics))

    def passed(self, seconds: float) -> None:
        """Read on without looking."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self._consumer.poll(0.05)

    def longest(self, since_s: float, seconds: float) -> dict[str, float]:
        """By topic, from a moment on."""
        last: dict[tuple[str, int], float] = {}
        worst: dict[str, float] = {}
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            message = self._consumer.poll(0.05)
            if message is None or message.error():
                continue
            where, at_s = (message.topic(), message.partition()), message.timestamp()[1] / 1000
            worst[where[0]] = max(worst.get(where[0], 0.0), at_s - last.get(where, since_s))
            last[where] = max(at_s, last.get(where, 0.0))
        return worst

    def close(self) -> None:
        self._consumer.close()


def rounds_of(count: int) -> list[dict[str, Any]]:
    """One death each."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="stream-ml-death-") as name:
        folder = Path(name)
        (folder / "app").mkdir()
        with (
            EmbeddedCluster(folder / "kafka") as cluster,
            service(
                folder / "app", cluster.bootstrap_servers, "death", partitions=PARTITIONS, http={"port": free_port()}
            ) as made,
        ):
            topic = NewTopic(BARE, PARTITIONS, 3, config={"min.insync.replicas": "2"})
            admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
            admin.create_topics([topic])[BARE].result()
            made.start()
            bare = Bare(cluster.bootstrap_servers)
            bare.start()
            with under_load(made, PER_S):
                watched = Watched(cluster.bootstrap_servers, (made.config.predictions.topic, BARE))
                watched.passed(2 * STEADY_S)
                for number in range(count):
                    node = cluster.nodes[number % len(cluster.nodes)]
                    killed_s = time.time()
                    node.kill()
                    gaps = watched.longest(killed_s, WATCH_S)
                    found.append(
                        {
                            "node": number % len(cluster.nodes) + 1,
                            "service_s": round(gaps.get(made.config.predictions.topic, WATCH_S), 1),
                            "bare_s": round(gaps.get(BARE, WATCH_S), 1),
                        }
                    )
                    sys.stderr.write(f"{found[-1]}\n")
                    node.start(timeout_s=120)
                    if made.workers[-1].process.poll() is not None:  # as whoever runs it does
                        found[-1]["worker_ended"] = made.workers[-1].process.returncode
                        made.start()
                    watched.passed(BACK_S)
            bare.ended.set()
            made.wait_until_done()
            watched.close()
            audited = made.audited()
            assert audited["counts"] == {}, audited
    return found


def main() -> None:
    found = rounds_of(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
    service_s, bare_s = (statistics.median(one[of] for one in found) for of in ("service_s", "bare_s"))
    told = {
        "rounds": found,
        "median_service_s": service_s,
        "median_bare_s": bare_s,
        "ours_s": round(service_s - bare_s, 1),
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
