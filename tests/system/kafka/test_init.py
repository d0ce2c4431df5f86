"""What ``stream-ml init`` writes runs as its README says, typed line by line; a topic's records propose a schema."""

import functools
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from stream_ml.admin.observer import Observer
from stream_ml.cli.app import app
from stream_ml.config import load_config
from stream_ml.embedded.broker import free_port
from tests.support.service import brothers, until

pytestmark = pytest.mark.kafka


def stream_ml(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command line, as typed in a folder."""
    command = [sys.executable, "-m", "stream_ml", *arguments]
    settings = {**os.environ, "STREAM_ML_HTTP__PORT": str(free_port())}
    settings.pop("PYTHONHASHSEED", None)
    return subprocess.Popen(
        command, cwd=folder, env=settings, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and output."""
    out, _ = process.communicate(timeout=90)
    return process.returncode, out


def all_read(observer: Observer, records: int) -> bool:
    """Whether so many records are committed."""
    return sum((s.pair.events or 0) + (s.pair.feedback or 0) for s in observer.shown()) == records


@pytest.mark.parametrize("task", brothers("binary", "multiclass", "regression"))
def test_the_readme_runs_as_written(kafka: str, app_id: str, tmp_path: Path, task: str) -> None:
    folder = tmp_path / app_id
    made = CliRunner().invoke(app, ["init", str(folder), "--kafka", kafka, "--task", task])
    assert made.exit_code == 0, made.output
    lines = [line.strip() for line in (folder / "README.md").read_text("utf-8").splitlines() if line.startswith("    ")]
    commands = [shlex.split(line, comments=True) for line in lines]
    assert [command[1] for command in commands] == ["check", "topics", "run", "play", "audit"]
    for command in commands:
        process = stream_ml(folder, *command[1:])
        if command[1] == "run":
            running = process  # in a terminal of its own
            continue
        code, said = finished(process)
        assert code == 0, said
        if command[1] == "play":
            observer = Observer(load_config(folder / "stream_ml.yaml"), 4)
            assert until(functools.partial(all_read, observer, 400), 60)
            observer.close()
            running.send_signal(signal.SIGINT)
            assert finished(running)[0] == 130
    assert "200 events, 200 labels: 200 predictions, 200 examples" in said and "nothing is wrong" in said


def test_json_records_of_a_topic_propose_a_schema(kafka: str, app_id: str, tmp_path: Path) -> None:
    topic = NewTopic(f"{app_id}-orders", 2)
    client = AdminClient({"bootstrap.servers": kafka})
    client.create_topics([topic])[topic.topic].result()
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(20):
        row = {"order_id": f"o{number}", "at": "2026-01-31T12:30:00Z", "amount": number / 2, "rush": number % 2 == 0}
        producer.produce(topic.topic, json.dumps(row).encode())
    assert producer.flush(30) == 0
    folder = tmp_path / "app"
    flags = ["--kafka", kafka, "--app", app_id, "--events", topic.topic, "--from-topic"]
    made = CliRunner().invoke(app, ["init", str(folder), *flags])
    assert made.exit_code == 0, f"{made.output}{made.exception}"
    assert "20 records looked at: JSON objects" in made.output
    schema = json.loads((folder / "event.avsc").read_text("utf-8"))
    assert {field["name"]: field["type"] for field in schema["fields"]} == {
        "order_id": "string",
        "at": {"type": "long", "logicalType": "timestamp-millis"},
        "amount": "double",
        "rush": "boolean",
    }
    assert "id: order_id" in (folder / "stream_ml.yaml").read_text("utf-8")


def test_a_topic_that_does_not_exist_proposes_nothing(kafka: str, app_id: str, tmp_path: Path) -> None:
    flags = ["--kafka", kafka, "--events", f"{app_id}-nowhere", "--from-topic"]
    refused = CliRunner().invoke(app, ["init", str(tmp_path / "app"), *flags])
    assert f"there is no topic {app_id}-nowhere" in str(refused.exception)


@pytest.mark.parametrize("name", ["größe", "x\nhttp: {port: 1}\ny_id", "order id", "1st"])
def test_a_json_key_that_is_no_name_in_avro_is_refused_in_words(
    kafka: str, app_id: str, tmp_path: Path, name: str
) -> None:
    topic = NewTopic(f"{app_id}-orders", 1)
    client = AdminClient({"bootstrap.servers": kafka})
    client.create_topics([topic])[topic.topic].result()
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic.topic, json.dumps({"id": "a", "place": {name: 1}}).encode())
    assert producer.flush(30) == 0
    flags = ["--kafka", kafka, "--app", app_id, "--events", topic.topic, "--from-topic"]
    refused = CliRunner().invoke(app, ["init", str(tmp_path / "app"), *flags])
    assert f"place has the name {name!r}, which Avro does not allow" in str(refused.exception)
    assert not (tmp_path / "app").exists()
