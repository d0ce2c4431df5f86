"""Latency: from when an event or a label was due to when a read_committed consumer has the prediction that follows."""

import bisect
import io
import json
import statistics
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import fastavro
from confluent_kafka import Consumer, Message, TopicPartition

from benchmarks.cluster import Cluster, Topics
from benchmarks.load import number_of
from benchmarks.openloop import Schedule, Sender
from benchmarks.process import Measured
from benchmarks.results import Result
from benchmarks.service import Service
from benchmarks.stand import Stand
from stream_ml.core.log.entry import decode_entry
from stream_ml.kafka.clients import take

WARM_UP_S = 5.0
IDLE_AFTER_S, IDLE_S = 3.0, 6.0
LEAD_S = 1.0  # between setting the schedule and its first record
QUIET_S = 5.0  # after the last record: then what has not come counts as lost
READING = {
    "group.id": "latency",
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "fetch.wait.max.ms": 10,
    "fetch.min.bytes": 1,
    "log_level": 0,
}


class Arrival(NamedTuple):
    """A prediction as it came: host's time, the event's number, its bytes."""

    at_s: float
    number: int
    value: bytes


def latency(stand: Stand, rate: float, *, partitions: int = 1) -> Result:
    """Events at a rate, a tenth as many labels; milliseconds by percentile, warm-up left out.

    Beside them what the worker takes of a core while nothing comes, its CPU time an event and its transactions a
    second. How long a label takes is reported for one partition only: predictions of several come in any order.
    """
    topics = stand.cluster.fresh("latency", partitions)
    service = Service(stand.scratch("latency"), stand.cluster.servers, topics)
    process = service.start()
    try:
        service.wait_ready(process)
        costs = {"ready_s": time.time() - process.started_s, "idle_cpu": _idle(process)}
        consumer = tail(stand.cluster, topics)
        schedule = Schedule(time.time() + LEAD_S, rate, stand.live_s)
        sender = Sender(stand.cluster.servers, topics, schedule)
        cpu_s, transactions = process.cpu_s(), service.transactions()
        sender.start()
        arrivals = _arrivals(consumer, sender)
        costs["cpu_us"] = 1e6 * (process.cpu_s() - cpu_s) / max(1, sender.events)
        costs["transactions_s"] = (service.transactions() - transactions) / stand.live_s
        schema = json.loads(service.said("schema", "show", after=("predictions",)))
        entries = stand.cluster.committed(service.log) if partitions == 1 else ()
        result = _result(schedule, sender, arrivals, schema, entries)
        return result._replace(values={**result.values, **costs})
    finally:
        process.stop()
        stand.cluster.drop(topics)


def _idle(process: Measured) -> float:
    """Share of a core that it takes while nothing comes."""
    time.sleep(IDLE_AFTER_S)  # what a start leaves behind
    began_s, cpu_s = time.monotonic(), process.cpu_s()
    time.sleep(IDLE_S)  # the time that is measured
    return (process.cpu_s() - cpu_s) / (time.monotonic() - began_s)


def tail(cluster: Cluster, topics: Topics) -> Consumer:
    settings = {**READING, "fetch.min.bytes": 65_536} if topics.partitions > 1 else READING  # else it takes half a core
    consumer = Consumer({"bootstrap.servers": cluster.servers, **settings})
    consumer.assign([TopicPartition(topics.predictions, number, 0) for number in range(topics.partitions)])
    consumer.poll(0.5)  # connected before the first record comes
    return consumer


def _arrivals(consumer: Consumer, sender: Sender) -> list[Arrival]:
    found: list[Arrival] = []
    last_s = time.monotonic()
    while sender.is_alive() or (len(found) < sender.events and time.monotonic() - last_s < QUIET_S):
        records = take(consumer, 1_000, 0.1)  # one call each would keep the sender waiting at 10,000 a second
        at_s = time.time()
        found += [Arrival(at_s, number_of(one.key()), one.value()) for one in records if one.error() is None]
        if records:
            last_s = time.monotonic()
    consumer.close()
    return found


def _result(
    schedule: Schedule, sender: Sender, arrivals: list[Arrival], schema: dict[str, Any], entries: Iterable[Message]
) -> Result:
    after_s = schedule.start_s + WARM_UP_S
    waits_ms = [
        (arrival.at_s - schedule.event_at(arrival.number)) * 1000
        for arrival in arrivals
        if schedule.event_at(arrival.number) >= after_s
    ]
    values = percentiles(waits_ms)
    known_ms = label_waits_ms(schedule, arrivals, schema, entries)
    if known_ms:
        values["label_p50_ms"] = statistics.median(known_ms)
    values["sender_late_ms"] = sender.late_s * 1000
    problems = [f"the sender failed: {sender.failed}"] if sender.failed else []
    lost = sender.events - len({arrival.number for arrival in arrivals})
    if lost:
        problems.append(f"{lost} of {sender.events} events have no committed prediction")
    return Result(values, problems, {"events": sender.events, "labels": sender.labels})


def percentiles(waits_ms: list[float]) -> dict[str, float]:
    """p50, p90, p99, p99.9 in milliseconds, each the smallest wait that so large a share does not exceed."""
    ordered = sorted(waits_ms)
    shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p99.9_ms": 0.999}
    return {
        name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in shares.items() if ordered
    }


def label_waits_ms(
    schedule: Schedule, arrivals: list[Arrival], schema: dict[str, Any], entries: Iterable[Message]
) -> list[float]:
    """From each label until the first prediction by a model that has folded its example.

    `position` of a prediction is the offset of the first training-log entry that its model did not know, so an
    example at offset N is known where `position` is larger than N. Positions of one worker never go back.
    """
    parsed = fastavro.parse_schema(schema)
    positions = [
        fastavro.schemaless_reader(io.BytesIO(arrival.value[10:]), parsed)["position"]  # ten bytes name the schema
        for arrival in arrivals
    ]
    found = []
    for record in entries:
        entry = decode_entry(record.value())
        if entry.kind != "example":
            continue
        number = number_of(entry.event_id.encode())
        if schedule.label_at(number) < schedule.start_s + WARM_UP_S:
            continue
        first = bisect.bisect_right(positions, record.offset())
        if first < len(positions):
            found.append((arrivals[first].at_s - schedule.label_at(number)) * 1000)
    return found
