"""A fresh service before hours of history: it says what it does, learns all of it, and tells nothing of how well that
went; what comes after is told as ever."""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from stream_ml.embedded.broker import free_port
from tests.support.service import Service, service, until
from tests.system.kafka.test_endpoints import get, status
from tests.system.kafka.test_signals import told
from tests.system.kafka.test_wrong_id import texts

pytestmark = pytest.mark.kafka

HISTORY, UNLABELLED, LIVE, DELAY_S = 30_000, 12_000, 500, 3_600
WAIT_S = 60.0
JUDGED = {"loss", "quality", "feature:x", "score", "labels:0"}
SMALL: dict[str, Any] = {"inputs": {"reference": 1_000, "window": 500}, "label_starvation": "10m"}


def played(made: Service, first: int, count: int, *, moved: float = 0.0) -> None:
    """Events two seconds apart whose labels say the sign of x, an hour later, when it already means the opposite."""
    source = random.Random(first)
    for number in range(first, first + count):
        x = source.gauss(0, 1)
        flipped = number // (DELAY_S // 2) % 2 == 1
        made.visit(number, at=1_600_000_000_000 + 2_000 * number, x=x + moved)
        if number >= UNLABELLED:
            made.truth(number, delay_s=DELAY_S + number, y=(x > 0) is not flipped)
    made.flush()


def judged(made: Service) -> set[tuple[str, str]]:
    return {one for one in told(made) if one[1] in JUDGED}


def test_history_is_learned_in_silence_and_what_comes_after_is_told(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, drift=SMALL, http={"port": free_port()}) as made:
        played(made, 0, HISTORY)
        worker = made.start()
        made.wait_for(lambda: "the first backlog" in texts(made), "a word of what it does")
        assert "stream_ml_first_backlog_events" in get(made, "/metrics")[1]
        made.wait_until_done()
        made.wait_for(lambda: status(made)["first_backlog"] == {"left": 0, "events": HISTORY}, "the end of it")
        assert f"{HISTORY:,} events lie there".replace(",", "") in worker.log
        assert worker.log.count("the first backlog is read") == 1
        made.wait_for(lambda: status(made)["model"]["examples_learned"] == HISTORY - UNLABELLED, "the examples")
        assert "the first backlog" not in texts(made) and judged(made) == set(), told(made)
        shown = status(made)
        assert not shown["concept"]["below_baseline"] and not shown["concept"]["drifted"] and not shown["starving"]
        assert shown["quality"]["log_loss"] > shown["quality"]["log_loss_baseline"]  # it would have been told
        firsts = itertools.count(HISTORY, LIVE)

        def is_told() -> bool:
            played(made, next(firsts), LIVE, moved=50.0)
            made.wait_until_done()
            return {("drift", "feature:x"), ("below_baseline", "quality")} <= judged(made)

        assert until(is_told, WAIT_S), told(made)


def test_a_restart_in_the_first_backlog_forgets_nothing_of_it(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, drift=SMALL, http={"port": free_port()}) as made:
        played(made, 0, HISTORY)
        assert made.start(fail="after-process:kill:4").wait() != 0
        assert 0 < made.progress()[0] < 2 * HISTORY
        made.start()
        made.wait_for(lambda: status(made).get("first_backlog", {}).get("events") == HISTORY, "what it is in")
        made.wait_until_done()
        made.wait_for(lambda: status(made)["model"]["examples_learned"] == HISTORY - UNLABELLED, "the examples")
        assert judged(made) == set(), told(made)
