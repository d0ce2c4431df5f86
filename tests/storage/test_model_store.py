"""The model store: a model reads back as it was kept, is never changed, and nothing in it is believed unchecked."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stream_ml.core.model.lineage import LINEAGE_DIGITS, digest_of
from stream_ml.storage.model_store import (
    FILE_BYTES_MAX,
    SOURCES_MAX,
    ModelStore,
    ModelStoreError,
    StoredModel,
    is_source,
)

SOURCES = {"model.py": b"from kit.scaling import K\n", "kit/__init__.py": b"", "kit/scaling.py": b"K = 1.0\n"}
OVERLAY = {"model": {"factory": "model:build", "params": {"l2": 0.1}}, "features": {}, "learning": {"guard": None}}
ENVIRONMENT = {"python": "3.11", "river": "0.26.0", "platform": "Linux ä"}


def model(sources: dict[str, bytes] = SOURCES, **changes: Any) -> StoredModel:
    """A model whose specification names these sources, and a module that lies elsewhere."""
    digests = {path: hashlib.sha256(text).hexdigest() for path, text in sources.items()}
    spec = {"log_id": "1" * 32, "seed": 7, "sources": {**digests, "shared.lib": "0" * 64}}
    return StoredModel(spec, OVERLAY, sources, ENVIRONMENT)._replace(**changes)


MODEL = model()
DIGEST = digest_of(MODEL.spec)
LINEAGE = DIGEST[:LINEAGE_DIGITS]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "apps" / "model-store")


@pytest.fixture
def kept(store: ModelStore) -> Path:
    """The folder of a model that is kept."""
    assert store.keep(LINEAGE, MODEL) == ""
    return store.folder(LINEAGE)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(store: ModelStore) -> str:
    """Why this model cannot be had from there, in words."""
    with pytest.raises(ModelStoreError) as raised:
        store.read(LINEAGE).check(DIGEST)
    return raised.value.message


# --- keep and read ---


def test_a_model_reads_back_as_it_was_kept(store: ModelStore, kept: Path) -> None:
    found = store.read(LINEAGE)
    found.check(DIGEST)
    assert found == MODEL
    assert sorted(files(kept)) == [
        "environment.json",
        "overlay.json",
        *sorted(f"sources/{path}" for path in SOURCES),
        "spec.json",
    ]


def test_a_model_without_source_reads_back(store: ModelStore) -> None:
    plain = model({})
    lineage = digest_of(plain.spec)[:LINEAGE_DIGITS]
    assert store.keep(lineage, plain) == ""
    found = store.read(lineage)
    found.check(digest_of(plain.spec))
    assert found == plain


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_model_is_its_users_alone(store: ModelStore, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert store.keep(LINEAGE, MODEL) == ""
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (store.directory, *store.directory.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_what_is_there_is_never_changed(store: ModelStore, kept: Path) -> None:
    before = files(kept)
    (kept / "spec.json").write_bytes(b"damaged")
    changed = model({"model.py": b"K = 2.0\n"}, overlay={}, environment={})
    assert f"{kept} is damaged, remove it" in store.keep(LINEAGE, changed)
    assert files(kept) == {**before, "spec.json": b"damaged"}


def test_models_lie_side_by_side(store: ModelStore, kept: Path) -> None:
    other = model({"model.py": b"K = 2.0\n"})
    lineage = digest_of(other.spec)[:LINEAGE_DIGITS]
    assert store.keep(lineage, other) == ""
    assert (store.read(lineage), store.read(LINEAGE)) == (other, MODEL)
    assert sorted(path.name for path in store.directory.iterdir()) == sorted([lineage, LINEAGE])


def test_a_model_that_is_not_there_is_told(store: ModelStore, kept: Path) -> None:
    with pytest.raises(ModelStoreError, match=f"it is not in the model store {store.directory}"):
        store.read("f" * 16)


# --- where nothing can be kept ---


def test_a_file_in_the_place_of_the_directory_is_told(store: ModelStore) -> None:
    store.directory.parent.mkdir()
    store.directory.write_bytes(b"mine")
    words = store.keep(LINEAGE, MODEL)
    assert words.startswith(f"model {LINEAGE} cannot be kept in {store.directory}: ")
    assert store.directory.read_bytes() == b"mine"
    assert list(store.directory.parent.iterdir()) == [store.directory]


def test_a_file_above_the_directory_is_told(store: ModelStore) -> None:
    store.directory.parent.write_bytes(b"mine")
    assert store.keep(LINEAGE, MODEL).endswith("Not a directory")
    assert store.directory.parent.read_bytes() == b"mine"


def test_a_file_in_the_place_of_the_model_is_told(store: ModelStore) -> None:
    store.directory.mkdir(parents=True)
    store.folder(LINEAGE).write_bytes(b"mine")
    assert store.keep(LINEAGE, MODEL).startswith(f"model {LINEAGE} cannot be kept in ")
    assert list(store.directory.iterdir()) == [store.folder(LINEAGE)]
    assert store.folder(LINEAGE).read_bytes() == b"mine"


def test_of_a_model_that_cannot_be_written_in_full_nothing_is_left(store: ModelStore) -> None:
    assert "leads out" in store.keep(LINEAGE, MODEL._replace(sources={"kit.py": b"", "kit.py/more.py": b""}))
    assert not store.directory.exists() or list(store.directory.iterdir()) == []


def keep_at_once(store: ModelStore, lineage: str, writers: list[StoredModel]) -> list[str]:
    """Each writer keeps its model under one lineage, in a thread of its own; what each was told."""
    begins = threading.Barrier(len(writers))

    def keep(writer: StoredModel) -> str:
        begins.wait(30)
        return ModelStore(store.directory).keep(lineage, writer)

    with ThreadPoolExecutor(len(writers)) as pool:
        return list(pool.map(keep, writers))


def test_two_writers_at_once_leave_one_whole_model(store: ModelStore) -> None:
    """Each has an environment of its own, so that a mixture would show."""
    writers = [MODEL._replace(environment={"by": number, "long": "x" * 50_000}) for number in range(4)]
    for lineage in (f"{number:016x}" for number in range(15)):
        assert keep_at_once(store, lineage, writers) == [""] * len(writers)
        found = store.read(lineage)
        found.check(DIGEST)
        assert found in writers
    assert len(list(store.directory.iterdir())) == 15


# --- what was damaged ---

DAMAGES: dict[str, bytes | None] = {
    "gone": None,
    "empty": b"",
    "cut": b'{"log_id": "1',
    "no JSON": b"\x00\x01",
    "no text": b'{"a": "\xff"}',
    "a list": b"[1]",
    "null": b"null",
    "nested": b"[" * 100_000,
    "large": b" " * (FILE_BYTES_MAX + 1),
}


@pytest.mark.parametrize("file", ["spec.json", "overlay.json", "environment.json"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_in_words(store: ModelStore, kept: Path, file: str, damage: bytes | None) -> None:
    (kept / file).unlink()
    if damage is not None:
        (kept / file).write_bytes(damage)
    assert refused(store).startswith(f"{kept} cannot be read: ")


def test_another_specification_is_refused(store: ModelStore, kept: Path) -> None:
    text = (kept / "spec.json").read_text("utf-8")
    (kept / "spec.json").write_text(text.replace('"seed":7', '"seed":8'), "utf-8")
    assert refused(store) == "its specification is another one than the log declares"


def test_a_specification_whose_lineage_alone_is_right_is_refused(store: ModelStore, kept: Path) -> None:
    with pytest.raises(ModelStoreError, match="another one than the log declares"):
        store.read(LINEAGE).check(LINEAGE + "0" * 48)


@pytest.mark.parametrize("path", SOURCES)
def test_a_missing_source_is_refused(store: ModelStore, kept: Path, path: str) -> None:
    (kept / "sources" / path).unlink()
    assert refused(store) == f"its source {path} is missing"


@pytest.mark.parametrize("path", SOURCES)
def test_a_changed_source_is_refused(store: ModelStore, kept: Path, path: str) -> None:
    with (kept / "sources" / path).open("ab") as file:
        file.write(b"\n")
    assert refused(store) == f"its source {path} was changed: it is another one than the specification says"


@pytest.mark.parametrize(
    "path", ["extra.py", "kit/extra.py", "other/__init__.py", "model/__init__.py", "shared.lib.py"]
)
def test_source_that_the_specification_does_not_name_is_refused(store: ModelStore, kept: Path, path: str) -> None:
    (kept / "sources" / path).parent.mkdir(exist_ok=True)
    (kept / "sources" / path).write_bytes(b"")
    assert refused(store) == f"it holds {path}, which its specification does not name"


def test_a_link_in_the_place_of_a_source_is_refused(store: ModelStore, kept: Path, tmp_path: Path) -> None:
    (tmp_path / "same.py").write_bytes(SOURCES["model.py"])
    (kept / "sources" / "model.py").unlink()
    (kept / "sources" / "model.py").symlink_to(tmp_path / "same.py")
    assert refused(store).startswith(f"{kept} cannot be read: ")


def test_a_link_in_the_place_of_a_folder_of_sources_is_refused(store: ModelStore, kept: Path, tmp_path: Path) -> None:
    (kept / "sources" / "kit").rename(tmp_path / "kit")
    (kept / "sources" / "kit").symlink_to(tmp_path / "kit")
    assert refused(store).startswith("its source kit/")


def test_a_pipe_in_the_place_of_a_source_is_refused(store: ModelStore, kept: Path) -> None:
    os.mkfifo(kept / "sources" / "pipe.py")
    assert "it is no file" in refused(store)


def test_a_folder_in_the_place_of_a_source_is_refused(store: ModelStore, kept: Path) -> None:
    (kept / "sources" / "folder.py").mkdir()
    assert "it is no file" in refused(store)


def test_a_source_that_is_too_large_is_refused(store: ModelStore, kept: Path) -> None:
    (kept / "sources" / "model.py").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    assert "it has more than 4,194,304 bytes" in refused(store)


def test_too_many_sources_are_refused(store: ModelStore, kept: Path) -> None:
    for number in range(SOURCES_MAX):
        (kept / "sources" / f"m{number}.py").touch()
    assert "holds more than 1,000 files" in refused(store)


# --- paths ---

OUT = [
    "../x.py",
    "../../x.py",
    "kit/../../x.py",
    "/tmp/x.py",
    "kit//x.py",
    "./x.py",
    ".py",
    "kit/.py",
    "x.py\n",
    "x.pyc",
    "",
]


@pytest.mark.parametrize("path", OUT, ids=ascii)
def test_a_path_that_leads_out_is_no_source(path: str) -> None:
    assert not is_source(path)


@pytest.mark.parametrize("path", ["x.py", "kit/x.py", "kit/__init__.py", "ä/ß_1.py", "my-app/x.py"])
def test_a_path_below_the_folder_is_one(path: str) -> None:
    assert is_source(path)


@pytest.mark.parametrize("path", OUT, ids=ascii)
def test_source_whose_path_leads_out_is_refused_also_where_the_specification_names_it(path: str) -> None:
    wrong = model({**SOURCES, path: b"K = 1.0\n"})
    with pytest.raises(ModelStoreError, match="which its specification does not name"):
        wrong.check(digest_of(wrong.spec))


def test_source_in_memory_is_checked_like_source_on_disk() -> None:
    MODEL.check(DIGEST)
    for sources, words in (
        ({**SOURCES, "model.py": b""}, "its source model.py was changed"),
        ({path: text for path, text in SOURCES.items() if path != "model.py"}, "its source model.py is missing"),
        ({**SOURCES, "extra.py": b""}, "it holds extra.py"),
    ):
        with pytest.raises(ModelStoreError, match=words):
            MODEL._replace(sources=sources).check(DIGEST)
