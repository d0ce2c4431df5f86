"""Killed at every place of a turn, of taking partitions up, of writing a checkpoint: nothing lost, nothing twice."""

import signal
from pathlib import Path
from typing import get_args

import pytest

from stream_ml.runtime.failpoints import Place
from tests.support.service import Service, service

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300), pytest.mark.long]

STEP = 60  # events, each with a label, for each place
DELAY = 20
AT_ONCE = ("on-assign", "after-claim", "in-rebuild", "checkpoint-probed")  # passed once when a worker starts
CHECKPOINT = tuple(place for place in get_args(Place) if place.startswith(("checkpoint", "before-prune")))
MOVING = ("on-revoke",)  # passed when another worker comes
MODELS = tuple(place for place in get_args(Place) if place.startswith("model-"))  # where the model is another one


def produce(made: Service, first: int) -> int:
    for number in range(first, first + STEP):
        made.visit(number)
        if number >= DELAY:
            made.truth(number - DELAY, delay_s=DELAY)
    made.flush()
    return first + STEP


def test_killed_at_every_place_nothing_is_lost_or_twice_and_the_model_is_the_same(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    small = {"delivery": {"batch_max_records": 10}, "checkpoints": {"interval": "100ms", "keep": 2}}
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        produced = produce(made, 0)
        for place in [place for place in get_args(Place) if place not in (*MOVING, *MODELS)]:
            produced = produce(made, produced)
            passing = 1 if place in AT_ONCE else 2
            worker = made.start(fail=f"{place}:kill:{passing}", **small)
            assert worker.wait() == -signal.SIGKILL, f"{place} was never passed\n{worker.log}"
        for delay_ms in (1, 2, 4):  # the commit is on its way, carried out, or answered
            produced = produce(made, produced)
            worker = made.start(fail=f"before-commit:kill:3:{delay_ms}ms", **small)
            assert worker.wait() == -signal.SIGKILL, worker.log
        last = made.start(**small)
        made.wait_until_done()
        assert last.stop() == 0, last.log
        found = made.audited()
        assert not found["findings"] and not found["waiting"] and not found["unread"], found
        assert (found["predictions"], found["examples"]) == (produced, produced - DELAY)
        header = made.newest_checkpoint()
        again = made.refold(header["position"])
        assert again["equal"] and again["quality_equal"] and not again["dropped"], again


def test_killed_while_partitions_are_taken_away_the_others_go_on(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        first = made.start("w1", fail="on-revoke:kill")
        produced = produce(made, 0)
        made.wait_until_done()
        second = made.start("w2")
        assert first.wait() == -signal.SIGKILL, first.log
        produced = produce(made, produced)
        made.wait_until_done()
        assert second.stop() == 0, second.log
        found = made.audited(sample=0)
        assert not found["findings"] and not found["unread"], found
        assert found["predictions"] == produced
