"""Where something stands in a trace, as it travels in headers, and what is traced at the moment.

Source: W3C Trace Context, Recommendation of 23 November 2021, sections 3.2 and 3.3.
"""

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import NamedTuple

from stream_ml.core.partition.outputs import TRACE_HEADERS
from stream_ml.records import Headers

PARENT, STATE = (name.encode() for name in TRACE_HEADERS)
STATE_BYTES_MAX = 512  # longer ones need not be passed on
_PARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_MEMBER = rb"[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_STATE = re.compile(rb"%b(?:[ \t]*,[ \t]*%b){0,31}" % (_MEMBER, _MEMBER))
_SAMPLED = 1


class TraceContext(NamedTuple):
    """A span, as others may name it.

    Parameters
    ----------
    trace_id, span_id
        32 and 16 hexadecimal digits.
    state
        What vendors wrote along, as it came.
    """

    trace_id: str
    span_id: str
    sampled: bool
    state: bytes = b""

    @property
    def headers(self) -> Headers:
        """What carries it on in a record of Kafka's."""
        parent = f"00-{self.trace_id}-{self.span_id}-{_SAMPLED * self.sampled:02x}".encode()
        return [(TRACE_HEADERS[0], parent), *([(TRACE_HEADERS[1], self.state)] if self.state else [])]


def context_of(parent: bytes, state: bytes = b"") -> TraceContext | None:
    """What a caller wrote; None where it is none, as of a version that nobody knows."""
    found = _PARENT.fullmatch(parent)
    if found is None or (parent[:2] == b"00" and found[4]):
        return None
    kept = state if len(state) <= STATE_BYTES_MAX and _STATE.fullmatch(state) else b""
    return TraceContext(found[1].decode(), found[2].decode(), bool(int(found[3], 16) & _SAMPLED), kept)


def context_of_request(headers: Mapping[bytes, bytes]) -> TraceContext | None:
    """Of a request's headers by lower-case name."""
    parent = headers.get(PARENT)
    return None if parent is None else context_of(parent, headers.get(STATE, b""))


def context_of_record(headers: Iterable[tuple[str, bytes | None]]) -> TraceContext | None:
    """Of a record's headers."""
    given = {name: value for name, value in headers if name in TRACE_HEADERS}
    parent = given.get(TRACE_HEADERS[0])
    return None if not parent else context_of(parent, given.get(TRACE_HEADERS[1]) or b"")


CURRENT: ContextVar[TraceContext | None] = ContextVar("stream_ml_trace", default=None)
"""Of the request or turn that is at work: what its records and log lines carry. None: nobody traces it."""
