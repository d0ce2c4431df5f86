"""Checkpoints that cannot be written are reported, mended where that goes, and never the worker's end."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream_ml.embedded.broker import free_port
from stream_ml.kafka.writing.commands import write_command
from tests.support.service import Service, Worker, service, until

pytestmark = pytest.mark.kafka

SOON_S = 20.0  # for what a status says a few seconds later


@contextmanager
def working(folder: Path, servers: str, app_id: str) -> Iterator[tuple[Service, Worker]]:
    """A worker that has written a checkpoint, and tries each second where there is something new."""
    changes = {"http": {"port": free_port()}, "checkpoints": {"interval": "1s"}}
    with service(folder, servers, app_id, **changes) as made:
        worker = made.start()
        made.pairs(range(10))
        made.wait_for(lambda: position(made) > 0, "the first checkpoint")
        yield made, worker


def position(made: Service) -> int:
    checkpoint = made.status().get("checkpoint")
    return int(checkpoint["position"] or 0) if checkpoint else 0


def lives(made: Service, worker: Worker) -> None:
    """It has not ended, and all that was produced is scored."""
    made.wait_until_done()
    assert worker.process.poll() is None, worker.log[-2000:]


def test_a_directory_that_is_removed_is_made_again_by_the_next_checkpoint(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with working(tmp_path, kafka, app_id) as (made, worker):
        before = position(made)
        shutil.rmtree(tmp_path / "checkpoints")
        made.pairs(range(10, 20))
        assert until(lambda: position(made) > before, SOON_S), made.problems()
        assert int(made.newest_checkpoint()["position"]) > before
        lives(made, worker)


def test_a_directory_that_takes_nothing_is_a_problem_until_it_takes_something_again(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with working(tmp_path, kafka, app_id) as (made, worker):
        before, place = position(made), tmp_path / "checkpoints"
        shutil.rmtree(place)
        place.write_bytes(b"")  # as root, no mode would keep it from being written to
        made.pairs(range(10, 20))
        made.flush()
        assert until(lambda: "checkpoint" in made.problems(), SOON_S), worker.log[-2000:]
        assert str(place) in made.problems()
        assert made.ready, "what is served is right"
        lives(made, worker)
        place.unlink()
        made.pairs(range(20, 30))
        made.wait_for(lambda: position(made) > before, "a checkpoint")
        assert until(lambda: "checkpoint" not in made.problems(), SOON_S), made.problems()


def test_a_worker_whose_checkpoints_cannot_be_written_stops_in_order(kafka: str, app_id: str, tmp_path: Path) -> None:
    changes = {"checkpoints": {"interval": "1h"}}
    with service(tmp_path, kafka, app_id, **changes) as made:
        worker = made.start()
        made.pairs(range(10))
        made.wait_until_done()
        shutil.rmtree(tmp_path / "checkpoints")
        (tmp_path / "checkpoints").write_bytes(b"")
        assert worker.stop() == 0, worker.log[-2000:]
        assert "Traceback" not in worker.log


@pytest.mark.long
def test_a_rebaseline_outlives_a_directory_that_takes_nothing(kafka: str, app_id: str, tmp_path: Path) -> None:
    changes = {"http": {"port": free_port()}, "checkpoints": {"interval": "1h"}}
    with service(tmp_path, kafka, app_id, **changes) as made:
        worker = made.start()
        made.pairs(range(10))
        made.wait_until_done()
        shutil.rmtree(tmp_path / "checkpoints")
        (tmp_path / "checkpoints").write_bytes(b"")
        write_command(made.config, "rebaseline", {})
        ended = until(lambda: worker.process.poll() is not None, 5)
        assert not ended, worker.log[-2000:]


def test_files_of_higher_positions_do_not_crowd_out_the_checkpoints_that_are_written(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with working(tmp_path, kafka, app_id) as (made, _):
        before = position(made)
        (folder,) = [path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir() and path.name != "book"]
        for number in range(5):
            (folder / f"{900 + number:020d}.ckpt").write_bytes(b"none of ours")
        made.pairs(range(10, 20))
        made.wait_for(lambda: position(made) > before, "another checkpoint, as the status says")
        assert (folder / f"{position(made):020d}.ckpt").exists()
