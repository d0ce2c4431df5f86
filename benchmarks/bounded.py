"""Whether a worker starts again and goes on where it may take little more memory than it took when it ran.

Run it as ``python -m benchmarks.bounded [pending | model]`` as root on Linux: a worker runs unbounded, is killed and
started in a cgroup that allows ROOM times what it took, swap included where the kernel counts it. Either with two
million pending events, or with a model that has learned 600,000 words (some 200 MB) and a checkpoint each minute.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.growth import run_once
from benchmarks.recovery import Bench, opened

ROOM = 1.2
PENDING, EXAMPLES = 2_000_000, 600_000
STAYS_S = 150.0  # how long it is watched: two checkpoints of a minute
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
MODEL = """
from river import feature_extraction, naive_bayes

def build():
    return feature_extraction.BagOfWords(on="id") | naive_bayes.MultinomialNB()
"""


class Group:
    """A cgroup of this process's own, version 1 or 2."""

    def __init__(self, limit_bytes: int) -> None:
        first = V1.is_dir()
        self._folder = (V1 if first else V2) / f"stream-ml-{os.getpid()}"
        self._peak = "memory.max_usage_in_bytes" if first else "memory.peak"
        self._folder.mkdir()
        limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if first else ("memory.max",)
        for name in limits:
            if (self._folder / name).exists():
                (self._folder / name).write_text(str(limit_bytes), "utf-8")

    def enter(self) -> None:
        """In the process that is to be bounded, before it becomes the worker."""
        (self._folder / "cgroup.procs").write_text(str(os.getpid()), "utf-8")

    @property
    def peak_mb(self) -> float:
        """The most that was ever counted, page cache included."""
        return int((self._folder / self._peak).read_text("utf-8")) / 1e6

    def close(self) -> None:
        self._folder.rmdir()


@contextmanager
def call_within(limit_bytes: int) -> Iterator[Group]:
    made = Group(limit_bytes)
    try:
        yield made
    finally:
        made.close()


def measured(bench: Bench, events: int, watch_s: float) -> dict[str, Any]:
    """One app: run, killed, started again with little room, fed and watched."""
    running_mb = run_once(bench, events)
    bench.produce(200)
    with call_within(int(ROOM * running_mb * 1e6)) as group:
        before, began_s = bench.position(), time.monotonic()
        worker = bench.start(group.enter)
        try:
            bench.wait_past(before)
            again_s, until_s = time.monotonic() - began_s, time.monotonic() + watch_s
            while time.monotonic() < until_s and worker.poll() is None:
                before = bench.position()
                bench.produce(500, label_every=1)
                bench.wait_past(before)
                time.sleep(1.0)  # 500 events a second
            alive, peak_mb = worker.poll() is None, group.peak_mb
        finally:
            worker.kill()
            worker.wait()
    checkpoints = sorted(file.name for file in bench.folder.rglob("*.ckpt"))
    return {
        "running_mb": round(running_mb),
        "limit_mb": round(ROOM * running_mb),
        "peak_mb": round(peak_mb),
        "started_again_s": round(again_s, 1),
        "goes_on": alive,
        "checkpoints": checkpoints,
        "log": [line for line in (bench.folder / "worker.log").read_text("utf-8").splitlines() if '"error"' in line],
    }


def main() -> int:
    what = sys.argv[1:] or ["pending", "model"]
    found = {}
    if "pending" in what:
        with opened(PENDING) as bench:
            found["pending"] = measured(bench, PENDING, 20.0)
    if "model" in what:
        model = {"factory": "words:build", "task": "binary"}
        with opened(
            0, model=model, checkpoints={"interval": "1m"}, feedback={"ttl": "1m"}, features={"include": ["id"]}
        ) as bench:
            (bench.folder / "words.py").write_text(MODEL, "utf-8")
            bench.produce(EXAMPLES, label_every=1)
            found["model"] = measured(bench, EXAMPLES, STAYS_S)
    print(json.dumps(found, indent=2))
    return int(not all(each["goes_on"] for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
