"""What a checkpoint of a model that grew costs: memory, the longest turn of the loop, the memory of a start from it.

Run it as ``python -m benchmarks.grown_model [--quick]``: ten trees after 30,000 examples (5,000 with --quick), written
by the writer of the worker in turns of 5 ms, then loaded by another process. MB are of resident memory (VmRSS, VmHWM).
"""

import gc
import json
import random
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from river import forest

from benchmarks.process import memory_mb
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.writer import CheckpointWriter

TURN_S = 0.005
FEATURES = 12


def own_mb(of: str) -> float:
    """VmRSS or VmHWM of this process, in MB."""
    return memory_mb("self", of)


def grown(examples: int) -> Any:
    """Ten trees that have learned so many examples."""
    rng, model = random.Random(1), forest.ARFClassifier(n_models=10, seed=1)
    for _ in range(examples):
        row = {f"f{number}": rng.gauss(0, 1) for number in range(FEATURES)}
        model.learn_one(row, row["f0"] + row["f1"] * row["f2"] + rng.gauss(0, 1) > 0)
    return model


def written(folder: Path, examples: int) -> dict[str, float]:
    """The model grown in this process, and its checkpoint."""
    before_mb, model, store, writer = own_mb("VmRSS"), grown(examples), _store(folder), CheckpointWriter()
    gc.collect()
    running_mb = own_mb("VmRSS")
    began_s, longest_s = time.monotonic(), 0.0
    writer.begin(partial(store.save, 1, {}, model, checkpoint_types=[]))
    while writer.busy:
        turn_s = time.monotonic()
        writer.turn(TURN_S)
        longest_s = max(longest_s, time.monotonic() - turn_s)
    return {
        "model_mb": round(running_mb - before_mb),
        "checkpoint_mb": round(store.size(1) / 1e6),
        "written_s": round(time.monotonic() - began_s, 2),
        "longest_turn_ms": round(1e3 * longest_s, 1),
        "peak_of_running": round(own_mb("VmHWM") / running_mb, 2),
    }


def loaded(folder: Path) -> dict[str, float]:
    """What a process that starts from the checkpoint of `written` takes."""
    store, began_s = _store(folder), time.monotonic()
    found = next(iter(store.newest()))
    assert isinstance(found, Checkpoint), found
    model = store.content(found, [])
    seconds = time.monotonic() - began_s
    gc.collect()
    running_mb = own_mb("VmRSS")
    del model
    return {"loaded_s": round(seconds, 2), "peak_of_loaded": round(own_mb("VmHWM") / running_mb, 2)}


def _store(folder: Path) -> CheckpointStore:
    store = CheckpointStore(folder, "grown", keep=2)
    store.prepare()
    return store


def main() -> None:
    if sys.argv[1:2] == ["--load"]:
        sys.stdout.write(json.dumps(loaded(Path(sys.argv[2]))))
        return
    with tempfile.TemporaryDirectory(prefix="stream-ml-grown-") as folder:
        found = written(Path(folder), 5_000 if "--quick" in sys.argv else 30_000)
        command = [sys.executable, "-m", "benchmarks.grown_model", "--load", folder]
        found |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
