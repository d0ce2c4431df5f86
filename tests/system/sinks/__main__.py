"""``make sinks``: predictions and labels of a real run in PostgreSQL by Kafka Connect, each part killed meanwhile.

The last line is JSON; exit code 1 where a row is missing, twice or another one than its prediction, or where the views
of quality say something else than the same numbers computed here.
"""

import io
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro

from stream_ml.app.assemble import assemble
from stream_ml.embedded.broker import EmbeddedKafka
from tests.support.brokers import START_S
from tests.support.service import LABEL, Service, Worker
from tests.system.sinks.parts import CONNECT, Connect, Postgres, Registry, RestartFailed, fetched, settled

EACH = 1_000  # events before each kill, and behind the last
AGAIN_S = 120.0  # until all of it has arrived
KINDS = 3


class Run:
    """What is played, and what is checked of it."""

    def __init__(self, folder: Path) -> None:
        jars = fetched(folder / "jars")
        self.kafka = EmbeddedKafka(folder / "kafka")
        self.kafka.start(timeout_s=START_S)
        self.postgres, self.registry = Postgres(folder / "postgres"), Registry(folder / "registry", jars)
        self.postgres.start()
        self.registry.start()
        places = {"kafka": self.kafka.bootstrap_servers, "app": "shop", "registry": self.registry.url}
        self.connect = Connect(folder / "connect", jars, **places)
        self.produced = 0
        self.worker: Worker | None = None
        self.result: dict[str, Any] = {"arrived_s": {}, "worker_started_again": 0}

    def close(self) -> None:
        for part in (self.connect, self.registry, self.postgres, self.kafka):
            part.kill()

    def play(self, made: Service) -> None:
        """Another round of events, each with its label."""
        made.pairs(range(self.produced, self.produced + EACH))
        self.produced += EACH
        made.flush()

    def supervise(self, made: Service) -> None:
        """Start the worker again where it has ended by itself, as whoever runs it does: a broker was away for long."""
        if self.worker is None or self.worker.process.poll() is not None:
            self.result["worker_started_again"] += self.worker is not None
            self.worker = made.start()

    def arrived(self, made: Service) -> bool:
        self.supervise(made)
        return self.postgres.count("predictions") == self.postgres.count("labels") == self.produced


def configured(made: "Framed", registry: Registry) -> None:
    """Predictions and labels name their schema by the registry's ids."""
    label = registry.register(f"{made.config.feedback.topic}-value", json.dumps(LABEL))
    made.settings["feedback"] |= {"framing": "confluent", "schema_ids": {label: "truth.avsc"}}
    made.settings["predictions"] |= {"carry": ["kind"]}
    made.write()
    schema = made.typed("schema", "show", "CONFIG", "predictions")
    said = registry.register(f"{made.config.predictions.topic}-value", schema)
    made.settings["predictions"] |= {"framing": "confluent", "schema_id": said}
    made.config = made.write()
    made.framed = label


class Framed(Service):
    """A producer whose labels name a schema of the registry."""

    framed = 0

    def raw_truth(self, value: bytes | None, *, partition: int = 0, key: bytes | None = b"k") -> None:
        assert value is not None
        super().raw_truth(b"\0" + self.framed.to_bytes(4, "big") + value, partition=partition, key=key)


def published(made: Service) -> list[dict[str, Any]]:
    """All predictions of the topic, read by their schema alone."""
    schema = fastavro.parse_schema(assemble(made.config).predictions.schema)
    found = []
    for number in range(made.partitions):
        for record in made.read(made.config.predictions.topic, number):
            found.append(fastavro.schemaless_reader(io.BytesIO((record.value or b"")[5:]), schema, None))
    return found


def different(said: list[dict[str, Any]], rows: list[dict[str, Any]]) -> int:
    """Predictions whose row is missing or says anything else."""
    of = {(row["event_topic"], row["event_partition"], row["event_offset"]): row for row in rows}
    wrong = 0
    for one in said:
        row = of.get((one["event_topic"], one["event_partition"], one["event_offset"]), {})
        plain = {name: _plain(value) for name, value in one.items()}
        wrong += plain != {name: row.get(name, "missing") for name in plain}
    return wrong


def _plain(value: Any) -> Any:
    """A value as PostgreSQL prints it as JSON."""
    if hasattr(value, "isoformat"):
        text = value.replace(tzinfo=None).isoformat(timespec="milliseconds")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return value


def auc(pairs: list[tuple[float, bool]]) -> float:
    """Of Mann and Whitney, by counting."""
    positives, negatives = ([score for score, label in pairs if label is which] for which in (True, False))
    wins = sum((a > b) + 0.5 * (a == b) for a in positives for b in negatives)
    return wins / (len(positives) * len(negatives))


def views_differ(postgres: Postgres, said: list[dict[str, Any]], labels: dict[str, bool]) -> list[str]:
    """What the views say otherwise than the same, computed from the topic."""
    where = {"id": "id", "at": "at", "label": "y", "positive": "true", "carried": "carried_kind"}
    postgres.sql("", file=CONNECT / "views.sql", **where)
    wrong = []
    headings: dict[str, Callable[[dict[str, Any]], str]] = {
        "quality_by_day day": lambda one: one["event_time"].date().isoformat(),
        "quality_by_version lineage": lambda one: str(one["lineage"]),
        "quality_by_carried carried": lambda one: str(one["carried_kind"]),
    }
    scored = [one for one in said if one["score"] is not None]
    for heading, of in headings.items():
        view, column = heading.split()
        for row in postgres.rows(view, column):
            own = [one for one in scored if of(one) == row[column]]
            losses = [one["score"] if labels[one["event_id"]] else 1 - one["score"] for one in own]
            wanted = {
                "labelled": len(own),
                "accuracy": sum((one["class"] == "true") is labels[one["event_id"]] for one in own) / len(own),
                "log_loss": -sum(math.log(max(1e-15, one)) for one in losses) / len(own),
                "auc": auc([(one["score"], labels[one["event_id"]]) for one in own]),
            }
            wrong += [
                f"{view} {row[column]} {name}: {row[name]} and not {value}"
                for name, value in wanted.items()
                if not math.isclose(row[name], value, rel_tol=1e-9)
            ]
        if len({of(one) for one in scored}) != postgres.count(view):
            wrong.append(f"{view} has other groups")
    return wrong


def played(run: Run, made: Framed) -> dict[str, Any]:
    configured(made, run.registry)
    run.supervise(made)
    run.connect.start()
    database = {"database": run.postgres.url, "user": "postgres", "password": "none"}
    run.connect.put("predictions", predictions=made.config.predictions.topic, **database)
    run.connect.put("labels", feedback=made.config.feedback.topic, label_id="id", **database)
    restarts = RestartFailed(run.connect.url, "predictions", "labels")
    try:
        run.play(made)
        run.result["arrived_s"]["first"] = settled(lambda: run.arrived(made), AGAIN_S)

        def again(name: str, kill: Callable[[], None], start: Callable[[], None]) -> None:
            run.play(made)
            kill()
            run.play(made)
            start()
            run.result["arrived_s"][name] = settled(lambda: run.arrived(made), AGAIN_S)
            say(f"{name}: {run.result['arrived_s'][name]} s")

        again("connect", run.connect.kill, run.connect.start)
        again("postgres", run.postgres.kill, run.postgres.start)
        again("registry", run.registry.kill, run.registry.start)

        def both() -> None:  # Connect begins before what it needs
            run.postgres.kill()
            run.connect.kill()
            run.connect.start()

        again("connect before postgres", both, run.postgres.start)

        run.play(made)
        run.kafka.kill()
        run.kafka.start(timeout_s=START_S)
        run.result["arrived_s"]["broker"] = settled(lambda: run.arrived(made), AGAIN_S)
        assert run.worker is not None
        again("stream_ml", run.worker.kill, lambda: None)
        assert run.worker.stop() == 0, run.worker.log
    finally:
        restarts.stop()
    said, rows = published(made), run.postgres.rows("predictions", "event_topic, event_partition, event_offset")
    labels = {f"v{number}": number * 7919 % 100 > 50 for number in range(run.produced)}
    wrong = views_differ(run.postgres, said, labels)
    example = run.postgres.rows("quality_by_day", "day")[-1]
    return {
        "events": run.produced,
        "predictions": len(said),
        "rows": len(rows),
        "different": different(said, rows),
        "labels": run.postgres.count("labels"),
        "audit": made.audited()["counts"],
        "views_wrong": wrong,
        "quality_by_day": example,
        **run.result,
    }


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="stream-ml-sinks-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        run = Run(folder)
        (folder / "app").mkdir()
        made = Framed(folder / "app", run.kafka.bootstrap_servers, "shop", partitions=2)
        try:
            made.create_topics()
            result = played(run, made)
        finally:
            made.close()
            run.close()
    sys.stdout.write(json.dumps(result) + "\n")
    right = result["predictions"] == result["rows"] == result["events"] and not result["different"]
    sys.exit(0 if right and not result["views_wrong"] and not result["audit"] else 1)


if __name__ == "__main__":
    main()
