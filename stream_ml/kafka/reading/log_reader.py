"""The training log as the fold reads it: what is not sealed, or cannot be unpacked, says so."""

import logging
import time

from confluent_kafka import KafkaError, Message, TopicPartition

from stream_ml.config import Config
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import FatalError
from stream_ml.kafka.clients import close_within, prefetch_metadata, reader
from stream_ml.kafka.errors import absent, ended_by, lasting
from stream_ml.kafka.messages import LARGEST, headers_of
from stream_ml.kafka.reading.ends import end_of
from stream_ml.kafka.reading.unpacking import Unpacking, Unreadable
from stream_ml.records import NOT_SEALED, NOT_UNPACKED, TOO_LARGE, Headers, LogRecord, Record

log = logging.getLogger(__name__)


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
        prefetch_metadata(self._consumer, [self._topic])
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
        close_within(self._consumer)
