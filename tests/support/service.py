"""A whole service for tests on a real Kafka: topics, workers in processes of their own, producers, and an audit."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
import yaml
from confluent_kafka import Producer

from stream_ml.admin.observer import Observer
from stream_ml.app.assemble import assemble
from stream_ml.audit.audit import Audit, audit
from stream_ml.config import Config, load_config
from stream_ml.core.avro.record import encode_record
from stream_ml.core.log.entry import Example, encode_example, encode_start
from stream_ml.follower.identity import identified, identity
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import TopicFacts, create_topics, inspect_topics, topic_ids
from stream_ml.records import NOT_SERVED, Record, Target
from stream_ml.runtime import failpoints, hash_seed

WAIT_S = 60.0  # for anything that a healthy service does within seconds

EVENT = {
    "type": "record",
    "name": "Visit",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "x", "type": "double"},
        {"name": "kind", "type": "string"},
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}
LABEL = {
    "type": "record",
    "name": "Truth",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "y", "type": "boolean"},
    ],
}
MODEL = """
from river import compose, linear_model, preprocessing


def build():
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | linear_model.LogisticRegression()
"""
T0 = 1_600_000_000_000  # 2020-09-13: old times are fine
STOP_S = 60.0  # a worker ends within 10 s; on a machine that does much else it is only looked at later


def until(fact: Callable[[], bool], most_s: float) -> bool:
    """Wait until a fact holds, so long at most; whether it does."""
    deadline = time.monotonic() + most_s
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)  # between two looks; the deadline, not the pause, decides
    return True


def any_hash_seed() -> dict[str, str]:
    """The environment of a process that has to find its hash seed by itself."""
    return {name: value for name, value in os.environ.items() if name != hash_seed.VARIABLE}


class Service:
    """One app on a broker. Every process that is left at the end is killed."""

    VISIT_SCHEMA = fastavro.parse_schema(EVENT)
    TRUTH_SCHEMA = fastavro.parse_schema(LABEL)

    def __init__(self, folder: Path, servers: str, app_id: str, *, partitions: int = 1, **changes: Any) -> None:
        self.folder, self.partitions = folder, partitions
        self._observers: dict[int, Observer] = {}
        self._started: set[int] = set()
        self._hash_seed: dict[str, str] = {}  # of the log, once that has a name
        self.workers: list[Worker] = []
        self.code: Path | None = None  # a checkout whose code the processes run; None: this one
        self.errors: deque[str] = deque(maxlen=10)  # the producer's last ones
        (folder / "visit.avsc").write_text(json.dumps(EVENT), "utf-8")
        (folder / "truth.avsc").write_text(json.dumps(LABEL), "utf-8")
        (folder / f"model_{app_id}.py").write_text(MODEL, "utf-8")
        self.settings = _merged(
            {
                "app": {"id": app_id},
                "kafka": {"bootstrap_servers": servers},
                "events": {"topic": f"{app_id}-visits", "schema": "visit.avsc", "id": "id", "time": "at"},
                "feedback": {
                    "topic": f"{app_id}-truths",
                    "schema": "truth.avsc",
                    "id": "id",
                    "label": "y",
                    "time": "at",
                    "ttl": "1h",
                },
                "predictions": {"topic": f"{app_id}-predictions"},
                "features": {"include": ["x", "kind"]},
                "model": {"factory": f"model_{app_id}:build", "task": "binary"},
                "delivery": {"session_timeout": "6s"},
                "http": {"port": 0},
            },
            changes,
        )
        self.producer = Producer(
            {
                "bootstrap.servers": servers,
                "linger.ms": 2,
                "enable.idempotence": True,
                "log_level": 0,
                "topic.metadata.refresh.interval.ms": 5_000,  # a broker that has just restarted tells old leaders
                "error_cb": lambda error: self.errors.append(str(error)),
            }
        )
        self.config = self.write()

    def write(self, instance: str = "w1", **changes: Any) -> Config:
        """The configuration of one worker, in a file of its own."""
        file = self.folder / f"{instance}.yaml"
        file.write_text(yaml.safe_dump(_merged(self.settings, {"worker": {"instance": instance}}, changes)), "utf-8")
        return load_config(file)

    def create_topics(self, *, named: bool = True) -> None:
        create_topics(self.config, self.partitions, dry_run=False)
        if named:
            topic = self.config.training_log_topic
            log = identity(self.config, topic_ids(admin(self.config), [topic])[topic], make=True)
            self._hash_seed = {hash_seed.VARIABLE: str(log.hash_seed)}

    def start(self, instance: str = "w1", fail: str = "", **changes: Any) -> "Worker":
        """A worker process, perhaps with fail points; the caller waits for what it does."""
        self.write(instance, **changes)
        return self.start_as_written(instance, **({failpoints.VARIABLE: fail} if fail else {}))

    def start_as_written(self, instance: str, **variables: str) -> "Worker":
        """A worker process with the file that is there."""
        worker = Worker(self.folder, instance, self.environment() | variables)
        self.workers.append(worker)
        return worker

    def environment(self) -> dict[str, str]:
        """The environment of a process with the hash seed of the log, as far as `create_topics` has given it a name.

        A process that finds its seed by itself starts twice: 2.0 s of processor time instead of 1.2 s. A seed of
        another log does no harm: the process starts anew with the right one.
        """
        return self.environment_without_seed() | self._hash_seed

    def environment_without_seed(self) -> dict[str, str]:
        """The environment of a process that is to find its hash seed by itself."""
        return any_hash_seed() | ({"PYTHONPATH": str(self.code)} if self.code else {})

    def ended(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a verb; CONFIG is the file of w1."""
        arguments = [str(self.folder / "w1.yaml") if word == "CONFIG" else word for word in words]
        command = [sys.executable, "-m", "stream_ml", *arguments]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def typed(self, *words: str) -> str:
        """What a verb prints, which must end well."""
        code, said = self.ended(*words)
        assert code == 0, said
        return said

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    # --- producing ---

    def visit(self, number: int, *, at: int | None = None, partition: int | None = None, **values: Any) -> None:
        """An event whose label is true when x is large. Events are a second apart."""
        payload = {
            "id": f"v{number}",
            "at": T0 + 1000 * number if at is None else at,
            "x": float(number * 7919 % 100),
            "kind": f"k{number % 3}",
            "note": None,
        } | values
        self.raw_visit(
            encode_record(self.VISIT_SCHEMA, payload), partition=self.of(number, partition), key=payload["id"].encode()
        )

    def truth(self, number: int, *, delay_s: int = 30, partition: int | None = None, **values: Any) -> None:
        """The label of an event."""
        payload = {"id": f"v{number}", "at": T0 + 1000 * (number + delay_s), "y": number * 7919 % 100 > 50} | values
        self.raw_truth(
            encode_record(self.TRUTH_SCHEMA, payload), partition=self.of(number, partition), key=payload["id"].encode()
        )

    def pairs(self, numbers: Iterable[int]) -> None:
        """Events, each with its label."""
        for number in numbers:
            self.visit(number)
            self.truth(number)

    def of(self, number: int, partition: int | None = None) -> int:
        return number % self.partitions if partition is None else partition

    def raw_visit(
        self, value: bytes | None, *, partition: int = 0, key: bytes | None = b"k", headers: Any = None
    ) -> None:
        self._produce(self.config.events.topic, value, key, partition, headers)

    def raw_truth(self, value: bytes | None, *, partition: int = 0, key: bytes | None = b"k") -> None:
        self._produce(self.config.feedback.topic, value, key, partition, None)

    def raw_log(self, value: bytes) -> None:
        self._produce(self.config.training_log_topic, value, None, 0, None)

    def _produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Any) -> None:
        while True:
            try:
                self.producer.produce(topic, value, key, partition, headers=headers)
                return
            except BufferError:
                self.producer.poll(0.1)

    def start_partition(self, number: int) -> None:
        """The entry without which no example of a partition is learned, as its owner writes it; once."""
        if number not in self._started:
            self._started.add(number)
            self.raw_log(encode_start(number, 0, 0, written_at_ms=int(1000 * time.time()), writer="x"))

    def forge(self, sequence: int) -> None:
        """An example of a partition that nobody owns, as a lost transaction of a former owner would leave it."""
        self.start_partition(7)
        payload = {"id": "forged", "at": T0, "x": 3.0, "kind": "k1", "note": None}
        forged = Example(
            source_partition=7,
            sequence=sequence,
            trigger=1,
            trigger_offset=sequence,
            event_id="forged",
            event_time_ms=T0,
            event_offset=sequence,
            event_schema=assemble(self.config).reader.payloads.reader.fingerprint,
            event_framing="bare",
            event=encode_record(self.VISIT_SCHEMA, payload),
            label_time_ms=T0,
            target=Target("true", None),
            feedback_offset=sequence,
            served=NOT_SERVED,
        )
        self.raw_log(encode_example(forged, written_at_ms=0, writer="x"))
        self.flush()

    def flush(self) -> None:
        left = self.producer.flush(60)
        assert left == 0, f"{left} records were not delivered: {list(self.errors)}"

    # --- watching ---

    def progress(self) -> tuple[int, int]:
        """Records that are committed, and records that there are, over both input topics."""
        shown = self.observer.shown()
        done = sum((s.pair.events or 0) + (s.pair.feedback or 0) for s in shown)
        return done, sum(s.events[1] + s.feedback[1] for s in shown)

    def progress_of(self, partition: int) -> tuple[int, int]:
        """Committed positions in events and feedback; 0 where there is none."""
        pair = self.observer.pairs()[partition]
        return pair.events or 0, pair.feedback or 0

    @property
    def observer(self) -> Observer:
        """Looks at the committed offsets of as many partitions as there are now."""
        found = self._observers.get(self.partitions)
        if found is None:
            found = self._observers[self.partitions] = Observer(self.config, self.partitions)
        return found

    def wait_for(self, fact: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
        """Wait until a fact holds; fails with the workers' logs."""
        if not until(fact, timeout_s):
            raise AssertionError(f"{what} did not happen in {timeout_s:.0f} s\n" + self.logs())

    def wait_until_done(self) -> None:
        self.flush()
        self.wait_for(lambda: len(set(self.progress())) == 1, "reading everything")

    def logs(self) -> str:
        return "\n".join(f"--- {file.name}\n{file.read_text('utf-8')[-4000:]}" for file in self.folder.glob("*.log"))

    def audit(self, sample: int | None = 0) -> Audit:
        """Everything compared but the scores, which need a process with the model's hash seed."""
        return audit(assemble(self.config), self.facts(), sample)

    def audited(self, sample: int = 100) -> dict[str, Any]:
        """What ``stream-ml audit`` prints: scores derived again, too."""
        command = [sys.executable, "-m", "stream_ml", "audit", str(self.folder / "w1.yaml"), "--json"]
        done = subprocess.run(
            [*command, "--sample", str(sample)],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode in (0, 1), done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == bool(found["findings"])
        return found

    def read(self, topic: str, partition: int = 0) -> list[Record]:
        """All committed records of a partition."""
        first, end = ends(admin(self.config), [(topic, partition)])[topic, partition]
        batches = read_range(self.config, topic, partition, first, end, keep_alive=lambda: None)
        return [record for batch in batches for record in batch]

    def predictions(self, partition: int = 0) -> list[dict[str, Any]]:
        """All predictions of a partition, read as a stranger would: by the published schema alone."""
        schema = fastavro.parse_schema(assemble(self.config).predictions.schema)
        records = self.read(self.config.predictions.topic, partition)
        return [read_single_object(record.value or b"", schema) for record in records]

    def dead_letters(self, partition: int = 0) -> list[tuple[str, Record, str]]:
        """Reason, record and message of all dead letters of a partition."""
        found = []
        for record in self.read(self.config.dead_letters, partition):
            headers = dict(record.headers)
            reason = headers["__connect.errors.exception.class.name"].decode()
            found.append((reason, record, headers["__connect.errors.exception.message"].decode()))
        return found

    def newest_checkpoint(self, instance: str = "w1", pattern: str = "*/*.ckpt") -> dict[str, Any]:
        """Header of the newest checkpoint of a model in this worker's directory, which it may share with others."""
        config = load_config(self.folder / f"{instance}.yaml")
        newest = max(config.path(config.checkpoints.directory).glob(pattern))
        with newest.open("rb") as file:
            header: dict[str, Any] = json.loads(file.readline())
        return header

    def newest_quality(self) -> dict[str, float]:
        """The quality that the newest checkpoint of the book names."""
        quality: dict[str, float] = self.newest_checkpoint(pattern="book/*/*.ckpt")["quality"]
        return quality

    # --- asking a worker that was given an http.port ---

    def asked(self, path: str, timeout_s: float = 10) -> tuple[int, str]:
        """Status and body of an answer; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"{self.address}{path}", timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.settings['http']['port']}"

    @property
    def learned(self) -> int:
        """Examples that the model has learned, as the status says; -1 before there is one."""
        return int(self.status().get("model", {}).get("examples_learned", -1))

    @property
    def ready(self) -> bool:
        return self.asked("/readyz")[0] == 200

    def status(self) -> dict[str, Any]:
        """What /v1/status says; empty while nobody listens."""
        found: dict[str, Any] = json.loads(self.asked("/v1/status")[1] or "{}")
        return found

    def problems(self) -> str:
        """All problems that the status tells, a line for each."""
        return "\n".join(one["text"] for one in self.status().get("problems", []))

    def with_hash_seed(self) -> dict[str, str]:
        """The environment of a process that folds this log."""
        return {**os.environ, "PYTHONHASHSEED": str(self.facts().log.hash_seed)}

    def facts(self) -> TopicFacts:
        """What the topics say, the identity of the log included."""
        return identified(self.config, inspect_topics(self.config), make=False)

    def refold(self, checkpoint_position: int, *instances: str) -> dict[str, Any]:
        """Fold the log from its beginning in a process of its own; compare checkpoints with it at their positions.

        Parameters
        ----------
        instances
            Whose newest checkpoints are compared with the fold, each with all of its bits; by default w1's.
        """
        env = self.with_hash_seed()
        script = Path(__file__).with_name("refold.py")
        files = [str(self.folder / f"{instance}.yaml") for instance in instances or ("w1",)]
        command = [sys.executable, str(script), str(checkpoint_position), *files]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


class Worker:
    """One ``stream-ml run``."""

    def __init__(self, folder: Path, instance: str, env: dict[str, str]) -> None:
        self.instance = instance
        self._log_file = folder / f"{instance}.log"
        with self._log_file.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stream_ml", "run", str(folder / f"{instance}.yaml")],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=env,
            )

    @property
    def log(self) -> str:
        return self._log_file.read_text("utf-8")

    @property
    def owned(self) -> list[int]:
        """The partitions that it has had since the group's last move, as its log says."""
        log = self._log_file.read_bytes()[self._log_start :].decode()
        found = re.findall(r"(\[[\d, ]*\]) (?:owned|stay)", log)
        return json.loads(found[-1]) if found else []  # type: ignore[no-any-return]

    @property
    def joined(self) -> bool:
        """Whether this process has asked for partitions: from then on SIGTERM ends it in order."""
        return "joining group" in self._log_file.read_bytes()[self._log_start :].decode()

    @property
    def peak_mb(self) -> float:
        """Most memory that the process has ever held, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        kibibytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        return int(kibibytes) * 1024 / 1e6

    def kill(self) -> None:
        """As a power cut would."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """As Kubernetes does; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def wait(self) -> int:
        return self.process.wait(WAIT_S)


@contextlib.contextmanager
def under_load(made: Service, per_s: float = 20) -> Iterator[list[int]]:
    """So many events a second with their labels, as long as the block lasts; how many there were is the one number."""
    stop, produced = threading.Event(), [0]

    def load() -> None:
        while not stop.wait(1 / per_s):
            made.pairs([produced[0]])
            made.producer.poll(0)
            produced[0] += 1

    loading = threading.Thread(target=load, daemon=True)
    loading.start()
    try:
        yield produced
    finally:
        stop.set()
        loading.join()


def brothers(*cases: Any, tried: int = 1) -> list[Any]:
    """Parameters of which the first are tried each time, and the others, which go the same way, by `make faults`."""
    others = (case if isinstance(case, tuple) else (case,) for case in cases[tried:])
    return [*cases[:tried], *(pytest.param(*values, marks=pytest.mark.long) for values in others)]


def read_single_object(value: bytes, schema: Any) -> dict[str, Any]:
    """A record in single-object encoding, by fastavro alone."""
    import io

    assert value[:2] == b"\xc3\x01"
    found: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(value[10:]), schema, None)  # type: ignore[assignment]
    return found


def _merged(*settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for layer in settings:
        for key, value in layer.items():
            inner = found.get(key)
            found[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return found


@contextlib.contextmanager
def service(folder: Path, servers: str, app_id: str, **changes: Any) -> Iterator[Service]:
    """A service with its topics; its processes end with the block."""
    made = Service(folder, servers, app_id, **changes)
    try:
        made.create_topics()
        yield made
    finally:
        made.close()
