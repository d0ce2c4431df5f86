"""Replay beside River's own progressive validation, and the tape of a log: CPU for each example, in one run.

Run it as ``python -m benchmarks.replay [EXAMPLES]``. The models are a scaled logistic regression on twelve numbers. All
is interleaved; of each the least of ROUNDS counts. The log's entries are made here and judged by a book, as
they are where Kafka gives them; reading them from Kafka is not in the figures.
"""

import datetime
import itertools
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from river import compose, evaluate, linear_model, metrics, preprocessing

from stream_ml.core.fold.batches import prepare
from stream_ml.core.fold.book import Book
from stream_ml.core.log.entry import Example, encode_example, encode_start
from stream_ml.core.log.identity import NO_LOG
from stream_ml.offline.replay.compare import Terms
from stream_ml.offline.replay.replay import Replay
from stream_ml.offline.replay.river_score import progressive_val_score
from stream_ml.offline.replay.specs import Spec, spec_of
from stream_ml.offline.replay.tape import Tape, TapeWriter
from stream_ml.records import LogRecord, Served, Target
from stream_ml.runtime.collector import OF_A_REPLAY, calm_collector
from tests.support.twelve import twelve

ROUNDS = 3
OF_RIVER = 30_000
BATCH = 500  # examples that were served at one position
CHUNK = 5_000
GROUP = 20  # chunks that are made before they are measured: work of another kind in between would be in the figures
SPECS = 4


def stream(count: int) -> list[tuple[dict[str, float], bool]]:
    """Twelve numbers, a moment and a delay, and a label."""
    chance = random.Random(1)
    found = []
    for number in range(count):
        x: dict[str, Any] = {f"x{n}": chance.gauss(0, 1) for n in range(12)}
        y = sum(x.values()) + chance.gauss(0, 2) > 0
        at = datetime.datetime(2026, 1, 1) + datetime.timedelta(seconds=number)  # noqa: DTZ001 - as River's own
        found.append((x | {"at": at, "late": datetime.timedelta(seconds=chance.randrange(600))}, y))
    return found


def model() -> Any:
    return compose.Discard("at", "late") | preprocessing.StandardScaler() | linear_model.LogisticRegression()


def cpu_us(call: Any, count: int) -> float:
    began_s = time.process_time()
    call()
    return (time.process_time() - began_s) / count * 1e6


def beside_river() -> dict[str, Any]:
    rows = stream(OF_RIVER)
    ours, theirs = [], []
    numbers = []
    for _ in range(ROUNDS):
        one, other = metrics.LogLoss(), metrics.LogLoss()
        theirs.append(
            cpu_us(lambda: evaluate.progressive_val_score(rows, model(), other, moment="at", delay="late"), OF_RIVER)  # noqa: B023
        )
        ours.append(cpu_us(lambda: progressive_val_score(rows, model(), one, "at", "late"), OF_RIVER))  # noqa: B023
        numbers.append(one.get() == other.get())
    return {
        "river_us": round(min(theirs), 2),
        "one_by_one_us": round(min(ours), 2),
        "times_rivers_speed": round(min(theirs) / min(ours), 2),
        "same_number": all(numbers),
    }


def entries(spec: Spec, count: int) -> Iterator[list[LogRecord]]:
    """A log: batches that were served at one position, labelled a thousand entries later."""
    parts, chance = spec.recipe.parts, random.Random(2)
    yield [LogRecord(0, encode_start(0, 0, 0, written_at_ms=0, writer="w"))]
    encode, fingerprint = parts.reader.payloads.encode, parts.reader.payloads.reader.fingerprint
    chunk = []
    for number in range(count):
        x = {f"x{n}": chance.gauss(0, 1) for n in range(12)}
        label = sum(x.values()) + chance.gauss(0, 2) > 0
        position = max(1, (number // BATCH) * BATCH - 1_000)
        served = Served("true", 0.5, None, None, "0" * 16, position, ())
        example = Example(
            source_partition=0,
            sequence=number,
            trigger=1,
            trigger_offset=number,
            event_id=f"e{number}",
            event_time_ms=number * 1000,
            event_offset=number,
            event_schema=fingerprint,
            event_framing="bare",
            event=encode({"id": f"e{number}", "at": number * 1000, **x}),
            label_time_ms=number * 1000 + 600_000,
            target=Target("true" if label else "false", None),
            feedback_offset=number,
            served=served,
        )
        chunk.append(LogRecord(number + 1, encode_example(example, written_at_ms=number * 1000, writer="w")))
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def warmed(settings: Any, chunks: list[list[LogRecord]], folder: Path) -> None:
    """A short tape of another log before anything is measured: what is imported on the way costs 0.7 s once."""
    work, book = folder / "warmed", Book(settings)
    work.mkdir()
    writer = TapeWriter(work, [settings])
    for records in chunks:
        writer.add(book.judge(prepare(settings, records)))
    writer.close()


def of_a_log(folder: Path, count: int) -> dict[str, Any]:
    parts = twelve(folder)
    specs = [spec_of(f"m{number}", parts, NO_LOG) for number in range(SPECS)]
    settings = specs[0].recipe.settings
    work = folder / "work"
    work.mkdir()
    warmed(settings, list(entries(specs[0], CHUNK)), folder)
    calm_collector(OF_A_REPLAY)  # as the verb does
    writer, book, took_s = TapeWriter(work, [settings]), Book(settings), 0.0
    made_before = entries(specs[0], count)
    while chunks := list(itertools.islice(made_before, GROUP)):
        began_s = time.process_time()
        for records in chunks:
            writer.add(book.judge(prepare(settings, records)))
        took_s += time.process_time() - began_s
    began_s = time.process_time()
    tape: Tape = writer.close()
    took_s += time.process_time() - began_s
    one = Replay(tape, specs[:1], settings, 1)
    one.run(served=True)
    alone_us = one.entrants["m0"].ran.cpu_s / count * 1e6
    began_s = time.monotonic()
    made = Replay(tape, specs, settings, 2)
    made.run(served=True)
    wall_s = time.monotonic() - began_s
    began_s = time.process_time()
    made.comparison(Terms()).measure("m0")
    return {
        "examples": count,
        "tape_examples_per_cpu_second": round(count / took_s),
        "served_timeline_us": round(alone_us, 2),
        "four_specs_wall_s": round(wall_s, 1),
        "measures_s": round(time.process_time() - began_s, 1),
        "parent_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "largest_child_rss_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        "tape_bytes_per_example": round(sum(one.stat().st_size for one in work.glob("*.arrow")) / count),
    }


def main() -> None:
    """Print one JSON object."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    river = beside_river()
    with tempfile.TemporaryDirectory(prefix="stream-ml-bench-") as folder:
        log = of_a_log(Path(folder), count)
    log["times_rivers_speed"] = round(river["river_us"] / log["served_timeline_us"], 2)
    print(json.dumps({"progressive_validation": river, "served_timeline": log}, indent=1))


if __name__ == "__main__":
    main()
