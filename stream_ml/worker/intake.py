"""What a turn works on: records of few partitions, those whose records wait longest, and all that has come of them.

1. A transaction costs Kafka more for each partition that it touches than for anything else, and one after a
   transaction of many waits until its markers are written. So a turn takes few partitions; the others wait in line.
2. Nothing is asked of a partition of which nothing has come: only its time is moved on, now and then.
"""

import logging
import time
from collections import deque
from collections.abc import Collection, Iterable

from stream_ml.app.parts import Parts
from stream_ml.core.inputs.alignment import HeldFeedback
from stream_ml.core.partition.partition import Batch, Coordinates, Partition
from stream_ml.follower.follower import Follower
from stream_ml.kafka.consumers import FeedbackInput, Group
from stream_ml.kafka.partitioners import PartitionerSample, disagreement
from stream_ml.records import Clock, Records
from stream_ml.runtime.failpoints import passes
from stream_ml.worker.assignment import Ownership
from stream_ml.worker.backlog import Backlog
from stream_ml.worker.turns import CommitFloor, Line

LABELS_SHARE = 4  # of the places of a turn are as many for partitions of which nothing but labels came, one at least
SLICES_S = (0.002,) * 10 + (0.01,) * 1000  # of the wait for a first record: feedback and the log are looked at as often
IDLE_FOLD_S = 0.01  # of learning between two looks at the inputs while nothing comes
IDLE_TICK_S = 1.0  # how often a partition without records has its time moved on
TICKS_S = 25.0  # and of how many in a second at most
FORCED_COMMIT_S = 12 * 3600.0  # Kafka forgets offsets of feedback after offsets.retention.minutes, a week by default

log = logging.getLogger(__name__)


class Intake:
    """Of one worker. What it gives is held until it is told what became of it."""

    def __init__(
        self,
        parts: Parts,
        group: Group,
        feedback: FeedbackInput,
        ownership: Ownership,
        follower: Follower,
        partitions: int,
    ) -> None:
        self._parts, self._delivery = parts, parts.config.delivery
        self._group, self._feedback = group, feedback
        self._ownership, self._follower = ownership, follower
        self._lag = Backlog(group, feedback, clock_now())
        self._floor = CommitFloor(self._delivery.commit_least)
        self.sample_keys(partitions)
        self._held: dict[int, HeldFeedback] = {}  # of the partitions that are read
        self._line = Line()
        self._idle: deque[int] = deque()
        self._served_s: dict[int, float] = {}
        self._committed_s: dict[int, float] = {}
        self._ticked_s = time.monotonic()
        self._told = False

    def stop(self, numbers: Collection[int]) -> None:
        """These partitions went, or have another owner."""
        self._group.stop(numbers)
        self._feedback.stop(numbers)
        self._line.leave(numbers)
        self._idle = deque(number for number in self._idle if number not in numbers)
        for number in numbers:
            for of in (self._held, self._served_s, self._committed_s):
                of.pop(number, None)

    def start(self) -> None:
        """Read also what is owned and not read yet, from where it stands."""
        new = [number for number in self._ownership.owned if number not in self._held]
        if not new:
            return
        if not self._held:
            self._lag.begin(clock_now())
            self._told = False
        self._held |= {number: HeldFeedback() for number in new}
        self._idle.extend(new)
        self._committed_s |= dict.fromkeys(new, time.monotonic())
        self.go_back(new)
        self._feedback.start({number: self._ownership.owned[number].feedback_position for number in new})

    def go_back(self, numbers: Iterable[int]) -> None:
        """Events that were not committed come again."""
        owned = self._ownership.owned
        self._group.start({number: owned[number].events_position for number in numbers if number in owned})

    def ended(self) -> None:
        """A transaction has ended, however it did."""
        self._floor.ended(time.monotonic())

    def committed(self, number: int, labels: int) -> None:
        """What was given of a partition is committed, so many labels among it."""
        self._held[number].drop(labels)
        self._committed_s[number] = time.monotonic()

    def commit_is_due(self, number: int) -> bool:
        """Whether Kafka would forget the offsets of a partition."""
        return time.monotonic() - self._committed_s[number] > FORCED_COMMIT_S

    def backlog(self, limit: int) -> bool:
        """Whether more waits in Kafka than a few turns of `limit` records can take; the first time it is reported."""
        there = self._lag.there(self._ownership.owned, limit)
        if there and not self._told:
            self._told = True
            events, labels = self._lag.waiting(self._ownership.owned)
            log.info(
                "a backlog of %d events and %d labels at least: labels wait until events have come as far in time, and "
                "what is learned keeps step",
                *(events, labels),
            )
        return there

    def sample_keys(self, partitions: int) -> None:
        """Look anew at how producers place their keys."""
        self._keys = {name: PartitionerSample(partitions) for name in ("events", "feedback")}

    def keys_disagree(self) -> str:
        """What is wrong with how both topics' keys are placed; empty where nothing is."""
        return disagreement(self._keys["events"].verdict, self._keys["feedback"].verdict)

    def batches(self, limit: int, poison_records: Collection[Coordinates], *, wait: bool = True) -> dict[int, Batch]:
        """What the next turn works on, at most `limit` records; may wait for a first one, and learns meanwhile."""
        deadline = time.monotonic() + self._delivery.first_record_wait / 1000 * wait
        for slice_s in SLICES_S:
            awaited = self._lag.labels_awaited(self._ownership.owned, self._held, limit, clock_now())
            self._read_feedback(limit, slice_s if awaited else 0.0)
            floor_s = self._floor_s(limit)
            at_once = self._follower.behind or any(map(self._labels_ready, self._line))
            if not awaited:
                wait_s = floor_s or (0.0 if at_once or self._group.waiting else slice_s)
                self._line.add(self._group.read(limit, min(wait_s, slice_s)))
            found = {} if self._floor_s(limit) else self._next(0 if awaited else limit, limit, poison_records)
            if found or self._group.moved() or time.monotonic() >= deadline:
                return found
            self._follower.turn(max(slice_s, IDLE_FOLD_S))
        return {}

    def _floor_s(self, limit: int) -> float:
        return self._floor.left_s(time.monotonic(), self._group.waiting, limit)

    def _read_feedback(self, limit: int, wait_s: float) -> None:
        if not self._held or any(held.full for held in self._held.values()):
            return
        clock = clock_now()
        for number, records in self._feedback.take(limit, wait_s).items():
            self._keys["feedback"].look(records)
            if number in self._held:
                self._held[number].extend(self._parts.feedback.decode_many(records, clock.now_ms), clock)
                self._line.add([number])

    def _labels_ready(self, number: int) -> bool:
        """Whether a label of a partition may be processed without more events."""
        held = self._held.get(number)
        if not held:
            return False
        events_ms = self._ownership.owned[number].join.inputs.events_ms
        return len(held.ready(events_ms, self._group.ends.reached(number), clock_now(), 1)) > 0

    def _next(self, events: int, limit: int, poison_records: Collection[Coordinates]) -> dict[int, Batch]:
        """Batches of the first partitions in line, and of those whose time is to be moved on."""
        found: dict[int, Batch] = {}
        owned, labels, clock = self._ownership.owned, limit, clock_now()
        most = self._delivery.partitions_per_turn
        places = {True: most, False: max(1, most // LABELS_SHARE)}
        for number in self._line:
            if max(events, labels) <= 0 or not any(places.values()) or (found and limit == 1):
                break
            if number not in owned:
                self._line.served(number, more=False)
                continue
            comes = self._group.waits(number) > 0
            if not places[comes]:
                continue
            batch = self._batch(number, owned[number], events, labels, clock, poison_records)
            size = len(batch.events) + len(batch.feedback)
            more = self._group.waits(number) > 0 or len(self._held[number]) > 0
            if size or not more:
                self._line.served(number, more=more)
            if size:
                found[number] = batch
                places[comes] -= 1
                events -= len(batch.events)
                labels -= len(batch.feedback)
        for number in self._standing(owned):
            if number not in found:
                found[number] = self._batch(number, owned[number], 0, 0, clock, poison_records)
        self._served_s |= dict.fromkeys(found, time.monotonic())
        if found:
            passes("after-decode")
        return found

    def _batch(
        self, number: int, of: Partition, events: int, most: int, clock: Clock, poison_records: Collection[Coordinates]
    ) -> Batch:
        records = self._group.take(number, events).since(of.events_position) if events else self._none(number)
        if len(records):
            passes("after-consume")
            self._keys["events"].look(records)
        decoded = self._parts.reader.decode_many(records, clock.now_ms)
        held, at_end = self._held[number], self._group.ends.reached(number)
        most = 0 if most == 1 and len(records) else most  # one record alone: bisecting
        feedback = held.ready(decoded.latest_ms(of.join.inputs.events_ms), at_end, clock, most)
        feedback_at_end = self._feedback.ends.reached(number) and len(feedback) == len(held)
        return Batch(decoded, feedback, at_end, feedback_at_end, poison_records)

    def _none(self, number: int) -> Records:
        return Records.of(self._parts.config.events.topic, number, ())

    def _standing(self, owned: dict[int, Partition]) -> list[int]:
        """Partitions of which nothing came, and whose time is to be moved on now."""
        now_s = time.monotonic()
        turns = min(len(self._idle), int((now_s - self._ticked_s) * TICKS_S))
        found = []
        for _ in range(turns):
            number = self._idle[0]
            self._idle.rotate(-1)
            if number in owned and now_s - self._served_s.get(number, 0.0) >= IDLE_TICK_S:
                found.append(number)
        if turns:
            self._ticked_s = now_s
        return found


def clock_now() -> Clock:
    """What this host's clocks say."""
    return Clock(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)
