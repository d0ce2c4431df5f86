"""Feedback held back until the events have come as far in time.

A backlog's feedback is shorter than its events and would run hours ahead: nearly every label would then come before
its event (measured on systems that read both unaligned: 98 to 100 %).
"""

from collections import deque
from collections.abc import Iterable
from itertools import islice

from stream_ml.records import Clock, DeadLetter, Label, carried_bytes

HELD_MAX = 20_000  # labels per partition; when it is reached the consumer of feedback is left alone
HELD_BYTES_MAX = 16_000_000  # the same for their keys, values and headers, as much as a consumer reads ahead
WAIT_MAX_MS = 30_000  # so long a label holds back what is behind it, then it goes on before its events
WAIT_AT_END_MS = 500  # from its arrival, where events are at their end: labels may be fetched before their events


class HeldFeedback:
    """Decoded feedback of one partition that has been read and not yet processed, in offset order."""

    def __init__(self) -> None:
        self._items: deque[tuple[Label | DeadLetter, int, int]] = deque()  # monotonic ms of arrival, and bytes
        self._bytes = 0
        self._blocked: int | None = None  # offset of the label that is held back first
        self._since_ms = 0

    def __len__(self) -> int:
        """Number of records held."""
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether no more should be read for now."""
        return len(self._items) >= HELD_MAX or self._bytes >= HELD_BYTES_MAX

    def extend(self, items: Iterable[Label | DeadLetter], clock: Clock) -> None:
        """Add what was read next."""
        for item in items:
            size = carried_bytes(item.record)
            self._items.append((item, clock.monotonic_ms, size))
            self._bytes += size

    def ready(self, events_ms: int, events_at_end: bool, clock: Clock, most: int) -> list[Label | DeadLetter]:
        """The records that may be processed now: those up to the first label later than the events.

        They stay held until `drop`, because their transaction may be aborted.

        Parameters
        ----------
        events_ms
            Largest event time so far, this batch's included.
        events_at_end
            Events at their end hold a label back for WAIT_AT_END_MS only.
        most
            At most so many records.
        """
        found: list[Label | DeadLetter] = []
        for item, arrived_ms, _ in islice(self._items, most):
            if (
                isinstance(item, Label)
                and item.time_ms > events_ms
                and self._waits(item, arrived_ms, events_at_end, clock)
            ):
                break
            found.append(item)
        return found

    def _waits(self, label: Label, arrived_ms: int, events_at_end: bool, clock: Clock) -> bool:
        """Whether a label later than the events is held back. While they come, the first one in the row tells."""
        if events_at_end:
            return clock.monotonic_ms - arrived_ms < WAIT_AT_END_MS
        if self._blocked != label.record.offset:
            self._blocked, self._since_ms = label.record.offset, clock.monotonic_ms
        return clock.monotonic_ms - self._since_ms < WAIT_MAX_MS

    def drop(self, count: int) -> None:
        """Forget the first `count` records: they are committed."""
        for _ in range(count):
            self._bytes -= self._items.popleft()[2]

    def clear(self) -> None:
        """Forget everything: it will be read again."""
        self._items.clear()
        self._bytes = 0
