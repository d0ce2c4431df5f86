"""The live page, /metrics, /livez, /readyz and /v1 over HTTP, in a thread beside the loop; nothing here can change it.

What is served is what the loop has left behind: a scrape never waits for it, and a flood of them costs the loop little.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from stream_ml.core.log.logged_schemas import WrittenSchema
from stream_ml.observe.access import HEADERS, Access
from stream_ml.observe.http_server import Application, HttpServer
from stream_ml.observe.page import document
from stream_ml.observe.status import AnyStatus, Point

RENDER_S = 1.0  # so often /metrics is rendered at most
STREAMS_MAX = 16  # of them that follow the status; more are told to come again
LOOK_S = 0.25  # how often a stream looks for a new status
AGAIN_S = 2.0  # after so long the same one is sent again: it is true still, and who has gone away is noticed
SCHEMAS = "/v1/schemas"

HTML = "text/html; charset=utf-8"
NOTHING = "default-src 'none'; frame-ancestors 'none'"

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Answer = tuple[str, str, Iterable[bytes]]


class Said(Protocol):
    """What a worker says of itself."""

    history: list[Point]

    @property
    def status(self) -> AnyStatus:
        """The status as it is true now; replaced as a whole, never changed."""

    @property
    def loop_silent_s(self) -> float:
        """Seconds without a sign of life of the loop."""

    @property
    def schemas(self) -> list[WrittenSchema]:
        """The schemas that records of the app have."""


class Endpoints:
    """The WSGI application.

    Parameters
    ----------
    registry
        Metrics of the process.
    said
        Status, ready or not with its reasons, and how long the loop has been silent.
    alive_s
        After so long a silence /livez says no.
    access
        Who may ask.
    """

    def __init__(self, registry: CollectorRegistry, said: Said, alive_s: float, access: Access | None = None) -> None:
        self._registry, self._said, self._alive_s = registry, said, alive_s
        self._access = access or Access()
        self._lock = threading.Lock()
        self._streams = threading.BoundedSemaphore(STREAMS_MAX)
        self._event_now: tuple[AnyStatus | None, int, bytes] = (None, 0, b"")  # status, silence, bytes
        self._rendered, self._rendered_s = b"", -RENDER_S
        self._routes: dict[str, Callable[[], Answer]] = {
            "/": self._page,
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/v1/status": self._status,
            "/v1/history": self._history,
            "/v1/stream": self._stream,
            SCHEMAS: self._schemas,
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        headers = [*HEADERS]
        status, kind, body = self._answer(environ, headers)
        headers += [("Content-Type", kind), ("Content-Security-Policy", document()[1] if kind == HTML else NOTHING)]
        if isinstance(body, list):
            headers.append(("Content-Length", str(sum(map(len, body)))))
        start_response(status, headers)
        if environ.get("REQUEST_METHOD") != "HEAD":
            return body
        _close(body)
        return []

    def _answer(self, environ: dict[str, Any], headers: list[tuple[str, str]]) -> Answer:
        """Status, kind and body; `headers` gets what this answer alone has."""
        refusal, cookie = self._access.refusal(environ), self._access.cookie(environ)
        if cookie is not None and (refusal is None or refusal[0].startswith("401")):
            headers += [("Set-Cookie", cookie), ("Location", "/")]  # so that the token leaves the address
            return "303 See Other", "text/plain", [b"the page is at /\n"]
        if refusal is not None:
            if refusal[0].startswith("401"):
                headers.append(("WWW-Authenticate", "Bearer"))
            return refusal[0], "text/plain", [refusal[1].encode()]
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return "405 Method Not Allowed", "text/plain", [b"only GET\n"]
        route = self._route(environ.get("PATH_INFO", ""))
        if route is None:
            there = ", ".join([*self._routes, f"{SCHEMAS}/FINGERPRINT"])
            return "404 Not Found", "text/plain", [f"there is {there}\n".encode()]
        return route()

    def _route(self, path: str) -> Callable[[], Answer] | None:
        folder, _, name = path.rpartition("/")
        return partial(self._schema, name) if folder == SCHEMAS else self._routes.get(path)

    def _schemas(self) -> Answer:
        body = json.dumps([one.plain() for one in self._said.schemas], indent=2)
        return "200 OK", "application/json", [body.encode() + b"\n"]

    def _schema(self, name: str) -> Answer:
        for one in self._said.schemas:
            if one.fingerprint == name:
                return "200 OK", "application/json", [one.text.encode()]
        return "404 Not Found", "text/plain", [f"no schema has this fingerprint; {SCHEMAS} lists them\n".encode()]

    def _metrics(self) -> Answer:
        _ = self._said.status  # which sets the gauges right that the loop cannot, where it stands still
        with self._lock:
            if time.monotonic() - self._rendered_s >= RENDER_S:
                self._rendered, self._rendered_s = generate_latest(self._registry), time.monotonic()
            return "200 OK", CONTENT_TYPE_PLAIN_0_0_4, [self._rendered]

    def _livez(self) -> Answer:
        silent_s = self._said.loop_silent_s
        if silent_s <= self._alive_s:
            return "200 OK", "text/plain", [b"the loop turns\n"]
        text = f"the loop has not turned for {silent_s:.0f} s\n"
        return "503 Service Unavailable", "text/plain", [text.encode()]

    def _readyz(self) -> Answer:
        status = self._said.status
        if status["ready"]:
            return "200 OK", "text/plain", [b"ready\n"]
        text = "".join(f"{reason}\n" for reason in status["reasons"])
        return "503 Service Unavailable", "text/plain", [text.encode()]

    def _status(self) -> Answer:
        body = json.dumps({**self._said.status, "loop_silent_seconds": round(self._said.loop_silent_s, 1)}, indent=2)
        return "200 OK", "application/json", [body.encode() + b"\n"]

    def _history(self) -> Answer:
        return "200 OK", "application/json", [json.dumps(list(self._said.history)).encode()]

    def _page(self) -> Answer:
        return "200 OK", HTML, [document()[0]]

    def _stream(self) -> Answer:
        if not self._streams.acquire(blocking=False):
            return "503 Service Unavailable", "text/plain", [b"too many followers; come again\n"]
        return "200 OK", "text/event-stream", _Followed(self._events(), self._streams.release)

    def _events(self) -> Iterator[bytes]:
        """Each new status as a server-sent event, and the same one again where there is none: the loop may stand still.

        A reader that does not read runs into TIMEOUT_S, and is let go.
        """
        last: AnyStatus | None = None
        sent_s = time.monotonic()
        while True:
            status = self._said.status
            if status is not last or time.monotonic() - sent_s >= AGAIN_S:
                last, sent_s = status, time.monotonic()
                yield self._event(status)
            time.sleep(LOOK_S)  # between two looks at what the loop has left behind

    def _event(self, status: AnyStatus) -> bytes:
        """A status as bytes, written once for all followers, with the seconds for which the loop has stood still."""
        silent_s = round(self._said.loop_silent_s)
        with self._lock:
            if self._event_now[0] is not status or self._event_now[1] != silent_s:
                text = json.dumps({**status, "loop_silent_seconds": silent_s})
                self._event_now = (status, silent_s, b"data: " + text.encode() + b"\n\n")
            return self._event_now[2]


class _Followed:
    """An iterator that gives its place back when it is closed, begun or not."""

    def __init__(self, events: Iterator[bytes], release: Callable[[], None]) -> None:
        self._events, self._release = events, release

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """Called by the server at the end, whatever ended it."""
        self._release()


def _close(body: Iterable[bytes]) -> None:
    if isinstance(body, _Followed):
        body.close()


def serve(host: str, port: int, application: Application, key: str = "http.port") -> Callable[[], None]:
    """Answer on a port until what is returned is called; ConfigError where it cannot be listened on.

    Parameters
    ----------
    key
        Of the configuration, where the port stands.
    """
    server = HttpServer(host, port, application, key)
    server.start()
    return server.stop
