"""Hours of steady work: 1,000 events a second, all labelled, two workers, one restarted each quarter of an hour.

Run it as ``make soak MINUTES=120`` or ``python -m benchmarks.endurance [MINUTES [RATE]]``: an embedded Kafka, two
partitions. Each minute is a line: memory, open files and threads of each worker, checkpoints and broker on the disk.
In the end what the workers wrote is audited, and memory's slope is reported with its 95 % interval, of the minutes from
SETTLED_MIN after each start on: pending events have come to their number by then.
"""

import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cluster import Cluster
from benchmarks.openloop import Schedule, Sender
from benchmarks.service import Service, Worker

RESTART_MIN = 15.0
SETTLED_MIN = 3
DRAIN_S, READY_S, AUDIT_S = 20.0, 60.0, 3_600.0
TTL = {"ttl": "1m", "early_ttl": "5s"}  # so pending events are as many after a minute as ever after
MB = 1e6


class Minute(NamedTuple):
    """What one worker took at the end of a minute of its life."""

    worker: str
    start: int  # which start of this worker
    age_min: float
    memory_mb: float
    files: int
    threads: int


def minute_of(worker: Worker, start: int) -> Minute:
    """As the kernel says it."""
    process = worker.process
    folder = Path(f"/proc/{process.pid}")
    age_min = (time.time() - process.started_s) / 60
    files, threads = (len(list((folder / of).iterdir())) for of in ("fd", "task"))
    return Minute(worker.name, start, round(age_min, 2), round(process.memory_bytes() / MB, 1), files, threads)


def slope(minutes: list[Minute]) -> tuple[float, float]:
    """MB an hour, and half of its 95 % interval: one slope, a level of its own for each life of a worker.

    Least squares with the lives' means taken out (the within estimator), 1.96 standard errors.
    """
    lives: dict[tuple[str, int], list[Minute]] = {}
    for minute in minutes:
        if minute.age_min >= SETTLED_MIN:
            lives.setdefault((minute.worker, minute.start), []).append(minute)
    x, y = [], []
    for life in lives.values():
        mean_x, mean_y = (sum(of) / len(life) for of in ([m.age_min for m in life], [m.memory_mb for m in life]))
        x += [minute.age_min / 60 - mean_x / 60 for minute in life]
        y += [minute.memory_mb - mean_y for minute in life]
    spread = sum(value**2 for value in x)
    free = len(x) - len(lives) - 1
    if free < 1 or spread == 0:
        return math.nan, math.nan
    found = sum(a * b for a, b in zip(x, y, strict=True)) / spread
    errors = sum((b - found * a) ** 2 for a, b in zip(x, y, strict=True))
    return found, 1.96 * math.sqrt(errors / free / spread)


class Soak:
    """Two workers and their producer."""

    def __init__(self, folder: Path, cluster: Cluster, minutes: float, rate: float) -> None:
        self._folder, self._cluster, self._minutes, self._rate = folder, cluster, minutes, rate
        self._topics = cluster.fresh("soak", 2)
        (folder / "service").mkdir()
        self._service = Service(folder / "service", cluster.servers, self._topics, feedback=TTL)
        self._workers = [self._service.worker(name) for name in ("w1", "w2")]
        self._starts = [1, 1]
        self.minutes: list[Minute] = []

    def run(self) -> dict[str, Any]:
        """All of it; the workers are ended whatever happens."""
        try:
            for worker in self._workers:
                worker.wait_ready(READY_S)
            schedule = Schedule(time.time() + 1, self._rate, 60 * self._minutes, label_every=1)
            sender = Sender(self._cluster.servers, self._topics, schedule)
            sender.start()
            self._watch(sender, schedule.start_s)
            time.sleep(DRAIN_S)  # more than any latency: nothing is measured here
        finally:
            for worker in self._workers:
                worker.process.stop()
        return self._told(sender)

    def _watch(self, sender: Sender, started_s: float) -> None:
        every_min = min(RESTART_MIN, self._minutes / 4)
        restarts = 1
        for number in range(1, math.ceil(self._minutes) + 1):
            sender.join(max(0.0, started_s + 60 * number - time.time()))
            found = [minute_of(worker, start) for worker, start in zip(self._workers, self._starts, strict=True)]
            self.minutes += found
            print(json.dumps({"minute": number, "workers": [m._asdict() for m in found], **self._disk()}), flush=True)
            if number >= restarts * every_min and number < self._minutes:
                self._restart((restarts - 1) % 2)
                restarts += 1

    def _restart(self, which: int) -> None:
        self._workers[which].process.stop()
        self._workers[which] = self._service.worker(self._workers[which].name)
        self._starts[which] += 1
        self._workers[which].wait_ready(READY_S)

    def _disk(self) -> dict[str, float]:
        checkpoints = [file for file in (self._folder / "service").rglob("*.ckpt") if file.is_file()]
        return {
            "checkpoints": len(checkpoints),
            "checkpoints_mb": round(sum(file.stat().st_size for file in checkpoints) / MB, 2),
            "broker_mb": round(_size(self._cluster.folder) / MB),
        }

    def _told(self, sender: Sender) -> dict[str, Any]:
        audit = json.loads(self._service.said("audit", after=("--json", "--sample", "50"), most_s=AUDIT_S))
        mb_hour, half = slope(self.minutes)
        newest = self.minutes[-2:]
        return {
            "minutes": self._minutes,
            "restarts": sum(self._starts) - 2,
            "events": sender.events,
            "labels": sender.labels,
            "predictions": audit["predictions"],
            "examples": audit["examples"],
            "findings": audit["findings"],
            "slope_mb_an_hour": None if math.isnan(mb_hour) else round(mb_hour, 1),
            "slope_interval": None if math.isnan(half) else [round(mb_hour - half, 1), round(mb_hour + half, 1)],
            "memory_mb": [minute.memory_mb for minute in newest],
            "files": [minute.files for minute in newest],
            "threads": [minute.threads for minute in newest],
            "sender_failed": sender.failed,
        }


def _size(folder: Path) -> int:
    """Bytes that a folder's files take on the disk, as far as they are still there."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += 512 * file.stat().st_blocks if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def main() -> int:
    given = [float(text) for text in sys.argv[1:]]
    minutes, rate = [*given, *[120.0, 1_000.0][len(given) :]]
    with tempfile.TemporaryDirectory() as made, Cluster(Path(made, "kafka"), anywhere=True) as cluster:
        found = Soak(Path(made), cluster, minutes, rate).run()
    print(json.dumps(found))
    lost = found["predictions"] != found["events"] or found["examples"] != found["labels"]
    return int(lost or bool(found["findings"]) or bool(found["sender_failed"]))


if __name__ == "__main__":
    sys.exit(main())
