"""The embedded broker, and what it says when it cannot start."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cjdk
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from stream_ml.embedded import broker
from stream_ml.embedded.broker import EmbeddedKafka, free_port
from stream_ml.errors import ConfigError, FatalError, TransientError

UNREACHABLE = "http://127.0.0.1:9/"
QUIET = {"log_level": 0}

PARENT = """
import pathlib, sys, time
from confluent_kafka.admin import AdminClient
from stream_ml.embedded.broker import EmbeddedKafka

with EmbeddedKafka(pathlib.Path(sys.argv[1])) as kafka:
    try:
        print(kafka.port, kafka.pid, flush=True)
        time.sleep(120)
    except KeyboardInterrupt:
        brokers = AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics(timeout=10).brokers
        print("interrupted", len(brokers), kafka.pid, flush=True)
print("stopped", kafka.pid, flush=True)
"""

VERB = """
from stream_ml.cli.app import main
from stream_ml.embedded.broker import EmbeddedKafka

start = EmbeddedKafka.start
EmbeddedKafka.start = lambda kafka: (start(kafka), print(kafka.pid, flush=True))
main()
"""


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


def create(servers: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers, **QUIET})  # a name: its futures fail when it is collected
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(15)


def transaction(servers: str, topic: str, value: bytes, *, commit: bool = True) -> None:
    producer = Producer({"bootstrap.servers": servers, "transactional.id": topic, **QUIET})
    producer.init_transactions(15)
    producer.begin_transaction()
    producer.produce(topic, value)
    assert producer.flush(15) == 0
    if commit:
        producer.commit_transaction(15)
    else:
        producer.abort_transaction(15)


def committed_values(servers: str, topic: str) -> list[bytes | None]:
    """All values up to the topic's end, as a read_committed consumer sees them."""
    settings = {"bootstrap.servers": servers, "group.id": topic, "enable.partition.eof": True, **QUIET}
    consumer = Consumer({**settings, "isolation.level": "read_committed", "auto.offset.reset": "error"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes | None] = []
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error():
            assert message.error().name() == "_PARTITION_EOF", message.error()
            break
        if message is not None:
            values.append(message.value())
    consumer.close()
    return values


def runs(folder: Path) -> bool:
    """Whether a broker has this folder: its log is locked as long as java lives (an orphan may stay a zombie)."""
    with (folder / "broker.log").open("ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker that tests may stop and kill; each leaves it running. Its folder's name needs care."""
    with EmbeddedKafka(tmp_path_factory.mktemp("own") / "käfka, data") as kafka:
        yield kafka


@pytest.fixture
def parent(tmp_path: Path, own: EmbeddedKafka) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a broker, in a process group of its own, as the foreground of a terminal is."""
    (tmp_path / "data").mkdir()
    for name in ("meta.properties", "bootstrap.checkpoint"):  # formatted already: 2 s less
        shutil.copy(own.directory / "data" / name, tmp_path / "data")
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        yield process
        process.kill()


@pytest.mark.kafka
def test_read_committed_sees_the_committed_transaction_and_not_the_aborted_one(kafka: str, app_id: str) -> None:
    create(kafka, app_id)
    transaction(kafka, app_id, b"committed")
    transaction(kafka, app_id, b"aborted", commit=False)
    assert committed_values(kafka, app_id) == [b"committed"]


@pytest.mark.long
@pytest.mark.kafka
def test_a_stopped_broker_starts_again_with_its_data_on_its_port(own: EmbeddedKafka, app_id: str) -> None:
    servers, pid = own.bootstrap_servers, own.pid
    create(servers, app_id)
    transaction(servers, app_id, b"kept")
    own.stop()
    assert own.pid is None
    assert not listens(own.port)
    own.start()
    assert own.bootstrap_servers == servers
    assert own.pid != pid
    assert committed_values(servers, app_id) == [b"kept"]


@pytest.mark.kafka
def test_a_killed_broker_starts_again_with_what_was_committed(own: EmbeddedKafka, app_id: str) -> None:
    create(own.bootstrap_servers, app_id)
    transaction(own.bootstrap_servers, app_id, b"kept")
    own.kill()
    assert own.pid is None
    own.start()
    assert committed_values(own.bootstrap_servers, app_id) == [b"kept"]


@pytest.mark.kafka
def test_a_second_broker_in_the_same_folder_is_refused(own: EmbeddedKafka, app_id: str) -> None:
    settings = (own.directory / "server.properties").read_bytes()
    with pytest.raises(ConfigError, match=r"another broker runs in .*käfka, data"):
        EmbeddedKafka(own.directory).start()
    assert (own.directory / "server.properties").read_bytes() == settings
    create(own.bootstrap_servers, app_id)


@pytest.mark.kafka
def test_a_broker_does_not_outlive_a_parent_that_was_killed(parent: subprocess.Popen[str], tmp_path: Path) -> None:
    assert parent.stdout is not None
    port = int(parent.stdout.readline().split()[0])
    assert runs(tmp_path)
    parent.kill()
    until(lambda: not runs(tmp_path) and not listens(port))


@pytest.mark.long
@pytest.mark.kafka
def test_the_verb_ends_when_its_java_was_killed(tmp_path: Path) -> None:
    """Whoever supervises it starts it again; one that stays without a broker looks well for ever."""
    command = [sys.executable, "-c", VERB, "broker", str(tmp_path / "data"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as verb:
        assert verb.stdout is not None and verb.stderr is not None
        try:
            java = int(verb.stdout.readline())
            assert "Kafka answers at" in verb.stdout.readline()
            os.kill(java, signal.SIGKILL)
            assert verb.wait(10) == 1
            assert "the embedded Kafka ended (signal 9)" in verb.stderr.read()
        finally:
            verb.kill()


@pytest.mark.kafka
def test_ctrl_c_reaches_the_broker_only_through_its_parent(parent: subprocess.Popen[str], tmp_path: Path) -> None:
    assert parent.stdout is not None
    pid = parent.stdout.readline().split()[1]
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.stdout.readline() == f"interrupted 1 {pid}\n"
    assert parent.stdout.readline() == "stopped None\n"
    assert parent.wait(15) == 0
    assert "Broker 1] shut down completely" in (tmp_path / "broker.log").read_text()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is taken"):
            EmbeddedKafka(tmp_path, port=port).start()
        assert listens(port)


def test_what_java_says_when_it_ends_at_once_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").touch()  # as a formatted folder
    with pytest.raises(FatalError, match=r"(?s)exit code 1.*broker\.log:\n.*Too small maximum heap"):
        EmbeddedKafka(tmp_path, heap="1k").start()


def test_a_missing_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = str(tmp_path / "no" / "java")
    monkeypatch.setattr(broker, "prepare", lambda: broker.Distribution(java, ""))
    with pytest.raises(FatalError, match=f"cannot run {java}: No such file"):
        EmbeddedKafka(tmp_path).start()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write to .*file/data: Not a directory"):
        EmbeddedKafka(tmp_path / "file" / "data").start()


def test_a_full_disk_is_found_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "MIN_FREE_BYTES", 1 << 62)
    with pytest.raises(ConfigError, match=r"(?s)only \d+ MB are free.*free \d+ MB on that disk"):
        EmbeddedKafka(tmp_path).start()


def test_a_first_download_without_a_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2_REPO", str(tmp_path / "maven"))
    with pytest.raises(TransientError, match=r"(?s)jars are fetched at the first start.*start once with a network"):
        broker.prepare(repositories={"central": UNREACHABLE})


def test_no_java_is_looked_for_when_the_jars_are_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """jgo would download a JDK to sort jars into two folders, which one class path joins again."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(cjdk, "java_home", lambda **asked: pytest.fail(f"a JDK would be downloaded: {asked}"))
    found = broker.prepare()
    assert len(found.class_path.split(os.pathsep)) > 40


def test_nothing_is_said_when_the_jars_are_collected(tmp_path: Path) -> None:
    code = "from stream_ml.embedded.broker import prepare; prepare()"
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    no_jdk = {"PATH": "", "CJDK_INDEX_URL": "https://127.0.0.1:9/index.json", "CJDK_CACHE_DIR": str(tmp_path / "jdk")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment | no_jdk, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_cache_that_cannot_be_written_is_a_matter_of_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("M2_REPO", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="cache for Kafka's jars cannot be written"):
        broker.prepare()


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo", None)
    with pytest.raises(ConfigError, match=r"(?s)package jgo.*pip install 'stream-ml\[embedded\]'"):
        broker.prepare()


def test_the_controller_never_gets_the_port_of_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ml.embedded.broker.PORTS", (20_001, 20_002))
    monkeypatch.setattr("stream_ml.embedded.broker._is_free", lambda _: True)
    assert {free_port(but=20_001) for _ in range(20)} == {20_002}
