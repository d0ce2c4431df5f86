"""What a worker that comes costs the partitions that stay where they are, and those that move to it.

Run it as ``python -m benchmarks.rebalance [PARTITIONS [WORKERS [RATE [PENDING]]]]``: an embedded Kafka, so many workers
but one (200, 4, 100 events a second, 0 pending events), all of them and the broker on any core. Then the last one
comes. Of each partition the longest wait of an event for its prediction, from BEFORE_S before to AFTER_S after; which
partitions moved is what the workers' own status says.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer

from benchmarks.cluster import Cluster, Topics
from benchmarks.latency import LEAD_S, WARM_UP_S, Arrival, percentiles, tail
from benchmarks.load import Source, number_of
from benchmarks.openloop import Schedule, Sender
from benchmarks.service import Service, Worker
from stream_ml.kafka.clients import take

BEFORE_S, AFTER_S = 10.0, 20.0
PENDING_FROM = 1_000_000_000
SETTLED_S = 120.0  # for all partitions to be taken up


def _owned(workers: list[Worker]) -> dict[int, str]:
    """Which worker serves each partition, as they say."""
    found = {worker.name: (worker.status() or {}).get("partitions", {}).get("owned", []) for worker in workers}
    return {int(number): name for name, numbers in found.items() for number in numbers}


def _settled(workers: list[Worker], partitions: int) -> dict[int, str]:
    """Which worker serves each partition, once all workers are ready and each partition has one."""
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        owned = _owned(workers)
        if len(owned) == partitions and all((worker.status() or {}).get("ready") for worker in workers):
            return owned
        time.sleep(0.2)  # between two questions; the deadline decides
    raise RuntimeError(f"{len(owned)} of {partitions} partitions are served: " + workers[-1].process.last_words())


def _pend(cluster: Cluster, topics: Topics, workers: list[Worker], pending: int) -> None:
    """So many events that wait for labels which never come; those of the load are counted from 0."""
    source, now_ms = Source(), int(time.time() * 1000)
    cluster.produce(topics.events, (source.event(PENDING_FROM + number, now_ms) for number in range(pending)))
    deadline = time.monotonic() + SETTLED_S
    while sum((worker.status() or {}).get("pending", {}).get("events", 0) for worker in workers) < pending:
        if time.monotonic() > deadline:
            raise RuntimeError("the pending events are not processed: " + workers[-1].process.last_words())
        time.sleep(0.2)  # between two questions; the deadline decides


def measured(partitions: int, count: int, rate: float, pending: int) -> dict[str, Any]:
    """One group: `count` workers, of which the last one comes while events flow."""
    with tempfile.TemporaryDirectory() as made, Cluster(Path(made), anywhere=True) as cluster:
        topics = cluster.fresh("rebalance", partitions)
        folder = Path(made, "service")
        folder.mkdir()
        service = Service(folder, cluster.servers, topics)
        workers = [service.worker(f"w{number}") for number in range(1, count)]
        try:
            before = _settled(workers, partitions)
            _pend(cluster, topics, workers, pending)
            schedule = Schedule(time.time() + LEAD_S, rate, WARM_UP_S + BEFORE_S + AFTER_S)
            sender, consumer = Sender(cluster.servers, topics, schedule), tail(cluster, topics)
            sender.start()
            joins_s = schedule.start_s + WARM_UP_S + BEFORE_S
            found = list(_arrivals(consumer, sender, until_s=joins_s))
            workers.append(service.worker(f"w{count}"))
            found += _arrivals(consumer, sender)
            after = _settled(workers, partitions)
        finally:
            for worker in workers:
                worker.process.stop()
        return _told(schedule, joins_s, found, sender, (before, after))


def _arrivals(consumer: Consumer, sender: Sender, until_s: float = float("inf")) -> Any:
    last_s = time.monotonic()
    while (sender.is_alive() or time.monotonic() - last_s < WARM_UP_S) and time.time() < until_s:
        records, at_s = take(consumer, 1_000, 0.1), time.time()
        for record in records:
            if record.error() is None and number_of(record.key()) < PENDING_FROM:
                last_s = time.monotonic()
                yield record.partition(), Arrival(at_s, number_of(record.key()), b"")


def _told(
    schedule: Schedule,
    joins_s: float,
    found: list[tuple[int, Arrival]],
    sender: Sender,
    owned: tuple[dict[int, str], dict[int, str]],
) -> dict[str, Any]:
    before, after = owned
    moved = {number for number in before if before[number] != after[number]}
    waits: dict[str, dict[int, float]] = {"quiet": {}, "kept": {}, "moved": {}}
    for number, arrival in found:
        due_s = schedule.event_at(arrival.number)
        if due_s < schedule.start_s + WARM_UP_S:
            continue
        of = waits["quiet" if due_s < joins_s - 1 else "moved" if number in moved else "kept"]
        of[number] = max(of.get(number, 0.0), (arrival.at_s - due_s) * 1000)
    result: dict[str, Any] = {"partitions": len(before), "moves": len(moved)}
    result["lost"] = sender.events - len({arrival.number for _, arrival in found})
    result["twice"] = len(found) - len({arrival.number for _, arrival in found})
    for name, longest in waits.items():
        if longest:
            shares = percentiles(list(longest.values()))
            result[name] = {"p50_ms": round(shares["p50_ms"]), "most_ms": round(max(longest.values()))}
    return result


def main() -> None:
    given = [float(text) for text in sys.argv[1:]]
    partitions, workers, rate, pending = [*given, *[200.0, 4.0, 100.0, 0.0][len(given) :]]
    print(json.dumps(measured(int(partitions), int(workers), rate, int(pending))))


if __name__ == "__main__":
    main()
