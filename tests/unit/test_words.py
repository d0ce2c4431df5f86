"""What is wrong, in words: the worst first, each with a command that exists."""

import re
from typing import Any

from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.words import printable, problems

from .test_live import STATUS

HALTED: dict[str, Any] = {
    **STATUS,
    "model": {**STATUS["model"], "halted": {"position": 17, "reason": "gap", "why": "examples are missing"}},
    "concept": {"loss": 0.5, "drifted": True, "below_baseline": True},
}


def test_the_worst_comes_first() -> None:
    found = problems(HALTED)
    severities = [one["severity"] for one in found]
    assert severities == sorted(severities) and severities.count("critical") == 2
    assert "halted at 17, gap" in found[0]["text"] and found[0]["suggestion"] == "stream-ml skip CONFIG 17"


def test_a_worker_that_is_well_has_no_problems() -> None:
    quiet = {"subjects": {}, "referenced": True}
    assert problems({**STATUS, "warnings": [], "starving": [], "drift": quiet, "pending": {"shed": 0}}) == []


def test_a_worker_that_starts_says_why_it_is_not_ready() -> None:
    assert [one["text"] for one in problems({"reasons": ["reading the log"]})] == ["not ready: reading the log"]


def test_every_suggestion_is_a_verb() -> None:
    verbs = set(re.findall(r"^[│ ]+([a-z-]+) {2,}\w", CliRunner().invoke(app, ["--help"]).output, re.M))
    for one in problems(HALTED):
        if one["suggestion"]:
            assert one["suggestion"].split()[1] in verbs


def test_what_would_steer_a_terminal_is_spelt_out() -> None:
    assert printable("a\x1b]0;owned\x07\x1b[2Jé") == "a\\x1b]0;owned\\x07\\x1b[2Jé"
