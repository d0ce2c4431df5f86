"""Events as a member of the group, feedback beside it, so that a pair of partitions stays in one process.

1. Only events are subscribed to; feedback p is assigned by hand wherever events p went. The assignor is range.
2. Callbacks record and unassign, nothing else: they neither work nor raise, because an exception in one makes
   consume() drop what it had already taken.
3. The group metadata is captured when an assignment is taken up: a commit with it is refused once the group has moved.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from stream_ml.config import Config
from stream_ml.errors import FatalError
from stream_ml.failpoints import passes
from stream_ml.kafka.clients import acquaint, lasting, let_go, member, reader, records_of, take
from stream_ml.records import Records

END_GRACE_S = 0.5  # an end counts only after so long without a record: another topic's records may be fetched first
KEEP_ALIVE_S = 0.5  # between two polls while something else takes long; the limit is max.poll.interval.ms

log = logging.getLogger("stream_ml.group")


class Ends:
    """Which partitions of one topic have been read to their end.

    The event that tells an end comes once. A record that was produced since may still be on its way while a later one
    of the other topic is already here, so an end counts only when nothing has come for END_GRACE_S.
    """

    def __init__(self, partitions: Iterable[int] = ()) -> None:
        self._since: dict[int, float | None] = dict.fromkeys(partitions)

    def note(self, partition: int, at_end: bool) -> None:
        """A record, or the end of the partition, was met."""
        self._since[partition] = time.monotonic() if at_end else None

    def reached(self, partition: int) -> bool:
        """Whether the partition has been at its end for long enough."""
        since = self._since.get(partition)
        return since is not None and time.monotonic() - since >= END_GRACE_S

    def all_reached(self) -> bool:
        """Whether every partition has."""
        return all(self.reached(partition) for partition in self._since)


class Group:
    """Membership in the group, and the events of the partitions that are owned."""

    def __init__(self, config: Config) -> None:
        self._topic = config.events.topic
        self._consumer = member(config)
        self.assigned: list[int] | None = None
        self.revoked = False
        self.metadata: Any = None
        self.ends = Ends()
        self._stash: list[Message] = []
        self._alive_s = 0.0

    def join(self) -> None:
        """Ask for partitions; they come in a later `take`."""
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        passes("on-assign")
        consumer.assign([])
        self.assigned = sorted(tp.partition for tp in partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        passes("on-revoke")
        self.revoked = True
        self.assigned = None
        consumer.unassign()

    def moved(self) -> bool:
        """Whether the group has moved since `settle`: partitions came or went."""
        return self.revoked or self.assigned is not None

    def settle(self) -> list[int] | None:
        """Acknowledge the move: the partitions to take up, or None while the group has given none."""
        self.revoked = False
        stash, self._stash = self._stash, []
        _sorted(stash, self.ends, self._topic)  # only for the errors in it
        assigned, self.assigned = self.assigned, None
        self.metadata = self._consumer.consumer_group_metadata() if assigned is not None else None
        return assigned

    def start(self, positions: dict[int, int]) -> None:
        """Read events of these partitions from these positions, and of no other; also to go back after an abort."""
        self._stash = []
        self.ends = Ends(positions)
        self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in positions.items()])

    def take(self, most: int, wait_s: float) -> dict[int, Records]:
        """Events by partition."""
        stash, self._stash = self._stash, []
        messages = [*stash, *take(self._consumer, most, 0 if stash else wait_s)]
        return _sorted(messages, self.ends, self._topic)

    def keep_alive(self) -> None:
        """Stay a member while something else takes long; what comes is kept for the next `take`."""
        if time.monotonic() - self._alive_s < KEEP_ALIVE_S:
            return
        self._alive_s = time.monotonic()
        message = self._consumer.poll(0)
        if message is not None:
            self._stash.append(message)

    @property
    def settled(self) -> bool:
        """Whether an assignment was taken up and stands."""
        return self.metadata is not None and not self.moved()

    def end(self, partition: int) -> int | None:
        """End of the partition as its last fetch saw it; None before the first."""
        return _end(self._consumer, self._topic, partition)

    def close(self) -> None:
        """Leave. A static member's place is kept for the session timeout."""
        let_go(self._consumer)


class FeedbackInput:
    """Feedback of the partitions that are owned; never a member of a group."""

    def __init__(self, config: Config) -> None:
        self._topic = config.feedback.topic
        self._consumer = reader(config)
        acquaint(self._consumer, [self._topic])
        self.ends = Ends()

    def start(self, positions: dict[int, int]) -> None:
        """Read feedback of these partitions from these positions, and of no other."""
        self.ends = Ends(positions)
        self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in positions.items()])

    def take(self, most: int, wait_s: float) -> dict[int, Records]:
        """Labels by partition, not yet decoded."""
        return _sorted(take(self._consumer, most, wait_s), self.ends, self._topic)

    def end(self, partition: int) -> int | None:
        """End of the partition as its last fetch saw it; None before the first."""
        return _end(self._consumer, self._topic, partition)

    def close(self) -> None:
        """Let go of the consumer."""
        let_go(self._consumer)


def _end(consumer: Consumer, topic: str, partition: int) -> int | None:
    """No request is made: librdkafka keeps what the last fetch said."""
    found = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
    return found[1] if found is not None and found[1] >= 0 else None


def _sorted(messages: Sequence[Message], ends: Ends, topic: str) -> dict[int, Records]:
    """Records by partition; ends are noted, and what cannot go on is raised."""
    partitions = [message.partition() for message in messages if message.error() is None]
    if len(partitions) == len(messages) and len(set(partitions)) == 1:
        ends.note(partitions[0], at_end=False)
        return {partitions[0]: records_of(topic, partitions[0], messages)}
    found: dict[int, list[Message]] = {}
    at_end: dict[int, bool] = {}
    for message in messages:
        error, partition = message.error(), message.partition()
        if error is None:
            found.setdefault(partition, []).append(message)
        elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
            _tell(topic, partition, error)
            continue
        at_end[partition] = error is not None
    for partition, is_at_end in at_end.items():
        ends.note(partition, at_end=is_at_end)
    return {partition: records_of(topic, partition, own) for partition, own in found.items()}


def _tell(topic: str, partition: int, error: KafkaError) -> None:
    if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
        raise FatalError(
            f"{topic} [{partition}]: the offset to read from is gone: {error.str()}",
            "its records were deleted before they were read; go on with: stream-ml offsets set",
        )
    if lasting(error):
        raise _lost(topic, error)
    log.warning("%s: %s", topic, error.str())


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
