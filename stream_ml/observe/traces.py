"""Which turns and requests are traced, and their spans. Off: nothing is decided and nothing is kept.

Spans are made when they have ended, out of the times that were noted: nothing of a tracer stands on the path of a
record. Who has called has decided already (the sampled bit of `traceparent`); of all others a share is traced.
"""

import random
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from stream_ml.config import Config
from stream_ml.errors import ConfigError
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.trace_context import CURRENT, PARENT, TraceContext, context_of_request

Kind = Literal["server", "consumer", "internal"]
Attributes = Mapping[str, str | int | float | bool]


class Span(NamedTuple):
    """What has ended. `links` are the spans that it followed from; `error`: what went wrong, empty for nothing."""

    name: str
    kind: Kind
    context: TraceContext
    parent: TraceContext | None
    began_ns: int
    ended_ns: int
    attributes: Attributes
    links: Sequence[TraceContext] = ()
    error: str = ""


class Sink(Protocol):
    """Takes spans that have ended."""

    def take(self, span: Span) -> None:
        """Keep it for sending; never waits."""

    def close(self) -> None:
        """Send what is kept, for a short time."""


class Begun(NamedTuple):
    """A request that is traced."""

    context: TraceContext
    parent: TraceContext | None
    began_ns: int


class Limit:
    """At most so many each second."""

    def __init__(self, most: int) -> None:
        self._most, self._second, self._count = most, 0, 0

    @property
    def has_room(self) -> bool:
        """Whether there is room for one more."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        return self._count < self._most

    def take(self) -> bool:
        """Whether there is room for one more; then it is counted."""
        is_taken = self.has_room
        self._count += is_taken
        return is_taken


class Traces:
    """Decides for one process; `sink` None: nothing is traced, and what callers say travels on all the same."""

    def __init__(self, config: Config, sink: Sink | None) -> None:
        self.settings, self._sink = config.traces, sink
        self._limit = Limit(config.traces.requests_per_second)
        self._chance = random.Random(secrets.randbits(256))

    @property
    def is_on(self) -> bool:
        """Whether anything is traced."""
        return self._sink is not None

    def close(self) -> None:
        """Send what is kept, for a short time."""
        if self._sink is not None:
            self._sink.close()

    def drawn(self) -> bool:
        """Whether chance traces this one."""
        return self._chance.random() < self.settings.ratio

    def context(self, parent: TraceContext | None = None) -> TraceContext:
        """Of a new span: below its parent, or the first of a trace."""
        trace_id = parent.trace_id if parent is not None else f"{self._chance.getrandbits(128) or 1:032x}"
        state = parent.state if parent is not None else b""
        return TraceContext(trace_id, f"{self._chance.getrandbits(64) or 1:016x}", sampled=True, state=state)

    def ended(self, span: Span) -> None:
        """Hand a span over."""
        if self._sink is not None:
            self._sink.take(span)

    # --- requests ---

    def request(self, headers: Mapping[bytes, bytes]) -> Begun | None:
        """Begin a request; None where it is not traced.

        From here on CURRENT is its span, or the caller's where it is not traced: records that it writes carry that.
        """
        if self._sink is None and PARENT not in headers:
            CURRENT.set(None)  # a request that waited behind another one has its context
            return None
        parent = context_of_request(headers)
        wanted = self._sink is not None and (self.drawn() if parent is None else parent.sampled)
        if not wanted or not self._limit.take():
            CURRENT.set(parent)
            return None
        begun = Begun(self.context(parent), parent, time.time_ns())
        CURRENT.set(begun.context)
        return begun

    def answered(self, begun: Begun, name: str, attributes: Attributes, error: str = "") -> None:
        """End a request that is traced."""
        told = {**attributes, "error.type": error} if error else attributes
        context, parent, began_ns = begun
        self.ended(Span(name, "server", context, parent, began_ns, time.time_ns(), told, (), error))


def traces_of(config: Config, metrics: Metrics, component: Literal["worker", "api", "jobs"]) -> Traces:
    """Those of this process.

    Raises
    ------
    ConfigError
        The extra is not installed.
    """
    if config.traces.endpoint is None:
        return Traces(config, None)
    try:
        from stream_ml.observe.otlp import Otlp
    except ImportError as error:
        message = f"traces.endpoint needs the package {error.name}, which is not installed"
        raise ConfigError(message, "pip install 'stream-ml[otel]', or leave traces out") from error
    return Traces(config, Otlp(config, metrics, component))


def with_trace(logger: Any, name: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add to a line of the log which trace it belongs to; a processor of structlog's."""
    current = CURRENT.get()
    return event if current is None else event | {"trace_id": current.trace_id, "span_id": current.span_id}
