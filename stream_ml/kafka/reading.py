"""Reads that must be complete: a range of one partition, as committed, to an end that is really the end."""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from weakref import WeakKeyDictionary

from confluent_kafka import Consumer, IsolationLevel, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from stream_ml.config import Config
from stream_ml.core.seals import LogSeal
from stream_ml.errors import FatalError, TransientError
from stream_ml.kafka.clients import TIMEOUT_S, absent, acquaint, ended_by, lasting, let_go, reader
from stream_ml.kafka.messages import LARGEST, headers_of, record_of
from stream_ml.kafka.retries import asked
from stream_ml.kafka.unpacking import Unpacking, Unreadable
from stream_ml.records import NOT_SEALED, NOT_UNPACKED, TOO_LARGE, Headers, LogRecord, Record

Where = tuple[str, int]
Ranges = Mapping[Where, tuple[int, int]]  # first offset and exclusive stop: a position or a read_uncommitted end

_BATCH = 5_000
_WAIT_S = 0.5  # a longer call would hold a signal back
STALL_MAX_S = 60.0  # without a record or an end; an open transaction of a dead worker takes 10 s at most

log = logging.getLogger("stream_ml.kafka")


def ends(
    client: AdminClient, partitions: list[tuple[str, int]], patience_s: float = TIMEOUT_S
) -> dict[tuple[str, int], tuple[int, int]]:
    """First offset and read_uncommitted end of each partition.

    The end counts transaction markers and open transactions: a reader is done when it meets an end-of-partition event
    at or past it, which the last record's offset plus one may never reach.

    Parameters
    ----------
    patience_s
        How long to ask again while a leader is on its move; after it the KafkaException is raised.
    """
    wanted = [TopicPartition(topic, partition) for topic, partition in partitions]
    _learn_leaders(client, {topic for topic, _ in partitions})

    def answer(spec: OffsetSpec) -> dict[TopicPartition, int]:
        futures = client.list_offsets(
            dict.fromkeys(wanted, spec),
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=TIMEOUT_S,
        )
        return {tp: future.result().offset for tp, future in futures.items()}

    def anew() -> None:
        _LEADERS.pop(client, None)  # else it asks with the leader's old epoch for ever
        _learn_leaders(client, {topic for topic, _ in partitions})

    found = [
        asked(partial(answer, spec), patience_s, made=True, between=anew)
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
    ]
    return {(tp.topic, tp.partition): (found[0][tp], found[1][tp]) for tp in wanted}


def _learn_leaders(client: AdminClient, topics: set[str]) -> None:
    """Let the client know who leads these topics: of those that learn it on the way 4 in 100 wait 3 s for it."""
    known = _LEADERS.setdefault(client, set())
    for topic in topics - known:
        client.list_topics(topic, timeout=TIMEOUT_S)
    known |= topics


_LEADERS: WeakKeyDictionary[AdminClient, set[str]] = WeakKeyDictionary()


def read_range(
    config: Config, topic: str, partition: int, start: int, stop: int, *, keep_alive: Callable[[], None]
) -> Iterator[list[Record]]:
    """Committed records with `start <= offset < stop`, in batches; parameters and errors as of `read_messages`."""
    for batch in read_messages(config, topic, partition, start, stop, keep_alive=keep_alive):
        yield [record_of(message) for message in batch]


def read_messages(
    config: Config, topic: str, partition: int, start: int, stop: int, *, keep_alive: Callable[[], None]
) -> Iterator[list[Message]]:
    """The same as the client gives them, for who wants little of each.

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
    """The same for ranges of many partitions at once; each partition's messages come in its order."""
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
        acquaint(self._consumer, unknown)
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
        let_go(self._consumer)


def _runs(messages: list[Message]) -> Iterator[list[Message]]:
    """Messages that stand one after another and are of one partition."""
    for _, run in itertools.groupby(messages, lambda message: (message.partition(), message.topic())):
        yield list(run)


def end_of(consumer: Consumer, topic: str, partition: int) -> int | None:
    """End of a partition as the last fetch saw it, open transactions included; None before the first.

    No request is made: librdkafka keeps what the fetch said.
    """
    found = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
    return found[1] if found is not None and found[1] >= 0 else None


def _value_of(message: Message, seal: LogSeal | None) -> bytes:
    """A record's value as the fold is given it; of one that is not to be believed what tells it from others."""
    if isinstance(message, Unreadable):
        return NOT_UNPACKED.encode()
    headers = () if seal is None else headers_of(message)
    return _believed(message.offset(), message.value() or b"", headers, seal)


def log_value(record: Record, seal: LogSeal | None) -> bytes:
    """What the fold is given of a record of the training log, as a `LogReader` gives it."""
    if record.value is None and any(name == NOT_UNPACKED for name, _ in record.headers):
        return NOT_UNPACKED.encode()
    return _believed(record.offset, record.value or b"", record.headers, seal)


def _believed(offset: int, value: bytes, headers: Headers, seal: LogSeal | None) -> bytes:
    if len(value) > LARGEST:
        return TOO_LARGE.encode()
    if seal is not None and not seal.holds(offset, value, headers):
        return NOT_SEALED.encode()
    return value


def is_sealed(record: Record, seal: LogSeal | None) -> bool:
    """Whether an entry of the training log is to be believed."""
    return seal is None or seal.holds(record.offset, record.value or b"", record.headers)


class LogReader:
    """The training log from a position of the reader's own; never a member of a group."""

    def __init__(self, config: Config, position: int, seal: LogSeal | None) -> None:
        self._config, self._seal = config, seal
        self._topic = config.training_log_topic
        self._consumer = reader(config)
        self._unpacking = Unpacking(self._consumer)
        acquaint(self._consumer, [self._topic])
        self.position = position
        self.end_seen = -1
        self._held_since_s: float | None = None
        self.seek(position)

    def seek(self, position: int) -> None:
        """Go on from this offset."""
        self.position, self.end_seen = position, -1
        self._consumer.assign([TopicPartition(self._topic, 0, position)])
        self._unpacking.begin({(self._topic, 0): position})

    @property
    def at_end(self) -> bool:
        """Whether everything has been taken, and no open transaction hides more."""
        return self.end_seen >= self.position and self.held_s is None

    @property
    def held_s(self) -> float | None:
        """For how many seconds an open transaction has held back what lies at `end_seen`; None where none does."""
        end = end_of(self._consumer, self._topic, 0)
        if self.end_seen < self.position or end is None or end <= self.end_seen:
            self._held_since_s = None
            return None
        self._held_since_s = self._held_since_s or time.monotonic()
        return time.monotonic() - self._held_since_s

    def take(self, most: int, wait_s: float) -> list[LogRecord]:
        """Committed records from `position` on, at most so many; empty when none comes in time."""
        messages = self._unpacking.take(most, wait_s)
        records = [message for message in messages if message.error() is None]
        if len(records) < len(messages):
            for message in messages:
                self._note(message)
        found = [LogRecord(record.offset(), _value_of(record, self._seal)) for record in records]
        if found:
            self.position = found[-1].offset + 1
        return found

    def _note(self, message: Message) -> None:
        """The end of the log, or what is wrong."""
        error = message.error()
        if error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self.end_seen = message.offset()
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            raise FatalError(f"{self._topic} no longer holds offset {self.position}: {error.str()}")
        elif lasting(error) and not absent(error):
            raise ended_by(self._config, self._topic, error)
        else:
            log.warning("%s: %s", self._topic, error.str())

    def close(self) -> None:
        """Let go of the consumer."""
        let_go(self._consumer)
