"""Folds a training log from its beginning to a checkpoint's position and compares both, to the last bit.

Run in a process of its own, with the hash seed of the model: ``refold.py CONFIG POSITION`` prints JSON.
"""

import json
import sys
from pathlib import Path

from stream_ml.assembly import assemble
from stream_ml.config import load_config
from stream_ml.core.replica import Replica
from stream_ml.errors import CheckpointError
from stream_ml.kafka.reading import read_range
from stream_ml.kafka.topics import inspect_topics
from stream_ml.records import LogRecord
from stream_ml.storage.checkpoints import CheckpointStore


def main() -> None:
    config, position = load_config(Path(sys.argv[1])), int(sys.argv[2])
    parts, facts = assemble(config), inspect_topics(config)
    lineage = parts.lineage(facts.training_log_id)
    replica = Replica(parts.fold_settings(lineage))
    for records in read_range(config, config.training_log, 0, 0, position, keep_alive=lambda: None):
        replica.fold([LogRecord(record.offset, record.value or b"") for record in records])
    store = CheckpointStore(config.path(config.checkpoints.directory), lineage, keep=5)
    checkpoint = next(iter(store.newest(position)))
    assert not isinstance(checkpoint, CheckpointError), checkpoint
    content = store.content(checkpoint, config.model.checkpoint_types)
    print(
        json.dumps(
            {
                "position": replica.position,
                "checkpoint_position": checkpoint.position,
                "examples": replica.examples_learned,
                "probes": len(replica.probes),
                "equal": replica.probe_bits() == content["probe_bits"],
                "quality_equal": replica.quality.report() == checkpoint.header["quality"],
                "dropped": replica.dropped,
                "halt": replica.halt,
            }
        )
    )


if __name__ == "__main__":
    main()
