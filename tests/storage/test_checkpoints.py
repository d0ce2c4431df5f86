"""Checkpoints: what comes back from disk, what never does, and what a hostile payload cannot do."""

import contextlib
import functools
import hashlib
import json
import math
import operator
import os
import pickle
import pickletools
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from river import linear_model, stats, utils
from river.drift.datasets import AirlinePassengers

from stream_ml.core.model.estimator import Learner
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.storage.checkpoints import FORMAT, Checkpoint, CheckpointStore
from stream_ml.storage.unpickle import loads
from tests.support.catalogue import CATALOGUE, answers, taught, teach
from tests.support.inputs import run_python

KEY = b"0123456789abcdef0123"
HEADER = {"app": "flights", "topic_id": "T", "created_at": 17, "spec": {"seed": 7, "l2": 0.5}}


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """A store without a key."""
    return _store(tmp_path)


def _store(directory: Path, *, key: bytes | None = None, lineage: str = "abc", keep: int = 5) -> CheckpointStore:
    found = CheckpointStore(directory, lineage, keep=keep, key=key)
    found.prepare()
    return found


def _save(store: CheckpointStore, position: int, content: Any = "content") -> Path:
    return store.save(position, HEADER, content, checkpoint_types=[])


def _loaded(store: CheckpointStore, at_most: int | None = None) -> list[int | str]:
    """Positions as they load, `damaged` in the place of one that does not."""
    found: list[int | str] = []
    for item in store.newest(at_most):
        try:
            if isinstance(item, CheckpointError):
                raise item
            store.content(item, [])
            found.append(item.position)
        except CheckpointError:
            found.append("damaged")
    return found


# --- models there and back ---

CONTINUE = """
import json, sys
from pathlib import Path
from stream_ml.core.model.estimator import Learner
from stream_ml.storage.checkpoints import CheckpointStore
from tests.support.catalogue import CATALOGUE, answers, teach
found = {}
for name, given in CATALOGUE.items():
    store = CheckpointStore(Path(sys.argv[1]), name.replace(" ", "-"), keep=5)
    checkpoint = next(iter(store.newest()), None)
    if checkpoint is None:
        continue  # its own test says that it could not be written
    learner = Learner(store.content(checkpoint, [])["estimator"], given.domain)
    loaded = answers(learner, given.task)
    teach(learner, given.task, 200, 300)
    found[name] = [loaded, answers(learner, given.task)]
print(json.dumps(found))
"""


# GaussianNB, HoeffdingTreeRegressor and SoftmaxRegression hold functions: they pass the checks at start, so they must
# get a checkpoint, too.
def test_a_header_is_told_without_its_payload_and_only_with_its_seal(tmp_path: Path) -> None:
    store = _store(tmp_path, key=KEY)
    cut, forged = _save(store, 1), _save(store, 2)
    _save(store, 3)
    cut.write_bytes(cut.read_bytes()[:-1])  # of the payload, which is found when it is read
    forged.write_bytes(forged.read_bytes().replace(b'"seed": 7', b'"seed": 8'))
    (store.folder / store.name_of(4)).mkdir()
    assert [header["position"] for header in store.headers()] == [3, 1]
    assert [header["position"] for header in store.headers(2)] == [1]
    with pytest.raises(CheckpointError, match="payload"):
        store.read(1)


@pytest.mark.parametrize("name", CATALOGUE)
def test_model_of_the_catalogue_can_be_written_and_loaded(tmp_path: Path, name: str) -> None:
    store, given, learner = _store(tmp_path), CATALOGUE[name], taught(name)
    _save(store, 200, {"estimator": learner.estimator})
    checkpoint = next(iter(store.newest()))
    assert isinstance(checkpoint, Checkpoint)
    loaded = Learner(store.content(checkpoint, [])["estimator"], given.domain)
    assert answers(loaded, given.task) == answers(learner, given.task)


def test_models_answer_the_same_bits_in_another_process_and_after_learning_on(tmp_path: Path) -> None:
    expected = {}
    for name, given in CATALOGUE.items():
        learner = taught(name)
        store = _store(tmp_path, lineage=name.replace(" ", "-"))
        with contextlib.suppress(CheckpointError):
            _save(store, 200, {"estimator": learner.estimator})
        if not _loaded(store):
            continue
        before = answers(learner, given.task)
        teach(learner, given.task, 200, 300)
        expected[name] = [before, answers(learner, given.task)]
        assert expected[name][0] != expected[name][1]
    ended = run_python(CONTINUE, str(tmp_path), hash_seed=4_242)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == json.loads(json.dumps(expected))


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "x", b"y"], ("t", 1): {1, 2}},
        2**200,
        float("inf"),
        stats.Mean(),
        np.float64(1.5),
        np.int64(3),
        np.random.RandomState(3),
        pytest.param(
            np.random.default_rng(3),
            # (numpy.random.bit_generator.__pyx_unpickle_SeedSequence) that is not.
            id="default_rng",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_comes_back(store: CheckpointStore, value: Any) -> None:
    _save(store, 1, value)
    checkpoint = next(iter(store.newest()))
    assert isinstance(checkpoint, Checkpoint)
    assert pickle.dumps(store.content(checkpoint, [])) == pickle.dumps(pickle.loads(pickle.dumps(value)))


def test_array_comes_back(store: CheckpointStore) -> None:
    _save(store, 1, np.arange(6.0).reshape(2, 3))
    checkpoint = next(iter(store.newest()))
    assert isinstance(checkpoint, Checkpoint)
    assert store.content(checkpoint, []).tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_header_comes_back(store: CheckpointStore) -> None:
    _save(store, 12)
    checkpoint = next(iter(store.newest()))
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.position == 12
    assert {**checkpoint.header, **HEADER} == checkpoint.header
    assert checkpoint.header["lineage"] == "abc"


# --- names, order, number ---


def test_file_is_named_by_lineage_and_20_digits(store: CheckpointStore, tmp_path: Path) -> None:
    assert _save(store, 12) == tmp_path / "abc" / "00000000000000000012.ckpt"
    assert (tmp_path / "abc" / "00000000000000000012.ckpt").stat().st_mode & 0o077 == 0


def test_folder_is_for_its_owner_only(store: CheckpointStore, tmp_path: Path) -> None:
    assert (tmp_path / "abc").stat().st_mode & 0o077 == 0


def test_newest_comes_first_and_at_most_limits(store: CheckpointStore) -> None:
    for position in (9, 10, 100):
        _save(store, position)
    assert _loaded(store) == [100, 10, 9]
    assert _loaded(store, at_most=99) == [10, 9]
    assert _loaded(store, at_most=9) == [9]
    assert _loaded(store, at_most=8) == []


def test_name_that_is_taken_is_success_and_stays_as_it_is(store: CheckpointStore) -> None:
    first = _save(store, 5, "first").read_bytes()
    assert _save(store, 5, "second").read_bytes() == first


def test_newest_ones_are_kept(tmp_path: Path) -> None:
    store = _store(tmp_path, keep=3)
    for position in range(1, 8):
        _save(store, position)
    assert _loaded(store) == [7, 6, 5]
    assert len(list((tmp_path / "abc").iterdir())) == 3


def test_temporary_file_is_no_checkpoint(tmp_path: Path) -> None:
    store = _store(tmp_path, keep=2)
    folder = tmp_path / "abc"
    _save(store, 1)
    content = (folder / "00000000000000000001.ckpt").read_bytes()
    for name in (".00000000000000000009.ckpt.tmp.77", ".00000000000000000008.ckpt.tmp.1"):
        (folder / name).write_bytes(content)
    _save(store, 2)
    assert _loaded(store) == [2, 1]


def test_old_temporary_file_is_taken_away_and_a_new_one_is_left(tmp_path: Path) -> None:
    store = _store(tmp_path)
    old, new = (tmp_path / "abc" / f".0000000000000000000{i}.ckpt.tmp.7" for i in (1, 2))
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (1_000_000, 1_000_000))
    store.prepare()
    assert (old.exists(), new.exists()) == (False, True)


def test_no_folder_holds_no_checkpoints(tmp_path: Path) -> None:
    assert _loaded(CheckpointStore(tmp_path / "none", "abc", keep=5)) == []


def test_file_with_another_name_is_passed_over_when_limited(store: CheckpointStore, tmp_path: Path) -> None:
    path = _save(store, 5)
    (tmp_path / "abc" / "copy.ckpt").write_bytes(path.read_bytes())
    assert 5 in _loaded(store, at_most=9)


def test_file_with_another_name_takes_no_place(tmp_path: Path) -> None:
    store = _store(tmp_path, keep=1)
    (tmp_path / "abc" / "copy.ckpt").write_bytes(b"")
    _save(store, 5)
    assert 5 in _loaded(store)


# --- damage ---


def _each_damage(whole: bytes) -> Iterator[bytes]:
    start = whole.index(b"\n") + 1
    step = max(1, (len(whole) - start) // 150)
    for at in range(start, len(whole), step):
        yield whole[:at] + bytes([whole[at] ^ (1 << (at % 8))]) + whole[at + 1 :]
    for i in range(50):
        yield whole[: len(whole) * i // 50]
    yield whole[:-1]
    yield whole + b"\x00"
    yield whole + whole
    yield b""


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
def test_damaged_payload_or_length_is_passed_over_for_an_older_one(tmp_path: Path, key: bytes | None) -> None:
    store = _store(tmp_path, key=key)
    _save(store, 1)
    path = _save(store, 2, {"estimator": taught("tree").estimator})
    damages = list(_each_damage(path.read_bytes()))
    assert len(damages) > 200
    for damaged in damages:
        path.write_bytes(damaged)
        assert _loaded(store) == ["damaged", 1]


@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no key"])
def test_flipped_byte_in_the_header_is_passed_over_for_an_older_one(tmp_path: Path, key: bytes | None) -> None:
    store = _store(tmp_path, key=key)
    _save(store, 1)
    path = _save(store, 2)
    whole = path.read_bytes()
    right = next(iter(store.newest()))
    assert isinstance(right, Checkpoint)
    accepted = []
    for at in range(whole.index(b"\n") + 1):
        for bit in (0, 2, 5):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
            first, *rest = store.newest()
            assert len(rest) == 1
            if isinstance(first, Checkpoint) and first.header != right.header:
                accepted.append(whole[max(0, at - 12) : at + 12])
    assert accepted == []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"42",
        b'"text"',
        b"\xff\xfe",
        b'{"format": 1}',
        b'{"format": [1]}',
        pytest.param(b"[" * 200_000, id="nested"),
        pytest.param(b"9" * 10_000, id="long number"),
    ],
)
def test_header_that_is_none_is_passed_over(store: CheckpointStore, tmp_path: Path, line: bytes) -> None:
    _save(store, 1)
    (tmp_path / "abc" / "00000000000000000002.ckpt").write_bytes(line + b"\npayload")
    assert _loaded(store) == ["damaged", 1]


def test_folder_in_the_place_of_a_file_is_passed_over(store: CheckpointStore, tmp_path: Path) -> None:
    _save(store, 1)
    (tmp_path / "abc" / "00000000000000000002.ckpt").mkdir()
    assert _loaded(store) == ["damaged", 1]


def _forged(at: int, payload: bytes, **header: Any) -> bytes:
    head = {"format": FORMAT, "lineage": "abc", "position": at, "hmac": None, **HEADER}
    head |= {"payload_bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest(), **header}
    sealed = {name: value for name, value in head.items() if name != "hmac"}
    head["header_sha256"] = hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()
    return json.dumps(head, sort_keys=True).encode() + b"\n" + payload


PAYLOAD = zstandard.ZstdCompressor().compress(pickle.dumps("content"))


def _put(directory: Path, position: int, whole: bytes) -> None:
    (directory / "abc" / f"{position:020d}.ckpt").write_bytes(whole)


def test_forged_file_without_a_flaw_loads_without_a_key(store: CheckpointStore, tmp_path: Path) -> None:
    _put(tmp_path, 2, _forged(2, PAYLOAD))
    assert _loaded(store) == [2]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"lineage": "other"}, "belongs elsewhere"),
        ({"position": 3}, "belongs elsewhere"),
        ({"format": FORMAT + 1}, f"has format {FORMAT + 1}"),
        ({"format": FORMAT - 1}, f"has format {FORMAT - 1}"),
        ({"sha256": "0" * 64}, "does not fit its digest"),
        ({"payload_bytes": 1}, "does not fit its header"),
    ],
)
def test_file_with_a_flaw_is_passed_over_in_words(
    store: CheckpointStore, tmp_path: Path, header: dict[str, Any], words: str
) -> None:
    _save(store, 1)
    _put(tmp_path, 2, _forged(2, PAYLOAD, **header))
    first, second = store.newest()
    assert isinstance(first, CheckpointError)
    assert words in str(first)
    assert isinstance(second, Checkpoint)


def test_file_of_another_lineage_is_passed_over(tmp_path: Path) -> None:
    other, own = _store(tmp_path, lineage="other"), _store(tmp_path)
    _put(tmp_path, 2, _save(other, 2).read_bytes())
    assert _loaded(own) == ["damaged"]


def test_renamed_file_is_passed_over(store: CheckpointStore, tmp_path: Path) -> None:
    _save(store, 2).rename(tmp_path / "abc" / "00000000000000000003.ckpt")
    assert _loaded(store) == ["damaged"]


# --- the key ---


def test_file_with_the_right_key_loads(tmp_path: Path) -> None:
    _save(_store(tmp_path, key=KEY), 2)
    assert _loaded(_store(tmp_path, key=KEY)) == [2]


@pytest.mark.parametrize("written", [None, b"another key, long enough"])
def test_file_without_the_right_hmac_is_passed_over(tmp_path: Path, written: bytes | None) -> None:
    _save(_store(tmp_path, key=written), 2)
    first = next(iter(_store(tmp_path, key=KEY).newest()))
    assert isinstance(first, CheckpointError)
    assert "not authentic" in str(first)


@pytest.mark.parametrize("found", [None, "", 0, "é", ["x"], "0" * 64])
def test_hmac_of_any_form_is_no_right_one(tmp_path: Path, found: Any) -> None:
    store = _store(tmp_path, key=KEY)
    _put(tmp_path, 2, _forged(2, PAYLOAD, hmac=found))
    assert _loaded(store) == ["damaged"]


def test_file_with_an_hmac_loads_without_a_key(tmp_path: Path) -> None:
    _save(_store(tmp_path, key=KEY), 2)
    assert _loaded(_store(tmp_path)) == [2]


# --- hostile payloads ---


class Reduced:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        """The call."""
        return self.call


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
@pytest.mark.parametrize("right_digest", [False, True])
def test_payload_that_would_run_code_does_not(tmp_path: Path, key: bytes | None, right_digest: bool) -> None:
    marker = tmp_path / "marker"
    payload = zstandard.ZstdCompressor().compress(pickle.dumps(Reduced(os.mkdir, str(marker))))
    store = _store(tmp_path, key=key)
    _put(tmp_path, 2, _forged(2, payload, **({} if right_digest else {"sha256": "0" * 64})))
    assert _loaded(store) == ["damaged"]
    assert not marker.exists()
    pickle.loads(zstandard.ZstdDecompressor().decompress(payload))
    assert marker.exists()  # it would have


def test_allowed_type_is_not_unpickled_before_the_digest_is_right(tmp_path: Path) -> None:
    store = _store(tmp_path)
    payload = zstandard.ZstdCompressor().compress(pickle.dumps("content"))
    _put(tmp_path, 2, _forged(2, payload, sha256="0" * 64))
    assert isinstance(next(iter(store.newest())), CheckpointError)


def _global(module: str, name: str) -> bytes:
    """A pickle that looks a name up, by the protocol 4 opcode that allows dots."""
    words = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + words + b"\x93."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "__import__"),
        ("builtins", "open"),
        ("builtins", "type"),
        ("builtins", "object.__subclasses__"),
        ("builtins", "dict.__class__"),
        ("operator", "attrgetter"),
        ("importlib", "import_module"),
        ("pathlib", "PosixPath"),
        ("functools", "reduce"),
        ("functools", "partial.func"),
        ("numpy.f2py", "run_main"),
        ("numpy.f2py", "compile"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.testing", "rundocs"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy", "save"),
        ("numpy.ctypeslib", "load_library"),
        ("numpy", "os.system"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "ndarray.__class__"),
        ("numpy.f2py", "subprocess.Popen"),
        ("river.base", "inspect.os.system"),
        ("river.base.base", "inspect.os.system"),
        ("river.base.base", "inspect.os._wrap_close"),
        ("river.base.base", "collections.Counter.__init__"),
        ("river.datasets.base", "zipfile.ZipFile"),
        ("river.datasets.base", "tarfile.TarFile"),
        ("river.datasets.base", "pathlib.PosixPath"),
        ("river.datasets.base", "request.urlopen"),
        ("river.stream", "iter_csv"),
        ("river.evaluate", "progressive_val_score"),
        ("river.drift.datasets", "AirlinePassengers"),
        ("river.drift.datasets.base", "ChangePointFileDataset"),
        ("river.bandit.datasets", "NewsArticles"),
        ("river.bandit.envs.testbed", "KArmedTestbed"),
        ("river.base", "Base.clone"),
        ("river.compose", "Pipeline.__init__.__globals__"),
        ("river", "no_such"),
        ("river..base", "Base"),
        ("riverside", "Base"),
        ("numpy_evil", "x"),
        ("", ""),
        ("stream_ml.core.evaluation.metrics", "dummy"),
        ("stream_ml.storage.unpickle", "importlib.import_module"),
        ("__main__", "x"),
    ],
)
def test_name_that_is_no_value_type_is_refused(module: str, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"not allowed|cannot be unpickled"):
        loads(_global(module, name))


def test_function_is_allowed_only_under_the_very_name_that_is_listed() -> None:
    assert loads(_global("math", "hypot"), ["math.hypot"]) is math.hypot
    for listed in ([], ["math"], ["math.sin"], ["hypot"]):
        with pytest.raises(CheckpointError, match="not allowed"):
            loads(_global("math", "hypot"), listed)


def test_partial_of_a_function_is_refused() -> None:
    with pytest.raises(CheckpointError, match="not allowed"):
        loads(b"\x80\x02cfunctools\npartial\ncposix\nsystem\n\x85R.")


def test_extension_and_persistent_opcodes_are_refused() -> None:
    for payload in (b"Pid\n.", b"]Q.", b"\x82\x01.", b"\x84\xff\xff\xff\x7f."):
        with pytest.raises(CheckpointError):
            loads(payload)


def test_memory_map_makes_no_file(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    payload = pickle.dumps(Reduced(np.memmap, str(victim), "uint8", "w+", 0, (1,)))
    with pytest.raises(CheckpointError):
        loads(payload)
    assert victim.read_bytes() == b"precious"


DOWNLOAD = """
import pickle, sys
from river import bandit, datasets
from stream_ml.errors import CheckpointError
from stream_ml.storage.unpickle import loads

class Reduced:
    def __reduce__(self):
        dataset = DATASET()
        dataset.url, dataset.unpack, dataset.filename, dataset.directory = sys.argv[1], False, sys.argv[2], ""
        return list, (dataset,)

payload = pickle.dumps(Reduced())
try:
    loads(payload)
except CheckpointError:
    pass
"""


@pytest.mark.parametrize("dataset", ["datasets.SMTP", "bandit.datasets.NewsArticles"])
def test_dataset_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 10)
    monkeypatch.setenv("RIVER_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run_python(DOWNLOAD.replace("DATASET", dataset), source.as_uri(), "planted")
    assert [path for path in tmp_path.rglob("planted") if path.is_file()] == []


def test_dataset_of_a_drift_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("Total Passengers,date\n7,1949-Jan\n", "utf-8")
    dataset = AirlinePassengers()
    dataset.directory, dataset.filename = str(tmp_path), "secret"
    with pytest.raises(CheckpointError, match="not allowed"):
        loads(pickle.dumps(Reduced(list, dataset)))


# --- a payload that changes the process that reads it ---


def _setting(module: str, name: str, attribute: str) -> bytes:
    """A pickle that sets an attribute of a class or function, not of an instance, to (7,)."""
    named = b"\x80\x02c" + f"{module}\n{name}\n".encode()
    return named + b"N}X" + len(attribute).to_bytes(4, "little") + attribute.encode() + b"K\x07\x85s\x86b."


SETTING = """
import functools, importlib, sys
from stream_ml.errors import CheckpointError
from stream_ml.storage.unpickle import loads
module, name, attribute, payload = sys.argv[1:]
owner = functools.reduce(getattr, name.split("."), importlib.import_module(module))
before = getattr(owner, attribute)
try:
    loads(bytes.fromhex(payload))
except CheckpointError:
    print("refused")
print("as it was" if getattr(owner, attribute) == before else "changed")
"""


@pytest.mark.parametrize(
    ("module", "name", "attribute"),
    [
        ("river.stats.mean", "Mean", "update"),
        ("river.linear_model.log_reg", "LogisticRegression", "learn_one"),
        ("stream_ml.core.evaluation.metrics", "ConfusionMatrix", "update"),
        ("collections", "Counter", "update"),
        ("copy", "deepcopy", "__defaults__"),
        ("river.naive_bayes.gaussian", "GaussianNB._make_gaussian", "__defaults__"),
    ],
)
@pytest.mark.parametrize("end", [b"", b"cos\nsystem\n."], ids=["loads", "is refused at its end"])
def test_payload_cannot_change_a_class_or_function_of_this_process(
    module: str, name: str, attribute: str, end: bytes
) -> None:
    payload = _setting(module, name, attribute)
    ended = run_python(SETTING, module, name, attribute, (payload[: -1 if end else None] + end).hex())
    assert ended.stdout == "refused\nas it was\n", ended.stdout + ended.stderr


# --- methods ---


def _method(instance: Any, name: str) -> Any:
    return loads(pickle.dumps(Reduced(getattr, instance, name)))


def _shadowed() -> Any:
    model = linear_model.PARegressor()
    model._calc_tau_1 = functools.partial(int, 7)
    return model


def test_method_that_rivers_own_models_hold_comes_back() -> None:
    found = _method(linear_model.PARegressor(C=0.5), "_calc_tau_1")
    assert found({"a": 1.0}, 3.0) == 0.5
    assert _method(str, "lower")("Ä") == "ä"


def test_method_is_the_classs_and_not_what_an_instance_calls_so() -> None:
    assert _method(_shadowed(), "_calc_tau_1")({"a": 1.0}, 3.0) == 1.0


@pytest.mark.parametrize(
    ("instance", "name"),
    [
        (linear_model.PARegressor(), "__class__"),
        (linear_model.PARegressor(), "__init__"),
        (linear_model.PARegressor(), "__reduce_ex__"),
        (linear_model.PARegressor(), "weights"),
        (linear_model.PARegressor(), "learn_one"),
        (linear_model.PARegressor, "__subclasses__"),
        (utils.Rolling(stats.Mean, 3), "obj"),
        (utils.Rolling(stats.Mean, 3), "__class__"),
        (str, "format"),
        (str, "format_map"),
        (str, "__subclasses__"),
        ("{0.__class__}", "format"),
        (np.arange(3.0), "tofile"),
        (np.arange(3.0), "dump"),
        (np.float64(1), "tofile"),
        (functools.partial(int), "func"),
        ({}, "pop"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_any_other_attribute_is_refused(instance: Any, name: str) -> None:
    with pytest.raises(CheckpointError, match="not allowed"):
        _method(instance, name)


def test_module_that_is_a_program_is_not_run() -> None:
    code = """
from stream_ml.errors import CheckpointError
from stream_ml.storage.unpickle import loads
try:
    loads(b"cnumpy.f2py.__main__\\nmain\\n.")
except CheckpointError:
    print("refused")
"""
    assert run_python(code).stdout == "refused\n"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b".",
        b"x",
        b"\x80\x09.",
        b"h\x05.",
        b"]]s.",
        b"cbuiltins\nint\n(S'x'\ntR.",
        b"cbuiltins\nint\n(]tR.",
        b"cbuiltins\nbytes\n(J\xff\xff\xff\xfftR.",
        b"cbuiltins\nbytearray\n(L9223372036854775807L\ntR.",
        b"cbuiltins\nbytearray\n(L99999999999999999999999L\ntR.",
        b"cbuiltins\nfloat\n(L" + b"9" * 400 + b"L\ntR.",
        b"cdecimal\nDecimal\n(S'x'\ntR.",
        b"cfractions\nFraction\n(I1\nI0\ntR.",
        b"I" + b"9" * 5_000 + b"\n.",
        b"ccollections\ndeque\n(]L-5L\ntR.",
    ],
    ids=range(16),
)
def test_payload_that_raises_anything_is_refused(payload: bytes) -> None:
    with pytest.raises(CheckpointError):
        loads(payload)


def test_mutated_pickles_give_a_value_or_a_checkpoint_error() -> None:
    payload = pickle.dumps({"estimator": CATALOGUE["scaled logistic"].build(), "accounts": {0: (1, {"t": 5})}})
    assert max(op.proto for op, _, _ in pickletools.genops(payload)) <= 5
    escaped = []
    for at in range(len(payload)):
        for bit in (0, 3, 6):
            try:
                loads(payload[:at] + bytes([payload[at] ^ (1 << bit)]) + payload[at + 1 :])
            except CheckpointError:
                pass
            except Exception as error:
                escaped.append((at, bit, type(error).__name__))
    assert escaped == []


def test_payload_that_claims_to_be_enormous_is_passed_over(store: CheckpointStore, tmp_path: Path) -> None:
    frame = b"\x28\xb5\x2f\xfd\xe0" + (2**50).to_bytes(8, "little") + b"\x01\x00\x00"
    _save(store, 1)
    _put(tmp_path, 2, _forged(2, frame))
    assert _loaded(store) == ["damaged", 1]


# --- types of the user's ---


def test_type_that_is_listed_comes_back_and_otherwise_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_types.py").write_text("class Mine:\n    rate = 3\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_types  # type: ignore[import-not-found]

    store = _store(tmp_path)
    with pytest.raises(CheckpointError, match=r"own_types\.Mine") as refused:
        _save(store, 1, own_types.Mine())
    assert "model.checkpoint_types: [own_types.Mine]" in refused.value.hint
    assert _loaded(store) == []
    listed = ["own_types.Mine"]
    store.save(1, HEADER, own_types.Mine(), checkpoint_types=listed)
    checkpoint = next(iter(store.newest()))
    assert isinstance(checkpoint, Checkpoint)
    assert store.content(checkpoint, listed).rate == 3
    with pytest.raises(CheckpointError, match="not allowed"):
        store.content(checkpoint, [])


def test_everything_that_has_to_be_listed_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "class Mine:\n    pass\n\n\nclass Other:\n    pass\n\n\ndef doubled(x):\n    return x\n"
    (tmp_path / "own_parts.py").write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_parts  # type: ignore[import-not-found]

    with pytest.raises(CheckpointError) as refused:
        _save(_store(tmp_path), 1, [own_parts.Mine(), own_parts.doubled, {"b": own_parts.Other()}, own_parts.Mine()])
    assert refused.value.hint.endswith("model.checkpoint_types: [own_parts.Mine, own_parts.doubled, own_parts.Other]")


@pytest.mark.parametrize(
    "value", [operator.neg, operator.attrgetter("a"), np.log1p, open, os.path.join, {}.get, math.gcd, "x".join]
)
def test_function_that_is_not_the_users_is_refused_with_the_way_out_and_not_proposed(
    store: CheckpointStore, value: Any
) -> None:
    with pytest.raises(CheckpointError, match="not allowed") as refused:
        _save(store, 1, value)
    assert "checkpoint_types: [" not in str(refused.value)
    assert "a function of your own" in refused.value.hint


@pytest.mark.parametrize("make", [lambda: lambda x: x, lambda: (i for i in ()), lambda: memoryview(b"")])
def test_content_that_cannot_be_pickled_is_a_checkpoint_error(store: CheckpointStore, make: Callable[[], Any]) -> None:
    with pytest.raises(CheckpointError):
        _save(store, 1, make())


# --- disks ---

FULL = """
import resource, sys
from pathlib import Path
from stream_ml.errors import CheckpointError
from stream_ml.storage.checkpoints import CheckpointStore
store = CheckpointStore(Path(sys.argv[1]), "abc", keep=1)
store.prepare()
store.save(1, {}, "small", checkpoint_types=[])
resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))
import random
try:
    store.save(2, {}, random.Random(1).randbytes(100_000), checkpoint_types=[])
except CheckpointError as error:
    print("refused", "00002.ckpt cannot be written" in str(error))
"""


FULL_AT_START = """
import os, sys
from pathlib import Path
os.environ["STREAM_ML_FAIL_POINTS"] = "checkpoint-probed:full"
from stream_ml.storage.checkpoints import CheckpointStore
print(CheckpointStore(Path(sys.argv[1]), "abc", keep=1).prepare())
"""


def test_full_disk_is_a_checkpoint_error_and_older_ones_stay(tmp_path: Path) -> None:
    ended = run_python(FULL, str(tmp_path))
    assert ended.stdout == "refused True\n", ended.stderr
    assert [path.name for path in (tmp_path / "abc").iterdir()] == ["00000000000000000001.ckpt"]
    assert _loaded(_store(tmp_path)) == [1]


def test_a_start_on_a_full_disk_goes_on_and_says_so(tmp_path: Path) -> None:
    ended = run_python(FULL_AT_START, str(tmp_path))
    where = tmp_path / "abc"
    assert ended.stdout == f"checkpoints cannot be written to {where}: No space left on device\n", ended.stderr
    assert list((tmp_path / "abc").iterdir()) == []


def test_directory_that_is_a_file_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be written") as refused:
        _store(tmp_path / "file")
    assert "checkpoints.directory" in refused.value.hint


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name_and_its_name_is_on_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, done = _store(tmp_path), []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def link(source: Path, target: Path) -> None:
        done.append("name")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    _save(store, 1)
    assert done == ["file", "name", "folder"]
