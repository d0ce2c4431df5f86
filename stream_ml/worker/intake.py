"""What a turn works on: records of few partitions, those whose records wait longest, and all that has come of them.

1. A transaction costs Kafka more for each partition that it touches than for anything else, and one after a
   transaction of many waits until its markers are written. So a turn takes few partitions; the others wait in line.
2. Nothing is asked of a partition of which nothing has come: only its time is moved on, now and then.
"""

import logging
import time
from collections.abc import Collection, Iterable

from stream_ml.app.parts import Parts
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.inputs.readers import EventReader
from stream_ml.core.partition.batch import Batch, Coordinates
from stream_ml.follower.follower import Follower
from stream_ml.kafka.consumers import FeedbackInput, Group
from stream_ml.kafka.partitioners import PartitionerSample, disagreement
from stream_ml.records import Clock, Records
from stream_ml.runtime.failpoints import passes
from stream_ml.worker.backlog import Backlog
from stream_ml.worker.partitions.assignment import Ownership
from stream_ml.worker.partitions.owned import OwnedPartition
from stream_ml.worker.turns import CommitPacer, IdleTicks, Line

LABELS_SHARE = 4  # of the places of a turn are as many for partitions of which nothing but labels came, one at least
SLICES_S = (0.002,) * 10 + (0.01,) * 1000  # of the wait for a first record: feedback and the log are looked at as often
IDLE_FOLD_S = 0.01  # of learning between two looks at the inputs while nothing comes
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
        self._floor = CommitPacer(self._delivery.commit_least)
        self.sample_keys(partitions)
        self._line = Line()
        self._idle = IdleTicks(time.monotonic())
        self._backlog_is_logged = False

    def stop(self, numbers: Collection[int]) -> None:
        """These partitions went, or have another owner."""
        self._group.stop(numbers)
        self._feedback.stop(numbers)
        self._line.leave(numbers)
        self._idle.leave(numbers)
        owned = self._ownership.owned
        for number in owned.keys() & numbers:
            owned[number].stops()

    def start(self) -> None:
        """Read also what is owned and not read yet, from where it stands."""
        owned = self._ownership.owned
        new = [number for number, of in owned.items() if of.held is None]
        if not new:
            return
        if len(new) == len(owned):
            self._lag.begin(clock_now())
            self._backlog_is_logged = False
        for number in new:
            owned[number].starts(time.monotonic())
        self._idle.add(new)
        self.go_back(new)
        self._feedback.start({number: owned[number].core.feedback_position for number in new})

    def go_back(self, numbers: Iterable[int]) -> None:
        """Events that were not committed come again."""
        owned = self._ownership.owned
        self._group.start({number: owned[number].core.events_position for number in numbers if number in owned})

    def ended(self) -> None:
        """A transaction has ended, however it did."""
        self._floor.ended(time.monotonic())

    def commit_is_due(self, of: OwnedPartition) -> bool:
        """Whether Kafka would forget the offsets of a partition."""
        return time.monotonic() - of.committed_s > FORCED_COMMIT_S

    def backlog(self, limit: int) -> bool:
        """Whether more waits in Kafka than a few turns of `limit` records can take; the first time it is reported."""
        there = self._lag.there(self._ownership.owned, limit)
        if there and not self._backlog_is_logged:
            self._backlog_is_logged = True
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
            awaited = self._lag.awaits_first_labels(self._ownership.owned, limit, clock_now())
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
        owned = self._ownership.owned
        held = [of.held for of in owned.values() if of.held is not None]
        if not held or any(labels.full for labels in held):
            return
        clock = clock_now()
        for number, records in self._feedback.take(limit, wait_s).items():
            self._keys["feedback"].look(records)
            of = owned.get(number)
            if of is not None and of.held is not None:
                of.held.extend(self._parts.feedback.decode_many(records, clock.now_ms), clock)
                self._line.add([number])

    def _labels_ready(self, number: int) -> bool:
        """Whether a label of a partition may be processed without more events."""
        of = self._ownership.owned.get(number)
        if of is None or not of.held:
            return False
        at_end = self._group.ends.reached(number)
        return len(of.held.ready(of.core.join.inputs.events_ms, at_end, clock_now(), 1)) > 0

    def _next(self, events: int, limit: int, poison_records: Collection[Coordinates]) -> dict[int, Batch]:
        """Batches of the first partitions in line, and of those whose time is to be moved on."""
        found: dict[int, Batch] = {}
        owned, labels, clock = self._ownership.owned, limit, clock_now()
        most = self._delivery.partitions_per_turn
        places = {True: most, False: max(1, most // LABELS_SHARE)}
        for number in self._line:
            if max(events, labels) <= 0 or not any(places.values()) or (found and limit == 1):
                break
            of = owned.get(number)
            if of is None or of.held is None:
                self._line.served(number, more=False)
                continue
            comes = self._group.waits(number) > 0
            if not places[comes]:
                continue
            batch = self._batch(of, events, labels, clock, poison_records)
            size = len(batch.events) + len(batch.feedback)
            more = self._group.waits(number) > 0 or len(of.held) > 0
            if size or not more:
                self._line.served(number, more=more)
            if size:
                found[number] = batch
                places[comes] -= 1
                events -= len(batch.events)
                labels -= len(batch.feedback)
        now_s = time.monotonic()
        for number in self._idle.due(now_s, owned):
            if number not in found:
                found[number] = self._batch(owned[number], 0, 0, clock, poison_records)
        for number in found:
            owned[number].served_s = now_s
        if found:
            passes("after-decode")
        return found

    def _batch(
        self, of: OwnedPartition, events: int, most: int, clock: Clock, poison_records: Collection[Coordinates]
    ) -> Batch:
        number, core, held = of.number, of.core, of.held
        assert held is not None  # noqa: S101 - it is read
        records = self._group.take(number, events).since(core.events_position) if events else self._none(number)
        if len(records):
            passes("after-consume")
            self._keys["events"].look(records)
        decoded = self._reader.decode_many(records, clock.now_ms)
        at_end = self._group.ends.reached(number)
        of.events_at_end = at_end and not self._group.waits(number)
        most = 0 if most == 1 and len(records) else most  # one record alone: bisecting
        feedback = held.ready(decoded.latest_ms(core.join.inputs.events_ms), at_end, clock, most)
        feedback_at_end = self._feedback.ends.reached(number) and len(feedback) == len(held)
        return Batch(decoded, feedback, at_end, feedback_at_end, poison_records)

    @property
    def _reader(self) -> EventReader:
        """Makes the features of the model that answers."""
        return self._parts.reader.under(self._follower.serving.model.settings.plan)

    def under(self, batch: Batch, plan: FeaturePlan, clock: Clock) -> Batch:
        """The batch with the features of this plan: another model answers than when it was decoded."""
        if batch.events.plan is plan or not len(batch.events):
            return batch
        reader = self._parts.reader.under(plan)
        return batch._replace(events=reader.decode_many(batch.events.records, clock.now_ms))

    def _none(self, number: int) -> Records:
        return Records.of(self._parts.config.events.topic, number, ())


def clock_now() -> Clock:
    """What this host's clocks say."""
    return Clock(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)
