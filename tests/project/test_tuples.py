"""Tuples with many fields are made by name: what stands in which place can then be seen, and mypy can check it."""

import ast
from pathlib import Path

from tests.support.paths import ROOT

FIELDS_MAX = 3
# Columns in the order of the fields, or a tuple's own fields: there are no names to be given.
ALLOWED = {"Row", "ScoredColumns", "Label", "Pair", "Tag", "OutputEnds", "Served", "Published", "_Told", "Written"}


def trees() -> list[tuple[Path, ast.Module]]:
    """Every module of the package."""
    return [(path, ast.parse(path.read_text("utf-8"))) for path in (ROOT / "stream_ml").rglob("*.py")]


def test_no_tuple_with_many_fields_is_made_out_of_another_tuple() -> None:
    modules = trees()
    fields = {
        node.name: sum(isinstance(line, ast.AnnAssign) for line in node.body)
        for _, module in modules
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "NamedTuple" for base in node.bases)
    }
    large = {name for name, count in fields.items() if count > FIELDS_MAX} - ALLOWED
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {getattr(node.func, 'id', '')}"
        for path, module in modules
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in large
        and any(isinstance(argument, ast.Starred) for argument in node.args)
    ]
    assert len(fields) > 50 and found == []
