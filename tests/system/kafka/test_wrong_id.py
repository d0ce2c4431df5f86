"""Ids that do not fit: nothing is lost and nothing is learned, and every surface says so in words."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.embedded.broker import free_port
from tests.support.service import Service, service
from tests.system.kafka.test_endpoints import get, status

pytestmark = pytest.mark.kafka

REPEATED = "98 % of the last 301 events have an id that came before"
UNMATCHED = "100 % of the last 301 labels found no event"
WAITING = "3,000 labels wait for their event"


def texts(made: Service) -> str:
    """The problems of the status, one a line."""
    return "\n".join(problem["text"] for problem in status(made).get("problems", []))


def typed(made: Service, verb: str, *options: str) -> tuple[int, str]:
    """Exit code and output of a verb, on one line each."""
    done = CliRunner().invoke(app, [verb, str(made.folder / "w1.yaml"), *options])
    return done.exit_code, re.sub(r"\s+", " ", done.output)


def test_the_wrong_id_field_is_a_problem_on_every_surface(kafka: str, app_id: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"events": {"id": "kind"}, "feedback": {"early_ttl": "1s"}, "http": {"port": free_port()}}
    with service(tmp_path, kafka, app_id, **changes) as made:
        worker = made.start()
        for number in range(300):
            made.visit(number, kind=f"k{number % 7}")
        for number in range(300):
            made.truth(number, delay_s=0)
        made.visit(999, at=1_600_000_900_000, kind="k0")  # ten minutes on: the labels wait for nothing any more
        made.truth(999, at=1_600_000_900_000)
        made.wait_until_done()
        made.wait_for(lambda: REPEATED in texts(made) and UNMATCHED in texts(made), "both problems")
        now = status(made)
        assert now["watch"]["duplicates"]["share"] > 0.9 and now["watch"]["orphans"]["share"] > 0.9
        assert [p["suggestion"] for p in now["problems"] if p["text"].startswith((REPEATED, UNMATCHED))] == [
            "stream-ml tail CONFIG events",
            "stream-ml tail CONFIG outcomes --where outcome=orphan",
        ]
        assert 'stream_ml_watched_ratio{of="duplicates"} 0.9' in get(made, "/metrics")[1]
        code, said = typed(made, "top", "--once")
        assert code == 1 and REPEATED in said and UNMATCHED in said
        assert worker.log.count(REPEATED[5:]) == 1, "the log says it once"
        said = typed(made, "audit", "--sample", "0")[1]
        assert "294 of 301 events have an id that came before" in said and "nothing is wrong" not in said


def test_labels_that_match_nothing_are_a_problem_while_they_wait(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        for number in range(100):
            made.visit(number)
        for number in range(3_000):
            made.truth(number, id=f"other-{number}")
        made.wait_until_done()
        made.wait_for(lambda: WAITING in texts(made), "the problem")
        assert status(made)["watch"]["waiting"]["share"] == 1.0
        assert typed(made, "top", "--once")[0] == 1


def test_events_older_than_their_ttl_are_a_problem(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(10_000, 10_010))  # three hours later
        made.wait_until_done()
        for number in range(200):
            made.visit(number)
        made.wait_until_done()
        made.wait_for(lambda: "of the last 210 events are older than feedback.ttl" in texts(made), "the problem")


def test_a_threshold_is_configured(kafka: str, app_id: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"watch": {"duplicates_max": 0.99}, "http": {"port": free_port()}}
    with service(tmp_path, kafka, app_id, events={"id": "kind"}, **changes) as made:
        made.start()
        for number in range(300):
            made.visit(number, kind=f"k{number % 7}")
        made.wait_until_done()
        made.wait_for(lambda: status(made)["since_start"].get("events") == 300, "three hundred events")
        assert status(made)["watch"]["duplicates"]["max"] == 0.99 and "came before" not in texts(made)
