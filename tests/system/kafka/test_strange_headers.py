"""Headers whose names are no text: Kafka takes them, and the client raises where it is asked for them."""

import ctypes
from pathlib import Path

import confluent_kafka
import pytest

from stream_ml.core.avro.record import encode_record
from stream_ml.embedded.broker import free_port
from tests.support.service import service

pytestmark = pytest.mark.kafka

LIBRARY = next(Path(confluent_kafka.__file__).parent.parent.glob("confluent_kafka.libs/librdkafka-*.so*"), None)
TOPIC, PARTITION, VALUE, HEADERS, KEY = 1, 3, 4, 10, 5  # rd_kafka_vtype_t of librdkafka's rdkafka.h


def send(servers: str, topic: str, value: bytes) -> None:
    """A record with a header of which the name is no UTF-8, past the Python client, which makes none."""
    assert LIBRARY is not None
    library = ctypes.CDLL(str(LIBRARY))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, name).restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(512)
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(settings, b"bootstrap.servers", servers.encode(), error, 512)
    producer = ctypes.c_void_p(library.rd_kafka_new(0, settings, error, 512))
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(ctypes.c_size_t(1)))
    library.rd_kafka_header_add(headers, b"\xff\xfe", ctypes.c_ssize_t(2), b"v", ctypes.c_ssize_t(1))
    end = 0
    sent = library.rd_kafka_producev(
        producer,
        *(TOPIC, topic.encode()),
        *(PARTITION, ctypes.c_int32(0)),
        *(VALUE, value, ctypes.c_size_t(len(value))),
        *(KEY, b"k", ctypes.c_size_t(1)),
        *(HEADERS, headers),
        end,
    )
    assert sent == 0
    assert library.rd_kafka_flush(producer, 20_000) == 0
    library.rd_kafka_destroy(producer)


@pytest.mark.skipif(LIBRARY is None, reason="the client's library is not in its wheel")
def test_a_header_name_that_is_no_text_ends_no_worker(kafka: str, app_id: str, tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("a" * 32, "utf-8")
    (tmp_path / "a.key").chmod(0o600)
    settings = {"training_log": {"key_file": "a.key"}, "http": {"port": free_port()}}
    with service(tmp_path, kafka, app_id, **settings) as made:
        worker = made.start()
        made.pairs(range(5))
        made.flush()
        event = {"id": "v5", "at": 1_600_000_000_000 + 5_000, "x": 1.0, "kind": "k", "note": None}
        send(kafka, made.config.events.topic, encode_record(made.VISIT_SCHEMA, event))
        send(kafka, made.config.feedback.topic, b"no label")
        made.truth(5)
        made.pairs(range(6, 10))
        made.flush()
        made.wait_for(lambda: made.learned == 10, "learning")
        assert len(made.dead_letters()) == 1
        send(kafka, made.config.training_log_topic, b"no entry")
        made.wait_for(lambda: bool(made.status()["model"]["halted"]), "a halt")
        assert "not sealed" in made.problems()
        worker.kill()
        again = made.start()
        made.wait_for(lambda: bool(made.status().get("model", {}).get("halted")), "the halt again")
        assert again.process.poll() is None
        assert {finding.rule for finding in made.audit().findings} == {"foreign"}
