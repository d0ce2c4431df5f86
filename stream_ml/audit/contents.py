"""What must hold between the topics, by what their records say: keys, times, pairs, versions. See `coordinates`."""

import itertools
import zlib
from typing import NamedTuple

from stream_ml.audit.coordinates import Findings
from stream_ml.core.join.watermark import JoinSettings, Times
from stream_ml.core.log.entry import Entry
from stream_ml.core.partition.predictions import Published
from stream_ml.records import Label, Record, Served

Where = tuple[str, int, int]


class _Event(NamedTuple):
    event_id: str
    time_ms: int
    key: bytes | None
    checksum: int


class _Example(NamedTuple):
    where: Where
    event_offset: int
    feedback_offset: int


class _Outcome(NamedTuple):
    where: Where
    kind: str
    feedback_offset: int
    event_offset: int | None


class Contents:
    """One partition: holds about 600 bytes for each event and label.

    Order of calls: events and labels, then predictions, then the training log and outcomes, then `finish`.
    """

    def __init__(self, topics: tuple[str, str], settings: JoinSettings, found: Findings) -> None:
        self._events_topic, self._feedback_topic = topics
        self._settings, self._found = settings, found
        self._events: dict[int, _Event] = {}
        self._labels: dict[int, Label] = {}
        self._served: dict[int, Published] = {}
        self._first: dict[str, int] = {}
        self._examples: dict[str, list[_Example]] = {}
        self._joined_events: dict[int, Where] = {}
        self._outcomes: list[_Outcome] = []

    # --- inputs ---

    def event(self, record: Record, event_id: str, time_ms: int) -> None:
        """Note an event that can be read."""
        self._events[record.offset] = _Event(event_id, time_ms, record.key, zlib.crc32(record.value or b""))

    def label(self, label: Label) -> None:
        """Note a label that can be read; its value is let go."""
        self._labels[label.record.offset] = label._replace(record=label.record._replace(value=None))

    # --- outputs ---

    def prediction(self, where: Where, key: bytes | None, said: Published, log_end: int) -> None:
        """Compare a prediction with its event."""
        event = self._events.get(said.offset)
        if said.partition != where[1]:
            self._found.add("content", *where, f"it is about partition {said.partition}")
        if not 0 <= said.served.position <= log_end:
            message = f"its model version is {said.served.position}, and the log ends at {log_end}"
            self._found.add("version", *where, message)
        if event is None:
            return
        for what, ours, theirs in (
            ("key", key, event.key),
            ("event id", said.event_id, event.event_id),
            ("event time", said.event_time_ms, event.time_ms),
        ):
            if ours != theirs:
                message = f"its {what} is {ours!r}, that of {self._events_topic} {said.offset} is {theirs!r}"
                self._found.add("content", *where, message)
        self._served[said.offset] = said
        if "duplicate_event" not in said.served.flags:
            self._first.setdefault(said.event_id, said.offset)

    def example(self, where: Where, entry: Entry) -> None:
        """Compare an example with its event, its label and its prediction; and rule 10 with its times."""
        event, label = self._events.get(entry.event_offset), self._labels.get(entry.feedback_offset)
        before = self._joined_events.setdefault(entry.event_offset, where)
        if before != where:
            self._found.add("pair", *where, f"event {entry.event_offset} has an example already, at {before[2]}")
        if event is not None:
            if event.event_id != entry.event_id or event.checksum != zlib.crc32(entry.event):
                self._found.add("content", *where, f"its event is not what stands at {entry.event_offset}")
            said = self._served.get(entry.event_offset)
            if said is not None and not _same(said.served, entry.served):
                self._found.add("content", *where, f"what was served for event {entry.event_offset} is something else")
            if "duplicate_event" in entry.served.flags:
                self._found.add("pair", *where, f"event {entry.event_offset} came a second time and must not join")
        if label is not None and (label.event_id, label.target) != (entry.event_id, entry.target):
            self._found.add("content", *where, f"its label is not what stands at {entry.feedback_offset}")
        if event is not None and label is not None and not self._in_window(event, label):
            self._found.add("pair", *where, f"its label of {label.time_ms} is no pair with an event of {event.time_ms}")
        if entry.served.position > where[2]:
            self._found.add("version", *where, f"its prediction is of version {entry.served.position}, after it")
        self._examples.setdefault(entry.event_id, []).append(_Example(where, entry.event_offset, entry.feedback_offset))

    def outcome(self, where: Where, kind: str, feedback_offset: int, event_offset: int | None) -> None:
        """Note an outcome; whether it is true is asked at the end."""
        self._outcomes.append(_Outcome(where, kind, feedback_offset, event_offset))

    # --- the end ---

    def finish(self, partition: int, waiting: list[int], times: Times, events_floor: int = 0) -> None:
        """Find pairs that were not joined, joined twice, or kept apart for no reason.

        Parameters
        ----------
        waiting
            Offsets of labels without an end.
        times
            The partition's times, read after the outcomes: they never move back.
        events_floor
            Events before this offset were forgotten, by time or by a cap: a label may wait for them in vain.
        """
        for outcome in self._outcomes:
            self._check_outcome(outcome, times)
        for offset in waiting:
            label = self._labels.get(offset)
            first = None if label is None else self._first.get(label.event_id)
            if label is None or first is None or first < events_floor or first in self._joined_events:
                continue
            if self._in_window(self._events[first], label):
                message = f"it waits, and its event has been scored, at {self._events_topic} {first}"
                self._found.add("pair", self._feedback_topic, partition, offset, message)
        for event_id, found in self._examples.items():
            self._check_repeats(event_id, sorted(found, key=lambda example: example.event_offset))

    def _check_outcome(self, outcome: _Outcome, times: Times) -> None:
        where, kind, feedback_offset, event_offset = outcome
        label = self._labels.get(feedback_offset)
        if label is None:
            return
        examples = self._examples.get(label.event_id, [])
        event = None if event_offset is None else self._events.get(event_offset)
        if event is not None and event.event_id != label.event_id:
            self._found.add("content", *where, f"event {event_offset} has another id than label {feedback_offset}")
        elif kind == "duplicate":
            joined = [found.feedback_offset for found in examples if found.event_offset == event_offset]
            if not joined:
                self._found.add("pair", *where, f"duplicate, and event {event_offset} has no example")
            elif max(joined) > feedback_offset:
                self._found.add("pair", *where, f"duplicate, and a later label than {feedback_offset} has joined")
        elif kind == "late" and event is not None:
            expired = event.time_ms < times.events_expired_ms
            if label.time_ms <= event.time_ms + self._settings.ttl_ms and not expired:
                self._found.add("pair", *where, f"late, and label {feedback_offset} came in time")
        elif kind == "invalid" and event is not None and self._in_window(event, label):
            self._found.add("pair", *where, f"invalid, and label {feedback_offset} is within early_ttl")
        elif kind == "orphan" and label.time_ms >= times.labels_expired_ms:
            self._found.add("pair", *where, f"orphan, and label {feedback_offset} can still wait")

    def _check_repeats(self, event_id: str, found: list[_Example]) -> None:
        """An id may come anew only when the event before it has been forgotten."""
        horizon_ms = self._settings.ttl_ms + self._settings.early_ttl_ms
        for one, other in itertools.pairwise(found):
            events = self._events.get(one.event_offset), self._events.get(other.event_offset)
            if events[0] and events[1] and abs(events[1].time_ms - events[0].time_ms) <= horizon_ms:
                self._found.add("pair", *other.where, f"id {event_id!r} has an example already, at {one.where[2]}")

    def _in_window(self, event: _Event, label: Label) -> bool:
        settings = self._settings
        return event.time_ms - settings.early_ttl_ms <= label.time_ms <= event.time_ms + settings.ttl_ms


def _same(one: Served, other: Served) -> bool:
    return one._replace(flags=()) == other._replace(flags=()) and set(one.flags) == set(other.flags)
