"""Writes the pages of this folder that say what the code says: ``python docs/generate.py``; a test holds them to it."""

import ast
from pathlib import Path

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "stream_ml"


def first_sentence(file: Path) -> str:
    """What a module says of itself, to the end of its first paragraph."""
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def module_map() -> str:
    """Every folder of the package with its modules, from their docstrings."""
    lines = [
        "# Map of the code",
        "",
        "Every module and what it says of itself. Folders stand in the order of the layers, the lowest last.",
        "",
    ]
    for folder in _folders():
        inside = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
        name = folder.relative_to(PACKAGE.parent).as_posix()
        said = first_sentence(folder / "__init__.py")
        lines += [f"## {name}/", "", said, "", "| module | |", "| --- | --- |"]
        lines += [f"| `{path.name}` | {first_sentence(path)} |" for path in inside] + [""]
    return "\n".join(lines)


ORDER = (
    "cli", "demo", "worker", "offline", "audit", "admin", "check", "follower", "app", "observe", "kafka", "storage",
    "embedded", "core/partition", "core/fold", "core/drift", "core/evaluation", "core/model", "core/join",
    "core/inputs", "core/log", "core/avro", "config", "runtime",
)  # fmt: skip


def _folders() -> list[Path]:
    found = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")}
    known = {*ORDER, *(name for name in found if name.rpartition("/")[0] in ORDER)}
    assert found - {".", "core"} == known, found ^ known  # noqa: S101 - a new folder is to be put into ORDER
    return [PACKAGE, *(PACKAGE / name for name in sorted(known, key=_rank))]


def _rank(name: str) -> tuple[int, str]:
    base = name if name in ORDER else name.rpartition("/")[0]
    return ORDER.index(base), name


PAGES = {"contribute/map.md": module_map}


def main() -> None:
    """Write all of them."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page().rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    main()
