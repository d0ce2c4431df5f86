"""The scoring API over a list instead of Kafka: the whole application, asked as a server would ask it."""

import asyncio
import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stream_ml.app.assemble import assemble
from stream_ml.config import Config
from stream_ml.core.api import jobs as core
from stream_ml.core.api.jobs import Chunk, Done, JobBook, Result, decode, encode
from stream_ml.core.api.problems import Problem
from stream_ml.kafka.reading.labels import Where
from stream_ml.kafka.reading.log_heartbeat import Heard
from stream_ml.observe.metrics import SERVE_TABLE, Metrics
from stream_ml.serve.access.gate import Gate
from stream_ml.serve.access.guard import Guard
from stream_ml.serve.api import hints_of, routes_of
from stream_ml.serve.http.app import Application
from stream_ml.serve.http.messages import Route, Routes
from stream_ml.serve.live import Live
from stream_ml.serve.producer import Confirmed
from tests.support.follower_on_a_list import App, Log


class ListHeartbeat:
    """Says where the list ends; while it is `away` nothing is heard of it."""

    def __init__(self, log: Log) -> None:
        self._log, self.wrong = log, ""
        self.away_since: Heard | None = None

    @property
    def heard(self) -> Heard | None:
        return self.away_since or Heard(time.monotonic(), self._log.end)

    def begin(self) -> None:
        pass

    def close(self) -> None:
        pass


class ListWriter:
    """Keeps what is to be written, with its topic; confirms it once it is `open`, which it is at first.

    Attributes
    ----------
    places
        Where the next records stand; without them at 0, 1, 2 ... of partition 0.
    refuses
        Whether Kafka does not confirm.
    """

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes, Any]] = []
        self.places: list[Confirmed] = []
        self.open, self.refuses = asyncio.Event(), False
        self.open.set()

    async def write(self, topic: str, records: Sequence[tuple[bytes, bytes, Any]]) -> list[Confirmed]:
        first = len(self.records)
        self.records += [(topic, *record) for record in records]
        await asyncio.sleep(0)
        await self.open.wait()
        if self.refuses:
            raise Problem("not-recorded", "nobody confirms", headers={"Retry-After": "2"})
        return self.places[: len(records)] or [Confirmed(0, first + number) for number in range(len(records))]


class ListLabels:
    """Says what became of labels."""

    def __init__(self, fates: Mapping[Where, Any]) -> None:
        self._fates, self.asked = fates, 0

    def look(self, label: Where) -> Any:
        self.asked += 1
        return self._fates.get(label)


class ListJobs:
    """What is known of jobs, and their results, without Kafka."""

    def __init__(self) -> None:
        self.book, self.lock, self.problem = JobBook(), threading.Lock(), ""
        self.caught_up = threading.Event()
        self.caught_up.set()
        self.values: dict[tuple[int, int], bytes] = {}
        self.error: Exception | None = None

    def results(self, where: Sequence[Done]) -> list[bytes]:
        if self.error is not None:
            raise self.error
        return [self.values[one.partition, one.offset] for one in where]

    def note(self, writer: ListWriter) -> None:
        """Take what was written to the jobs' own topic."""
        for topic, _, value, _ in writer.records:
            if topic.endswith(".jobs"):
                self.book.state(core.decode_state(value))

    def score(self, writer: ListWriter, only: int | None = None) -> None:
        """Answer what was asked, a chunk each."""
        asked = [value for topic, _, value, _ in writer.records if topic.endswith(".job-requests")]
        for offset, value in enumerate(asked):
            chunk = decode(value, Chunk)
            if only is None or chunk.number == only:
                rows = len(chunk.rows())
                told = [{"class": True, "score": 0.5, "flags": []} for _ in range(rows)]
                result = Result(chunk.job, chunk.number, chunk.first, chunk.at_ms, rows, 0, "a" * 16, 7, 0, told)
                self.values[0, offset] = encode(result)
                self.book.result(chunk.job, chunk.number, Done(0, offset, chunk.at_ms, rows, 0, "a" * 16, 7))


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The kind of a refusal."""
        assert self.headers["content-type"] == "application/problem+json", self
        return str(self.json["type"]).rpartition(":")[2]


class Api:
    """An application whose model has folded the list; `turn` folds what came since."""

    def __init__(self, app: App, config: Config, *, started: bool = True, writer: ListWriter | None = None) -> None:
        self.config, self.log = config, app.log
        self.beat = ListHeartbeat(app.log)
        self.live = Live(assemble(config), app.follower(config, reads_only=True), self.beat)
        self.table: list[Route]
        self.metrics = Metrics(SERVE_TABLE)
        self.answer_with(writer)
        if started:
            self.live.start(lambda: False)

    def answer_with(self, writer: Any, fates: Mapping[Where, Any] | None = None, jobs: Any = None) -> None:
        """Answer with what writes to Kafka, or without; with what became of labels, and what is known of jobs."""
        labels = ListLabels(fates or {})
        self.table, self.info, self.inferences = routes_of(assemble(self.config), self.live, writer, labels, jobs)
        self.gate = Gate(self.config, Guard(self.config), self.metrics)
        self.application = Application(self.config, Routes(self.table, hints_of(assemble(self.config))), self.gate, [])

    def turn(self) -> None:
        """Fold until nothing is left."""
        for _ in range(10_000):
            self.live.follower.turn(0.001)
            if self.live.follower.is_past(self.log.end) and not self.live.follower.chases:
                break
        self.live._renew()
        self.live._wake()

    async def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, *, pieces: int = 1
    ) -> Answered:
        """One request; a body that is not bytes is sent as JSON."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = {"host": "127.0.0.1:8000", "content-type": "application/json", "content-length": str(len(raw))}
        given |= {name.lower(): value for name, value in (headers or {}).items()}
        step = max(1, -(-len(raw) // pieces))
        parts = [raw[at : at + step] for at in range(0, len(raw), step)] or [b""]
        events = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        events[-1]["more_body"] = False
        sent: list[Any] = []
        plain, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": plain,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items() if value != "-"],
            "client": ("127.0.0.1", 1),
        }

        async def receive() -> Any:
            return events.pop(0) if events else {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            sent.append(event)

        await self.application(scope, receive, send)
        start, *bodies = sent
        told = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answered(start["status"], told, b"".join(one["body"] for one in bodies))

    def post(self, path: str, body: Any, **headers: str) -> Answered:
        """A request with a body; underscores of a header's name are dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.run(self.ask("POST", path, body, named))

    def get(self, path: str, **headers: str) -> Answered:
        return asyncio.run(self.ask("GET", path, None, {name.replace("_", "-"): v for name, v in headers.items()}))
