"""The README says what the code does: every key with its default, every verb, every module of the map."""

import re
import runpy

from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.config.show import reference
from stream_ml.observe import metrics
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_the_reference_of_all_keys_is_what_the_configuration_says() -> None:
    section = README.partition("## Configuration")[2].partition("\n## ")[0]
    assert reference() in section, "stream-ml config reference prints the table"


def test_every_key_has_a_meaning() -> None:
    assert [row for row in reference().splitlines() if row.endswith("|  |")] == []


def test_every_verb_stands_in_the_readme() -> None:
    listed = CliRunner().invoke(app, ["--help"]).output
    verbs = re.findall(r"^[│ ]+([a-z-]+) {2,}\w", listed.partition("Commands")[2], re.M)
    assert len(verbs) >= 10
    assert [verb for verb in verbs if f"`{verb} " not in README and f"`{verb}`" not in README] == []


def test_the_table_of_metrics_is_the_one_in_the_code() -> None:
    assert metrics.reference() in README, "print(stream_ml.observe.metrics.reference())"


def test_generated_pages_are_what_the_code_says() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    for name, page in generate["PAGES"].items():
        written = (ROOT / "docs" / name).read_text("utf-8")
        assert written == page().rstrip() + "\n", f"{name}: python docs/generate.py"


def test_every_guarantee_names_tests_that_exist() -> None:
    section = README.partition("## Guarantees")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if re.match(r"^\| \d+ \|", line)]
    written = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = [re.findall(r"`(test_\w+)`", row.rpartition("|")[0].rpartition("|")[2]) for row in rows]
    assert len(rows) >= 7 and all(named)
    assert [name for names in named for name in names if f"def {name}(" not in written] == []
