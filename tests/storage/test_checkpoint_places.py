"""A place for checkpoints that goes away, fills with other things, or takes nothing: told, mended, never the end."""

import shutil
from pathlib import Path

import pytest

from stream_ml.errors import CheckpointError
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore

HEADER = {"app": "flights", "topic_id": "T", "created_at": 17, "spec": {"seed": 7}}


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    found = CheckpointStore(tmp_path / "checkpoints", "abc", keep=3)
    found.prepare()
    return found


def save(store: CheckpointStore, *positions: int) -> None:
    for position in positions:
        store.save(position, HEADER, "content", checkpoint_types=[])


def positions(store: CheckpointStore) -> list[int]:
    """Of the checkpoints that can be used, newest first."""
    return [found.position for found in store.newest() if isinstance(found, Checkpoint)]


def file_of(folder: Path, position: int) -> Path:
    return folder / "checkpoints" / "abc" / f"{position:020d}.ckpt"


@pytest.mark.parametrize("gone", ["checkpoints/abc", "checkpoints"])
def test_a_folder_that_went_away_is_made_again(store: CheckpointStore, tmp_path: Path, gone: str) -> None:
    save(store, 1)
    shutil.rmtree(tmp_path / gone)
    save(store, 2)
    assert positions(store) == [2]
    assert (tmp_path / "checkpoints" / "abc").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", ["checkpoints/abc", "checkpoints"])
def test_a_folder_that_became_a_file_is_a_checkpoint_error(store: CheckpointStore, tmp_path: Path, place: str) -> None:
    save(store, 1)
    shutil.rmtree(tmp_path / place)
    (tmp_path / place).write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(store, 2)
    (tmp_path / place).unlink()
    save(store, 3)
    assert positions(store) == [3]


@pytest.mark.parametrize("position", [1, 99])
def test_a_folder_named_like_a_checkpoint_is_left_alone(store: CheckpointStore, tmp_path: Path, position: int) -> None:
    file_of(tmp_path, position).mkdir()
    save(store, 2, 3, 4, 5)
    assert positions(store) == [5, 4, 3]
    assert file_of(tmp_path, position).is_dir()


def test_files_of_higher_positions_take_no_place_of_what_is_written(store: CheckpointStore, tmp_path: Path) -> None:
    for position in (90, 91, 92):
        file_of(tmp_path, position).write_bytes(b"none of ours")
    save(store, 1, 2, 3, 4)
    assert positions(store) == [4, 3, 2]


@pytest.mark.parametrize("taken_by", ["a folder", "other bytes", "half of it"])
def test_a_name_that_is_taken_by_no_checkpoint_is_no_success(
    store: CheckpointStore, tmp_path: Path, taken_by: str
) -> None:
    place = file_of(tmp_path, 7)
    if taken_by == "a folder":
        place.mkdir()
    elif taken_by == "other bytes":
        place.write_bytes(b"none of ours")
    else:
        save(store, 7)
        place.write_bytes(place.read_bytes()[:-9])
    try:
        save(store, 7)
    except CheckpointError:
        return
    assert positions(store) == [7], "either it says that it failed, or it is there"
