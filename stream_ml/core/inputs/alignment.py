"""Feedback held back until the events have come as far in time.

A backlog's feedback is shorter than its events and would run hours ahead: nearly every label would then come before
its event (measured on systems that read both unaligned: 98 to 100 %).
"""

from collections import deque

from stream_ml.core.inputs.labels import Labels
from stream_ml.records import Clock

HELD_MAX = 20_000  # labels per partition; when it is reached the consumer of feedback is left alone
HELD_BYTES_MAX = 16_000_000  # the same for their keys, values and headers, as much as a consumer reads ahead
WAIT_MAX_MS = 30_000  # so long a label holds back what is behind it, then it goes on before its events
AWAIT_MAX_MS = 1_000  # so long events of a backlog wait for the first labels
WAIT_AT_END_MS = 500  # from its arrival, where events are at their end: labels may be fetched before their events


class FirstLabels:
    """Whether a backlog of events waits for the first labels, once after an assignment.

    Events that are read first would be scored by a model that has not learned what it could have by then.
    """

    def __init__(self, clock: Clock) -> None:
        self._until_ms: int | None = clock.monotonic_ms + AWAIT_MAX_MS

    @property
    def over(self) -> bool:
        """Whether nothing is waited for any more."""
        return self._until_ms is None

    def awaited(self, labels_held: int, backlogs: bool, clock: Clock) -> bool:
        """Whether events wait now: no partition holds a label, and some partition has a backlog of both.

        Labels of one partition end it for all: the others' come in the same fetches, and nothing may wait twice.
        """
        if self._until_ms is None or labels_held or clock.monotonic_ms >= self._until_ms:
            self._until_ms = None
            return False
        return backlogs


class HeldFeedback:
    """Decoded feedback of one partition that has been read and not yet processed, in offset order."""

    def __init__(self) -> None:
        self._parts: deque[tuple[Labels, int]] = deque()  # with monotonic ms of arrival
        self._count = self._bytes = 0
        self._blocked: int | None = None  # offset of the label that is held back first
        self._since_ms = 0

    def __len__(self) -> int:
        """Number of records held."""
        return self._count

    @property
    def full(self) -> bool:
        """Whether no more should be read for now."""
        return self._count >= HELD_MAX or self._bytes >= HELD_BYTES_MAX

    def extend(self, labels: Labels, clock: Clock) -> None:
        """Add what was read next."""
        if len(labels):
            self._parts.append((labels, clock.monotonic_ms))
            self._count += len(labels)
            self._bytes += labels.records.carried_bytes(0, len(labels))

    def ready(self, events_ms: int, events_at_end: bool, clock: Clock, most: int) -> Labels:
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
        found: list[Labels] = []
        for labels, arrived_ms in self._parts:
            end = self._end(labels, min(len(labels), most), arrived_ms, events_ms, events_at_end, clock)
            if end:
                found.append(labels[:end])
                most -= end
            if end < len(labels) or not most:
                break
        return Labels.joined(found)

    def _end(
        self, labels: Labels, stop: int, arrived_ms: int, events_ms: int, events_at_end: bool, clock: Clock
    ) -> int:
        """The first of `stop` rows that is held back, else `stop`."""
        times = labels.times_ms
        if max(times[:stop], default=events_ms) <= events_ms:
            return stop
        for row in range(stop):
            if times[row] > events_ms and row not in labels.dead_letters:
                offset = labels.records.offsets[row]
                if self._waits(offset, arrived_ms, events_at_end, clock):
                    return row
        return stop

    def _waits(self, offset: int, arrived_ms: int, events_at_end: bool, clock: Clock) -> bool:
        """Whether a label later than the events is held back. While they come, the first one in the row tells."""
        if events_at_end:
            return clock.monotonic_ms - arrived_ms < WAIT_AT_END_MS
        if self._blocked != offset:
            self._blocked, self._since_ms = offset, clock.monotonic_ms
        return clock.monotonic_ms - self._since_ms < WAIT_MAX_MS

    def drop(self, count: int) -> None:
        """Forget the first `count` records, their bytes included: they are committed."""
        self._count -= count
        while count:
            labels, arrived_ms = self._parts.popleft()
            stop = min(len(labels), count)
            self._bytes -= labels.records.carried_bytes(0, stop)
            count -= stop
            if stop < len(labels):
                self._parts.appendleft((labels[stop:], arrived_ms))

    def clear(self) -> None:
        """Forget everything: it will be read again."""
        self._parts.clear()
        self._count = self._bytes = 0
