"""An example that the model cannot stand, with three replicas of the API: each goes back to what the log gives."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from stream_ml.core.partition.answered import FLAG
from tests.support.api_process import ApiProcess, Asking
from tests.support.service import T0, Service, brothers, service, until
from tests.system.kafka.test_poison import BRITTLE

pytestmark = [pytest.mark.kafka, pytest.mark.long]

REPLICAS = ("api-1", "api-2", "api-3")
LEARNED = 1_500  # that each folds again: none has a checkpoint
KEY = {"provenance_key_file": "answers.key"}
ASKED = {"at": T0 + 1_000 * LEARNED, "x": 37.5, "kind": "k1", "note": None}


def brittle(folder: Path, servers: str, app_id: str) -> Any:
    (folder / f"brittle_{app_id}.py").write_text(BRITTLE, "utf-8")
    (folder / "answers.key").write_text("k" * 40, "utf-8")
    model = {"factory": f"brittle_{app_id}:build", "checkpoint_types": [f"brittle_{app_id}.Brittle"]}
    return service(folder, servers, app_id, model=model, serve=KEY)


def replica(made: Service, name: str) -> ApiProcess:
    """One that records what it answers."""
    others = {"checkpoints": {"directory": f"of-{name}"}}
    return ApiProcess(made, name=name, others=others, record="ack", **KEY)


def halted(answer: dict[str, Any]) -> bool:
    return "learning_halted" in answer["predictions"][0]["flags"]


def said(api: ApiProcess) -> dict[str, Any]:
    """The same question to each: nothing of it is kept, and what it says of the model."""
    status, _, found = api.ask("POST", "/v1/predict", {"instances": [ASKED], "record": False})
    assert status == 200, found
    (one,) = found["predictions"]
    model = {name: found["model"][name] for name in ("lineage", "position", "epoch", "examples_learned")}
    return {"class": one["class"], "score": one["score"].hex(), "flags": one["flags"], **model}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", brothers("raises", "spoils"))
def test_what_breaks_the_model_leaves_three_replicas_with_the_same_bits_and_no_answer_that_the_log_does_not_give(
    kind: str, kafka: str, app_id: str, tmp_path: Path
) -> None:
    with brittle(tmp_path, kafka, app_id) as made:
        worker = made.start()
        made.pairs(range(LEARNED))
        made.wait_until_done()
        apis = [replica(made, name) for name in REPLICAS]
        try:
            for api in apis:
                api.wait_ready()
                made.wait_for(lambda api=api: said(api)["examples_learned"] == LEARNED, "learning of all")  # type: ignore[misc]
            before = said(apis[0])
            asking = [Asking(api, ASKED) for api in apis]
            for one in asking:
                one.start()
            assert until(lambda: all(len(one.answers) > 20 for one in asking), 20)
            made.visit(LEARNED, kind=kind)
            made.truth(LEARNED)
            made.pairs(range(LEARNED + 1, LEARNED + 200))
            made.flush()
            assert until(lambda: all(map(halted, [one.answers[-1] for one in asking])), 60), apis[0].log
            answers = [answer for one in asking for answer in one.stop().answers]
            made.wait_until_done()
            after = [said(api) for api in apis]
            assert after[0] == after[1] == after[2]
            assert after[0]["flags"] == ["learning_halted"] and after[0]["examples_learned"] == LEARNED
            assert all(api.ask("GET", "/readyz")[0] == 200 for api in apis)
            # One that begins anew halts there as well.
            apis[0].close()
            apis[0] = replica(made, REPLICAS[0]).wait_ready()
            assert said(apis[0]) == after[1]
            # The worker says the same, for an event that nobody was asked about.
            made.visit(LEARNED + 200, x=ASKED["x"], kind=ASKED["kind"])
            made.wait_until_done()
            by_worker = made.predictions()[-1]
            assert (by_worker["score"].hex(), by_worker["flags"]) == (after[0]["score"], "learning_halted")
            assert (by_worker["lineage"], by_worker["position"]) == (after[0]["lineage"], after[0]["position"])
            assert [api.stop() for api in apis] == [0, 0, 0]
        finally:
            for api in apis:
                api.close()
        made.wait_until_done()
        refused = {text[:400] for one in asking for text in one.failed}
        assert all("urn:stream-ml:problem:starting" in text for text in refused), refused
        sound = [one for one in answers if "unsound" not in one["predictions"][0]["flags"]]
        assert kind == "spoils" or sound == answers, "what raises is known at once"
        bits = defaultdict[tuple[str, int], set[str | None]](set)
        for one in sound:
            score = one["predictions"][0]["score"]
            bits[one["model"]["lineage"], one["model"]["position"]].add(None if score is None else score.hex())
        assert all(len(scores) == 1 for scores in bits.values()), "the same version says the same, whoever answers"
        assert {before["score"]} == bits[before["lineage"], before["position"]]
        assert worker.stop() == 0
        found = made.audited(sample=20_000)
        served = [one for one in made.predictions() if FLAG in one["flags"]]
        assert len(served) == len(sound) > 60, "each answer is published; of an unsound model nothing is sealed"
        assert found["findings"] == [] and found["rescored"]["checked"] == found["predictions"], found
