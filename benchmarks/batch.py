"""Files scored by `stream-ml predict`'s own code beside loops by hand: Parquet to Parquet, 14 fields, one linear model.

Run it as ``python -m benchmarks.batch [ROWS]``. By hand a table is read piece by piece, scored with `predict_proba_one`
or `predict_proba_many`, and written; nothing checks the rows. CPU and wall time in one run, and memory at its most.
"""

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.offline.batch.scoring import BatchScorer
from stream_ml.offline.batch.sinks import FileSink, asked_of, work_of
from tests.support.twelve import twelve

PIECE = 8_192
LEARNED = 5_000


def written(path: Path, rows: int) -> None:
    """A file of so many rows: id, time and twelve numbers."""
    chance = np.random.default_rng(1)
    with parquet.ParquetWriter(path, _schema()) as writer:
        for first in range(0, rows, 100_000):
            count = min(100_000, rows - first)
            numbers = [pa.array(chance.normal(size=count)) for _ in range(12)]
            ids = pa.array([f"e{first + n}" for n in range(count)])
            times = pa.array(np.arange(first, first + count) * 1000).cast(pa.timestamp("ms", "UTC"))
            writer.write_table(pa.table([ids, times, *numbers], schema=_schema()))


def _schema() -> pa.Schema:
    numbers = [(f"x{n}", pa.float64()) for n in range(12)]
    return pa.schema([("id", pa.string()), ("at", pa.timestamp("ms", "UTC")), *numbers])


def by_hand(path: Path, out: Path, model: Any, *, many: bool) -> None:
    names = [f"x{n}" for n in range(12)]
    schema = pa.schema([("id", pa.string()), ("score", pa.float64())])
    with parquet.ParquetFile(path) as file, parquet.ParquetWriter(out, schema) as writer:
        for batch in file.iter_batches(batch_size=PIECE):
            table = pa.table({name: batch.column(name) for name in names})
            if many:
                said = model.predict_proba_many(table)
                scores = pa.array(np.asarray(said["True"] if "True" in said.column_names else said.column(1)))
            else:
                scores = pa.array([model.predict_proba_one(row)[True] for row in table.to_pylist()])
            writer.write_table(pa.table([batch.column("id"), scores], schema=schema))


def measured(call: Callable[[], None], rows: int) -> dict[str, Any]:
    began_s, cpu_s = time.monotonic(), time.process_time()
    call()
    wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    return {"rows_per_s": round(rows / wall_s), "cpu_us": round(cpu_s / rows * 1e6, 2)}


def main() -> None:
    """Print one JSON object."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="stream-ml-bench-") as name:
        folder = Path(name)
        parts = twelve(folder)
        model, chance = LineageModel(parts.fold_settings("l")), random.Random(3)
        for _ in range(LEARNED):
            x = {f"x{n}": chance.gauss(0, 1) for n in range(12)}
            model.model.learner.learn_y(x, sum(x.values()) > 0)
        model.model.examples_learned = LEARNED
        path = folder / "rows.parquet"
        written(path, rows)

        def ours() -> None:
            sink, scorer = (
                FileSink(folder / "out.parquet", work_of(asked_of([path], "", None), "l/0")),
                BatchScorer(parts, model),
            )
            for piece in scorer.score_file(path):
                sink.take(path.name, piece)
            sink.finish()

        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        found = {"stream_ml": measured(ours, rows)}
        found["stream_ml"]["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        found["stream_ml"]["memory_before_mb"] = before_mb
        estimator = model.model.learner.estimator
        found["predict_proba_one"] = measured(lambda: by_hand(path, folder / "1.parquet", estimator, many=False), rows)
        found["predict_proba_many"] = measured(lambda: by_hand(path, folder / "2.parquet", estimator, many=True), rows)
    print(json.dumps({"rows": rows, **found}, indent=1))


if __name__ == "__main__":
    main()
