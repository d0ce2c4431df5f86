"""The loop that one writes by hand: confluent-kafka, fastavro and River, at least once.

Variants: `second` commits each second, `batch` after each batch. Offsets are committed after a flush, so nothing is
lost; after a crash what was produced since the last commit is there twice, and the model is gone.
"""

import signal
import time

from confluent_kafka import Consumer, Producer

from benchmarks.peers.join import Join, arguments

BATCH = 500
COMMIT_S = 1.0


def main() -> None:
    told = arguments()
    settings = {"bootstrap.servers": told.servers}
    reading = {"group.id": f"{told.events}-by-hand", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({**settings, **reading})
    consumer.subscribe([told.events, told.labels])
    producer = Producer({**settings, "enable.idempotence": True, "queue.buffering.max.messages": 500_000})
    join, ended = Join(told.labels_expected), []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    every_s = COMMIT_S if told.variant == "second" else 0.0
    committed_s, dirty = time.monotonic(), False
    while not ended:
        records = consumer.consume(BATCH, 0.1)
        for record in records:
            if record.topic() == told.events:
                producer.produce(told.predictions, join.event(record.value()), record.key())
            else:
                join.label(record.value())
        producer.poll(0)
        dirty = dirty or bool(records)
        if dirty and time.monotonic() - committed_s >= every_s:
            producer.flush()
            consumer.commit(asynchronous=False)
            committed_s, dirty = time.monotonic(), False
    producer.flush()
    consumer.close()
    join.report()


if __name__ == "__main__":
    main()
