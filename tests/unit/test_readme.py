"""The README says what the code does: every key with its default, every verb, every module of the map."""

import re
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.config import Config
from stream_ml.units import duration_text, size_text

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def keys(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Every key of the tree with its default as the file would have it."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        dotted = prefix + (field.alias or name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= keys(inner, f"{dotted}.")
        else:
            found[dotted] = shown(dotted, field.default)
    return found


def shown(key: str, default: object) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "null"
    if isinstance(default, bool):
        return str(default).lower()
    if key.endswith("bytes_max"):
        return size_text(int(str(default)))
    durations = ("ttl", "_wait", "_timeout", "budget_per_turn", "lag_max", "interval")
    if isinstance(default, int) and key.endswith(durations):
        return duration_text(default)
    return str(default).replace("'", "")


def test_every_key_stands_in_the_reference_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `?([^|`]+?)`? \|", README, re.M))
    assert {key: rows.get(key) for key in keys(Config)} == keys(Config)


def test_no_key_stands_in_the_reference_that_does_not_exist() -> None:
    section = README.partition("## Configuration")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w.]+)` \|", section, re.M)) == set(keys(Config))


def test_every_verb_stands_in_the_readme() -> None:
    listed = CliRunner().invoke(app, ["--help"]).output
    verbs = re.findall(r"^[│ ]+([a-z-]+) {2,}\w", listed.partition("Commands")[2], re.M)
    assert len(verbs) >= 10
    assert [verb for verb in verbs if f"`{verb} " not in README and f"`{verb}`" not in README] == []


def test_every_module_stands_in_the_map() -> None:
    section = README.partition("## Map of the files")[2].partition("\n## ")[0]
    modules = [path for path in (ROOT / "stream_ml").rglob("*.py") if not path.name.startswith("__")]
    missing = [path.name for path in modules if path.name not in section and path.parent.name not in ("cli", "demo")]
    assert missing == []


def test_every_guarantee_names_tests_that_exist() -> None:
    section = README.partition("## Guarantees")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if re.match(r"^\| \d+ \|", line)]
    written = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = [re.findall(r"`(test_\w+)`", row.rpartition("|")[0].rpartition("|")[2]) for row in rows]
    assert len(rows) >= 7 and all(named)
    assert [name for names in named for name in names if f"def {name}(" not in written] == []
