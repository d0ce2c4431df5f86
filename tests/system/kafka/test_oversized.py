"""A record too large for what would be made of it costs only itself, among thousands of ordinary ones."""

import base64
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from stream_ml.core.avro.record import encode_record
from tests.support.service import T0, Service, service

pytestmark = [pytest.mark.kafka, pytest.mark.long]

ORDINARY = 2000


def noise(size: int) -> bytes:
    """So many letters and digits that no compression makes small: the broker's limit is on what was packed."""
    return base64.b64encode(random.Random(1).randbytes(size))[:size]


def visit_bytes(made: Service, number: int, size: int) -> bytes:
    """An event of this size, which is at least 10,000; its time is that of the first."""
    values = {"id": f"v{number}", "at": T0, "x": 1.0, "kind": "k"}
    bare = len(encode_record(made.VISIT_SCHEMA, values | {"note": "n" * 100_000})) - 100_000
    return encode_record(made.VISIT_SCHEMA, values | {"note": noise(size - bare).decode()})


class Large:
    """A producer that sends whatever the broker's default limit takes."""

    def __init__(self, made: Service) -> None:
        self._producer = Producer(
            {"bootstrap.servers": made.settings["kafka"]["bootstrap_servers"], "message.max.bytes": 1_048_000}
        )

    def send(self, topic: str, value: bytes, partition: int, key: bytes = b"k") -> None:
        failed: list[Any] = []
        report = lambda error, message: failed.append(error) if error else None  # noqa: E731
        self._producer.produce(topic, value, key, partition, on_delivery=report)
        assert self._producer.flush(30) == 0 and not failed, failed


def limit(made: Service, topic: str, size: int) -> None:
    """Let a topic take only so large batches from now on."""
    client = AdminClient({"bootstrap.servers": made.settings["kafka"]["bootstrap_servers"]})
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client.incremental_alter_configs([changed])[changed].result()
    asked = ConfigResource(ResourceType.TOPIC, topic)
    made.wait_for(
        lambda: client.describe_configs([asked])[asked].result()["max.message.bytes"].value == str(size), "the limit"
    )


def clean(made: Service) -> dict[str, Any]:
    """The audit, which must find nothing wrong."""
    found = made.audited()
    assert not found["findings"] and not found["unread"], (found["counts"], found["findings"][:5])
    return found


def origins(made: Service, topic: str) -> Counter[tuple[str, int]]:
    """Reason and length of the dead letters that came from a topic."""
    dead_letters = [dead_letter for partition in range(made.partitions) for dead_letter in made.dead_letters(partition)]
    assert {reason for reason, _, _ in dead_letters} <= {"too_large"}, dead_letters
    found: Counter[tuple[str, int]] = Counter()
    for reason, record, _ in dead_letters:
        if dict(record.headers)["__connect.errors.topic"].decode() == topic:
            found[reason, len(record.value or b"")] += 1
    return found


def test_among_ordinary_records_the_largest_cost_only_themselves(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        made.start()
        large, sizes = Large(made), (990_000, 996_500, 999_900, 1_047_000)
        for number in range(0, ORDINARY, 400):
            made.pairs(range(number, number + 400))
            for more, size in enumerate(sizes):
                huge = 10_000 + number + more
                large.send(made.config.events.topic, visit_bytes(made, huge, size), huge % 2)
                made.truth(huge, at=T0 + 1000)
        large.send(made.config.events.topic, visit_bytes(made, 9000, 20_000), 0, key=b"k" * 1_020_000)
        made.wait_until_done()
        found = clean(made)
        large_ones = len(sizes) * ORDINARY // 400
        assert found["predictions"] == ORDINARY + large_ones  # the one with the largest key has none
        assert found["examples"] == ORDINARY + ORDINARY // 400  # of 990,000 bytes an example can be made
        assert found["dead_letters"] == {"too_large": 3 * ORDINARY // 400 + 1}
        assert (found["outcomes"], found["waiting"]) == ({}, [])
        assert sum(origins(made, made.config.feedback.topic).values()) == 3 * ORDINARY // 400


def test_records_that_the_broker_refuses_after_all_are_found_by_bisecting_and_cost_only_themselves(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, partitions=2, delivery={"batch_max_records": 500}) as made:
        worker = made.start()
        made.pairs(range(200))
        made.wait_until_done()
        limit(made, made.config.training_log_topic, 600_000)
        limit(made, made.config.predictions.topic, 300_000)
        large = Large(made)
        made.pairs(range(200, 800))
        large.send(made.config.events.topic, visit_bytes(made, 5000, 700_000), 0)  # its example is refused
        made.truth(5000, at=T0 + 1000)
        made.pairs(range(800, 1400))
        large.send(made.config.events.topic, visit_bytes(made, 5001, 20_000), 1, key=noise(400_000))  # its prediction
        made.pairs(range(1400, ORDINARY))
        made.wait_until_done()
        found = clean(made)
        assert (found["events"], found["predictions"]) == (ORDINARY + 2, ORDINARY + 1)
        assert (found["examples"], found["outcomes"], found["waiting"]) == (ORDINARY, {}, [])
        assert found["dead_letters"] == {"too_large": 2}
        assert sum(origins(made, made.config.feedback.topic).values()) == 1
        assert origins(made, made.config.events.topic) == {("too_large", 20_000): 1}
        assert worker.log.count("is refused by Kafka") == 2, worker.log
        assert worker.process.poll() is None


def test_a_label_whose_outcome_would_be_too_large_ends_as_a_dead_letter(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        made.pairs(range(10))
        value = encode_record(made.TRUTH_SCHEMA, {"id": "nobody", "at": T0, "y": True})
        Large(made).send(made.config.feedback.topic, value, 0, key=b"k" * 1_040_000)
        made.wait_until_done()
        made.pairs(range(20_000, 20_100))  # hours later: the label that waits for nobody ends
        made.wait_until_done()
        made.wait_for(lambda: not made.audit(None).waiting, "the end of every label")
        found = clean(made)
        assert (found["examples"], found["dead_letters"], found["outcomes"]) == (110, {"too_large": 1}, {})
        assert worker.process.poll() is None
        assert "given up" not in worker.log
