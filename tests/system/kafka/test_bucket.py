"""Checkpoints in a bucket of a real object store: a worker on a new machine begins there; one that is away is told."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_ml.embedded.broker import free_port
from tests.support.object_store import ObjectStore, object_store
from tests.support.service import service, until

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module", name="objects")
def _objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("objects")) as found:
        yield found


def test_a_worker_on_a_new_machine_begins_with_the_checkpoint_of_the_bucket(
    kafka: str, app_id: str, tmp_path: Path, objects: ObjectStore
) -> None:
    (tmp_path / "seal.key").write_text("k" * 40, "ascii")
    checkpoints = {"interval": "1s", "bucket": objects.settings(app_id), "key_file": "seal.key"}
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, checkpoints=checkpoints) as made:
        worker = made.start()
        made.pairs(range(200))
        made.wait_until_done()
        made.wait_for(lambda: made.learned == 200, "all is learned")
        assert worker.stop() == 0, worker.log[-2000:]
        written = made.newest_checkpoint()["position"]
        shutil.rmtree(tmp_path / "checkpoints")  # the machine is gone
        worker = made.start()
        made.pairs(range(200, 220))
        made.wait_until_done()
        made.wait_for(lambda: made.learned == 220, "what came since is learned")
        assert f"checkpoint {written} of" in worker.log and "came from the bucket" in worker.log
        assert f"checkpoint at {written} of" in worker.log, "and it was loaded"
        assert worker.stop() == 0
        folded = made.refold(made.newest_checkpoint()["position"])
        assert folded["equal"] and folded["quality_equal"]
        assert made.audited()["findings"] == []


@pytest.mark.long
def test_a_bucket_that_goes_away_is_a_problem_that_costs_nothing_and_ends(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    objects = ObjectStore(tmp_path / "objects")
    objects.start()
    try:
        bucket = objects.settings(app_id, timeout="1s")
        (tmp_path / "seal.key").write_text("k" * 40, "ascii")
        checkpoints = {"interval": "1s", "bucket": bucket, "key_file": "seal.key"}
        with service(tmp_path, kafka, app_id, http={"port": free_port()}, checkpoints=checkpoints) as made:
            worker = made.start()
            made.pairs(range(10))
            made.wait_until_done()
            made.wait_for(lambda: made.learned == 10 and not made.problems(), "a start")
            objects.kill()
            made.pairs(range(10, 30))
            made.wait_until_done()
            assert until(lambda: f"s3://tests/{app_id}" in made.problems(), 30), worker.log[-2000:]
            assert made.ready, "what is served is right"
            made.wait_for(lambda: made.learned == 30, "it learns on")
            objects.start()
            assert until(lambda: "s3://" not in made.problems(), 90), made.problems()
            names = objects.bucket(app_id).names(str(made.status()["model"]["lineage"]))
            assert int(max(names).partition(".")[0]) == made.newest_checkpoint()["position"]
    finally:
        objects.kill()
