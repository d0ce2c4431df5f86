"""A few pages of text for operators and their tools, behind the same access as a worker's."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stream_ml.observe.access import HEADERS, Access

Answer = tuple[str, str, bytes]
"""Status, media type and body."""

ALIVE: Answer = ("200 OK", "text/plain", b"alive\n")


def ready_answer(reasons: list[str]) -> Answer:
    """What /readyz says; reasons why not, a line each."""
    if not reasons:
        return "200 OK", "text/plain", b"ready\n"
    return "503 Service Unavailable", "text/plain", "".join(f"{reason}\n" for reason in reasons).encode()


class Pages:
    """A WSGI application: a page for each path, and nothing but GET."""

    def __init__(self, routes: Mapping[str, Callable[[], Answer]], access: Access) -> None:
        self._routes, self._access = routes, access

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        status, kind, body = self._answer(environ)
        headers = [*HEADERS, ("Content-Type", kind), ("Content-Length", str(len(body)))]
        if status.startswith("401"):
            headers.append(("WWW-Authenticate", "Bearer"))
        start_response(status, headers)
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        refusal = self._access.refusal(environ)
        if refusal is not None:
            return refusal[0], "text/plain", refusal[1].encode()
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return "405 Method Not Allowed", "text/plain", b"only GET\n"
        route = self._routes.get(str(environ.get("PATH_INFO", "")))
        if route is None:
            return "404 Not Found", "text/plain", f"there are {', '.join(self._routes)}\n".encode()
        return route()
