"""The supervisor with children that only say whether they are ready: who is replaced when, and how many are left."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream_ml.config import load_config
from stream_ml.embedded.broker import free_port
from stream_ml.serve.supervisor import Supervisor
from tests.support.service import Service, until

CHILD = """
import json, os, pathlib, sys, time
number, _, say, life = map(int, os.environ["CHILD_OF_STREAM_ML"].split(",")[:4])
gate = pathlib.Path(sys.argv[1]) / f"gate-{number}"
while True:
    os.write(say, json.dumps({"ready": not gate.exists()}).encode() + b"\\n")
    time.sleep(0.05)
"""


class Running:
    """A supervisor of two, in a thread; child `number` is not ready while `gate-<number>` is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        made = Service(folder, "127.0.0.1:1", "app")
        made.write("api", serve={"port": free_port(), "admin_port": 0, "processes": 2})
        command = [sys.executable, "-c", CHILD, str(folder)]
        self.supervisor = Supervisor(load_config(folder / "api.yaml"), command, dict(os.environ))
        self._thread = threading.Thread(target=self.supervisor.run, daemon=True)
        self._thread.start()

    def pids(self) -> dict[int, int]:
        """Of the children that are to stay, by number."""
        return {c.number: c.process.pid for c in list(self.supervisor.children) if c.stopping_s is None}

    @property
    def ready(self) -> int:
        return int(self.supervisor.status()["processes"]["ready"])

    def wait_until_due_is_over(self, restarts: int) -> None:
        """Until it was looked whether one that died has to be replaced."""
        wait(lambda: self.supervisor.restarts == restarts)
        wait(lambda: not self.supervisor._due_s)

    def stop(self) -> None:
        self.supervisor.stopping = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.supervisor._listener.close()  # a process of its own lets go of it when it ends
        self.supervisor._selector.close()


def wait(fact: Callable[[], bool]) -> None:
    assert until(fact, 20)


@pytest.fixture(name="running")
def _running(tmp_path: Path) -> Iterator[Running]:
    found = Running(tmp_path)
    try:
        wait(lambda: found.ready == 2)
        yield found
    finally:
        found.stop()


def test_a_child_that_dies_is_replaced(running: Running) -> None:
    os.kill(running.pids()[1], signal.SIGKILL)
    wait(lambda: running.pids().keys() == {2, 3} and running.ready == 2)


def test_a_child_that_dies_while_all_are_replaced_leaves_as_many_as_are_wanted(running: Running) -> None:
    """Its successor stands in for it, so that the next one may not go before another is there."""
    (running.folder / "gate-3").touch()
    running.supervisor.hung_up = True
    wait(lambda: 3 in running.pids())
    os.kill(running.pids()[1], signal.SIGKILL)
    running.wait_until_due_is_over(1)
    (running.folder / "gate-3").unlink()
    wait(lambda: not {1, 2} & running.pids().keys() and running.ready == 2)
    assert len(running.pids()) == 2


def test_a_child_that_dies_while_a_successor_fails_is_replaced(running: Running) -> None:
    (running.folder / "gate-3").touch()
    running.supervisor.hung_up = True
    wait(lambda: 3 in running.pids())
    os.kill(running.pids()[1], signal.SIGKILL)
    running.wait_until_due_is_over(1)
    os.kill(running.pids()[3], signal.SIGKILL)
    wait(lambda: "the new process ended with" in running.supervisor.roll_failed)
    wait(lambda: len(running.pids()) == 2 and running.ready == 2)
    assert 2 in running.pids()
