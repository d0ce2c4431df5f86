"""The scoring API beside MLServer and FastAPI with the same model: CPU a request, requests a second, latency.

Run it as ``python -m benchmarks.serving [ROUNDS]``: an embedded Kafka, a worker that has learned 2,000 examples of 14
numbers, ``stream-ml serve`` with an API key, and both peers, each on one core, asked one after the other in each round
by the same client on the other core: one instance a request (16 connections), 100 (4) and 1,000 (2). Then the API alone
at 400 requests a second from intended times, while no labels, 1,000 a second and as many as come are learned. CPU is
that of the answering process (user and kernel) over its requests: what to compare on a machine that others use. The
last line is JSON.
"""

import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from confluent_kafka import Producer

from benchmarks.environments import Missing, python_of
from benchmarks.http_load import Took, load
from benchmarks.machine import cores, pinned
from benchmarks.process import ROOT
from stream_ml.app.assemble import assemble
from stream_ml.config import load_config
from stream_ml.core.avro.record import encode_record
from stream_ml.embedded.broker import EmbeddedKafka, free_port
from stream_ml.kafka.topics import create_topics
from stream_ml.serve.access.keys import new_key, write_keys

FEATURES = 14
LEARNED = 2_000
SECONDS = 2.5
SIZES = ((1, 16), (100, 4), (1_000, 2))  # instances a request, and connections
RATE = 400.0
MODEL = """
from river import linear_model, preprocessing


def build():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()
"""
TICKS = os.sysconf("SC_CLK_TCK")
T0 = 1_700_000_000_000


class Server(NamedTuple):
    """One that is asked."""

    name: str
    pid: int
    port: int
    path: str
    headers: str

    def body(self, count: int) -> bytes:
        """A request with so many instances."""
        rows = [[float((number * 7919 + n) % 100) for n in range(FEATURES)] for number in range(count)]
        if self.name == "MLServer":
            data = [value for row in rows for value in row]
            tensor = {"name": "features", "shape": [count, FEATURES], "datatype": "FP64", "data": data}
            return json.dumps({"inputs": [tensor]}).encode()
        named = [{f"x{n}": value for n, value in enumerate(row)} for row in rows]
        return json.dumps({"instances": named}).encode()


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Feed:
    """A producer of labelled events. Not an idempotent one: while five of its requests are on their way such a client
    polls without a pause, and a broker on the same core does not get to answer them."""

    def __init__(self, config_file: Path) -> None:
        config = load_config(config_file)
        self._producer = Producer({"bootstrap.servers": config.kafka.bootstrap_servers, "linger.ms": 5, "acks": 1})
        parts = assemble(config)
        self._schemas = {"visits": parts.reader.payloads.reader.parsed, "truths": parts.feedback.payloads.reader.parsed}
        self.produced = 0

    def produce(self, count: int) -> None:
        """So many events with their labels."""
        for number in range(self.produced, self.produced + count):
            values = {f"x{n}": float((number * 7919 + n) % 100) for n in range(FEATURES)}
            event = {"id": f"v{number}", "at": T0 + 200 * number, **values}
            label = {"id": f"v{number}", "at": T0 + 200 * number + 10, "y": values["x0"] > 50}
            for topic, record in (("visits", event), ("truths", label)):
                while True:
                    try:
                        self._producer.produce(topic, encode_record(self._schemas[topic], record), event["id"])
                        break
                    except BufferError:
                        self._producer.poll(0.05)
        self.produced += count
        self._producer.poll(0)


class Api:
    """A worker, the API, and a producer of labelled events."""

    def __init__(self, folder: Path, servers: str) -> None:
        self._folder = folder
        time_ = {"type": "long", "logicalType": "timestamp-millis"}
        doubles = [{"name": f"x{n}", "type": "double"} for n in range(FEATURES)]
        head = [{"name": "id", "type": "string"}, {"name": "at", "type": time_}]
        schemas = {
            "visit": {"type": "record", "name": "Visit", "fields": [*head, *doubles]},
            "truth": {"type": "record", "name": "Truth", "fields": [*head, {"name": "y", "type": "boolean"}]},
        }
        for name, schema in schemas.items():
            (folder / f"{name}.avsc").write_text(json.dumps(schema), "utf-8")
        (folder / "model.py").write_text(MODEL, "utf-8")
        self.key, kept = new_key("bench", ["predict"])
        write_keys(folder / "keys.json", [kept])
        self.port, self.admin_port = free_port(), free_port()
        settings: dict[str, Any] = {
            "app": {"id": "serving"},
            "kafka": {"bootstrap_servers": servers},
            "events": {"topic": "visits", "schema": "visit.avsc", "id": "id", "time": "at"},
            "feedback": {
                "topic": "truths",
                "schema": "truth.avsc",
                "id": "id",
                "time": "at",
                "label": "y",
                "ttl": "10m",
            },
            "predictions": {"topic": "scores"},
            "model": {"factory": "model:build", "task": "binary"},
            "http": {"port": 0},
            "serve": {"port": self.port, "admin_port": self.admin_port, "auth": {"keys_file": "keys.json"}},
            "log": {"format": "json"},
        }
        (folder / "stream_ml.yaml").write_text(yaml.safe_dump(settings), "utf-8")
        self.config_file = folder / "stream_ml.yaml"
        create_topics(load_config(self.config_file), 1, dry_run=False)
        self.feed = Feed(self.config_file)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, verb: str, core: int) -> None:
        """A process of the project, on a core."""
        env = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
        with (self._folder / f"{verb}.log").open("ab") as log, pinned(core):
            command = [sys.executable, "-m", "stream_ml", verb, str(self._folder / "stream_ml.yaml")]
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=self._folder))

    def status(self) -> dict[str, Any]:
        """What the API says of itself; empty while it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/v1/status", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError):
            return {}

    def wait_learned(self, least: int) -> None:
        """Until the API's model has learned so many."""
        deadline = time.monotonic() + 120
        while not self.learned() >= least:
            assert time.monotonic() < deadline, (self._folder / "serve.log").read_text("utf-8")[-2000:]
            time.sleep(0.1)  # between two looks

    def learned(self) -> int:
        """How many examples the model that answers has learned."""
        children = self.status().get("children", [])
        return int(((children or [{}])[0].get("model") or {}).get("examples_learned", 0))

    @property
    def server(self) -> Server:
        """The process that answers."""
        pid = int(self.status()["children"][0]["pid"])
        return Server("stream_ml", pid, self.port, "/v1/predict", f"X-API-Key: {self.key}\r\n")


@contextlib.contextmanager
def peer(name: str, script: str, path: str, folder: Path) -> Iterator[Server | None]:
    """A peer on the measured core; None where its environment cannot be made here."""
    try:
        python = python_of(ROOT / ".bench", name.lower())
    except Missing as error:
        sys.stderr.write(f"{error}\n")
        yield None
        return
    port = free_port()
    with (folder / f"{name}.log").open("wb") as log, pinned(cores().measured):
        process = subprocess.Popen(
            [str(python), str(ROOT / "benchmarks" / "peers" / script), str(port)], stdout=log, stderr=log, cwd=folder
        )
    server = Server(name, process.pid, port, path, "")
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                took = load(port, path, server.body(1), connections=1, seconds=0.2)
                if took.count and not took.failed:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / f"{name}.log").read_text("utf-8")[-1500:])
            time.sleep(0.2)  # between two tries
        yield server
    finally:
        process.kill()
        process.wait()


def measured(server: Server, count: int, connections: int) -> dict[str, float]:
    """One run: CPU us a request, requests a second, latencies."""
    body = server.body(count)

    def run(seconds: float) -> Took:
        return load(server.port, server.path, body, connections=connections, seconds=seconds, headers=server.headers)

    run(0.5)
    before_s = cpu_s(server.pid)
    took = run(SECONDS)
    used_s = cpu_s(server.pid) - before_s
    assert not took.failed and took.count, (server.name, took.failed, took.count)
    return {
        "cpu_us": 1e6 * used_s / took.count,
        "per_second": took.per_second,
        "p50_ms": took.quantile(0.5),
        "p99_ms": took.quantile(0.99),
    }


def fed(config_file: Path, first: int, labels: float) -> None:
    """Produce so many events a second, each with its label, until ended."""
    feed = Feed(config_file)
    feed.produced, began_s = first, time.monotonic()
    while True:
        feed.produce(first + int((time.monotonic() - began_s) * labels) - feed.produced)
        time.sleep(0.01)  # the rate


def learning(api: Api, labels: float | None) -> dict[str, float]:
    """Latencies at RATE while so many labels a second are learned; None: as many as there are, a backlog."""
    if labels is None:
        api.feed.produce(150_000)
    # In a process of its own: a thread that encodes records would keep the interpreter from the client that measures.
    context = multiprocessing.get_context("spawn")
    feeding = context.Process(target=fed, args=(api.config_file, api.feed.produced, labels), daemon=True)
    learned_before = api.learned()
    if labels:
        feeding.start()
        api.wait_learned(learned_before + int(labels))  # a second of the rate, before anything is measured
        learned_before = api.learned()
    began_s, server = time.monotonic(), api.server
    took = load(
        server.port, server.path, server.body(1), connections=16, seconds=6.0, rate=RATE, headers=server.headers
    )
    seconds = time.monotonic() - began_s
    learned = (api.learned() - learned_before) / seconds
    if labels:
        feeding.terminate()
        feeding.join()
        api.feed.produced += int(60 * labels)  # more than it can have come to
    assert not took.failed
    return {
        "p50_ms": took.quantile(0.5),
        "p90_ms": took.quantile(0.9),
        "p99_ms": took.quantile(0.99),
        "learned": learned,
    }


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    os.sched_setaffinity(0, {cores().others})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stream-ml-serving-")))
        kafka = stack.enter_context(EmbeddedKafka(folder / "kafka"))
        api = Api(folder, kafka.bootstrap_servers)
        stack.callback(lambda: [process.kill() for process in api.processes])
        api.start("run", cores().others)
        api.feed.produce(LEARNED)
        api.start("serve", cores().measured)
        api.wait_learned(LEARNED - 100)
        peers = [
            stack.enter_context(peer("FastAPI", "with_fastapi.py", "/v1/predict", folder)),
            stack.enter_context(peer("MLServer", "with_mlserver.py", "/v2/models/river/infer", folder)),
        ]
        servers = [api.server, *(one for one in peers if one is not None)]
        found: dict[str, dict[int, list[dict[str, float]]]] = {one.name: {} for one in servers}
        for number in range(rounds):
            for count, connections in SIZES:
                for server in servers:
                    result = measured(server, count, connections)
                    found[server.name].setdefault(count, []).append(result)
                    words = ", ".join(f"{name} {value:,.1f}" for name, value in result.items())
                    sys.stderr.write(f"round {number + 1}  {server.name:10} n={count:<5} {words}\n")
        table = {
            name: {
                str(count): {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
                for count, runs in sizes.items()
            }
            for name, sizes in found.items()
        }
        while_learning = {}
        for name, labels in (("nothing", 0.0), ("1,000 labels/s", 1_000.0), ("a backlog", None)):
            if labels is None:  # else a worker at full speed keeps the broker from the core that they share
                for task in Path(f"/proc/{kafka.pid}/task").iterdir():
                    os.sched_setaffinity(int(task.name), {cores().others, cores().measured})
            while_learning[name] = {key: round(value, 2) for key, value in learning(api, labels).items()}
            sys.stderr.write(f"while learning {name}: {while_learning[name]}\n")
    own = table["stream_ml"]
    ratios = {
        name: {count: round(of["cpu_us"] / own[count]["cpu_us"], 2) for count, of in sizes.items()}
        for name, sizes in table.items()
        if name != "stream_ml"
    }
    print(json.dumps({"servers": table, "cpu_of_peers_to_ours": ratios, "while_learning": while_learning}))


if __name__ == "__main__":
    main()
