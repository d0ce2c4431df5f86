"""What the group gives and takes: let go at once, taken up step by step, while the other partitions are served."""

import logging
import time
from collections.abc import Callable, Iterator

from stream_ml.kafka.consumers import Group
from stream_ml.observe.metrics import Metrics
from stream_ml.worker.intake import Intake
from stream_ml.worker.partitions.assignment import ClaimFailed, Ownership

TAKE_UP_S = 0.1  # of taking up between two turns, where something is owned that waits for its turn
ALONE_S = 1.0  # where nothing is: until it is looked whether to stop

log = logging.getLogger(__name__)


class Moves:
    """Of one worker. After `look` and `go_on` what is owned is also read."""

    def __init__(
        self, group: Group, ownership: Ownership, intake: Intake, metrics: Metrics, keep_alive: Callable[[], None]
    ) -> None:
        self._group, self._ownership, self._intake, self._metrics = group, ownership, intake, metrics
        self._keep_alive = keep_alive
        self._steps: Iterator[bool] | None = None

    def look(self) -> bool:
        """Let go of what the group took back, and want what it gave; whether it moved."""
        if not self._group.moved():
            return False
        move = self._group.settle()
        self._metrics.count("rebalances")
        self._intake.stop(move.gone)
        self._ownership.release(move.gone, keep=move.kept)
        wanted = set(self._ownership.wanted)
        if wanted & move.gone:
            self._steps = None  # one that went and came again may have been somebody else's
        self._want((wanted - move.gone) | move.come)
        if move.gone:
            log.info("partitions %s went; %s stay", sorted(move.gone), sorted(self._ownership.owned))
        return True

    def look_again_at_suspended(self) -> None:
        """There is more, or less, of what suspended partitions need."""
        self._want({*self._ownership.wanted, *self._ownership.suspended})

    def _want(self, numbers: set[int]) -> None:
        if numbers != set(self._ownership.wanted):
            self._steps = None  # what was under way begins anew
        self._ownership.wanted = sorted(numbers)

    def go_on(self) -> None:
        """Go on taking up what is wanted; for a moment only where something is owned already.

        Raises
        ------
        ClaimFailed
            The group has moved, or the transaction failed; the next call begins anew.
        """
        if not self._ownership.wanted:
            return
        self._steps = self._steps or self._ownership.take_up(lambda: self._group.metadata)
        until_s = time.monotonic() + (TAKE_UP_S if self._ownership.owned else ALONE_S)
        try:
            for more in self._steps:
                self._keep_alive()
                self._intake.start()
                if not more or self._group.moved() or time.monotonic() > until_s:
                    return
        except ClaimFailed:
            self._steps = None
            raise
        self._steps = None
        self._intake.start()
        owned, suspended = sorted(self._ownership.owned), sorted(self._ownership.suspended)
        log.info("partitions %s owned, %s suspended", owned, suspended)
