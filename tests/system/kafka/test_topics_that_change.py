"""Topics that go away, or get more partitions, under a running worker: named, with a command, and not ready."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions

from stream_ml.embedded.broker import free_port
from tests.support.service import Service, brothers, service, until

pytestmark = pytest.mark.kafka

SOON_S = 20.0  # for what a status says a few seconds later

OF: dict[str, Callable[[Service], str]] = {
    "events": lambda made: made.config.events.topic,
    "feedback": lambda made: made.config.feedback.topic,
    "predictions": lambda made: made.config.predictions.topic,
    "training log": lambda made: made.config.training_log_topic,
    "outcomes": lambda made: made.config.outcomes,
    "dead letters": lambda made: made.config.dead_letters,
    "signals": lambda made: made.config.signals,
}
OUTPUTS = ("predictions", "outcomes", "dead letters", "signals")


def admin_of(made: Service) -> AdminClient:
    return AdminClient({"bootstrap.servers": made.settings["kafka"]["bootstrap_servers"]})


def delete(made: Service, topic: str) -> None:
    client = admin_of(made)
    client.delete_topics([topic])[topic].result()


def grow(made: Service, partitions: int, *names: str) -> None:
    client = admin_of(made)
    for topic in [OF[name](made) for name in names]:
        client.create_partitions([NewPartitions(topic, partitions)])[topic].result()
    made.wait_for(lambda: all(counted(made, OF[name](made)) == partitions for name in names), "the partitions")


def counted(made: Service, topic: str) -> int:
    """Partitions of a topic, as the test's own producer now knows them."""
    return len(made.producer.list_topics(topic, timeout=10).topics[topic].partitions)


def made_anew(made: Service) -> bool:
    """Whether the missing topics could be made; Kafka refuses a name for a moment after its topic was deleted."""
    try:
        made.create_topics()
    except (KafkaException, RuntimeError):
        return False
    return True


def working(made: Service) -> None:
    """A worker that has scored and learned twenty pairs."""
    made.start()
    made.wait_for(lambda: made.ready, "readiness")
    made.pairs(range(20))
    made.wait_until_done()


@pytest.mark.parametrize("name", brothers(*OF))
def test_a_topic_that_is_gone_is_named_and_the_worker_is_not_ready(
    kafka: str, app_id: str, tmp_path: Path, name: str
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        working(made)
        topic = OF[name](made)
        delete(made, topic)
        assert until(lambda: topic in made.asked("/readyz")[1], SOON_S), (made.asked("/readyz"), made.problems())
        assert not made.ready
        assert topic in made.problems() and topic in made.workers[0].log


@pytest.mark.parametrize("name", brothers(*OUTPUTS))
def test_an_output_that_is_made_anew_is_written_again(kafka: str, app_id: str, tmp_path: Path, name: str) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        working(made)
        delete(made, OF[name](made))
        made.pairs(range(20, 30))
        made.flush()
        assert until(lambda: "stream-ml topics create" in made.asked("/readyz")[1], SOON_S), made.asked("/readyz")
        made.wait_for(lambda: made_anew(made), "the topic")
        made.wait_until_done()
        made.wait_for(lambda: made.ready, "readiness")
        made.wait_for(lambda: made.status()["since_start"].get("predictions") == 30, "thirty, told after their commit")


@pytest.mark.parametrize(
    "name", brothers("predictions", "events", "feedback", "training log", "outcomes", "dead letters")
)
def test_partitions_of_one_topic_alone_are_named_with_what_to_type(
    kafka: str, app_id: str, tmp_path: Path, name: str
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        working(made)
        topic = OF[name](made)
        grow(made, 3, name)
        assert until(lambda: f"{topic} has 3 partitions" in made.asked("/readyz")[1], SOON_S), made.asked("/readyz")
        assert "stream-ml topics" in made.asked("/readyz")[1]
        made.pairs(range(20, 30))
        made.wait_for(
            lambda: made.status()["since_start"].get("predictions") == 30, "the old partition, scored as before"
        )


@pytest.mark.long
def test_the_worker_outlives_partitions_that_come_topic_by_topic(kafka: str, app_id: str, tmp_path: Path) -> None:
    properties = {"topic.metadata.refresh.interval.ms": 1000}  # else the worker would only see them minutes later
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, kafka={"properties": properties}) as made:
        working(made)
        grow(made, 2, "events")
        ended = until(lambda: made.workers[0].process.poll() is not None, SOON_S)
        assert not ended, made.workers[0].log[-2000:]
        grow(made, 2, "feedback", "predictions", "outcomes", "dead letters")
        made.partitions = 2
        made.pairs(range(20, 40))
        made.flush()
        made.wait_for(lambda: len(made.predictions(1)) == 10, "events of the new partition")
        made.wait_for(lambda: made.ready, "readiness")


def test_partitions_added_to_all_topics_are_taken_up_and_nothing_in_them_is_passed_over(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        working(made)
        grow(made, 2, "predictions", "outcomes", "dead letters", "feedback", "events")
        made.partitions = 2
        made.pairs(range(20, 40))
        made.flush()
        taken_up = until(lambda: sorted(made.status()["partitions"]["owned"]) == ["0", "1"], SOON_S)
        assert taken_up, (made.asked("/readyz"), made.problems())
        made.wait_for(lambda: made.ready, "readiness")
        made.wait_until_done()
        made.wait_for(lambda: made.audit().examples == 40, "learning")
        found = made.audit()
        assert (found.findings, found.predictions) == ([], 40)
