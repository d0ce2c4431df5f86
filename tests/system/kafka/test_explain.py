"""explain: what was published is derived again, its sum is its score, and what cannot be derived says why."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from stream_ml.embedded.broker import free_port
from tests.support.service import Service, service
from tests.system.kafka.test_take_over import change_model, status

pytestmark = pytest.mark.kafka

BAYES = """
from river import compose, naive_bayes


def build():
    return compose.SelectType(float) | naive_bayes.GaussianNB()
"""
FOREST = """
from river import compose, forest


def build():
    return compose.SelectType(float) | forest.ARFClassifier(n_models=3, seed=1, grace_period=20)
"""


def explained(made: Service, *words: str) -> dict[str, Any]:
    """What explain says as JSON; what was published comes out the same."""
    found: dict[str, Any] = json.loads(made.typed("explain", "CONFIG", *words, "--json").splitlines()[-1])
    derived = found["derived"]
    assert derived["differs"] is False and derived["class"] == found["published"]["class"]
    parts = derived["contributions"]
    assert (
        parts["is_exact"]
        and abs(math.fsum([parts["base"], *(one["adds"] for one in parts["parts"])]) - parts["total"]) < 1e-9
    )
    score = 1 / (1 + math.exp(-parts["total"])) if parts["of"] == "log odds" else parts["total"]
    assert score == pytest.approx(found["published"]["score"], abs=1e-9)
    return found


def test_a_prediction_is_derived_again_by_each_kind_of_model_and_adds_up(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        made.pairs(range(20))
        made.wait_until_done()
        made.pairs(range(20, 300))
        made.wait_until_done()
        first = explained(made, "v250")
        assert first["model"]["position"] > 20 and first["label"]["label"] in ("true", "false")
        assert first["derived"]["contributions"]["how"] == "linear" and first["now"]["examples_learned"] == 300
        by_place = explained(made, "--origin", f"0:{first['event']['offset']}")
        assert by_place["event_id"] == "v250"
        said = made.typed("explain", "CONFIG", "v250")
        assert "derived again" in said and "(the same)" in said and "now " in said and "log odds" in said, said
        assert worker.stop() == 0
        old = first["model"]["lineage"]
        for number, (text, how) in enumerate(((BAYES, "naive Bayes"), (FOREST, "mean of paths"))):
            change_model(made, text=text)
            worker = made.start()
            made.wait_for(lambda old=old: status(made)["serves"] not in ("", old), "taking over")  # type: ignore[misc]
            made.pairs(range(300 + 20 * number, 320 + 20 * number))
            made.wait_until_done()
            found = explained(made, f"v{310 + 20 * number}")
            assert found["derived"]["contributions"]["how"] == how, found
            old = found["model"]["lineage"]
            assert worker.stop() == 0
        again = explained(made, "v250")
        assert again["now"]["lineage"] != again["model"]["lineage"] == first["model"]["lineage"]
        shutil.rmtree(made.config.path(made.config.models.directory) / first["model"]["lineage"])
        code, said = made.ended("explain", "CONFIG", "v250")
        assert code == 0 and "cannot be derived again" in said and "cannot be built here" in said, said


@pytest.mark.long
def test_what_cannot_be_explained_is_said_in_one_sentence(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        made.start()
        made.pairs(range(10))
        made.wait_until_done()
        refused = {
            ("nobody",): "no prediction of event nobody is in",
            ("--origin", "0:99999"): "no prediction of event 0:99999",
            ("--origin", "zero"): "is no place",
            (): "name one event",
        }
        for words, why in refused.items():
            code, said = made.ended("explain", "CONFIG", *words)
            assert code == 78 and why in said and "Traceback" not in said, (words, said)
        said = made.typed("explain", "CONFIG", "v3")
        assert "v3: " in said and ("no answer" in said or "log odds" in said), said
