"""Records whose batch the client cannot unpack: legal for the broker, a few kilobytes there, and the end of a partition
for a consumer, which gives the same error at the same offset for ever.

The error names the first offset of the batch, wherever in it the consumer stands. So one offset is gone past at a time,
and only after it has failed twice: what is behind the batch is then read again.
Source: librdkafka's rdkafka_msgset_reader.c (a batch is unpacked up to receive.message.max.bytes); tried.
"""

import logging
import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from stream_ml.kafka.clients import take
from stream_ml.records import NOT_UNPACKED

TRIES = 2  # of an offset: one bad answer may have been damaged on its way

Where = tuple[str, int]

log = logging.getLogger("stream_ml.kafka")


class Unreadable:
    """Takes the place of the message at an offset that cannot be read: no key, no value, a header that says so."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        self._where = (topic, partition, offset)

    def topic(self) -> str:
        """Its topic."""
        return self._where[0]

    def partition(self) -> int:
        """Its partition."""
        return self._where[1]

    def offset(self) -> int:
        """Its offset."""
        return self._where[2]

    def error(self) -> None:
        """None: it is a record."""

    def key(self) -> None:
        """None: nobody knows."""

    value = key

    def timestamp(self) -> tuple[int, int]:
        """As if it had just come: nobody knows when it did."""
        return 1, time.time_ns() // 1_000_000

    def headers(self) -> list[tuple[str, bytes]]:
        """What tells it from a tombstone."""
        return [(NOT_UNPACKED, b"")]


class Unpacking:
    """Takes what one consumer has, and goes past what cannot be unpacked."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._next: dict[Where, int] = {}
        self._failed: dict[Where, tuple[int, int]] = {}  # offset, and how often
        self._told: dict[Where, int] = {}

    def begin(self, positions: Mapping[Where, int]) -> None:
        """The consumer was assigned these."""
        self._next = dict(positions)
        self._failed = {}

    def take(self, most: int, wait_s: float) -> list[Message]:
        """As `clients.take`; a record that cannot be unpacked is an `Unreadable`."""
        messages = take(self._consumer, most, wait_s)
        if not any(_is_packed(message) for message in messages):
            return messages
        found = [self._past(message) if _is_packed(message) else message for message in messages]
        return [message for message in found if message is not None]

    def _past(self, message: Message) -> Unreadable | None:
        where = (message.topic(), message.partition())
        offset = self._position(where)
        failed = self._failed.get(where, (offset, 0))
        times = failed[1] + 1 if failed[0] == offset else 1
        in_same_batch = self._told.get(where) == message.offset()
        self._failed[where] = (offset, times)
        if times < TRIES and not in_same_batch:
            return None
        log.error(
            "%s [%d] %d cannot be unpacked, and is gone past",
            *(*where, offset),
            extra=dict(zip(("topic", "partition", "offset"), (*where, offset), strict=True)),
        )
        self._told[where], self._next[where] = message.offset(), offset + 1
        self._consumer.seek(TopicPartition(*where, offset + 1))
        return Unreadable(*where, offset)

    def _position(self, where: Where) -> int:
        """The offset that is to come: after the last one that was handed out."""
        (position,) = self._consumer.position([TopicPartition(*where)])
        return max(int(position.offset), self._next.get(where, 0))


def _is_packed(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() in _PACKED


_PACKED = {KafkaError._BAD_COMPRESSION}  # noqa: SLF001 - confluent-kafka's public constants
