"""Folds a training log from its beginning to a position and compares checkpoints there with it, to the last bit.

Run in a process of its own, with the hash seed of the model: ``refold.py POSITION PARDONS CONFIG...`` prints JSON.
"""

import json
import sys
from pathlib import Path

from stream_ml.app.assemble import assemble
from stream_ml.config import Config, load_config
from stream_ml.core.fold.halt import Halt
from stream_ml.core.fold.replica import Replica
from stream_ml.errors import CheckpointError
from stream_ml.follower.identity import identified
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import inspect_topics
from stream_ml.records import LogRecord
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.keys import key_of


def main() -> None:
    position, override = int(sys.argv[1]), json.loads(sys.argv[2])
    configs = [load_config(Path(file)) for file in sys.argv[3:]]
    config = configs[0]
    parts, facts = assemble(config), identified(config, inspect_topics(config), make=False)
    lineage = parts.lineage(facts.log.log_id)
    replica = Replica(parts.fold_settings(lineage))
    for at, command in override.items():
        replica.halts.overrides.add(Halt(int(at), "", ""), command)
    for records in read_range(config, config.training_log_topic, 0, 0, position, keep_alive=lambda: None):
        replica.fold([LogRecord(record.offset, record.value or b"") for record in records])
    probes, report = replica.only.probe_bits(), replica.watch.quality.report()
    checkpoints = [newest(other, lineage, position) for other in configs]
    print(
        json.dumps(
            {
                "position": replica.position,
                "checkpoint_position": checkpoints[0][0].position,
                "examples": replica.only.examples_learned,
                "probes": len(replica.only.health.probes),
                "equal": all(content["probe_bits"] == probes for _, content in checkpoints),
                "quality_equal": all(checkpoint.header["quality"] == report for checkpoint, _ in checkpoints),
                "dropped": replica.book.dropped,
                "halt": replica.halt,
            }
        )
    )


def newest(config: Config, lineage: str, position: int) -> tuple[Checkpoint, dict[str, object]]:
    """The newest checkpoint of a worker at or before this position, and what it holds."""
    store = CheckpointStore(config.path(config.checkpoints.directory), lineage, keep=5, key=key_of(config))
    checkpoint = next(iter(store.newest(position)))
    assert not isinstance(checkpoint, CheckpointError), checkpoint
    return checkpoint, store.content(checkpoint, config.model.checkpoint_types)


if __name__ == "__main__":
    main()
