"""A worker pins the checkpoint of a model that serves no longer; of one that was left often the newest pins stay."""

import pytest

from stream_ml.follower.checkpointing import LEFT_MAX
from stream_ml.storage.retention import PINS, pins_of
from tests.support.follower_on_a_list import LINEAR, App, Log


def test_of_a_model_that_was_left_often_the_newest_pins_stay_and_others_are_not_touched(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    lineage = app.serving(config)
    log.usual(50)
    app.started(config).finish(1.0, 30.0)
    follower = app.started(config)
    folder = config.path(config.checkpoints.directory) / lineage
    (position,) = [int(path.stem) for path in folder.glob("*.ckpt")]
    (folder / PINS).mkdir()
    (folder / PINS / f"{position:020d}.mine.json").write_text("{}")
    for epoch in range(100, 100 + LEFT_MAX + 5):
        follower.checkpoints.pin_left(lineage, epoch)
    names = pins_of(folder)[position]
    assert sorted(names) == sorted(["mine", *(f"left-{epoch}" for epoch in range(105, 105 + LEFT_MAX))])
    follower.checkpoints.pin_left("f" * 16, 3)  # of which nothing is here


def test_a_disk_that_takes_no_pin_is_told_and_the_worker_goes_on(
    app: App, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    config = app.config(LINEAR)
    lineage = app.serving(config)
    log.usual(50)
    app.started(config).finish(1.0, 30.0)
    follower = app.started(config)
    folder = config.path(config.checkpoints.directory) / lineage
    (folder / PINS).write_text("no folder")
    follower.checkpoints.pin_left(lineage, 7)
    assert "could not be pinned" in caplog.text
    (folder / PINS).unlink()
