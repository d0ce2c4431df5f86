"""An answer that goes out whole is, byte for byte, what uvicorn's own `send` makes of it, in one write."""

import asyncio
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from stream_ml.serve.http.whole import offer_whole, whole_of

DEFAULTS = [(b"date", b"Mon, 30 Nov 2026 06:00:00 GMT")]
JSON = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")


class ListTransport:
    """Keeps what is written to a connection."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


class Asked:
    """One request that waits for its answer."""

    def __init__(self, *, method: str = "POST", keep_alive: bool = True) -> None:
        self.transport, self.ended = ListTransport(), 0
        transport: Any = self.transport
        scope: Any = {"type": "http", "method": method}
        log: Any = None
        self.flow = FlowControl(transport)
        self.cycle = RequestResponseCycle(
            scope, transport, self.flow, log, log, False, DEFAULTS, asyncio.Event(), False, keep_alive, self._end
        )
        offer_whole(self.cycle)

    def _end(self) -> None:
        self.ended += 1

    def whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        return bool(whole_of(self.cycle.scope)(status, headers, body))

    def sent(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        async def send() -> None:
            await self.cycle.send({"type": "http.response.start", "status": status, "headers": headers})
            await self.cycle.send({"type": "http.response.body", "body": body})

        asyncio.run(send())

    @property
    def state(self) -> tuple[Any, ...]:
        cycle = self.cycle
        said = (cycle.response_started, cycle.response_complete, cycle.keep_alive, cycle.message_event.is_set())
        return b"".join(self.transport.written), self.transport.closed, self.ended, *said


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize(
    ("method", "status", "extra", "body"),
    [
        ("POST", 200, [], b'{"predictions":[]}'),
        ("POST", 200, [(b"x-request-id", b"a b")], b"x" * 100_000),
        ("GET", 503, [(b"retry-after", b"2"), CLOSE], b"{}"),
        ("GET", 200, [], b""),
        ("DELETE", 202, [CLOSE], b"{}"),
    ],
)
def test_it_is_what_send_writes(
    method: str, status: int, extra: list[tuple[bytes, bytes]], body: bytes, *, keep_alive: bool
) -> None:
    headers = [JSON, (b"content-length", b"%d" % len(body)), *extra]
    whole, reference = Asked(method=method, keep_alive=keep_alive), Asked(method=method, keep_alive=keep_alive)
    reference.sent(status, headers, body)
    assert whole.whole(status, headers, body)
    assert len(whole.transport.written) == 1
    assert whole.state == reference.state


def test_an_answer_to_head_has_the_length_of_what_it_leaves_out() -> None:
    whole, reference = Asked(method="HEAD"), Asked(method="HEAD")
    headers = [JSON, (b"content-length", b"18")]
    reference.sent(200, headers, b'{"predictions":[]}')
    assert whole.whole(200, headers, b"") and whole.state == reference.state


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: x", b"a\nb", b"a\0b", b"a\rb"])
@pytest.mark.parametrize("name", [b"x-request-id", b"allow"])
def test_a_header_that_would_end_its_line_is_left_to_send_which_refuses_it(name: bytes, value: bytes) -> None:
    asked = Asked()
    headers = [JSON, (b"content-length", b"0"), (name, value)]
    assert not asked.whole(200, headers, b"") and asked.transport.written == []
    with pytest.raises(RuntimeError, match="Invalid HTTP header value"):
        asked.sent(200, headers, b"")


def test_a_client_that_takes_nothing_is_waited_for_and_one_that_is_gone_is_left_to_send() -> None:
    slow, gone = Asked(), Asked()
    slow.flow.pause_writing()
    gone.cycle.disconnected = True
    for asked in (slow, gone):
        assert not asked.whole(200, [JSON, (b"content-length", b"0")], b"") and asked.transport.written == []


def test_one_answer_is_sent_once() -> None:
    asked = Asked()
    headers = [JSON, (b"content-length", b"2")]
    assert asked.whole(200, headers, b"{}")
    assert not asked.whole(200, headers, b"{}") and len(asked.transport.written) == 1


def test_where_no_server_offers_it_there_is_none() -> None:
    assert whole_of({"type": "http"}) is None and whole_of({"extensions": {}}) is None
