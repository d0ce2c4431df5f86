"""What a follower says of its work in the log: halts, each once, and how far a long fold is."""

import logging

from stream_ml.core.fold.halt import Halt
from stream_ml.core.fold.replica import Replica
from stream_ml.core.fold.way_out import way_out
from stream_ml.observe.status import Folding

log = logging.getLogger(__name__)


class HaltsTold:
    """The halts that were logged by now."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._told: dict[str, Halt | None] = {}

    def of_book(self, halt: Halt) -> None:
        """The log cannot be followed any more."""
        self._log(halt, "learning")

    def look(self, replica: Replica) -> None:
        """Log what has halted models since; of a corrupted one its successor says the right place."""
        models = replica.models
        for lineage, model in models.items():
            halt = model.halt
            if halt is not None and not halt.corrupted and self._told.get(lineage) != halt:
                self._log(halt, f"learning of {lineage}" if len(models) > 1 else "learning")
            self._told[lineage] = halt

    def _log(self, halt: Halt, what: str) -> None:
        other = {"gap": "accept-gap", "disagree": "accept-gap", "far_example": "accept"}.get(halt.reason)
        instead = f", or: stream-ml {other} CONFIG {halt.position}" if other else ""
        log.error(
            "%s halted at %d (%s): %s",
            *(what, halt.position, halt.reason, halt.message),
            extra={
                "topic": self._topic,
                "partition": 0,
                "offset": halt.position,
                "hint": f"look at it, then: {way_out(halt.reason, halt.position)}{instead}",
            },
        )


def folded_words(folding: Folding) -> str:
    """How far a long fold is, and how long it will take, in words."""
    left_s = folding["left_seconds"]
    left = f", about {left_s:,.0f} s left" if left_s is not None else ""
    return f"folded {folding['position']:,} of {folding['end']:,} entries of the training log{left}"
