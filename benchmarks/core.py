"""What the core costs beside the model: River alone against the whole core, on the flights, without Kafka.

Run it as ``python benchmarks/core.py [FLIGHTS] [ROUNDS]``. Rounds are interleaved; the table gives medians in
microseconds for a flight and its label, and ratios, which are what to compare between machines.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import fastavro

from stream_ml import formats
from stream_ml.app.assemble import assemble
from stream_ml.app.parts import Parts
from stream_ml.config import Config
from stream_ml.core.avro.record import encode_record
from stream_ml.core.fold.replica import Replica
from stream_ml.core.join.join import Join
from stream_ml.core.partition.batch import Batch
from stream_ml.core.partition.commit_metadata import OutputEnds
from stream_ml.core.partition.partition import Partition
from stream_ml.core.partition.serving import Serving
from stream_ml.demo.flights import Item, flights
from stream_ml.demo.model import build
from stream_ml.records import Clock, LogRecord, Record, Records

NOW = Clock(2**42, 0)
BATCH = 400  # records of both topics


def configuration() -> Config:
    """The demo's, as far as the core needs it."""
    source = {"id": "flight_id", "schema": formats.FOLDER / "flight.avsc", "topic": "flights"}
    return Config(
        app={"id": "bench"},
        kafka={"bootstrap_servers": "none:1"},
        events={**source, "time": "scheduled_departure"},
        feedback={
            **source,
            "topic": "arrivals",
            "schema": formats.FOLDER / "arrival.avsc",
            "label": "late",
            "time": "landed_at",
            "ttl": "2d",
            "early_ttl": "6h",
        },
        predictions={"topic": "delays"},
        model={"factory": "stream_ml.demo.model:build", "task": "binary"},
    )


def records_of(items: list[Item]) -> list[Record]:
    """Both topics' records, in the order in which they happen."""
    of = {
        "event": ("flights", fastavro.parse_schema(formats.load("flight"))),
        "label": ("arrivals", fastavro.parse_schema(formats.load("arrival"))),
    }
    offsets = {"flights": 0, "arrivals": 0}
    found = []
    for item in items:
        topic, schema = of[item.kind]
        value = encode_record(schema, item.values)
        found.append(Record(topic, 0, offsets[topic], item.time_ms, item.flight_id.encode(), value))
        offsets[topic] += 1
    return found


def river_alone(parts: Parts, items: list[Item]) -> dict[str, float]:
    """Score and learn each flight, features at hand: the least that there is to do."""
    model, names = build(), parts.plan.names
    features = {i.flight_id: {n: i.values[n] for n in names} for i in items if i.kind == "event"}
    started = time.perf_counter()
    for item in items:
        if item.kind == "event":
            model.predict_proba_one(features[item.flight_id])
        else:
            model.learn_one(features[item.flight_id], item.values["late"])
    return {"River alone": time.perf_counter() - started}


def core(parts: Parts, items: list[Item]) -> dict[str, float]:
    """Decode, score, join, encode, fold: what a worker does between its clients."""
    replica = Replica(parts.fold_settings("lineage"))
    join = Join(parts.join_settings())
    partition = Partition(parts.partition_settings(1_000_000), 0, join, (0, 0), 0, OutputEnds(0, 0, 0, 0), (0, 0))
    spent = dict.fromkeys(("decode", "score, join, encode", "fold"), 0.0)

    def timed(what: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        found = call()
        spent[what] += time.perf_counter() - started
        return found

    records, log_end = records_of(items), 0
    for start in range(0, len(records), BATCH):
        chunk = records[start : start + BATCH]
        events = [record for record in chunk if record.topic == "flights"]
        labels = [record for record in chunk if record.topic == "arrivals"]
        batch = timed(
            "decode",
            lambda events=events, labels=labels: Batch(
                parts.reader.decode_many(Records.of("flights", 0, events), NOW.now_ms),
                parts.feedback.decode_many(Records.of("arrivals", 0, labels), NOW.now_ms),
                False,
                False,
            ),
        )
        outputs = timed(
            "score, join, encode",
            lambda batch=batch: partition.process(batch, Serving.of(replica), NOW, stale=False, token="t"),
        )
        partition.apply(outputs)
        entries = [
            LogRecord(log_end + number, produce.value or b"")
            for number, produce in enumerate(p for p in outputs.records if p.topic == "bench.training-log")
        ]
        log_end += len(entries)
        timed("fold", lambda entries=entries: replica.fold(entries))
    return spent


def main() -> None:
    count, rounds = (int(sys.argv[i]) if len(sys.argv) > i else n for i, n in ((1, 20_000), (2, 5)))
    parts, items = assemble(configuration()), flights(count)
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for case in (river_alone, core):
            for name, seconds in case(parts, items).items():
                found.setdefault(name, []).append(seconds / count * 1e6)
    medians = {name: statistics.median(values) for name, values in found.items()}
    medians["core"] = sum(us for name, us in medians.items() if name != "River alone")
    for name, us in medians.items():
        spread = f"{min(found[name]):.0f}-{max(found[name]):.0f}" if name in found else ""
        sys.stdout.write(f"{name:22} {us:7.1f} us  {us / medians['River alone']:5.2f}  {spread}\n")


if __name__ == "__main__":
    main()
