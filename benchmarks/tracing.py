"""What tracing costs a worker: processor time per event with traces off, of a hundredth of all turns, of as many as go.

Run it as ``python -m benchmarks.tracing [ROUNDS]``, with the collector's address in OTLP_ENDPOINT; without one, a
receiver of its own takes the spans. Two loads: a backlog, and 500 events a second. The
cases take turns in each round; JSON in the end has medians and ratios to off.
"""

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.process import cpu_s
from benchmarks.recovery import Bench, opened
from tests.support.collector import collector

BACKLOG, LIVE, RATE = 200_000, 10_000, 500
CASES: dict[str, dict[str, Any]] = {
    "off": {"endpoint": None},
    "1 %": {"ratio": 0.01},
    "all, at most 10/s": {"ratio": 1.0},
    "all, at most 1000/s": {"ratio": 1.0, "turns_per_second": 1_000},
}


def measured(endpoint: str, traces: dict[str, Any]) -> dict[str, float]:
    """Microseconds an event, in a backlog and live."""
    with opened(1_000, label_every=4, traces={"endpoint": endpoint} | traces) as bench:
        worker = bench.start()
        try:
            bench.wait_past(999)
            return {"backlog": backlog(bench, worker.pid), "live": live(bench, worker.pid)}
        finally:
            worker.kill()
            worker.wait()


def backlog(bench: Bench, pid: int) -> float:
    began = cpu_s(pid)
    bench.produce(BACKLOG, label_every=4)
    bench.wait_past(bench.produced - 1)
    return 1e6 * (cpu_s(pid) - began) / BACKLOG


def live(bench: Bench, pid: int) -> float:
    began, began_s = cpu_s(pid), time.monotonic()
    for number in range(LIVE // 50):
        bench.produce(50, label_every=4)
        time.sleep(max(0.0, began_s + (number + 1) * 50 / RATE - time.monotonic()))  # the rate
    bench.wait_past(bench.produced - 1)
    return 1e6 * (cpu_s(pid) - began) / LIVE


@contextlib.contextmanager
def taken() -> Iterator[str]:
    """Where spans go."""
    given = os.environ.get("OTLP_ENDPOINT")
    if given:
        yield given
    else:
        with collector() as there:
            yield there.endpoint


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    with taken() as endpoint:
        for number in range(rounds):
            for name, traces in CASES.items():
                found[name].append(measured(endpoint, traces))
                sys.stderr.write(f"{number + 1}/{rounds} {name}: {found[name][-1]}\n")
    told: dict[str, Any] = {}
    for load in ("backlog", "live"):
        medians = {name: statistics.median(one[load] for one in each) for name, each in found.items()}
        told[load] = {
            name: {"us": round(us, 2), "ratio": round(us / medians["off"], 3)} for name, us in medians.items()
        }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
