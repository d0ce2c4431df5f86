"""Records that were read and not taken yet, by partition: so that a turn can take few partitions, and much of each."""

from collections import deque
from collections.abc import Sequence

from confluent_kafka import Message


class Waiting:
    """Of one topic. `len` is how many records wait."""

    def __init__(self) -> None:
        self._parts: dict[int, deque[Sequence[Message]]] = {}
        self._counts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def of(self, partition: int) -> int:
        """How many records of a partition wait."""
        return self._counts.get(partition, 0)

    def add(self, partition: int, messages: Sequence[Message]) -> None:
        """Add what was read next of a partition."""
        self._parts.setdefault(partition, deque()).append(messages)
        self._counts[partition] = self.of(partition) + len(messages)
        self._ends.pop(partition, None)
        self._all += len(messages)

    def end(self, partition: int, at: int) -> None:
        """Behind what waits of it the partition ends, at this offset."""
        self._ends[partition] = at

    def take(self, partition: int, most: int) -> tuple[Sequence[Message], int | None]:
        """The next records of a partition, and where it ends if nothing of it waits any more."""
        parts = self._parts.get(partition)
        if not parts or most <= 0:
            return (), None
        found = parts.popleft()
        while parts and len(found) + len(parts[0]) <= most:
            found = [*found, *parts.popleft()]
        if len(found) > most:
            parts.appendleft(found[most:])
            found = found[:most]
        self._all -= len(found)
        self._counts[partition] -= len(found)
        if self._counts[partition]:
            return found, None
        del self._parts[partition], self._counts[partition]
        return found, self._ends.pop(partition, None)

    def drop(self, partition: int) -> None:
        """Nothing of a partition waits any more: it comes again, here or elsewhere."""
        self._all -= self._counts.pop(partition, 0)
        self._parts.pop(partition, None)
        self._ends.pop(partition, None)
