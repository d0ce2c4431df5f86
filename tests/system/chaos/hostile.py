"""Somebody who may produce events and labels and means no good, beside honest producers, and what reaches the model."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.service import Service

PREFIX = "hostile-"
TICK_S = 0.05
POISONED_A_SECOND = 1.0  # labelled events with absurd numbers: below one in a hundred of the honest ones
PROTECTED: dict[str, Any] = {
    "features": {"bounds": {"default": {"sigma": 8, "length": 1_000, "distinct": 1_000}}},
    "learning": {"quarantine": "divert"},
    "pending": {"events_max": 20_000, "early_labels_max": 20_000, "bytes_max": "64MiB"},
}
HOURS_AHEAD = 20


class Hostile:
    """A thread that floods both topics with what a producer may send."""

    def __init__(self, made: Service, seed: int) -> None:
        self._made, self._chance = made, random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hostile", daemon=True)
        self.sent = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        self._made.flush()

    def _run(self) -> None:
        poisoned_s = time.monotonic()
        while not self._stop.wait(TICK_S):
            if time.monotonic() - poisoned_s > 1 / POISONED_A_SECOND:
                poisoned_s = time.monotonic()
                self._poison()
            for _ in range(3):
                getattr(self, self._chance.choice(["_distinct", "_ahead", "_ghost", "_garbage", "_long"]))()
            self._made.producer.poll(0)

    def _event(self, *, ahead_h: int = 0, **values: Any) -> tuple[str, int, int]:
        self.sent += 1
        name, at = f"{PREFIX}{self.sent}", int(1000 * time.time()) + 3_600_000 * ahead_h
        partition = self.sent % self._made.partitions
        self._made.visit(self.sent, at=at, partition=partition, id=name, **values)
        return name, at, partition

    def _label(self, name: str, at: int, partition: int, *, y: bool) -> None:
        self._made.truth(self.sent, partition=partition, id=name, at=at, y=y)

    def _poison(self) -> None:
        size = self._chance.choice([1e4, 1e9, 1e15, 1e18])
        of = self._event(x=self._chance.choice([size, -size]), kind="k1")
        self._label(*of, y=self._chance.random() < 0.5)

    def _distinct(self) -> None:
        x = self._chance.uniform(0, 100)
        of = self._event(x=x, kind=f"made up {self._chance.random()}")
        if self._chance.random() < 0.1:
            self._label(*of, y=x > 50)

    def _ahead(self) -> None:
        x = self._chance.uniform(0, 100)
        of = self._event(ahead_h=HOURS_AHEAD, x=x)
        if self._chance.random() < 0.1:
            self._label(*of, y=x > 50)

    def _ghost(self) -> None:
        self.sent += 1
        partition = self.sent % self._made.partitions
        self._label(f"{PREFIX}ghost-{self.sent}", int(1000 * time.time()), partition, y=True)

    def _garbage(self) -> None:
        partition = self._chance.randrange(self._made.partitions)
        self._made.raw_visit(self._chance.randbytes(self._chance.choice([0, 3, 50])), partition=partition)
        self._made.raw_truth(self._chance.randbytes(20), partition=partition)

    def _long(self) -> None:
        self._event(x=1.0, kind="x" * 50_000)


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def compared(made: Service, env: dict[str, str]) -> dict[str, Any]:
    """Quality on honest events of the model as it is, and of one that never saw the hostile examples."""
    import json

    script = Path(__file__).with_name("unspoilt.py")
    command = [sys.executable, str(script), str(made.folder / "w1.yaml"), PREFIX]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
