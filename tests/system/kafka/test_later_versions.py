"""What a later version of the service wrote is never taken for nothing: it halts or suspends, and says what helps."""

import io
from pathlib import Path
from typing import Any

import fastavro
import pytest
from typer.testing import CliRunner

from stream_ml import formats
from stream_ml.cli.app import app
from stream_ml.core.log.entry import encode_command
from stream_ml.embedded.broker import free_port
from tests.support.service import Service, service

pytestmark = pytest.mark.kafka

DYNAMIC: dict[str, Any] = {"delivery": {"membership": "dynamic"}}  # its place is free as soon as it has stopped


def typed(made: Service, *words: str) -> str:
    """What a verb prints, or the words of its error."""
    file = str(made.folder / "w1.yaml")
    found = CliRunner().invoke(app, [file if word == "CONFIG" else word for word in words])
    return f"{found.output}{found.exception or ''}{getattr(found.exception, 'hint', '')}"


def later_prediction(made: Service, offset: int) -> bytes:
    """A prediction of a format that comes after this one: only what stands in front is known of it."""
    raw = formats.load("prediction")
    schema = {**raw, "name": "Later", "fields": [*raw["fields"][:6], {"name": "more", "type": "string"}]}
    values: dict[str, Any] = {"format": 3, "event_id": f"v{offset}", "event_time": 0, "more": "anything"}
    values |= {"event_topic": made.config.events.topic, "event_partition": 0, "event_offset": offset}
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), values)
    return b"\xc3\x01" + b"\x07" * 8 + stream.getvalue()


@pytest.mark.long
def test_a_partition_on_which_a_later_version_has_worked_is_suspended(kafka: str, app_id: str, tmp_path: Path) -> None:
    """Taken for no prediction its event would count as a dead letter, and be lost."""
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, **DYNAMIC) as made:
        worker = made.start()
        for number in range(10):
            made.visit(number)
        made.flush()
        made.wait_for(lambda: len(made.predictions()) == 10, "ten predictions")
        worker.kill()
        topic, value = made.config.predictions.topic, later_prediction(made, 3)
        made.producer.produce(topic, value[:30], partition=0)  # cut: nobody's
        made.producer.produce(topic, value, partition=0)
        made.flush()
        made.start()
        made.wait_for(lambda: "suspended" in made.problems(), "the suspension")
        said = made.problems()
        assert "a prediction of format 3, and this version reads 2" in said
        assert "a later version of stream_ml has worked on this partition" in said
        assert f"{topic} [0] 1" in said, "the record is named"
        assert made.status()["state"] == "running" and not made.status()["ready"]
        assert made.workers[-1].stop() == 0
        place = ("--partition", "0", "--events", "10", "--feedback", "0")
        done = typed(made, "offsets", "set", "CONFIG", *place, "--forget-waiting")
        assert "rebase written" in done, done
        made.start()
        for number in range(10, 15):
            made.visit(number)
        made.flush()
        made.wait_for(lambda: made.progress()[0] == 15, "going on without what waited")


def test_learning_halts_at_a_command_of_a_later_version_until_somebody_says_that_none_wrote_it(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(5))
        made.wait_for(lambda: made.learned == 5, "five examples")
        made.raw_log(encode_command("promote", {"lineage": "x"}, written_at_ms=0, writer="operator"))
        made.flush()
        made.wait_for(lambda: made.status()["model"]["halted"] is not None, "the halt")
        halted = made.status()["model"]["halted"]
        at = halted["position"]
        assert halted["reason"] == "unknown_command" and "install the version" in halted["suggestion"]
        assert "the command 'promote'; it was written by a later version" in made.problems()
        made.visit(5)
        made.flush()
        made.wait_for(lambda: made.predictions()[-1]["flags"] == "learning_halted", "a flagged prediction")
        refused = typed(made, "skip", "CONFIG", str(at), "--anyway")
        assert "no replica passes it over" in refused and f"skip CONFIG {at} --later" in refused
        assert "every replica obeys" in typed(made, "skip", "CONFIG", str(at), "--later")
        made.pairs(range(6, 10))
        made.wait_for(lambda: made.learned == 9, "what came after it")
        assert made.audit().counts == {}
