"""The README says what the code does: every key with its default, every verb, every module of the map."""

import re
from pathlib import Path

from typer.testing import CliRunner

from stream_ml import metrics
from stream_ml.cli.app import app
from stream_ml.config.show import reference

ROOT = Path(__file__).parent.parent.parent
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
    assert metrics.reference() in README, "python -c 'from stream_ml.metrics import reference; print(reference())'"


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
