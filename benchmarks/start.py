"""Seconds from the start of a worker to its first poll: the first time, and again, when its hash seed is known."""

from benchmarks.results import Result
from benchmarks.service import Service, first_poll_s
from benchmarks.stand import Stand


def start(stand: Stand) -> Result:
    """Two starts of one worker on topics that hold nothing."""
    topics = stand.cluster.fresh("start", 1)
    made = Service(stand.scratch("start"), stand.cluster.servers, topics)
    found: dict[str, float] = {}
    try:
        for name in ("start_s", "restart_s"):
            process = made.start()
            try:
                made.wait_ready(process)
                seconds = first_poll_s(process)
            finally:
                process.stop()
            if seconds is not None:
                found[name] = seconds
    finally:
        stand.cluster.drop(topics)
    return Result(found)
