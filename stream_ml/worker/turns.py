"""Whose turn it is, and when the next turn may begin."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol

IDLE_TICK_S = 1.0  # how often a partition without records has its time moved on
TICKS_S = 25.0  # and of how many in a second at most


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


class Served(Protocol):
    """Something that was worked on, at `served_s` seconds of the monotonic clock."""

    served_s: float


class IdleTicks:
    """Partitions of which nothing came, one after the other: their time is moved on now and then."""

    def __init__(self, now_s: float) -> None:
        self._order: deque[int] = deque()
        self._ticked_s = now_s

    def add(self, numbers: Iterable[int]) -> None:
        """These are read from now on."""
        self._order.extend(numbers)

    def leave(self, numbers: Collection[int]) -> None:
        """These are read no longer."""
        self._order = deque(number for number in self._order if number not in numbers)

    def due(self, now_s: float, served: Mapping[int, Served]) -> list[int]:
        """Whose time is to be moved on now: those of the next ones that nothing was done with for IDLE_TICK_S."""
        turns = min(len(self._order), int((now_s - self._ticked_s) * TICKS_S))
        found = []
        for _ in range(turns):
            number = self._order[0]
            self._order.rotate(-1)
            if number in served and now_s - served[number].served_s >= IDLE_TICK_S:
                found.append(number)
        if turns:
            self._ticked_s = now_s
        return found


class CommitPacer:
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
