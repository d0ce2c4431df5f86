"""The demo's upgrade: in July the model is another one, while flights come. What the topics then say."""

import json
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_ml.audit.roles import RolesAudit
from stream_ml.config import Config, load_config
from stream_ml.core.log.entry import decode_entry, is_command
from stream_ml.core.partition.predictions import PredictionCodec
from stream_ml.demo.drift import read_all
from stream_ml.errors import FatalError
from stream_ml.follower.identity import identity
from stream_ml.kafka.clients import admin
from stream_ml.kafka.topics import topic_ids

FACTORY = "flight_model:build"
UPGRADE_AT = 0.5  # of the records
SERVES_BY = 0.75  # of them: flights wait until the new model serves
WAIT_MAX_S = 300.0
STOP_S = 30.0

BEFORE = '''\
"""Numbers scaled, categories one-hot, logistic regression."""

from flight_features import CATEGORIES, NUMBERS
from river import compose, linear_model, optim, preprocessing


def build():
    numbers = compose.Select(*NUMBERS) | preprocessing.StandardScaler()
    categories = compose.Select(*CATEGORIES) | preprocessing.OneHotEncoder(drop_zeros=True)
    return (numbers + categories) | linear_model.LogisticRegression(optim.SGD(0.005), intercept_lr=0.05)
'''
AFTER = '''\
"""A Hoeffding tree."""

from flight_features import FEATURES
from river import compose, tree


def build():
    return compose.Select(*FEATURES) | tree.HoeffdingTreeClassifier(grace_period=1000, max_depth=6)
'''
HELPER_BEFORE = """\
NUMBERS = ("distance", "hour", "month", "weekday")
CATEGORIES = ("carrier", "origin", "destination", "hour", "month", "weekday")
"""
HELPER_AFTER = """\
FEATURES = ("carrier", "origin", "hour", "month", "weekday", "distance")
"""


def write_model(folder: Path, *, after: bool) -> None:
    """The model and its helper, beside the configuration."""
    (folder / "flight_features.py").write_text(HELPER_AFTER if after else HELPER_BEFORE, "utf-8")
    (folder / "flight_model.py").write_text(AFTER if after else BEFORE, "utf-8")


class Restarted:
    """A worker that is restarted with the new model at UPGRADE_AT, beside the flights that go on.

    Parameters
    ----------
    start
        Starts a worker.
    """

    def __init__(self, config_file: Path, start: Callable[[], "subprocess.Popen[bytes]"]) -> None:
        self._folder, self._start = config_file.parent, start
        self._port = load_config(config_file).http.port
        self.process = start()
        self._restart: threading.Thread | None = None
        self._serves = ""

    def poll(self) -> int | None:
        """As of a process: None while it runs, or is being restarted."""
        restarting = self._restart is not None and self._restart.is_alive()
        return None if restarting else self.process.poll()

    @property
    def returncode(self) -> int | None:
        """Of the process."""
        return self.process.returncode

    def progress(self, done: int, total: int) -> None:
        """So many records of all are done."""
        if self._restart is None and done >= UPGRADE_AT * total:
            self._serves = str(self._models()["serves"])
            self._restart = threading.Thread(target=self._upgrade, name="upgrade")
            self._restart.start()
        elif self._serves and done >= SERVES_BY * total:
            self._wait_serving()
            self._serves = ""

    def _upgrade(self) -> None:
        write_model(self._folder, after=True)
        self.process.terminate()
        self.process.wait(STOP_S)
        self.process = self._start()

    def _wait_serving(self) -> None:
        """Until the new model serves.

        Raises
        ------
        FatalError
            It does not in WAIT_MAX_S.
        """
        deadline = time.monotonic() + WAIT_MAX_S
        while self._models().get("serves") in (None, self._serves):
            if time.monotonic() > deadline or self.poll() is not None:
                raise FatalError(f"the new model did not serve within {WAIT_MAX_S:.0f} s")
            time.sleep(0.2)  # between two looks; the deadline decides

    def _models(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/v1/status", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer).get("models", {})
                return found
        except (OSError, ValueError):
            return {}


def upgrade_report(config: Config, codec: PredictionCodec) -> dict[str, Any]:
    """How long flights waited at most for a prediction while nothing was predicted, and who predicted them."""
    came_ms = {record.offset: record.timestamp_ms for record in read_all(config, config.events.topic)}
    roles = RolesAudit(_log_id(config))
    epochs: Counter[tuple[int, str]] = Counter()
    superseded, longest_ms, last_ms = 0, 0, 0
    for record in read_all(config, config.predictions.topic):
        said = codec.decode(record.value or b"")
        roles.prediction(record[:3], said.served)
        epochs[said.served.epoch, said.served.lineage] += 1
        superseded += "superseded" in said.served.flags
        longest_ms = max(longest_ms, record.timestamp_ms - max(last_ms, came_ms[said.offset]))
        last_ms = record.timestamp_ms
    for record in read_all(config, config.training_log_topic):
        value = record.value or b""
        if is_command(value):
            roles.command(record.offset, decode_entry(value))
    roles.finish()
    return {
        "longest_pause_s": round(longest_ms / 1000, 2),
        "superseded": superseded,
        "epochs": [
            {"epoch": epoch, "lineage": lineage, "predictions": count}
            for (epoch, lineage), count in sorted(epochs.items())
        ],
        "role_findings": roles.found.counts["role"],
    }


def _log_id(config: Config) -> str:
    topic = config.training_log_topic
    return identity(config, topic_ids(admin(config), [topic])[topic], make=False).log_id
