"""What a model tells of its own learning, as signals of its lineage."""

from stream_ml.core.drift.concept import command_finding
from stream_ml.core.drift.signals import Signal
from stream_ml.core.log.entry import Entry


def command_signal(lineage: str, entry: Entry, offset: int) -> Signal:
    """A command that took effect on this model alone."""
    return command_finding(entry.command).signal(lineage, offset, entry.written_at_ms)


def far_signal(lineage: str, offset: int, why: str, at_ms: int, *, count: int, left_out: bool) -> Signal:
    """An example that is far from all others; `count` so far."""
    what = "is not learned" if left_out else "was learned; features.bounds would leave it out, and its like"
    return Signal(
        origin=lineage,
        kind="far_example",
        subject="learning",
        position=offset,
        severity="warning",
        since_ms=at_ms,
        evidence={"far_examples": float(count)},
        message=f"the example at {offset} is far from all others and {what}: {why}",
        suggestion="stream-ml tail CONFIG training-log",
    )
