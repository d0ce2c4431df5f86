"""A collector that takes OTLP over HTTP and keeps what it is sent, as values."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.local_server import Quiet, served


class Received(NamedTuple):
    """A span as it arrived."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    error: str
    resource: dict[str, Any]


class Collector:
    """What came, and with which headers."""

    def __init__(self, port: int) -> None:
        self.spans: list[Received] = []
        self.authorization: set[str | None] = set()
        self.endpoint = f"http://127.0.0.1:{port}"

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(of_process.resource.attributes)
            for scope in of_process.scope_spans:
                self.spans += [_received(span, resource) for span in scope.spans]


def _received(span: Any, resource: dict[str, Any]) -> Received:
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
    times = (span.start_time_unix_nano, span.end_time_unix_nano)
    error = span.status.message if span.status.code == 2 else ""
    return Received(span.name, span.kind, *ids, *times, _values(span.attributes), links, error, resource)


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """One on a free port of this machine."""

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.sent()
            status = 200 if self.path == "/v1/traces" else 404
            if status == 200:
                made.authorization.add(self.headers["Authorization"])
                made.take(body)
            self.answer(status)

    with served(Handler) as port:
        made = Collector(port)
        yield made
