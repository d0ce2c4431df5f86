"""Spans on their way to a collector, by OTLP over HTTP: one thread sends them, whatever the collector does.

Headers, certificates and compression are obeyed as OTEL_EXPORTER_OTLP_HEADERS and its like give them, names as
OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
"""

import threading
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from stream_ml.config import Config
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.trace_context import TraceContext
from stream_ml.observe.traces import Span

QUEUE_MAX = 2_048  # spans that wait to be sent; beyond it they are dropped and counted
BATCH_MAX = 512
EVERY_MS = 1_000
SEND_S = 2.0  # for one batch, its repetitions included
CLOSE_S = 2.0  # at the end of the process

_KINDS = {"server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER, "internal": SpanKind.INTERNAL}
_SAMPLED, _OK = TraceFlags(TraceFlags.SAMPLED), Status()


class Otlp:
    """Sends the spans of one process."""

    def __init__(self, config: Config, metrics: Metrics, component: str) -> None:
        settings, self._metrics = config.traces, metrics
        headers = None if settings.token is None else {"Authorization": f"Bearer {settings.token}"}
        own = {
            "service.namespace": config.app.id,
            "service.name": f"{config.app.id}-{component}",
            "service.instance.id": config.instance,
            "service.version": version("stream-ml"),
        }
        theirs = OTELResourceDetector().detect().attributes
        self._resource = Resource.create({name: value for name, value in own.items() if name not in theirs})
        self._scope = InstrumentationScope("stream_ml", version("stream-ml"))
        self._counted = _Counted(OTLPSpanExporter(settings.endpoint, headers=headers, timeout=SEND_S), metrics)
        self._processor = BatchSpanProcessor(
            self._counted,
            max_queue_size=QUEUE_MAX,
            schedule_delay_millis=EVERY_MS,
            max_export_batch_size=BATCH_MAX,
        )

    def take(self, span: Span) -> None:
        """Keep a span for sending; where too many wait it is dropped and counted."""
        if self._counted.waiting >= QUEUE_MAX:
            self._metrics.count("spans", outcome="dropped")
            return
        self._counted.add(1)
        parent = None if span.parent is None else _named(span.parent, is_remote=span.kind != "internal")
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_named(span.context, is_remote=False),
                parent=parent,
                resource=self._resource,
                attributes=span.attributes,
                links=[Link(_named(link, is_remote=True)) for link in span.links],
                kind=_KINDS[span.kind],
                status=Status(StatusCode.ERROR, span.error) if span.error else _OK,
                start_time=span.began_ns,
                end_time=span.ended_ns,
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """Send what is kept, for CLOSE_S at most: a collector that is away ends nothing."""
        ending = threading.Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(CLOSE_S)


class _Counted(SpanExporter):
    """Counts what became of the spans. `waiting` is changed by two threads under a lock."""

    def __init__(self, exporter: OTLPSpanExporter, metrics: Metrics) -> None:
        self._exporter, self._metrics, self._lock = exporter, metrics, threading.Lock()
        self.waiting = 0

    def add(self, count: int) -> None:
        with self._lock:
            self.waiting += count

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        self.add(-len(spans))
        outcome = "sent" if result is SpanExportResult.SUCCESS else "failed"
        self._metrics.count("spans", len(spans), outcome=outcome)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def _named(context: TraceContext, *, is_remote: bool) -> SpanContext:
    state = TraceState.from_header([context.state.decode("latin-1")]) if context.state else None
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote, _SAMPLED, state)
