"""A model away from Kafka on one core with 256 MiB: memory, events answered a second, and a start with a journal.

Run it as ``python -m benchmarks.edge`` as root on Linux: a worker learns the flights' shape of events, `models export`
writes the model, and ``stream-ml local`` runs in a cgroup of that size on one core. The events come one by one; each is
answered, on the disk, before the next is asked.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.bounded import Group, call_within
from benchmarks.process import memory_mb
from benchmarks.recovery import T0, Bench, opened

LIMIT_BYTES = 256 * 2**20
LEARNED, ASKED = 20_000, 5_000


STREAM_ML = [sys.executable, "-m", "stream_ml"]


def exported(bench: Bench) -> Path:
    """A model of a worker that has learned; the worker has ended."""
    worker = bench.start()
    bench.produce(LEARNED, label_every=1)
    bench.wait_past(LEARNED - 1)
    worker.terminate()  # with a checkpoint
    worker.wait()
    folder = bench.folder / "edge"
    verb = ("models", "export", str(bench.folder / "app.yaml"), "LogisticRegression", str(folder))
    subprocess.run([*STREAM_ML, *verb], check=True)
    return folder


def line(number: int) -> str:
    return json.dumps({"id": f"e{number}", "at": T0 + 1000 * (LEARNED + number), "x": float(number % 7)}) + "\n"


def label(number: int) -> str:
    return json.dumps({"id": f"e{number}", "at": T0 + 1000 * (LEARNED + number), "y": number % 7 > 3}) + "\n"


def measured(folder: Path, group: Group, *more: str, count: int) -> dict[str, Any]:
    """A process that answers so many events, with labels for half of them."""

    def bounded() -> None:
        group.enter()
        os.sched_setaffinity(0, {0})

    began_s = time.monotonic()
    process = subprocess.Popen(
        [*STREAM_ML, "local", str(folder), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=bounded,  # noqa: PLW1509
    )
    assert process.stdin is not None and process.stdout is not None
    labels, took = Path(more[-1]), list[float]()
    first_s = 0.0
    with labels.open("a", encoding="utf-8") as file:
        for number in range(count):
            asked_s = time.monotonic()
            process.stdin.write(line(number))
            process.stdin.flush()
            assert "score" in process.stdout.readline()
            took.append(time.monotonic() - asked_s)
            first_s = first_s or time.monotonic() - began_s
            if number % 2 == 0:
                file.write(label(number))
                file.flush()
    memory = {of: round(memory_mb(process.pid, of), 1) for of in ("VmRSS", "VmHWM")}
    process.stdin.close()
    said = process.stderr.read() if process.stderr else ""
    process.wait()
    return {
        "first_answer_s": round(first_s, 2),
        "rss_mb": memory["VmRSS"],
        "peak_mb": memory["VmHWM"],
        "p50_ms": round(1e3 * statistics.median(took), 2),
        "a_second": round(count / sum(took)),
        "said": said.splitlines()[-1],
    }


def main() -> None:
    with opened(0, model={"name": "LogisticRegression"}) as bench, call_within(LIMIT_BYTES) as group:
        folder = exported(bench)
        labels = ("--labels", str(bench.folder / "labels.jsonl"))
        journal = ("--journal", str(bench.folder / "journal"))
        found = {"without a journal": measured(folder, group, *labels, count=ASKED)}
        (bench.folder / "labels.jsonl").unlink()
        found["with a journal"] = measured(folder, group, *journal, *labels, count=ASKED)
        found["again, with that journal"] = measured(folder, group, *journal, *labels, count=10)
        found["group"] = {"limit_mb": LIMIT_BYTES // 10**6, "peak_mb": round(group.peak_mb)}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
