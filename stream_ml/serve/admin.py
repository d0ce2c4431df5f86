"""The admin port of the scoring API: metrics, probes and the status of all processes, answered by their supervisor."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from stream_ml.observe.access import HEADERS, Access
from stream_ml.serve.supervisor import Supervisor

Answer = tuple[str, str, bytes]


class _OfChildren(Collector):
    """The metrics that children have said last, each with the label `child`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for child in list(self._supervisor.children):
            for name, kind, meaning, samples in child.status.get("metrics", []):
                family = families.setdefault(name, Metric(name, meaning, kind))
                for sample, labels, value in samples:
                    family.add_sample(sample, {**labels, "child": str(child.number)}, value)
        yield from families.values()
        status = self._supervisor.status()["processes"]
        for name, meaning, value in (
            ("stream_ml_serve_processes_ready", "Processes that answer.", status["ready"]),
            ("stream_ml_serve_processes_wanted", "Processes that are wanted.", status["wanted"]),
        ):
            gauge = Metric(name, meaning, "gauge")
            gauge.add_sample(name, {}, value)
            yield gauge
        restarts = Metric("stream_ml_serve_restarts", "Processes that died and were replaced.", "counter")
        restarts.add_sample("stream_ml_serve_restarts_total", {}, status["restarts"])
        yield restarts


class Admin:
    """The WSGI application."""

    def __init__(self, supervisor: Supervisor, access: Access) -> None:
        self._supervisor, self._access = supervisor, access
        self._registry = CollectorRegistry()
        self._registry.register(_OfChildren(supervisor))
        self._routes: dict[str, Callable[[], Answer]] = {
            "/livez": lambda: ("200 OK", "text/plain", b"alive\n"),
            "/readyz": self._readyz,
            "/metrics": lambda: ("200 OK", CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)),
            "/v1/status": lambda: ("200 OK", "application/json", self._status()),
        }

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

    def _readyz(self) -> Answer:
        reasons = self._supervisor.reasons()
        if not reasons:
            return "200 OK", "text/plain", b"ready\n"
        return "503 Service Unavailable", "text/plain", "".join(f"{reason}\n" for reason in reasons).encode()

    def _status(self) -> bytes:
        return json.dumps(self._supervisor.status(), indent=2, default=str).encode() + b"\n"
