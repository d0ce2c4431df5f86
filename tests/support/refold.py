"""Folds a training log from its beginning and compares checkpoints with it at their positions, to the last bit.

Run in a process of its own, with the hash seed of the log: ``refold.py POSITION CONFIG...`` prints JSON. POSITION is
that of the model's newest checkpoint of the first configuration.
"""

import json
import sys
from pathlib import Path
from typing import Any

from stream_ml.app.assemble import assemble
from stream_ml.config import Config, load_config
from stream_ml.core.fold.halt import Refold, Remake
from stream_ml.core.fold.replica import Replica
from stream_ml.errors import CheckpointError
from stream_ml.follower.identity import identified
from stream_ml.follower.recipes import own_recipe
from stream_ml.follower.restore import BOOK
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import inspect_topics
from stream_ml.records import LogRecord
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.keys import key_of


def main() -> None:
    position = int(sys.argv[1])
    configs = [load_config(Path(file)) for file in sys.argv[2:]]
    config = configs[0]
    parts, facts = assemble(config), identified(config, inspect_topics(config), make=False)
    recipe = own_recipe(parts, facts.log)
    models = [newest(other, recipe.lineage, position) for other in configs]
    books = [newest(other, recipe.settings.watch, None, BOOK) for other in configs]
    topic = config.training_log_topic
    batches = read_range(config, topic, 0, *ends(admin(config), [(topic, 0)])[topic, 0], keep_alive=lambda: None)
    log = [LogRecord(record.offset, record.value or b"") for batch in batches for record in batch]
    found: dict[str, Any] = {"equal": False, "quality_equal": False}
    replica = Replica(recipe.settings)
    for _ in range(100_000):
        start = replica.read_position
        compare(found, replica, models, books)
        record = next((record for record in log if record.offset >= start), None)
        if record is None:
            break
        result = replica.fold([record])
        if isinstance(result, Remake):
            replica = replica.successor(Replica(recipe.settings))
        elif isinstance(result, Refold):
            replica.clear_halt()
    print(json.dumps({**found, "halt": replica.halt}))


def compare(found: dict[str, Any], replica: Replica, models: list[Any], books: list[Any]) -> None:
    """Note what there is to say where the fold stands at the checkpoints' positions."""
    model, checkpoint = replica.only, models[0][0]
    if model.position == checkpoint.position and model.halt is None and replica.book.halt is None:
        probes = model.probe_bits()
        found |= {
            "position": model.position,
            "checkpoint_position": checkpoint.position,
            "examples": model.examples_learned,
            "probes": len(model.health.probes),
            "equal": all(content["probe_bits"] == probes for _, content in models),
            "dropped": replica.book.dropped,
        }
    if replica.book.position == books[0][0].position and replica.book.halt is None:
        report = replica.watch.quality.report()
        found["quality_equal"] = all(checkpoint.header["quality"] == report for checkpoint, _ in books)


def newest(config: Config, name: str, position: int | None, below: str = ".") -> tuple[Checkpoint, dict[str, object]]:
    """The newest checkpoint of a worker at or before this position, and what it holds."""
    store = CheckpointStore(config.path(config.checkpoints.directory) / below, name, keep=5, key=key_of(config))
    checkpoint = next(iter(store.newest(position)))
    assert not isinstance(checkpoint, CheckpointError), checkpoint
    return checkpoint, store.content(checkpoint, config.model.checkpoint_types)


if __name__ == "__main__":
    main()
