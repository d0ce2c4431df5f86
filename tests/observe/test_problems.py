"""What is wrong, in words: the worst first, each with a command that exists."""

import io
import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.cli.logs import _words
from stream_ml.cli.say import say
from stream_ml.observe.problems import all_printable, printable, problems
from tests.observe.test_terminal import STATUS
from tests.support.paths import ROOT

HALTED: dict[str, Any] = {
    **STATUS,
    "model": {
        **STATUS["model"],
        "halted": {
            "position": 17,
            "reason": "gap",
            "why": "examples are missing",
            "suggestion": "stream-ml skip CONFIG 17",
        },
    },
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


WATCHED: dict[str, tuple[dict[str, Any], str, str]] = {
    "duplicates": (
        {"count": 940, "of": 1000, "share": 0.94, "max": 0.2},
        "94 % of the last 1,000 events have an id that came before: they are scored and never learned; "
        "is events.id the id of one event?",
        "stream-ml tail CONFIG events",
    ),
    "too_old": (
        {"count": 500, "of": 1000, "share": 0.5, "max": 0.2},
        "50 % of the last 1,000 events are older than feedback.ttl when they come: no label can join them",
        "stream-ml tail CONFIG events",
    ),
    "orphans": (
        {"count": 950, "of": 1000, "share": 0.95, "max": 0.2},
        "95 % of the last 1,000 labels found no event: do events.id and feedback.id hold the same ids, "
        "and have both topics the same keys and partitioner?",
        "stream-ml tail CONFIG outcomes --where outcome=orphan",
    ),
    "late": (
        {"count": 300, "of": 1000, "share": 0.3, "max": 0.2},
        "30 % of the last 1,000 labels came later than feedback.ttl: nothing is learned from them",
        "stream-ml tail CONFIG outcomes --where outcome=late",
    ),
    "late by the order of loading": (
        {"count": 300, "of": 1000, "share": 0.3, "max": 0.2, "passed": 299},
        "30 % of the last 1,000 labels came when the time of their partition had passed them by: events were loaded "
        "before their labels? Load both files at once",
        "stream-ml produce CONFIG events EVENTS --labels LABELS",
    ),
    "waiting": (
        {"count": 150_000, "of": 150_000, "share": 1.0, "max": 0.5},
        "150,000 labels wait for their event, and 0 of the last 150,000 have met it: "
        "do events.id and feedback.id hold the same ids?",
        "stream-ml tail CONFIG feedback",
    ),
}
WELL = {**STATUS, "warnings": [], "starving": [], "drift": {"subjects": {}, "referenced": True}, "pending": {"shed": 0}}


@pytest.mark.parametrize("of", WATCHED)
def test_a_share_above_its_threshold_is_a_problem(of: str) -> None:
    entry, text, suggestion = WATCHED[of]
    watch = {of.split(maxsplit=1)[0]: entry}
    assert problems({**WELL, "watch": watch}) == [{"severity": "warning", "text": text, "suggestion": suggestion}]


@pytest.mark.parametrize("share", [0.2, None])
@pytest.mark.parametrize("of", WATCHED)
def test_a_share_at_its_threshold_or_of_too_few_records_is_none(of: str, share: float | None) -> None:
    assert (
        problems({**WELL, "watch": {of.split(maxsplit=1)[0]: {"count": 9, "of": 45, "share": share, "max": 0.2}}}) == []
    )


def test_a_worker_that_starts_says_why_it_is_not_ready() -> None:
    assert [one["text"] for one in problems({"reasons": ["reading the log"]})] == ["not ready: reading the log"]


def test_every_suggestion_is_a_verb() -> None:
    verbs = set(re.findall(r"^[│ ]+([a-z-]+) {2,}\w", CliRunner().invoke(app, ["--help"]).output, re.M))
    for one in problems(HALTED):
        if one["suggestion"]:
            assert one["suggestion"].split()[1] in verbs


def test_what_would_steer_a_terminal_is_spelt_out() -> None:
    assert printable("a\x1b]0;owned\x07\x1b[2Jé") == "a\\x1b]0;owned\\x07\\x1b[2Jé"


EVIL = "a\x1b]0;owned\x07\nb\u202ec\x9b2J"


def test_what_another_process_sent_is_text_wherever_it_stands() -> None:
    found = all_printable({EVIL: [EVIL, {"x": EVIL}, 1, None, True]})
    text = json.dumps(found, ensure_ascii=False)
    assert all(char.isprintable() for char in text)


@pytest.mark.parametrize("err", [False, True])
def test_a_verb_writes_escape_sequences_as_text(capsys: pytest.CaptureFixture[str], err: bool) -> None:
    say(f"one\n{EVIL}", err=err)
    said = capsys.readouterr()
    lines = (said.err if err else said.out).splitlines()
    assert len(lines) == 3 and all(line.isprintable() for line in lines)


def test_a_line_of_the_log_is_one_line() -> None:
    line = _words(None, "", {"level": "warning", "timestamp": "12:00:00", "event": f"x {EVIL}", "hint": EVIL})
    first, second = line.split("\n")
    assert first.isprintable() and second.strip().isprintable()


def test_a_trace_steers_no_terminal() -> None:
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        event = {
            "level": "error",
            "timestamp": "1",
            "event": "x",
            "exc_info": (type(error), error, error.__traceback__),
        }
        assert all(line.isprintable() for line in _words(None, "", event).split("\n"))


@pytest.mark.parametrize("text", ["[link=http://evil.example/x]ok[/link]", "[blink red]x", ":skull:", "[/x]"])
def test_markup_of_another_process_is_text(text: str) -> None:
    from rich.console import Console

    from stream_ml.observe.terminal import panel

    drift = {**STATUS["drift"], "subjects": {f"feature:{text}": {"drifted": True, "psi": 1.0}}}
    console = Console(force_terminal=True, width=200, file=io.StringIO())
    console.print(panel({**STATUS, "drift": drift, "checkpoint": {**STATUS["checkpoint"], "position": text}}))
    said = console.file.getvalue()
    assert text in said and "\x1b]8" not in said and "\x1b[5" not in said


def test_only_one_place_writes_to_the_terminal() -> None:
    package = ROOT / "stream_ml"
    writers = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(r"typer\.echo\(|sys\.std(out|err)\.write\(|(?<![\w.])print\(", file.read_text("utf-8"))
    }
    demo = {"demo/run.py", "demo/derive.py", "demo/elsewhere.py"}
    assert writers == {"cli/say.py", *demo}, "and the demo, whose words are its own"
