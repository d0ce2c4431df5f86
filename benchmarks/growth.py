"""What breaks when an app grows, measured anew: one table, beside what it was before anything was done about it.

Run it as ``python -m benchmarks.growth [--quick]``, a quarter of an hour or, with smaller loads, nine minutes. `before`
are the figures of the first measurement, on the same machine but on other days; `aim` is what was to be reached.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import rebalance
from benchmarks.cluster import Cluster
from benchmarks.latency import latency
from benchmarks.process import memory_mb
from benchmarks.recovery import Bench, opened
from benchmarks.stand import Stand

SETTLE_S = 3.0  # after the last commit: checkpoints, and what is freed


class Line(NamedTuple):
    """One row: what it was, what it was to be, and where it stands among what one measurement found."""

    what: str
    before: str
    aim: str
    value: Callable[[dict[str, Any]], str]


class Measurement(NamedTuple):
    """What is run once, and the rows that come of it."""

    run: Callable[[bool], dict[str, Any]]
    lines: list[Line]


def run_once(bench: Bench, events: int) -> float:
    """MB of a worker that has taken so many events; it is killed then."""
    worker = bench.start()
    try:
        bench.wait_past(events - 1)
        time.sleep(SETTLE_S)  # what is freed after the last commit
        return memory_mb(worker.pid, "VmRSS")
    finally:
        worker.kill()
        worker.wait()


def restarted(pending: int) -> dict[str, float]:
    """One app: filled, killed, started again. The peak is what the kernel says that the process ever held (VmHWM)."""
    with opened(pending) as bench:
        running = run_once(bench, pending)
        bench.produce(200)
        before = bench.position()
        worker = bench.start()
        try:
            bench.wait_past(before)
            time.sleep(SETTLE_S)  # what is freed late is not held for ever
            peak, after = memory_mb(worker.pid, "VmHWM"), memory_mb(worker.pid, "VmRSS")
        finally:
            worker.kill()
            worker.wait()
        log = (bench.folder / "worker.log").read_text("utf-8")
        taken_up = re.search(r"(\d+) events and \d+ labels held, rebuilt in ([\d.]+) s", log)
        assert taken_up is not None, log[-2000:]
        seconds = float(taken_up[2])
    return {
        "pending": int(taken_up[1]),
        "running_mb": round(running),
        "rebuilt_mb": round(after),
        "peak_mb": round(peak),
        "peak_of_running": round(peak / running, 2),
        "rebuild_s": seconds,
        "us_an_event": round(1e6 * seconds / pending, 2),
    }


def grown_model(quick: bool) -> dict[str, Any]:
    """In processes of its own: memory is what is measured."""
    command = [sys.executable, "-m", "benchmarks.grown_model", *(["--quick"] if quick else [])]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def many_partitions(partitions: int, live_s: float) -> dict[str, Any]:
    """1,000 events a second into so many partitions, one worker."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        with Cluster(folder / "kafka") as cluster:
            stand = Stand(cluster, folder, folder, 0, live_s, 0)
            return dict(latency(stand, 1_000.0, partitions=partitions).values)


def _of(name: str, form: str = "{:,.0f}") -> Callable[[dict[str, Any]], str]:
    return lambda found: form.format(found[name])


def _longest(of: str) -> Callable[[dict[str, Any]], str]:
    return lambda found: f"{found[of]['most_ms']:,} ms (quiet: {found['quiet']['most_ms']:,})"


MEASUREMENTS = [
    Measurement(
        lambda quick: restarted(200_000 if quick else 1_000_000),
        [
            Line("restart: most memory, of that of running", "2.1 to 2.4", "1.2", _of("peak_of_running", "{:.2f}")),
            Line("rebuild of a pending event, us", "16", "3", _of("us_an_event", "{:.1f}")),
        ],
    ),
    Measurement(
        grown_model,
        [
            Line("checkpoint of a grown model: most memory", "5", "1.3", _of("peak_of_running", "{:.2f}")),
            Line("longest pause of the loop by it, ms", "5,000 to 6,000", "20", _of("longest_turn_ms", "{:.1f}")),
            Line("start from it: most memory", "-", "1.3", _of("peak_of_loaded", "{:.2f}")),
        ],
    ),
    Measurement(
        lambda quick: many_partitions(64, 10.0 if quick else 20.0),
        [
            Line("64 partitions, 1,000/s, p50, ms", "10,500 to 13,000", "60", _of("p50_ms")),
            Line("idle with 64, share of a core", "0.42", "0.10", _of("idle_cpu", "{:.2f}")),
        ],
    ),
    Measurement(
        lambda quick: many_partitions(200, 10.0 if quick else 20.0),
        [
            Line("200 partitions, 1,000/s, p50, ms", "30,000", "150", _of("p50_ms")),
            Line("idle with 200, share of a core", "0.79", "0.10", _of("idle_cpu", "{:.2f}")),
            Line("200 partitions taken up, s", "15", "-", _of("ready_s", "{:.1f}")),
        ],
    ),
    Measurement(
        lambda quick: rebalance.measured(8, 3, 200.0, 100_000 if quick else 400_000),
        [
            Line(
                "a third worker comes, much pending: longest wait where nothing moves",
                "3,020 ms",
                "-",
                _longest("kept"),
            )
        ],
    ),
    Measurement(
        lambda quick: rebalance.measured(200, 4, 100.0, 0),
        [
            Line("a fourth worker comes, 200 partitions: how many move", "101", "50", _of("moves")),
            Line("and the longest wait where nothing moves", "1,440 ms", "1,000 ms", _longest("kept")),
            Line("and where something does", "2,023 ms", "-", _longest("moved")),
        ],
    ),
]


def main() -> None:
    quick = "--quick" in sys.argv
    print("| | before | now | aim |\n| --- | --- | --- | --- |", flush=True)
    for measurement in MEASUREMENTS:
        found = measurement.run(quick)
        for line in measurement.lines:
            print(f"| {line.what} | {line.before} | {line.value(found)} | {line.aim} |", flush=True)


if __name__ == "__main__":
    main()
