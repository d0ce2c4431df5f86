"""A worker comes or dies: few partitions move, and those that stay are served while others are taken up."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import Service, Worker, service

pytestmark = [pytest.mark.kafka, pytest.mark.long]

PENDING = 60_000  # of the partition that is rebuilt: some tenths of a second
LOG = {"log": {"format": "json"}}


def said(worker: Worker) -> list[dict[str, Any]]:
    """What a worker has logged."""
    return [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]


def owned(worker: Worker) -> list[set[int]]:
    """What it owned, from its first log line that says so to its last."""
    found = (re.search(r"\[([\d, ]*)\] (owned|stay)", line["message"]) for line in said(worker))
    return [{int(number) for number in match[1].split(",") if number.strip()} for match in found if match]


def shares(workers: list[Worker], *counts: int) -> bool:
    """Whether each of the workers has owned something, and by now owns so many."""
    return all(map(owned, workers)) and [len(owned(worker)[-1]) for worker in workers] == list(counts)


@pytest.mark.timeout(240)
def test_a_partition_that_stays_is_committed_on_while_another_is_rebuilt(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, partitions=2, **LOG) as made:
        workers = [made.start("w1"), made.start("w2")]
        made.wait_for(lambda: shares(workers, 1, 1), "sharing")
        (kept,), (moving,) = (owned(worker)[-1] for worker in workers)
        for number in range(PENDING):
            made.visit(number, partition=moving)
        made.wait_until_done()
        workers[1].kill()
        sent = PENDING
        while not (taken_up := _taken_up(workers[0], moving)):
            made.visit(sent, partition=kept)
            made.flush()
            sent += 1
        made.wait_until_done()
        began_s, ended_s = taken_up
        answers = [r.timestamp_ms / 1000 for r in made.read(made.config.predictions.topic, kept)]
        assert [at_s for at_s in answers if began_s + 0.05 < at_s < ended_s - 0.05], (taken_up, answers[-20:])
        assert not made.audited(sample=0)["findings"]


def _taken_up(worker: Worker, partition: int) -> tuple[float, float] | None:
    """From when to when it rebuilt a partition that has something to be rebuilt."""
    for line in said(worker):
        match = re.search(rf"partition {partition} taken up .*: (\d+) events .*rebuilt in ([\d.]+) s", line["message"])
        if match and int(match[1]):
            ended_s = datetime.fromisoformat(line["timestamp"]).timestamp()
            return ended_s - float(match[2]), ended_s
    return None


@pytest.mark.timeout(240)
def test_a_worker_that_comes_takes_its_share_and_nothing_else_moves(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, partitions=12, **LOG) as made:
        workers = [made.start("w1"), made.start("w2")]
        made.wait_for(lambda: shares(workers, 6, 6), "sharing")
        before = [owned(worker)[-1] for worker in workers]
        workers.append(made.start("w3"))
        made.wait_for(lambda: shares(workers, 4, 4, 4), "a third share")
        first, second, third = (owned(worker)[-1] for worker in workers)
        assert first < before[0] and second < before[1] and first | second | third == set(range(12))
        _flows(made, 12)


def _flows(made: Service, partitions: int) -> None:
    for number in range(20 * partitions):
        made.visit(number, partition=number % partitions)
        made.truth(number, partition=number % partitions)
    made.wait_until_done()
    assert not made.audited(sample=0)["findings"]
