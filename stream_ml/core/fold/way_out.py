"""What to do at a halt, by its reason; and the signal that tells it."""

from stream_ml.core.drift.signals import Signal
from stream_ml.core.fold.halt import OF_LATER_VERSIONS, Halt


def way_out(reason: str, position: int) -> str:
    """What to type at a halt."""
    if reason in OF_LATER_VERSIONS:
        return "install the version of stream_ml that wrote it, and start again"
    return f"stream-ml skip CONFIG {position}"


def halt_signal(origin: str, halt: Halt, since_ms: int) -> Signal:
    """A halt of the book, or of the model with this lineage, as a signal."""
    return Signal(
        origin=origin,
        kind="halted",
        subject="learning",
        position=halt.position,
        severity="critical",
        since_ms=since_ms,
        evidence={},
        message=f"learning is halted at {halt.position}, {halt.reason}: {halt.message}",
        suggestion=way_out(halt.reason, halt.position),
    )
