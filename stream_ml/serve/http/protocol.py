"""uvicorn's HTTP protocol with what it lacks: deadlines, and a number of connections.

::

    resting (nothing of a request is here; idle_timeout) ──► coming (read_timeout, from its first byte to its last)
        ▲                                                        │
        └────────────── answered, and nothing waits ◄────────────┘  being answered (write_timeout where it is not read)

Without them a client that sends a byte now and then holds a connection for ever (uvicorn issue 157). Every connection
is in one of these states and has the timer of it; one too many takes the place of the one that has rested for longest.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stream_ml.serve.http.whole import offer_whole

HEADERS_MAX = 100
HEADERS_BYTES_MAX = 16_384
WRITE_S = 10.0  # for a client to take what it was answered, once the system takes no more
_REFUSALS = {
    400: (b"Bad Request", "not-readable", "The request cannot be read"),
    408: (b"Request Timeout", "too-slow", "The request took too long to come"),
    431: (b"Request Header Fields Too Large", "headers-too-large", "The headers are too large"),
}

_HEAD = b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"


class Limits:
    """Of all connections of a process.

    Parameters
    ----------
    refused
        Told of each refusal that no handler gave: status and kind of problem.
    """

    def __init__(self, read_s: float, connections_max: int, refused: Callable[[int, str], None]) -> None:
        self.read_s, self.connections_max, self.refused = read_s, connections_max, refused
        self.resting: OrderedDict[Any, None] = OrderedDict()
        self.count = self.evicted = 0

    def make_room(self, new: "DeadlineProtocol") -> None:
        """Let go of the connection that has rested for longest, else of the new one, where there are too many."""
        if self.count <= self.connections_max:
            return
        oldest = next(iter(self.resting), new)
        self.resting.pop(oldest, None)
        self.evicted += 1
        oldest.transport.abort()


class DeadlineProtocol(HttpToolsProtocol):
    """One connection. `limits` is set on the class that a server is given."""

    limits: Limits

    def connection_made(self, transport: Any) -> None:
        """Take a connection."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._head_bytes, self._whole, self._in_body = 0, True, False
        self._certificate = transport.get_extra_info("peercert")  # of a client whom TLS has verified
        self.limits.count += 1
        self._rest()
        self.limits.make_room(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.limits.count -= 1
        self.limits.resting.pop(self, None)
        self._whole_now()
        self.resume_writing()
        super().connection_lost(exc)

    # --- what comes ---

    def data_received(self, data: bytes) -> None:
        """Bytes of a request. One that is not whole with them has a time for the rest."""
        self.limits.resting.pop(self, None)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._whole:
            self._rest()
        elif not self._in_body and self._head_bytes > HEADERS_BYTES_MAX:
            self._refuse(431)
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.limits.read_s, self._refuse, 408)

    def on_message_begin(self) -> None:
        """A request begins, perhaps right behind another one."""
        self._whole = self._in_body = False
        super().on_message_begin()
        self.scope["certificate"] = self._certificate  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        """Its head is here; what is counted from now on are trailers."""
        large = self._head_bytes > HEADERS_BYTES_MAX  # much of it may be the body
        if len(self.headers) > HEADERS_MAX or (large and _size(self.url, self.headers) > HEADERS_BYTES_MAX):
            self._stop(431)
        self._in_body = True
        self._trailers = 0
        super().on_headers_complete()
        offer_whole(self.cycle)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; behind the body nobody reads it."""
        if self._in_body:
            self._trailers += len(name) + len(value)
            if self._trailers > HEADERS_BYTES_MAX:
                self._stop(431)
            return
        name = name.lower()
        if name == b"expect":
            super().on_header(name, value)
        else:  # what uvicorn does, without another call for each header
            self.headers.append((name, value))

    def on_message_complete(self) -> None:
        """The whole request is here."""
        self._whole_now()
        super().on_message_complete()

    def _whole_now(self) -> None:
        self._whole, self._head_bytes = True, 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # --- what goes ---

    def on_response_complete(self) -> None:
        """It is answered."""
        super().on_response_complete()
        if self._whole:
            self._rest()

    def pause_writing(self) -> None:
        """The client does not take what it was answered."""
        if self._unread is None:
            self._unread = self.loop.call_later(WRITE_S, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _rest(self) -> None:
        """Wait for the next request, where nothing is left to be answered."""
        if (
            self.transport.is_closing()
            or self.pipeline
            or (self.cycle is not None and not self.cycle.response_complete)
        ):
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        self.limits.resting[self] = None
        self.limits.resting.move_to_end(self)

    # --- what is refused here ---

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, in the form of all refusals."""
        self._refuse(400)

    def _stop(self, status: int) -> None:
        """Refuse it, and let the parser stop where it is."""
        self._refuse(status)
        raise ValueError("the parser is to stop here")

    def _refuse(self, status: int) -> None:
        self._whole_now()
        if self.transport.is_closing():
            return
        words, kind, title = _REFUSALS[status]
        self.limits.refused(status, kind)
        body = b'{"type":"urn:stream-ml:problem:%s","title":"%s","status":%d}' % (kind.encode(), title.encode(), status)
        self.transport.write(_HEAD % (status, words, len(body)) + body)
        self.transport.close()
        self.loop.call_later(WRITE_S, self.transport.abort)  # where it is not read either


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)
