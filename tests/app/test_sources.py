"""What of a user's own code the lineage covers: the factory by name, its parameters, every module that it can reach."""

from pathlib import Path
from typing import Any

import pytest

from stream_ml.app.assemble import assemble
from stream_ml.config import load_config
from tests.core.model.test_model import _config
from tests.support.inputs import run_python

Files = dict[str, str]

LINEAGES = """
import importlib, sys
from pathlib import Path
from stream_ml.runtime.deferred_imports import defer_imports_of_core
defer_imports_of_core()
from stream_ml.app.assemble import assemble
from stream_ml.config import load_config

def forget(folder):
    for name, module in list(sys.modules.items()):
        if name.startswith("stream_ml_model_"):
            continue
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        if any(place and Path(place).is_relative_to(folder) for place in places):
            del sys.modules[name]
    sys.path[:] = [place for place in sys.path if place != str(folder)]
    importlib.invalidate_caches()

for file in sys.argv[1:]:
    print(assemble(load_config(Path(file))).lineage("t"))
    forget(Path(file).parent.resolve())
"""

MODEL = """
{top}
from river import base, linear_model

class Scaled(base.Transformer):
    def transform_one(self, x):
        {asked}
        return {{name: value * K for name, value in x.items()}}

def build():
    {built}
    return Scaled() | linear_model.LogisticRegression()
"""
HELPER = "K = 1.0\n"
CHANGED = "K = 2.00\n"


def model(top: str = "", asked: str = "pass", built: str = "pass") -> str:
    """A module whose features hang on K, from wherever."""
    return MODEL.format(top=top, asked=asked, built=built)


def lineages(
    folder: Path, *apps: Files, factory: str = "own_model:build", params: tuple[str, ...] = ("",)
) -> list[str]:
    """Of apps in folders of their own, each looked at as if its process were new; `params` are cycled through."""
    files = []
    for number, app in enumerate(apps):
        own = folder / f"app{number}"
        for name, text in app.items():
            (own / name).parent.mkdir(parents=True, exist_ok=True)
            (own / name).write_text(text, "utf-8")
        _config(own, factory, model=params[number % len(params)])
        files.append(str(own / "stream_ml.yaml"))
    ended = run_python(LINEAGES, *files)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("changed", "files"),
    [
        ("helper.py", {"own_model.py": model("from helper import K"), "helper.py": HELPER}),
        ("helper.py", {"own_model.py": model("import helper\nK = helper.K"), "helper.py": HELPER}),
        (
            "deeper.py",
            {"own_model.py": model("from helper import K"), "helper.py": "from deeper import K\n", "deeper.py": HELPER},
        ),
        (
            "kit/scaling.py",
            {"own_model.py": model("from kit.scaling import K"), "kit/__init__.py": "", "kit/scaling.py": HELPER},
        ),
        ("kit/__init__.py", {"own_model.py": model("from kit import K"), "kit/__init__.py": HELPER}),
        (
            "kit/__init__.py",
            {"own_model.py": model("import kit.other\nK = kit.K"), "kit/__init__.py": HELPER, "kit/other.py": ""},
        ),
        (
            "kit/scaling.py",
            {
                "own_model.py": model("from kit import K"),
                "kit/__init__.py": "from .scaling import *\n",
                "kit/scaling.py": HELPER,
            },
        ),
        ("kit/scaling.py", {"own_model.py": model("from kit.scaling import K"), "kit/scaling.py": HELPER}),
        ("kit/scaling.py", {"own_model.py": model("from kit import scaling\nK = scaling.K"), "kit/scaling.py": HELPER}),
        ("helper.py", {"own_model.py": model("K = 0", built="global K; from helper import K"), "helper.py": HELPER}),
        ("helper.py", {"own_model.py": model(asked="from helper import K"), "helper.py": HELPER}),
        (
            "helper.py",
            {"own_model.py": model("import importlib\nK = importlib.import_module('helper').K"), "helper.py": HELPER},
        ),
        (
            "helper.py",
            {
                "own_model.py": model("try:\n    from no_such import K\nexcept ImportError:\n    from helper import K"),
                "helper.py": HELPER,
            },
        ),
        ("own_model.py", {"own_model.py": model("K = 1.0")}),
    ],
    ids=[
        "a name of a module",
        "a module",
        "a module that a module imports",
        "a module of a package",
        "a package",
        "the package of a module",
        "a star of a relative module",
        "a module of a folder without __init__",
        "a module out of a folder without __init__",
        "inside of the factory",
        "inside of a method, when it is asked",
        "by importlib",
        "in place of one that is missing",
        "the factory's own module",
    ],
)
def test_a_change_in_any_module_that_the_model_reaches_is_another_lineage(
    tmp_path: Path, changed: str, files: Files
) -> None:
    text = files[changed].replace(HELPER.strip(), CHANGED.strip())
    assert text != files[changed]
    one, same, other = lineages(tmp_path, files, files, {**files, changed: text})
    assert (one == same, one == other) == (True, False)


def test_a_factory_in_a_package_beside_the_configuration_is_covered_with_what_it_imports(tmp_path: Path) -> None:
    files = {"own/__init__.py": "", "own/model.py": model("from .helper import K"), "own/helper.py": HELPER}
    one, same, other = lineages(tmp_path, files, files, {**files, "own/helper.py": CHANGED}, factory="own.model:build")
    assert (one == same, one == other) == (True, False)


def test_the_sources_of_a_model_of_rivers_own_parts_are_covered(tmp_path: Path) -> None:
    """Its tree shows River's classes alone; what the factory does beside stands in no part."""
    text = "from river import linear_model\nK = {}\n\ndef build():\n    return linear_model.LogisticRegression()\n"
    one, other = lineages(tmp_path, *({"own_model.py": text.format(k)} for k in (1, 2)))
    assert one != other


# --- the factory's name and parameters ---

SETS_A_GLOBAL = model("K = 1.0").replace("def build():", "def build(k=1.0):\n    global K\n    K = k")


@pytest.mark.parametrize("params", ["params: {k: 2.0}", "params: {k: 3}", "params: {k: 3.0000000000000004}"])
def test_other_parameters_of_one_tree_are_another_lineage(tmp_path: Path, params: str) -> None:
    files = {"own_model.py": SETS_A_GLOBAL}
    given = ("params: {k: 3.0}", "params: {k: 3.0}", params)
    one, same, other = lineages(tmp_path, files, files, files, params=given)
    assert (one == same, one == other) == (True, False)


@pytest.mark.parametrize(
    ("one", "other"),
    [("[1, 2]", "[2, 1]"), ('"2026-01-01"', '"2026-01-02"'), ("{a: 1}", "{a: 2}"), ("x", "y"), ("true", "1")],
)
def test_parameters_of_every_kind_are_told_apart(tmp_path: Path, one: str, other: str) -> None:
    files = {"own_model.py": SETS_A_GLOBAL}
    found = lineages(tmp_path, files, files, params=(f"params: {{k: {one}}}", f"params: {{k: {other}}}"))
    assert found[0] != found[1]


def test_another_factory_of_the_same_tree_in_the_same_file_is_another_lineage(tmp_path: Path) -> None:
    text = SETS_A_GLOBAL + "\n\ndef other():\n    return build(2.0)\n\n\nclass Kit:\n    built = staticmethod(other)\n"
    (tmp_path / "own_model.py").write_text(text, "utf-8")
    found = {assemble(_config(tmp_path, f"own_model:{name}")).lineage("t") for name in ("build", "other", "Kit.built")}
    assert len(found) == 3


# --- what changes nothing ---


def test_what_the_model_does_not_reach_changes_nothing(tmp_path: Path) -> None:
    files = {"own_model.py": model("from helper import K"), "helper.py": HELPER, "kit/__init__.py": ""}
    beside = {
        "README.md": "# App\n",
        "unrelated.py": "raise SystemExit('nobody imports this')\n",
        "kit/unrelated.py": "K = 3\n",
        "checkpoints/0123456789abcdef/00000000000000000001.ckpt": "{}\n",
        "__pycache__/helper.cpython-311.pyc.old": "x",
        "events.jsonl": "{}\n",
    }
    one, other = lineages(tmp_path, files, {**files, **beside})
    assert one == other


def test_a_comment_in_the_configuration_and_its_name_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "own_model.py").write_text(model("K = 1.0"), "utf-8")
    config = _config(tmp_path, "own_model:build")
    text = (tmp_path / "stream_ml.yaml").read_text("utf-8")
    (tmp_path / "other.yaml").write_text(f"# one more line\n{text}\n# and one\n", "utf-8")
    assert assemble(load_config(tmp_path / "other.yaml")).lineage("t") == assemble(config).lineage("t")


def test_compiled_files_change_nothing(tmp_path: Path) -> None:
    files = {"own_model.py": model("from helper import K"), "helper.py": HELPER}
    (before,) = lineages(tmp_path, files)
    ended = run_python(LINEAGES, str(tmp_path / "app0" / "stream_ml.yaml"))
    assert ended.stdout.split() == [before]


# --- one process ---


def _in_this_process(folder: Path, **modules: str) -> Any:
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text, "utf-8")
    return assemble(_config(folder, "own_model_here:build"))


def test_a_module_that_was_imported_before_is_covered_like_one_that_was_not(tmp_path: Path) -> None:
    parts = _in_this_process(tmp_path, own_model_here=model("from helper_here import K"), helper_here=HELPER)
    first = parts.lineage("t")
    parts.build().transform_one({"x": 1.0})
    assert parts.lineage("t") == first
    assert assemble(parts.config).lineage("t") == first


def test_a_module_that_is_imported_when_the_model_is_asked_is_covered_before(tmp_path: Path) -> None:
    parts = _in_this_process(tmp_path, own_model_here=model(asked="from asked_here import K"), asked_here=HELPER)
    first = parts.lineage("t")
    next(iter(parts.build().steps.values())).transform_one({"x": 1.0})
    assert parts.lineage("t") == first
    (tmp_path / "asked_here.py").write_text(CHANGED, "utf-8")
    assert assemble(parts.config).lineage("t") != first


def test_two_apps_in_one_process_each_get_their_own_helper(tmp_path: Path) -> None:
    found = []
    for name, helper in (("one", HELPER), ("other", CHANGED), ("again", HELPER)):
        (tmp_path / name).mkdir()
        parts = _in_this_process(tmp_path / name, own_model_here=model("from helper_two import K"), helper_two=helper)
        scaled = next(iter(parts.build().steps.values())).transform_one({"x": 1.0})["x"]
        found.append((scaled, parts.lineage("t")))
    assert [scaled for scaled, _ in found] == [1.0, 2.0, 1.0]
    assert found[0] == found[2] and found[0][1] != found[1][1]


def test_spec_names_factory_parameters_and_each_module_by_its_path_below_the_configuration(tmp_path: Path) -> None:
    files = {"own_model.py": model("from kit.scaling import K"), "kit/scaling.py": HELPER}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    spec = assemble(_config(tmp_path, "own_model:build")).spec("t")
    assert (spec["factory"], spec["params"]) == ("own_model:build", {})
    assert sorted(spec["sources"]) == ["kit/scaling.py", "own_model.py"]
    assert str(tmp_path) not in str(spec)


def _mounted(folder: Path, stamp: str) -> Path:
    """A folder as Kubernetes mounts a ConfigMap: links into a folder whose name each mount has anew."""
    (folder / f"..{stamp}").mkdir(parents=True)
    (folder / "..data").symlink_to(f"..{stamp}")
    for name, text in {"own_model.py": model("from helper import K"), "helper.py": HELPER}.items():
        (folder / f"..{stamp}" / name).write_text(text, "utf-8")
        (folder / name).symlink_to(Path("..data") / name)
    return folder


def test_modules_that_are_links_are_named_as_they_lie_beside_the_configuration(tmp_path: Path) -> None:
    files = {"own_model.py": model("from helper import K"), "helper.py": HELPER}
    [plain] = lineages(tmp_path, files)
    folders = [_mounted(tmp_path / stamp, stamp) for stamp in ("2026_11_30_07_01_01.111", "2026_12_01_08_02_02.222")]
    for folder in folders:
        _config(folder, "own_model:build")
    ended = run_python(LINEAGES, *(str(folder / "stream_ml.yaml") for folder in folders))
    assert ended.stdout.split() == [plain, plain], ended.stderr
    spec = assemble(_config(folders[0], "own_model:build")).spec("t")
    assert sorted(spec["sources"]) == ["helper.py", "own_model.py"]
