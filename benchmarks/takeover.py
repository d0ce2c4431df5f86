"""What a restart with a changed model costs who waits for predictions: pauses, and when the new one takes over.

Run it as ``python -m benchmarks.takeover [EXAMPLES]``: an embedded Kafka, a log with so many examples (1,000,000), then
RATE events a second, each with its label, while workers are restarted with another model.py and a helper module, with
one worker and with two; and one with another version of River, which cannot build the old model. Times in seconds; a
pause is the longest time between two committed predictions, as a consumer meets them, while events keep coming. About
20,000 events are in the window of the join at any time: what a start reads of them again is measured by
benchmarks/recovery.py, and costs the same with any model.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import yaml
from confluent_kafka import Producer, TopicPartition

from benchmarks.recovery import EVENT, LABEL, T0
from stream_ml.admin.observer import Observer
from stream_ml.app.assemble import assemble
from stream_ml.config import load_config
from stream_ml.core.avro.record import encode_record
from stream_ml.core.partition.predictions import Published
from stream_ml.embedded.broker import EmbeddedKafka, free_port
from stream_ml.kafka.clients import reader
from stream_ml.kafka.topics import create_topics

RATE = 1_000
STEP_MS = 200  # of event time between two events
WAIT_MAX_S = 900.0
BEFORE = """
from river import linear_model, preprocessing


def build():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()
"""
AFTER = """
from river import linear_model, preprocessing

from helper import L2


def build():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(l2=L2)
"""
OTHER_RIVER = """
import importlib.metadata as metadata

known = metadata.version
metadata.version = lambda name: "99.0.0" if name == "river" else known(name)
"""


class App:
    """An app, its producer, and a consumer of its predictions."""

    def __init__(self, folder: Path, servers: str, partitions: int) -> None:
        self.folder, self.partitions = folder, partitions
        for name, schema in (("visit", EVENT), ("truth", LABEL)):
            (folder / f"{name}.avsc").write_text(json.dumps(schema), "utf-8")
        (folder / "model.py").write_text(BEFORE, "utf-8")
        source = {"id": "id", "time": "at"}
        settings: dict[str, Any] = {
            "app": {"id": "takeover"},
            "kafka": {"bootstrap_servers": servers},
            "events": {"topic": "visits", "schema": "visit.avsc", **source},
            "feedback": {"topic": "truths", "schema": "truth.avsc", "label": "y", "ttl": "10m", **source},
            "predictions": {"topic": "scores"},
            "model": {"factory": "model:build", "task": "binary"},
            "delivery": {"membership": "dynamic" if partitions > 1 else "static"},
            "log": {"format": "json"},
        }
        self.ports = {f"w{number}": free_port() for number in range(1, partitions + 1)}
        for name, port in self.ports.items():
            own = {"worker": {"instance": name}, "http": {"port": port}}
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings | own), "utf-8")
        self.config = load_config(folder / "w1.yaml")
        create_topics(self.config, partitions, dry_run=False)
        self._producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 5})
        self._schemas = {"visits": fastavro.parse_schema(EVENT), "truths": fastavro.parse_schema(LABEL)}
        self.observer = Observer(self.config, partitions)
        self.produced = 0
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def produce(self, count: int) -> None:
        """So many events, each with its label."""
        for number in range(self.produced, self.produced + count):
            partition = number % self.partitions
            self._put("visits", {"id": f"v{number}", "at": T0 + STEP_MS * number, "x": float(number % 7)}, partition)
            self._put("truths", {"id": f"v{number}", "at": T0 + STEP_MS * number + 10, "y": number % 7 > 3}, partition)
        self.produced += count
        self._producer.poll(0)

    def _put(self, topic: str, values: dict[str, Any], partition: int) -> None:
        while True:
            try:
                value = encode_record(self._schemas[topic], values)
                self._producer.produce(topic, value, str(values["id"]).encode(), partition)
                return
            except BufferError:
                self._producer.poll(0.1)

    def wait_done(self) -> None:
        """Until everything is committed and learned."""
        self._producer.flush()
        deadline = time.monotonic() + WAIT_MAX_S
        while sum(pair.feedback or 0 for pair in self.observer.pairs()) < self.produced:
            assert time.monotonic() < deadline, "the log was not made in time"
            time.sleep(0.2)  # between two looks

    def start(self, name: str, **environment: str) -> float:
        """A worker; the time of its start."""
        env = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"} | environment
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "stream_ml", "run", str(self.folder / f"{name}.yaml")]
            self.workers[name] = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        return time.time()

    def stop(self, name: str) -> float:
        """SIGTERM; the seconds until it has ended."""
        began_s = time.monotonic()
        self.workers[name].send_signal(signal.SIGTERM)
        self.workers[name].wait(60)
        return time.monotonic() - began_s

    def status(self, name: str) -> dict[str, Any]:
        """/v1/status; empty while nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/v1/status", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError):
            return {}

    def wait_ready(self, name: str) -> None:
        """Until it scores."""
        deadline = time.monotonic() + WAIT_MAX_S
        while not self.status(name).get("ready"):
            assert time.monotonic() < deadline and self.workers[name].poll() is None, self.log(name)
            time.sleep(0.05)  # between two looks: how exact the measurement is

    def wait_serving(self, name: str, lineage: str) -> str:
        """Until another lineage than this one serves; which."""
        deadline = time.monotonic() + WAIT_MAX_S
        while True:
            models = self.status(name).get("models", {})
            if models.get("answers", lineage) != lineage and models["answers"] == models["serves"]:
                return str(models["answers"])
            assert time.monotonic() < deadline, self.log(name)
            time.sleep(0.1)  # between two looks

    def log(self, name: str) -> str:
        """The end of what a worker has said."""
        return (self.folder / f"{name}.log").read_text("utf-8")[-3000:]


class Watch(threading.Thread):
    """Produces at RATE and notes when committed predictions come, and of which model."""

    def __init__(self, app: App) -> None:
        super().__init__(daemon=True)
        self._app, self._codec = app, assemble(app.config).predictions
        self._consumer = reader(app.config)
        found = [TopicPartition("scores", number) for number in range(app.partitions)]
        for one in found:
            one.offset = self._consumer.get_watermark_offsets(one, timeout=10)[1]
        self._consumer.assign(found)
        self.came: list[tuple[float, str]] = []
        self.flags: Counter[str] = Counter()
        self.ended = threading.Event()

    def run(self) -> None:
        began_s, sent = time.monotonic(), 0
        while not self.ended.is_set():
            due = int((time.monotonic() - began_s) * RATE)
            if due > sent:
                self._app.produce(due - sent)
                sent = due
            for message in self._consumer.consume(1_000, 0.01):
                if message.error() is None:
                    said = self._codec.decode(message.value() or b"")
                    assert isinstance(said, Published)
                    self.came.append((time.time(), said.served.lineage))
                    self.flags.update(said.served.flags)

    def longest_pause_s(self, since_s: float) -> float:
        """Between two predictions from then on."""
        times = [at_s for at_s, _ in self.came if at_s >= since_s]
        return max((after - before for before, after in itertools.pairwise(times)), default=0.0)

    def first_s(self, since_s: float, lineage: str = "") -> float:
        """Seconds until the first prediction after then, of this lineage."""
        return next(at_s for at_s, of in self.came if at_s > since_s and lineage in ("", of)) - since_s


@contextlib.contextmanager
def opened(examples: int, workers: int) -> Iterator[tuple[App, str]]:
    """An app whose workers have learned so many examples; and its model's lineage."""
    with (
        tempfile.TemporaryDirectory(prefix="stream-ml-takeover-") as folder,
        EmbeddedKafka(Path(folder) / "kafka") as kafka,
    ):
        (Path(folder) / "app").mkdir()
        app = App(Path(folder) / "app", kafka.bootstrap_servers, workers)
        try:
            for name in app.ports:
                app.start(name)
            app.produce(examples)
            app.wait_done()
            for name in app.ports:
                app.wait_ready(name)
            yield app, app.status("w1")["model"]["lineage"]
        finally:
            for worker in app.workers.values():
                worker.kill()
                worker.wait()


def changed(examples: int, workers: int) -> dict[str, Any]:
    """Another model.py: each worker is restarted in turn while events flow."""
    with opened(examples, workers) as (app, old):
        watch = Watch(app)
        watch.start()
        time.sleep(5)  # of the load, as it is without a restart
        calm_s, began_s = watch.longest_pause_s(0.0), time.time()
        (app.folder / "helper.py").write_text("L2 = 0.001\n", "utf-8")
        (app.folder / "model.py").write_text(AFTER, "utf-8")
        starts = {}
        for name in app.ports:
            app.stop(name)
            starts[name] = app.start(name)
            app.wait_ready(name)
        new = app.wait_serving("w1", old)
        serving_s = time.time()
        for name in app.ports:
            app.wait_serving(name, old)
        time.sleep(3)  # of the load with the new model
        watch.ended.set()
        watch.join()
        return {
            "workers": workers,
            "examples": examples,
            "longest_pause_before_s": round(calm_s, 2),
            "first_prediction_after_start_s": round(watch.first_s(starts["w1"]), 2),
            "longest_pause_s": round(watch.longest_pause_s(began_s), 2),
            "took_over_after_s": round(serving_s - starts["w1"], 1),
            "superseded": watch.flags["superseded"],
            "predictions": {
                "old": sum(of == old for _, of in watch.came),
                "new": sum(of == new for _, of in watch.came),
            },
        }


def other_river(examples: int) -> dict[str, Any]:
    """Another version of River: the old model cannot be built, so the fold comes first; told to stop in its middle."""
    with opened(examples, 1) as (app, old):
        app.stop("w1")
        patched = app.folder / "patched"
        patched.mkdir()
        (patched / "sitecustomize.py").write_text(OTHER_RIVER, "utf-8")
        said: list[str] = []
        app.start("w1", PYTHONPATH=str(patched))
        while "folding" not in app.status("w1"):
            time.sleep(0.05)  # between two looks
        time.sleep(2)  # into the fold
        said += app.status("w1").get("reasons", [])
        stopped_s = app.stop("w1")
        started_s = app.start("w1", PYTHONPATH=str(patched))
        app.wait_ready("w1")
        return {
            "examples": examples,
            "ended_after_sigterm_s": round(stopped_s, 2),
            "said": said,
            "ready_after_s": round(time.time() - started_s, 1),
            "answers_another": app.status("w1")["models"]["answers"] != old,
        }


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    for case in (lambda: changed(examples, 1), lambda: changed(examples, 2), lambda: other_river(examples)):
        print(json.dumps(case()), flush=True)


if __name__ == "__main__":
    main()
