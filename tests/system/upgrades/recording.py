"""A service of before, as a file: unpacked, and started on a broker that finds its own folder again."""

import contextlib
import json
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stream_ml.config import load_config
from stream_ml.embedded.broker import free_port
from tests.support.brokers import embedded
from tests.support.service import Service

APP, BROKER, SERVICE = "recorded", "broker", "service"
FILES = sorted(Path(__file__).parent.glob("*.tar.xz"))
SETTINGS = "log.retention.ms=-1\noffsets.retention.minutes=2147483647\ntransactional.id.expiration.ms=2147483647\n"
"""Records keep the times at which they were written: without this a broker would delete them as too old."""


class Recorded(NamedTuple):
    """A service that goes on where its recording ended, and what was true then."""

    made: Service
    said: dict[str, Any]


@contextlib.contextmanager
def played_again(file: Path, folder: Path) -> Iterator[Recorded]:
    """The recorded service on a broker of its own; nothing of it runs yet."""
    with tarfile.open(file) as packed:
        packed.extractall(folder, filter="data")
    said = json.loads((folder / "said.json").read_text("utf-8"))
    with embedded(folder / BROKER, SETTINGS) as kafka:
        made = _service(folder / SERVICE, kafka.bootstrap_servers)
        try:
            yield Recorded(made, said)
        finally:
            made.close()


def _service(folder: Path, servers: str) -> Service:
    """The files that were recorded, and nothing in them changed but addresses."""
    files = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    made = Service(folder, servers, APP, partitions=2)
    for path, content in files.items():
        path.write_bytes(content)
    for name in ("w1", "w2"):
        file = folder / f"{name}.yaml"
        settings = yaml.safe_load(file.read_text("utf-8"))
        settings["kafka"]["bootstrap_servers"] = servers
        settings["http"]["port"] = free_port()
        file.write_text(yaml.safe_dump(settings), "utf-8")
        if name == "w1":
            made.settings = settings
    made.config = load_config(folder / "w1.yaml")
    return made


def digests(made: Service) -> dict[str, dict[str, Any]]:
    """Of all records of the topics that the service writes: how many there are, and what they hold."""
    config = made.config
    found = {}
    own = (config.predictions.topic, config.outcomes, config.dead_letters)
    places = [(topic, number) for topic in own for number in range(made.partitions)]
    for topic, number in [*places, (config.training_log_topic, 0), (config.signals, 0)]:
        records = made.read(topic, number)
        digest = sha256()
        for record in records:
            digest.update(b"%d %r %r\n" % (record.offset, record.key, record.value))
        found[f"{topic} {number}"] = {"records": len(records), "sha256": digest.hexdigest()}
    return found
