"""A runner's probes and metrics."""

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from stream_ml.jobs.runner import Runner
from stream_ml.observe.access import Access
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.plain import ALIVE, Answer, Pages, ready_answer

SILENT_S = 60.0  # without a turn: a chunk of a heavy model takes seconds, and a transaction half a minute at most


def runner_pages(runner: Runner, metrics: Metrics, access: Access) -> Pages:
    """Its pages, as a WSGI application."""

    def alive() -> Answer:
        silent_s = runner.silent_s
        if silent_s < SILENT_S or runner.reasons:
            return ALIVE
        return "503 Service Unavailable", "text/plain", f"it has not turned for {silent_s:.0f} s\n".encode()

    return Pages(
        {
            "/livez": alive,
            "/readyz": lambda: ready_answer(runner.reasons),
            "/metrics": lambda: ("200 OK", CONTENT_TYPE_PLAIN_0_0_4, generate_latest(metrics.registry)),
        },
        access,
    )
