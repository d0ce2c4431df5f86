"""A model leaves its service, learns elsewhere without Kafka, survives kills there, and what it took is merged."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stream_ml.core.avro.from_json import SchemaMismatch
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.offline.exported import read_export
from stream_ml.offline.journal import read_journal
from stream_ml.offline.local import LocalApp
from tests.support.other_versions import other_river
from tests.support.service import T0, Service, service

pytestmark = pytest.mark.kafka

SCRIPT = """
import json, sys
from stream_ml import LocalApp
app = LocalApp.load(sys.argv[1], sys.argv[2])
print(json.dumps([app.predict_many([json.loads(line)])[0] for line in sys.stdin], default=str))
"""


def event(number: int) -> dict[str, Any]:
    return {"id": f"v{number}", "at": T0 + 1000 * number, "x": float(number * 7919 % 100), "kind": f"k{number % 3}"}


def label(number: int) -> dict[str, Any]:
    return {"id": f"v{number}", "at": T0 + 1000 * (number + 30), "y": number * 7919 % 100 > 50}


def exported(made: Service, *more: str) -> Path:
    """The folder of an export; a worker has learned 200 examples, and ended."""
    worker = made.start()
    made.pairs(range(200))
    made.wait_until_done()
    assert worker.stop() == 0, worker.log
    folder = made.folder / "edge"
    said = made.typed("models", "export", "CONFIG", "build", str(folder), *more)
    assert "200 examples" in said and f"sealed with {folder}.key" in said, said
    return folder


def local(made: Service, folder: Path, *more: str) -> "subprocess.Popen[str]":
    """``stream-ml local``, which is asked by lines; nothing of Kafka's address is there."""
    command = [sys.executable, "-m", "stream_ml", "local", str(folder), *more]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=made.environment(), **pipes)  # type: ignore[call-overload, no-any-return]


def asked(process: "subprocess.Popen[str]", number: int) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(event(number)) + "\n")
    process.stdin.flush()
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def test_a_model_learns_elsewhere_survives_kills_and_what_it_took_is_merged(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        folder, labels = exported(made), tmp_path / "labels.jsonl"
        more = ("--journal", str(tmp_path / "journal"), "--labels", str(labels))
        first = local(made, folder, *more)
        scores = [asked(first, number)["score"] for number in range(200, 220)]
        with labels.open("a") as file:
            file.writelines(json.dumps(label(number)) + "\n" for number in range(200, 215))
            file.write('{"half": ')
        scores += [asked(first, number)["score"] for number in range(220, 230)]
        first.kill()
        first.communicate()
        with (tmp_path / "journal").open("ab") as journal:
            journal.write(b'[1, "events", 1')  # as a crash in the middle of a line leaves it
        labels.write_text("".join(json.dumps(label(number)) + "\n" for number in range(200, 230)), "utf-8")
        second = local(made, folder, *more)
        scores += [asked(second, number)["score"] for number in range(230, 240)]
        _, said = second.communicate()
        assert "30 examples learned here" in said, said
        assert second.returncode == 0
        taken = list(read_journal(tmp_path / "journal"))
        assert [one.kind for one in taken].count("events") == 40
        assert [one.kind for one in taken].count("feedback") == 30, "each label once, over the kill"

        worker = made.start()
        assert "40 events and 30 labels" in made.typed("merge", "CONFIG", str(tmp_path / "journal"))
        made.typed("merge", "CONFIG", str(tmp_path / "journal"))  # twice does no harm
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        published = {one["event_id"]: one for one in reversed(made.predictions())}
        first_scores = [published[f"v{number}"]["score"] for number in range(200, 220)]
        assert scores[:20] == first_scores, "before anything was learned they are the service's, to the bit"
        found = made.audited(sample=50)
        assert not found["findings"] and found["examples"] == 230, found


def test_elsewhere_it_learns_what_the_service_would(kafka: str, app_id: str, tmp_path: Path) -> None:
    """The same events and labels in the same order: the same model, to the last bit."""
    with service(tmp_path, kafka, app_id) as made:
        folder = exported(made)
        process = local(made, folder, "--labels", str(tmp_path / "labels.jsonl"))
        for number in range(200, 260):
            asked(process, number)
        lines = (json.dumps(label(number)) + "\n" for number in range(200, 260))
        (tmp_path / "labels.jsonl").write_text("".join(lines), "utf-8")
        last = asked(process, 999)
        process.communicate()
        worker = made.start()
        made.pairs(range(200, 260))
        made.wait_until_done()
        made.visit(999)
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        assert last["score"] == made.predictions()[-1]["score"]


def test_an_export_that_is_not_right_is_refused_in_words(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        folder = exported(made)
        key = tmp_path / "edge.key"
        code, said = made.ended("models", "export", "CONFIG", "build", str(folder))
        assert code == 78 and "is there already" in said
        code, said = made.ended("models", "export", "CONFIG", "build", str(tmp_path / "none"), "--at", "3")
        assert code == 78 and "the checkpoints of build are at" in said and "none up to 3" in said
        assert not (tmp_path / "none").exists()
        assert read_export(folder, key).examples_learned == 200
        other = tmp_path / "other.key"
        other.write_text("another key of 32 characters....")
        with pytest.raises(ConfigError, match="is not sealed with"):
            read_export(folder, other)
        with pytest.raises(ConfigError, match="does not exist"):
            read_export(tmp_path / "edgy", key)
        secret = made.facts().log.hash_key
        assert not any(secret.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert not (tmp_path / "none.key").exists(), "a failed export leaves no key"
        with pytest.raises(ConfigError, match="no export of a model"):
            read_export(tmp_path, key)
        changed = shutil.copytree(folder, tmp_path / "changed")
        source = changed / f"model_{app_id}.py"
        source.write_text(source.read_text() + "\n# changed\n")
        source.write_text(source.read_text() + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
        with pytest.raises(CheckpointError, match="is another file than was exported"):
            read_export(changed, key)
        assert not (tmp_path / "ran").exists(), "nothing of it runs"
        for name, said in (("more.py", "no file of the export"), ("stream_ml.yaml", "another file than was exported")):
            changed = shutil.copytree(folder, tmp_path / name.partition(".")[0])
            with (changed / name).open("a") as file:
                file.write("\n")
            with pytest.raises(CheckpointError, match=said):
                read_export(changed, key)
        (changed / "events.avsc").unlink()
        with pytest.raises(CheckpointError, match=r"is missing|another file"):
            read_export(changed, key)
        (checkpoint,) = (tmp_path / "edge/checkpoints").glob("*/*.ckpt")
        content = bytearray(checkpoint.read_bytes())
        content[-1] ^= 1
        checkpoint.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged"):
            read_export(folder, key)


@pytest.mark.long
def test_other_versions_and_another_hash_seed_are_said(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        folder = exported(made)
        environment = {**os.environ, "PYTHONPATH": str(other_river(tmp_path))}
        command = [sys.executable, "-m", "stream_ml", "local", str(folder)]
        done = subprocess.run(command, input="", env=environment, text=True, capture_output=True, check=False)
        assert done.returncode == 78 and "cannot be built here: it was made with river" in done.stderr, done.stderr
        command = [sys.executable, "-c", SCRIPT, str(folder), f"{folder}.key"]
        environment = {**made.environment(), "PYTHONHASHSEED": "1"}
        lines = json.dumps(event(300))
        done = subprocess.run(command, input=lines, env=environment, text=True, capture_output=True, check=False)
        assert done.returncode == 0 or "try PYTHONHASHSEED=" in done.stderr, done.stderr


@pytest.mark.long
def test_the_library_and_the_verb_answer_alike_in_a_bad_row(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        folder = exported(made)
        process = local(made, folder)
        lines = ("no json", "[]", json.dumps({"id": "a"}), json.dumps(event(1) | {"x": "text"}), json.dumps(event(400)))
        out, said = process.communicate("\n".join(lines) + "\n")
        answers = [json.loads(line) for line in out.splitlines()]
        assert len(answers) == 5 and all("error" in one for one in answers[:4]) and "score" in answers[4], answers
        assert process.returncode == 0, said
        app = LocalApp.load(folder, f"{folder}.key")
        assert app.base is not None and app.base.position == read_export(folder, Path(f"{folder}.key")).base.position
        assert app.predict_many([event(400)])[0]["score"] == answers[4]["score"]


def test_labels_are_read_each_once_whatever_becomes_of_their_file(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        folder, labels = exported(made), tmp_path / "labels.jsonl"
        more = ("--journal", str(tmp_path / "journal"), "--labels", str(labels))
        first = local(made, folder, *more)
        for number in range(200, 220):
            asked(first, number)
        lines = [json.dumps(label(number)) for number in range(200, 210)]
        labels.write_text("\n".join([*lines[:5], "[1]", "null", "no json", *lines[5:]]) + "\n", "utf-8")
        _, said = first.communicate()
        assert "10 examples learned here" in said and said.count("a label is a JSON object") == 2, said
        labels.write_text("".join(json.dumps(label(number)) + "\n" for number in range(210, 220)), "utf-8")
        second = local(made, folder, *more)
        _, said = second.communicate()
        assert "20 examples learned here" in said and "another file of labels" in said, said
        again = made.ended("local", str(folder), "--journal", str(tmp_path / "journal"), "--labels", str(folder))
        assert again[0] == 78 and "is a folder" in again[1], again
        other = Service(tmp_path, kafka, "another")
        other.write()
        code, said = other.ended("merge", "CONFIG", str(tmp_path / "journal"))
        assert code == 78 and f"is of the app {app_id}, and this configuration is of another" in said, said


def test_a_journal_is_of_one_export_and_takes_no_record_that_could_not_be_merged(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        folder = exported(made)
        app = LocalApp.load(folder, f"{folder}.key", journal=tmp_path / "journal")
        with pytest.raises(SchemaMismatch, match="could never be merged"):
            app.predict_many([event(300) | {"note": "x" * 1_100_000}])
        assert app.predict_many([event(301)])[0]["event_id"] == "v301"
        app.close()
        worker = made.start()
        made.pairs(range(200, 210))
        made.wait_until_done()
        assert worker.stop() == 0
        newer = tmp_path / "newer"
        made.typed("models", "export", "CONFIG", "build", str(newer))
        with pytest.raises(ConfigError, match="was begun with"):
            LocalApp.load(newer, f"{newer}.key", journal=tmp_path / "journal")
