"""The admin port of the scoring API: metrics, probes and the status of all processes, answered by their supervisor."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from stream_ml.observe.access import Access
from stream_ml.observe.plain import ALIVE, Answer, Pages, ready_answer
from stream_ml.serve.supervisor import Supervisor


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


def admin_pages(supervisor: Supervisor, access: Access) -> Pages:
    """Metrics, probes and status, as a WSGI application."""
    registry = CollectorRegistry()
    registry.register(_OfChildren(supervisor))
    routes: dict[str, Callable[[], Answer]] = {
        "/livez": lambda: ALIVE,
        "/readyz": lambda: ready_answer(supervisor.reasons()),
        "/metrics": lambda: ("200 OK", CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)),
        "/v1/status": lambda: ("200 OK", "application/json", _text(supervisor.status())),
    }
    return Pages(routes, access)


def _text(status: dict[str, Any]) -> bytes:
    return json.dumps(status, indent=2, default=str).encode() + b"\n"
