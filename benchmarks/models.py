"""Cheap and heavy models: what scoring, learning and a checkpoint cost beside everything else, without Kafka.

Run it as ``python benchmarks/models.py [EXAMPLES]``. For a heavy model the model is the limit: scoring scales with
workers, learning does not, because every replica folds everything. The last columns are what a checkpoint holds and
for how long the loop stands still for the first one, and for the next. No figure: such a model is refused, because what
its pickle holds may run code.
"""

import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from river import feature_extraction, forest, linear_model, naive_bayes, preprocessing, tree

from stream_ml.config import Model
from stream_ml.core.avro.fields import find_field
from stream_ml.core.avro.schema import load_schema
from stream_ml.core.inputs.events import Features
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.estimator import Learner
from stream_ml.core.model.scoring import Scorer
from stream_ml.errors import CheckpointError
from stream_ml.records import Target
from stream_ml.storage.checkpoints import CheckpointStore
from stream_ml.storage.writer import CheckpointWriter

BATCH = 1_000
NUMBERS = 12
WORDS = ("late", "gate", "fog", "crew", "fuel", "snow", "bird", "slot", "strike", "calm", "clear", "wind")
Row = tuple[dict[str, Any], bool]
MODELS: dict[str, Callable[[], Any]] = {
    "StandardScaler | LogisticRegression": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    "HoeffdingTreeClassifier": tree.HoeffdingTreeClassifier,
    "GaussianNB": naive_bayes.GaussianNB,
    "ARFClassifier, 10 trees": lambda: forest.ARFClassifier(n_models=10, seed=1),
    "BagOfWords | MultinomialNB (text)": lambda: (
        feature_extraction.BagOfWords(on="text") | naive_bayes.MultinomialNB(alpha=1)
    ),
}


def rows(count: int, *, text: bool) -> list[Row]:
    """Features and a label that they tell something about."""
    rnd, found = random.Random(1), []
    for _ in range(count):
        if text:
            words = rnd.choices(WORDS, k=12)
            found.append(({"text": " ".join(words)}, words.count("fog") + words.count("snow") > 2))
        else:
            x = [rnd.gauss(0, 1) for _ in range(NUMBERS)]
            found.append(({f"f{n}": value for n, value in enumerate(x)}, x[0] + x[1] - x[2] > 0.5))
    return found


def domain() -> LabelDomain:
    """Of a label that is true or false."""
    schema = load_schema('{"type":"record","name":"L","fields":[{"name":"y","type":"boolean"}]}', where="label")
    return LabelDomain(Model(factory="m:b", task="binary"), find_field(schema, "y", where="label"), schema)


def measured(build: Callable[[], Any], examples: list[Row]) -> list[float]:
    """Microseconds to score and to learn, one by one and many at once; bytes of a checkpoint; its pauses in ms."""
    learner = Learner(build(), domain())
    for features, y in examples:
        learner.learn(features, Target(str(y).lower(), None))
    asked = [features for features, _ in examples[:BATCH]]
    batch = Features(pa.Table.from_pylist(asked), range(len(asked)), {})
    scorer = Scorer(learner)
    learn = examples[: max(50, len(examples) // 10)]
    names, values, ys = list(learn[0][0]), [tuple(features.values()) for features, _ in learn], [y for _, y in learn]
    with tempfile.TemporaryDirectory() as folder:
        try:
            pauses, size = _pauses(Path(folder), learner), _size(Path(folder))
        except CheckpointError:  # River's vectorizers hold bound methods, which no checkpoint may
            pauses, size = (math.nan, math.nan), math.nan
    return [
        _seconds(lambda: [learner.score_one(features) for features in asked]) / len(asked) * 1e6,
        min(_seconds(lambda: scorer.score_many(batch, len(asked))) for _ in range(3)) / len(asked) * 1e6,
        _seconds(lambda: [learner.learn(f, Target(str(y).lower(), None)) for f, y in learn]) / len(learn) * 1e6,
        min(_seconds(lambda: learner.learn_in_order(names, values, ys)) for _ in range(3)) / len(learn) * 1e6,
        size,
        *(seconds * 1e3 for seconds in pauses),
    ]


def _size(folder: Path) -> float:
    return max(path.stat().st_size for path in folder.rglob("*.ckpt"))


def _pauses(folder: Path, learner: Learner) -> tuple[float, float]:
    """For how long the loop stands still: where the checkpoint is written in it, and as the service writes the next."""
    writer = CheckpointWriter()
    first = _seconds(lambda: writer.write(lambda: _save(folder, 1, learner)))
    rest = []
    for number in range(2, 7):
        rest.append(_seconds(lambda number=number: writer.write(lambda: _save(folder, number, learner))))  # type: ignore[misc]
        writer.finish()
    return first, statistics.median(rest)


def _save(folder: Path, position: int, learner: Learner) -> None:
    store = CheckpointStore(folder, "bench", keep=9)
    store.prepare()
    store.save(position, {"app": "bench"}, {"estimator": learner.estimator}, checkpoint_types=[])


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000
    sys.stdout.write(f"after {count} examples of {NUMBERS} numbers, or of 12 words\n")
    sys.stdout.write(f"{'':36} score one  in a batch      learn   in a run  checkpoint  the first    pause\n")
    for name, build in MODELS.items():
        one, many, learn, run, size, first, pause = measured(build, rows(count, text="text" in name))
        speed = f"{one:8.1f} us {many:8.1f} us {learn:7.1f} us {run:7.1f} us"
        sys.stdout.write(f"{name:36} {speed} {size / 1e6:8.2f} MB {first:6.0f} ms {pause:6.0f} ms\n")


if __name__ == "__main__":
    main()
