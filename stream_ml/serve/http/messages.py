"""A request as a handler gets it, an answer as it gives it, and the table of routes: each names who may ask."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from stream_ml.core.api.inference import words_of
from stream_ml.core.api.problems import MEDIA_TYPE, Problem
from stream_ml.serve.access.guard import Scope

JSON = b"application/json"
BINARY, NDJSON = "application/octet-stream", "application/x-ndjson"


class Request(NamedTuple):
    """A request whose body is here.

    Parameters
    ----------
    params
        What stands in the path where the route has a name.
    headers
        By lower-case name; of several of a name the last.
    principal
        Of the credential, its id; empty: none was asked for.
    """

    method: str
    path: str
    params: Mapping[str, str]
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    principal: str
    request_id: str


class Answer(NamedTuple):
    """Status, body and what headers this answer alone has."""

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    media_type: bytes = JSON


Handler = Callable[[Request], Awaitable[Answer]]


class Route(NamedTuple):
    """A path and method.

    Parameters
    ----------
    path
        With ``{name}`` for a part that is anybody's.
    scope
        What a credential has to allow; empty: none is needed, not even one; schema: none where serve.public_schema is.
    summary
        For the API's document.
    takes
        Media types of its bodies.
    body_max
        Bytes of its body; 0: as serve.body_max says.
    """

    method: str
    path: str
    scope: Scope
    handler: Handler
    summary: str
    takes: Sequence[str] = ("application/json",)
    body_max: int = 0

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches its paths."""
        return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(self.path)))


NO_HINTS: Mapping[str, str] = {}


class Routes:
    """Finds the route of a request.

    Parameters
    ----------
    hints
        By the beginning of a path where nothing is: why.
    """

    def __init__(self, table: Sequence[Route], hints: Mapping[str, str] = NO_HINTS) -> None:
        self.table, self._hints = list(table), hints
        self._plain: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        for route in self.table:
            if "{" in route.path:
                self._patterns.append((route.pattern, route))
            else:
                self._plain.setdefault(route.path, {})[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route, and what stands in its names; Problem not-found or method-not-allowed."""
        of_path = self._plain.get(path)
        if of_path is not None:
            route = of_path.get(method)
            if route is not None:
                return route, {}
            raise _not_allowed(method, of_path)
        matches = [(match, route) for pattern, route in self._patterns if (match := pattern.fullmatch(path))]
        for match, route in matches:
            if route.method == method:
                return route, match.groupdict()
        if matches:
            raise _not_allowed(method, [route.method for _, route in matches])
        for beginning, hint in self._hints.items():
            if path == beginning or path.startswith(f"{beginning}/"):
                raise Problem("not-found", hint)
        raise Problem("not-found", f"there is nothing at {path[:200]}; GET /openapi.json lists what there is")


def _not_allowed(method: str, methods: Any) -> Problem:
    allowed = ", ".join(sorted(methods))
    return Problem("method-not-allowed", f"{method[:20]} is not taken here: {allowed}", headers={"Allow": allowed})


def json_answer(value: Any, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """An answer of JSON."""
    return Answer(status, msgspec.json.encode(value), headers)


def problem_answer(problem: Problem, request_id: str, *, verbose: bool, is_inference: bool = False) -> Answer:
    """What is answered instead: RFC 9457, or the one line of the Open Inference Protocol."""
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    headers.append((b"x-request-id", request_id.encode()))
    if is_inference:
        return Answer(problem.status, msgspec.json.encode({"error": words_of(problem, verbose=verbose)}), headers)
    body = msgspec.json.encode(problem.document(request_id, verbose=verbose))
    return Answer(problem.status, body, headers, MEDIA_TYPE.encode())
