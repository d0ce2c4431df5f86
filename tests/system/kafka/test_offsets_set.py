"""``offsets set``: what waited goes on waiting, and the audit finds nothing lost that is not."""

import re
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from typer.testing import CliRunner

from stream_ml.cli.app import app
from tests.support.service import Service, service

pytestmark = pytest.mark.kafka

DYNAMIC = {"membership": "dynamic"}


def cli(*arguments: str | int | Path) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def set_to(made: Service, events: int, feedback: int) -> str:
    place = ("--partition", 0, "--events", events, "--feedback", feedback)
    return cli("offsets", "set", made.folder / "w1.yaml", *place)


def lose_offsets(made: Service, servers: str) -> None:
    """Commit without metadata, as a tool that resets a group does."""
    plain = Consumer({"bootstrap.servers": servers, "group.id": made.config.app.id, "log_level": 0})
    topics = (made.config.events.topic, made.config.feedback.topic)
    plain.commit(offsets=[TopicPartition(topic, 0, 0) for topic in topics], asynchronous=False)
    plain.close()


def waiting(made: Service) -> None:
    """Five labels and five events that wait for their other halves, then ten pairs; the worker stops."""
    worker = made.start()
    for number in range(10, 15):
        made.visit(number)
    for number in range(15, 20):
        made.truth(number, delay_s=0)
    made.wait_until_done()
    made.pairs(range(10))
    made.wait_until_done()
    assert worker.stop() == 0


def the_rest(made: Service) -> None:
    """The other halves come."""
    worker = made.start()
    made.wait_for(lambda: "partitions [0] owned" in worker.log[worker._log_start :], "going on")
    for number in range(10, 15):
        made.truth(number)
    for number in range(15, 20):
        made.visit(number)
    made.wait_until_done()
    assert worker.stop() == 0


def test_what_waits_is_found_again_where_offsets_are_set_to_what_show_proposes(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, delivery=DYNAMIC) as made:
        waiting(made)
        lose_offsets(made, kafka)
        shown = re.search(r"it was at events (\d+), feedback (\d+)", cli("offsets", "show", tmp_path / "w1.yaml"))
        assert shown is not None
        set_to(made, int(shown[1]), int(shown[2]))
        the_rest(made)
        audited = made.audit()
        assert (audited.findings, audited.examples) == ([], 20)


@pytest.mark.long
def test_what_waits_is_found_again_where_offsets_are_set_to_the_ends(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, delivery=DYNAMIC) as made:
        waiting(made)
        lose_offsets(made, kafka)
        said = set_to(made, 15, 15)
        assert "5 events and 5 labels wait" in said
        the_rest(made)
        audited = made.audit()
        assert (audited.findings, audited.examples) == ([], 20)


@pytest.mark.long
def test_what_waited_before_goes_on_waiting_where_offsets_are_set_back(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, delivery=DYNAMIC) as made:
        worker = made.start()
        for number in range(5):
            made.visit(number)
        made.wait_until_done()
        assert worker.stop() == 0
        set_to(made, 4, 0)
        worker = made.start()
        made.wait_for(lambda: "partitions [0] owned" in worker.log[worker._log_start :], "going on")
        for number in range(5):
            made.truth(number)
        made.wait_until_done()
        assert worker.stop() == 0
        assert made.audit().examples == 5


def test_what_is_passed_over_by_hand_is_counted_and_no_finding(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, delivery=DYNAMIC) as made:
        waiting(made)
        for number in range(20, 24):
            made.visit(number)
            made.truth(number)
        made.flush()
        said = set_to(made, 19, 19)
        assert "events 15 to 18 are never scored" in said
        the_rest(made)
        audited = made.audit()
        assert audited.findings == []
        assert audited.given_up == 4  # type: ignore[attr-defined]
