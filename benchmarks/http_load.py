"""A client for load over HTTP/1.1: so many connections kept alive, in a closed loop or at a rate from intended times.

A closed loop hides what waits behind a stall; latencies at a rate count from when a request was to be sent
(coordinated omission, as in wrk2). One thread, about 12 us a request.
"""

import asyncio
import time
from typing import NamedTuple

import uvloop


class Took(NamedTuple):
    """What a run came to: requests, of them refused, seconds, and latencies in ms, sorted."""

    count: int
    failed: int
    seconds: float
    latencies_ms: list[float]

    @property
    def per_second(self) -> float:
        """Requests."""
        return self.count / self.seconds

    def quantile(self, share: float) -> float:
        """Of the latencies, in ms."""
        return self.latencies_ms[min(len(self.latencies_ms) - 1, int(share * len(self.latencies_ms)))]


class _Connection(asyncio.Protocol):
    """One kept alive; it sends the next request when the answer is here, or when it is due."""

    def __init__(self, load: "_Load") -> None:
        self._load, self._seen, self._need, self._began_s = load, b"", -1, 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._load.made(self)

    def send(self, intended_s: float) -> None:
        """A request, of which the time counts from then."""
        self.busy, self._began_s, self._seen, self._need = True, intended_s, b"", -1
        self.transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._need < 0:
            end = self._seen.find(b"\r\n\r\n")
            if end < 0:
                return
            at = self._seen.lower().find(b"content-length:")
            length = int(self._seen[at + 15 : self._seen.find(b"\r", at)])
            self._need = end + 4 + length
        if len(self._seen) >= self._need:
            self.busy = False
            self._load.answered(self, self._began_s, self._seen.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self)


class _Load:
    def __init__(self, request: bytes, seconds: float, rate: float | None) -> None:
        self.request, self._seconds, self._rate = request, seconds, rate
        self._idle: list[_Connection] = []
        self._late: list[float] = []  # intended times for which no connection was free
        self.latencies, self.failed, self._until_s, self.broken = list[float](), 0, 0.0, 0

    def made(self, connection: _Connection) -> None:
        self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self.broken += 1

    def answered(self, connection: _Connection, began_s: float, right: bool) -> None:
        now_s = time.perf_counter()
        self.latencies.append(now_s - began_s)
        self.failed += not right
        if self._rate is None and now_s < self._until_s:
            connection.send(now_s)
        elif self._late:
            connection.send(self._late.pop(0))
        else:
            self._idle.append(connection)

    def _pace(self, loop: asyncio.AbstractEventLoop, began_s: float, rate: float) -> None:
        """Send each request when it is due; in a thread: the loop's own timers are right to a millisecond only."""
        for number in range(1, int(self._seconds * rate) + 1):
            intended_s = began_s + number / rate
            time.sleep(max(0.0, intended_s - time.perf_counter()))  # the rate
            loop.call_soon_threadsafe(self._due, intended_s)

    def _due(self, intended_s: float) -> None:
        if self._idle:
            self._idle.pop().send(intended_s)
        else:
            self._late.append(intended_s)

    async def run(self, host: str, port: int, connections: int) -> Took:
        loop = asyncio.get_running_loop()
        made = [await loop.create_connection(lambda: _Connection(self), host, port) for _ in range(connections)]
        began_s = time.perf_counter()
        self._until_s = began_s + self._seconds
        if self._rate is None:
            for connection in [*self._idle]:
                self._idle.remove(connection)
                connection.send(time.perf_counter())
            await asyncio.sleep(self._seconds)
        else:
            await asyncio.to_thread(self._pace, loop, began_s, self._rate)
        for _ in range(200):
            if not any(protocol.busy for _, protocol in made) and not self._late:
                break
            await asyncio.sleep(0.01)
        took_s = time.perf_counter() - began_s
        for transport, _ in made:
            transport.abort()
        return Took(len(self.latencies), self.failed, took_s, sorted(1000 * one for one in self.latencies))


def load(
    port: int, path: str, body: bytes, *, connections: int, seconds: float, rate: float | None = None, headers: str = ""
) -> Took:
    """Run it against a port of this machine."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    one = _Load(head.encode() + body, seconds, rate)
    return uvloop.run(one.run("127.0.0.1", port, connections))
