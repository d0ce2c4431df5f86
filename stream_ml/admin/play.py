"""Records in the order of their times, a few at a time: each step is written once a worker has taken the one before.

A file that is written at once is scored at once, by a model that has learned nothing. So a trial plays it.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from stream_ml.admin.observer import Observer
from stream_ml.admin.produce import put
from stream_ml.config import Config
from stream_ml.errors import TransientError
from stream_ml.kafka.clients import common, made
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.topics import inspect_topics
from stream_ml.records import Produce

TAKEN_S = 60.0  # for a worker to take a step; it may still be starting
LOOK_S = 0.05


class Played(NamedTuple):
    """A record and its time."""

    time_ms: int
    topic: str
    key: bytes
    value: bytes


def play_all(
    config: Config,
    events: list[Played],
    labels: list[Played],
    step: int,
    *,
    taken_s: float = TAKEN_S,
    told: Callable[[int], None] = lambda done: None,
) -> tuple[int, int]:
    """Write both, in the order of their times; how many of each.

    Parameters
    ----------
    step
        Events that are scored with one model, at most: the labels that are due by then are learned before the next.
    taken_s
        For Kafka and a worker to take a step; one that is away for a while is waited for.
    told
        Is called with the number of records that are played by now.

    Raises
    ------
    TransientError
        No worker takes what was written.
    """
    observer = Observer(config, inspect_topics(config).partitions)
    producer = made(Producer, {**common(config), "enable.idempotence": True, **config.client_properties("producer")})
    try:
        done = 0
        for records in steps(events, labels, step):
            _taken(config, observer, _written(config, producer, records, taken_s), taken_s)
            done += len(records)
            told(done)
    finally:
        observer.close()
    return len(events), len(labels)


def steps(events: list[Played], labels: list[Played], step: int) -> Iterator[list[Played]]:
    """What is written together: events, then the labels that are due by the last one's time."""
    due = 0
    for first in range(0, len(events), step):
        some = events[first : first + step]
        yield some
        begin = due
        while due < len(labels) and labels[due].time_ms <= some[-1].time_ms:
            due += 1
        if due > begin:
            yield labels[begin:due]
    if labels[due:]:
        yield labels[due:]


def _written(config: Config, producer: Producer, records: list[Played], most_s: float) -> dict[tuple[str, int], int]:
    """Where each partition has to be read to, exclusive."""
    ends: dict[tuple[str, int], int] = {}
    failed: list[str] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(error.str())
        else:
            where = (message.topic(), message.partition())
            ends[where] = max(ends.get(where, 0), message.offset() + 1)

    with reaching(config):
        for record in records:
            put(producer, Produce(record.topic, -1, record.key, record.value), delivered)
        left = producer.flush(most_s)
    if failed or left:
        raise TransientError(failed[0] if failed else f"{left} records were not confirmed in {most_s:.0f} s")
    return ends


def _taken(config: Config, observer: Observer, ends: dict[tuple[str, int], int], most_s: float) -> None:
    """Wait until a worker has committed up to these offsets."""
    deadline = time.monotonic() + most_s
    while True:
        try:
            behind = _behind(config, observer, ends)
        except TransientError:
            if time.monotonic() > deadline:
                raise
            continue  # Kafka itself is away: each try takes its own time
        if not behind:
            return
        if time.monotonic() > deadline:
            raise TransientError(
                f"{behind[0][0]} [{behind[0][1]}]: no worker has taken what was written for {most_s:.0f} s",
                "is one running? stream-ml run CONFIG, in a terminal of its own",
            )
        time.sleep(LOOK_S)  # between two looks


def _behind(config: Config, observer: Observer, ends: dict[tuple[str, int], int]) -> list[tuple[str, int]]:
    pairs = {pair.partition: pair for pair in observer.pairs()}
    return [
        where
        for where, end in ends.items()
        if ((pairs[where[1]].events if where[0] == config.events.topic else pairs[where[1]].feedback) or 0) < end
    ]
