"""Checkpoints as an operator sees them: what is damaged is found, what is pinned stays, what is strange is refused."""

import time
from pathlib import Path

import pytest

from stream_ml.admin.models.checkpoints import Checkpoints
from stream_ml.config import Config
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.storage.checkpoints import CheckpointStore
from stream_ml.storage.keys import key_of
from tests.support.rows_app import app

ONE, OTHER = "1" * 16, "2" * 16


def kept(config: Config, lineage: str, *positions: int, age_s: float = 60.0) -> CheckpointStore:
    """A folder with these checkpoints, sealed with the app's key."""
    key = key_of(config, make=True)
    store = CheckpointStore(config.path(config.checkpoints.directory), lineage, keep=100, key=key)
    for position in positions:
        head = {"created_at": int((time.time() - age_s) * 1000), "examples_learned": position // 2, "log": {"id": "x"}}
        store.save(position, head, {"model": {"n": position}}, checkpoint_types=[])
    return store


def test_each_is_listed_and_one_that_is_damaged_says_so(tmp_path: Path) -> None:
    config = app(tmp_path)
    store = kept(config, ONE, 10, 20)
    kept(config, OTHER, 30)
    there = Checkpoints(config)
    assert [(one.lineage, one.position, one.examples_learned) for one in there.shown()] == [
        (ONE, 20, 10),
        (ONE, 10, 5),
        (OTHER, 30, 15),
    ]
    file = store.folder / store.name_of(10)
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    (damaged,) = [one for one in there.shown(ONE[:4]) if one.problem]
    assert damaged.position == 10 and "damaged" in damaged.problem
    with pytest.raises(ConfigError, match="no checkpoints of 9"):
        list(there.shown("9"))


def test_a_pin_is_kept_by_the_worker_that_writes_and_gone_when_it_is_taken_away(tmp_path: Path) -> None:
    config = app(tmp_path)
    kept(config, ONE, 10)
    there = Checkpoints(config)
    there.pin(f"{ONE[:6]}/10", "before-rollback", "to come back")
    assert next(iter(there.shown())).pins == ["before-rollback"]
    store = CheckpointStore(there.directory, ONE, keep=1, key=key_of(config))
    for position in (20, 30):
        store.save(position, {"created_at": 0}, {}, checkpoint_types=[])
    assert store.positions() == [30, 10]
    there.unpin(f"{ONE}/10", "before-rollback")
    store.save(40, {"created_at": 0}, {}, checkpoint_types=[])
    assert store.positions() == [40]
    with pytest.raises(ConfigError, match="no pin other"):
        there.unpin(f"{ONE}/40", "other")
    with pytest.raises(ConfigError, match="cannot name a pin"):
        there.pin(f"{ONE}/40", "../x", "")


@pytest.mark.parametrize("version", ["", "1/2/3", ONE, f"{ONE}/x", f"{ONE}/11", "/10", "9/10"])
def test_what_names_no_checkpoint_is_refused(version: str, tmp_path: Path) -> None:
    config = app(tmp_path)
    kept(config, ONE, 10)
    with pytest.raises(ConfigError, match="checkpoint"):
        Checkpoints(config).of(version)


def test_one_goes_to_another_machine_with_the_same_key_and_to_none_with_another(tmp_path: Path) -> None:
    here, there, stranger = (app(tmp_path / name) for name in ("here", "there", "stranger"))
    kept(here, ONE, 10)
    kept(stranger, OTHER, 1)
    key = next((tmp_path / "here").rglob("*.key"))
    other = tmp_path / "there" / key.relative_to(tmp_path / "here")
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(key.read_bytes())
    other.chmod(0o600)
    file = tmp_path / "one.ckpt"
    assert Checkpoints(here).write(f"{ONE}/10", file) == file.stat().st_size
    with pytest.raises(ConfigError, match="is there already"):
        Checkpoints(here).write(f"{ONE}/10", file)
    assert Checkpoints(there).take(file) == (ONE, 10)
    assert [one.problem for one in Checkpoints(there).shown()] == [""]
    with pytest.raises(CheckpointError, match="not authentic"):
        Checkpoints(stranger).take(file)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"nothing\n", b'{"lineage": "../../../../etc/x", "position": 1}\n', b"[" * 9_000]
)
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    config = app(tmp_path)
    kept(config, ONE, 10)
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CheckpointError):
        Checkpoints(config).take(tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot be read"):
        Checkpoints(config).take(tmp_path / "nowhere")


def test_only_what_nobody_wants_is_old_and_not_pinned_may_go(tmp_path: Path) -> None:
    config = app(tmp_path)
    kept(config, ONE, 10, age_s=90 * 86_400)
    kept(config, OTHER, 20, 30, age_s=90 * 86_400)
    there = Checkpoints(config)
    there.pin(f"{OTHER}/30", "kept", "")
    month_s = 30 * 86_400
    assert [(lineage, position) for lineage, position, _ in there.unwanted({ONE}, month_s)] == [(OTHER, 20)]
    assert there.unwanted({ONE, OTHER}, month_s) == [] == there.unwanted({ONE}, 100 * 86_400)
    there.remove(OTHER, 20)
    assert there.store(OTHER).positions() == [30]


def test_without_a_key_nothing_is_believed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no key by which"):
        Checkpoints(app(tmp_path))
