"""What a person gets who types something wrong: one message, what to type next, no flood and no traceback."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_ml.cli.app import app

NOWHERE = "kafka.bootstrap_servers=127.0.0.1:1"


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The configuration of a new app."""
    CliRunner().invoke(app, ["init", str(tmp_path / "shop")])
    return str(tmp_path / "shop" / "stream_ml.yaml")


def typed(*words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "stream_ml", *words], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_the_version_is_printed() -> None:
    found = CliRunner().invoke(app, ["--version"])
    assert (found.exit_code, found.output) == (0, f"stream-ml {version('stream-ml')}\n")


def test_a_kafka_that_is_not_there_is_told_once_and_nobody_waits(config: str) -> None:
    code, _, errors = typed("tail", config, "events", "--set", NOWHERE)
    assert code == 69
    assert errors.splitlines() == [
        "stream-ml: Kafka at 127.0.0.1:1 does not answer: no broker can be connected to",
        "  -> is it running, and is kafka.bootstrap_servers right?",
    ]


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    code, _, errors = typed("check", str(tmp_path))
    assert code == 78 and f"{tmp_path} is a folder" in errors and "stream_ml.yaml" in errors


def test_a_downtime_is_read_whether_or_not_kafka_is_asked(config: str) -> None:
    code, out, errors = typed("check", config, "--downtime", "soon")
    assert code == 78 and "--downtime: 'soon' is not a duration" in out + errors


def test_an_empty_file_is_told_what_makes_one(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("", "utf-8")
    assert "stream-ml init" in typed("check", str(tmp_path / "empty.yaml"))[2]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["broker", "FOLDER/kafka", "--port", "99999"], 2, "--port"),
        (["broker", "FOLDER/kafka", "--port", "-1"], 2, "--port"),
        (["demo", "--limit", "0"], 2, "--limit"),
        (["init", "FOLDER/a-file", "--app", "x"], 78, "a-file is a file: name a folder"),
        (["init", "/proc/x", "--app", "x"], 78, "/proc/x cannot be made"),
        (["init", "FOLDER/new", "--event-schema", "FOLDER/a-file"], 78, "a-file is no text"),
        (["init", "FOLDER/new", "--events", "same", "--feedback", "same"], 78, "same is named for events and"),
        (["top", "FOLDER/shop/stream_ml.yaml", "--url", "nonsense"], 78, "nonsense is no address: http://HOST:PORT"),
        (["top", "FOLDER/shop/stream_ml.yaml", "--url", "file:///etc/hostname"], 78, "is no address: http://HOST:PORT"),
    ],
)
def test_a_wrong_word_is_refused_in_words(config: str, tmp_path: Path, words: list[str], code: int, told: str) -> None:
    (tmp_path / "a-file").write_bytes(b"\xff\xfe")
    found, out, errors = typed(*(word.replace("FOLDER", str(tmp_path)) for word in words))
    assert "Traceback" not in errors and found == code, errors
    assert told in out + errors
