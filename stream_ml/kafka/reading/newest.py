"""The end of a topic, and what comes after it: committed records in the order in which they arrive."""

import time
from collections import deque
from collections.abc import Iterator

from confluent_kafka import KafkaError, TopicPartition

from stream_ml.config import Config
from stream_ml.errors import ConfigError
from stream_ml.kafka.clients import admin, close_within, reader, take, topics_there
from stream_ml.kafka.errors import ended_by, lasting, reaching
from stream_ml.kafka.messages import record_of
from stream_ml.kafka.reading.ends import ends, since
from stream_ml.kafka.reading.ranges import read_ranges
from stream_ml.kafka.retries import PAUSE_S
from stream_ml.records import Record

MARKERS = 100  # offsets of a partition that transactions may have taken beside the records that are asked for
WAIT_S = 0.5
MADE_S = 2.0  # for a topic to be seen
BATCH = 1_000


def partitions_of(config: Config, topic: str) -> list[tuple[str, int]]:
    """The topic's partitions; ConfigError where it is not there."""
    client, deadline = admin(config), time.monotonic() + MADE_S
    there = topics_there(client).topics.get(topic)
    while (there is None or not there.partitions) and time.monotonic() < deadline:
        time.sleep(PAUSE_S)  # one that was just made may not be seen yet
        there = topics_there(client).topics.get(topic)
    if there is None or not there.partitions:
        raise ConfigError(f"there is no topic {topic}", "stream-ml topics create CONFIG makes it; or grant Describe")
    return [(topic, number) for number in sorted(there.partitions)]


def offsets_of(config: Config, topic: str) -> dict[int, tuple[int, int]]:
    """First offset and end of each partition of a topic, as of `ends`; errors as of `reaching` and `partitions_of`."""
    with reaching(config):
        found = ends(admin(config), partitions_of(config, topic))
    return {number: both for (_, number), both in found.items()}


def offsets_since(config: Config, topic: str, ms: int) -> dict[int, int]:
    """Of each partition of a topic the first offset that came at this time or later; its end where none did."""
    with reaching(config):
        found = since(admin(config), partitions_of(config, topic), ms)
    return {number: first for (_, number), (first, _) in found.items()}


def newest(config: Config, topic: str, count: int) -> tuple[list[Record], dict[tuple[str, int], int]]:
    """The newest `count` records of each partition, by time, and where each partition ended."""
    with reaching(config):
        found = ends(admin(config), partitions_of(config, topic))
        ranges = {where: (max(first, end - 2 * count - MARKERS), end) for where, (first, end) in found.items()}
        kept: dict[int, deque[Record]] = {number: deque(maxlen=count) for _, number in found}
        for batch in read_ranges(config, ranges if count else {}, keep_alive=lambda: None):
            for record in map(record_of, batch):
                kept[record.partition].append(record)
    records = [record for of in kept.values() for record in of]
    return sorted(records, key=lambda record: record.timestamp_ms), {where: end for where, (_, end) in found.items()}


def follow(config: Config, starts: dict[tuple[str, int], int]) -> Iterator[Record]:
    """What is committed from these offsets on, for ever; the caller stops it."""
    consumer = reader(config)
    try:
        consumer.assign([TopicPartition(*where, offset) for where, offset in starts.items()])
        while True:
            for message in take(consumer, BATCH, WAIT_S):
                error = message.error()
                if error is None:
                    yield record_of(message)
                elif error.code() != KafkaError._PARTITION_EOF and lasting(error):  # noqa: SLF001
                    raise ended_by(config, str(message.topic()), error)
    finally:
        close_within(consumer)
