"""The partitions of one topic that a consumer reads, each from a place of its own; they come and go one by one."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from stream_ml.errors import FatalError
from stream_ml.kafka.errors import absent, lasting
from stream_ml.kafka.reading.ends import end_of
from stream_ml.kafka.reading.unpacking import Unpacking

END_GRACE_S = 0.5  # an end counts only after so long without a record: another topic's records may be fetched first

log = logging.getLogger(__name__)


class Ends:
    """Which partitions of one topic have been read to their end.

    The event that tells an end comes once. A record that was produced since may still be on its way while a later one
    of the other topic is already here, so an end counts only when nothing has come for END_GRACE_S. An end is also told
    where the first open transaction begins; it counts for none while there are records behind it.
    """

    def __init__(self, end_of: Callable[[int], int | None] = lambda _: None) -> None:
        self._since: dict[int, tuple[float, int] | None] = {}
        self._end_of = end_of
        self._held: dict[int, float] = {}

    def begin(self, partitions: Iterable[int]) -> None:
        """These are read from a place at which they have not ended."""
        for partition in partitions:
            self.note(partition, None)

    def forget(self, partitions: Iterable[int]) -> None:
        """These are not read any more."""
        for partition in partitions:
            self._since.pop(partition, None)
            self._held.pop(partition, None)

    def note(self, partition: int, at: int | None) -> None:
        """A record was met (None), or what was reported as the end of the partition, at this offset."""
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
        """Whether there are records behind what was reported as the end."""
        end = self._end_of(partition)
        return end is not None and end > at


class Assigned:
    """What one consumer reads of one topic.

    Partitions are added and taken away one by one: the others are read on, and what was fetched of them stays.
    """

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer, self._topic = consumer, topic
        self._unpacking = Unpacking(consumer)
        self._read: set[int] = set()
        self.ends = Ends(self.end)

    def start(self, positions: Mapping[int, int]) -> None:
        """Read these partitions too, from these positions; one that is read already goes back, or on, to its own."""
        if not positions:
            return
        self.stop(positions)
        self._consumer.incremental_assign([TopicPartition(self._topic, p, offset) for p, offset in positions.items()])
        self._unpacking.begin({(self._topic, p): offset for p, offset in positions.items()})
        self._read |= positions.keys()
        self.ends.begin(positions)

    def stop(self, partitions: Iterable[int]) -> None:
        """Read these partitions no longer."""
        gone = self._read.intersection(partitions)
        if not gone:
            return
        self._consumer.incremental_unassign([TopicPartition(self._topic, p) for p in sorted(gone)])
        self._read -= gone
        self._unpacking.end({(self._topic, p) for p in gone})
        self.ends.forget(gone)

    def take(self, most: int, wait_s: float) -> tuple[dict[int, Sequence[Message]], dict[int, int]]:
        """Messages by partition, and which partitions end behind them; what cannot go on is raised.

        Parameters
        ----------
        most
            So many at most.
        wait_s
            For the first of them, in seconds.

        Raises
        ------
        FatalError
            What is to be read is gone, or must not be read.
        """
        return _sorted(self._unpacking.take(most, wait_s), self._topic)

    def end(self, partition: int) -> int | None:
        """End of the partition as its last fetch saw it, open transactions included; None before the first."""
        return end_of(self._consumer, self._topic, partition)


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
            tell(topic, partition, error)
        else:
            at_end[partition] = message.offset()
    return dict(found), at_end


def tell(topic: str, partition: int | None, error: KafkaError) -> None:
    """Log an error that the client mends by itself; raise one that stays, as a FatalError."""
    if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
        raise FatalError(
            f"{topic} [{partition}]: the offset to read from is gone: {error.str()}",
            "its records were deleted before they were read; go on with: stream-ml offsets set",
        )
    if lasting(error) and not absent(error):  # what became of the topic is told by who watches it
        raise _lost(topic, error)
    log.warning("%s: %s", topic if partition is None else f"{topic} [{partition}]", error.str())


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
