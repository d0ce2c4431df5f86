"""What operators order: freeze and resume, skip, offsets set by hand."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.core.log.entry import decode_entry
from stream_ml.errors import ConfigError
from tests.support.service import Service, brothers, service

pytestmark = pytest.mark.kafka


def cli(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def learn(made: Service, first: int, last: int) -> None:
    made.pairs(range(first, last))
    made.wait_until_done()


def test_while_frozen_nothing_is_learned_and_not_later_either(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        learn(made, 0, 50)
        assert "freeze stands in" in cli("freeze", tmp_path / "w1.yaml")
        learn(made, 50, 80)
        cli("resume", tmp_path / "w1.yaml")
        learn(made, 80, 100)
        assert worker.stop() == 0
        header = made.newest_checkpoint()
        assert header["examples_learned"] == 70
        assert made.audit().examples == 100
        assert made.refold(header["position"])["equal"]


def test_a_gap_halts_learning_scoring_goes_on_flagged_and_skip_lifts_it(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        learn(made, 0, 20)
        made.forge(5)
        made.wait_for(lambda: "learning halted at" in worker.log, "the halt")
        learn(made, 20, 40)
        assert made.predictions()[-1]["flags"] == "learning_halted"
        position = re.search(r"stream-ml skip CONFIG (\d+)", worker.log)
        assert position is not None
        cli("skip", tmp_path / "w1.yaml", position[1])
        made.wait_for(lambda: "ended: folding again" in worker.log, "the lift")
        learn(made, 40, 60)
        assert made.predictions()[-1]["flags"] == "", worker.log
        assert worker.stop() == 0
        header = made.newest_checkpoint()
        assert header["examples_learned"] == 60
        assert made.refold(header["position"])["equal"]


def refused(*arguments: str | Path) -> str:
    """The words of a verb that is refused."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(done.exception, ConfigError), (done.output, done.exception)
    return f"{done.exception} {done.exception.hint}"


@pytest.mark.parametrize("verb", brothers("skip", "accept-gap"))
def test_a_halt_that_is_none_cannot_be_lifted(kafka: str, app_id: str, tmp_path: Path, verb: str) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker, file = made.start(), tmp_path / "w1.yaml"
        learn(made, 0, 20)
        end = len(made.read(made.config.training_log_topic))
        for position in ("5", "100000"):
            assert f"learning is not halted at {position}" in refused(verb, file, position)
        made.forge(5)
        made.wait_for(lambda: "learning halted at" in worker.log, "the halt")
        learn(made, 20, 25)
        position = re.search(r"stream-ml skip CONFIG (\d+)", worker.log)
        assert position is not None
        words = refused(verb, file, "5")
        assert "learning is not halted at 5" in words and f"CONFIG {position[1]}" in words
        assert all(
            decode_entry(r.value or b"").kind != "command" for r in made.read(made.config.training_log_topic)[end:]
        )
        cli("skip", file, position[1])
        made.wait_for(lambda: "ended: folding again" in worker.log, "the lift")
        learn(made, 25, 30)
        assert f"learning is not halted at {position[1]}" in refused(verb, file, position[1])


@pytest.mark.long
def test_offsets_shown_and_set_backwards_score_again_without_halting(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, delivery={"membership": "dynamic"}) as made:
        worker = made.start()
        learn(made, 0, 30)
        assert worker.stop() == 0
        assert re.search(
            r"^0 +30 of 0-30 +30 of 0-30 +30 +" + app_id, cli("offsets", "show", tmp_path / "w1.yaml"), re.M
        )
        said = cli("offsets", "set", tmp_path / "w1.yaml", "--partition", 0, "--events", 10, "--feedback", 10)
        assert "rebase written at" in said
        worker = made.start()
        made.wait_until_done()
        assert worker.stop() == 0
        assert "halted" not in worker.log
        assert len(made.predictions()) == 50
        assert made.newest_checkpoint()["examples_learned"] == 50
