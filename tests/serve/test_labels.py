"""Labels over HTTP: asked once however often they are sent, and looked up by their receipts."""

import asyncio
from typing import Any

import pytest

from stream_ml.core.api.problems import Problem
from stream_ml.errors import TransientError
from stream_ml.kafka.reading.labels import Where
from stream_ml.serve.handlers import repeats
from stream_ml.serve.handlers.labels import AT_ONCE, Labels
from stream_ml.serve.handlers.repeats import Repeats
from stream_ml.serve.http.messages import Answer, Request
from tests.support.api import Answered, Api, ListWriter
from tests.support.follower_on_a_list import LINEAR, App, Log

FEEDBACK = "/v1/feedback"


@pytest.fixture(name="labelled")
def _labelled(app: App, log: Log) -> Api:
    config = app.config(LINEAR, serve={"feedback": True})
    app.serving(config)
    log.usual(50)
    api = Api(app, config)
    api.answer_with(ListWriter())
    return api


def label(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"labels": [{"id": f"v{number}", "t": 1, "y": True, **more}]}


def send(api: Api, body: Any, key: str, path: str = FEEDBACK) -> Answered:
    return asyncio.run(api.ask("POST", path, body, {"Idempotency-Key": key}))


# --- once ---


def test_a_request_with_a_key_is_done_once_and_answered_as_often_as_it_is_sent(labelled: Api) -> None:
    first, again = send(labelled, label(), "k1"), send(labelled, label(), "k1")
    assert first.status == again.status == 202 and first.body == again.body, first
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    assert send(labelled, label(), "k2").json["receipts"] != first.json["receipts"]
    assert labelled.post(FEEDBACK, label()).json["receipts"] != first.json["receipts"], (
        "without a key it is another one"
    )


def test_a_key_belongs_to_its_first_body_and_query(labelled: Api) -> None:
    send(labelled, label(1), "k")
    other = send(labelled, label(2), "k")
    assert (other.status, other.problem) == (422, "key-reused")
    assert send(labelled, label(1), "k", f"{FEEDBACK}?dry_run=true").problem == "key-reused"


def test_what_failed_is_done_again(labelled: Api) -> None:
    assert send(labelled, label(y="maybe"), "k").status == 422
    assert send(labelled, label(), "k").status == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\x7f"])
def test_a_key_that_is_none_is_refused(labelled: Api, key: str) -> None:
    assert send(labelled, label(), key).problem == "not-readable"


def a_request(key: bytes, body: bytes = b"", principal: str = "p") -> Request:
    return Request("POST", FEEDBACK, {}, b"", {b"idempotency-key": key}, body, principal, "")


def test_while_the_first_is_answered_the_second_waits_outside_and_others_keys_are_others() -> None:
    async def run() -> None:
        begun, release, done = asyncio.Event(), asyncio.Event(), list[str]()

        async def slow(request: Request) -> Answer:
            done.append(request.principal)
            begun.set()
            await release.wait()
            return Answer(202, b"x")

        ask = Repeats().once(slow)
        first = asyncio.create_task(ask(a_request(b"k")))
        await begun.wait()
        with pytest.raises(Problem) as caught:
            await ask(a_request(b"k"))
        assert caught.value.kind == "in-progress" and caught.value.headers["Retry-After"]
        other = asyncio.create_task(ask(a_request(b"k", principal="q")))
        release.set()
        assert (await first).body == (await other).body == b"x" and done == ["p", "q"]
        assert (await ask(a_request(b"k"))).headers == [(b"idempotency-replayed", b"true")]

    asyncio.run(run())


def test_a_client_that_goes_away_leaves_its_key_free() -> None:
    async def run() -> None:
        async def stuck(request: Request) -> Answer:
            await asyncio.Event().wait()
            raise AssertionError

        remembered = Repeats()
        first = asyncio.create_task(remembered.once(stuck)(a_request(b"k")))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

        async def good(request: Request) -> Answer:
            return Answer(202, b"y")

        assert (await remembered.once(good)(a_request(b"k"))).body == b"y"

    asyncio.run(run())


def test_what_is_remembered_has_an_end_in_number_size_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "KEPT_MAX", 3)
    monkeypatch.setattr(repeats, "KEPT_BYTES", 25)
    calls = list[bytes]()

    async def run() -> None:
        async def good(request: Request) -> Answer:
            calls.append(request.headers[b"idempotency-key"])
            return Answer(202, b"0123456789")

        remembered = Repeats()
        ask = remembered.once(good)
        for key in (b"a", b"b", b"c", b"c", b"b", b"a"):
            await ask(a_request(key))
        assert calls == [b"a", b"b", b"c", b"a"], "two of ten bytes fit"
        assert remembered._bytes == 20 and len(remembered._kept) == 2
        monkeypatch.setattr(repeats.time, "monotonic", lambda: 1e12)
        await ask(a_request(b"a"))
        assert calls[-1] == b"a" and len(calls) == 5

    asyncio.run(run())


# --- looked up ---


def test_a_label_is_where_its_topics_say(labelled: Api) -> None:
    position = labelled.live.answering().of.position
    fates = {
        Where(0, 1): {"state": "example", "position": position, "id": "v1"},
        Where(0, 2): {"state": "example", "position": position + 1, "id": "v2"},
        Where(0, 3): {"state": "outcome", "outcome": "duplicate", "id": "v1"},
        Where(0, 4): {"state": "waiting"},
    }
    labelled.answer_with(ListWriter(), fates)
    told = {n: labelled.get(f"/v1/labels/f:0:{n}").json for n in range(1, 5)}
    assert told[1] == {"receipt": "f:0:1", **fates[Where(0, 1)], "learned_here": True}
    assert (told[2]["learned_here"], told[3]["outcome"], told[4]["state"]) == (False, "duplicate", "waiting")
    gone = labelled.get("/v1/labels/f:0:5")
    assert (gone.status, gone.problem) == (404, "not-found")
    assert labelled.get("/v1/labels/f:0").problem == "not-readable"


class Slow:
    """A reader that answers when it is told to, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, 0

    def look(self, where: Where) -> Any:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {"state": "outcome", "outcome": "late", "id": "a"}


def test_an_end_is_looked_up_once_and_too_many_at_once_are_told_to_come_again(labelled: Api) -> None:
    reader = Slow()
    handler = Labels(labelled.live, reader)
    request = Request("GET", "/v1/labels/f:0:1", {"receipt": "f:0:1"}, b"", {}, b"", "", "")

    async def run() -> None:
        for _ in range(3):
            await handler.label(request)
        assert reader.asked == 1
        handler._aside.running = AT_ONCE
        with pytest.raises(Problem, match="come again"):
            await handler.label(request._replace(params={"receipt": "f:0:2"}))
        handler._aside.running = 0
        reader.error = TransientError("Kafka does not answer", "look at it")
        with pytest.raises(Problem) as caught:
            await handler.label(request._replace(params={"receipt": "f:0:2"}))
        assert (caught.value.kind, handler._aside.running) == ("not-looked-up", 0)

    asyncio.run(run())
