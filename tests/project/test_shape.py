"""The shape of the code: sizes of files and folders, attributes of a class."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "stream_ml").rglob("*.py"))
LINES_MAX = 400
MODULES_MAX = 14
ATTRIBUTES_MAX = 12
REASON = "So many attributes: "  # in the docstring of a class that has more


def attributes(of: ast.ClassDef) -> set[str]:
    """What the methods of a class set in `self`."""
    return {
        node.attr
        for node in ast.walk(of)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def test_files_are_short() -> None:
    lines = {str(path.relative_to(ROOT / "stream_ml")): path.read_text("utf-8").count("\n") for path in FILES}
    assert {name for name, count in lines.items() if count > LINES_MAX} == set()


def test_folders_are_small() -> None:
    folders = {path.parent for path in FILES}
    modules = {folder: len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) for folder in folders}
    assert {folder: count for folder, count in modules.items() if count > MODULES_MAX} == {}


def test_a_class_of_many_attributes_says_why() -> None:
    classes = [node for path in FILES for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    many = [node for node in classes if isinstance(node, ast.ClassDef) and len(attributes(node)) > ATTRIBUTES_MAX]
    assert [node.name for node in many if REASON not in " ".join((ast.get_docstring(node) or "").split())] == []
