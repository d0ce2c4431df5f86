"""The machine and its cores: one for what is measured, the other for the broker and the harness."""

import contextlib
import functools
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from stream_ml.embedded.broker import JARS

PACKAGES = ("confluent-kafka", "fastavro", "numpy", "river")


class Cores(NamedTuple):
    """Numbers of the two cores; the same one where there is only one."""

    measured: int
    others: int


@functools.cache
def cores() -> Cores:
    """The first two cores that this process might use when it started. Where the system cannot pin, 0 and 0."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(0, 0)
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[min(1, len(allowed) - 1)])


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """This thread on one core: a process that it starts meanwhile stays there with all of its threads. None: any."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def facts() -> dict[str, str]:
    """What figures depend on: CPU, cores, system, versions."""
    mine = cores()
    pair = f"measured processes on core {mine.measured}, Kafka and the harness on core {mine.others}"
    if mine.measured == mine.others:
        pair = "only one core to pin to: Kafka, the harness and what is measured share it, so ratios are too low"
    return {
        "cpu": _cpu(),
        "cores": f"{os.cpu_count()}; {pair}",
        "busy before": f"{os.getloadavg()[0]:.1f} threads of others wanted a core in the last minute",
        "system": platform.platform(),
        "python": platform.python_version(),
        "kafka": JARS.split("+", maxsplit=1)[0].rsplit(":", 1)[1],
        **{name: version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or sys.platform
