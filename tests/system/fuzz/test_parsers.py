"""Mutated bytes for each parser: it gives a value or its own error, and never anything else.

``FUZZ_SECONDS`` for each target (60; `make faults` runs them). An input that once broke one is kept in ``corpus`` for
ever: a file of a folder with the target's name, in hex, tried first.
"""

import contextlib
import os
import pickle
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from river import linear_model, preprocessing

from stream_ml.config import load_config
from stream_ml.core.fold.replica import Replica
from stream_ml.core.join.watermark import Times
from stream_ml.core.partition.commit_metadata import Metadata, OutputEnds, parse_metadata
from stream_ml.embedded.broker import free_port
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.observe.access import Access
from stream_ml.observe.http import Endpoints
from stream_ml.observe.http_server import HttpServer
from stream_ml.records import LogRecord
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.unpickle import loads
from tests.config.test_sources import MINIMAL
from tests.equivalence.test_batches import story
from tests.observe.test_http import Said, probe
from tests.support.partition import fold_settings, log_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(200)]
SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
CORPUS = Path(__file__).with_name("corpus")
LARGE = [
    b"\xff" * 9 + b"\x01",
    b"\x80" * 20,
    b"[" * 3_000,
    b"\x00" * 64,
    b"9" * 400,
    b"\xc3\xa9",
    b"null",
    b"-1",
    b"1e999",
]


def mutated(target: str, seeds: list[bytes], most: int = 1 << 20) -> Iterator[bytes]:
    """The corpus, then seeds with bytes flipped, cut, repeated, moved, joined, until the time is over."""
    for file in sorted((CORPUS / target).glob("*.hex")):
        yield bytes.fromhex(file.read_text("ascii"))
    chance, until_s, count = random.Random(target), time.monotonic() + SECONDS, 0
    while time.monotonic() < until_s:
        value = bytearray(chance.choice(seeds))
        for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
            at = chance.randrange(len(value) + 1)
            end = min(len(value), at + chance.choice([1, 2, 4, 9, 30]))
            kind = chance.randrange(6)
            if kind == 0 and value:
                value[at % len(value)] ^= 1 << chance.randrange(8)
            elif kind == 1:
                del value[at:end]
            elif kind == 2:
                value[at:at] = value[at:end] * chance.choice([1, 2, 50])
            elif kind == 3:
                value[at:end] = chance.choice(LARGE)
            elif kind == 4:
                value[at:end] = chance.randbytes(end - at)
            else:
                other = chance.choice(seeds)
                value[at:] = other[chance.randrange(len(other) + 1) :]
        count += 1
        yield bytes(value[:most])
    print(f"{target}: {count} inputs in {SECONDS:.0f} s")
    assert count > 20


def kept(target: str, value: bytes, run: Callable[[bytes], object]) -> None:
    """Run it; an input that breaks it is named, to be kept."""
    try:
        run(value)
    except BaseException:
        print(f"keep as tests/system/fuzz/corpus/{target}/NAME.hex: {value.hex()}")
        raise


def test_entries_of_the_training_log() -> None:
    log = story([("good", 60), ("freeze", 5), ("repeat", 5), ("gap", 5), ("rebaseline", 5)], 1)
    seeds = [record.value for record in log]
    chance = random.Random(3)

    def fold(value: bytes) -> None:
        values = [*chance.sample(seeds, 8), value, *chance.sample(seeds, 8)]
        replica = Replica(fold_settings())
        replica.fold(log_of(values))
        assert replica.read_position == len(values) or replica.halts.refold_from is not None
        together = Replica(fold_settings())
        together.fold([*log[:66], LogRecord(66, value), *log[67:]])

    for value in mutated("entries", seeds):
        kept("entries", value, fold)


def test_metadata_of_committed_offsets() -> None:
    of = (7, Times(5, 4, 3), (9, 8), 3, 2, OutputEnds(1, 2, 3, 4), "token", "app-w1")
    seeds = [Metadata(*of).text().encode(), Metadata(*of, {"0123456789abcdef": 4}, ("a", "b")).text().encode()]

    def parse(value: bytes) -> None:
        found = parse_metadata(value.decode("utf-8", "replace"))
        assert found is None or isinstance(found, Metadata)

    for value in mutated("metadata", seeds):
        kept("metadata", value, parse)


def test_files_of_checkpoints(tmp_path: Path) -> None:
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    model.learn_one({"x": 1.0}, True)
    store = CheckpointStore(tmp_path, "abc", keep=3)
    path = store.save(1, {"a": 1}, {"estimator": model}, checkpoint_types=[])
    seeds = [path.read_bytes()]

    def read(value: bytes) -> None:
        path.write_bytes(value)
        for found in store.newest():
            with contextlib.suppress(CheckpointError):
                if isinstance(found, Checkpoint):
                    store.content(found, [])

    for value in mutated("checkpoints", seeds):
        kept("checkpoints", value, read)


def test_pickles() -> None:
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    model.learn_one({"x": 1.0}, True)
    seeds = [pickle.dumps({"estimator": model, "position": 7, "schemas": {1: "a"}}, protocol=5)]

    def load(value: bytes) -> None:
        with contextlib.suppress(CheckpointError):
            loads(value)

    for value in mutated("pickles", seeds):
        kept("pickles", value, load)


def test_requests() -> None:
    port = free_port()
    server = HttpServer(
        "127.0.0.1", port, Endpoints(CollectorRegistry(), Said(), 60, Access(token=b"sixteen bytes...."))
    )
    server.start()
    seeds = [
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/status?x=1 HTTP/1.1\r\nHost: [::1]:8080\r\nAuthorization: Bearer x\r\nCookie: a=b; c=d\r\n\r\n",
        b"HEAD / HTTP/1.0\r\nX: y\r\n z\r\n\r\n",
    ]

    def ask(value: bytes) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as asked:
            asked.sendall(value)
            asked.shutdown(socket.SHUT_WR)
            assert b" 200 " not in asked.recv(100)[:15] or b"livez" in value or b"readyz" in value

    try:
        for value in mutated("requests", seeds, 40_000):
            kept("requests", value, ask)
        assert probe(port) == 200
    finally:
        server.stop()


def test_configurations(tmp_path: Path) -> None:
    (tmp_path / "stream_ml.yaml").write_text(MINIMAL, "utf-8")
    seeds = [MINIMAL.encode(), MINIMAL.encode() + b"\nx: &a [1]\ny: {<<: *a, z: *a}\n"]

    def load(value: bytes) -> None:
        (tmp_path / "stream_ml.yaml").write_bytes(value)
        with contextlib.suppress(ConfigError):
            load_config(tmp_path / "stream_ml.yaml")

    for value in mutated("configurations", seeds, 20_000):
        kept("configurations", value, load)
