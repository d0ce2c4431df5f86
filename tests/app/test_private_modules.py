"""Two versions of a model's modules in one process: each runs its own source, and nobody sees the private names."""

import json
import os
import py_compile
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stream_ml.app.assemble import assemble
from stream_ml.app.parts import Parts
from stream_ml.core.model.lineage import PRIVATE
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.storage.pickling import dumps
from stream_ml.storage.unpickle import loads
from tests.app.test_sources import CHANGED, HELPER, SETS_A_GLOBAL, Files, model
from tests.core.model.test_model import _config
from tests.support.inputs import run_python

HELPED = model("from helper import K")


@pytest.fixture(autouse=True)
def a_process_of_its_own(tmp_path: Path) -> Iterator[None]:
    """What other tests have imported, and this one, is forgotten, and where it was looked for."""
    forget(tmp_path.parent)
    path = list(sys.path)
    yield
    sys.path[:] = path
    forget(tmp_path.parent)


def forget(folder: Path) -> None:
    """Let all private modules be imported anew, and all others of the folder."""
    there = [name for name, module in list(sys.modules.items()) if name.startswith(PRIVATE) or _lies_in(module, folder)]
    for name in there:
        del sys.modules[name]


def _lies_in(module: ModuleType, folder: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(f"{place}/".startswith(f"{folder}/") for place in places)  # 2,000 modules: paths would take 0.1 s


def app(folder: Path, files: Mapping[str, str], factory: str = "model:build", settings: str = "") -> Parts:
    """The parts of an app whose folder holds these files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return assemble(_config(folder, factory, model=settings))


def scaled(estimator: Any) -> float:
    """The K that its own transformer multiplies by."""
    found: float = next(iter(estimator.steps.values())).transform_one({"x": 1.0})["x"]
    return found


def private(name: str) -> list[str]:
    """Full names under which this module is loaded."""
    return sorted(full for full in sys.modules if full.startswith(PRIVATE) and full.partition(".")[2] == name)


# --- each runs its own ---

LEARNS = """
import sys
from pathlib import Path
from stream_ml.app.assemble import assemble
from stream_ml.config import load_config

models = [assemble(load_config(Path(file))).build() for file in sys.argv[1:]]
for number in range(300):
    x = {"x": (number * 37 % 11 - 5) / 3, "y": number % 7 / 7}
    for model in models:
        model.learn_one(x, number % 3 == 0)
for model in models:
    said = [model.predict_proba_one({"x": x, "y": 0.1})[True].hex() for x in (-1.0, 0.0, 2.0)]
    print(*said, *(weight.hex() for weight in model["LogisticRegression"].weights.values()))
"""


def test_two_versions_of_a_module_in_one_process(tmp_path: Path) -> None:
    """Example by example in turn: each has the bits that it has in a process of its own."""
    for name, text in (("one", HELPER), ("other", CHANGED)):
        app(tmp_path / name, {"model.py": HELPED, "helper.py": text})
    one, other = (str(tmp_path / name / "stream_ml.yaml") for name in ("one", "other"))
    ended = [run_python(LEARNS, *files) for files in ((one, other), (one,), (other,))]
    assert [done.returncode for done in ended] == [0, 0, 0], ended[0].stderr
    together, *alone = (done.stdout.splitlines() for done in ended)
    assert together == [alone[0][0], alone[1][0]]
    assert together[0] != together[1]


IMPORTS: dict[str, tuple[str, Files]] = {
    "a module": ("helper.py", {"model.py": model("import helper\nK = helper.K"), "helper.py": HELPER}),
    "a module by another name": ("helper.py", {"model.py": model("import helper as h\nK = h.K"), "helper.py": HELPER}),
    "a name of a module": ("helper.py", {"model.py": HELPED, "helper.py": HELPER}),
    "a star": ("helper.py", {"model.py": model("from helper import *"), "helper.py": HELPER}),
    "a module that a module imports": (
        "deeper.py",
        {"model.py": HELPED, "helper.py": "from deeper import K\n", "deeper.py": HELPER},
    ),
    "a name of a module of a package": (
        "kit/scaling.py",
        {"model.py": model("from kit.scaling import K"), "kit/__init__.py": "", "kit/scaling.py": HELPER},
    ),
    "a module of a package": (
        "kit/scaling.py",
        {"model.py": model("import kit.scaling\nK = kit.scaling.K"), "kit/__init__.py": "", "kit/scaling.py": HELPER},
    ),
    "a module of a package by another name": (
        "kit/scaling.py",
        {"model.py": model("import kit.scaling as s\nK = s.K"), "kit/__init__.py": "", "kit/scaling.py": HELPER},
    ),
    "a module out of a package": (
        "kit/scaling.py",
        {"model.py": model("from kit import scaling\nK = scaling.K"), "kit/__init__.py": "", "kit/scaling.py": HELPER},
    ),
    "a module of a folder without __init__": (
        "kit/scaling.py",
        {"model.py": model("import kit.scaling\nK = kit.scaling.K"), "kit/scaling.py": HELPER},
    ),
    "the package of a module": (
        "kit/__init__.py",
        {"model.py": model("import kit.other\nK = kit.K"), "kit/__init__.py": HELPER, "kit/other.py": ""},
    ),
    "relative ones in a package": (
        "kit/deep/scaling.py",
        {
            "model.py": model("from kit import K"),
            "kit/__init__.py": "from .deep import K\n",
            "kit/deep/__init__.py": "from ..middle import K\n",
            "kit/middle.py": "from . import deep\nfrom .deep.scaling import K\n",
            "kit/deep/scaling.py": HELPER,
        },
    ),
    "a package that names itself": (
        "kit/scaling.py",
        {
            "model.py": model("from kit import K"),
            "kit/__init__.py": "from kit.scaling import K\n",
            "kit/scaling.py": HELPER,
        },
    ),
    "importlib": (
        "helper.py",
        {"model.py": model('import importlib\nK = importlib.import_module("helper").K'), "helper.py": HELPER},
    ),
    "importlib after one of its modules": (
        "helper.py",
        {"model.py": model('import importlib.util\nK = importlib.import_module("helper").K'), "helper.py": HELPER},
    ),
    "import_module": (
        "helper.py",
        {
            "model.py": model('from importlib import import_module\nK = import_module("helper").K'),
            "helper.py": HELPER,
        },
    ),
    "import_module of a package's own": (
        "kit/scaling.py",
        {
            "model.py": model("from kit import K"),
            "kit/__init__.py": 'import importlib\nK = importlib.import_module(".scaling", __package__).K\n',
            "kit/scaling.py": HELPER,
        },
    ),
    "__import__": ("helper.py", {"model.py": model('K = __import__("helper").K'), "helper.py": HELPER}),
    "inside of the factory": (
        "helper.py",
        {"model.py": model("K = 0", built="global K; from helper import K"), "helper.py": HELPER},
    ),
    "inside of a function that is called later": (
        "helper.py",
        {"model.py": model(asked="from helper import K"), "helper.py": HELPER},
    ),
    "a module inside of a function that is called later": (
        "helper.py",
        {"model.py": model(asked="import helper; K = helper.K"), "helper.py": HELPER},
    ),
    "in place of one that is missing": (
        "helper.py",
        {
            "model.py": model("try:\n    from no_such import K\nexcept ImportError:\n    from helper import K"),
            "helper.py": HELPER,
        },
    ),
}


@pytest.mark.parametrize(("changed", "files"), IMPORTS.values(), ids=IMPORTS)
def test_each_version_imports_what_lies_beside_it(tmp_path: Path, changed: str, files: Files) -> None:
    one = app(tmp_path / "one", files)
    other = app(tmp_path / "other", {**files, changed: CHANGED})
    estimators = [other.build(), one.build(), other.build(), one.build()]
    assert [scaled(estimator) for estimator in estimators] == [2.0, 1.0, 2.0, 1.0]


PLAIN = [
    "a module",
    "a name of a module",
    "a name of a module of a package",
    "inside of a function that is called later",
]


@pytest.mark.parametrize("kind", PLAIN)
def test_nothing_of_the_folder_runs_under_its_plain_name(tmp_path: Path, kind: str) -> None:
    """Not even to see what is imported: there the source of another version may lie, or one that raises."""
    _, files = IMPORTS[kind]
    parts = app(tmp_path, files)
    assert scaled(parts.build()) == 1.0
    parts.lineage("t")
    assert {"model", "helper", "kit", "kit.scaling"} & set(sys.modules) == set()


def test_a_module_of_the_folder_whose_name_is_computed_is_refused(tmp_path: Path) -> None:
    """The text does not tell it, so the lineage would not know it."""
    own = "from river import linear_model\nfrom importlib import import_module\n"
    own += 'def build():\n    return import_module("hel" + "per").Scaled() | linear_model.LogisticRegression()\n'
    parts = app(tmp_path, {"model.py": own, "helper.py": model("K = 1.0")})
    with pytest.raises(ImportError, match="a name that is computed: write import helper"):
        parts.build()


def test_a_factory_in_a_package_has_a_package_of_its_own(tmp_path: Path) -> None:
    files = {"own/__init__.py": "", "own/model.py": model("from .helper import K"), "own/helper.py": HELPER}
    one = app(tmp_path / "one", files, "own.model:build")
    other = app(tmp_path / "other", {**files, "own/helper.py": CHANGED}, "own.model:build")
    assert (scaled(one.build()), scaled(other.build())) == (1.0, 2.0)


def test_two_parameters_of_a_factory_that_sets_a_global_are_two_modules(tmp_path: Path) -> None:
    files = {"model.py": SETS_A_GLOBAL}
    one = app(tmp_path, files, settings="params: {k: 2.0}")
    other = app(tmp_path, files, settings="params: {k: 3.0}")
    first, second = one.build(), other.build()
    assert (scaled(first), scaled(second)) == (2.0, 3.0)
    assert len(private("model")) == 2


def test_two_seeds_are_two_modules_and_one_model_twice_is_one(tmp_path: Path) -> None:
    files = {"model.py": HELPED, "helper.py": HELPER}
    parts = [app(tmp_path, files, settings=f"seed: {seed}") for seed in (1, 2, 1)]
    classes = [type(next(iter(of.build().steps.values()))) for of in parts]
    assert classes[0] is classes[2] is not classes[1]
    assert len(private("model")) == len(private("helper")) == 2


EVERYBODYS = """
import collections, importlib, numpy as np, river.base as theirs
from river import base as same
assert same is theirs
SEEN = [collections, importlib.import_module("collections"), np, theirs, __import__("river.base")]
K = 1.0
"""


def test_what_is_not_beside_the_configuration_is_everybodys(tmp_path: Path) -> None:
    app(tmp_path, {"model.py": model(EVERYBODYS)})
    (name,) = private("model")
    expected = [sys.modules[one] for one in ("collections", "collections", "numpy", "river.base", "river")]
    assert vars(sys.modules[name])["SEEN"] == expected


# --- nobody sees the names ---

HOLDS_CLASSES = """
import functools
from river import base, compose, linear_model
from kit.scaling import Kind, times

def named(x):
    return dict(x)

class Scaled(base.Transformer):
    def __init__(self, kind=Kind, by=functools.partial(times, k=2.0)):
        self.kind, self.times = kind, by
        self.by = by

    def transform_one(self, x):
        return {name: self.times(value) for name, value in x.items()}

def build():
    return compose.FuncTransformer(named) | Scaled() | linear_model.LogisticRegression()
"""
KIT = "class Kind:\n    pass\n\ndef times(value, k):\n    return k * value\n"


def test_a_specification_holds_no_private_name(tmp_path: Path) -> None:
    parts = app(tmp_path, {"model.py": HOLDS_CLASSES, "kit/scaling.py": KIT})
    text = json.dumps(parts.spec("t"))
    assert PRIVATE not in text
    for name in ("model.Scaled", "model.named", "kit.scaling.Kind", "kit.scaling.times"):
        assert f'"{name}"' in text
    assert sorted(parts.spec("t")["sources"]) == ["kit/scaling.py", "model.py"]


def test_the_lineage_hangs_on_the_source_and_not_on_where_it_lies(tmp_path: Path) -> None:
    files = {"model.py": HOLDS_CLASSES, "kit/scaling.py": KIT}
    one, same = (app(tmp_path / name, files).lineage("t") for name in ("one", "same"))
    other = app(tmp_path / "other", {**files, "kit/scaling.py": KIT + "\n"}).lineage("t")
    assert (one == same, one == other) == (True, False)


def test_a_message_about_a_module_holds_no_private_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        app(tmp_path, {"model.py": model("import kit.gone\nK = 1.0"), "kit/__init__.py": ""})
    assert PRIVATE not in f"{raised.value.message} {raised.value.hint}"
    assert "kit.gone" in raised.value.message


# --- checkpoints ---

TYPES = ["model.Scaled"]


def two(tmp_path: Path) -> tuple[Any, Any]:
    """Estimators of two versions."""
    files = {"model.py": HELPED, "helper.py": HELPER}
    return app(tmp_path / "one", files).build(), app(tmp_path / "other", {**files, "helper.py": CHANGED}).build()


def class_of(estimator: Any) -> type:
    """Of its own transformer."""
    return type(next(iter(estimator.steps.values())))


def test_a_checkpoint_loads_to_the_class_of_the_same_version(tmp_path: Path) -> None:
    one, other = two(tmp_path)
    assert class_of(one) is not class_of(other)
    for estimator, k in ((one, 1.0), (other, 2.0)):
        again = loads(dumps(estimator, TYPES), TYPES)
        assert class_of(again) is class_of(estimator)
        assert scaled(again) == k


def test_a_checkpoint_of_another_version_that_is_not_loaded_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = two(tmp_path)
    payload, package = dumps(one, TYPES), class_of(one).__module__.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(CheckpointError, match="cannot be unpickled"):
        loads(payload, TYPES)
    assert package not in sys.modules


def test_what_is_not_listed_is_refused_by_its_plain_name(tmp_path: Path) -> None:
    one, _ = two(tmp_path)
    with pytest.raises(CheckpointError) as raised:
        dumps(one)
    assert (raised.value.message, raised.value.hint) == (
        "the checkpoint holds model.Scaled, which is not allowed",
        "if it is yours, list it: model.checkpoint_types: [model.Scaled]",
    )
    with pytest.raises(CheckpointError, match=r"^the checkpoint holds model\.Scaled, which is not allowed$"):
        loads(dumps(one, TYPES))


# --- what runs is what was loaded ---


def test_a_file_that_changes_after_loading_does_not_change_what_runs(tmp_path: Path) -> None:
    """Also of a module that is imported only when the model is asked."""
    parts = app(tmp_path, {"model.py": model(asked="from helper import K"), "helper.py": HELPER})
    (tmp_path / "helper.py").write_text(CHANGED, "utf-8")
    (tmp_path / "model.py").write_text("raise SystemExit('this does not run')\n", "utf-8")
    assert scaled(parts.build()) == 1.0


def test_a_file_that_goes_away_after_loading_does_not_change_what_runs(tmp_path: Path) -> None:
    parts = app(tmp_path, {"model.py": model(asked="from helper import K"), "helper.py": HELPER})
    (tmp_path / "helper.py").unlink()
    assert scaled(parts.build()) == 1.0


@pytest.mark.parametrize("place", ["helper/__init__.py", "helper.abi3.so"])
def test_a_file_that_is_put_beside_after_loading_does_not_run_in_place_of_a_module(tmp_path: Path, place: str) -> None:
    parts = app(tmp_path, {"model.py": model(asked="from helper import K"), "helper.py": HELPER})
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(CHANGED, "utf-8")
    assert scaled(parts.build()) == 1.0


def test_a_file_that_changes_after_loading_does_not_change_the_lineage_of_what_runs(tmp_path: Path) -> None:
    parts = app(tmp_path, {"model.py": HELPED, "helper.py": HELPER})
    before = parts.lineage("t")
    (tmp_path / "helper.py").write_text(CHANGED, "utf-8")
    assert scaled(parts.build()) == 1.0
    assert parts.lineage("t") == before


def test_a_file_of_the_same_size_and_time_is_another_one_to_a_new_load(tmp_path: Path) -> None:
    helper = tmp_path / "helper.py"
    first = app(tmp_path, {"model.py": HELPED, "helper.py": "K = 1.0\n"})
    was = helper.stat()
    helper.write_text("K = 2.0\n", "utf-8")
    os.utime(helper, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert helper.stat().st_size == was.st_size
    second = app(tmp_path, {})
    assert (scaled(first.build()), scaled(second.build())) == (1.0, 2.0)
    assert first.build().steps.keys() == second.build().steps.keys()


def test_compiled_files_that_lie_there_are_not_taken(tmp_path: Path) -> None:
    """Python itself would take them: their size and time are those of the source."""
    for name, text in (("model.py", HELPED), ("helper.py", "K = 1.0\n")):
        (tmp_path / name).write_text(text.replace("* K", "* 5"), "utf-8")
        py_compile.compile(str(tmp_path / name), doraise=True)
        was = (tmp_path / name).stat()
        (tmp_path / name).write_text(text.replace("1.0", "2.0"), "utf-8")
        os.utime(tmp_path / name, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert scaled(app(tmp_path, {}).build()) == 2.0


def test_nothing_compiled_is_written_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    parts = app(tmp_path, {"model.py": model(asked="from kit.scaling import K"), "kit/scaling.py": HELPER})
    assert scaled(parts.build()) == 1.0
    parts.lineage("t")
    assert [path.name for path in tmp_path.rglob("*") if "pyc" in path.name] == []
