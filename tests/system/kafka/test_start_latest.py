"""`start: latest` decides the app's first start, and not that of a partition which is added later."""

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.support.service import Service, service

pytestmark = pytest.mark.kafka


def grow(made: Service, partitions: int) -> None:
    """More partitions for every topic that has one for each of the events'."""
    client, config = AdminClient({"bootstrap.servers": made.settings["kafka"]["bootstrap_servers"]}), made.config
    topics = [
        config.predictions.topic,
        config.outcomes,
        config.dead_letters,
        config.feedback.topic,
        config.events.topic,
    ]
    for topic in topics:
        client.create_partitions([NewPartitions(topic, partitions)])[topic].result()
    for topic in topics:
        made.wait_for(
            lambda t=topic: len(made.producer.list_topics(t).topics[t].partitions) == partitions,  # type: ignore[misc]
            "the partitions",
        )
    made.partitions = partitions


def scored(made: Service, partition: int) -> list[str]:
    return [prediction["event_id"] for prediction in made.predictions(partition)]


@pytest.mark.long
def test_the_first_records_of_a_partition_that_is_added_later_are_scored(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, start="latest") as made:
        worker = made.start()
        made.wait_for(lambda: "partitions [0] owned" in worker.log, "the app's first start")
        made.pairs(range(10))
        made.wait_until_done()
        assert worker.stop() == 0
        grow(made, 2)
        for number in range(10, 20):
            made.visit(number, partition=1)
            made.truth(number, partition=1)
        made.flush()
        again = made.start()
        made.wait_for(lambda: "partitions [0, 1] owned" in again.log, "both partitions")
        made.visit(20, partition=1)
        made.truth(20, partition=1)
        made.wait_until_done()
        assert scored(made, 1) == [f"v{number}" for number in range(10, 21)]
        made.wait_for(lambda: made.audit().examples == 21, "learning")


def test_every_partition_that_was_there_at_the_apps_first_start_begins_at_its_end(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, partitions=2, start="latest", delivery={"membership": "dynamic"}) as made:
        made.pairs(range(10))
        made.flush()
        both = [made.start(instance) for instance in ("w1", "w2")]  # the second may claim its own a moment later
        made.wait_for(lambda: all("] owned" in worker.log for worker in both), "the app's first start")
        made.pairs(range(10, 20))
        made.wait_until_done()
        assert sorted(scored(made, 0) + scored(made, 1)) == [f"v{number}" for number in range(10, 20)]
