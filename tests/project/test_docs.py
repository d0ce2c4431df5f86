"""The documents say what the code does, and every link in them leads somewhere."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.config.show import reference
from stream_ml.core.partition.outputs import REASONS
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]
GENERATED = runpy.run_path(str(DOCS / "generate.py"))["PAGES"]


def text(name: str) -> str:
    """A page of docs/."""
    return (DOCS / name).read_text("utf-8")


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_what_the_code_says(name: str) -> None:
    assert text(name) == GENERATED[name]().rstrip() + "\n", f"{name}: python docs/generate.py"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 40
    loaded = {
        source
        for page in pages
        for source in re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', page.read_text("utf-8"))
    }
    assert loaded == set(), "a page loads something from elsewhere"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:stream_ml|tests|docs|deploy|schemas|benchmarks|examples)/[\w/.-]+)`", page.read_text("utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_is_a_face_and_not_a_manual() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 130


def test_every_key_has_a_meaning() -> None:
    assert [row for row in reference().splitlines() if row.endswith("|  |")] == []


def test_every_verb_stands_in_the_reference() -> None:
    listed = CliRunner().invoke(app, ["--help"]).output
    verbs = re.findall(r"^[│ ]+([a-z-]+) {2,}\w", listed.partition("Commands")[2], re.M)
    page = text("reference/cli.md")
    assert len(verbs) >= 10
    assert [verb for verb in verbs if f"`{verb} " not in page and f"`{verb}`" not in page] == []


def test_every_guarantee_names_tests_that_exist() -> None:
    rows = [line for line in text("reference/guarantees.md").splitlines() if re.match(r"^\| \d+ \|", line)]
    written = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = [re.findall(r"`(test_\w+)`", row.rpartition("|")[0].rpartition("|")[2]) for row in rows]
    assert len(rows) >= 7 and all(named)
    assert [name for names in named for name in names if f"def {name}(" not in written] == []


def test_rules_that_the_code_cites_stand_in_the_guarantees() -> None:
    cited = {
        number
        for path in (*ROOT.glob("stream_ml/**/*.py"), *ROOT.glob("tests/**/*.py"))
        for number in re.findall(r"\brule (\d+)\b", path.read_text("utf-8"))
    }
    anchors = set(re.findall(r'<a id="rule-(\d+)">', text("reference/guarantees.md")))
    assert cited - anchors == set()


def test_words_that_were_replaced_stay_replaced() -> None:
    replaced = re.compile(
        r"\b(acquaint|let_go|torn|tainted|spoilt|heir|pardons?|landmarks|condemned|leftovers|look_around|parked|"
        r"Ledger|NotUsable|NotOfSchema|why_singly)\b"
    )
    files = [*PAGES, *ROOT.glob("stream_ml/**/*.py"), *ROOT.glob("stream_ml/**/*.js"), *ROOT.glob("tests/**/*.py")]
    found = [
        (str(file.relative_to(ROOT)), word) for file in files for word in replaced.findall(file.read_text("utf-8"))
    ]
    passed = ("docs/contribute/notes.md", "tests/project/test_docs.py")
    assert [hit for hit in found if hit[0] not in passed] == []


def test_words_of_the_glossary_stand_in_the_code() -> None:
    code = "".join(path.read_text("utf-8").lower() for path in ROOT.glob("stream_ml/**/*.py"))
    rows = re.findall(r"^\| ([^|]+) \| ", text("concepts/glossary.md"), re.M)[2:]
    words = [word.strip(" `") for row in rows for word in row.split(",")]
    assert len(words) > 25
    assert [word for word in words if word.lower() not in code and word.lower().replace(" ", "_") not in code] == []


def test_every_reason_of_a_dead_letter_stands_in_its_page() -> None:
    page = text("operate/dead-letters.md")
    assert [reason for reason in REASONS if f"`{reason}`" not in page] == []


def test_the_contributors_recipes_name_what_is_in_the_files() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"`(\w+)`(?: and `(\w+)`)? in `(stream_ml/[\w/]+\.py)`", page)
    wrong = [
        (name, file)
        for *names, file in named
        for name in names
        if name and not re.search(rf"\b{name}\b", (ROOT / file).read_text("utf-8"))
    ]
    assert len(named) >= 5 and wrong == []
