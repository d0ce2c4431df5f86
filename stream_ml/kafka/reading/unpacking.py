"""Records whose batch the client cannot unpack: legal for the broker, a few kilobytes there, and the end of a partition
for a consumer, which gives the same error at the same offset for ever.

The error names the first offset of the batch, wherever in it the consumer stands, and nothing says which is its last.
So it is looked for by steps that grow: where the same error comes again, everything up to there was in the batch;
where something else comes, the step was too long. An offset is gone past only after it has failed twice.
Source: librdkafka's rdkafka_msgset_reader.c (what is unpacked is bounded for zstd by receive.message.max.bytes); tried.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from stream_ml.kafka.clients import take
from stream_ml.records import NOT_UNPACKED

STEP_MAX = 4_096  # offsets of a batch that are gone past at once

Where = tuple[str, int]

log = logging.getLogger(__name__)


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


class Probe(NamedTuple):
    """The search for the last offset of the batch that begins at `base`: all from `low` to before `low + step`?"""

    base: int
    low: int
    step: int
    beyond: int  # an offset that is known to be behind the batch, or the end of the partition

    @property
    def at(self) -> int:
        """Where it stands."""
        return self.low + self.step

    def further(self) -> "Probe":
        """The next one, where the batch goes on at `at`: twice as far, or half of what is left."""
        step = min(2 * self.step, STEP_MAX, max(1, (self.beyond - self.at) // 2))
        return self._replace(low=self.at, step=step)

    def nearer(self) -> "Probe":
        """The next one, where the batch has ended before `at`."""
        return self._replace(step=self.step // 2, beyond=self.at)


class Unpacking:
    """Takes what one consumer has, and goes past what cannot be unpacked."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._next: dict[Where, int] = {}
        self._failed: dict[Where, int] = {}  # the offset that did
        self._probes: dict[Where, Probe] = {}

    def begin(self, positions: Mapping[Where, int]) -> None:
        """The consumer was assigned these too, or anew."""
        self.end(positions)
        self._next |= positions

    def end(self, partitions: Iterable[Where]) -> None:
        """The consumer reads these no longer."""
        for where in partitions:
            for known in (self._next, self._failed, self._probes):
                known.pop(where, None)

    def take(self, most: int, wait_s: float) -> list[Message]:
        """As `clients.take`; a record that cannot be unpacked is an `Unreadable`."""
        messages = take(self._consumer, most, wait_s)
        if not self._probes and not any(_is_packed(message) for message in messages):
            return messages
        found: list[Any] = []
        moved: set[Where] = set()  # what else came of these is behind the place to which they were sent back
        for message in messages:
            where = (message.topic(), message.partition())
            if where in moved:
                continue
            if _is_packed(message):
                moved.add(where)
                found += self._packed(where, message.offset())
            elif where not in self._probes:
                found.append(message)
            elif self._probes[where].step > 1:
                moved.add(where)
                self._probe(where, self._probes[where].nearer())
            else:
                found += [*self._passed(where, self._probes.pop(where)), message]
        return found

    def _packed(self, where: Where, base: int) -> list[Unreadable]:
        """A batch cannot be unpacked at the place where the consumer stands: what is known to be gone past by that."""
        probe = self._probes.get(where)
        if probe is not None and probe.base == base:
            passed = self._passed(where, probe)
            self._probe(where, probe.further())
            return passed
        if probe is not None and probe.step > 1:  # the next batch is like it
            self._probe(where, probe.nearer())
            return []
        passed = self._passed(where, self._probes.pop(where)) if probe is not None else []
        offset = max(base, self._position(where))  # between them stand markers of transactions
        if self._failed.get(where) == offset:
            log.error(
                "%s [%d] %d and what else is in its batch cannot be unpacked, and is gone past",
                *(*where, offset),
                extra=dict(zip(("topic", "partition", "offset"), (*where, offset), strict=True)),
            )
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*where), cached=True)
            self._probe(where, Probe(base, offset, 1, max(end, offset + 1)))
        self._failed[where] = offset
        return passed

    def _probe(self, where: Where, probe: Probe) -> None:
        self._probes[where] = probe
        self._consumer.seek(TopicPartition(*where, probe.at))

    def _passed(self, where: Where, probe: Probe) -> list[Unreadable]:
        self._next[where] = probe.at
        return [Unreadable(*where, offset) for offset in range(probe.low, probe.at)]

    def _position(self, where: Where) -> int:
        """The offset that is to come: after the last one that was handed out."""
        (position,) = self._consumer.position([TopicPartition(*where)])
        return max(int(position.offset), self._next.get(where, 0))


def _is_packed(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() in _PACKED


_PACKED = {KafkaError._BAD_COMPRESSION}  # noqa: SLF001 - confluent-kafka's public constants
