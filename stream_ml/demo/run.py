"""``stream-ml demo``: a real Kafka, one worker, a year of flights; then the topics are read and counted."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Producer, TopicPartition
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stream_ml import schemas
from stream_ml.assembly import assemble
from stream_ml.audit import audit
from stream_ml.config import Config, load_config
from stream_ml.core.binary import encode_record
from stream_ml.core.log_entry import decode_pair
from stream_ml.core.outputs import dead_letter_origin
from stream_ml.demo.flights import Item, flights
from stream_ml.errors import FatalError
from stream_ml.kafka.broker import EmbeddedKafka
from stream_ml.kafka.clients import reader, record_of, take
from stream_ml.kafka.topics import create_topics, inspect_topics
from stream_ml.records import Record

PARTITIONS = 1
WINDOW_MS = 4 * 3_600_000  # of the flights' time is played at once, when all before it is done: how far a model may lag
WAIT_S = 0.05  # for the next thing to be committed
STALL_MAX_S = 60.0  # without progress: then the worker is stuck
STOP_S = 30.0  # for the worker to finish its turn and write a checkpoint

_CONFIG = """\
app: {{id: flights}}
worker: {{instance: demo}}
kafka: {{bootstrap_servers: "{servers}"}}
events:
  topic: flights
  schema: {schemas}/flight.avsc
  id: flight_id
  time: scheduled_departure
feedback:
  topic: arrivals
  schema: {schemas}/arrival.avsc
  id: flight_id
  label: late
  time: landed_at
  ttl: 2d
  early_ttl: 6h
predictions:
  topic: flight-delays
  carry: [carrier, origin]
model:
  factory: stream_ml.demo.model:build
  task: binary
http: {{port: 0}}
checkpoints: {{directory: checkpoints}}
"""


def run_demo(limit: int | None, directory: Path | None) -> None:
    """Run the demo and print what happened; the last line of standard output is JSON."""
    started = time.monotonic()
    console = Console(stderr=not sys.stdout.isatty())
    with contextlib.ExitStack() as stack:
        folder = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stream-ml-demo-")))
        console.print("starting Apache Kafka (the first time its jars are downloaded, 43 MB)")
        kafka = stack.enter_context(EmbeddedKafka(folder / "kafka"))
        file = folder / "stream_ml.yaml"
        file.write_text(_CONFIG.format(servers=kafka.bootstrap_servers, schemas=schemas.FOLDER), "utf-8")
        config = load_config(file)
        create_topics(config, PARTITIONS, dry_run=False)
        with worker_process(file, folder / "worker.log") as worker:
            items = flights(limit)  # read while the worker starts
            where = f"Kafka answers at {kafka.bootstrap_servers}"
            console.print(f"{where}; {len(items):,} records to play, faster than real time")
            _play(config, items, worker, console)
        console.print("reading every topic from its beginning to count what is there")
        result = _result(config, folder)
    result["seconds"] = round(time.monotonic() - started, 1)
    console.print(_words(result))
    print(json.dumps(result))  # noqa: T201 - the demo's result
    if result["lost"] or result["duplicated"]:
        raise FatalError(f"{result['lost']} events were lost and {result['duplicated']} came twice")


@contextlib.contextmanager
def worker_process(config_file: Path, log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own; stopped with SIGTERM at the end."""
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stream_ml", "run", str(config_file)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"},
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        if process.wait(STOP_S) != 0:
            raise FatalError(f"the worker ended with {process.returncode}:\n{_tail(log_file)}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _tail(file: Path) -> str:
    return "\n".join(file.read_text("utf-8", "replace").splitlines()[-15:])


class _Player:
    """Produces items in order, both topics with the flight's id as key."""

    def __init__(self, config: Config) -> None:
        settings = {
            "bootstrap.servers": config.kafka.bootstrap_servers,
            "enable.idempotence": True,  # a batch that is sent again must not overtake
            "linger.ms": 50,  # flush() sends at once, and all together
        }
        self._producer = Producer(settings)
        self._targets = {
            "event": (config.events.topic, fastavro.parse_schema(schemas.load("flight"))),
            "label": (config.feedback.topic, fastavro.parse_schema(schemas.load("arrival"))),
        }

    def play(self, window: list[Item]) -> None:
        """Labels first: the service holds those back whose time has not come, and so has them at hand in time."""
        for kind in ("label", "event"):
            topic, schema = self._targets[kind]
            for item in window:
                if item.kind == kind:
                    self._produce(topic, encode_record(schema, item.values), item.flight_id.encode())
            self._producer.flush()

    def _produce(self, topic: str, value: bytes, key: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key)
                return
            except BufferError:
                self._producer.poll(0.1)


class _Committed:
    """Counts what the service has committed, by reading its outputs; `until_ms` is how far it has come in time.

    There is one partition, so the n-th prediction is that of the n-th event, and labels end in order but for a few.
    """

    def __init__(self, config: Config, items: list[Item]) -> None:
        self._config = config
        self._times = {kind: [item.time_ms for item in items if item.kind == kind] for kind in ("event", "label")}
        self.done = {"event": 0, "label": 0}
        self._consumer = reader(config)
        topics = (config.predictions.topic, config.training_log, config.outcomes, config.dead_letters)
        self._consumer.assign([TopicPartition(topic, 0, 0) for topic in topics])

    def read(self, wait_s: float) -> None:
        for message in take(self._consumer, 10_000, wait_s):
            if message.error() is None:
                kind = self._kind(record_of(message))
                if kind is not None:
                    self.done[kind] += 1

    def _kind(self, record: Record) -> str | None:
        config = self._config
        if record.topic == config.training_log:
            return "label" if decode_pair(record.value or b"") is not None else None
        if record.topic == config.dead_letters:
            origin = dead_letter_origin(record)
            return "event" if origin is not None and origin[0] == config.events.topic else "label"
        return "event" if record.topic == config.predictions.topic else "label"

    def caught_up(self, sent: dict[str, int]) -> bool:
        """Whether all events sent are done, and all labels but those that wait for later events."""
        if self.done["event"] < sent["event"]:
            return False
        labels = self._times["label"][self.done["label"] : sent["label"]]
        return not labels or (sent["event"] > 0 and labels[0] > self._times["event"][sent["event"] - 1])

    def close(self) -> None:
        self._consumer.close()


def _play(config: Config, items: list[Item], worker: subprocess.Popen[bytes], console: Console) -> None:
    player, committed, sent = _Player(config), _Committed(config, items), 0
    sent_by_kind = {"event": 0, "label": 0}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:>7,.0f} of {task.total:,.0f} records"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task("scoring and learning", total=len(items))
        heard, last = time.monotonic(), 0
        while last < len(items):
            if committed.caught_up(sent_by_kind):
                window = _window(items, sent)
                player.play(window)
                for item in window:
                    sent_by_kind[item.kind] += 1
                sent += len(window)
            committed.read(WAIT_S)
            done = sum(committed.done.values())
            if done != last:
                heard, last = time.monotonic(), done
                progress.update(bar, completed=done)
            _check_alive(worker, heard)
    committed.close()


def _window(items: list[Item], start: int) -> list[Item]:
    """The next records to be played: some hours of them, with at least one event, for labels wait for events."""
    found: list[Item] = []
    events = 0
    for item in islice(items, start, None):
        if events and item.time_ms > found[0].time_ms + WINDOW_MS:
            break
        found.append(item)
        events += item.kind == "event"
    return found


def _check_alive(worker: subprocess.Popen[bytes], heard: float) -> None:
    if worker.poll() is not None:
        raise FatalError(f"the worker ended with {worker.returncode}")
    if time.monotonic() - heard > STALL_MAX_S:
        raise FatalError(f"nothing was committed for {STALL_MAX_S:.0f} s")


def _result(config: Config, folder: Path) -> dict[str, Any]:
    parts = assemble(config)
    found = audit(parts, inspect_topics(config).partitions)
    newest = max((folder / "checkpoints").glob("*/*.ckpt"))
    with newest.open("rb") as file:
        header = json.loads(file.readline())
    quality = header["quality"]
    return {
        "events": found.events,
        "predictions": found.predictions,
        "labels": found.feedback,
        "labels_joined": found.examples,
        "examples_learned": header["examples_learned"],
        "outcomes": dict(found.outcomes),
        "dead_letters": dict(found.dead_letters),
        "lost": len(found.lost) + len(found.waiting),
        "duplicated": len(found.duplicated) + len(found.broken_sequences),
        "auc": round(quality["auc"], 4),
        "auc_baseline": round(quality["auc_baseline"], 4),
        "log_loss": round(quality["log_loss"], 4),
        "log_loss_baseline": round(quality["log_loss_baseline"], 4),
        "version": f"{header['lineage']}/{header['position']}",
    }


def _words(result: dict[str, Any]) -> str:
    return (
        f"{result['events']:,} flights scored, {result['examples_learned']:,} landings learned, "
        f"{result['lost']} lost, {result['duplicated']} twice (counted in the topics)\n"
        f"ROC AUC {result['auc']:.3f}, knowing only the labels {result['auc_baseline']:.3f}; "
        f"log loss {result['log_loss']:.3f} against {result['log_loss_baseline']:.3f}; model {result['version']}"
    )
