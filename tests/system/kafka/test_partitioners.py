"""Producers that hash keys differently: said while running, because nothing else would show it."""

from pathlib import Path

import pytest
from confluent_kafka import Producer

from stream_ml.core.avro.record import encode_record
from tests.support.service import T0, service

pytestmark = pytest.mark.kafka


@pytest.mark.long
def test_producers_with_different_partitioners_are_reported(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, partitions=4) as made:
        others = {
            made.config.events.topic: ("consistent_random", made.VISIT_SCHEMA, {"x": 1.0, "kind": "k", "note": None}),
            made.config.feedback.topic: ("murmur2_random", made.TRUTH_SCHEMA, {"y": True}),
        }
        for topic, (partitioner, schema, values) in others.items():
            producer = Producer({"bootstrap.servers": kafka, "partitioner": partitioner, "enable.idempotence": True})
            for number in range(400):
                payload = {"id": f"v{number}", "at": T0 + 1000 * number, **values}
                producer.produce(topic, encode_record(schema, payload), f"v{number}".encode())
            assert producer.flush(30) == 0
        worker = made.start()
        made.wait_until_done()
        made.wait_for(lambda: "partitioner=murmur2_random" in worker.log, "a word about the partitioners")
        assert worker.stop() == 0
