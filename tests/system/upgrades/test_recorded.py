"""What a version of before left behind, this one goes on with: topics, commits, checkpoints, models, configuration."""

from pathlib import Path
from typing import Any

import pytest

from stream_ml.app.assemble import assemble
from stream_ml.follower.recipes import own_recipe
from tests.support.other_versions import other_river
from tests.support.service import Service
from tests.system.upgrades.recording import FILES, digests, played_again

pytestmark = pytest.mark.kafka

WAITING = range(300, 340)
"""Events whose labels had not come when the recording ended."""

EARLY = range(1000, 1005)
"""Labels whose events had not come."""

NEW = range(1100, 1200)


def own_lineage(made: Service) -> str:
    """Of the recorded configuration where it is made by this environment: another River gives another one."""
    return own_recipe(assemble(made.config), made.facts().log).lineage


def began(made: Service) -> None:
    """Both workers, as they were."""
    workers = [made.start_as_written(name) for name in ("w1", "w2")]
    made.wait_for(lambda: all(len(worker.owned) == 1 for worker in workers), "a partition for each", 120)


def go_on(made: Service) -> None:
    """What had been on its way arrives, and more."""
    for number in WAITING:
        made.truth(number)
    for number in EARLY:
        made.visit(number)
    made.pairs(NEW)
    made.wait_until_done()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_a_recorded_service_goes_on_with_what_was_on_its_way(file: Path, tmp_path: Path) -> None:
    with played_again(file, tmp_path) as (made, said):
        before = digests(made)
        assert before == said["digests"]
        assert made.typed("check", "CONFIG", "--online")
        is_same = own_lineage(made) == said["lineage"]
        began(made)
        go_on(made)
        assert made.status()["state"] == "running" and not made.problems(), made.problems()
        logs = [worker.log for worker in made.workers]
        assert not any('"level": "error"' in log for log in logs), logs
        assert all("checkpoint at" in log for log in logs) or not is_same, logs
        for worker in made.workers:
            assert worker.stop() == 0, worker.log
        found = made.audited(sample=600)
        assert found["counts"] == said["audit"]["counts"], found
        assert found["examples"] == said["audit"]["examples"] + len(WAITING) + len(EARLY) + len(NEW)
        if is_same:
            checked(made, said, found)


def checked(made: Service, said: dict[str, Any], found: dict[str, Any]) -> None:
    """Every score of before comes out of the log again, and every checkpoint is what the log folds to."""
    assert found["rescored"]["unchecked"] == 0 and found["rescored"]["checked"] == 600
    assert {one["lineage"] for one in made.predictions(0)[-50:]} == {said["lineage"]}, "no other model took over"
    position = made.newest_checkpoint("w1", f"{said['lineage']}/*.ckpt")["position"]
    folded = made.refold(position, "w1", "w2")
    assert folded["equal"] and folded["quality_equal"], folded


@pytest.mark.long
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_a_recorded_log_is_folded_by_another_river_and_its_model_takes_over(file: Path, tmp_path: Path) -> None:
    with played_again(file, tmp_path) as (made, said):
        before = digests(made)
        made.code = other_river(tmp_path)
        began(made)
        go_on(made)
        for worker in made.workers:
            assert worker.stop() == 0, worker.log
        assert said["lineage"] not in {one["lineage"] for one in made.predictions(0)[-50:]}
        found = made.audit()
        assert dict(found.counts) == said["audit"]["counts"], found
        assert before == said["digests"]
