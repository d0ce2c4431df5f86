"""Records out of JSON lines into a topic, for trials and for those who have no producer of their own yet."""

import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from stream_ml.config import Config
from stream_ml.core.avro.json_text import read_json
from stream_ml.core.inputs.rows import RowEncoder
from stream_ml.errors import ConfigError, FatalError, TransientError
from stream_ml.kafka.clients import common, made
from stream_ml.kafka.errors import reaching
from stream_ml.records import Produce

FLUSH_S = 30.0


class Written(NamedTuple):
    """A record as it is to be written; `timestamp_ms` None: now."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int | None = None


class Line(NamedTuple):
    """A line of a file: its number, from 1, and its text."""

    number: int
    text: str


def encoded(rows: RowEncoder, line: Line) -> tuple[bytes, bytes]:
    """Key and value of the record that a line of JSON describes; the key is the id of the event.

    Raises
    ------
    ConfigError
        It is no JSON, or not of the schema; the message names line and field.
    """
    return encoded_at(rows, line)[:2]


def encoded_at(rows: RowEncoder, line: Line) -> tuple[bytes, bytes, int | None]:
    """Key, value and Kafka's timestamp in milliseconds, of a line that `tail --json` has shown; None: now."""
    try:
        row = read_json(line.text)
        return *rows.encode(row), rows.timestamp_ms(row)
    except ValueError as error:
        raise ConfigError(f"line {line.number}: {error}") from None


Timed = tuple[int, Written]
"""Milliseconds of event time, and the record; 0 where it has none."""


def by_time(events: Iterable[Timed], labels: Iterable[Timed]) -> Iterator[Written]:
    """Both in one stream, so that a label comes when the events have come as far as its time.

    Each keeps its own order; a record that is dated earlier than one before it counts as dated like that.
    """
    return (record for _, record in heapq.merge(_rising(events), _rising(labels), key=itemgetter(0)))


def _rising(records: Iterable[Timed]) -> Iterator[Timed]:
    latest_ms = 0
    for time_ms, record in records:
        latest_ms = max(latest_ms, time_ms)
        yield latest_ms, record


def produce(config: Config, topics: str, records: Iterable[Written], per_s: float | None) -> int:
    """Write records and see that they have arrived; how many. `topics` is what an error says of where to.

    Parameters
    ----------
    per_s
        So many records a second at most; None: as fast as it goes.
    """
    failed: list[KafkaError] = []
    confirmed = 0

    def delivered(error: KafkaError | None, message: Message) -> None:
        nonlocal confirmed
        if error is not None:
            failed.append(error)
        confirmed += error is None

    producer = made(
        Producer, {**common(config), "enable.idempotence": True, "linger.ms": 5, **config.client_properties("producer")}
    )
    began_s, broken = time.monotonic(), None
    with reaching(config):
        try:
            for count, (topic, key, value, timestamp_ms) in enumerate(records, 1):
                put(producer, Produce(topic, -1, key, value), delivered, timestamp_ms)
                if per_s is not None:
                    time.sleep(max(0.0, count / per_s - (time.monotonic() - began_s)))  # the rate that was asked for
                if failed:
                    break
        except ConfigError as error:
            broken = error
        finally:
            left = producer.flush(FLUSH_S)
    if broken is not None:
        before = f"; {confirmed:,} records before it were written to {topics}" if confirmed else ""
        raise ConfigError(f"{broken.message}{before}")
    if failed or left:
        why = failed[0].str() if failed else f"{left} records were not confirmed in {FLUSH_S:.0f} s"
        hint = "is Kafka reachable, and does the topic exist?"
        kind = FatalError if failed and failed[0].code() != KafkaError._MSG_TIMED_OUT else TransientError  # noqa: SLF001
        raise kind(f"{topics}: {why}; {confirmed:,} records were written", hint)
    return confirmed


def put(
    producer: Producer,
    record: Produce,
    delivered: Callable[..., None] | None = None,
    timestamp_ms: int | None = None,
) -> None:
    """Hand a record to a producer, waiting for room in its queue; the partitioner chooses the partition."""
    while True:
        try:
            when = {} if timestamp_ms is None else {"timestamp": timestamp_ms}
            producer.produce(record.topic, record.value, record.key, on_delivery=delivered, **when)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)
