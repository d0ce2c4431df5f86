"""Checkpoints of heavy models are written beside the loop: the same files, errors told, no process left behind."""

import os
import pickle
import signal
from pathlib import Path

import pytest
from river import linear_model

from stream_ml.errors import CheckpointError
from stream_ml.storage import writer as module
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.writer import CheckpointWriter


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> CheckpointWriter:
    """A writer whose last checkpoint took too long, as every one does that takes any time."""
    monkeypatch.setattr(module, "PAUSE_MAX_S", 0.0)
    made = CheckpointWriter()
    assert made.write(lambda: sum(range(1000))) == "written"
    return made


def wait(writer: CheckpointWriter) -> bool:
    """Poll until it has ended."""
    while writer.busy:
        if writer.poll():
            return True
    return False


def test_a_quick_checkpoint_is_written_at_once() -> None:
    done: list[int] = []
    made = CheckpointWriter()
    assert made.write(lambda: done.append(os.getpid())) == "written"
    assert (done, made.busy) == ([os.getpid()], False)


def test_a_checkpoint_written_beside_the_loop_holds_the_model_as_it_was(slow: CheckpointWriter, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "lineage", keep=3)
    store.prepare()
    model = linear_model.LogisticRegression()
    model.learn_one({"x": 1.0}, True)
    expected = pickle.dumps(model.predict_proba_one({"x": 1.0}))
    said = slow.write(lambda: store.save(7, {"app": "a"}, {"estimator": model}, checkpoint_types=[]))
    model.learn_one({"x": 1.0}, False)
    assert said == "under way"
    assert wait(slow)
    (found,) = store.newest()
    assert isinstance(found, Checkpoint)
    read = store.content(found, [])["estimator"]
    assert pickle.dumps(read.predict_proba_one({"x": 1.0})) == expected


def test_a_failure_in_the_other_process_is_told_in_its_words(slow: CheckpointWriter) -> None:
    def full() -> None:
        raise CheckpointError("checkpoints/7 cannot be written: no space left on device")

    slow.write(full)
    with pytest.raises(CheckpointError, match="no space left"):
        wait(slow)
    assert not slow.busy
    assert slow.write(lambda: None) == "under way", "the next one is tried"
    assert wait(slow)


def test_a_process_that_is_killed_is_a_failure_and_the_next_one_is_tried(slow: CheckpointWriter) -> None:
    slow.write(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(CheckpointError, match="ended with -9"):
        wait(slow)


def test_the_last_checkpoint_waits_for_the_one_under_way_and_is_written_here(
    slow: CheckpointWriter, tmp_path: Path
) -> None:
    slow.write((tmp_path / "first").touch)
    here: list[int] = []
    assert slow.write(lambda: here.append(len(list(tmp_path.iterdir()))), wait=True) == "written"
    assert here == [1]
    assert not slow.busy


def test_nothing_under_way_is_nothing_written(slow: CheckpointWriter) -> None:
    assert not slow.poll()
    slow.finish()
