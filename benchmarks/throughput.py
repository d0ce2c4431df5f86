"""Throughput, measured alike for everybody: the ends of the output topic, looked at from outside.

1. The inputs are a backlog before the process starts. The rate is that between 10 % and 90 % of the expected outputs,
   so neither start-up nor the wait for the last records counts.
2. Where labels are learned, `learned_rate` is the rate between 10 % of outputs (or labels, whichever came first) and
   90 % of both: who scores first and learns afterwards gains nothing. When labels were learned the process itself
   says: a service in its status, others as times in the line that they print at their end.
3. Afterwards the outputs are read as a read_committed consumer sees them and their keys counted: a case that loses
   or repeats something has a problem, which the table shows.
"""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.cluster import Cluster, Topics
from benchmarks.process import Measured

POLL_S = 0.05
SETTLE_S = 1.0  # so long without a new output, once there are enough: then markers of transactions are counted too
STALL_S = 40.0  # so long without one output ends a run; the slowest start is 6 s
LEARN_S = 90.0  # so long after the last output everything must be learned
FIRST, LAST = 0.1, 0.9


class Sample(NamedTuple):
    """Outputs at a time, the processor time that they took, and memory."""

    at_s: float
    outputs: float
    cpu_s: float
    memory_bytes: int


class Expected(NamedTuple):
    """What a run must produce and learn."""

    outputs: int
    labels: int
    twice_is_wrong: bool = True


class Run(NamedTuple):
    """One run. Rates are events/s; memory is that after the last output; None where something was not measured."""

    rate: float | None
    learned_rate: float | None
    cpu_us: float | None
    memory_bytes: int
    problems: list[str]
    reported: dict[str, Any]
    at_end: dict[str, float]


Progress = Callable[[], Sequence[tuple[float, float]]]
"""Times and how many labels were learned by then."""


def watch(process: Measured, ended: Callable[[], int], expected: int) -> list[Sample]:
    """Samples until so many outputs are there and no more come, or the process ends, or nothing comes any more."""
    samples: list[Sample] = []
    moved_s = time.monotonic()
    while process.runs:
        outputs = ended()
        if not samples or outputs > samples[-1].outputs:
            moved_s = time.monotonic()
        samples.append(Sample(time.time(), outputs, process.cpu_s(), process.memory_bytes()))
        if time.monotonic() - moved_s > (SETTLE_S if outputs >= expected else STALL_S):
            break
        time.sleep(POLL_S)  # how exact the times are, before interpolation
    return samples or [Sample(time.time(), 0, 0.0, 0)]


def without_markers(samples: list[Sample], expected: int) -> list[Sample]:
    """Outputs as records: a commit leaves a marker in each partition, which ends count too (1 % of 64 partitions)."""
    share = min(1.0, expected / max(1.0, samples[-1].outputs))
    return [sample._replace(outputs=sample.outputs * share) for sample in samples]


def crossing(points: Sequence[tuple[float, float]], level: float) -> float | None:
    """When a rising series of (time, amount) reached a level, linear between two points; None if it did not."""
    for (before_s, before), (after_s, after) in itertools.pairwise(points):
        if before < level <= after:
            return before_s + (after_s - before_s) * (level - before) / (after - before)
    return None


def rate_between(first_s: float | None, last_s: float | None, amount: float) -> float | None:
    if first_s is None or last_s is None or last_s <= first_s:
        return None
    return amount * (LAST - FIRST) / (last_s - first_s)


def measure(
    cluster: Cluster,
    process: Measured,
    topics: Topics,
    expected: Expected,
    learned: Progress | None = None,
    at_end: Callable[[], dict[str, float]] = dict,
) -> Run:
    """Watch a process work off its backlog, end it, look at what it left behind.

    Parameters
    ----------
    learned
        Tells the progress of learning; None: the process prints `learned_at`, two times, at its end.
    at_end
        Asked when all is done, while the process still runs.
    """
    asked: dict[str, float] = {}
    try:
        ended = functools.partial(cluster.ended, topics.predictions, topics.partitions)
        samples = without_markers(watch(process, ended, expected.outputs), expected.outputs)
        if learned is not None and process.runs:
            _wait_learned(learned, expected.labels)
            asked = at_end()
    finally:
        reported = process.stop()
    outputs = [(sample.at_s, sample.outputs) for sample in samples]
    marks = [crossing(outputs, expected.outputs * share) for share in (FIRST, LAST)]
    rate = rate_between(marks[0], marks[1], expected.outputs)
    learned_marks = _learned_marks(learned, reported, expected.labels)
    both = _union(marks, learned_marks) if expected.labels else marks
    cpu = [(sample.cpu_s, sample.outputs) for sample in samples]
    cpu_rate = rate_between(*(crossing(cpu, expected.outputs * share) for share in (FIRST, LAST)), expected.outputs)
    return Run(
        rate,
        rate_between(both[0], both[1], expected.outputs),
        1e6 / cpu_rate if cpu_rate else None,
        samples[-1].memory_bytes,
        _problems(cluster, process, topics, expected, reported),
        reported,
        asked,
    )


def _wait_learned(learned: Progress, labels: int) -> None:
    deadline = time.monotonic() + LEARN_S
    while time.monotonic() < deadline and (not learned() or learned()[-1][1] < labels):
        time.sleep(POLL_S)  # between two looks; the deadline decides


def _learned_marks(learned: Progress | None, reported: dict[str, Any], labels: int) -> list[float | None]:
    if learned is None:
        return [*reported.get("learned_at", []), None, None][:2]
    points = steady_end(learned())
    if points:
        reported["learned"] = int(points[-1][1])
    return [None, crossing(points, labels * LAST)]  # labels wait for their events: outputs reach 10 % first


def steady_end(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Progress that is reported once a second, its last point as early as the pace before it says."""
    if len(points) < 3:
        return points
    (first_s, first), (before_s, before), (last_s, last) = points[-3:]
    if before <= first or last <= before:
        return points
    paced_s = before_s + (last - before) * (before_s - first_s) / (before - first)
    return [*points[:-1], (min(last_s, paced_s), last)]


def _union(one: list[float | None], other: list[float | None]) -> list[float | None]:
    starts = [mark for mark in (one[0], other[0]) if mark is not None]
    ends = [mark for mark in (one[1], other[1]) if mark is not None]
    return [min(starts), max(ends)] if starts and len(ends) == 2 else [None, None]


def _problems(
    cluster: Cluster, process: Measured, topics: Topics, expected: Expected, reported: dict[str, Any]
) -> list[str]:
    counted = cluster.count(topics.predictions)
    found = []
    if counted.keys != expected.outputs:
        found.append(f"{expected.outputs - counted.keys} of {expected.outputs} events have no committed prediction")
    if counted.records > counted.keys and expected.twice_is_wrong:
        found.append(f"{counted.records - counted.keys} predictions twice")
    if expected.labels and reported.get("learned") != expected.labels:
        found.append(f"{reported.get('learned')} of {expected.labels} labels learned")
    if found:
        with contextlib.suppress(OSError):
            found.append(f"last words: {process.last_words(400)!r}")
    return found
