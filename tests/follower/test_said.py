"""What a follower logs of halts: each once, and none in silence."""

import logging
import re
from pathlib import Path

import pytest

from tests.core.fold.test_fold import BAD
from tests.support.follower_on_a_list import BRITTLE, App, on_a_list, settle, write_checkpoints


def test_the_halt_of_a_successor_is_logged_also_where_nothing_follows_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stream_ml.follower")
    with on_a_list() as log:
        app = App(tmp_path, log)
        config = app.config(BRITTLE)
        app.serving(config)
        worker = settle(app.started(config), log)
        write_checkpoints(worker)
        log.usual(200)  # the successor comes when the head is at the end
        settle(worker, log)
        halted_at = log.example(BAD)
        settle(worker, log)
        for _ in range(3):
            worker.turn(0.0)
        assert re.findall(r"learning halted at (\d+)", caplog.text) == [str(halted_at)]
        log.command("skip", position=halted_at)
        settle(worker, log)
        assert f"halt at {halted_at} of {worker.recipes.own.lineage} ended: folding again" in caplog.text
        assert caplog.text.rindex("has caught up with the log") > caplog.text.index("ended: folding again")
        worker.turn(0.0)
        assert re.findall(r"learning halted at (\d+)", caplog.text) == [str(halted_at)]
