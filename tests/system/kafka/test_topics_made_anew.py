"""A topic that was deleted and recreated under its name is another one: no position in the old one holds in it."""

import signal
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.embedded.broker import free_port
from tests.support.service import Service, brothers, service, until

pytestmark = pytest.mark.kafka

SOON_S = 20.0  # for what a worker says a few seconds later
TOLD = "was deleted and recreated"


def make_anew(made: Service, topic: str) -> None:
    """Delete a topic and make another one of its name; Kafka refuses the name for a moment."""
    client = AdminClient({"bootstrap.servers": made.settings["kafka"]["bootstrap_servers"]})
    old = id_of(client, topic)
    client.delete_topics([topic])[topic].result()

    def created() -> bool:
        try:
            client.create_topics([NewTopic(topic, 1)])[topic].result()
        except KafkaException as exception:
            assert exception.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
            return False
        return True

    made.wait_for(created, "the new topic")
    made.wait_for(lambda: id_of(client, topic) not in ("", old), "its id")
    made.producer.list_topics(topic, timeout=10)


def id_of(client: AdminClient, topic: str) -> str:
    try:
        return str(client.describe_topics(TopicCollection([topic]))[topic].result().topic_id)
    except KafkaException:
        return ""  # a topic that was just made is not known everywhere yet


def told(made: Service, topic: str) -> bool:
    """Whether the worker has named it and is not ready, be it because it has ended."""
    log = made.workers[-1].log
    return topic in log and TOLD in log and not made.ready


def produce(made: Service, name: str) -> None:
    """Records 3 to 8, as many again as there were, into one input."""
    for number in range(3, 9):
        {"events": made.visit, "feedback": made.truth}[name](number)
    made.flush()


@pytest.mark.parametrize("name", brothers("events", "feedback"))
def test_no_record_of_an_input_made_anew_is_taken_at_the_old_offset(
    kafka: str, app_id: str, tmp_path: Path, name: str
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        made.pairs(range(3))
        made.wait_until_done()
        topic = made.settings[name]["topic"]
        worker.process.send_signal(signal.SIGSTOP)
        make_anew(made, topic)
        produce(made, name)
        until(lambda: False, 0.5)  # it stands still for half a second, as in a pause of the machine
        worker.process.send_signal(signal.SIGCONT)
        assert until(lambda: told(made, topic), SOON_S), (made.asked("/readyz"), worker.log[-2000:])
        assert "stream-ml offsets set" in worker.log
        assert (len(made.predictions()), made.audit().examples) == (3, 3)
        assert max(made.progress_of(0)) == 3, "and of the other input at most what was committed"


@pytest.mark.parametrize("name", brothers("events", "feedback"))
def test_a_running_worker_names_an_input_that_was_made_anew(kafka: str, app_id: str, tmp_path: Path, name: str) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(3))
        made.wait_until_done()
        topic = made.settings[name]["topic"]
        make_anew(made, topic)
        produce(made, name)
        assert until(lambda: told(made, topic), SOON_S), (made.asked("/readyz"), made.workers[0].log[-2000:])


def test_a_start_names_events_that_were_made_anew_and_offsets_set_takes_them_over(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, delivery={"membership": "dynamic"}) as made:
        worker = made.start()
        made.pairs(range(3))
        made.wait_until_done()
        assert worker.stop() == 0
        make_anew(made, made.config.events.topic)
        produce(made, "events")
        again = made.start()
        assert again.wait() == 78, again.log
        assert f"{made.config.events.topic} {TOLD}" in again.log and "stream-ml offsets set" in again.log
        flags = ["--partition", "0", "--events", "0", "--feedback", "3"]
        assert CliRunner().invoke(app, ["offsets", "set", str(tmp_path / "w1.yaml"), *flags]).exit_code == 0
        made.start()
        made.wait_for(lambda: len(made.predictions()) == 9, "all records of the new topic")
        assert [p["event_id"] for p in made.predictions()[3:]] == [f"v{number}" for number in range(3, 9)]


def test_a_training_log_made_anew_is_not_folded_on(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        made.pairs(range(3))
        made.wait_for(lambda: made.status().get("model", {}).get("examples_learned") == 3, "learning")
        worker.process.send_signal(signal.SIGSTOP)
        make_anew(made, made.config.training_log_topic)
        for sequence in range(20):
            made.forge(sequence)
        worker.process.send_signal(signal.SIGCONT)
        assert until(lambda: told(made, made.config.training_log_topic), SOON_S), (made.problems(), worker.log[-2000:])


@pytest.mark.parametrize("name", brothers("predictions", "outcomes", "dead letters"))
def test_an_output_made_anew_is_named(kafka: str, app_id: str, tmp_path: Path, name: str) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(3))
        made.wait_until_done()
        config = made.config
        topic = {"predictions": config.predictions.topic, "outcomes": config.outcomes}.get(name, config.dead_letters)
        make_anew(made, topic)
        assert until(lambda: topic in made.problems() and TOLD in made.problems(), SOON_S), made.problems()
