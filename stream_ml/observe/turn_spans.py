"""The spans of one loop: a turn, and what it did one after the other. A turn has many callers, so it links to them.

Names and attributes: OpenTelemetry's semantic conventions for messaging with Kafka (in development, as of 1.44).
"""

import time
from collections.abc import Iterable, Mapping

from stream_ml.core.partition.outputs import TRACE_HEADERS
from stream_ml.observe.trace_context import CURRENT, TraceContext, context_of_record
from stream_ml.observe.traces import Attributes, Limit, Span, Traces
from stream_ml.records import Headers

LINKS_MAX = 32  # of the records that were traced by who wrote them; the others are counted


class TurnSpans:
    """Of one loop, which calls begin, then stage once for each thing it has done, then end.

    Parameters
    ----------
    topic, group, client
        Of what it reads.
    """

    def __init__(self, traces: Traces, *, topic: str, group: str, client: str) -> None:
        self._traces, self._limit = traces, Limit(traces.settings.turns_per_second)
        self._name = f"process {topic}"
        self._common: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": topic,
            "messaging.consumer.group.name": group,
            "messaging.client.id": client,
        }
        self._context: TraceContext | None = None
        self._began_ns = 0
        self._links, self._unlinked = list[TraceContext](), 0
        self._stages: list[tuple[str, int, int]] = []

    @property
    def is_open(self) -> bool:
        """Whether a turn is traced and has not ended."""
        return self._context is not None

    def begin(self, headers: Iterable[Headers]) -> None:
        """A turn takes records with these headers. It is traced where one of them is, or by chance."""
        if not self._traces.is_on or not self._limit.has_room:
            return
        found, others = list[TraceContext](), 0
        for one in headers:
            if len(found) == LINKS_MAX:
                others += any(name == TRACE_HEADERS[0] and (value or b"").endswith(b"1") for name, value in one)
            elif (context := context_of_record(one)) is not None and context.sampled:
                found.append(context)
        if not (found or self._traces.drawn()) or not self._limit.take():
            return
        self._context, self._began_ns, self._stages = self._traces.context(), time.time_ns(), []
        self._links, self._unlinked = found, others
        CURRENT.set(self._context)

    def stage(self, name: str, took_s: float) -> None:
        """Something has ended that took so long."""
        if self._context is not None:
            ended_ns = time.time_ns()
            self._stages.append((name, ended_ns - int(1e9 * took_s), ended_ns))

    def end(self, records: int, attributes: Mapping[str, str | int] | None = None, error: str = "") -> None:
        """The turn has ended."""
        context = self._context
        if context is None:
            return
        self._context = None
        CURRENT.set(None)
        for name, began_ns, ended_ns in self._stages:
            of_stage, since_ns = self._traces.context(context), max(began_ns, self._began_ns)
            self._traces.ended(Span(name, "internal", of_stage, context, since_ns, ended_ns, {}))
        own: dict[str, str | int | float | bool] = {**self._common, "messaging.batch.message_count": records}
        own |= attributes or {}
        if self._unlinked:
            own["stream_ml.links_left_out"] = self._unlinked
        if error:
            own["error.type"] = error
        self._traces.ended(
            Span(self._name, "consumer", context, None, self._began_ns, time.time_ns(), own, self._links, error)
        )
