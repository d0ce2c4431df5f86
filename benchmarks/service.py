"""The service as a process: ``python -m stream_ml run`` with a configuration, a model and topics of its own."""

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.cluster import Topics
from benchmarks.load import FEATURES, LABEL_SCHEMA, event_schema
from benchmarks.process import ROOT, Measured
from stream_ml.embedded.broker import free_port

STATUS_S = 0.5
START_S = 60.0
MODEL = '''\
"""StandardScaler | LogisticRegression."""

from river import linear_model, preprocessing


def build():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()
'''
TTL = {"ttl": "10m", "early_ttl": "1m"}
"""Of record time: 33,000 events are pending at once (20 ms apart), and others expire while throughput is measured."""


class Service:
    """One worker's folder: configuration, schemas, model; its topics made by the project's own command."""

    def __init__(self, folder: Path, servers: str, topics: Topics, *, features: int = FEATURES, **changes: Any) -> None:
        self.folder, self.topics, self.port = folder, topics, free_port()
        (folder / "payment.avsc").write_text(json.dumps(event_schema(features)), "utf-8")
        (folder / "truth.avsc").write_text(json.dumps(LABEL_SCHEMA), "utf-8")
        (folder / "model.py").write_text(MODEL, "utf-8")
        source = {"id": "id", "time": "at"}
        settings = {
            "app": {"id": topics.prefix},
            "worker": {"instance": "w1"},
            "kafka": {"bootstrap_servers": servers},
            "events": {"topic": topics.events, "schema": "payment.avsc", **source},
            "feedback": {"topic": topics.labels, "schema": "truth.avsc", "label": "label", **source, **TTL},
            "predictions": {"topic": topics.predictions},
            "model": {"factory": "model:build", "task": "binary"},
            "http": {"port": self.port},
            "log": {"format": "json"},
        }
        for section, values in changes.items():
            settings[section] = {**settings.get(section, {}), **values}
        (folder / "stream_ml.yaml").write_text(yaml.safe_dump(settings), "utf-8")
        self.said("topics", "create")
        self.log = f"{topics.prefix}.training-log"

    def said(self, *verb: str, after: tuple[str, ...] = (), most_s: float = 60) -> str:
        """What a command of the project prints."""
        command = [sys.executable, "-m", "stream_ml", *verb, str(self.folder / "stream_ml.yaml"), *after]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=most_s)
        if done.returncode:
            raise RuntimeError(f"stream-ml {' '.join(verb)} failed: {done.stderr}")
        return done.stdout

    def start(self) -> Measured:
        """The worker, on its core."""
        command = [sys.executable, "-m", "stream_ml", "run", str(self.folder / "stream_ml.yaml")]
        return Measured(self.folder, command)

    def worker(self, name: str) -> "Worker":
        """One of several workers, on any core."""
        folder, port = self.folder / name, free_port()
        folder.mkdir(exist_ok=True)
        configuration = str(self.folder / "stream_ml.yaml")
        own = ["--set", f"worker.instance={name}", "--set", f"http.port={port}"]
        command = [sys.executable, "-m", "stream_ml", "run", configuration, *own]
        return Worker(name, port, Measured(folder, command, anywhere=True))

    def status(self) -> dict[str, Any] | None:
        """/v1/status; None while nothing answers."""
        return status_of(self.port)

    def wait_ready(self, process: Measured) -> None:
        """Until it has taken up its partitions."""
        Worker("the service", self.port, process).wait_ready()

    def transactions(self) -> int:
        """Committed ones since the start, as /metrics says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            found = re.findall(
                r'^stream_ml_transactions_total\{ending="committed"\} (\S+)$', answer.read().decode(), re.M
            )
        return int(sum(map(float, found)))

    def stage_seconds(self) -> dict[str, float]:
        """Seconds spent in each stage since the start, as /metrics says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = re.findall(r'^stream_ml_stage_seconds_sum\{stage="(\w+)"\} (\S+)$', text, re.MULTILINE)
        return {stage: float(seconds) for stage, seconds in found}


class Worker(NamedTuple):
    """One of several."""

    name: str
    port: int
    process: Measured

    def status(self) -> dict[str, Any] | None:
        """/v1/status; None while nothing answers."""
        return status_of(self.port)

    def wait_ready(self, most_s: float = START_S) -> None:
        """Until it has taken up its partitions."""
        deadline = time.monotonic() + most_s
        while not (self.status() or {}).get("ready"):
            if not self.process.runs or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: {self.process.last_words()}")
            time.sleep(0.1)  # between two questions; the deadline decides


def status_of(port: int) -> dict[str, Any] | None:
    """/v1/status of a port; None while nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, ValueError):
        return None


def first_poll_s(process: Measured) -> float | None:
    """Seconds from the start of the process until it joins its group, as its log says."""
    for line in process.err.read_text("utf-8", "replace").splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            if "joining group" in entry["message"]:
                return datetime.fromisoformat(entry["timestamp"]).timestamp() - process.started_s
    return None


class Scraper:
    """Asks for /metrics so many times a second, 0: never; each time over a connection of its own."""

    def __init__(self, port: int, per_second: float) -> None:
        self._url, self._pause_s = f"http://127.0.0.1:{port}/metrics", 1 / per_second if per_second else 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        if per_second:
            self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            with contextlib.suppress(OSError), urllib.request.urlopen(self._url, timeout=5) as answer:
                answer.read()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()


class LearningWatch:
    """Asks a service now and then how many examples it has learned.

    The status is made anew once a second, so a point's time is that at which its status was made: the smallest
    difference seen between the harness's clock and the status's own uptime dates them all.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen: list[tuple[float, float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(STATUS_S):
            asked_s = time.time()
            status = self._service.status()
            uptime_s = (status or {}).get("uptime_seconds", 0.0)
            if status and uptime_s and (not self._seen or uptime_s > self._seen[-1][1]):
                self._seen.append((asked_s, uptime_s, status["model"]["examples_learned"]))

    def points(self) -> list[tuple[float, float]]:
        """Times and examples learned by then, up to the time at which nothing more was learned."""
        seen = list(self._seen)
        if not seen:
            return []
        zero_s = min(asked_s - uptime_s for asked_s, uptime_s, _ in seen)
        first = seen.index(next(point for point in seen if point[2] == seen[-1][2]))
        return [(zero_s + uptime_s, float(learned)) for _, uptime_s, learned in seen[: first + 1]]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
