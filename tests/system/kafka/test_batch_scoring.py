"""Batch scoring beside a real Kafka: into a topic each once, and by a schedule what has come since."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka.admin import NewTopic
from pyarrow import parquet

from stream_ml.app.assemble import assemble
from stream_ml.core.avro.record import encode_record
from stream_ml.kafka.clients import admin
from stream_ml.runtime import failpoints
from tests.support.service import Service, brothers, read_single_object, service, until
from tests.system.kafka.test_leaves import event

pytestmark = pytest.mark.kafka

WAIT_S = 60.0
ROWS = 30_000  # four pieces
EVERY_SECOND = "* * * * * *"


@pytest.fixture
def made(kafka: str, app_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service that has learned 300 examples and was stopped; this folder is the one of its verbs."""
    monkeypatch.chdir(tmp_path)
    with service(tmp_path, kafka, app_id) as found:
        worker = found.start()
        found.pairs(range(300))
        found.wait_until_done()
        assert worker.stop() == 0, worker.log
        yield found


def topic(made: Service) -> str:
    """A new topic of three partitions, for predictions of files."""
    name, client = f"{made.config.app.id}-scored", admin(made.config)
    for future in client.create_topics([NewTopic(name, num_partitions=3)]).values():
        future.result()
    return name


def rows(path: Path, first: int, count: int) -> Path:
    path.write_text("".join(json.dumps(event(first + number)) + "\n" for number in range(count)), "utf-8")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def predicted(made: Service, name: str) -> list[dict[str, Any]]:
    schema = fastavro.parse_schema(assemble(made.config).predictions.schema)
    values = [record.value or b"" for number in range(3) for record in made.read(name, number)]
    return [read_single_object(value, schema) for value in values]


def verb(made: Service, *words: str, **variables: str) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-m", "stream_ml", "predict", str(made.folder / "w1.yaml"), *words]
    return subprocess.Popen(
        arguments, env=made.environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@contextlib.contextmanager
def running(made: Service, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that scores every second, until it is told to stop."""
    process = verb(made, *words, "--schedule", EVERY_SECOND, "--json")
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, said


@pytest.mark.parametrize("place", brothers("before-commit:kill:2", "after-flush:kill:3", "before-commit:kill:5"))
def test_predictions_in_a_topic_are_there_once_however_often_the_work_is_begun(
    place: str, made: Service, tmp_path: Path
) -> None:
    name, file = topic(made), rows(tmp_path / "rows.jsonl", 1_000, ROWS)
    broken = file.read_text().replace('"x": 81.0', '"x": "much"', 2)
    file.write_text(broken)
    words = (str(file), "--out", f"topic:{name}")
    begun = verb(made, *words, **{failpoints.VARIABLE: place})
    begun.communicate(timeout=WAIT_S)
    assert begun.returncode == -signal.SIGKILL
    made.visit(5_000)  # another version would serve by now
    made.truth(5_000)
    worker = made.start()
    made.wait_until_done()
    assert worker.stop() == 0
    said = made.typed("predict", "CONFIG", *words)
    assert f"{ROWS - 2:,} predictions of {ROWS:,} rows" in said and f"the topic {name}" in said, said
    found = predicted(made, name)
    assert len(found) == len({one["event_id"] for one in found}) == ROWS - 2
    assert {(one["lineage"], one["position"]) for one in found} == {(found[0]["lineage"], found[0]["position"])}
    assert {one["event_topic"] for one in found} == {"rows.jsonl"}
    (refused_file,) = tmp_path.glob(f"{name}.*.refused.jsonl")
    refused = [json.loads(line) for line in refused_file.read_text().splitlines()]
    assert len(refused) == 2 and refused[0]["row"] < refused[1]["row"]
    code, again = made.ended("predict", "CONFIG", *words)
    assert code == 78 and "are in" in again and "already" in again, again
    assert len(predicted(made, name)) == ROWS - 2

    version = f"{found[0]['lineage'][:8]}/{found[0]['position']}"
    made.typed("predict", "CONFIG", str(file), "--at", version, "--out", str(tmp_path / "same.parquet"))
    same = {one["event_id"]: one["score"] for one in parquet.read_table(tmp_path / "same.parquet").to_pylist()}
    assert same == {one["event_id"]: one["score"] for one in found}


def test_a_topic_that_is_not_there_or_is_the_app_s_own_is_refused(made: Service, tmp_path: Path) -> None:
    file = str(rows(tmp_path / "rows.jsonl", 0, 10))
    for name, words in (("nowhere", "no topic nowhere"), (made.config.predictions.topic, "a topic of the app itself")):
        for more in ((), ("--schedule", EVERY_SECOND)):
            code, said = made.ended("predict", "CONFIG", file, "--out", f"topic:{name}", *more)
            assert code == 78 and words in said, said
    code, said = made.ended("predict", "CONFIG", file, "--out", "x.parquet", "--schedule", EVERY_SECOND)
    assert code == 78 and "{file}" in said, said
    code, said = made.ended("predict", "CONFIG", file, "--from", "2020-01-01", "--schedule", EVERY_SECOND)
    assert code == 78 and "patterns of files" in said, said


def test_a_schedule_scores_each_file_once_and_says_which_it_cannot(made: Service, tmp_path: Path) -> None:
    inbox, outbox = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    words = (str(inbox / "*.jsonl"), str(inbox / "*.parquet"), "--out", str(outbox / "{file}.parquet"))

    def there(*names: str) -> bool:
        return sorted(path.name for path in outbox.glob("*.parquet")) == sorted(names)

    rows(inbox / "one.jsonl", 0, 100)
    (inbox / "broken.parquet").write_bytes(b"no parquet")
    os.utime(inbox / "broken.parquet", (1_700_000_000, 1_700_000_000))
    with running(made, *words):
        assert until(lambda: there("one.parquet"), WAIT_S), list(outbox.glob("*"))
        rows(inbox / "two.jsonl", 100, 50)
        assert until(lambda: there("one.parquet", "two.parquet"), WAIT_S)
        (kept,) = (tmp_path / made.config.checkpoints.directory).glob("predict-*.json")
        assert until(lambda: "broken.parquet cannot be read" in kept.read_text(), WAIT_S)
        code, said = made.ended("predict", "CONFIG", *words, "--schedule", EVERY_SECOND)
        assert code == 78 and "another process does" in said, said
    rows(inbox / "two.jsonl", 100, 60)  # it has grown: its result is made anew
    rows(inbox / "three.jsonl", 200, 7)
    made.typed("predict", "CONFIG", str(inbox / "three.jsonl"), "--out", str(tmp_path / "good.parquet"))
    (inbox / "broken.parquet").write_bytes((tmp_path / "good.parquet").read_bytes())  # of other columns
    os.utime(inbox / "broken.parquet", (1_700_000_001, 1_700_000_001))
    with running(made, *words):
        names = ("one.parquet", "two.parquet", "three.parquet", "broken.parquet")
        assert until(lambda: there(*names), WAIT_S), list(outbox.glob("*"))
        assert until(lambda: parquet.read_metadata(outbox / "two.parquet").num_rows == 60, WAIT_S)
    counts = {path.stem: parquet.read_table(path).num_rows for path in outbox.glob("*.parquet")}
    assert counts == {"one": 100, "two": 60, "three": 7, "broken": 0}
    assert len((outbox / "broken.parquet.refused.jsonl").read_text().splitlines()) == 7
    runs = json.loads(kept.read_text())["runs"]
    assert sorted(one["rows"] for one in runs) == [7, 7, 50, 60, 100] and all(one["version"] for one in runs)


def test_a_schedule_of_events_takes_each_once_from_run_to_run(made: Service, tmp_path: Path) -> None:
    """Also those that were stamped before the last run and came after it, and where a process ended before it noted
    that a run was done."""
    name = topic(made)
    words = ("--from", "2020-01-01", "--out", f"topic:{name}")
    with running(made, *words):
        assert until(lambda: len(predicted(made, name)) == 300, WAIT_S)
        (kept,) = (tmp_path / made.config.checkpoints.directory).glob("predict-*.json")
        assert until(lambda: len(json.loads(kept.read_text())["runs"]) == 1, WAIT_S)
        late = encode_record(made.VISIT_SCHEMA, event(300))
        made.producer.produce(
            made.config.events.topic, late, b"v300", partition=0, timestamp=int(1000 * time.time()) - 60_000
        )
        for number in range(301, 340):
            made.visit(number)
            made.flush()
        assert until(lambda: len(predicted(made, name)) == 340, WAIT_S)
    state = json.loads(kept.read_text())
    last = state["runs"][-1]
    key = datetime.fromisoformat(last["due"]).strftime("%Y%m%dT%H%M%SZ")
    end = state["offsets"]["0"]
    ranges = {"0": [end - last["rows"], end]}
    kept.write_text(json.dumps({**state, "running": {"key": key, "ranges": ranges, "stop": state["offsets"]}}))
    for number in range(340, 350):
        made.visit(number)
    made.flush()
    with running(made, *words):
        assert until(lambda: len(predicted(made, name)) == 350, WAIT_S)
    found = predicted(made, name)
    assert sorted(one["event_offset"] for one in found) == list(range(350))
    assert {one["event_topic"] for one in found} == {made.config.events.topic}


def test_a_time_into_a_topic_is_what_it_was_when_it_was_begun(made: Service) -> None:
    """Whatever comes meanwhile: the same command goes on, and does not begin another work."""
    name = topic(made)
    words = ("--from", "2020-01-01", "--to", "2100-01-01", "--out", f"topic:{name}")
    for number in range(300, 5_000):
        made.visit(number)
    made.flush()
    begun = verb(made, *words, **{failpoints.VARIABLE: "before-commit:kill:2"})
    begun.communicate(timeout=WAIT_S)
    assert begun.returncode == -signal.SIGKILL and 0 < len(predicted(made, name)) < 5_000
    made.visit(5_000)
    made.flush()
    made.typed("predict", "CONFIG", *words)
    found = [one["event_offset"] for one in predicted(made, name)]
    assert sorted(found) == list(range(5_000))
