"""The limit: what the Kafka client alone can do. No decoding, no model; events only.

Run as a process of its own: ``python -m benchmarks.limit MODE SERVERS EVENTS PREDICTIONS COUNT``.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, Message, Producer

BATCH = 5_000  # records of a turn, and of a transaction
MODES = ("consume", "produce", "transactions")
QUEUE = {"linger.ms": 5, "queue.buffering.max.messages": 500_000}


def batches(consumer: Consumer) -> Iterator[list[Message]]:
    """Batches as long as no signal comes."""
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    while not ended:
        records = consumer.consume(BATCH, 0.1)
        if records:
            yield records


def consume(consumer: Consumer, count: int) -> None:
    """Only read; nobody sees it from outside, so the times at 10 % and 90 % are printed."""
    done, marks = 0, []
    for records in batches(consumer):
        done += len(records)
        if done >= count * (0.1 if not marks else 0.9) and len(marks) < 2:
            marks.append((time.time(), done))
            if len(marks) == 2:
                (first_s, first), (last_s, last) = marks
                said = {"rate": (last - first) / (last_s - first_s)}
                sys.stdout.write(json.dumps(said) + "\n")
                sys.stdout.flush()


def produce(consumer: Consumer, producer: Producer, topic: str) -> None:
    """Read and write what was read."""
    for records in batches(consumer):
        for record in records:
            producer.produce(topic, record.value(), record.key())
        producer.poll(0)
        while len(producer) > 4 * BATCH:
            producer.poll(0.01)
    producer.flush()


def transact(consumer: Consumer, producer: Producer, topic: str) -> None:
    """Read and write what was read, a batch and its offsets in one transaction."""
    producer.init_transactions()
    for records in batches(consumer):
        producer.begin_transaction()
        for record in records:
            producer.produce(topic, record.value(), record.key())
        producer.flush()
        positions = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata())
        producer.commit_transaction()


def main() -> None:
    mode, servers, events, predictions, count = sys.argv[1:]
    settings: dict[str, Any] = {"bootstrap.servers": servers}
    reading = {"group.id": f"{events}-limit", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({**settings, **reading, "isolation.level": "read_committed"})
    consumer.subscribe([events])
    if mode == "consume":
        consume(consumer, int(count))
    elif mode == "produce":
        produce(consumer, Producer({**settings, **QUEUE, "enable.idempotence": True}), predictions)
    else:
        transact(consumer, Producer({**settings, **QUEUE, "transactional.id": f"{events}-limit"}), predictions)
    consumer.close()


if __name__ == "__main__":
    main()
