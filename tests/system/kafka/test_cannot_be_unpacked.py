"""Records whose batch the client cannot unpack: legal for the broker, and a few kilobytes there."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.core.avro.record import encode_record
from stream_ml.embedded.broker import free_port
from tests.support.service import T0, Service, brothers, service, until

pytestmark = pytest.mark.kafka

SOON_S = 60.0  # for what a worker does within a second; the machine may do much else
MB = 1_000_000
SMALL = {"consumer": {"receive.message.max.bytes": 2 * MB, "fetch.max.bytes": MB}}  # also bounds what is unpacked
BOMB = bytes(5 * MB)  # some hundred bytes as zstd


def send(made: Service, topic: str, *values: bytes, partition: int = 0, key: bytes = b"bomb") -> None:
    """Records in one batch, packed as zstd, whatever their size."""
    producer = Producer(
        {
            "bootstrap.servers": made.settings["kafka"]["bootstrap_servers"],
            "compression.type": "zstd",
            "message.max.bytes": 400 * MB,
            "batch.size": 400 * MB,
            "linger.ms": 500,
        }
    )
    made.flush()
    for value in values:
        producer.produce(topic, value, key, partition)
    assert producer.flush(30) == 0


def working(made: Service) -> Any:
    worker = made.start()
    made.pairs(range(10))
    made.wait_until_done()
    return worker


def told(made: Service, topic: str, offset: int) -> bool:
    said = made.problems()
    return f"{topic} [0] {offset}" in said and "cannot be unpacked" in said


def test_a_record_of_90_mb_of_zeros_is_read_and_becomes_a_dead_letter(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        working(made)
        send(made, made.config.events.topic, bytes(90 * MB))
        made.pairs(range(11, 20))
        made.flush()
        assert until(lambda: len(made.predictions()) == 19, 2 * SOON_S), made.logs()
        ((reason, record, _),) = made.dead_letters()
        headers = dict(record.headers)
        assert (reason, record.value, headers["stream_ml.value.bytes"]) == ("too_large", None, b"90000000")
        assert headers["stream_ml.value.sha256"] == sha256(bytes(90 * MB)).hexdigest().encode()


@pytest.mark.parametrize("name", brothers("events", "feedback"))
def test_a_record_that_cannot_be_unpacked_is_a_dead_letter_without_its_value_and_told(
    kafka: str, app_id: str, tmp_path: Path, name: str
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, kafka=SMALL) as made:
        working(made)
        topic = made.settings[name]["topic"]
        send(made, topic, BOMB)
        made.pairs(range(10, 20))
        made.flush()
        assert until(lambda: len(made.dead_letters()) == 1, SOON_S), (made.problems(), made.logs())
        ((reason, record, _),) = made.dead_letters()
        headers = dict(record.headers)
        assert (reason, record.value) == ("not_unpacked", None)
        assert headers["__connect.errors.topic"] == topic.encode()
        assert (headers["__connect.errors.partition"], headers["__connect.errors.offset"]) == (b"0", b"10")
        assert until(lambda: told(made, topic, 10), SOON_S), made.problems()
        made.wait_until_done()
        made.wait_for(lambda: made.audit().examples == 20, "learning")
        found = made.audit()
        assert (found.findings, found.predictions) == ([], 20)


def test_a_batch_that_cannot_be_unpacked_costs_its_records_and_no_other(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, kafka=SMALL) as made:
        working(made)
        event = {"id": "v10", "at": T0, "x": 1.0, "kind": "k", "note": None}
        send(made, made.config.events.topic, encode_record(made.VISIT_SCHEMA, event), BOMB, BOMB)
        made.pairs(range(13, 20))
        made.flush()
        assert until(lambda: len(made.predictions()) == 17, SOON_S), made.logs()
        dead_letters = [dict(record.headers)["__connect.errors.offset"] for _, record, _ in made.dead_letters()]
        assert dead_letters == [b"10", b"11", b"12"]


@pytest.mark.parametrize(
    "behind", [pytest.param(0, marks=pytest.mark.long), 1, pytest.param(7, marks=pytest.mark.long)]
)
def test_all_of_a_long_batch_that_cannot_be_unpacked_is_gone_past_in_steps(
    kafka: str, app_id: str, tmp_path: Path, behind: int
) -> None:
    with service(tmp_path, kafka, app_id, kafka=SMALL) as made:
        working(made)
        send(made, made.config.events.topic, *[bytes(1_000)] * 5_000)
        made.pairs(range(5_010, 5_010 + behind))
        made.flush()
        assert until(lambda: len(made.dead_letters()) == 5_000, SOON_S), (len(made.dead_letters()), made.logs())
        dead_letters = [dict(record.headers)["__connect.errors.offset"] for _, record, _ in made.dead_letters()]
        assert dead_letters == [str(offset).encode() for offset in range(10, 5_010)]
        assert until(lambda: len(made.predictions()) == 10 + behind, SOON_S), made.logs()
        made.wait_for(lambda: made.audit().examples == 10 + behind, "learning")
        assert made.audit().findings == []


@pytest.mark.long
def test_two_batches_that_cannot_be_unpacked_one_after_the_other(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, kafka=SMALL) as made:
        working(made)
        for count in (3, 1, 30):
            send(made, made.config.events.topic, *[bytes(5 * MB // count)] * count)
        made.pairs(range(44, 50))
        made.flush()
        assert until(lambda: len(made.predictions()) == 16, 2 * SOON_S), made.logs()
        dead_letters = [dict(record.headers)["__connect.errors.offset"] for _, record, _ in made.dead_letters()]
        assert dead_letters == [str(offset).encode() for offset in range(10, 44)]


def test_a_key_that_is_too_large_makes_a_dead_letter_without_it(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        working(made)
        send(made, made.config.events.topic, b"x", key=bytes(20 * MB))
        assert until(lambda: len(made.dead_letters()) == 1, SOON_S), made.logs()
        ((reason, record, _),) = made.dead_letters()
        assert (reason, record.key, dict(record.headers)["stream_ml.key.bytes"]) == ("too_large", None, b"20000000")


@pytest.mark.long
def test_a_rebuild_goes_past_a_record_that_cannot_be_unpacked(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, kafka=SMALL) as made:
        worker = working(made)
        for topic in (made.config.events.topic, made.config.feedback.topic):
            send(made, topic, BOMB)
        made.visit(11)
        made.visit(12)
        made.flush()
        assert until(lambda: len(made.predictions()) == 12, SOON_S), made.logs()
        worker.kill()
        made.start()  # the events wait for their labels: it reads them again, from before the record on
        made.truth(11)
        made.truth(12)
        made.flush()
        made.wait_for(lambda: made.audit().examples == 12, "learning")


def test_a_record_in_the_training_log_that_cannot_be_unpacked_halts_learning_until_it_is_skipped(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, kafka=SMALL) as made:
        worker = working(made)
        made.wait_for(lambda: made.status().get("model", {}).get("examples_learned") == 10, "learning")
        where = made.status()["model"]["position"]
        send(made, made.config.training_log_topic, BOMB)
        made.pairs(range(10, 20))
        made.flush()
        assert until(lambda: "cannot be unpacked" in made.problems(), SOON_S), (made.problems(), worker.log[-2000:])
        position = made.status()["model"]["halted"]["position"]
        assert position >= where
        worker.kill()
        again = made.start()
        made.wait_for(lambda: "] owned" in again.log[again._log_start :], "a start that goes on")
        done = CliRunner().invoke(app, ["skip", str(tmp_path / "w1.yaml"), str(position)])
        assert done.exit_code == 0, done.output
        made.wait_for(lambda: made.status()["model"]["examples_learned"] == 20, "learning on")
