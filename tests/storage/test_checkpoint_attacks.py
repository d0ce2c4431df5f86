"""Whoever may write to the directory of checkpoints: what stands there is passed over, quickly, and runs nothing."""

import ast
import copy
import importlib
import multiprocessing
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
from river import drift, linear_model, metrics, stats, utils

from stream_ml.config import Config
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.storage.allowed import NAMED, RIVER_CLASSES
from stream_ml.storage.checkpoints import HEADER_BYTES_MAX, Checkpoint, CheckpointStore
from stream_ml.storage.files import exposure, own_key, read_key, read_small, replaced, sealed, unsealed
from stream_ml.storage.keys import key_file, key_of
from stream_ml.storage.pickling import dumps
from stream_ml.storage.unpickle import RANGE_MAX, loads
from tests.storage import river_classes

KEY = b"a key of sixteen"
OUTSIDE = {"os", "urllib", "requests", "shutil", "subprocess", "socket", "pathlib", "zipfile"}


class Reduced:
    """Pickles as a call."""

    def __init__(self, call: Any, *arguments: Any, state: Any = None) -> None:
        self.made = (call, arguments) if state is None else (call, arguments, state)

    def __reduce__(self) -> Any:
        return self.made


# --- what may be named ---


def test_the_exact_list_of_classes_is_the_installed_rivers() -> None:
    assert river_classes.FILE.read_text("utf-8") == river_classes.text(), "python -m tests.storage.river_classes"
    assert {module: sorted(names) for module, names in RIVER_CLASSES.items()} == river_classes.classes()


@pytest.mark.parametrize("module", sorted(module for module in RIVER_CLASSES if "_river_rust" not in module))
def test_no_module_of_a_listed_class_opens_a_file_or_the_network(module: str) -> None:
    file = importlib.import_module(module).__file__
    assert file is not None
    for node in ast.walk(ast.parse(Path(file).read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            roots = {name.partition(".")[0] for name in names}
            assert not roots & {"os", "urllib", "requests", "shutil", "subprocess", "socket", "pathlib", "zipfile"}, (
                module
            )
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
        assert called not in ("open", "eval", "exec", "__import__"), module


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("river.datasets", "Phishing"),
        ("river.datasets.base", "RemoteDataset"),
        ("river.drift.datasets", "AirlinePassengers"),
        ("river.drift", "datasets.AirlinePassengers"),
        ("river.bandit.datasets", "BanditDataset"),
        ("river.stream", "iter_csv"),
        ("river.linear_model", "LogisticRegression"),
        ("river.linear_model.log_reg", "optim.losses.Log"),
        ("river.base.base", "Base.clone"),
        ("river.compose.pipeline", "io.open"),
        ("river.utils.rolling", "inspect.getsource"),
        ("river.tree.hoeffding_tree", "sys"),
        ("builtins", "bytearray"),
        ("builtins", "bytes"),
    ],
)
def test_a_name_that_is_not_exactly_one_of_the_list_is_refused_unimported(module: str, name: str) -> None:
    payload = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name)) + b"\x93."
    with pytest.raises(CheckpointError, match="not allowed"):
        loads(payload)


@pytest.mark.parametrize("of", [list, tuple, set, frozenset])
def test_a_range_is_no_bomb(of: Any) -> None:
    assert list(loads(pickle.dumps(Reduced(list, range(3))))) == [0, 1, 2]
    with pytest.raises(CheckpointError, match="not allowed"):
        loads(pickle.dumps(Reduced(of, range(RANGE_MAX + 1))))


@pytest.mark.parametrize("made", [stats.Quantile, stats.RollingQuantile, stats.IQR, stats.Kurtosis, drift.ADWIN])
def test_a_native_state_that_is_none_makes_a_checkpoint_error_and_no_panic(made: Any) -> None:
    good = pickle.dumps(made(q=0.5, window_size=3) if made is stats.RollingQuantile else made())
    assert type(loads(good)) is made
    raised = 0
    for at in range(len(good)):
        for value in (0, 0x7F, 0xFF):
            try:
                loads(good[:at] + bytes([value]) + good[at + 1 :])
            except CheckpointError:
                raised += 1
    assert raised


class Foreign:
    """Of a module that nobody has listed."""


def test_a_pickle_from_elsewhere_never_gets_a_hint_to_allow_more() -> None:
    payload = b"cown_evil\nMine\n."
    with pytest.raises(CheckpointError) as refused:
        loads(payload)
    assert refused.value.hint == ""
    with pytest.raises(CheckpointError) as refused:
        dumps(Foreign())
    assert "test_checkpoint_attacks.Foreign" in refused.value.hint


def test_nothing_listed_looks_attributes_up_by_name_or_makes_much_of_little() -> None:
    for module, name in (
        ("builtins", "getattr"),
        ("builtins", "eval"),
        ("operator", "attrgetter"),
        ("builtins", "range"),
    ):
        assert name not in NAMED.get(module, ())


# --- what may stand in the directory ---


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """With one good checkpoint, at 1."""
    found = CheckpointStore(tmp_path / "checkpoints", "abc", keep=5, key=KEY)
    found.prepare()
    found.save(1, {"a": 1}, {"b": 2}, checkpoint_types=[])
    return found


def positions(found: CheckpointStore) -> list[Any]:
    """Those that are right, and words of the others."""
    return [one.position if isinstance(one, Checkpoint) else str(one) for one in found.newest()]


def place(tmp_path: Path, number: int = 2) -> Path:
    """Where a newer one would stand."""
    return tmp_path / "checkpoints" / "abc" / f"{number:020d}.ckpt"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "link to a device", "link to itself", "link to another", "folder", "socket"])
def test_what_is_no_file_is_passed_over_at_once(store: CheckpointStore, tmp_path: Path, kind: str) -> None:
    path = place(tmp_path)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as made:
            os.chdir(path.parent)
            made.bind(path.name)
    else:
        to = {"link to a device": "/dev/zero", "link to itself": path, "link to another": place(tmp_path, 1)}[kind]
        path.symlink_to(to)
    first, second = positions(store)
    assert "cannot be read" in first and second == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "header", [b"\xff\xfe\x00", b"[" * 100_000, b"{}", b"7", b"null", b'"a"', b"x" * HEADER_BYTES_MAX]
)
def test_a_header_that_is_none_is_passed_over(store: CheckpointStore, tmp_path: Path, header: bytes) -> None:
    place(tmp_path).write_bytes(header + b"\npayload")
    first, second = positions(store)
    assert "damaged header" in first and second == 1


@pytest.mark.timeout(20)
def test_a_sparse_file_of_a_terabyte_is_passed_over_unread(store: CheckpointStore, tmp_path: Path) -> None:
    content = place(tmp_path, 1).read_bytes()
    with place(tmp_path, 1).open("r+b") as file:
        file.truncate(2**40)
    (first,) = positions(store)
    assert "does not fit its header" in first
    place(tmp_path, 1).write_bytes(content)
    assert positions(store) == [1]


@pytest.mark.parametrize("key", [None, b"another key of 32 bytes ........"])
def test_a_checkpoint_of_another_key_is_passed_over_before_its_payload_is_looked_at(tmp_path: Path, key: Any) -> None:
    CheckpointStore(tmp_path, "abc", keep=5, key=key).save(1, {}, {"b": 2}, checkpoint_types=[])
    (words,) = positions(CheckpointStore(tmp_path, "abc", keep=5, key=KEY))
    assert "not authentic" in words and ("no key" in words) is (key is None) and "checkpoints.key_file" in words


def test_a_link_in_the_place_of_what_is_written_is_not_followed(store: CheckpointStore, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine", "utf-8")
    place(tmp_path).symlink_to(victim)
    store.save(2, {}, {"b": 3}, checkpoint_types=[])
    replaced(tmp_path / "checkpoints" / "abc" / "inputs.json", b"{}")
    assert victim.read_text("utf-8") == "mine"
    (tmp_path / "checkpoints" / "abc" / "inputs.json").unlink()
    (tmp_path / "checkpoints" / "abc" / "inputs.json").symlink_to(victim)
    replaced(tmp_path / "checkpoints" / "abc" / "inputs.json", b"{}")
    assert victim.read_text("utf-8") == "mine"
    with pytest.raises(OSError, match=r"symbolic|links"):
        read_small(_linked(tmp_path, victim), 100)


def _linked(tmp_path: Path, to: Path) -> Path:
    found = tmp_path / "link"
    found.symlink_to(to)
    return found


def test_directories_are_of_the_user_alone(store: CheckpointStore, tmp_path: Path) -> None:
    for folder in (tmp_path / "checkpoints", tmp_path / "checkpoints" / "abc"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(place(tmp_path, 1).stat().st_mode) == 0o600


# --- keys ---


def config_of(tmp_path: Path, **checkpoints: Any) -> Config:
    """The smallest one, in this folder."""
    found = Config(
        app={"id": "shop"},
        kafka={"bootstrap_servers": "none:9"},
        events={"topic": "e", "schema": "e.avsc", "id": "id"},
        feedback={"topic": "f", "schema": "f.avsc", "id": "id", "label": "y", "ttl": "1h"},
        predictions={"topic": "p"},
        model={"factory": "m:build", "task": "binary"},
        checkpoints=checkpoints,
    )
    found._folder = tmp_path
    return found


def test_an_app_makes_a_key_of_its_own_on_first_use(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert key_of(config) is None and not key_file(config).exists(), "who only reads makes none"
    key = key_of(config, make=True)
    assert key is not None and len(key) == 64 and key_of(config) == key_of(config, make=True) == key
    assert stat.S_IMODE(key_file(config).stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [".stream_ml-shop.key"]


def test_workers_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        keys = pool.map(_make, [tmp_path / "key"] * 32, chunksize=1)
    assert len(set(keys)) == 1 and keys[0]


def _make(path: Path) -> bytes | None:
    return own_key(path, make=True)


def test_where_no_key_can_be_kept_there_is_none(tmp_path: Path) -> None:
    assert own_key(tmp_path / "nowhere" / "key", make=True) is None


@pytest.mark.parametrize("content", [b"", b"short", b"fifteen bytes.."])
def test_a_key_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    for read in (lambda path: read_key(path, "checkpoints.key_file"), lambda path: own_key(path, make=True)):
        with pytest.raises(ConfigError, match="a key has at least 16"):
            read(tmp_path / "key")


@pytest.mark.timeout(20)
def test_a_key_file_that_is_missing_or_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "pipe", "."):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_key(tmp_path / name, "checkpoints.key_file")
    (tmp_path / "key").write_bytes(KEY)
    assert read_key(_linked(tmp_path, tmp_path / "key"), "checkpoints.key_file") == KEY, "as Kubernetes mounts a secret"


def test_permissions_that_let_others_in_are_said(tmp_path: Path) -> None:
    key, folder = tmp_path / "key", tmp_path / "folder"
    key.write_bytes(KEY)
    folder.mkdir()
    for path, mode, words in (
        (key, 0o600, ""),
        (key, 0o640, ""),
        (key, 0o644, "may read"),
        (key, 0o666, "may write to"),
        (folder, 0o755, ""),
        (folder, 0o777, "may write to"),
    ):
        path.chmod(mode)
        assert (words in exposure(path)) if words else not exposure(path)
    assert exposure(tmp_path / "missing") == ""


# --- what is kept beside checkpoints ---


def test_sealed_json_comes_back_and_nothing_else_does() -> None:
    value = {"a": [1, 2.5, None, "\u00fc"], "b": {}}
    content = sealed(value, KEY)
    assert unsealed(content, KEY) == value
    for other, key in (
        (content.replace(b"2.5", b"2.6"), KEY),
        (content, b"another key of sixteen"),
        (content.partition(b"\n")[2], KEY),
        (b"", KEY),
        (b"\n", KEY),
        (b"[" * 1_000_000, KEY),
        (b"\xff\xfe\n{}", KEY),
    ):
        with pytest.raises(ValueError, match="seal"):
            unsealed(other, key)


# --- what an attacker found ---


@pytest.mark.parametrize(
    "names",
    [
        "river.base.estimator EstimatorMeta",
        "abc ABCMeta",
        "builtins type",
        "builtins memoryview",
    ],
)
def test_what_made_code_run_is_no_longer_listed(names: str) -> None:
    """Classes of its own with a signature of its own, deepcopy as an unpickler, Base.clone over a wrapped function."""
    with pytest.raises(CheckpointError, match="not allowed"):
        loads(b"c" + "\n".join(names.split()).encode() + b"\n.")


def test_nothing_is_deeply_copied_while_a_checkpoint_is_loaded_and_afterwards_it_is() -> None:
    with pytest.raises(CheckpointError, match="copies a value"):
        loads(pickle.dumps(Reduced(copy.deepcopy, [1])))
    model = linear_model.SoftmaxRegression()
    model.learn_one({"x": 1.0}, "a")
    again = loads(pickle.dumps(loads(pickle.dumps(model))))
    for one in (model, again):
        one.learn_one({"x": 2.0}, "b")
    assert again.predict_proba_one({"x": 1.0}) == model.predict_proba_one({"x": 1.0})


def test_clone_is_a_method_of_metrics_alone() -> None:
    for other in (linear_model.LogisticRegression(), utils.Rolling(stats.Mean, window_size=3)):
        with pytest.raises(CheckpointError, match="clone"):
            loads(pickle.dumps(Reduced(getattr, other, "clone")))
    assert type(loads(pickle.dumps(metrics.Accuracy().clone))()) is metrics.Accuracy


@pytest.mark.parametrize("kind", ["link", "loop", "folder"])
def test_what_lies_in_the_folder_does_not_keep_a_worker_from_its_start(
    store: CheckpointStore, tmp_path: Path, kind: str
) -> None:
    path = place(tmp_path).with_name(".00000000000000000002.ckpt.tmp.x")
    if kind == "folder":
        path.mkdir()
        os.utime(path, (0, 0))
    else:
        path.symlink_to(path if kind == "loop" else tmp_path / "nowhere")
    store.prepare()
    assert positions(store) == [1]


def test_a_folder_that_became_a_link_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    mine = tmp_path / "victim" / f"{1:020d}.ckpt"
    mine.write_text("mine", "utf-8")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "abc").symlink_to(tmp_path / "victim")
    store = CheckpointStore(tmp_path / "checkpoints", "abc", keep=1, key=KEY)
    with pytest.raises(ConfigError, match="link"):
        store.prepare()
    with pytest.raises(CheckpointError, match="link"):
        store.save(2, {}, {}, checkpoint_types=[])
    assert mine.read_text("utf-8") == "mine" and len(list((tmp_path / "victim").iterdir())) == 1


def test_a_key_that_is_there_and_cannot_be_read_is_no_reason_to_do_without(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    key_file(config).mkdir()
    for make in (True, False):
        with pytest.raises(ConfigError, match="cannot be read"):
            key_of(config, make=make)
    nowhere = config_of(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no key for checkpoints can be kept") as refused:
        key_of(nowhere, make=True)
    assert "checkpoints.unsealed" in refused.value.hint
    assert key_of(config_of(tmp_path / "nowhere", unsealed=True), make=True) is None
