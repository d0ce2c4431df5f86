"""The supervisor with children that only speak: who is silent, dies or is replaced. Real processes, times cut short."""

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stream_ml.embedded.broker import free_port
from stream_ml.serve import supervisor
from stream_ml.serve.supervisor import Supervisor
from tests.support.follower_on_a_list import LINEAR, App
from tests.support.service import until

SOON_S = 20.0  # a started Python and a turn of the supervisor, on a machine that others use
CHILD = """
import json, os, select, sys
from pathlib import Path
number, _, say, life = map(int, os.environ["CHILD_OF_STREAM_ML"].split(",")[:4])
kind, folder = sys.argv[1], Path(sys.argv[2])
while not select.select([life], [], [], 0.05)[0]:
    if kind == "dies" and number == 1:
        sys.exit(3)
    ready = number == 1 or kind != "waits" or (folder / "go").exists()
    os.write(say, json.dumps({"ready": ready, "reasons": [] if ready else ["starting"]}).encode() + b"\\n")
    if kind == "silent" and number == 1:
        select.select([life], [], [])
"""


class Running:
    """A supervisor in a thread; `kind` says what its first child does."""

    def __init__(self, app: App, kind: str) -> None:
        self.folder = app.folder
        config = app.config(LINEAR, serve={"port": free_port()})
        command = [sys.executable, "-S", "-c", CHILD, kind, str(app.folder)]
        self.supervisor = Supervisor(config, command, {})
        self._thread = threading.Thread(target=self.supervisor.run, daemon=True)
        self._thread.start()

    @property
    def numbers(self) -> list[int]:
        """Of the children that are ready."""
        return [child.number for child in list(self.supervisor.children) if child.ready]

    def stop(self) -> None:
        self.supervisor.stopping = True
        self._thread.join(SOON_S)
        self.supervisor._listener.close()
        assert not self._thread.is_alive() and not self.supervisor.children


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most_s in (("SILENT_S", 2.0), ("LOOK_S", 0.02), ("AGAIN_S", 0.05), ("AGAIN_MAX_S", 0.1)):
        monkeypatch.setattr(supervisor, name, most_s)


@pytest.fixture(name="running")
def _running(app: App, request: Any) -> Iterator[Running]:
    made = Running(app, request.param)
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("running", ["silent", "dies"], indirect=True)
def test_a_child_that_falls_silent_or_dies_is_replaced(running: Running) -> None:
    assert until(lambda: running.numbers not in ([], [1]), SOON_S), running.supervisor.status()
    assert len(running.supervisor.children) == 1 <= running.supervisor.restarts


@pytest.mark.parametrize("running", ["waits"], indirect=True)
def test_an_old_child_is_told_to_stop_only_once_its_successor_is_ready(running: Running) -> None:
    assert until(lambda: running.numbers == [1], SOON_S)
    running.supervisor.hung_up = True
    assert until(lambda: [child.status.get("ready") for child in running.supervisor.children] == [True, False], SOON_S)
    assert running.numbers == [1] and running.supervisor.children[0].stopping_s is None
    (running.folder / "go").touch()
    assert until(lambda: running.numbers == [2] and len(running.supervisor.children) == 1, SOON_S)
    assert running.supervisor.restarts == 0
