"""Throughput cases: a backlog that the limit, the service or a peer works off."""

import sys
from typing import Any

from benchmarks.environments import python_of
from benchmarks.load import FEATURES, Load, load, spoiled
from benchmarks.process import Measured
from benchmarks.results import Result
from benchmarks.service import LearningWatch, Scraper, Service
from benchmarks.stand import Stand
from benchmarks.throughput import Expected, Run, measure, watch

BAD_EVERY = 100  # so-manieth event of the case with bad records


def limit(stand: Stand, mode: str, scale: float = 3.0) -> Result:
    """Consume, consume and produce, or both in transactions. So fast that it gets more events than the others."""
    count = round(stand.events * scale)
    topics = stand.cluster.fresh(f"limit-{mode}", 1)
    stand.cluster.create(topics.predictions, partitions=1)
    stand.cluster.produce(topics.events, load(count, 0.0).events)
    command = [sys.executable, "-m", "benchmarks.limit", mode, stand.cluster.servers]
    process = Measured(stand.scratch(mode), [*command, topics.events, topics.predictions, str(count)])
    try:
        if mode == "consume":
            watch(process, lambda: len(process.reports()), 1)
            rate = process.stop().get("rate")
            return Result({"rate": rate}) if rate else Result({}, [f"it said no rate: {process.last_words()}"])
        return _result(measure(stand.cluster, process, topics, Expected(count, 0)))
    finally:
        process.stop()
        stand.cluster.drop(topics)


def service(
    stand: Stand,
    labelled: float,
    *,
    partitions: int = 1,
    features: int = FEATURES,
    count: int = 0,
    scale: float = 1.0,
    bad: bool = False,
    scrapes: float = 0.0,
    **changes: Any,
) -> Result:
    """The service, exactly once. `count` 0: the stand's number by `scale`; `scrapes` of /metrics a second."""
    count = count or round(stand.events * scale)
    records = load(count, 0.0 if bad else labelled, features)
    topics = stand.cluster.fresh("service", partitions)
    made = Service(stand.scratch("service"), stand.cluster.servers, topics, features=features, **changes)
    stand.cluster.fill(topics, Load(list(spoiled(records.events, BAD_EVERY)), []) if bad else records)
    process = made.start()
    learning, scraper = LearningWatch(made), Scraper(made.port, scrapes)
    try:
        expected = Expected(count - count // BAD_EVERY if bad else count, len(records.labels))
        run = measure(stand.cluster, process, topics, expected, learning.points, at_end=made.stage_seconds)
        stages = {f"{stage}_us": seconds / count * 1e6 for stage, seconds in run.at_end.items()}
        return _result(run, **stages)
    finally:
        scraper.close()
        learning.close()
        process.stop()
        stand.cluster.drop(topics)


def peer(stand: Stand, name: str, labelled: float, variant: str = "", *, scale: float = 1.0) -> Result:
    """A peer, in its own environment; by_hand in the harness's, which has all that it needs."""
    count = round(stand.events * scale)
    module = "by_hand" if name == "by_hand" else f"with_{name}"
    python = sys.executable if name == "by_hand" else str(python_of(stand.environments, name))
    records = load(count, labelled)
    topics = stand.cluster.fresh(name.replace("_", "-"), 1)
    stand.cluster.create(topics.predictions, partitions=1)
    stand.cluster.fill(topics, records)
    told = [stand.cluster.servers, topics.events, topics.labels, topics.predictions, str(len(records.labels)), variant]
    process = Measured(stand.scratch(name), [python, "-m", f"benchmarks.peers.{module}", *told])
    try:
        run = measure(stand.cluster, process, topics, Expected(count, len(records.labels), twice_is_wrong=False))
        early = run.reported.get("early")
        return _result(run, **({"early_share": early / len(records.labels)} if early is not None else {}))
    finally:
        process.stop()
        stand.cluster.drop(topics)


def _result(run: Run, **more: float) -> Result:
    found = {
        "rate": run.rate,
        "learned_rate": run.learned_rate,
        "cpu_us": run.cpu_us,
        "memory_mb": run.memory_bytes / 1e6,
        **more,
    }
    return Result({name: value for name, value in found.items() if value is not None}, run.problems, run.reported)
