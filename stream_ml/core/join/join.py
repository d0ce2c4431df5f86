"""Events and labels of one partition, joined whichever comes first.

1. A pair joins iff `event_time - early_ttl <= label_time <= event_time + ttl` and the side that came first is still
   joinable: an event while `event_time >= events_expired_ms`, an early label while `label_time >= labels_expired_ms`.
   Both limits follow the partition's time W and never move back, also when a ttl is changed.
2. The first event of an id (by offset) and its first valid label (by offset) win. Joined pairs do not depend on how
   the two topics interleave, as long as time or a cap has freed nothing in between.
3. Every label ends once: joined, an outcome, or still waiting at or above the feedback floor.
4. Events are forgotten by offset prefix, when W has passed them by ttl + early_ttl, or by a cap. Before that a joined
   event is remembered: otherwise a repeated event and a repeated label would join a second time.
5. Changes are staged; `apply` comes after the transaction that publishes them. What a crash loses is a function of
   the topics between floors and offsets: events with their predictions, minus the pairs in the training log; labels
   minus those that have an example, an outcome or a dead letter.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Literal, NamedTuple

from stream_ml.core.inputs.labels import Labels
from stream_ml.core.join.pending import PendingEvent, PendingStore, Rows
from stream_ml.core.join.watermark import BEGINNING, NEVER_MS, InputTimes, JoinSettings, Times
from stream_ml.records import BY_LABEL, Clock, Label, Target, Trigger, carried_bytes

LABEL_BYTES = 900  # what a waiting label takes beside its record's bytes: it is kept whole, for a dead letter

OutcomeKind = Literal["duplicate", "late", "orphan", "shed", "invalid", "too_large"]  # the last: a dead letter


Pair = tuple[Rows, int, bytes, int, Target, int, Trigger, int]
"""An event, as a row of the join, and its bytes, which the join forgets; time, target and offset of its label; trigger
and offset of the record that completed the pair."""


class Joined(NamedTuple):
    """An event, as a row of the join, and its label; `value` has the event's bytes, which the join forgets."""

    rows: Rows
    row: int
    value: bytes
    label: Label

    def pair(self, trigger: Trigger, offset: int) -> Pair:
        """The pair that the record at this place completed."""
        label = self.label
        return (self.rows, self.row, self.value, label.time_ms, label.target, label.record.offset, trigger, offset)

    @property
    def event(self) -> PendingEvent:
        """The event as it waited."""
        return self.rows.event(self.row)._replace(value=self.value, joined=False)


class Resolved(NamedTuple):
    """A label that ends without an example.

    `passed`: by its own time it was in time, and the partition's time had gone on when it came.
    """

    label: Label
    kind: OutcomeKind
    event_offset: int | None
    passed: bool = False


class Join:
    """The pending store of one partition, in memory."""

    def __init__(
        self, settings: JoinSettings, times: Times = BEGINNING, inputs_ms: tuple[int, int] | None = None
    ) -> None:
        self.settings = settings
        self.times = times
        events_ms, feedback_ms = inputs_ms or (times.watermark_ms, times.watermark_ms)
        self.inputs = InputTimes(events_ms, feedback_ms, events_at_end=False, feedback_at_end=False)
        self.store = PendingStore()
        self.waiting: dict[int, Label] = {}
        self.waiting_by_id: dict[str, dict[int, None]] = {}
        self.waiting_order: deque[int] = deque()
        self.oldest_waiting_ms = NEVER_MS
        self.bytes = 0

    def rebuild(self, events: Iterable[Rows], labels: Iterable[Label]) -> None:
        """Fill an empty store with what a crash lost; both in offset order, events in pieces."""
        for rows in events:
            staged = StagedJoin(self)
            staged.hold(rows)
            self.apply(staged)
        staged = StagedJoin(self)
        for label in labels:
            staged.add_waiting(label)
        self.apply(staged)

    def apply(self, staged: "StagedJoin") -> None:
        """Make staged changes real: their transaction was committed."""
        self.times, self.inputs = staged.times, staged.inputs
        self.oldest_waiting_ms = staged.oldest_waiting_ms
        for chunk, row in staged.joined.values():
            chunk.mark_joined(row)
        self.store.take(staged.rows)
        self.waiting.update(staged.waiting)
        self.waiting_order.extend(staged.waiting)
        self.waiting_by_id.update(staged.waiting_by_id)
        for offset in staged.resolved:
            self.waiting.pop(offset, None)
        for event_id, offsets in staged.waiting_by_id.items():
            if not offsets:
                del self.waiting_by_id[event_id]
        while self.waiting_order and self.waiting_order[0] not in self.waiting:
            self.waiting_order.popleft()
        self.store.free(staged.freed)
        self.bytes += staged.bytes


class StagedJoin:
    """One batch's changes to a Join, to be applied or dropped.

    So many attributes: what changes stands beside what it was, and only `apply` brings both together.
    """

    def __init__(self, base: Join) -> None:
        self._base = base
        self._settings = base.settings
        self.times, self.inputs = base.times, base.inputs
        self.oldest_waiting_ms = base.oldest_waiting_ms
        self.rows = Rows()  # the batch's own events
        self._ids: dict[str, int] = {}  # and their rows
        self.joined: dict[int, tuple[Rows, int]] = {}  # events of the base that have joined, by offset
        self.waiting: dict[int, Label] = {}
        self.waiting_by_id: dict[str, dict[int, None]] = {}  # copied from the base at the first change of an id
        self.resolved: set[int] = set()
        self.freed = 0
        self.shed_events = 0
        self.bytes = 0

    # --- events ---

    def duplicates(self, ids: list[str]) -> set[int]:
        """Which of a batch's events have an id that came before, here or earlier."""
        known, own = self._base.store.ids.keys(), self._ids.keys()
        distinct = set(ids)
        if len(distinct) == len(ids) and known.isdisjoint(distinct) and own.isdisjoint(distinct):
            return set()
        found, seen = set(), set()
        for row, event_id in enumerate(ids):
            if event_id in known or event_id in own or event_id in seen:
                found.add(row)
            seen.add(event_id)
        return found

    def events(self, rows: Rows) -> list[tuple[int, Joined | None, list[Resolved]]]:
        """Take the first events of their ids; of each for which early labels waited its row, and how they end."""
        first = len(self.rows)
        self.hold(rows)
        if not self.waiting_by_id and not self._base.waiting_by_id:
            return []
        waited = [number for number, event_id in enumerate(rows.ids) if self._waiting_offsets(event_id)]
        return [(number, *self._meet(first + number)) for number in waited]

    def event(self, event: PendingEvent) -> tuple[Joined | None, list[Resolved]]:
        """Remember one event."""
        rows = Rows()
        rows.append(event)
        return next(((joined, ended) for _, joined, ended in self.events(rows)), (None, []))

    def hold(self, rows: Rows) -> None:
        """Keep events, joined or not."""
        self._ids.update(zip(rows.ids, range(len(self.rows), len(self.rows) + len(rows)), strict=True))
        if len(self.rows):
            self.rows.take(rows)
        else:
            self.rows = rows  # nobody else keeps them
        self.bytes += rows.sizes(0, len(rows))

    def _meet(self, row: int) -> tuple[Joined | None, list[Resolved]]:
        """End the early labels of one of the batch's events."""
        rows = self.rows
        joined: Joined | None = None
        ended: list[Resolved] = []
        for label in [self._label(offset) for offset in self._waiting_offsets(rows.ids[row])]:
            expired = label.time_ms < self.times.labels_expired_ms
            kind = "orphan" if expired else self._window_kind(rows, row, label)
            if kind is None and joined is None:
                joined = self._joined(rows, row, label)
            else:
                ended.append(Resolved(label, kind or "duplicate", rows.offsets[row]))
            self._resolve(label)
        return joined, ended

    # --- labels ---

    def join_many(self, labels: Labels, first: int, stop: int) -> tuple[list[Pair], list[Resolved]]:
        """Take the labels of these rows, one after the other: the pairs that they complete, and how others end.

        Fast path of `join_one`, equal to it label by label: tests/core/inputs/test_labels.py.
        """
        pairs: list[Pair] = []
        ended: list[Resolved] = []
        own, held, place, staged = self._ids, self._base.store.ids, self._base.store.place, self.joined
        ttl_ms, early_ttl_ms = self._settings.ttl_ms, self._settings.early_ttl_ms
        expired_ms = self.times.events_expired_ms
        ids, times, targets = labels.ids, labels.times_ms, labels.targets
        for number in range(first, stop):
            event_id, time_ms, offset = ids[number], times[number], labels.records.offsets[number]
            at, rows = own.get(event_id), self.rows
            known = held.get(event_id) if at is None else None
            if known is not None:
                rows, at = place(known)
            if at is not None and not rows.states[at] and known not in staged:  # it waits, and it is not too large
                event_ms, value = rows.times_ms[at], rows.values[at]
                if event_ms >= expired_ms and event_ms - early_ttl_ms <= time_ms <= event_ms + ttl_ms:
                    self._join(rows, at)
                    pairs.append((rows, at, value, time_ms, targets[number], offset, BY_LABEL, offset))
                    continue
            end = self.join_one(labels.label(number))
            if isinstance(end, Joined):
                pairs.append(end.pair(BY_LABEL, offset))
            elif end is not None:
                ended.append(end)
        return pairs, ended

    def join_one(self, label: Label) -> Joined | Resolved | None:
        """The reference path: take a label, which joins, ends, or (None) waits for its event."""
        rows, row = self.rows, self._ids.get(label.event_id)
        if row is None:
            offset = self._base.store.ids.get(label.event_id)
            if offset is None:
                return self._early(label)
            rows, row = self._base.store.place(offset)
        kind = self._window_kind(rows, row, label)
        in_time = kind is None
        if kind is None and rows.times_ms[row] < self.times.events_expired_ms:
            kind = "late"
        if kind is None and (rows.joined(row) or rows.offsets[row] in self.joined):
            kind = "duplicate"
        if kind is None:
            return self._joined(rows, row, label)
        return Resolved(label, kind, rows.offsets[row], in_time and kind == "late")

    def _early(self, label: Label) -> Resolved | None:
        if label.time_ms < self.times.labels_expired_ms:
            return Resolved(label, "orphan", None, passed=True)
        self.add_waiting(label)
        return None

    def _joined(self, rows: Rows, row: int, label: Label) -> Joined:
        joined = Joined(rows, row, rows.values[row], label)
        self._join(rows, row)
        return joined

    def _join(self, rows: Rows, row: int) -> None:
        self.bytes -= len(rows.values[row])
        if rows is self.rows:
            rows.mark_joined(row)
        else:
            self.joined[rows.offsets[row]] = rows, row

    def _window_kind(self, rows: Rows, row: int, label: Label) -> OutcomeKind | None:
        time_ms = rows.times_ms[row]
        if label.time_ms > time_ms + self._settings.ttl_ms:
            return "late"
        if label.time_ms < time_ms - self._settings.early_ttl_ms:
            return "invalid"
        return "too_large" if rows.oversize(row) else None

    # --- the end of a batch ---

    def advance(self, events_ms: int, feedback_ms: int, ends: tuple[bool, bool], clock: Clock) -> list[Resolved]:
        """Move the partition's time on, then free what it or a cap frees; labels that end by it are returned.

        Parameters
        ----------
        events_ms, feedback_ms
            Largest time of the batch's events and labels; BEGINNING's value where it had none.
        ends
            Whether events and feedback are at their end.
        """
        self.inputs = self.inputs.advance(events_ms, feedback_ms, ends, clock, self._settings.ahead_ms)
        self.times = self.times.at(self.inputs.watermark_ms(clock), self._settings)
        ended = [Resolved(label, "orphan", None) for label in self._expired_labels()]
        ended += [Resolved(label, "shed", None) for label in self._labels_over_cap()]
        self._free_events()
        for label in self._unresolved():
            if self.bytes + self._base.bytes <= self._settings.bytes_max:
                break
            self._resolve(label)
            ended.append(Resolved(label, "shed", None))
        return ended

    def floors(self, events_position: int, feedback_position: int) -> tuple[int, int]:
        """From which offsets a rebuild must read; the positions where nothing is held."""
        head = next(self._held(), None)
        label = next(self._unresolved(), None)
        return (
            head[0].offsets[head[1]] if head is not None else events_position,
            label.record.offset if label is not None else feedback_position,
        )

    def _held(self) -> Iterator[tuple[Rows, int]]:
        """Events that are held, in offset order."""
        return ((rows, row) for rows, first in self._held_chunks() for row in range(first, len(rows)))

    def _held_chunks(self) -> Iterator[tuple[Rows, int]]:
        """Held events by chunk, each with its first row that is held."""
        skip = self.freed
        for rows in (*self._base.store.chunks, self.rows):
            if rows.first + skip < len(rows):
                yield rows, rows.first + skip
            skip = max(0, skip - (len(rows) - rows.first))

    def _unresolved(self) -> Iterator[Label]:
        """Labels that still wait, in offset order."""
        held = (self._base.waiting[offset] for offset in self._base.waiting_order if offset in self._base.waiting)
        return (label for label in chain(held, self.waiting.values()) if label.record.offset not in self.resolved)

    def _expired_labels(self) -> list[Label]:
        limit_ms = self.times.labels_expired_ms
        if self.oldest_waiting_ms >= limit_ms:
            return []
        held = list(self._unresolved())
        expired = [label for label in held if label.time_ms < limit_ms]
        for label in expired:
            self._resolve(label)
        self.oldest_waiting_ms = min((label.time_ms for label in held if label.time_ms >= limit_ms), default=NEVER_MS)
        return expired

    def _labels_over_cap(self) -> list[Label]:
        over = len(self._base.waiting) + len(self.waiting) - len(self.resolved) - self._settings.early_labels_max
        shed = list(islice(self._unresolved(), max(0, over)))
        for label in shed:
            self._resolve(label)
        return shed

    def _free_events(self) -> None:
        settings, base = self._settings, self._base
        remembered_ms = self.times.watermark_ms - settings.ttl_ms - settings.early_ttl_ms
        self._free_passed(remembered_ms)
        held, freed = len(base.store) + len(self.rows) - self.freed, 0
        for rows, row in self._held():
            over = held > settings.events_max or self.bytes + base.bytes > settings.bytes_max
            time_ms = rows.times_ms[row]
            if time_ms >= remembered_ms and not over:
                break
            staged = rows.offsets[row] in self.joined  # then its bytes are counted off, and still there
            if time_ms >= self.times.events_expired_ms and not (staged or rows.joined(row)):
                self.shed_events += 1
            held, freed = held - 1, freed + 1
            self.bytes -= rows.size(row) - (len(rows.values[row]) if staged else 0)
        self.freed += freed

    def _free_passed(self, remembered_ms: int) -> None:
        """Free those at the head that are earlier, by chunk: none of them is joinable any more, so none is shed."""
        freed = 0
        for rows, first in self._held_chunks():
            last = rows.passed(first, remembered_ms)
            if last > first:
                staged = (row for of, row in self.joined.values() if of is rows and first <= row < last)
                self.bytes -= rows.sizes(first, last) - sum(len(rows.values[row]) for row in staged)
                freed += last - first
            if last < len(rows):
                break
        self.freed += freed

    # --- the overlay ---

    def add_waiting(self, label: Label) -> None:
        """Hold an early label."""
        self.waiting[label.record.offset] = label
        self.oldest_waiting_ms = min(self.oldest_waiting_ms, label.time_ms)
        self._own_offsets(label.event_id)[label.record.offset] = None
        self.bytes += _label_bytes(label)

    def _waiting_offsets(self, event_id: str) -> dict[int, None]:
        staged = self.waiting_by_id.get(event_id)
        return staged if staged is not None else self._base.waiting_by_id.get(event_id, {})

    def _own_offsets(self, event_id: str) -> dict[int, None]:
        """The labels that wait for an id, to be changed; one id may have as many as the cap allows."""
        if event_id not in self.waiting_by_id:
            self.waiting_by_id[event_id] = dict(self._base.waiting_by_id.get(event_id, {}))
        return self.waiting_by_id[event_id]

    def _label(self, offset: int) -> Label:
        return self.waiting[offset] if offset in self.waiting else self._base.waiting[offset]

    def _resolve(self, label: Label) -> None:
        offset = label.record.offset
        self.resolved.add(offset)
        self._own_offsets(label.event_id).pop(offset, None)
        self.bytes -= _label_bytes(label)


def _label_bytes(label: Label) -> int:
    return carried_bytes(label.record) + len(label.event_id) + LABEL_BYTES
