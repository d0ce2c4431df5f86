"""Events as a member of the group, feedback beside it, so that a pair of partitions stays in one process.

1. Only events are subscribed to, and nothing is read by the consumer that is the member: events p and feedback p are
   assigned by hand wherever the group gave events p. The assignor is cooperative-sticky: few partitions move.
2. Callbacks record and unassign, nothing else: they neither work nor raise, because an exception in one makes
   consume() drop what it had already taken.
3. The group metadata is captured in the callbacks, of which every generation has one: a commit with it is refused once
   the group has moved, until this process knows what the move left it.
"""

import contextlib
import time
from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from stream_ml.config import Config
from stream_ml.errors import FatalError
from stream_ml.kafka.clients import close_within, fetching, member, prefetch_metadata, reader
from stream_ml.kafka.errors import outage
from stream_ml.kafka.messages import records_of
from stream_ml.kafka.reading.assigned import Assigned, tell
from stream_ml.kafka.waiting import Waiting
from stream_ml.records import Records
from stream_ml.runtime.failpoints import passes

GROUP_S = 2.0  # for what the group says of its members
ANSWER_S = 4.0  # for the group to answer a join at the end: by default it waits 3 s for more members
ANSWER_LOOK_S = 0.1
SECOND_ROUND_S = 3.0  # others hear with a heartbeat that they have to give partitions up, then those are given anew
KEEP_ALIVE_S = 0.5  # between two polls while something else takes long; the limit is max.poll.interval.ms


class Move(NamedTuple):
    """What the group did since it was asked last."""

    gone: set[int]  # partitions that it took back
    kept: bool  # whether they may come again untouched: they went without being asked for, or were asked for anew
    come: set[int]  # partitions that it gave; some of them may be among those that went


class Group:
    """Membership in the group, and the events of the partitions that are owned.

    The group's moves are incremental: partitions that stay are read and committed on meanwhile. Two consumers: to one
    that is a member librdkafka stops its fetches while the group moves, and it goes on a second later (measured).

    So many attributes: the callbacks may only record what the group did; `settle` and `read` hand it on.
    """

    def __init__(self, config: Config, partitions: int) -> None:
        self._topic = config.events.topic
        self._member = member(config)
        self._reader = reader(config, **fetching(config, partitions))
        prefetch_metadata(self._reader, [self._topic])
        self._read = Assigned(self._reader, self._topic)
        self.ends = self._read.ends
        self._given: set[int] = set()
        self._gone: set[int] = set()
        self._come: set[int] = set()
        self._kept = self._joined = self._asked = False
        self.metadata: Any = None
        self._waiting = Waiting()
        self._came: dict[int, None] = {}  # partitions, since it was reported last
        self._alive_s = 0.0
        self._nothing_since_s: float | None = None

    def join(self) -> None:
        """Ask for partitions; they come in a later `read`.

        Asked again, the group gives them out anew: a static member that comes back is given what it had, and nobody
        then looks whether there are more by now.
        """
        if self._joined:
            self._kept = True
            self._member.unsubscribe()
        self._joined = self._asked = True
        self._member.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    # Every move of the group calls back, one that neither gives nor takes too, and waits for the answer. So what is
    # captured here names the very generation of which this process knows what is its own.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        passes("on-assign")
        self._asked = False
        self.metadata = _metadata(consumer)
        self._given.update(tp.partition for tp in partitions)
        self._come.update(tp.partition for tp in partitions)
        self._nothing_since_s = None if self._given else self._nothing_since_s or time.monotonic()
        consumer.incremental_assign([])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        passes("on-revoke")
        self._asked = True  # librdkafka joins again by itself
        self.metadata = _metadata(consumer)
        self._let_go({tp.partition for tp in partitions})
        consumer.incremental_unassign([])

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        passes("on-revoke")
        self._asked = self._kept = True
        self.metadata = None
        self._let_go(set(self._given))  # also what was about to be taken back
        consumer.incremental_unassign([])

    def _let_go(self, partitions: set[int]) -> None:
        self._given -= partitions
        self._gone |= partitions
        self._come -= partitions
        self.stop(partitions)

    def moved(self) -> bool:
        """Whether the group has moved since `settle`: partitions came or went."""
        return bool(self._gone or self._come)

    def settle(self) -> Move:
        """Acknowledge what the group did."""
        move = Move(self._gone, self._kept, self._come)
        self._gone, self._kept, self._come = set(), False, set()
        return move

    @property
    def gone(self) -> Set[int]:
        """Partitions that the group took back, and whose going is not acknowledged: nothing of them is committed."""
        return self._gone

    def start(self, positions: Mapping[int, int]) -> None:
        """Read events of these partitions too, from these positions; also to go back after an abort."""
        self.stop(positions)
        self._read.start({number: offset for number, offset in positions.items() if number not in self._gone})

    def stop(self, partitions: Iterable[int]) -> None:
        """Read events of these partitions no longer, and let go of those that wait."""
        self._read.stop(partitions)
        for number in partitions:
            self._waiting.drop(number)
            self._came.pop(number, None)

    def read(self, most: int, wait_s: float) -> dict[int, None]:
        """Read on, until as many events wait to be taken; of which partitions some came since it was asked last."""
        self._read_on(most, wait_s)
        came, self._came = self._came, {}
        return came

    def _read_on(self, most: int, wait_s: float) -> None:
        self._hear(0)
        found, at_end = self._read.take(max(1, most - len(self._waiting)), wait_s)
        for partition, own in found.items():
            self._waiting.add(partition, own)
            self._came[partition] = None
            self.ends.note(partition, None)
        for partition, at in at_end.items():
            if not self._waiting.of(partition):
                self.ends.note(partition, at)
            else:
                self._waiting.end(partition, at)

    def _hear(self, wait_s: float) -> None:
        """What the group has to say: callbacks, and errors; there are no records."""
        told = self._member.poll(wait_s)
        if told is not None and (error := told.error()) is not None:
            tell(self._topic, None, error)

    @property
    def waiting(self) -> int:
        """How many events wait to be taken."""
        return len(self._waiting)

    def waits(self, partition: int) -> int:
        """How many events of a partition wait to be taken."""
        return self._waiting.of(partition)

    def take(self, partition: int, most: int) -> Records:
        """The next events of a partition."""
        messages, at_end = self._waiting.take(partition, most)
        if at_end is not None:
            self.ends.note(partition, at_end)
        return records_of(self._topic, partition, messages)

    def keep_alive(self) -> None:
        """Stay a member while something else takes long; what comes is kept for the next `take`."""
        if time.monotonic() - self._alive_s < KEEP_ALIVE_S:
            return
        self._alive_s = time.monotonic()
        self._read_on(len(self._waiting) + 1, 0)

    @property
    def member_id(self) -> str:
        """Who this member is to its group; empty where it is none."""
        return self._member.memberid() or ""

    @property
    def settled(self) -> bool:
        """Whether the group has answered, and what it did is acknowledged."""
        return self.metadata is not None and not self._asked and not self.moved()

    @property
    def may_come(self) -> bool:
        """Whether the group gave nothing so far, and its next round may: others give up partitions for it first."""
        since_s = self._nothing_since_s
        return since_s is not None and time.monotonic() - since_s < SECOND_ROUND_S

    def end(self, partition: int) -> int | None:
        """End of the partition as its last fetch saw it, open transactions included; None before the first."""
        return self._read.end(partition)

    def close(self) -> None:
        """Leave. A static member's place is kept for the session timeout.

        A consumer to which partitions are given while it is closed never returns, and the whole process with it: the
        client waits with the interpreter's lock held. So the answer to a join is awaited first.
        """
        until_s = time.monotonic() + ANSWER_S
        while self._asked and outage.seconds is None and time.monotonic() < until_s:
            with contextlib.suppress(KafkaException, FatalError):
                self._hear(ANSWER_LOOK_S)
        close_within(self._member)
        close_within(self._reader)


def _metadata(consumer: Consumer) -> Any:
    """Who this member is to its group, for transactions; None where it is none.

    Of a transaction that names neither a member nor a generation Kafka checks nothing at all.
    """
    found = consumer.consumer_group_metadata()
    return found if consumer.memberid() else None


class FeedbackInput:
    """Feedback of the partitions that are owned; never a member of a group."""

    def __init__(self, config: Config, partitions: int) -> None:
        self._topic = config.feedback.topic
        self._consumer = reader(config, **fetching(config, partitions))
        prefetch_metadata(self._consumer, [self._topic])
        self._read = Assigned(self._consumer, self._topic)
        self.ends = self._read.ends
        self.start, self.stop, self.end = self._read.start, self._read.stop, self._read.end

    def take(self, most: int, wait_s: float) -> dict[int, Records]:
        """Labels by partition, not yet decoded."""
        found, at_end = self._read.take(most, wait_s)
        for partition in found:
            self.ends.note(partition, None)
        for partition, at in at_end.items():
            self.ends.note(partition, at)
        return {partition: records_of(self._topic, partition, own) for partition, own in found.items()}

    def close(self) -> None:
        """Let go of the consumer."""
        close_within(self._consumer)


def unowned(client: AdminClient, group: str, topic: str, partitions: int, member_id: str) -> list[int]:
    """Partitions of the topic that the group has given to no member; none while it is on its move or not there.

    Of all members one finds them, the first by its id: whoever does has the group give all out anew.
    """
    try:
        found = client.describe_consumer_groups([group], request_timeout=GROUP_S)[group].result()
    except KafkaException:
        return []
    if found.state != ConsumerGroupState.STABLE:
        return []
    if member_id != min((member.member_id for member in found.members), default=""):
        return []
    given = {tp.partition for member in found.members for tp in member.assignment.topic_partitions if tp.topic == topic}
    return sorted(set(range(partitions)) - given)
