"""What spoils a model, or breaks the sequence, halts every replica at the same place, and one command lifts all."""

import itertools
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stream_ml.kafka.writing.commands import write_command
from tests.support.service import Service, Worker, service

pytestmark = [pytest.mark.kafka, pytest.mark.long]

ALL = ("w1", "w2", "w3")
LIFTED = "ended: folding again"
BRITTLE = """
import math

from river import compose, linear_model, preprocessing


class Brittle(linear_model.LogisticRegression):
    def learn_one(self, x, y, w=1.0):
        super().learn_one(x, y, w)
        if x.get("kind_raises"):
            raise ValueError("half learned")
        if x.get("kind_spoils"):
            self.intercept = math.nan


def build():
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | Brittle()
"""


def brittle(folder: Path, servers: str, app_id: str) -> Any:
    """A service of three partitions whose model one kind of example breaks, and another turns into NaN."""
    (folder / f"brittle_{app_id}.py").write_text(BRITTLE, "utf-8")
    model = {"factory": f"brittle_{app_id}:build", "checkpoint_types": [f"brittle_{app_id}.Brittle"]}
    return service(folder, servers, app_id, partitions=3, model=model, delivery={"session_timeout": "20s"})


def start(made: Service, *instances: str, **changes: Any) -> list[Worker]:
    """Workers, each with checkpoints of its own."""
    return [made.start(name, checkpoints={"directory": f"of-{name}", **changes}) for name in instances]


def shared(made: Service, workers: list[Worker]) -> None:
    """Wait until these own all partitions, each some of them."""

    def is_so() -> bool:
        shares = [worker.owned for worker in workers]
        return all(shares) and sorted(itertools.chain(*shares)) == list(range(made.partitions))

    made.wait_for(is_so, f"a share for each of {len(workers)}")


def start_three(made: Service, **changes: Any) -> list[Worker]:
    """Three workers with a partition each, in the order of their partitions."""
    workers = start(made, *ALL, **changes)
    shared(made, workers)
    return sorted(workers, key=lambda worker: worker.owned)


def learn(made: Service, first: int, last: int, *, partitions: int = 3, **values: Any) -> None:
    """Events with their labels, over so many partitions."""
    for number in range(first, last):
        made.visit(number, partition=number % partitions, **values)
        made.truth(number, partition=number % partitions)
    made.wait_until_done()


def cli(made: Service, *arguments: Any) -> str:
    command = [sys.executable, "-m", "stream_ml", arguments[0], str(made.folder / "w1.yaml")]
    done = subprocess.run([*command, *map(str, arguments[1:])], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def halts(worker: Worker) -> list[int]:
    return [int(position) for position in re.findall(r"learning halted at (\d+)", worker.log)]


def goes_on(worker: Worker) -> bool:
    """Whether a model whose halt was ended has learned up to the log's end again."""
    return "has caught up with the log" in worker.log.partition(LIFTED)[2]


def flags(made: Service, first: int) -> list[set[str]]:
    """Flags of the predictions of events from this number on, over all partitions; cold is left out."""
    found = [p for number in range(made.partitions) for p in made.predictions(number)]
    return [set(p["flags"].split(",")) - {"cold", ""} for p in found if int(p["event_id"][1:]) >= first]


def ended_alike(made: Service, workers: list[Worker], examples: int) -> None:
    """Stopped, all have a checkpoint at one position, equal to a fold that was never interrupted."""
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0, 0, 0], made.logs()
    headers = [made.newest_checkpoint(name) for name in ALL]
    assert len({header["position"] for header in headers}) == 1, headers
    assert [header["examples_learned"] for header in headers] == [examples] * 3
    again = made.refold(headers[0]["position"], *ALL)
    assert again["equal"] and again["quality_equal"] and not again["halt"], again
    assert (again["examples"], again["position"]) == (examples, headers[0]["position"])


def test_an_example_that_raises_halts_all_replicas_there_also_one_that_starts_later(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with brittle(tmp_path, kafka, app_id) as made:
        workers = start(made, "w1") + start(made, "w2", interval="1s")
        shared(made, workers)
        learn(made, 0, 90)
        learn(made, 90, 91, kind="raises")
        made.wait_for(lambda: all(map(halts, workers)), "the halt of both")
        learn(made, 91, 120)
        workers += start(made, "w3")
        made.wait_for(lambda: bool(halts(workers[2])), "the halt of the third")
        shared(made, workers)
        learn(made, 120, 150)
        assert flags(made, 91) == [{"learning_halted"}] * 59
        (position,) = halts(workers[0])
        assert [halts(worker) for worker in workers] == [[position]] * 3
        assert "skip stands in" in cli(made, "skip", position)
        made.wait_for(lambda: all(map(goes_on, workers)), "the lift of all")
        learn(made, 150, 180)
        assert flags(made, 150) == [set()] * 30
        ended_alike(made, workers, 179)
        found = made.audited()
        assert not found["findings"] and not found["waiting"], found
        assert (found["predictions"], found["examples"]) == (180, 180)


def test_a_model_that_stops_being_finite_halts_all_replicas_at_the_example_that_did_it(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with brittle(tmp_path, kafka, app_id) as made:
        workers = start_three(made, interval="1s")
        learn(made, 0, 90)
        workers[2].process.send_signal(signal.SIGSTOP)
        learn(made, 90, 91, kind="spoils")
        learn(made, 92, 200, partitions=2)
        made.wait_for(lambda: all(map(halts, workers[:2])), "the halt of two")
        workers[2].process.send_signal(signal.SIGCONT)
        made.wait_for(lambda: bool(halts(workers[2])), "the halt of the third")
        learn(made, 200, 230)
        assert flags(made, 200) == [{"learning_halted"}] * 30
        (position,) = halts(workers[0])
        assert [halts(worker) for worker in workers] == [[position]] * 3
        write_command(made.config, "skip", {"position": position})
        made.wait_for(lambda: all(map(goes_on, workers)), "the lift of all")
        learn(made, 230, 260)
        assert flags(made, 230) == [set()] * 30
        assert all(0.0 < p["score"] < 1.0 for p in made.predictions() if int(p["event_id"][1:]) >= 200)
        ended_alike(made, workers, 258)
        found = made.audited()
        assert not found["findings"] and not found["waiting"], found


def test_a_gap_halts_all_replicas_and_accepting_it_learns_the_example_in_all(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with brittle(tmp_path, kafka, app_id) as made:
        workers = start_three(made)
        learn(made, 0, 60)
        workers[1].process.send_signal(signal.SIGSTOP)
        made.forge(5)
        made.wait_for(lambda: bool(halts(workers[0]) and halts(workers[2])), "the halt of two")
        (position,) = halts(workers[0])
        write_command(made.config, "accept-gap", {"position": position})
        made.forge(6)
        made.wait_for(lambda: LIFTED in workers[0].log and LIFTED in workers[2].log, "the lift of two")
        workers[1].process.send_signal(signal.SIGCONT)
        made.wait_for(lambda: LIFTED in workers[1].log, "the halt and the lift of the third, both in one turn")
        learn(made, 60, 90)
        assert [re.findall(r"halt at (\d+) ended", worker.log) for worker in workers] == [[str(position)]] * 3
        assert flags(made, 60) == [set()] * 30
        ended_alike(made, workers, 92)
        assert {rule for rule, count in made.audited()["counts"].items() if count} == {"foreign"}  # the forged ones


def test_what_comes_while_frozen_is_learned_by_no_replica_also_by_one_that_lags(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with brittle(tmp_path, kafka, app_id) as made:
        workers = start_three(made)
        learn(made, 0, 60)
        assert "freeze stands in" in cli(made, "freeze")
        learn(made, 60, 75)
        workers[2].process.send_signal(signal.SIGSTOP)
        learn(made, 76, 90, partitions=2)
        write_command(made.config, "resume", {})
        learn(made, 90, 100, partitions=2)
        workers[2].process.send_signal(signal.SIGCONT)
        learn(made, 100, 120)
        assert flags(made, 0) == [set()] * 119
        ended_alike(made, workers, 90)
        found = made.audited()
        assert not found["findings"] and not found["waiting"], found
