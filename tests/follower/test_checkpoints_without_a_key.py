"""Who only reads, and has no key, believes no checkpoint: it folds the log; and a bucket needs a key that all have."""

import pytest

from stream_ml.config.service import BucketSettings, Checkpoints
from tests.support.follower_on_a_list import LINEAR, App, Log


def _written(app: App, log: Log) -> str:
    """A checkpoint, and its key gone: as of another machine, or of somebody else."""
    config = app.config(LINEAR)
    lineage = app.serving(config)
    log.usual(50)
    app.started(config).finish(1.0, 30.0)
    for key in config.path(config.checkpoints.directory).parent.glob(".stream_ml-*.key"):
        key.unlink()
    return lineage


def test_a_reader_without_a_key_folds_the_log_and_loads_nothing(app: App, log: Log) -> None:
    lineage = _written(app, log)
    reader = app.follower(app.config(LINEAR), reads_only=True)
    reader.start()
    assert reader.checkpoints.stands_at.get(lineage, 0) == 0 and reader.book.position == log.end


def test_where_the_configuration_says_so_it_loads_what_it_finds(app: App, log: Log) -> None:
    lineage, config = _written(app, log), app.config(LINEAR)
    unsealed = config.checkpoints.model_copy(update={"unsealed": True})
    reader = app.follower(config.model_copy(update={"checkpoints": unsealed}), reads_only=True)
    reader.start()
    assert reader.checkpoints.stands_at[lineage] > 0


def test_a_bucket_needs_a_key_that_all_have() -> None:
    bucket = BucketSettings(url="s3://shop/checkpoints")
    with pytest.raises(ValueError, match="bucket needs key_file, the same for all"):
        Checkpoints(bucket=bucket)
    assert Checkpoints(bucket=bucket, unsealed=True).bucket == bucket
