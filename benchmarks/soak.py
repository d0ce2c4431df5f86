"""A soak: a steady stream for minutes, and the memory of the service at each of them."""

import time

from benchmarks.openloop import Schedule, Sender
from benchmarks.process import Measured
from benchmarks.results import Result
from benchmarks.service import Service
from benchmarks.stand import Stand

RATE = 1_000.0  # events/s: any machine holds it, so memory shows what stays and not what waits
TTL = {"ttl": "30s", "early_ttl": "1s"}  # so pending events are as many after half a minute as ever after
MINUTE_S = 60.0
SETTLED = 2  # minutes after which memory should no longer grow
DRAIN_S = 10.0


def soak(stand: Stand) -> Result:
    """Megabytes at each minute, and how many grew after the second one."""
    topics = stand.cluster.fresh("soak", 1)
    service = Service(stand.scratch("soak"), stand.cluster.servers, topics, feedback=TTL)
    process = service.start()
    try:
        service.wait_ready(process)
        sender = Sender(stand.cluster.servers, topics, Schedule(time.time() + 1, RATE, stand.soak_s))
        sender.start()
        memory_mb = _memory(process, sender)
        status = service.status() or {}
    finally:
        process.stop()
    lost = sender.events - stand.cluster.count(topics.predictions).keys
    stand.cluster.drop(topics)
    values = {"memory_mb": memory_mb[-1]}
    if len(memory_mb) > SETTLED + 1:
        values["grown_mb"] = memory_mb[-1] - memory_mb[SETTLED]
    problems = [f"{lost} of {sender.events} events have no committed prediction"] if lost else []
    pending = status.get("pending", {}).get("events")
    return Result(values, problems, {"memory_mb": memory_mb, "events": sender.events, "pending_events": pending})


def _memory(process: Measured, sender: Sender) -> list[float]:
    """At the start, at each minute, at the end; then some seconds for what is still on its way."""
    found, next_s = [process.memory_bytes() / 1e6], time.monotonic() + MINUTE_S
    while sender.is_alive():
        sender.join(max(0.0, next_s - time.monotonic()))
        found.append(round(process.memory_bytes() / 1e6, 1))
        next_s += MINUTE_S
    time.sleep(DRAIN_S)  # more than any latency: nothing is measured here
    return found
