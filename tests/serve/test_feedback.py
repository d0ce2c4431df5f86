"""Labels over HTTP: what is written, when it is answered, and what a receipt says; over a list."""

import asyncio
from typing import Any

import pytest

from stream_ml.serve.producer import Confirmed
from tests.support.api import Api, ListWriter
from tests.support.follower_on_a_list import LINEAR, App, Log
from tests.support.partition import FEEDBACK, T0

PATH = "/v1/feedback"


def labels(count: int, **more: Any) -> dict[str, Any]:
    return {"labels": [{"id": f"e{number}", "t": T0, "y": True, **more} for number in range(count)]}


@pytest.fixture(name="writer")
def _writer() -> ListWriter:
    return ListWriter()


@pytest.fixture(name="taking")
def _taking(app: App, log: Log, writer: ListWriter) -> Api:
    config = app.config(LINEAR, serve={"feedback": True})
    app.serving(config)
    log.usual(30)
    return Api(app, config, writer=writer)


def test_labels_are_written_to_the_feedback_topic_under_the_ids_of_their_events(
    taking: Api, writer: ListWriter
) -> None:
    answer = taking.post(PATH, labels(2))
    assert (answer.status, answer.json["accepted"]) == (202, 2)
    assert [(topic, key) for topic, key, *_ in writer.records] == [(FEEDBACK, b"e0"), (FEEDBACK, b"e1")]


def test_receipts_stand_in_the_order_of_the_labels_and_after_names_the_latest_of_each_partition(
    taking: Api, writer: ListWriter
) -> None:
    writer.places = [Confirmed(1, 7), Confirmed(0, 3), Confirmed(1, 5)]
    said = taking.post(PATH, labels(3)).json
    assert said["receipts"] == ["f:1:7", "f:0:3", "f:1:5"] and said["after"] == "f:0:3,f:1:7"


def test_labels_are_not_accepted_before_kafka_has_confirmed_them(taking: Api, writer: ListWriter) -> None:
    async def held() -> Any:
        writer.open.clear()
        task = asyncio.create_task(taking.ask("POST", PATH, labels(1)))
        for _ in range(100):
            await asyncio.sleep(0)
        assert writer.records and not task.done()
        writer.open.set()
        return await task

    assert asyncio.run(held()).status == 202


def test_labels_that_kafka_does_not_confirm_are_not_accepted(taking: Api, writer: ListWriter) -> None:
    writer.refuses = True
    answer = taking.post(PATH, labels(1))
    assert (answer.status, answer.problem, answer.headers["retry-after"]) == (503, "not-recorded", "2")


def test_a_dry_run_judges_labels_and_writes_none(taking: Api, writer: ListWriter) -> None:
    answer = taking.post(f"{PATH}?dry_run=true", labels(3))
    assert (answer.status, answer.json) == (200, {"accepted": 0, "would_accept": 3})
    assert taking.post(f"{PATH}?dry_run=true", labels(1, y="maybe")).status == 422
    assert taking.post(f"{PATH}?dry_run=perhaps", labels(1)).status == 400
    assert writer.records == []


@pytest.mark.parametrize(
    ("more", "pointer"),
    [({"record": {"key": "another"}}, "/labels/0/record"), ({"y": "maybe"}, "/labels/0/y"), ({"id": ""}, "/labels/0")],
)
def test_a_label_that_is_wrong_refuses_all_of_its_request(
    taking: Api, writer: ListWriter, more: dict[str, Any], pointer: str
) -> None:
    """A key that a caller chose could be another event's: that follows from the id."""
    body = {"labels": [*labels(1, **more)["labels"], *labels(1)["labels"]]}
    answer = taking.post(PATH, body)
    assert (answer.status, answer.problem, writer.records) == (422, "not-of-schema", [])
    assert pointer in [one["pointer"] for one in answer.json["errors"]]
