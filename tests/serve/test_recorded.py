"""What is answered is written to Kafka with a seal, and answered once Kafka has confirmed it: over a list."""

import asyncio
from typing import Any

import pytest

from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.partition.answered import HEADER, Answer, AnswerSeal
from stream_ml.storage.keys import answer_seal
from tests.core.fold.test_fold import SPOILS, Driver
from tests.support.api import Api, ListWriter
from tests.support.follower_on_a_list import BRITTLE, LINEAR, App, Log
from tests.support.partition import EVENTS, T0

PREDICT = "/v1/predict"
HALF = {"factory": "tests.core.fold.test_unsound:Half", "checkpoint_types": ["tests.core.fold.test_unsound.Half"]}


def event(number: int, x: float = 1.0) -> dict[str, Any]:
    """An event as it is recorded."""
    return {"id": f"e{number}", "t": T0 + number, "x": x}


def asked(*xs: float) -> dict[str, Any]:
    return {"instances": [event(number, x) for number, x in enumerate(xs)]}


class Recording(Api):
    """An API that records, and what it has written."""

    def __init__(self, app: App, log: Log, model: dict[str, Any], learned: int, **serve: Any) -> None:
        (app.folder / "answers.key").write_text("k" * 40)
        config = app.config(model, serve={"record": "ack", "provenance_key_file": "answers.key", **serve})
        app.serving(config)
        log.usual(learned)
        self.app, self.writer = app, ListWriter()
        super().__init__(app, config, writer=self.writer)

    @property
    def sealed(self) -> list[Answer | str | None]:
        """What the worker reads in the header of each record; None where there is none."""
        seal = answer_seal(self.config, self.live.answering().model.settings.domain)
        assert isinstance(seal, AnswerSeal)
        return [
            seal.read(headers[0][1], topic, key, value, key.decode()) if headers else None
            for topic, key, value, headers in self.writer.records
        ]

    def model_at(self, position: int) -> LineageModel:
        """The model of a replica that has folded so many entries alone."""
        settings = self.app.recipe(self.config).settings
        return Driver(self.log.records[:position], lambda: settings).run(50).only


@pytest.fixture(name="recording")
def _recording(app: App, log: Log) -> Recording:
    return Recording(app, log, LINEAR, 300)


def test_what_is_sealed_in_an_event_is_what_was_answered_about_it(recording: Recording) -> None:
    said = recording.post(PREDICT, asked(1.5, -2.25, 0.5)).json
    assert [headers[0][0] for *_, headers in recording.writer.records] == [HEADER] * 3
    assert {topic for topic, *_ in recording.writer.records} == {EVENTS}
    for one, answer in zip(said["predictions"], recording.sealed, strict=True):
        assert isinstance(answer, Answer), answer
        served = answer.served
        assert (answer.event_id, served.score, served.class_name == "true") == (one["id"], one["score"], one["class"])
        assert (served.lineage, served.position) == (said["model"]["lineage"], said["model"]["position"])
        assert answer.examples_learned == said["model"]["examples_learned"]
        assert [*served.flags, "recorded"] == one["flags"]


def test_nothing_is_answered_before_kafka_has_confirmed_it(recording: Recording) -> None:
    async def held() -> Any:
        recording.writer.open.clear()
        task = asyncio.create_task(recording.ask("POST", PREDICT, asked(1.0)))
        for _ in range(100):
            await asyncio.sleep(0)
        assert recording.writer.records and not task.done()
        recording.writer.open.set()
        return await task

    assert asyncio.run(held()).status == 200


def test_what_kafka_does_not_confirm_is_not_answered(recording: Recording) -> None:
    recording.writer.refuses = True
    answer = recording.post(PREDICT, asked(1.0))
    assert (answer.status, answer.problem, answer.headers["retry-after"]) == (503, "not-recorded", "2")


@pytest.mark.parametrize("more", [{}, {"record": False}])
def test_an_answer_is_of_one_version_whoever_folds_between_two_of_its_steps(
    recording: Recording, more: dict[str, Any]
) -> None:
    xs = (1.5, -2.25, 0.5)

    async def folded_meanwhile() -> Any:
        task = asyncio.create_task(recording.ask("POST", PREDICT, asked(*xs) | more))
        while not task.done():
            await asyncio.sleep(0)
            recording.log.usual(1)
            recording.turn()
        return task.result()

    answer = asyncio.run(folded_meanwhile())
    model = answer.json["model"]
    alone = recording.model_at(model["position"])
    assert model["examples_learned"] == alone.examples_learned
    assert [one["score"] for one in answer.json["predictions"]] == [alone.model.score_one({"x": x}).score for x in xs]
    assert answer.headers["stream-ml-position"] == f"{model['lineage']}/{model['position']}"


def test_each_event_without_an_id_gets_one_of_its_own(recording: Recording) -> None:
    said = recording.post(PREDICT, {"instances": [{"x": 1.0}, {"x": 1.0}]}).json["predictions"]
    keys = [key.decode() for _, key, *_ in recording.writer.records]
    assert [one["id"] for one in said] == keys and len(set(keys)) == 2


def test_what_its_caller_does_not_want_recorded_is_answered_and_not_written(recording: Recording) -> None:
    said = recording.post(PREDICT, asked(1.0) | {"record": False})
    assert said.status == 200 and "recorded" not in said.json["predictions"][0]["flags"]
    assert recording.writer.records == []


def test_events_by_place_and_tensors_are_recorded_as_those_with_names_are(recording: Recording) -> None:
    named = recording.post(PREDICT, {"instances": [{"x": 1.0}, {"x": 2.0}]}).json["predictions"]
    placed = recording.post(PREDICT, {"features": [[1.0], [2.0]]}).json
    assert placed["prediction"] == [one["class"] for one in named]
    assert [one["score"] for one in placed["predictions"]] == [one["score"] for one in named]
    assert len(recording.writer.records) == 4 and all("recorded" in one["flags"] for one in placed["predictions"])
    tensor = {"name": "x", "datatype": "FP64", "shape": [2], "data": [1.0, 2.0]}
    told = recording.post("/v2/models/app/infer", {"inputs": [tensor]})
    ids = next(one["data"] for one in told.json["outputs"] if one["name"] == "id")
    assert [key.decode() for _, key, *_ in recording.writer.records[4:]] == ids
    for said, status in ((False, 200), ("no", 400)):
        answer = recording.post("/v2/models/app/infer", {"inputs": [tensor], "parameters": {"record": said}})
        assert answer.status == status and len(recording.writer.records) == 6
    assert recording.post(PREDICT, {"features": [1.0], "record": False}).json["prediction"]
    assert len(recording.writer.records) == 6


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"instances": [event(0), {"x": "much"}]}, "/instances/1/x"),
        ({"instances": [event(0) | {"record": {"key": "another"}}]}, "/instances/0/record"),
        ({"features": [[1.0], ["much"]]}, "/features/1/0"),
        ({"features": ["much"]}, "/features/0"),
        ({"features": [1.0], "on_error": "partial"}, "/on_error"),
        ({"instances": [event(0)], "on_error": "partial"}, "/on_error"),
    ],
)
def test_a_request_that_is_refused_writes_nothing(recording: Recording, body: Any, pointer: str) -> None:
    answer = recording.post(PREDICT, body)
    assert (answer.status, recording.writer.records) == (422, [])
    assert pointer in [one["pointer"] for one in answer.json["errors"]]


def test_what_a_corrupted_model_says_is_answered_and_not_sealed(app: App, log: Log) -> None:
    """The log gives no such prediction: the worker scores the event itself."""
    recording = Recording(app, log, HALF, 0)
    for x in (*[1.0] * 70, SPOILS):
        log.example(x)
    recording.turn()
    (one,) = recording.post(PREDICT, asked(-1.0)).json["predictions"]
    assert "unsound" in one["flags"] and recording.sealed == [None]


def test_what_a_halted_model_says_is_sealed_at_the_position_of_its_halt(app: App, log: Log) -> None:
    recording = Recording(app, log, BRITTLE, 100)
    log.example(SPOILS)
    log.usual(70)
    recording.turn()
    said = recording.post(PREDICT, asked(1.0)).json
    (answer,) = recording.sealed
    assert isinstance(answer, Answer) and "learning_halted" in answer.served.flags
    assert answer.served.position == said["model"]["position"] < log.end
