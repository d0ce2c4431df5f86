"""Consumer and AdminClient as far as the service calls them, over the simulated cluster; producer.py has the third.

Every call may hand the baton to another process, before it does anything and after. A process that was killed gets
`Killed` out of its call; closing never raises, for it also happens on the way out.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.system.simulation.groups import GroupMetadata
from tests.system.simulation.logs import Entry, Where
from tests.system.simulation.membership import Membership
from tests.system.simulation.scheduler import simulation

FETCH_MAX = 30  # records of one partition in one fetch
NO_OFFSET = -1001


class Message:
    """A consumed record, an end of a partition, or an error."""

    def __init__(self, where: Where, offset: int, entry: Entry | None, error: KafkaError | None = None) -> None:
        self._where, self._offset, self._entry, self._error = where, offset, entry, error

    def topic(self) -> str:
        return self._where[0]

    def partition(self) -> int:
        return self._where[1]

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error

    def timestamp(self) -> tuple[int, int]:
        assert self._entry is not None
        return 1, self._entry.timestamp_ms

    def key(self) -> bytes | None:
        return self._entry.key if self._entry else None

    def value(self) -> bytes | None:
        return self._entry.value if self._entry else None

    def headers(self) -> list[tuple[str, bytes]]:
        return list(self._entry.headers) if self._entry else []


class Committed(NamedTuple):
    """A committed offset as committed() gives it."""

    topic: str
    partition: int
    offset: int
    metadata: str | None
    error: KafkaError | None = None


class Consumer:
    """A consumer, with assign() alone or as a member of the group."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._sim = simulation()
        self._process = self._sim.current
        self._committed_only = settings["isolation.level"] == "read_committed"
        self._positions: dict[Where, int] = {}
        self._ends: dict[Where, int] = {}
        self._queue: deque[Message] = deque()
        self.membership = Membership(self, settings.get("group.instance.id"), self._sim)

    # --- reading ---

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._positions = {(tp.topic, tp.partition): tp.offset for tp in partitions}
        self._ends = {}
        self._queue.clear()

    def unassign(self) -> None:
        self.assign([])

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            assert (tp.topic, tp.partition) not in self._positions, "it is assigned already"
            self._positions[tp.topic, tp.partition] = tp.offset
            self._ends.pop((tp.topic, tp.partition), None)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        gone = {(tp.topic, tp.partition) for tp in partitions}
        for where in gone:
            del self._positions[where]
        self._queue = deque(m for m in self._queue if (m.topic(), m.partition()) not in gone)

    def poll(self, timeout: float) -> Message | None:
        self._sim.request("poll", self._process)
        self._fill()
        if not self._queue and timeout > 0:
            self._sim.idle(self._process, timeout)
            self._fill()
        return self._queue.popleft() if self._queue else None

    def consume(self, most: int, timeout: float) -> list[Message]:
        assert timeout == 0
        if self._sim.rng.random() < 0.3:
            self._fill()
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def _fill(self) -> None:
        self.membership.serve()
        if not self._queue:
            self._queue.extend(self._fetched())

    def _fetched(self) -> Iterator[Message]:
        logs, rng = self._sim.cluster.logs, self._sim.rng
        found = list(self._positions)
        for where in rng.sample(found, len(found)) if len(found) > 1 else found:
            log, position = logs[where], self._positions[where]
            end = log.stable_end if self._committed_only else log.end
            stop = min(end, position + rng.randint(1, FETCH_MAX)) if end > position else position
            self._positions[where] = stop
            for offset in range(position, stop):
                if log.entries[offset].kind == "data" and not (self._committed_only and offset in log.aborted):
                    yield Message(where, offset, log.entries[offset])
            if stop == end and self._ends.get(where) != end:
                self._ends[where] = end
                yield Message(where, end, None, KafkaError(KafkaError._PARTITION_EOF))

    def list_topics(self, topic: str, timeout: float) -> None:
        """Always known."""

    def get_watermark_offsets(self, partition: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, self._ends.get((partition.topic, partition.partition), NO_OFFSET)

    def fail(self, error: KafkaError) -> None:
        """Let the next poll return this."""
        self._queue.appendleft(Message(("", -1), -1, None, error))

    # --- the group ---

    def subscribe(self, topics: list[str], **callbacks: Callable[..., None]) -> None:
        self.membership.subscribe(topics[0], callbacks)
        if self.membership not in self._process.memberships:
            self._process.memberships.append(self.membership)

    def unsubscribe(self) -> None:
        self.membership.unsubscribe()

    def consumer_group_metadata(self) -> GroupMetadata:
        return self.membership.metadata()

    def memberid(self) -> str:
        return self.membership.name

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[Committed]:
        self._sim.request("committed", self._process)
        if self._sim.armed("transport"):
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, "no connection", False, True, False))
        group = self._sim.cluster.group
        wanted = [(tp.topic, tp.partition) for tp in partitions]
        if self._committed_only and not self._sim.wait(
            self._process, timeout, lambda: not any(group.unstable(where) for where in wanted)
        ):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "offsets are unstable", False, True, False))
        found = [group.committed.get(where) for where in wanted]
        self._sim.pause(self._process)
        return [
            Committed(*where, stored.offset, stored.metadata) if stored else Committed(*where, NO_OFFSET, None)
            for where, stored in zip(wanted, found, strict=True)
        ]

    def close(self) -> None:
        if not self._process.dead:
            self.membership.leave()
        if self.membership in self._process.memberships:
            self._process.memberships.remove(self.membership)
        self.assign([])


class AdminClient:
    """Ends of partitions."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._sim = simulation()
        self._process = self._sim.current

    def list_topics(self, topic: str, timeout: float) -> None:
        self._sim.pause(self._process, 0.1)

    def list_offsets(self, wanted: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, "Answer"]:
        self._sim.pause(self._process, 0.1)
        logs = self._sim.cluster.logs
        latest = EARLIEST not in wanted.values()
        return {tp: Answer(logs[tp.topic, tp.partition].end if latest else 0) for tp in wanted}


class Answer(NamedTuple):
    """A future that is done, and its result in one."""

    offset: int

    def result(self) -> "Answer":
        return self


class OffsetSpec:
    """Which end is asked for."""

    @staticmethod
    def earliest() -> str:
        return EARLIEST

    @staticmethod
    def latest() -> str:
        return "latest"


EARLIEST = "earliest"
