"""Reads that must be complete: a range of one partition, as committed, to an end that is really the end."""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping

from confluent_kafka import KafkaError, Message, TopicPartition

from stream_ml.config import Config
from stream_ml.errors import TransientError
from stream_ml.kafka.clients import close_within, prefetch_metadata, reader
from stream_ml.kafka.errors import ended_by, lasting
from stream_ml.kafka.messages import record_of
from stream_ml.kafka.reading.unpacking import Unpacking
from stream_ml.records import Record

log = logging.getLogger(__name__)

Where = tuple[str, int]
Ranges = Mapping[Where, tuple[int, int]]  # first offset and exclusive stop: a position or a read_uncommitted end
_BATCH = 5_000
_WAIT_S = 0.5  # a longer call would hold a signal back
STALL_MAX_S = 60.0  # without a record or an end; an open transaction of a dead worker takes 10 s at most


def read_range(
    config: Config, topic: str, partition: int, start: int, stop: int, *, keep_alive: Callable[[], None]
) -> Iterator[list[Record]]:
    """Committed records with `start <= offset < stop`, in batches; parameters and errors as of `read_messages`."""
    for batch in read_messages(config, topic, partition, start, stop, keep_alive=keep_alive):
        yield [record_of(message) for message in batch]


def read_messages(
    config: Config, topic: str, partition: int, start: int, stop: int, *, keep_alive: Callable[[], None]
) -> Iterator[list[Message]]:
    """Messages of a range as the client gives them, for who wants little of each.

    Parameters
    ----------
    stop
        Exclusive; a position or a read_uncommitted end.
    keep_alive
        Called between batches, so that a member of the group stays one.

    Raises
    ------
    TransientError
        Nothing came for STALL_MAX_S; a supervisor tries again.
    """
    return read_ranges(config, {(topic, partition): (start, stop)}, keep_alive=keep_alive)


def read_ranges(config: Config, ranges: Ranges, *, keep_alive: Callable[[], None]) -> Iterator[list[Message]]:
    """Messages of ranges of many partitions at once; each partition's come in its order."""
    if all(start >= stop for start, stop in ranges.values()):
        return  # without a consumer for nothing
    with contextlib.closing(RangeReader(config, keep_alive)) as reading:
        yield from filter(None, reading.messages(ranges))


class RangeReader:
    """Reads ranges of many partitions at once with one consumer: each read of its own would wait for a fetch, 0.1 s."""

    def __init__(self, config: Config, keep_alive: Callable[[], None]) -> None:
        self._config, self._consumer = config, reader(config)
        self._unpacking = Unpacking(self._consumer)
        self._known: set[str] = set()
        self._keep_alive = keep_alive
        self._reads = False

    def messages(self, ranges: Ranges) -> Iterator[list[Message]]:
        """The records of all ranges, in batches, some of them empty; each partition's in its order.

        Errors as of `read_messages`.
        """
        left = {where: stop for where, (start, stop) in ranges.items() if start < stop}
        if not left:
            return
        unknown = {topic for topic, _ in left} - self._known
        prefetch_metadata(self._consumer, unknown)
        self._known |= unknown
        self._consumer.assign([TopicPartition(*where, ranges[where][0]) for where in left])
        self._unpacking.begin({where: ranges[where][0] for where in left})
        self._reads = True
        try:
            yield from self._until(left)
        finally:
            self._reads = False
            self._consumer.unassign()

    def _until(self, left: dict[Where, int]) -> Iterator[list[Message]]:
        """Read until every partition has come to its stop; `left` holds those that have not."""
        heard = time.monotonic()
        while left:
            self._keep_alive()
            taken = self._unpacking.take(_BATCH, _WAIT_S)
            found = [message for own in _runs(taken) for message in self._wanted_of(own, left)]
            yield found
            if found:
                heard = time.monotonic()  # what was done between two pieces is no silence
            elif left and time.monotonic() - heard > STALL_MAX_S:
                where, stop = next(iter(left.items()))
                raise TransientError(
                    f"{where[0]} [{where[1]}] gave nothing for {STALL_MAX_S:.0f} s before offset {stop}",
                    "a transaction that nobody ends may hold it: kafka-transactions.sh find-hanging",
                )

    def _wanted_of(self, messages: list[Message], left: dict[Where, int]) -> list[Message]:
        """Those of a run of one partition's that are records of a range: all, where its end is further away."""
        if all(message.error() is None for message in messages):
            last = messages[-1]
            if last.offset() + 1 < left.get((last.topic(), last.partition()), 0):
                return messages
        return [message for message in messages if self._wanted(message, left)]

    def _wanted(self, message: Message, left: dict[Where, int]) -> bool:
        """Whether it is a record of a range; the end of a range is noted."""
        where, error = (message.topic(), message.partition()), message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
            if lasting(error):
                raise ended_by(self._config, f"{where[0]} [{where[1]}]", error)
            log.warning("%s [%s]: %s", *where, error.str())
            return False
        if where not in left:
            return False  # read beyond the end of its range
        wanted = error is None and message.offset() < left[where]
        if message.offset() + wanted >= left[where]:
            del left[where]
            if left:
                self._consumer.incremental_unassign([TopicPartition(*where)])
        return wanted

    def serve(self) -> None:
        """Take what the client has to say while it is idle: errors pile up while Kafka is away."""
        while not self._reads and self._consumer.poll(0) is not None:
            pass

    def close(self) -> None:
        """Let go of the consumer."""
        close_within(self._consumer)


def _runs(messages: list[Message]) -> Iterator[list[Message]]:
    """Messages that stand one after another and are of one partition."""
    for _, run in itertools.groupby(messages, lambda message: (message.partition(), message.topic())):
        yield list(run)
