"""A training log whose entries are sealed: whoever may write to it and has no key teaches and orders nothing."""

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from stream_ml.admin.halts import halts
from stream_ml.cli.app import app
from stream_ml.core.log.seals import SEAL
from stream_ml.embedded.broker import free_port
from tests.support.service import Service, service, until

pytestmark = pytest.mark.kafka

KEYS = {"a.key": "a" * 32, "b.key": "b" * 32}
SOON_S = 20.0


def sealed(folder: Path, servers: str, app_id: str, **log: Any) -> Any:
    for name, key in KEYS.items():
        (folder / name).write_text(key, "utf-8")
        (folder / name).chmod(0o600)
    settings = {"key_file": "a.key"} | log
    return service(folder, servers, app_id, training_log=settings, http={"port": free_port()})


def cli(made: Service, *words: str) -> str:
    done = CliRunner().invoke(app, [*words[:1], str(made.folder / "w1.yaml"), *words[1:]])
    assert done.exit_code == 0, done.output
    return done.output


def halted(made: Service) -> Any:
    return made.status().get("model", {}).get("halted")


def skip(made: Service) -> None:
    """Pass over what halts learning, once the operators' commands know of it too."""
    at = halted(made)["position"]
    made.wait_for(lambda: at in halts(made.config), "the halt's signal")
    cli(made, "skip", str(at))


def again(made: Service, number: int) -> None:
    """An entry once more, with its headers, as anybody may write it who may write."""
    entry = made.read(made.config.training_log_topic)[number]
    producer = Producer({"bootstrap.servers": made.settings["kafka"]["bootstrap_servers"]})
    producer.produce(entry.topic, entry.value, None, 0, headers=list(entry.headers))
    assert producer.flush(20) == 0


def test_workers_and_operators_seal_what_they_write_and_a_stranger_halts_learning(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with sealed(tmp_path, kafka, app_id) as made:
        worker = made.start()
        made.pairs(range(20))
        made.flush()
        made.wait_for(lambda: made.learned == 20, "learning")
        entries = made.read(made.config.training_log_topic)
        assert all(SEAL in dict(entry.headers) for entry in entries)
        cli(made, "freeze")
        cli(made, "resume")
        again(made, len(entries) - 1)  # an example: it is dropped as a repeat
        made.pairs(range(20, 30))
        made.flush()
        made.wait_for(lambda: made.learned == 30, "learning on")
        told = {finding.rule for finding in made.audit(20).findings}
        assert told == {"sequence", "repeated", "pair"}  # of the entry that came again; every score is right

        again(made, len(entries))  # the freeze
        made.wait_for(lambda: bool(halted(made)), "a halt")
        assert "the log ended at" in made.problems()
        skip(made)
        made.wait_for(lambda: not halted(made), "the end of the halt")

        made.raw_log(entries[-1].value or b"")  # without its seal
        made.flush()
        made.wait_for(lambda: bool(halted(made)), "a halt")
        assert "not sealed with the key of training_log.key_file" in made.problems()
        assert "foreign" in {finding.rule for finding in made.audit(20).findings}
        skip(made)
        made.pairs(range(30, 40))
        made.flush()
        made.wait_for(lambda: made.learned == 40, "learning on")
        worker.kill()
        made.start(training_log={"key_file": "b.key", "old_key_files": ["a.key"]})
        made.pairs(range(40, 50))
        made.flush()
        made.wait_for(lambda: made.learned == 50, "learning with another key")
        assert "sealed with the key" in cli(made, "check")


@pytest.mark.long
def test_a_rebuild_believes_no_entry_without_a_seal(kafka: str, app_id: str, tmp_path: Path) -> None:
    with sealed(tmp_path, kafka, app_id) as made:
        worker = made.start()
        made.visit(0)
        made.truth(0)
        made.visit(1)
        made.flush()
        made.wait_for(lambda: made.learned == 1, "learning")
        assert until(lambda: len(made.predictions()) == 2, SOON_S)
        worker.kill()
        entry = made.read(made.config.training_log_topic)[-1]
        made.raw_log(_of_the_next_pair(entry.value or b""))  # as if the second event had been learned
        made.truth(1)
        made.flush()
        made.start()
        made.wait_for(lambda: bool(halted(made)), "a halt")
        skip(made)
        made.wait_for(lambda: made.learned == 2, "learning")


def _of_the_next_pair(value: bytes) -> bytes:
    from stream_ml.core.log.entry import Example, decode_entry, encode_example

    of = decode_entry(value)
    fields = {name: getattr(of, name) for name in Example._fields}
    moved = {"sequence": of.sequence + 1, "event_offset": of.event_offset + 1, "trigger_offset": of.trigger_offset + 1}
    forged = Example(**fields | moved | {"feedback_offset": of.feedback_offset + 1, "event_id": "v1"})
    return encode_example(forged, written_at_ms=of.written_at_ms, writer=of.writer)


def test_a_log_is_sealed_from_a_position_on(kafka: str, app_id: str, tmp_path: Path) -> None:
    with sealed(tmp_path, kafka, app_id) as made:
        plain = made.start(training_log={"key_file": None})
        made.pairs(range(10))
        made.flush()
        made.wait_for(lambda: made.learned == 10, "learning")
        assert plain.stop() == 0
        end = len(made.read(made.config.training_log_topic))
        made.start()
        made.wait_for(lambda: bool(halted(made)), "a halt at the first entry without a seal")
        assert halted(made)["position"] == 1
        made.workers[-1].kill()
        made.start(training_log={"sealed_from": end + 2})
        made.pairs(range(10, 20))
        made.flush()
        made.wait_for(lambda: made.learned == 20, "learning")
