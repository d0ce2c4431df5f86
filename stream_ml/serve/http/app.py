"""The ASGI application: what every request passes, in this order, and the one place that turns problems into answers.

1. route  2. who asks  3. limits  4. the body, as far as it may be read  5. the handler.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from stream_ml.config import Config
from stream_ml.core.api.inference import is_of_protocol
from stream_ml.core.api.problems import Problem
from stream_ml.observe.access import Access
from stream_ml.observe.traces import Begun
from stream_ml.serve.access.gate import Gate
from stream_ml.serve.access.refusals import known_id
from stream_ml.serve.http.messages import BINARY, JSON, Answer, Request, Route, Routes, problem_answer
from stream_ml.serve.http.whole import whole_of

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TOO_LARGE, SERVER_ERROR = 413, 500
PATH_CHARS = 200  # of a path in a span
PASSED_BY, PASSED_BY_S = 16, 1.0  # times body_max, and so long: of a body that is too large, once it is refused
HOSTS_MAX = 100  # names of this machine that are remembered
_ALWAYS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

_BUG = Problem("bug", "this is our mistake; the log has it under the id of the request")

log = logging.getLogger(__name__)


class Gone(Exception):
    """The client went away before its request was here."""


class Application:
    """Answers requests of one process; one event loop only."""

    def __init__(self, config: Config, routes: Routes, gate: Gate, hosts: list[str]) -> None:
        self._settings, self._routes, self._gate = config.serve, routes, gate
        self._access = Access(hosts) if gate.guard.is_open else None
        self._hosts: set[bytes] = set()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":  # uvicorn is told to do without lifespan and websockets
            return
        began_s = time.perf_counter()
        headers = dict(scope["headers"])
        route: Route | None = None
        traced = self._gate.traces.request(headers)
        try:
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            route, params = self._routes.find(method, scope["path"])
            answer = await self._answered(scope, receive, headers, route, params)
        except Problem as problem:
            answer = self._refused(problem, headers, route, scope["path"])
        except Gone:
            self._gate.answered(_name(route), 499, began_s)
            self._trace(traced, scope, route, 499)
            return
        except Exception:
            request_id = known_id(headers) or secrets.token_hex(8)
            log.exception("request %s failed", request_id)
            answer = problem_answer(_BUG, request_id, verbose=True, is_inference=is_of_protocol(scope["path"]))
        await self._send(scope, send, answer, headers, left=receive)
        self._gate.answered(_name(route), answer.status, began_s)
        self._trace(traced, scope, route, answer.status)

    def _trace(self, traced: Begun | None, scope: Mapping[str, Any], route: Route | None, status: int) -> None:
        """End the span of a request. Source of its names: OpenTelemetry's semantic conventions for HTTP, 1.23."""
        if traced is None or (route is not None and not route.scope):  # of probes nobody wants one
            return
        method, path = scope["method"], _name(route)
        told = {
            "http.request.method": method,
            "http.route": path,
            "http.response.status_code": status,
            "url.path": scope["path"][:PATH_CHARS],
            "url.scheme": scope["scheme"],
            "client.address": _address(scope),
        }
        error = str(status) if status >= SERVER_ERROR else ""  # the mistakes of callers are none of the server's
        self._gate.traces.answered(traced, f"{method} {path}", told, error)

    async def _answered(
        self,
        scope: Mapping[str, Any],
        receive: Receive,
        headers: dict[bytes, bytes],
        route: Route,
        params: Mapping[str, str],
    ) -> Answer:
        if not self._gate.is_free(route.scope):
            self._check_host(headers.get(b"host", b""))
        principal = await self._gate.admitted(route.scope, headers, _address(scope), scope.get("certificate"))
        body = await self._body(headers, receive, route) if route.method == "POST" else b""
        with self._gate.entered(route.scope):  # not before its body is here: it may never come
            request = Request(
                method=route.method,
                path=scope["path"],
                params=params,
                query=scope["query_string"],
                headers=headers,
                body=body,
                principal=principal.id or principal.name,
                request_id=known_id(headers),
            )
            return await route.handler(request)

    def _check_host(self, host: bytes) -> None:
        """Problem where a page in a browser on this machine asks under another name, and nobody needs a credential."""
        if self._access is None or host in self._hosts:
            return
        refusal = self._access.refusal({"HTTP_HOST": host.decode("latin-1")})
        if refusal is not None:
            raise Problem("forbidden", refusal[1].strip())
        if len(self._hosts) < HOSTS_MAX:
            self._hosts.add(host)

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive, route: Route) -> bytes:
        """The body; Problem before it is read, where it cannot be taken."""
        if headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
            raise Problem("unsupported-media-type", "send the body as it is, without a Content-Encoding")
        kind = headers.get(b"content-type", b"")
        if kind != JSON:
            kind = kind.partition(b";")[0].strip().lower()
        if not _is_taken(kind, headers, route):
            shown = kind.decode("latin-1")[:100] or "none"
            words = f"send Content-Type: {' or '.join(route.takes)} (it is {shown}); with curl: --json"
            raise Problem("unsupported-media-type", words, headers={"Accept-Post": ", ".join(route.takes)})
        most = route.body_max or self._settings.body_max
        length = headers.get(b"content-length", b"")
        if length and int(length) > most:  # the protocol has seen to it that it is a number
            raise _too_large(most)
        found = bytearray()
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise Gone
            found += event.get("body", b"")
            if len(found) > most:
                raise _too_large(most)
            if not event.get("more_body", False):
                return bytes(found)

    def _refused(self, problem: Problem, headers: Mapping[bytes, bytes], route: Route | None, path: str) -> Answer:
        request_id = self._gate.refused(problem, headers, route.path if route is not None else "no route")
        verbose = self._settings.verbose_errors
        return problem_answer(problem, request_id, verbose=verbose, is_inference=is_of_protocol(path))

    async def _send(
        self, scope: Mapping[str, Any], send: Send, answer: Answer, headers: Mapping[bytes, bytes], *, left: Receive
    ) -> None:
        sent = [(b"content-type", answer.media_type), (b"content-length", b"%d" % len(answer.body))]
        sent += [*_ALWAYS, *answer.headers]
        given = known_id(headers)
        if given and answer.status < 400:
            sent.append((b"x-request-id", given.encode()))
        if self._gate.draining or answer.status in (408, 413):  # what is left of such a body is not read
            sent.append((b"connection", b"close"))
        body, whole = answer.body if scope["method"] != "HEAD" else b"", whole_of(scope)
        if whole is not None and answer.status != TOO_LARGE and whole(answer.status, sent, body):
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        if answer.status == TOO_LARGE:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await _passed_by(left, self._settings.body_max)
            body = b""
        await send({"type": "http.response.body", "body": body})


async def _passed_by(receive: Receive, most: int) -> None:
    """Read on for a moment without keeping anything: a client that is still writing would not see its answer."""
    left = PASSED_BY * most
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PASSED_BY_S):
            while left > 0:
                event = await receive()
                left -= len(event.get("body", b""))
                if event["type"] == "http.disconnect" or not event.get("more_body", False):
                    return


def _too_large(most: int) -> Problem:
    return Problem("too-large", f"the body has more than {most:,} bytes (serve.body_max)")


def _address(scope: Mapping[str, Any]) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _name(route: Route | None) -> str:
    return route.path if route is not None else "none"


def _is_taken(kind: bytes, headers: Mapping[bytes, bytes], route: Route) -> bool:
    """Whether a route reads bodies of this kind. A page elsewhere can send none of them.

    tritonclient names no kind. Nor need a browser, which sends `Origin` with every POST.
    """
    taken = route.takes
    if kind == JSON and taken[0] == "application/json":
        return True
    if kind.decode("latin-1") in taken or ("application/json" in taken and kind.endswith(b"+json")):
        return True
    return BINARY in taken and not kind and b"origin" not in headers and b"sec-fetch-site" not in headers
