"""One process that answers, over a list instead of Kafka: it ends with its parent, drains, and lets go of slow ones."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stream_ml.app.assemble import assemble
from stream_ml.embedded.broker import free_port
from stream_ml.serve import child as module
from stream_ml.serve.child import Child, Pipes
from stream_ml.serve.supervisor import listening
from tests.support.api import ListHeartbeat
from tests.support.follower_on_a_list import FACTS, LINEAR, App, Log

SOON_S = 20.0
INSTANCES = json.dumps({"instances": [{"x": 1.0}]}).encode()
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Running:
    """A child, and what its supervisor holds of it."""

    def __init__(self, app: App, log: Log, **serve: Any) -> None:
        config = app.config(LINEAR, serve={"port": free_port(), "drain": "10ms", **serve})
        app.serving(config)
        log.usual(30)
        self._port, (self._say, said), (alive, self._life) = config.serve.port, os.pipe(), os.pipe()
        self._theirs = (said, alive)
        self.child = Child(assemble(config), FACTS, Pipes(1, listening(config).detach(), said, alive))
        self.ended = asyncio.create_task(self.child.run())

    async def connected(self) -> "Connection":
        return Connection(*await asyncio.open_connection("127.0.0.1", self._port))

    async def wait_ready(self) -> None:
        async with asyncio.timeout(SOON_S):
            while self.child.status()["reasons"]:
                await asyncio.sleep(0.01)

    def parent_ends(self) -> None:
        """Its supervisor is gone."""
        os.close(self._life)
        self._life = -1

    async def close(self) -> None:
        self.child._end()
        await asyncio.wait([self.ended], timeout=SOON_S)
        for descriptor in (self._say, *self._theirs, self._life):
            if descriptor >= 0:
                os.close(descriptor)


class Connection:
    """A client's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, *pieces: bytes) -> None:
        self._writer.writelines(pieces)

    async def head(self) -> str:
        """Of an answer, whose body is read too."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        (length,) = (line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-length"))
        await self._reader.readexactly(int(length))
        return head

    async def is_closed(self) -> bool:
        """Wait until the other side has closed it."""
        return await self._reader.read() == b""

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def running(app: App, log: Log, **serve: Any) -> AsyncIterator[tuple[Running, Connection]]:
    """A child that answers, and a connection to it."""
    made = Running(app, log, **serve)
    try:
        await made.wait_ready()
        connection = await made.connected()
        try:
            async with asyncio.timeout(SOON_S):
                yield made, connection
        finally:
            await connection.close()
    finally:
        await made.close()


@pytest.fixture(autouse=True)
def on_the_list(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LogHeartbeat", lambda *_: ListHeartbeat(log))


def test_a_child_ends_when_its_supervisor_does(app: App, log: Log) -> None:
    async def ended() -> None:
        async with running(app, log) as (made, _):
            made.parent_ends()
            await made.ended

    asyncio.run(ended())


def test_a_child_that_is_told_to_stop_answers_on_for_its_time_to_drain(app: App, log: Log) -> None:
    async def drained() -> None:
        async with running(app, log, drain="10m") as (made, connection):
            connection.send(HEAD % len(INSTANCES), INSTANCES)
            assert "connection: close" not in (await connection.head()).lower()
            made.parent_ends()
            await asyncio.wait([made.ended], timeout=0.3)  # one that does not drain has ended by then
            connection.send(HEAD % len(INSTANCES), INSTANCES)
            head = (await connection.head()).lower()
            assert head.startswith("http/1.1 200") and "connection: close" in head
            assert await connection.is_closed() and not made.ended.done()

    asyncio.run(drained())


@pytest.mark.parametrize("begun", [HEAD[:20], HEAD % 10 + b"{"])
def test_a_request_that_does_not_come_to_its_end_is_let_go(app: App, log: Log, begun: bytes) -> None:
    async def closed() -> None:
        async with running(app, log, read_timeout="100ms") as (_, connection):
            connection.send(begun)
            assert (await connection.head()).startswith("HTTP/1.1 408") and await connection.is_closed()

    asyncio.run(closed())
