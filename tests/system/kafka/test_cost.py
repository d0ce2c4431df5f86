"""A model that gets slower with every new text is reported on every surface before it falls behind."""

from pathlib import Path

import pytest

from stream_ml.embedded.broker import free_port
from tests.support.service import service, until

pytestmark = [pytest.mark.kafka, pytest.mark.long]

TEXTS = 6_000


def test_a_model_that_gets_slower_with_each_new_text_is_told(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        for number in range(TEXTS):
            made.visit(number, kind=f"k{number}")
            made.truth(number)
        made.flush()
        assert until(lambda: "times as long as at first" in made.problems(), 180), made.status()["model"]
        cost = made.status()["model"]["cost"]["learn"]
        assert cost["growth"] >= 10
        metrics = made.asked("/metrics")[1]
        assert f'stream_ml_cost_growth{{of="learn"}} {cost["growth"]}'.split(".")[0] in metrics
        made.wait_for(lambda: made.learned == TEXTS, "learning", 180)


def test_a_bound_of_distinct_texts_keeps_it_as_fast_as_it_was(kafka: str, app_id: str, tmp_path: Path) -> None:
    bounds = {"kind": {"distinct": 50}}
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, features={"bounds": bounds}) as made:
        made.start()
        for number in range(TEXTS):
            made.visit(number, kind=f"k{number}")
            made.truth(number)
        made.flush()
        made.wait_for(lambda: made.learned == TEXTS, "learning", 120)
        assert made.status()["model"]["cost"]["learn"]["growth"] < 10
        assert "as long as at first" not in made.problems()
