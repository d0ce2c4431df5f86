"""How long it takes from ``kill -9`` to the first new committed prediction, by phases.

Run it as ``python benchmarks/recovery.py [PENDING] [ROUNDS]``: an embedded Kafka, one worker with a small model, that
many events in its pending store, killed and started again. Events keep coming, so the first prediction can be seen.
The phases come from the times in the worker's own log; medians over rounds, in seconds.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import fastavro
import yaml
from confluent_kafka import Producer

from stream_ml.admin.observer import Observer
from stream_ml.config import Config, load_config
from stream_ml.core.avro.record import encode_record
from stream_ml.embedded.broker import EmbeddedKafka
from stream_ml.kafka.topics import create_topics

T0 = 1_600_000_000_000
WAIT_MAX_S = 300.0
EVENT = {
    "type": "record",
    "name": "Visit",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "x", "type": "double"},
    ],
}
LABEL = {**EVENT, "name": "Truth", "fields": [*EVENT["fields"][:2], {"name": "y", "type": "boolean"}]}
MARKS = (  # what the worker logs, and the phase that ends there
    ("model ", "imports, checks, checkpoint"),
    ("joining group", "fold to the end, offsets checked"),
    ("taken up", "join, claim, rebuild"),
)


class Bench:
    """An app with one partition, and the producers' side of it."""

    def __init__(self, folder: Path, servers: str, **changes: dict[str, object]) -> None:
        self.folder = folder
        for name, schema in (("visit", EVENT), ("truth", LABEL)):
            (folder / f"{name}.avsc").write_text(json.dumps(schema), "utf-8")
        source = {"id": "id", "time": "at"}
        settings: dict[str, dict[str, object]] = {
            "app": {"id": "recovery"},
            "worker": {"instance": "w1"},
            "kafka": {"bootstrap_servers": servers},
            "events": {"topic": "visits", "schema": "visit.avsc", **source},
            "feedback": {"topic": "truths", "schema": "truth.avsc", "label": "y", "ttl": "30d", **source},
            "predictions": {"topic": "scores"},
            "model": {"factory": "river.linear_model:LogisticRegression", "task": "binary"},
            "checkpoints": {"interval": "1s"},
            "http": {"port": 0},
            "log": {"format": "json"},
        }
        for section, values in changes.items():
            settings[section] = {**settings.get(section, {}), **values}
        (folder / "app.yaml").write_text(yaml.safe_dump(settings), "utf-8")
        self.config: Config = load_config(folder / "app.yaml")
        create_topics(self.config, 1, dry_run=False)
        self._producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
        self._schemas = {"visits": fastavro.parse_schema(EVENT), "truths": fastavro.parse_schema(LABEL)}
        self._observer = Observer(self.config, 1)
        self.produced = 0
        self.worker: subprocess.Popen[bytes] | None = None

    def produce(self, count: int, *, label_every: int = 100) -> None:
        """So many events a second apart; each so-manieth gets its label at once."""
        for number in range(self.produced, self.produced + count):
            self._put("visits", {"id": f"v{number}", "at": T0 + 1000 * number, "x": float(number % 7)})
            if number % label_every == 0:
                self._put("truths", {"id": f"v{number}", "at": T0 + 1000 * number, "y": number % 7 > 3})
        self.produced += count
        self._producer.flush()

    def _put(self, topic: str, values: dict[str, object]) -> None:
        while True:
            try:
                self._producer.produce(topic, encode_record(self._schemas[topic], values), str(values["id"]).encode())
                return
            except BufferError:
                self._producer.poll(0.1)

    def position(self) -> int:
        """Events committed."""
        return self._observer.pairs()[0].events or 0

    def wait_past(self, position: int) -> None:
        deadline = time.monotonic() + WAIT_MAX_S
        while self.position() <= position:
            ended = self.worker is not None and self.worker.poll() is not None
            assert time.monotonic() < deadline and not ended, (self.folder / "worker.log").read_text("utf-8")[-3000:]
            time.sleep(0.02)  # between two looks: how exact the measurement is

    def start(self, before: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
        """A worker; `before` is called in its process before it is one."""
        (self.folder / "worker.log").unlink(missing_ok=True)
        with (self.folder / "worker.log").open("wb") as log:
            command = [sys.executable, "-m", "stream_ml", "run", str(self.folder / "app.yaml")]
            self.worker = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=before)  # noqa: PLW1509 - forks only
            return self.worker

    def marks(self) -> dict[str, float]:
        """When each phase ended, as the worker logged it."""
        found = {}
        for line in (self.folder / "worker.log").read_text("utf-8").splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                for text, phase in MARKS:
                    if text in entry["message"] and phase not in found:
                        found[phase] = datetime.fromisoformat(entry["timestamp"]).timestamp()
        return found


@contextlib.contextmanager
def opened(pending: int, *, label_every: int = 100, **changes: dict[str, object]) -> Iterator[Bench]:
    """An app with a Kafka of its own and so many events in its topic; `changes` of its configuration by section."""
    with (
        tempfile.TemporaryDirectory(prefix="stream-ml-recovery-") as folder,
        EmbeddedKafka(Path(folder) / "kafka") as kafka,
    ):
        (Path(folder) / "app").mkdir()
        bench = Bench(Path(folder) / "app", kafka.bootstrap_servers, **changes)
        bench.produce(pending, label_every=label_every)
        yield bench


def one_round(bench: Bench) -> dict[str, float]:
    """Kill, start, wait for the first new prediction."""
    bench.produce(200)
    before = bench.position()
    started = time.time()
    worker = bench.start()
    try:
        bench.wait_past(before)
        done = time.time()
    finally:
        worker.kill()
        worker.wait()
    found, last = {}, started
    for phase, at in bench.marks().items():
        found[phase], last = at - last, at
    found["first transaction"] = done - last
    found["in all"] = done - started
    return found


def main() -> None:
    pending, rounds = (int(sys.argv[i]) if len(sys.argv) > i else n for i, n in ((1, 100_000), (2, 5)))
    with opened(pending) as bench:
        worker = bench.start()
        try:
            bench.wait_past(pending - 1)
        finally:
            worker.kill()
            worker.wait()
        results = [one_round(bench) for _ in range(rounds)]
    for phase in results[0]:
        values = [result[phase] for result in results]
        sys.stdout.write(f"{phase:34} {statistics.median(values):6.2f} s   {min(values):.2f}-{max(values):.2f}\n")


if __name__ == "__main__":
    main()
