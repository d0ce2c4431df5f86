"""The events of a join as columns: 440 bytes of memory for an event of 126, as tuples 750 (make bench, pending).

Rows are appended in offset order and freed from the front. A row is found by its event's offset.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from stream_ml.records import Served

CHUNK_ROWS = 4_096  # rows after which a new chunk begins; what is freed of one is given back as a whole
EVENT_BYTES = 260  # what an event takes beside its own bytes and its id: columns, a slot and an entry of the dict
TEXT_BYTES = 50  # what a text takes beside its characters: the scores of a multiclass prediction

_NAN = float("nan")
_JOINED, _OVERSIZE = 1, 2


class PendingEvent(NamedTuple):
    """An event that waits for its label, or is remembered (`joined`, then without bytes).

    `oversize`: the example made of it would be larger than a record may be, so it never joins.
    """

    offset: int
    event_id: str
    time_ms: int
    schema: int
    value: bytes
    served: Served
    joined: bool = False
    oversize: bool = False

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        return len(self.value) + len(self.event_id) + EVENT_BYTES + _bytes_of(self.served.scores)


class Tag(NamedTuple):
    """What many events have in common, kept once; `scored` says whether their number is a score or a value."""

    schema: int
    class_name: str | None
    lineage: str
    position: int
    flags: tuple[str, ...]
    scored: bool
    log_partition: int = 0
    epoch: int = 0
    arm: str = ""


class Rows:
    """Events in offset order, as columns."""

    __slots__ = ("first", "ids", "numbers", "offsets", "scores", "states", "tags", "times_ms", "values")

    def __init__(self) -> None:
        self.first = 0  # rows before it are freed
        self.offsets, self.times_ms = array("q"), array("q")
        self.ids: list[str] = []
        self.values: list[bytes] = []
        self.tags: list[Tag] = []
        self.numbers = array("d")  # not a number where none was served
        self.scores: list[str | None] | None = None
        self.states = bytearray()

    def __len__(self) -> int:
        """Rows, the freed ones included."""
        return len(self.offsets)

    def extend(
        self,
        offsets: Sequence[int],
        times_ms: Sequence[int],
        ids: list[str],
        values: list[bytes],
        tags: list[Tag],
        numbers: Iterable[float],
        scores: list[str | None] | None,
    ) -> None:
        """Append rows that have not joined."""
        count, before = len(offsets), len(self)
        self.offsets.extend(offsets)
        self.times_ms.extend(times_ms)
        self.ids += ids
        self.values += values
        self.tags += tags
        self.numbers.extend(numbers)
        self._add_scores(scores, before, count)
        self.states.extend(bytes(count))

    def _add_scores(self, scores: list[str | None] | None, before: int, count: int) -> None:
        if scores is None and self.scores is None:
            return
        if self.scores is None:
            self.scores = [None] * before
        self.scores += scores if scores is not None else [None] * count

    def take(self, others: "Rows") -> None:
        """Append another's rows."""
        before = len(self)
        columns = (others.offsets, others.times_ms, others.ids, others.values, others.tags, others.numbers)
        self.extend(*columns, others.scores)
        self.states[before:] = others.states

    def append(self, event: PendingEvent) -> int:
        """Append one; its row."""
        served, row = event.served, len(self)
        scores: list[str | None] | None = None if served.scores is None else [served.scores]
        numbers, tags = known_or_nan([number_of(served)], 1), shared_tags([event.schema], [served])
        self.extend([event.offset], [event.time_ms], [event.event_id], [event.value], tags, numbers, scores)
        self.states[row] = _JOINED * event.joined | _OVERSIZE * event.oversize
        return row

    def put(self, row: int, event: PendingEvent, tag: Tag, *, instead: bool) -> None:
        """Set a row, instead of the one that stands there or before it."""
        if self.scores is None and event.served.scores is not None:
            self.scores = [None] * len(self)
        number = known_or_nan([number_of(event.served)], 1)[0]
        stop = row + 1 if instead else row
        self.offsets[row:stop] = array("q", [event.offset])
        self.times_ms[row:stop] = array("q", [event.time_ms])
        self.numbers[row:stop] = array("d", [number])
        self.ids[row:stop], self.values[row:stop], self.tags[row:stop] = [event.event_id], [event.value], [tag]
        self.states[row:stop] = bytes(1)
        if self.scores is not None:
            self.scores[row:stop] = [event.served.scores]

    def only(self, rows: Sequence[int]) -> "Rows":
        """Some of its rows, none of which is freed."""
        found = Rows()
        found.extend(
            [self.offsets[row] for row in rows],
            [self.times_ms[row] for row in rows],
            [self.ids[row] for row in rows],
            [self.values[row] for row in rows],
            [self.tags[row] for row in rows],
            [self.numbers[row] for row in rows],
            None if self.scores is None else [self.scores[row] for row in rows],
        )
        found.states[:] = bytes(self.states[row] for row in rows)
        return found

    def event(self, row: int) -> PendingEvent:
        """One row as a value."""
        tag, number, state = self.tags[row], self.numbers[row], self.states[row]
        known = number if number == number else None  # noqa: PLR0124 - not a number
        score, value = (known, None) if tag.scored else (None, known)
        scores = None if self.scores is None else self.scores[row]
        served = Served(
            class_name=tag.class_name,
            score=score,
            scores=scores,
            value=value,
            lineage=tag.lineage,
            position=tag.position,
            flags=tag.flags,
            log_partition=tag.log_partition,
            epoch=tag.epoch,
            arm=tag.arm,
        )
        return PendingEvent(
            self.offsets[row],
            self.ids[row],
            self.times_ms[row],
            tag.schema,
            self.values[row],
            served,
            bool(state & _JOINED),
            bool(state & _OVERSIZE),
        )

    def joined(self, row: int) -> bool:
        """Whether a row has joined."""
        return bool(self.states[row] & _JOINED)

    def oversize(self, row: int) -> bool:
        """Whether a row never joins, because the example made of it would be too large."""
        return bool(self.states[row] & _OVERSIZE)

    def limit(self, room_bytes: int) -> None:
        """Mark rows that need more for an example as too large, and let go of their bytes."""
        longest = max(map(len, self.values), default=0) + 8 * max(map(len, self.ids), default=0)
        if longest <= room_bytes and self.scores is None:
            return
        for row, (value, event_id) in enumerate(zip(self.values, self.ids, strict=True)):
            scores = (None if self.scores is None else self.scores[row]) or ""
            if len(value) + 8 * len(event_id) + len(scores) > room_bytes:
                self.states[row] |= _OVERSIZE
                self.values[row] = b""

    def mark_joined(self, row: int) -> None:
        """Note that a row has joined, and let go of its bytes."""
        self.states[row] |= _JOINED
        self.values[row] = b""

    def size(self, row: int) -> int:
        """Bytes that a row takes in memory, about."""
        scores = None if self.scores is None else self.scores[row]
        return len(self.values[row]) + len(self.ids[row]) + EVENT_BYTES + _bytes_of(scores)

    def sizes(self, first: int, last: int) -> int:
        """The sum of the sizes of some rows that stand one after another."""
        found = (
            sum(map(len, self.values[first:last])) + sum(map(len, self.ids[first:last])) + EVENT_BYTES * (last - first)
        )
        return found + (sum(map(_bytes_of, self.scores[first:last])) if self.scores else 0)

    def passed(self, first: int, before_ms: int) -> int:
        """The first row from `first` on whose time is not before this one; their number where all are."""
        if self.times_ms[first] >= before_ms:
            return first
        later = np.frombuffer(self.times_ms, np.int64)[first:] >= before_ms
        return first + int(later.argmax()) if later.any() else len(self)


def shared_tags(schemas: Iterable[int], served: Iterable[Served]) -> list[Tag]:
    """Tags of n events, equal ones as one object."""
    tags: dict[Tag, Tag] = {}
    found = []
    for schema, one in zip(schemas, served, strict=True):
        tag = Tag(
            schema=schema,
            class_name=one.class_name,
            lineage=one.lineage,
            position=one.position,
            flags=one.flags,
            scored=one.score is not None,
            log_partition=one.log_partition,
            epoch=one.epoch,
            arm=one.arm,
        )
        found.append(tags.setdefault(tag, tag))
    return found


def _bytes_of(scores: str | None) -> int:
    return 0 if scores is None else len(scores) + TEXT_BYTES


def number_of(served: Served) -> float | None:
    """What a row keeps of a prediction's numbers: the score, or else the value."""
    return served.score if served.score is not None else served.value


def known_or_nan(numbers: Sequence[float | None] | None, count: int) -> list[float]:
    """Numbers as a column of rows holds them; None: there is none in any of `count` rows."""
    return [_NAN] * count if numbers is None else [_NAN if number is None else number for number in numbers]


class PendingStore:
    """Rows in chunks, and the offset of the first event of each id."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.chunks: list[Rows] = []
        self._firsts: list[int] = []  # offset of each chunk's first row

    def __len__(self) -> int:
        """Events held."""
        return len(self.ids)

    def place(self, offset: int) -> tuple[Rows, int]:
        """Chunk and row of the event at an offset, which is held."""
        chunk = self.chunks[bisect_right(self._firsts, offset) - 1]
        return chunk, bisect_left(chunk.offsets, offset)

    def take(self, rows: Rows) -> None:
        """Append rows, whose ids are new."""
        if not len(rows):
            return
        if not self.chunks or len(self.chunks[-1]) + len(rows) > CHUNK_ROWS:
            self.chunks.append(rows)  # as they are: nobody else keeps them
            self._firsts.append(rows.offsets[0])
        else:
            self.chunks[-1].take(rows)
        self.ids.update(zip(rows.ids, rows.offsets, strict=True))

    def free(self, count: int) -> None:
        """Forget the first rows."""
        while count:
            chunk = self.chunks[0]
            last = min(len(chunk), chunk.first + count)
            for event_id in chunk.ids[chunk.first : last]:
                self.ids.pop(event_id, None)  # one that was held twice, as after offsets that were set, is gone
            count -= last - chunk.first
            chunk.values[chunk.first : last] = [b""] * (last - chunk.first)
            chunk.first = last
            if last == len(chunk):
                del self.chunks[0], self._firsts[0]

    def labelled(self, since_ms: int) -> tuple[int, int]:
        """How many events of this time or later have joined, and how many there are."""
        joined = count = 0
        for chunk in self.chunks:
            recent = np.frombuffer(chunk.times_ms, np.int64)[chunk.first :] >= since_ms
            count += int(recent.sum())
            joined += int((np.frombuffer(chunk.states, np.uint8)[chunk.first :][recent] & _JOINED).sum())
        return joined, count

    def events(self) -> list[PendingEvent]:
        """All that is held, in offset order."""
        return [chunk.event(row) for chunk in self.chunks for row in range(chunk.first, len(chunk))]
