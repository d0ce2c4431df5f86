"""The log: JSON with fields where nobody watches, words on a terminal, no flood from the Kafka client."""

import importlib
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from stream_ml.cli.logs import CLIENT, set_up_log
from stream_ml.config import Config

SOURCE = {"topic": "t", "schema": "s", "id": "key"}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    """A stream that somebody watches."""

    def isatty(self) -> bool:
        return True


def config(**log: Any) -> Config:
    """A configuration that logs so."""
    return Config(
        app={"id": "a"},
        kafka={"bootstrap_servers": "none:1"},
        events=SOURCE,
        feedback={**SOURCE, "topic": "f", "label": "y", "ttl": "1h"},
        predictions={"topic": "p"},
        model={"factory": "m:f", "task": "binary"},
        log=log,
    )


def halted() -> None:
    """A line with fields."""
    extra = {"topic": "a.training-log", "partition": 0, "offset": 7, "hint": "stream-ml skip CONFIG 7"}
    logging.getLogger("stream_ml.follower.follower").error("learning halted at %d (%s)", 7, "gap", extra=extra)


def test_a_line_for_machines_has_its_fields() -> None:
    into = io.StringIO()
    set_up_log(config(), into)
    halted()
    line = json.loads(into.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "message": "learning halted at 7 (gap)",
        "level": "error",
        "logger": "stream_ml.follower.follower",
        "topic": "a.training-log",
        "partition": 0,
        "offset": 7,
        "hint": "stream-ml skip CONFIG 7",
    }


def test_a_line_for_people_says_what_to_type() -> None:
    into = Terminal()
    set_up_log(config(), into)
    halted()
    assert into.getvalue()[9:] == "ERROR learning halted at 7 (gap)\n  -> stream-ml skip CONFIG 7\n"


@pytest.mark.parametrize(("format_", "stream", "is_json"), [("json", Terminal(), True), ("text", io.StringIO(), False)])
def test_the_form_can_be_chosen(format_: str, stream: io.StringIO, is_json: bool) -> None:
    set_up_log(config(format=format_), stream)
    halted()
    assert stream.getvalue().startswith("{") is is_json


def test_an_exception_keeps_its_traceback() -> None:
    into = io.StringIO()
    set_up_log(config(), into)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("stream_ml").exception("it broke")
    assert "ValueError: broken" in json.loads(into.getvalue())["exception"]


def test_a_level_below_the_chosen_one_is_not_written() -> None:
    into = io.StringIO()
    set_up_log(config(level="error"), into)
    logging.getLogger("stream_ml").warning("no")
    assert into.getvalue() == ""


def test_what_the_service_itself_says_is_written_however_often() -> None:
    into = io.StringIO()
    set_up_log(config(), into)
    for number in range(3):
        logging.getLogger("stream_ml.worker.loop").warning("partition %d has another owner", number)
    assert len(into.getvalue().splitlines()) == 3


def test_the_loggers_of_the_kafka_client_exist() -> None:
    assert all(importlib.import_module(name).log.name == name for name in CLIENT)


def test_what_the_kafka_client_repeats_is_counted_and_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("stream_ml.cli.logs.time.monotonic", lambda: now[0])
    into = io.StringIO()
    set_up_log(config(), into)
    for attempt in range(50):
        logging.getLogger("stream_ml.kafka.clients").warning("connect to 127.0.0.1:%d failed", 1000 + attempt)
    logging.getLogger("stream_ml.kafka.clients").warning("something else")
    now[0] = 31.0
    logging.getLogger("stream_ml.kafka.clients").warning("connect to 127.0.0.1:%d failed", 7)
    assert [json.loads(line)["message"] for line in into.getvalue().splitlines()] == [
        "connect to 127.0.0.1:1000 failed",
        "something else",
        "connect to 127.0.0.1:7 failed (49 more like it in between)",
    ]
