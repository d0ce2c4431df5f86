"""uvicorn's HTTP protocol with what it lacks: one deadline from the first byte of a request to its last, and a cap.

Without them a client that sends a byte now and then holds a connection for ever (uvicorn issue 157), and so do a
thousand of them.
"""

import asyncio
from collections import OrderedDict
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_MAX = 100
HEADERS_BYTES_MAX = 16_384


class Limits:
    """Of all connections of a process."""

    def __init__(self, read_s: float, connections_max: int) -> None:
        self.read_s, self.connections_max = read_s, connections_max
        self.idle: OrderedDict[Any, None] = OrderedDict()
        self.count = 0


class DeadlineProtocol(HttpToolsProtocol):
    """One connection. `limits` is set on the class that a server is given."""

    limits: Limits

    def connection_made(self, transport: Any) -> None:
        """Take a connection; of too many the one that has been idle for longest goes."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes, self._whole, self._in_body = 0, True, False
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        limits = self.limits
        limits.count += 1
        limits.idle[self] = None
        if limits.count > limits.connections_max:
            oldest = next(iter(limits.idle), None)
            victim = self if oldest is None else oldest
            limits.idle.pop(victim, None)
            victim.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.limits.count -= 1
        self.limits.idle.pop(self, None)
        self._clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request. One that is not whole with them has a time for the rest."""
        self.limits.idle.pop(self, None)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._whole:
            return
        if not self._in_body and self._head_bytes > HEADERS_BYTES_MAX:
            self._too_many_headers()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.limits.read_s, self._too_slow)

    def on_message_begin(self) -> None:
        """A request begins, perhaps right behind another one."""
        self._whole = self._in_body = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is here."""
        self._in_body = True
        large = self._head_bytes > HEADERS_BYTES_MAX  # much of it may be the body
        if len(self.headers) > HEADERS_MAX or (large and _size(self.url, self.headers) > HEADERS_BYTES_MAX):
            self._too_many_headers()
            raise ValueError("the parser is to stop here")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The whole request is here."""
        self._whole, self._head_bytes = True, 0
        self._clear()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered: the connection waits for the next one."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self.limits.idle[self] = None

    def _clear(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self._refuse(b"408 Request Timeout", "too-slow", "The request took too long to come", 408)

    def _too_many_headers(self) -> None:
        self._refuse(b"431 Request Header Fields Too Large", "headers-too-large", "The headers are too large", 431)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, in the form of all refusals."""
        self._refuse(b"400 Bad Request", "not-readable", "The request cannot be read", 400)

    def _refuse(self, status: bytes, kind: str, title: str, code: int) -> None:
        if self.transport.is_closing():
            return
        body = b'{"type":"urn:stream-ml:problem:%s","title":"%s","status":%d}' % (kind.encode(), title.encode(), code)
        head = (
            b"HTTP/1.1 %s\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head % (status, len(body)) + body)
        self.transport.close()


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)
