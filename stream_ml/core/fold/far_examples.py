"""Examples that are far from all others: how many there were, the last of them, and which are reported."""

from collections.abc import Sequence

TOLD_EVERY = 1_000  # examples, in which one is reported, however many there are


class Far:
    """Counts far examples; one is reported in TOLD_EVERY examples, however many there are."""

    def __init__(self) -> None:
        self.count, self.last, self._seen, self._told = 0, -1, -1, -1

    def met(self, position: int, seen: int) -> bool:
        """Take the one at this position of the log, after so many usual ones; whether it is to be reported."""
        self.count, self.last, self._seen = self.count + 1, position, seen
        if self._told >= 0 and seen < self._told + TOLD_EVERY:
            return False
        self._told = seen
        return True

    def is_recent(self, seen: int) -> bool:
        """Whether there was one among the last TOLD_EVERY examples, now that so many were usual."""
        return self.count > 0 and seen < self._seen + TOLD_EVERY

    def state(self) -> list[int]:
        """Plain values."""
        return [self.count, self.last, self._seen, self._told]

    def restore(self, state: Sequence[int]) -> None:
        """Take back what `state` gave."""
        self.count, self.last, self._seen, self._told = state
