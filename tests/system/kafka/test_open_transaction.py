"""A transaction that nobody ends, of a producer that is none of ours, holds back what lies behind it in a topic."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from stream_ml.core.partition.outputs import decode_outcome
from stream_ml.embedded.broker import free_port
from tests.support.service import Service, brothers, service, until

pytestmark = pytest.mark.kafka

SOON_S = 20.0  # for what a status says a second or two later
TOLD = "held by an open transaction"


@contextmanager
def held(made: Service, topic: str, *values: bytes) -> Iterator[None]:
    """A producer has written these records into partition 0 of a topic and does not end its transaction meanwhile."""
    settings = {
        "bootstrap.servers": made.settings["kafka"]["bootstrap_servers"],
        "transactional.id": f"{topic}-hangs",
        "transaction.timeout.ms": 900_000,
    }
    producer = Producer(settings)
    producer.init_transactions(10)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(10) == 0
    try:
        yield
    finally:
        producer.abort_transaction(10)


@pytest.mark.parametrize("name", brothers("events", "feedback"))
def test_records_behind_an_open_transaction_are_lag_and_told(
    kafka: str, app_id: str, tmp_path: Path, name: str
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(10))
        made.wait_until_done()
        topic, produce = made.settings[name]["topic"], {"events": made.visit, "feedback": made.truth}[name]

        def of_topic() -> dict[str, int]:
            found: dict[str, int] = made.status()["partitions"]["owned"]["0"][name]
            return found

        with held(made, topic, b"never committed"):
            for number in range(10, 1010):
                produce(number)
            made.flush()
            made.wait_for(lambda: of_topic()["end"] == 1011, "the end of the topic", SOON_S)
            assert until(lambda: of_topic()["lag_records"] == 1001, SOON_S), of_topic()
            assert until(lambda: f"{topic} [0]" in made.problems() and TOLD in made.problems(), SOON_S), made.problems()
            assert of_topic()["position"] == 10
        made.wait_for(lambda: of_topic()["lag_records"] == 0, "the rest")
        assert until(lambda: TOLD not in made.problems(), SOON_S), made.problems()


@pytest.mark.long
def test_a_transaction_that_ends_soon_is_no_problem(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(10))
        made.wait_until_done()
        seen = ""
        for number in range(10, 20):
            with held(made, made.config.events.topic, b"never committed"):
                made.visit(number)
                made.flush()
                seen += made.problems()
        made.wait_for(lambda: made.status()["since_start"]["events"] == 20, "the events between")
        assert TOLD not in seen


def test_learning_behind_an_open_transaction_in_the_training_log_is_lag_and_told(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(10))
        made.wait_for(lambda: "model" in made.status() and made.status()["model"]["examples_learned"] == 10, "learning")
        with held(made, made.config.training_log_topic, b"never committed"):
            made.pairs(range(10, 20))
            made.wait_until_done()
            assert until(lambda: made.status()["model"]["lag_seconds"] > 3, SOON_S), made.status()["model"]
            assert until(lambda: TOLD in made.problems(), SOON_S), made.problems()
            assert made.config.training_log_topic in made.problems()
            assert made.status()["model"]["examples_learned"] == 10
        made.wait_for(lambda: made.status()["model"]["examples_learned"] == 20, "the rest")


def test_events_held_by_an_open_transaction_are_not_at_their_end_for_time(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        made.start()
        made.pairs(range(10))
        made.wait_until_done()

        def outcomes() -> list[str]:
            return [decode_outcome(record.value or b"")["outcome"] for record in made.read(made.config.outcomes)]

        with held(made, made.config.events.topic, b"never committed"):
            for number in range(10, 20):
                made.visit(number)
                made.truth(number)
            made.truth(50_000)  # hours later, of no event
            made.flush()
            until(lambda: outcomes() == ["orphan"] * 10, 5)  # as long as it takes where time goes on
        made.wait_for(lambda: len(made.predictions()) == 20, "the events that were held")
        made.wait_for(lambda: made.observer.pairs()[0].feedback == 21, "all labels")
        assert (outcomes(), made.audit().examples) == ([], 20)
