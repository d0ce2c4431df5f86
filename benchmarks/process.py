"""A measured process: on its core, its words in files, its CPU time and memory as Linux counts them."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import cores, pinned

ROOT = Path(__file__).parents[1]
STOP_S = 40.0
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def memory_mb(process: int | str, of: str) -> float:
    """VmRSS or VmHWM of a process, in MB."""
    status = Path(f"/proc/{process}/status").read_text("utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(of))) * 1024 / 1e6


def cpu_s(pid: int) -> float:
    """Processor time so far, in user and kernel mode; 0.0 once it has ended (proc(5), fields 14 and 15)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


class Measured:
    """One process from its start to its end, on its core; `folder` gets its output and what it says."""

    def __init__(self, folder: Path, command: list[str], *, anywhere: bool = False) -> None:
        self.out, self.err = folder / "stdout", folder / "stderr"
        left_out = ("PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE")  # an installed package is compiled already
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        environment["PYTHONPATH"] = str(ROOT)
        core = None if anywhere else cores().measured
        self.started_s = time.time()
        with self.out.open("wb") as out, self.err.open("wb") as err, pinned(core):
            self._process = subprocess.Popen(command, stdout=out, stderr=err, env=environment, cwd=folder)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def cpu_s(self) -> float:
        """Processor time so far; 0.0 once it has ended."""
        return cpu_s(self._process.pid)

    def memory_bytes(self) -> int:
        """Resident memory."""
        try:
            return int(Path(f"/proc/{self._process.pid}/statm").read_text("utf-8").split()[1]) * PAGE_BYTES
        except (OSError, IndexError):
            return 0

    def reports(self) -> dict[str, Any]:
        """What it has printed as JSON lines, merged."""
        found: dict[str, Any] = {}
        for line in self.out.read_text("utf-8", "replace").splitlines():
            if line.startswith("{"):
                found |= json.loads(line)
        return found

    def stop(self) -> dict[str, Any]:
        """End it by SIGTERM, after STOP_S by SIGKILL; what it reported."""
        if self.runs:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return self.reports()

    def last_words(self, most: int = 2_000) -> str:
        """The end of what it wrote to standard error."""
        return self.err.read_text("utf-8", "replace")[-most:]
