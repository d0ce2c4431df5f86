"""Events as a member of the group, feedback beside it, so that a pair of partitions stays in one process.

1. Only events are subscribed to; feedback p is assigned by hand wherever events p went. The assignor is range.
2. Callbacks record and unassign, nothing else: they neither work nor raise, because an exception in one makes
   consume() drop what it had already taken.
3. The group metadata is captured when an assignment is taken up: a commit with it is refused once the group has moved.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from stream_ml.config import Config
from stream_ml.errors import FatalError
from stream_ml.failpoints import passes
from stream_ml.kafka.clients import absent, acquaint, fetching, lasting, let_go, member, outage, reader
from stream_ml.kafka.messages import records_of
from stream_ml.kafka.reading import end_of
from stream_ml.kafka.unpacking import Unpacking
from stream_ml.kafka.waiting import Waiting
from stream_ml.records import Records

END_GRACE_S = 0.5  # an end counts only after so long without a record: another topic's records may be fetched first
GROUP_S = 2.0  # for what the group says of its members
ANSWER_S = 4.0  # for the group to answer a join at the end: by default it waits 3 s for more members
ANSWER_LOOK_S = 0.1
KEEP_ALIVE_S = 0.5  # between two polls while something else takes long; the limit is max.poll.interval.ms

log = logging.getLogger("stream_ml.group")


class Ends:
    """Which partitions of one topic have been read to their end.

    The event that tells an end comes once. A record that was produced since may still be on its way while a later one
    of the other topic is already here, so an end counts only when nothing has come for END_GRACE_S. An end is also told
    where the first open transaction begins; it counts for none while there are records behind it.
    """

    def __init__(self, partitions: Iterable[int] = (), end_of: Callable[[int], int | None] = lambda _: None) -> None:
        self._since: dict[int, tuple[float, int] | None] = dict.fromkeys(partitions)
        self._end_of = end_of
        self._held: dict[int, float] = {}

    def note(self, partition: int, at: int | None) -> None:
        """A record was met (None), or what was told as the end of the partition, at this offset."""
        self._since[partition] = None if at is None else (time.monotonic(), at)
        self._held.pop(partition, None)

    def reached(self, partition: int) -> bool:
        """Whether the partition has been at its end for long enough."""
        told = self._since.get(partition)
        return told is not None and time.monotonic() - told[0] >= END_GRACE_S and not self._behind(partition, told[1])

    def all_reached(self) -> bool:
        """Whether every partition has."""
        return all(self.reached(partition) for partition in self._since)

    def held(self, partition: int) -> tuple[int, int, float] | None:
        """Where an open transaction holds a partition, the end behind it, and for how many seconds; None: it does not.

        Only as exact as it is asked often.
        """
        told = self._since.get(partition)
        if told is None or not self._behind(partition, told[1]):
            self._held.pop(partition, None)
            return None
        since_s = self._held.setdefault(partition, time.monotonic())
        return told[1], self._end_of(partition) or told[1], time.monotonic() - since_s

    def _behind(self, partition: int, at: int) -> bool:
        """Whether there are records behind what was told as the end."""
        end = self._end_of(partition)
        return end is not None and end > at


class Group:
    """Membership in the group, and the events of the partitions that are owned."""

    def __init__(self, config: Config, partitions: int) -> None:
        self._topic = config.events.topic
        self._consumer = member(config, partitions)
        self._unpacking = Unpacking(self._consumer)
        self.assigned: list[int] | None = None
        self._taken_up: list[int] = []
        self._joined = self._asked = False
        self.revoked = False
        self.metadata: Any = None
        self.ends = Ends()
        self._waiting = Waiting()
        self._came: dict[int, None] = {}  # partitions, since it was told last
        self._alive_s = 0.0

    def join(self) -> None:
        """Ask for partitions; they come in a later `take`.

        Asked again, the group gives them out anew: a static member that comes back is given what it had, and nobody
        then looks whether there are more by now.
        """
        if self._joined:
            self._consumer.unsubscribe()
        self._joined = self._asked = True
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        passes("on-assign")
        self._asked = False
        consumer.assign([])
        self.assigned = sorted(tp.partition for tp in partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        passes("on-revoke")
        self.revoked = True
        self.assigned = None
        consumer.unassign()

    def take_up_again(self) -> None:
        """Let the same partitions be taken up once more: there is more, or less, of what they need."""
        if self.assigned is None:
            self.assigned = list(self._taken_up)

    def moved(self) -> bool:
        """Whether the group has moved since `settle`: partitions came or went."""
        return self.revoked or self.assigned is not None

    def settle(self) -> list[int] | None:
        """Acknowledge the move: the partitions to take up, or None while the group has given none."""
        self.revoked = False
        self._waiting, self._came = Waiting(), {}
        assigned, self.assigned = self.assigned, None
        self._taken_up = assigned or []
        self.metadata = self._consumer.consumer_group_metadata() if assigned is not None else None
        return assigned

    def start(self, positions: dict[int, int]) -> None:
        """Read events of these partitions from these positions, and of no other; also to go back after an abort."""
        self._waiting, self._came = Waiting(), {}
        self.ends = Ends(positions, self.end)
        self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in positions.items()])
        self._unpacking.begin({(self._topic, p): offset for p, offset in positions.items()})

    def read(self, most: int, wait_s: float) -> dict[int, None]:
        """Read on, until as many events wait to be taken; of which partitions some came since it was asked last."""
        self._read(most, wait_s)
        came, self._came = self._came, {}
        return came

    def _read(self, most: int, wait_s: float) -> None:
        messages = self._unpacking.take(max(1, most - len(self._waiting)), wait_s)
        found, at_end = _sorted(messages, self._topic)
        for partition, own in found.items():
            self._waiting.add(partition, own)
            self._came[partition] = None
            self.ends.note(partition, None)
        for partition, at in at_end.items():
            if not self._waiting.of(partition):
                self.ends.note(partition, at)
            else:
                self._waiting.end(partition, at)

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
        self._read(len(self._waiting) + 1, 0)

    @property
    def settled(self) -> bool:
        """Whether an assignment was taken up and stands."""
        return self.metadata is not None and not self.moved()

    def end(self, partition: int) -> int | None:
        """End of the partition as its last fetch saw it, open transactions included; None before the first."""
        return end_of(self._consumer, self._topic, partition)

    def close(self) -> None:
        """Leave. A static member's place is kept for the session timeout.

        A consumer to which partitions are given while it is closed never returns, and the whole process with it: the
        client waits with the interpreter's lock held. So the answer to a join is awaited first.
        """
        until_s = time.monotonic() + ANSWER_S
        while self._asked and outage.seconds is None and time.monotonic() < until_s:
            with contextlib.suppress(KafkaException):
                self._unpacking.take(1, ANSWER_LOOK_S)
        let_go(self._consumer)


class FeedbackInput:
    """Feedback of the partitions that are owned; never a member of a group."""

    def __init__(self, config: Config, partitions: int) -> None:
        self._topic = config.feedback.topic
        self._consumer = reader(config, **fetching(config, partitions))
        self._unpacking = Unpacking(self._consumer)
        acquaint(self._consumer, [self._topic])
        self.ends = Ends()

    def start(self, positions: dict[int, int]) -> None:
        """Read feedback of these partitions from these positions, and of no other."""
        self.ends = Ends(positions, self.end)
        self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in positions.items()])
        self._unpacking.begin({(self._topic, p): offset for p, offset in positions.items()})

    def take(self, most: int, wait_s: float) -> dict[int, Records]:
        """Labels by partition, not yet decoded."""
        found, at_end = _sorted(self._unpacking.take(most, wait_s), self._topic)
        for partition in found:
            self.ends.note(partition, None)
        for partition, at in at_end.items():
            self.ends.note(partition, at)
        return {partition: records_of(self._topic, partition, own) for partition, own in found.items()}

    def end(self, partition: int) -> int | None:
        """End of the partition as its last fetch saw it, open transactions included; None before the first."""
        return end_of(self._consumer, self._topic, partition)

    def close(self) -> None:
        """Let go of the consumer."""
        let_go(self._consumer)


def _sorted(messages: Sequence[Message], topic: str) -> tuple[dict[int, Sequence[Message]], dict[int, int]]:
    """Messages by partition, and which partitions end behind them; what cannot go on is raised."""
    partitions = [message.partition() for message in messages if message.error() is None]
    if len(partitions) == len(messages) and len(set(partitions)) == 1:
        return {partitions[0]: messages}, {}
    found: dict[int, list[Message]] = {}
    at_end: dict[int, int] = {}
    for message in messages:
        error, partition = message.error(), message.partition()
        if error is None:
            found.setdefault(partition, []).append(message)
            at_end.pop(partition, None)
        elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
            _tell(topic, partition, error)
        else:
            at_end[partition] = message.offset()
    return dict(found), at_end


def _tell(topic: str, partition: int, error: KafkaError) -> None:
    if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
        raise FatalError(
            f"{topic} [{partition}]: the offset to read from is gone: {error.str()}",
            "its records were deleted before they were read; go on with: stream-ml offsets set",
        )
    if lasting(error) and not absent(error):  # what became of the topic is told by who watches it
        raise _lost(topic, error)
    log.warning("%s [%d]: %s", topic, partition, error.str())


def _lost(topic: str, error: KafkaError) -> FatalError:
    """What ended a consumer for good."""
    said = error.str().rpartition("Fatal consumer error: ")[2]
    if "fenced" in said.lower():
        return FatalError(
            f"{topic}: {said}",
            "another process runs with this worker.instance? give each its own: --set worker.instance=w2. "
            "After Kafka was away for longer than delivery.session_timeout it was this one: start it again",
        )
    return FatalError(f"{topic}: {said}", "is the topic still there, and may this user read it?")


def unowned(client: AdminClient, group: str, topic: str, partitions: int) -> list[int]:
    """Partitions of the topic that the group has given to no member; none while it is on its move or not there."""
    try:
        found = client.describe_consumer_groups([group], request_timeout=GROUP_S)[group].result()
    except KafkaException:
        return []
    if found.state != ConsumerGroupState.STABLE:
        return []
    given = {tp.partition for member in found.members for tp in member.assignment.topic_partitions if tp.topic == topic}
    return sorted(set(range(partitions)) - given)
