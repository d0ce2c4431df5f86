"""Consumed messages as values. What is too large to be of use is not kept: a dead letter says how large it was."""

import hashlib
import operator
from collections.abc import Iterable, Sequence

from confluent_kafka import Message

from stream_ml.records import KEY_CUT, TOO_LARGE, UNREADABLE_HEADERS, VALUE_BYTES, VALUE_CUT, Headers, Record, Records

LARGEST = 16_000_000  # bytes of a value or key: a packed batch of 1 MB may hold a thousand times as much


def record_of(message: Message) -> Record:
    """A consumed message as a value."""
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        headers_of(message),
    )


def records_of(topic: str, partition: int, messages: Sequence[Message]) -> Records:
    """Consumed messages of one partition as columns."""
    found = Records(
        topic,
        partition,
        [message.offset() for message in messages],
        [message.timestamp()[1] for message in messages],
        [message.key() for message in messages],
        [message.value() for message in messages],
        {row: headers for row, message in enumerate(messages) if (headers := headers_of(message))},
    )
    if max(map(len, filter(None, [*found.values, *found.keys])), default=0) > LARGEST:
        for row in range(len(found)):
            _cut(found, row)
    return found


def headers_of(message: Message) -> Headers:
    """The headers of a message; where the client cannot give them, for a name that is no UTF-8, one that says so.

    Source: confluent-kafka returns with an exception set. A call that Python has specialised does not look for one, and
    it comes up anywhere later; `methodcaller` looks, and raises SystemError (tried).
    """
    try:
        return _asked(message) or ()
    except (SystemError, UnicodeDecodeError):
        return [(UNREADABLE_HEADERS, b"")]


_asked = operator.methodcaller("headers")


def _cut(records: Records, row: int) -> None:
    """Leave out what is too large of one of them, and say so in its headers."""
    key, value = records.keys[row], records.values[row]
    said: list[tuple[str, bytes]] = []
    if value is not None and len(value) > LARGEST:
        said += [(VALUE_CUT, hashlib.sha256(value).hexdigest().encode()), (VALUE_BYTES, str(len(value)).encode())]
        records.values[row] = None
    if key is not None and len(key) > LARGEST:
        said.append((KEY_CUT, str(len(key)).encode()))
        records.keys[row] = None
    if said:
        records.values[row] = None
        records.headers[row] = [*records.headers.get(row, ()), *said, (TOO_LARGE, b"")]


def by_partition(messages: Iterable[Message]) -> list[Records]:
    """Consumed messages of several partitions as columns of each."""
    found: dict[tuple[str, int], list[Message]] = {}
    for message in messages:
        found.setdefault((message.topic(), message.partition()), []).append(message)
    return [records_of(*where, own) for where, own in found.items()]
