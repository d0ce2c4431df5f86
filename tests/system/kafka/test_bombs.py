"""Batches that are small for the broker and large unpacked, all within the limit that SECURITY.md recommends."""

from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from stream_ml.check.online import BATCH_BYTES, bombed_bytes
from tests.support.service import Service, service

pytestmark = [pytest.mark.kafka, pytest.mark.long]

MB = 1_000_000
ROUNDS = 2


def limit(made: Service, *topics: str) -> None:
    """Let topics take batches of the recommended size at most."""
    entry = ConfigEntry("max.message.bytes", str(BATCH_BYTES), incremental_operation=AlterConfigOpType.SET)
    client = AdminClient({"bootstrap.servers": made.settings["kafka"]["bootstrap_servers"]})
    resources = [ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry]) for topic in topics]
    for done in client.incremental_alter_configs(resources).values():
        done.result()


def send(made: Service, topic: str, codec: str, value: bytes, count: int, headers: int = 0) -> None:
    """One batch of so many records; fails where the broker refuses it."""
    refused: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": made.settings["kafka"]["bootstrap_servers"],
            "compression.type": codec,
            "message.max.bytes": 1_000_000_000,
            "batch.size": 1_000_000_000,
            "batch.num.messages": 1_000_000,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "linger.ms": 5_000,
            "on_delivery": lambda error, _: refused.append(str(error)) if error else None,
        }
    )
    for _ in range(count):
        if headers:
            producer.produce(topic, value, b"bomb", 0, headers=[("a", b"")] * headers)
        else:
            producer.produce(topic, value, b"bomb", 0)
    assert producer.flush(60) == 0
    assert not refused, refused[:1]


@pytest.mark.parametrize(
    ("codec", "size", "count", "headers"),
    [
        ("gzip", 120 * MB, 1, 0),
        ("gzip", 1 * MB, 120, 0),
        ("gzip", 1_000, 15_000, 0),
        ("gzip", 0, 80_000, 0),
        ("zstd", 130 * MB, 1, 0),
        ("zstd", 1_000, 20_000, 0),
        ("zstd", 0, 140_000, 0),
        ("lz4", 30 * MB, 1, 0),
        ("snappy", 2 * MB, 1, 0),
        ("gzip", 1, 1, 10_000_000),
    ],
)
def test_memory_stays_within_what_is_stated(
    kafka: str, app_id: str, tmp_path: Path, codec: str, size: int, count: int, headers: int
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        topics = (made.config.events.topic, made.config.feedback.topic)
        limit(made, *topics)
        worker = made.start()
        made.pairs(range(10))
        made.wait_until_done()
        before_mb = worker.peak_mb
        for _ in range(ROUNDS):
            for topic in topics:
                send(made, topic, codec, bytes(size), count, headers)
        made.pairs(range(10, 20))
        made.flush()
        made.wait_until_done()
        print(f"{codec} {size} x {count}, {headers} headers: {before_mb:.0f} -> {worker.peak_mb:.0f} MB")
        assert worker.peak_mb * MB < bombed_bytes(BATCH_BYTES)
        found = made.audit()
        assert (found.examples, found.findings) == (20, [])
