"""Folds a training log twice, with and without the examples of some ids, and compares the models on honest events.

Run in a process of its own, with the hash seed of the model: ``unspoilt.py CONFIG PREFIX`` prints JSON.
"""

import json
import sys
from pathlib import Path

from river import metrics

from stream_ml.app.assemble import assemble
from stream_ml.app.parts import Parts
from stream_ml.config import load_config
from stream_ml.core.fold.halt import Halt
from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.entry import decode_entry
from stream_ml.follower.identity import identified
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import inspect_topics
from stream_ml.records import LogRecord

ASKED = 3_000


def main() -> None:
    config, prefix = load_config(Path(sys.argv[1])), sys.argv[2]
    parts, facts = assemble(config), identified(config, inspect_topics(config), make=False)
    first, end = ends(admin(config), [(config.training_log_topic, 0)])[config.training_log_topic, 0]
    batches = read_range(config, config.training_log_topic, 0, first, end, keep_alive=lambda: None)
    log = [LogRecord(record.offset, record.value or b"") for records in batches for record in records]
    entries = [(record.offset, decode_entry(record.value)) for record in log]
    hostile = [at for at, entry in entries if entry.kind == "example" and entry.event_id.startswith(prefix)]
    lineage = parts.lineage(facts.log.log_id)
    as_it_is, without = Replica(parts.fold_settings(lineage)), Replica(parts.fold_settings(lineage))
    for at in hostile:
        without.halts.overrides.add(Halt(at, "hostile", ""), "skip")
    for replica in (as_it_is, without):
        replica.fold(log)
    print(
        json.dumps(
            {
                "auc": auc(parts, as_it_is),
                "auc_without": auc(parts, without),
                "learned": as_it_is.examples_learned,
                "learned_without": without.examples_learned,
                "hostile_examples": len(hostile),
                "far": as_it_is.model.far.count,
            }
        )
    )


def auc(parts: Parts, replica: Replica) -> float:
    """On events as the honest producers make them."""
    found = metrics.ROCAUC(n_thresholds=200)
    for number in range(ASKED):
        x = float(number * 7919 % 100)
        features = {"x": x, "kind": f"k{number % 3}"}
        found.update(
            x > 50, replica.only.model.score_one({name: features[name] for name in parts.plan.names}).score or 0.0
        )
    return round(float(found.get()), 5)


if __name__ == "__main__":
    main()
