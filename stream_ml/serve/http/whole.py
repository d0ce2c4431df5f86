"""An extension of ASGI by our protocol: an answer whose head and body are there goes out whole.

``scope["extensions"]["stream_ml.whole"]`` sends it in one call of the system and as one segment, without looking at
each header twice. uvicorn's own `send` writes head and body one after the other, and uvloop sends each at once: a sixth
of what a small answer costs.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

NAME = "stream_ml.whole"
CLOSE = (b"connection", b"close")

Headers = Sequence[tuple[bytes, bytes]]


def offer_whole(cycle: RequestResponseCycle) -> None:
    """Let the application answer this request so."""
    extensions: dict[str, Any] = {NAME: partial(_send_whole, cycle)}
    cycle.scope["extensions"] = extensions


def _send_whole(cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes) -> bool:
    """Send an answer; whether that was possible: where the client is slow to take what it was sent, `send` waits.

    The last step of `RequestResponseCycle.send`, and equal to it: tests/serve/test_whole.py.

    Parameters
    ----------
    headers
        Lower case, content-length among them.
    """
    if cycle.flow.write_paused or cycle.disconnected or cycle.response_started:
        return False
    lines = [name + b": " + value for name, value in (*cycle.default_headers, *headers)]
    if CLOSE in headers:
        cycle.keep_alive = False
    elif not cycle.keep_alive:
        lines.append(b"connection: close")
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        return False  # `send` says what is wrong with it
    cycle.transport.write(STATUS_LINE[status] + head + b"\r\n\r\n" + body)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def whole_of(scope: Any) -> Any:
    """What sends an answer whole, where a server offers it."""
    extensions = scope.get("extensions")
    return None if extensions is None else extensions.get(NAME)
