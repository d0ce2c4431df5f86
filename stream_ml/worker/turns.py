"""Whose turn it is, and when the next turn may begin."""

from collections.abc import Iterable, Iterator


class Line:
    """Partitions of which something waits, in the order in which it came."""

    def __init__(self) -> None:
        self._order: dict[int, None] = {}

    def __iter__(self) -> Iterator[int]:
        """The partitions as they stand now; the line may be changed meanwhile."""
        return iter(list(self._order))

    def add(self, numbers: Iterable[int]) -> None:
        """Something came of these; one that stands in line keeps its place."""
        self._order |= dict.fromkeys(numbers)

    def leave(self, numbers: Iterable[int]) -> None:
        """These are not waited for any more."""
        for number in numbers:
            self._order.pop(number, None)

    def served(self, number: int, *, more: bool) -> None:
        """Its turn was now; where more of it waits it goes to the end."""
        self._order.pop(number, None)
        if more:
            self._order[number] = None


class CommitFloor:
    """How soon after a transaction the next one may begin: fewer of them, each of more records, where Kafka limits.

    An event that comes when nothing was committed for so long is held back by nothing. Of one worker; times are
    seconds of the monotonic clock.
    """

    def __init__(self, least_ms: int) -> None:
        self._least_s = least_ms / 1000
        self._ended_s: float | None = None

    def ended(self, now_s: float) -> None:
        """A transaction has ended."""
        self._ended_s = now_s

    def left_s(self, now_s: float, waiting: int, limit: int) -> float:
        """How long records wait for more of them; 0.0 where a turn is full, or the last transaction long past."""
        if self._ended_s is None or waiting >= limit:
            return 0.0
        return max(0.0, self._ended_s + self._least_s - now_s)
