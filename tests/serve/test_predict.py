"""Predictions over HTTP: the bits of the fold, one version an answer, refusals that say what is wrong and where."""

import asyncio
import json
import time
from typing import Any

import pytest

from stream_ml.kafka.reading.log_heartbeat import Heard
from tests.core.fold.test_fold import SPOILS
from tests.support.api import Answered, Api
from tests.support.follower_on_a_list import BAYES, BRITTLE, LINEAR, RIDGE, App, Log, alone

PREDICT = "/v1/predict"


def instances(*xs: float, **more: Any) -> dict[str, Any]:
    return {"instances": [{"x": x} for x in xs], **more}


def test_scores_are_those_of_the_model_folded_alone_to_that_position(app: App, api: Api, log: Log) -> None:
    for _ in range(5):
        answer = api.post(PREDICT, instances(1.5, -2.25, 0.1)).json
        model = alone(log, app.recipe(api.config))
        assert answer["model"]["position"] == model.position == log.end
        assert answer["model"]["lineage"] == model.settings.lineage
        assert answer["model"]["examples_learned"] == model.examples_learned
        expected = [model.model.score_one({"x": x}) for x in (1.5, -2.25, 0.1)]
        assert [one["score"].hex() for one in answer["predictions"]] == [e.score.hex() for e in expected if e.score]
        assert [one["class"] for one in answer["predictions"]] == [e.class_name == "true" for e in expected]
        log.usual(17)
        api.turn()


def test_a_request_that_is_answered_between_folds_has_one_version(api: Api, log: Log) -> None:
    before = api.post(PREDICT, instances(1.0)).json["model"]["position"]
    log.usual(50)
    assert api.post(PREDICT, instances(1.0)).json["model"]["position"] == before
    api.turn()
    assert api.post(PREDICT, instances(1.0)).json["model"]["position"] == before + 50


def test_headers_say_what_the_body_says_of_the_model(api: Api) -> None:
    answer = api.post(PREDICT, instances(1.0), X_Request_Id="mine-1")
    model = answer.json["model"]
    assert answer.headers["stream-ml-position"] == f"{model['lineage']}/{model['position']}"
    assert 0 <= int(answer.headers["stream-ml-age"]) <= 60_000
    assert answer.headers["x-request-id"] == "mine-1" and answer.headers["cache-control"] == "no-store"


def test_a_model_that_has_learned_nothing_is_flagged_cold(app: App) -> None:
    config = app.config(LINEAR)
    app.serving(config)
    (one,) = Api(app, config).post(PREDICT, instances(1.0)).json["predictions"]
    assert "cold" in one["flags"]


def test_an_id_that_was_given_comes_back_and_one_that_was_not_does_not(api: Api) -> None:
    body = {"instances": [{"id": "a", "t": "2026-01-01T00:00:00Z", "x": 1.0}, {"x": 1.0}]}
    first, second = api.post(PREDICT, body).json["predictions"]
    assert first["id"] == "a" and "id" not in second
    assert first["score"] == second["score"]


def test_features_by_place_give_bare_classes_beside_the_predictions(api: Api) -> None:
    many = api.post("/predict", {"features": [[1.0], [-1.0]]}).json
    named = api.post("/predict", instances(1.0, -1.0)).json
    assert many["predictions"] == named["predictions"]
    assert many["prediction"] == [one["class"] for one in named["predictions"]]
    assert api.post("/predict", {"on_error": "fail", "features": [1.0]}).json["prediction"] == many["prediction"][:1]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"instances": [{"x": "much"}]}, "/instances/0/x"),
        ({"instances": [{"x": 1.0}, {}]}, "/instances/1/x"),
        ({"instances": [{"x": 1.0, "y": 2}]}, "/instances/0/y"),
        ({"instances": [{"x": 1e300}]}, "/instances/0/x"),
        ({"instances": [{"x": None}]}, "/instances/0/x"),
        ({"instances": [{"x": 1.0, "t": "soon"}]}, "/instances/0/t"),
        ({"instances": [{"x": 1.0, "id": ""}]}, "/instances/0/id"),
        ({"instances": {"x": 1.0}}, "/instances"),
        ({"instances": []}, "/instances"),
        ({"instances": [{"x": 1.0}], "on_error": "skip"}, "/on_error"),
        ({"instances": [{"x": 1.0}], "else": 1}, "/else"),
        ({"features": [1.0, 2.0]}, "/features"),
        ([1], ""),
    ],
)
def test_what_is_not_of_the_schema_is_refused_with_its_place(api: Api, body: Any, pointer: str) -> None:
    answer = api.post(PREDICT, body)
    assert (answer.status, answer.problem) == (422, "not-of-schema"), answer
    assert pointer in [one["pointer"] for one in answer.json["errors"]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"instances": [{"x": NaN}]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"instances":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
        b'{"instances": [{"x": 1.0, "id": "\\ud800"}]}',
    ],
)
def test_what_is_no_json_is_not_readable(api: Api, body: bytes) -> None:
    answer = api.post(PREDICT, body)
    assert answer.status in (400, 422) and answer.problem in ("not-json", "not-of-schema"), answer


def test_in_a_partial_request_what_is_wrong_with_one_leaves_the_others_alone(api: Api) -> None:
    body = {"instances": [{"x": 1.0}, {"x": "much"}, {"x": -1.0}], "on_error": "partial"}
    first, second, third = api.post(PREDICT, body).json["predictions"]
    assert second["error"]["code"] == "schema_mismatch" and second["error"]["pointer"] == "/instances/1/x"
    assert first["class"] != third["class"]


@pytest.mark.parametrize("more", [{}, {"on_error": "partial"}])
def test_a_feature_out_of_its_bounds_is_refused_as_the_worker_refuses_it(
    app: App, log: Log, more: dict[str, Any]
) -> None:
    config = app.config(LINEAR, features={"bounds": {"x": {"min": -2.0, "max": 10.0}}})
    app.serving(config)
    log.usual(30)
    api = Api(app, config)
    for x in (10.000000000000002, -3.0):
        answer = api.post(PREDICT, instances(1.0, x, **more)).json
        fault = answer["predictions"][1]["error"] if more else answer["errors"][0]
        assert (fault["code"], fault["pointer"]) == ("out_of_bounds", "/instances/1/x")
        many = api.post(PREDICT, instances(*[1.0] * 20, x, **more)).json  # so many that they are read as columns
        fault = many["predictions"][20]["error"] if more else many["errors"][0]
        assert (fault["code"], fault["pointer"]) == ("out_of_bounds", "/instances/20/x")
    assert api.post(PREDICT, instances(10.0, -2.0, **more)).status == 200


def test_values_are_not_repeated_where_the_operator_wants_that(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"verbose_errors": False})
    app.serving(config)
    log.usual(30)
    answer = Api(app, config).post(PREDICT, {"instances": [{"x": "a-secret"}]})
    assert answer.status == 422 and b"a-secret" not in answer.body
    assert answer.json["errors"] == [{"pointer": "/instances/0/x", "code": "schema_mismatch"}]


def test_a_model_that_raises_for_a_usable_event_is_our_mistake_and_keeps_its_words_to_itself(
    app: App, log: Log
) -> None:
    config = app.config(
        {"factory": "tests.serve.test_predict:Picky", "checkpoint_types": ["tests.serve.test_predict.Picky"]}
    )
    app.serving(config)
    log.usual(30)
    api = Api(app, config)
    answer = api.post(PREDICT, instances(1.0, 13.0))
    assert (answer.status, answer.problem) == (500, "model-refused")
    assert b"unlucky" not in answer.body
    partial = api.post(PREDICT, instances(1.0, 13.0, on_error="partial")).json["predictions"]
    assert partial[1]["error"]["code"] == "model_refused" and partial[1]["error"]["pointer"] == "/instances/1"
    assert "unlucky" not in str(partial) and "class" in partial[0]


class Picky:
    """Raises for one value, once it has learned: what a trial with made-up events does not find."""

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        pass

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        if x["x"] == 13.0:
            raise ValueError("unlucky")
        return {True: 0.75, False: 0.25}


def test_a_model_that_is_halted_or_behind_says_so_in_its_flags(app: App, log: Log) -> None:
    config = app.config(BRITTLE)
    app.serving(config)
    log.usual(100)
    api = Api(app, config)
    log.example(SPOILS)
    log.usual(70)
    api.turn()
    answer = api.post(PREDICT, instances(1.0)).json
    assert "learning_halted" in answer["predictions"][0]["flags"]
    assert answer["model"]["position"] < log.end


def test_another_model_answers_once_the_log_says_so(app: App, api: Api, log: Log) -> None:
    ridge = app.config(RIDGE)
    lineage = app.declare(ridge)
    log.usual(20)
    api.turn()
    app.serve(lineage)
    api.turn()
    answer = api.post(PREDICT, instances(1.0)).json
    assert answer["model"]["lineage"] == lineage and answer["model"]["epoch"] == log.roles.table.epoch
    expected = alone(log, app.recipe(ridge)).model.score_one({"x": 1.0})
    assert answer["predictions"][0]["score"] == expected.score


def test_the_replica_writes_nothing_and_declares_nothing(app: App, log: Log) -> None:
    app.serving(app.config(LINEAR))
    log.usual(50)
    api = Api(app, app.config(BAYES))
    for _ in range(3):
        log.usual(10)
        api.turn()
    answer = api.post(PREDICT, instances(1.0)).json
    assert log.written == [] and answer["model"]["lineage"] == log.roles.table.lineage
    assert not (app.folder / "checkpoints").exists()


# --- how fresh ---


async def both(api: Api, asked: Any, then: Any) -> Answered:
    """An answer that is waited for, and what happens meanwhile."""
    task = asyncio.create_task(asked)
    await asyncio.sleep(0)
    then()
    return await task


def test_a_position_that_is_not_here_yet_is_waited_for(api: Api, log: Log) -> None:
    wanted = log.end + 5
    headers = {"stream-ml-min-position": str(wanted), "prefer": "wait=10"}

    def more() -> None:
        log.usual(7)
        api.turn()

    answer = asyncio.run(both(api, api.ask("POST", PREDICT, instances(1.0), headers), more))
    assert answer.status == 200 and answer.json["model"]["position"] >= wanted


def test_a_position_that_does_not_come_is_refused_with_the_one_that_is_here(api: Api, log: Log) -> None:
    answer = api.post(PREDICT, instances(1.0), Stream_ML_Min_Position=str(log.end + 1), Prefer="wait=0.01")
    assert (answer.status, answer.problem, answer.json["position"]) == (412, "behind", log.end)
    other = api.post(PREDICT, instances(1.0), Stream_ML_Min_Position="0" * 16 + "/1")
    assert (other.status, other.problem) == (412, "lineage")
    assert api.post(PREDICT, instances(1.0), Stream_ML_Min_Position="much").status == 400


def test_a_label_counts_as_learned_once_its_example_or_a_later_one_is_folded(api: Api, log: Log) -> None:
    last = api.live.follower.book.seen.last_trigger(0, 1)
    assert api.post(PREDICT, instances(1.0), Stream_ML_After=f"f:0:{last}").status == 200
    late = api.post(PREDICT, instances(1.0), Stream_ML_After=f"f:0:{last + 1}", Prefer="wait=0.01")
    assert (late.status, late.problem) == (412, "behind") and f"f:0:{last + 1}" in late.json["detail"]
    log.usual(1)
    api.turn()
    assert api.post(PREDICT, instances(1.0), Stream_ML_After=f"f:0:{last + 1}").status == 200
    assert api.post(PREDICT, instances(1.0), Stream_ML_After="f:0").status == 400


def test_age_counts_from_what_kafka_itself_said_last_and_not_from_the_end_of_what_was_read(app: App, log: Log) -> None:
    """A consumer that is cut off is at the end of its log for ever."""
    config = app.config(LINEAR)
    app.serving(config)
    log.usual(300)
    api = Api(app, config, started=False)
    api.beat.away_since = Heard(time.monotonic() - 1_800, log.end)
    api.live.start(lambda: False)
    api.turn()
    answer = api.post(PREDICT, instances(1.0))
    assert answer.json["model"]["age_ms"] >= 1_800_000 and int(answer.headers["stream-ml-age"]) >= 1_800_000
    assert "stale" in answer.json["predictions"][0]["flags"] and "stale" in api.get("/v1/model").json["flags"]
    api.beat.away_since = None
    api.turn()
    young = api.post(PREDICT, instances(1.0)).json
    assert young["model"]["age_ms"] < 60_000 and "stale" not in young["predictions"][0]["flags"]


def test_a_replica_that_has_not_folded_all_that_kafka_has_is_not_fresh(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    app.serving(config)
    log.usual(300)
    api = Api(app, config, started=False)
    api.beat.away_since = Heard(time.monotonic(), log.end + 1)
    api.live.start(lambda: False)
    answer = api.post(PREDICT, instances(1.0)).json
    assert answer["model"]["age_ms"] is None and "stale" in answer["predictions"][0]["flags"]
    log.usual(1)
    api.turn()
    assert api.post(PREDICT, instances(1.0)).json["model"]["age_ms"] is not None


def test_an_answer_of_a_replica_that_hears_nothing_of_kafka_grows_old_and_is_flagged(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"age_max": "1h"})
    app.serving(config)
    log.usual(300)
    api = Api(app, config)
    heard = api.beat.heard
    assert heard is not None
    api.beat.away_since = heard._replace(asked_s=heard.asked_s - 1_800)
    api.live._fresh_s = heard.asked_s - 1_800
    answer = api.post(PREDICT, instances(1.0))
    assert answer.json["model"]["age_ms"] >= 1_800_000 and "stale" in answer.json["predictions"][0]["flags"]
    assert api.get("/readyz").status == 200, "all replicas would leave at once"
    young = api.post(PREDICT, instances(1.0), Stream_ML_Max_Age="60000")
    assert (young.status, young.problem, young.headers["retry-after"]) == (412, "older", "1"), "it is healthy"
    api.live._fresh_s -= 3_600
    assert api.post(PREDICT, instances(1.0)).problem == "stale"


def test_before_the_log_is_folded_nothing_is_scored_and_readyz_says_how_far_it_is(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    app.serving(config)
    api = Api(app, config, started=False)
    answer = api.post(PREDICT, instances(1.0))
    assert (answer.status, answer.problem) == (503, "starting") and "retry-after" in answer.headers
    ready = api.get("/readyz")
    assert ready.status == 503 and ready.json["reasons"][0].startswith("starting")
    assert api.get("/livez").status == 200


def test_the_model_page_tells_what_an_instance_needs_and_how_good_it_is(api: Api) -> None:
    answer = api.get("/v1/model")
    said = answer.json
    assert [one["name"] for one in said["features"]] == ["x"] and said["classes"] == [False, True]
    assert said["task"] == "binary" and isinstance(said["quality"], dict)
    again = api.get("/v1/model", If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert api.log.values and "topic-id" not in json.dumps(said), "who knows it could make colliding keys"
