"""Derives answers of the scoring API again: ``python -m stream_ml.demo.derive CONFIG ANSWERS``; prints JSON.

Folds the log to the version that each answer names, scores its instance there as a published event, and compares bits.
"""

import json
import sys
from pathlib import Path
from typing import Any

from stream_ml.app.assemble import assemble
from stream_ml.config import load_config
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.avro.from_json import from_json
from stream_ml.core.fold.replica import Replica
from stream_ml.follower.identity import identified
from stream_ml.follower.recipes import Recipes
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import inspect_topics
from stream_ml.records import LogRecord
from stream_ml.storage.keys import log_seal


def derived(config_file: Path, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """How many answers are what the log gives, to the last bit."""
    config = load_config(config_file)
    parts, facts = assemble(config), identified(config, inspect_topics(config), make=False)
    seal = log_seal(config, facts.training_log_topic_id)
    recipe = Recipes(parts, facts, seal).own
    replica, topic = Replica(recipe.settings), config.training_log_topic
    left = sorted(answers, key=lambda answer: int(answer["position"]), reverse=True)
    wrong = [one for one in left if one["lineage"] != recipe.lineage]
    checked = 0

    def score() -> None:
        nonlocal checked
        while left and left[-1]["position"] <= replica.position:
            answer = left.pop()
            checked += 1
            found = parts.plan.extract_one(from_json(parts.reader.payloads.reader, answer["instance"]))
            assert not isinstance(found, Rejected)  # noqa: S101 - it was answered
            scored = replica.only.model.score_one(found[0])
            same = (scored.score is None and answer["score"] is None) or (
                scored.score is not None and scored.score.hex() == float(answer["score"]).hex()
            )
            if answer["position"] != replica.position or not same:
                wrong.append(answer)

    _, end = ends(admin(config), [(topic, 0)])[topic, 0]
    for batch in read_range(config, topic, 0, 0, end, keep_alive=lambda: None):
        for record in batch:
            score()
            replica.fold([LogRecord(record.offset, log_value(record, seal))])
    score()
    return {
        "checked": checked,
        "wrong": len(wrong) + len(left),
        "versions": len({answer["position"] for answer in answers}),
        "first_wrong": wrong[:1],
    }


if __name__ == "__main__":
    print(json.dumps(derived(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text("utf-8")))))  # noqa: T201
