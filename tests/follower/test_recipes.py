"""What models are made from: out of the store the same as it was kept, out of the log only what may be run."""

import copy
import hashlib
import json
import py_compile
import random
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from stream_ml.app.assemble import assemble
from stream_ml.config import Config, load_config
from stream_ml.core.fold.roles import Declared
from stream_ml.core.log.identity import LogIdentity
from stream_ml.core.model.lineage import LINEAGE_DIGITS, PRIVATE, digest_of
from stream_ml.errors import ConfigError
from stream_ml.follower.recipes import (
    SOURCE_BYTES_MAX,
    Recipe,
    Recipes,
    declaration,
    mac_of,
    packed_text,
    stored_of,
    unpacked,
)
from stream_ml.kafka.topics import TopicFacts
from stream_ml.storage.model_store import ModelStoreError, StoredModel
from tests.app.test_private_modules import HELPED, forget
from tests.app.test_private_modules import a_process_of_its_own as a_process_of_its_own  # noqa: PLC0414
from tests.app.test_sources import CHANGED, HELPER, model
from tests.core.model.test_model import LOGISTIC, _config

FACTS = TopicFacts(1, "topic-id", 1_000_000, log=LogIdentity("1" * 32, "a" * 32))
KEY, OTHER_KEY = b"k" * 32, b"o" * 32


# --- apps ---


def configured(folder: Path, files: Mapping[str, str], factory: str = "model:build", settings: str = "") -> Config:
    """The configuration of an app whose folder holds these files; with the key that lies there."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    folder.mkdir(exist_ok=True)
    _config(folder, factory, model=settings)
    flags = ["worker.instance=w1"] + ["models.key_file=models.key"] * (folder / "models.key").exists()
    return load_config(folder / "stream_ml.yaml", flags)


def recipes(folder: Path, files: Mapping[str, str], factory: str = "model:build", settings: str = "") -> Recipes:
    """Those of a process that was started in this folder."""
    return Recipes(assemble(configured(folder, files, factory, settings)), FACTS)


def keyed(folder: Path, key: bytes = KEY) -> Path:
    """The folder, with a key."""
    folder.mkdir()
    (folder / "models.key").write_bytes(key)
    return folder


def scaled(recipe: Recipe) -> float:
    """The K that the recipe's own transformer multiplies by."""
    found: float = next(iter(recipe.parts.build().steps.values())).transform_one({"x": 1.0})["x"]
    return found


def built(found: Recipe | str) -> Recipe:
    assert isinstance(found, Recipe), found
    return found


def words(found: Recipe | str) -> str:
    assert isinstance(found, str)
    return found


def declared(spec: Mapping[str, Any], name: str = "m") -> Declared:
    """What the log says of a model with this specification."""
    digest = digest_of(dict(spec))
    return Declared(digest[:LINEAGE_DIGITS], digest, name, 17, 0, "w1", last=17)


def asked(found: Recipes, spec: Mapping[str, Any]) -> Recipe | str:
    """What a process makes of a model that the log declares."""
    return found.of(declared(spec).lineage, declared(spec))


# --- out of the store ---


def test_the_own_model_is_had_without_the_store(tmp_path: Path) -> None:
    found = recipes(tmp_path, {"model.py": HELPED, "helper.py": HELPER})
    assert found.of(found.own.lineage, None) is found.own
    assert found.own.lineage == digest_of(found.own.spec)[:LINEAGE_DIGITS]
    assert not found.store.directory.exists()


def test_a_specification_names_each_source_by_its_path_and_digest(tmp_path: Path) -> None:
    files = {"model.py": HELPED, "helper.py": HELPER}
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    assert recipes(tmp_path, files).own.spec["sources"] == digests


def test_a_model_that_the_log_does_not_declare_is_had_nowhere(tmp_path: Path) -> None:
    found = recipes(tmp_path, {}, LOGISTIC)
    assert found.of("f" * 16, None) == "the log does not declare it"


CHANGES: dict[str, dict[str, str]] = {
    "another model": {"model.py": model("K = 3.0")},
    "another helper": {"helper.py": CHANGED},
    "both": {"model.py": HELPED + "\n", "helper.py": CHANGED},
    "one that raises": {"helper.py": "raise RuntimeError('half written')\nK = 1.0\n", "model.py": model("K = 3.0")},
    "one of which a name is a module": {"model.py": model("K = 3.0"), "helper/__init__.py": "", "helper/K.py": CHANGED},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("anew", [False, True], ids=["in the same process", "in a new process"])
def test_a_model_out_of_the_store_is_the_one_that_was_kept(tmp_path: Path, changes: dict[str, str], anew: bool) -> None:
    """The folder of the configuration holds another version by now."""
    before = recipes(tmp_path, {"model.py": HELPED, "helper.py": HELPER}, settings="params: {}, seed: 3")
    before.keep_own()
    assert before.problem == ""
    if anew:
        forget(tmp_path)
    now = recipes(tmp_path, changes)
    assert now.own.lineage != before.own.lineage
    again = built(asked(now, before.own.spec))
    assert (again.lineage, again.spec) == (before.own.lineage, before.own.spec)
    assert again.parts.config.model == before.own.parts.config.model
    assert scaled(again) == 1.0
    assert scaled(now.own) != 1.0
    assert asked(now, before.own.spec) is again


def test_a_model_is_the_same_in_another_folder_with_the_same_store(tmp_path: Path) -> None:
    before = recipes(tmp_path / "one", {"model.py": HELPED, "helper.py": HELPER}, settings="threshold: 0.25")
    before.keep_own()
    now = recipes(tmp_path / "two", {}, LOGISTIC)
    before.store.directory.rename(now.store.directory)
    again = built(asked(now, before.own.spec))
    assert (again.lineage, again.spec) == (before.own.lineage, before.own.spec)
    assert again.parts.domain.threshold == before.own.parts.domain.threshold == 0.25
    assert scaled(again) == 1.0


def test_what_is_of_the_process_and_not_of_the_model_stays_the_process(tmp_path: Path) -> None:
    before = recipes(tmp_path, {}, LOGISTIC, "seed: 3, memory_policy: exit")
    before.keep_own()
    now = recipes(tmp_path, {}, LOGISTIC, "seed: 4, memory_policy: freeze, name: champion")
    again = built(asked(now, before.own.spec))
    config = again.parts.config.model
    assert (config.seed, config.memory_policy, config.name) == (3, "freeze", "champion")
    assert (again.settings.watch, again.settings.concept) == (now.own.settings.watch, now.own.settings.concept)


SETTINGS = [
    "memory_max: 1GB",
    "memory_policy: freeze",
    "samples: samples.jsonl",
    "threshold: 0.1",
    "positive: false",
    "labels: [false, true]",
    "seed: 0",
    "checkpoint_types: [model.Scaled]",
]
FLAGS = [
    "learning.guard=0",
    "learning.guard=1e9",
    "learning.quarantine=divert",
    "features.missing.default=drop",
    'features.missing={"y": {"impute": 1}, "default": "reject"}',
    'features.bounds={"x": {"sigma": 8}}',
    'features.bounds={"default": {"min": 0, "max": 5.5}}',
    "features.include=[x]",
    "features.exclude=[x]",
]


@pytest.mark.parametrize("setting", [*SETTINGS, *FLAGS])
def test_a_model_is_built_again_whatever_its_settings_are(tmp_path: Path, setting: str) -> None:
    flags = [setting] if setting in FLAGS else []
    _config(tmp_path, LOGISTIC, model="" if flags else setting)
    file = tmp_path / "stream_ml.yaml"
    before = Recipes(assemble(load_config(file, flags)), FACTS)
    before.keep_own()
    now = Recipes(assemble(load_config(file, ["model.params={l2: 0.5}"])), FACTS)
    assert built(asked(now, before.own.spec)).spec == before.own.spec != now.own.spec


TAKES_ANYTHING = "from river import linear_model\n\ndef build(k):\n    return linear_model.LogisticRegression()\n"
PARAMETERS = [
    *("1", "1.0", "-0.0", "3.0000000000000004", "100000000000000000000", "true", "null", "'1'", "'2026-01-01'"),
    *("[1, 2.5, null]", "{a: {b: [true]}}", ".inf", ".nan", "{1: 0.9, 2: 0.1}", "{true: 0.9, false: 0.1}"),
]


@pytest.mark.parametrize("value", PARAMETERS)
def test_a_model_is_built_again_whatever_its_parameters_are(tmp_path: Path, value: str) -> None:
    before = recipes(tmp_path, {"model.py": TAKES_ANYTHING}, settings=f"params: {{k: {value}}}")
    before.keep_own()
    now = recipes(tmp_path, {}, LOGISTIC)
    assert built(asked(now, before.own.spec)).spec == before.own.spec


def test_a_changed_source_in_the_store_is_refused_in_words(tmp_path: Path) -> None:
    before = recipes(tmp_path, {"model.py": HELPED, "helper.py": HELPER})
    before.keep_own()
    helper = before.store.folder(before.own.lineage) / "sources" / "helper.py"
    helper.write_text(CHANGED, "utf-8")
    now = recipes(tmp_path, {}, LOGISTIC)
    assert words(asked(now, before.own.spec)).startswith("its source helper.py was changed")
    helper.write_text(HELPER, "utf-8")
    assert scaled(built(asked(now, before.own.spec))) == 1.0


def leaves_a_file(file: Path, text: str = "K = 1.0\n") -> str:
    """Source that leaves a file when it is run."""
    return f"from pathlib import Path\nPath({str(file)!r}).write_text('run')\n{text}"


def test_of_a_changed_source_nothing_is_run(tmp_path: Path) -> None:
    before = recipes(tmp_path, {"model.py": HELPED, "helper.py": HELPER})
    before.keep_own()
    source = before.store.folder(before.own.lineage) / "sources" / "model.py"
    source.write_text(leaves_a_file(tmp_path / "ran", HELPED), "utf-8")
    forget(tmp_path)
    assert "was changed" in words(asked(recipes(tmp_path, {}, LOGISTIC), before.own.spec))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["model.pyc", "model/__init__.pyc", "helper/__init__.pyc", "model.abi3.so"])
def test_what_lies_beside_the_sources_in_the_store_is_not_run(tmp_path: Path, place: str) -> None:
    """Python takes a package or a native file in place of the source that was digested."""
    before = recipes(tmp_path, {"model.py": HELPED, "helper.py": HELPER})
    before.keep_own()
    (tmp_path / "evil.py").write_text(leaves_a_file(tmp_path / "ran", HELPED), "utf-8")
    beside = before.store.folder(before.own.lineage) / "sources" / place
    beside.parent.mkdir(exist_ok=True)
    py_compile.compile(str(tmp_path / "evil.py"), cfile=str(beside), doraise=True)
    forget(tmp_path)
    found = asked(recipes(tmp_path, {}, LOGISTIC), before.own.spec)
    assert not (tmp_path / "ran").exists()
    assert isinstance(found, str) or scaled(found) == 1.0


def kept(found: Recipes, changes: Mapping[str, Any], overlay: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The own model as if it had been made so; its specification, under which it is in the store now."""
    stored = stored_of(found.own)
    spec = {**stored.spec, **changes}
    stored = stored._replace(spec=spec, overlay=dict(overlay) if overlay is not None else stored.overlay)
    assert found.store.keep(declared(spec).lineage, stored) == ""
    return spec


@pytest.mark.parametrize("name", ["river", "numpy"])
def test_a_model_of_another_version_of_river_or_numpy_is_refused_in_words(tmp_path: Path, name: str) -> None:
    found = recipes(tmp_path, {"model.py": HELPED, "helper.py": HELPER})
    spec = kept(found, {name: "0.1.2"})
    assert words(asked(found, spec)) == f"it was made with {name} 0.1.2 (here {version(name)})"


def test_a_model_of_another_python_or_another_distribution_is_refused_in_words(tmp_path: Path) -> None:
    found = recipes(tmp_path, {}, LOGISTIC)
    spec = kept(found, {"python": "2.7", "distributions": {"no-such-package": "3", "pydantic": "1.0"}})
    said = words(asked(found, spec))
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert said == (
        f"it was made with python 2.7 (here {here}), no-such-package 3 (here missing), "
        f"pydantic 1.0 (here {version('pydantic')})"
    )


def test_a_model_that_comes_out_as_another_one_is_refused_with_what_differs(tmp_path: Path) -> None:
    found = recipes(tmp_path, {}, LOGISTIC)
    spec = kept(found, {"threshold": 0.25, "fold_format": 1})
    assert words(asked(found, spec)) == "it comes out as another model: fold_format, threshold differ"


@pytest.mark.parametrize("section", ["model", "features", "learning"])
def test_a_model_whose_sections_are_not_there_is_refused_in_words(tmp_path: Path, section: str) -> None:
    found = recipes(tmp_path, {}, LOGISTIC)
    overlay = {name: value for name, value in stored_of(found.own).overlay.items() if name != section}
    spec = kept(found, {"seed": 8}, overlay)
    assert "its sections of the configuration cannot be read" in words(asked(found, spec))


def test_a_model_of_another_task_is_refused_in_words(tmp_path: Path) -> None:
    found = recipes(tmp_path, {}, LOGISTIC)
    overlay = copy.deepcopy(stored_of(found.own).overlay)
    overlay["model"]["positive"] = False
    assert "its model.positive is another one than the app's" in words(asked(found, kept(found, {"seed": 8}, overlay)))


def test_a_store_where_nothing_can_be_kept_is_told_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "model-store").write_text("mine", "utf-8")
    found = recipes(tmp_path, {}, LOGISTIC)
    found.keep_own()
    assert f"model {found.own.lineage} cannot be kept in " in found.problem
    assert found.of(found.own.lineage, None) is found.own


def test_what_is_kept_is_what_runs_whatever_the_file_holds_by_then(tmp_path: Path) -> None:
    """A file that changes between a start and the keeping: else a model is kept that nobody can build."""
    found = recipes(tmp_path, {"model.py": HELPED, "helper.py": HELPER})
    (tmp_path / "helper.py").write_text(CHANGED, "utf-8")
    found.keep_own()
    found.store.read(found.own.lineage).check(digest_of(found.own.spec))


# --- declarations ---

FILES = {"model.py": HELPED, "helper.py": HELPER}


def test_a_declaration_holds_no_source_without_a_key(tmp_path: Path) -> None:
    found = recipes(tmp_path, FILES)
    said = declaration(found.own, found.own.parts.config, name="flights", auto=True)
    assert (said["sources"], said["mac"]) == ({}, None)
    assert (said["lineage"], said["spec"], said["name"]) == (found.own.lineage, found.own.spec, "flights")
    assert (said["standby"], said["auto"], said["by"]) == (True, True, "w1")
    assert sorted(said["spec"]["sources"]) == sorted(FILES)


def test_a_declaration_holds_its_source_and_a_seal_with_a_key(tmp_path: Path) -> None:
    found = recipes(keyed(tmp_path / "app"), FILES)
    said = json.loads(json.dumps(declaration(found.own, found.own.parts.config, name="flights")))
    assert unpacked(said) == {name: text.encode() for name, text in FILES.items()}
    assert said["mac"] == mac_of(KEY, said["spec"], said["overlay"])
    assert said["mac"] != mac_of(OTHER_KEY, said["spec"], said["overlay"])
    assert "models.key" not in json.dumps(said) and KEY.decode() not in json.dumps(said)


def test_a_declaration_holds_no_source_that_is_too_large_for_it(tmp_path: Path) -> None:
    noise = f"N = {random.Random(7).randbytes(300_000).hex()!r}\n"
    found = recipes(keyed(tmp_path / "app"), {**FILES, "helper.py": noise + HELPER})
    assert len(packed_text((noise + HELPER).encode())) < 512 * 1024
    assert declaration(found.own, found.own.parts.config, name="m")["sources"]
    larger = noise + f"M = {random.Random(8).randbytes(300_000).hex()!r}\n"
    found = recipes(tmp_path / "app", {"helper.py": larger + HELPER})
    assert declaration(found.own, found.own.parts.config, name="m")["sources"] == {}


@pytest.mark.parametrize("key", [None, b"short"])
def test_a_key_that_is_none_is_a_config_error(tmp_path: Path, key: bytes | None) -> None:
    found = recipes(keyed(tmp_path / "app"), FILES)
    (tmp_path / "app" / "models.key").unlink()
    if key is not None:
        (tmp_path / "app" / "models.key").write_bytes(key)
    with pytest.raises(ConfigError, match=r"models\.key"):
        declaration(found.own, found.own.parts.config, name="m")


@pytest.mark.parametrize("path", ["../x.py", "/tmp/x.py", "x.txt", "", "a/../../x.py"])
def test_source_in_a_declaration_whose_path_leads_out_is_none(path: str) -> None:
    with pytest.raises(ModelStoreError, match="leads elsewhere"):
        unpacked({"sources": {path: packed_text(b"")}})


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", None, 5, ["AAAA"], "\ud800", packed_text(b"x" * 999)[:-8]])
def test_source_in_a_declaration_that_cannot_be_unpacked_is_none(text: Any) -> None:
    with pytest.raises(ModelStoreError, match=r"the source 'x\.py' in its declaration is none"):
        unpacked({"sources": {"x.py": text}})


def test_source_that_unpacks_to_more_than_a_source_may_have_is_none() -> None:
    """A hundred bytes may say that they are gigabytes."""
    with pytest.raises(ModelStoreError, match=r"the source 'x\.py' in its declaration is none"):
        unpacked({"sources": {"x.py": packed_text(bytes(SOURCE_BYTES_MAX + 1))}})


# --- out of the log ---


class World:
    """One who declares a model whose source leaves a file when it is run, and a worker that reads it in the log."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.ran = tmp_path, tmp_path / "ran"
        self.said: dict[str, Any] = {}
        monkeypatch.setattr("stream_ml.follower.recipes.declaration_at", self._declaration_at)

    def _declaration_at(self, config: Config, position: int, seal: Any) -> dict[str, Any]:
        assert position == 17
        found: dict[str, Any] = json.loads(json.dumps(self.said))
        return found

    def declare(self, helper: str = HELPER, settings: str = "") -> dict[str, Any]:
        """Write a declaration, as one who has the key does; the own process of that one is forgotten."""
        files = {"model.py": HELPED, "helper.py": leaves_a_file(self.ran, helper)}
        author = recipes(keyed(self.folder / "author"), files, settings=settings)
        self.said = declaration(author.own, author.own.parts.config, name="m")
        assert self.ran.exists() and set(self.said["sources"]) == set(files)
        sys.path[:] = [place for place in sys.path if place != str(self.folder / "author")]
        forget(self.folder)
        self.ran.unlink()
        return self.said

    def worker(self, key: bytes | None = KEY) -> Recipes:
        """A worker whose own model is one of River's."""
        folder = self.folder / "worker"
        return recipes(folder if key is None else keyed(folder, key), {}, LOGISTIC)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def _no_mac(said: dict[str, Any]) -> None:
    del said["mac"]


def _mac(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda said: said.update(mac=value)


def _flipped(said: dict[str, Any]) -> None:
    said["mac"] = said["mac"][:-1] + ("0" if said["mac"][-1] != "0" else "1")


def _of_other_key(said: dict[str, Any]) -> None:
    said["mac"] = mac_of(OTHER_KEY, said["spec"], said["overlay"])


def _of_other_spec(said: dict[str, Any]) -> None:
    said["mac"] = mac_of(KEY, {**said["spec"], "seed": 8}, said["overlay"])


def _of_other_overlay(said: dict[str, Any]) -> None:
    said["mac"] = mac_of(KEY, said["spec"], {**said["overlay"], "features": {}})


def _nothing(said: dict[str, Any]) -> None:
    pass


UNSEALED: dict[str, tuple[bytes | None, Callable[[dict[str, Any]], None], str]] = {
    "wrong": (KEY, _flipped, "not sealed with the key"),
    "of another key": (KEY, _of_other_key, "not sealed with the key"),
    "of another specification": (KEY, _of_other_spec, "not sealed with the key"),
    "of other sections": (KEY, _of_other_overlay, "not sealed with the key"),
    "missing": (KEY, _no_mac, "not sealed with the key"),
    "null": (KEY, _mac(None), "not sealed with the key"),
    "empty": (KEY, _mac(""), "not sealed with the key"),
    "cut": (KEY, lambda said: said.update(mac=said["mac"][:32]), "not sealed with the key"),
    "a list": (KEY, lambda said: said.update(mac=[said["mac"]]), "not sealed with the key"),
    "a number": (KEY, _mac(0), "not sealed with the key"),
    "no text of Unicode": (KEY, _mac("\ud800"), "not sealed with the key"),
    "right, and the worker has another key": (OTHER_KEY, _nothing, "not sealed with the key"),
    "right, and the worker has no key": (None, _nothing, "without models.key_file"),
    "missing, and the worker has no key": (None, _no_mac, "without models.key_file"),
}


@pytest.mark.parametrize(("key", "change", "said"), UNSEALED.values(), ids=UNSEALED)
def test_source_from_the_log_runs_only_with_its_mac(
    world: World, key: bytes | None, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    change(world.declare())
    found = world.worker(key)
    assert said in words(asked(found, world.said["spec"]))
    assert not world.ran.exists()
    assert not found.store.directory.exists()
    assert [name for name in sys.modules if name.startswith(PRIVATE)] == []


def test_source_from_the_log_with_its_mac_is_brought_into_the_store_and_built(world: World) -> None:
    said = world.declare()
    found = world.worker()
    recipe = built(asked(found, said["spec"]))
    assert world.ran.exists()
    assert (recipe.lineage, recipe.spec) == (said["lineage"], said["spec"])
    assert scaled(recipe) == 1.0
    stored = found.store.read(recipe.lineage)
    stored.check(digest_of(said["spec"]))
    assert stored == StoredModel(said["spec"], said["overlay"], unpacked(said), said["environment"])


def test_what_is_in_the_store_is_built_without_the_log_and_without_a_key(world: World) -> None:
    said = world.declare()
    world.worker().store.keep(
        said["lineage"], StoredModel(said["spec"], said["overlay"], unpacked(said), said["environment"])
    )
    (world.folder / "worker" / "models.key").unlink()
    world.said = {}
    assert scaled(built(asked(recipes(world.folder / "worker", {}, LOGISTIC), said["spec"]))) == 1.0


def _changed_source(said: dict[str, Any]) -> None:
    said["sources"]["helper.py"] = packed_text(b"K = 5.0\n")


def _less_source(said: dict[str, Any]) -> None:
    del said["sources"]["helper.py"]


def _more_source(said: dict[str, Any]) -> None:
    said["sources"]["extra.py"] = packed_text(b"")


def _source_that_leads_out(said: dict[str, Any]) -> None:
    said["sources"]["../extra.py"] = packed_text(b"")


def _no_source(said: dict[str, Any]) -> None:
    said["sources"] = {}


CHANGED_SOURCES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "changed": (_changed_source, "its source helper.py was changed"),
    "less": (_less_source, "its source helper.py is missing"),
    "more": (_more_source, "it holds extra.py"),
    "leads out": (_source_that_leads_out, "leads elsewhere"),
    "none": (_no_source, "its source helper.py is missing"),
}


@pytest.mark.parametrize(("change", "expected"), CHANGED_SOURCES.values(), ids=CHANGED_SOURCES)
def test_source_from_the_log_that_is_not_what_its_mac_covers_is_not_run(
    world: World, change: Callable[[dict[str, Any]], None], expected: str
) -> None:
    change(world.declare())
    found = world.worker()
    assert expected in words(asked(found, world.said["spec"]))
    assert not world.ran.exists()
    assert not found.store.directory.exists()


def test_another_specification_than_the_log_declares_is_not_run(world: World) -> None:
    said = world.declare()
    spec = said["spec"]
    said["spec"] = {**spec, "seed": 8}
    said["mac"] = mac_of(KEY, said["spec"], said["overlay"])
    assert words(asked(world.worker(), spec)) == "its specification is another one than the log declares"
    assert not world.ran.exists()


@pytest.mark.parametrize("key", [None, OTHER_KEY, KEY])
def test_a_model_of_rivers_own_parts_needs_its_mac_too(world: World, key: bytes | None) -> None:
    author = recipes(keyed(world.folder / "author"), {}, LOGISTIC, "params: {l2: 0.5}")
    world.said = declaration(author.own, author.own.parts.config, name="m")
    found = asked(world.worker(key), world.said["spec"])
    if key != KEY:
        assert "models.key_file" in words(found)
        return
    assert (built(found).spec, built(found).parts.build().l2) == (author.own.spec, 0.5)


# --- what somebody writes who may write to the log and has no key ---


def forged(world: World, *, overlay: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A declaration like that of a model of River's own parts, with a specification that says this."""
    author = recipes(world.folder / "author", {}, LOGISTIC)
    said = declaration(author.own, author.own.parts.config, name="m")
    changed = {**said["spec"], **spec}
    world.said = {
        **said,
        "spec": {name: value for name, value in changed.items() if value is not Ellipsis},
        "overlay": {**said["overlay"], "model": {**said["overlay"]["model"], **(overlay or {})}},
    }
    return world.said


def seal(said: dict[str, Any]) -> None:
    """As one does who has the key."""
    said["mac"] = mac_of(KEY, said["spec"], said["overlay"])


RUNS: dict[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {
    "what a module of River imports": ("river.datasets.base:os.mkdir", lambda ran: {"path": str(ran)}),
    "the standard library": ("os:mkdir", lambda ran: {"path": str(ran)}),
    "a package": ("numpy:savetxt", lambda ran: {"fname": str(ran), "X": [1.0]}),
    "a process": ("subprocess:check_call", lambda ran: {"args": ["touch", str(ran)]}),
}


@pytest.mark.parametrize(("factory", "params"), RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("key", [None, KEY], ids=["without a key", "with a key"])
def test_a_factory_that_only_the_log_names_is_not_called(
    world: World, key: bytes | None, factory: str, params: Callable[[Path], dict[str, Any]]
) -> None:
    """It has no source beside the configuration, and is any code all the same."""
    given = params(world.ran)
    described: dict[str, Any] = {
        name: [float(one).hex() for one in value] if name == "X" else value for name, value in given.items()
    }
    forged(world, factory=factory, params=described, overlay={"factory": factory, "params": given})
    found = asked(world.worker(key), world.said["spec"])
    assert not world.ran.exists()
    assert isinstance(found, str)


def test_a_declaration_allows_no_more_in_checkpoints_than_who_sealed_it(world: World) -> None:
    """The allow-list of the unpickler stands beside the specification."""
    said = world.declare(settings="checkpoint_types: [model.Scaled]")
    said["overlay"]["model"]["checkpoint_types"] = ["model.Scaled", "os.system"]
    found = asked(world.worker(), said["spec"])
    assert isinstance(found, str) or found.checkpoint_types == ["model.Scaled"]
    assert not world.ran.exists()


# --- what somebody writes who has the key: another version, or a mistake ---

NO_SENSE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no sources": ({"sources": ...}, {}),
    "sources that are a list": ({"sources": ["model.py"]}, {}),
    "sources that are a number": ({"sources": 5}, {}),
    "distributions that are a list": ({"distributions": ["river"]}, {}),
    "a distribution without a name": ({"distributions": {"": "1"}}, {}),
    "parameters that its factory does not take": ({"params": {"no_such": 1}}, {"params": {"no_such": 1}}),
    "parameters that its factory does not like": ({"params": {"optimizer": 1}}, {"params": {"optimizer": 1}}),
    "a factory that is no model": (
        {"factory": "river.stats:Mean", "params": {}},
        {"factory": "river.stats:Mean", "params": {}},
    ),
    "a factory that is not there": ({"factory": "river.no_such:Model"}, {"factory": "river.no_such:Model"}),
}


@pytest.mark.parametrize(("spec", "overlay"), NO_SENSE.values(), ids=NO_SENSE)
def test_a_declaration_that_makes_no_sense_is_refused_in_words(
    world: World, spec: dict[str, Any], overlay: dict[str, Any]
) -> None:
    """Else one entry of the log ends every worker, whenever it starts."""
    seal(forged(world, overlay=overlay, **spec))
    assert words(asked(world.worker(), world.said["spec"]))


PARTS_OF_A_DECLARATION = [
    *(("overlay", value) for value in (None, [], 5, "x", {}, {"model": None}, {"model": []})),
    *(("sources", value) for value in ([], ["x"], 5, "x")),
    *(("environment", value) for value in (None, [], 5)),
]


@pytest.mark.parametrize(("name", "value"), PARTS_OF_A_DECLARATION, ids=str)
def test_a_declaration_whose_parts_are_something_else_is_refused_in_words(world: World, name: str, value: Any) -> None:
    forged(world, threshold=0.25, overlay={"threshold": 0.25})[name] = value
    seal(world.said)
    assert words(asked(world.worker(), world.said["spec"]))


@pytest.mark.parametrize("guard", ["much", [1], {"a": 1}], ids=str)
def test_a_declaration_with_a_setting_that_no_configuration_may_have_is_refused_in_words(
    world: World, guard: Any
) -> None:
    said = forged(world, guard=guard)
    said["overlay"]["learning"]["guard"] = guard
    seal(said)
    assert words(asked(world.worker(), said["spec"]))
