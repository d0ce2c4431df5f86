"""A training log says which one it is; everything hangs on that and not on Kafka's id of its topic."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.core.log.entry import decode_entry, encode_command, encode_genesis
from stream_ml.core.log.identity import LogIdentity
from stream_ml.embedded.broker import free_port
from stream_ml.kafka.clients import admin
from tests.support.service import Service, any_hash_seed, service

pytestmark = pytest.mark.kafka


def first_entries(made: Service, count: int) -> list[Any]:
    """What the log begins with."""
    return [decode_entry(record.value or b"") for record in made.read(made.config.training_log_topic)[:count]]


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, env=any_hash_seed(), capture_output=True, text=True, check=False)


def test_the_log_begins_with_its_identity_and_the_secret_in_it_is_shown_nowhere(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        made.pairs(range(5))
        made.wait_for(lambda: len(made.predictions()) == 5, "five predictions")
        (entry,) = first_entries(made, 1)
        identity = LogIdentity.of(entry)
        assert (entry.kind, entry.parsed_arguments()["app"]) == ("genesis", app_id)
        assert made.facts().log == identity
        file = str(made.folder / "w1.yaml")
        tailed = CliRunner().invoke(app, ["tail", file, "training-log", "--json"])
        assert identity.log_id in tailed.stdout
        texts = [tailed.stdout, worker.log, json.dumps(made.status())]
        assert not [text for text in texts if identity.hash_key in text]


def test_of_workers_that_start_at_once_all_take_the_first_identity(kafka: str, app_id: str, tmp_path: Path) -> None:
    """Each may find an empty log and write one: only the first that is committed counts, and nobody is warned."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom stream_ml.config import load_config\n"
        "from stream_ml.follower.identity import _read, _write\nfrom stream_ml.kafka.topics import inspect_topics\n"
        "config = load_config(Path(sys.argv[1]))\nfacts = inspect_topics(config)\n_write(config, None)\n"
        "print(_read(config, facts.training_log_topic_id, None).log_id)\n"
    )
    with service(tmp_path, kafka, app_id) as made:
        command = [sys.executable, "-c", program, str(made.folder / "w1.yaml")]
        done = [_run(command) for _ in range(2)]
        assert {one.stdout.strip() for one in done} == {made.facts().log.log_id}, [one.stderr for one in done]
        made.start("w1")
        made.start("w2")
        made.pairs(range(20))
        made.wait_for(lambda: len(made.predictions()) == 20, "all predictions")
        kinds = [entry.kind for entry in first_entries(made, 3)]
        assert kinds == ["genesis"] * 3
        assert made.audit().counts == {}


def test_a_log_that_does_not_begin_with_an_identity_is_refused(kafka: str, app_id: str, tmp_path: Path) -> None:
    made = Service(tmp_path, kafka, app_id)
    with contextlib.closing(made):
        made.create_topics(named=False)
        made.raw_log(encode_command("freeze", {}, written_at_ms=0, writer="x"))
        made.flush()
        worker = made.start()
        assert worker.wait() == 78
        assert "does not begin with its identity" in worker.log and "take another app.id" in worker.log


def test_where_the_beginning_was_deleted_a_checkpoint_has_the_identity(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        made.pairs(range(30))
        made.wait_for(lambda: len(made.predictions()) == 30, "thirty predictions")
        made.wait_for(lambda: made.audit().examples == 30, "thirty examples")
        before = made.facts().log
        worker.stop()
        log = made.config.training_log_topic
        client = admin(made.config)
        client.delete_records([TopicPartition(log, 0, 20)])[TopicPartition(log, 0)].result(30)
        assert made.facts().log == before
        worker = made.start()
        made.pairs(range(30, 40))
        made.wait_for(lambda: len(made.predictions()) == 40, "forty predictions")
        made.wait_for(lambda: made.audit().examples >= 10, "more examples")


def test_a_second_identity_is_passed_over_and_said(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(5))
        made.wait_for(lambda: len(made.predictions()) == 5, "five predictions")
        made.raw_log(encode_genesis("0" * 32, "0" * 32, "other", written_at_ms=0, writer="somebody"))
        made.flush()
        made.wait_for(lambda: "claim that the log begins there" in made.problems(), "the warning")
        made.pairs(range(5, 10))
        made.wait_for(lambda: len(made.predictions()) == 10, "ten predictions")
        assert made.facts().log.log_id != "0" * 32


def test_a_key_for_a_log_that_began_without_one_needs_a_position(kafka: str, app_id: str, tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("a" * 32, "ascii")
    (tmp_path / "a.key").chmod(0o600)
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        made.pairs(range(5))
        made.wait_for(lambda: len(made.predictions()) == 5, "five predictions")
        assert worker.stop() == 0
        refused = made.start(training_log={"key_file": "a.key"})
        assert refused.wait() == 78
        assert "is not sealed with the key" in refused.log and "training_log.sealed_from" in refused.log
        end = len(made.read(made.config.training_log_topic))
        made.start(training_log={"key_file": "a.key", "sealed_from": 2 * end})
        made.pairs(range(5, 10))
        made.wait_for(lambda: len(made.predictions()) == 10, "going on")
