"""What cannot work is refused before anything is consumed: one clear message, the way out, exit code 78."""

import json
import shutil
import signal
import socket
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType
from typer.testing import CliRunner

from stream_ml.cli.app import app
from tests.support.service import Service, brothers, service, until

pytestmark = pytest.mark.kafka


def refused(made: Service, *words: str, code: int = 78) -> None:
    worker = made.start()
    assert worker.wait() == code, worker.log
    said = json.loads(worker.log.splitlines()[-1])
    assert said["hint"] or "->" in said["message"], said
    for word in words:
        assert word in f"{said['message']} {said['hint']}", said
    assert "Traceback" not in worker.log, worker.log
    assert made.progress()[0] == 0


def typed(group: str, verb: str, made: Service, *flags: str) -> str:
    """What a verb prints, or the words of its error."""
    found = CliRunner().invoke(app, [group, verb, str(made.folder / "w1.yaml"), *flags])
    return f"{found.output}{found.exception or ''}"


def test_a_missing_topic_is_refused(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        client = AdminClient({"bootstrap.servers": kafka})
        client.delete_topics([made.config.outcomes])[made.config.outcomes].result()
        worker = made.start()
        assert worker.wait() == 78
        assert f"topic {app_id}.outcomes does not exist" in worker.log
        assert "stream-ml topics create" in worker.log


def test_unequal_partition_counts_are_refused(kafka: str, app_id: str, tmp_path: Path) -> None:
    client = AdminClient({"bootstrap.servers": kafka})
    topic = NewTopic(f"{app_id}-truths", 3)
    client.create_topics([topic])[topic.topic].result()
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        refused(made, f"{app_id}-truths has 3 partitions and {app_id}-visits has 2")


def test_a_compacted_or_limited_training_log_is_refused(kafka: str, app_id: str, tmp_path: Path) -> None:
    client = AdminClient({"bootstrap.servers": kafka})
    with service(tmp_path, kafka, app_id) as made:
        for name, value, word in (
            ("cleanup.policy", "compact", "is compacted"),
            ("retention.ms", "60000", "retention.ms"),
        ):
            entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            resource = ConfigResource(ResourceType.TOPIC, made.config.training_log_topic, incremental_configs=[entry])
            client.incremental_alter_configs([resource])[resource].result()
            refused(made, word)
            entry = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
            resource = ConfigResource(ResourceType.TOPIC, made.config.training_log_topic, incremental_configs=[entry])
            client.incremental_alter_configs([resource])[resource].result()


def test_a_model_that_cannot_be_imported_or_breaks_its_contract_is_refused(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, model={"factory": "nowhere:build"}) as made:
        refused(made, "nowhere:build cannot be imported", "No module named 'nowhere'")
        text = "from river import forest\n\n\ndef build():\n    return forest.ARFClassifier(n_models=2)\n"
        (tmp_path / f"random_{app_id}.py").write_text(text, "utf-8")
        made.settings["model"]["factory"] = f"random_{app_id}:build"
        worker = made.start()
        assert worker.wait() == 78
        assert "ARFClassifier.seed has no seed" in worker.log


def test_a_log_that_lost_its_beginning_gives_no_blank_model_where_no_checkpoint_is_left(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        made.pairs(range(5))
        made.wait_until_done()
        assert worker.stop() == 0
        client = AdminClient({"bootstrap.servers": kafka})
        beginning = TopicPartition(made.config.training_log_topic, 0, 3)
        client.delete_records([beginning])[beginning].result()
        again = made.start()
        made.wait_for(lambda: again.log.count("] owned") == 2, "going on from its checkpoint")
        assert again.stop() == 0
        shutil.rmtree(tmp_path / "checkpoints")
        alone = made.start()
        assert alone.wait() == 78, alone.log
        assert f"{made.config.training_log_topic} begins at 3: its identity was deleted" in alone.log
        assert "holds no checkpoint of it" in alone.log


def test_lost_offsets_are_refused_and_setting_them_by_hand_goes_on(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, delivery={"membership": "dynamic"}) as made:
        first = made.start()
        made.pairs(range(100))
        made.wait_until_done()
        assert first.stop() == 0
        plain = Consumer({"bootstrap.servers": kafka, "group.id": app_id, "log_level": 0})
        plain.commit(offsets=[TopicPartition(made.config.events.topic, 0, 5)], asynchronous=False)
        plain.close()
        worker = made.start()
        assert worker.wait() == 78, worker.log
        assert "its committed offsets carry no state of this service" in worker.log
        assert "stream-ml offsets set" in worker.log
        until(lambda: "by its outputs it was at events 100, feedback 100" in typed("offsets", "show", made), 20)
        assert "by its outputs it was at events 100, feedback 100" in typed("offsets", "show", made)
        beyond = typed("offsets", "set", made, "--partition", "0", "--events", "999", "--feedback", "100")
        assert "holds 0 to 100; 999 is not in it" in beyond
        back = typed("offsets", "set", made, "--partition", "0", "--events", "100", "--feedback", "100")
        assert "the sequence goes on at 100" in back and "second" not in back and "never" not in back
        again = made.start()
        made.wait_for(lambda: "partitions [0] owned" in again.log[again._log_start :], "going on")
        assert again.stop() == 0


def test_a_kafka_that_does_not_answer_is_said_with_its_address(tmp_path: Path, app_id: str) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        made = Service(tmp_path, address, app_id)
        worker = made.start()
        assert worker.wait() == 69, worker.log
        assert f"Kafka at {address} does not answer" in worker.log


def test_records_that_are_deleted_before_they_were_read_end_the_worker_and_are_not_skipped(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        made.visit(0)
        made.wait_until_done()
        worker.process.send_signal(signal.SIGSTOP)
        until(lambda: False, 1.0)  # the fetch that was under way ends empty
        for number in range(1, 40):
            made.visit(number)
        made.flush()
        client = AdminClient({"bootstrap.servers": kafka})
        beginning = TopicPartition(made.config.events.topic, 0, 30)
        client.delete_records([beginning])[beginning].result()
        worker.process.send_signal(signal.SIGCONT)
        assert worker.wait() == 1, worker.log
        assert "the offset to read from is gone" in worker.log and "stream-ml offsets set" in worker.log
        assert made.observer.pairs()[0].events == 1, "nothing after the hole was committed"


@pytest.mark.parametrize("format_", brothers("json", "auto"))
def test_the_last_line_of_a_json_log_is_json_too(kafka: str, app_id: str, tmp_path: Path, format_: str) -> None:
    made = Service(tmp_path, kafka, app_id, log={"format": format_})  # without its topics
    worker = made.start()
    assert worker.wait() == 78
    last = [json.loads(line) for line in worker.log.splitlines()][-1]
    assert (last["level"], last["exit_code"]) == ("critical", 78)
    assert "do not exist" in last["message"] and "stream-ml topics create" in last["hint"]


def test_a_worker_that_ends_says_why(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        for sign, name in ((signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")):
            worker = made.start()
            made.wait_for(lambda worker=worker: worker.joined, "a start")  # type: ignore[misc]
            worker.process.send_signal(sign)
            worker.wait()
            assert f"stopping, because of {name}: what is committed is learned, then a checkpoint" in worker.log


def test_a_worker_that_ends_by_an_error_says_which(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        first, second = made.start(), made.start()
        made.wait_for(lambda: 1 in (first.process.poll(), second.process.poll()), "that one is fenced")
        stopping = [json.loads(line)["message"] for line in first.log.splitlines() if "stopping" in line]
        assert stopping and "stopping, because of an error: " in stopping[-1] and "fenced" in stopping[-1]
