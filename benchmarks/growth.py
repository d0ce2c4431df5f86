"""What a restart costs when much is pending: memory and time beside those of running.

Run it as ``python -m benchmarks.growth [--quick]``: an embedded Kafka, one worker with a small model, a million events
in its pending store (200,000 with --quick), killed and started again. Every hundredth has its label. The peak
is what the kernel says that the process ever held (VmHWM); the rebuild's time is the worker's own log line.
"""

import json
import re
import sys
import time
from pathlib import Path

from benchmarks.recovery import opened

MB = 1e6
SETTLE_S = 3.0  # after the last commit: checkpoints, and what is freed


def memory_mb(process: int | str, of: str) -> float:
    """VmRSS or VmHWM of a process, in MB."""
    status = Path(f"/proc/{process}/status").read_text("utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(of))) * 1024 / MB


def measured(pending: int) -> dict[str, float]:
    """One app: filled, killed, started again."""
    with opened(pending) as bench:
        worker = bench.start()
        bench.wait_past(pending - 1)
        time.sleep(SETTLE_S)  # nothing is measured meanwhile
        running = memory_mb(worker.pid, "VmRSS")
        worker.kill()
        worker.wait()
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


def main() -> None:
    print(json.dumps(measured(200_000 if "--quick" in sys.argv else 1_000_000)))


if __name__ == "__main__":
    main()
