"""Clients that mean no good, and processes that hang, die or stand still at the wrong moment."""

import contextlib
import http.client
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_process import ApiProcess, Asking
from tests.support.service import Service, service, until
from tests.system.kafka.test_serve import event, learned

pytestmark = pytest.mark.kafka
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(name="made", scope="module")
def _made(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker that has learned; each test asks it by an API of its own."""
    with service(tmp_path_factory.mktemp("made"), kafka, f"t{uuid.uuid4().hex[:8]}") as made:
        learned(made, 50)
        yield made


def ended(connection: socket.socket, most_s: float = 8.0) -> bool:
    """Whether the other side has closed it by then, whatever it says before."""
    connection.settimeout(most_s)
    with contextlib.suppress(ConnectionError):
        try:
            while connection.recv(65_536):
                pass
        except TimeoutError:
            return False
    return True


def lives(api: ApiProcess) -> bool:
    """Whether a new connection is answered."""
    try:
        return api.ask("GET", "/livez")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def test_connections_that_hold_back_are_closed_and_take_nobodys_place(made: Service) -> None:
    with ApiProcess(made, connections_max=16, idle_timeout="1s", read_timeout="1s") as api:
        api.wait_ready()

        def opened(first: bytes) -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", api.port), timeout=10)
            connection.sendall(first)
            return connection

        for first, then in (
            (b"", b""),
            (b"\r\n", b""),
            (b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n", b"body"),
            (HEAD + b"Content-Length: 10\r\n\r\n", b""),
        ):
            held = [opened(first) for _ in range(16)]
            assert until(lambda: lives(api), 10), first
            for connection in held:
                with contextlib.suppress(OSError):
                    connection.sendall(then)
            assert [ended(connection) for connection in held] == [True] * len(held), (first, then)
            for connection in held:
                connection.close()
        assert api.predict(event(1))["predictions"]
        assert "stream_ml_serve_evicted_total" in api.admin("/metrics")[1]


def test_requests_whose_bodies_do_not_come_leave_room_for_others(made: Service) -> None:
    with ApiProcess(made, in_flight_max=4, read_timeout="20s") as api:
        api.wait_ready()
        held = [socket.create_connection(("127.0.0.1", api.port), timeout=10) for _ in range(30)]
        for connection in held:
            connection.sendall(HEAD + b"Content-Length: 10\r\n\r\n{")
        for _ in range(20):
            assert api.predict(event(1))["predictions"]
        for connection in held:
            connection.close()


def test_trailers_behind_a_body_are_bounded(made: Service) -> None:
    with ApiProcess(made) as api:
        api.wait_ready()
        (pid,) = api.pids
        before_mb = resident_mb(pid)
        with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
            connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
            with contextlib.suppress(OSError):
                for _ in range(200):
                    connection.sendall(b"ab:cd\r\n" * 10_000)
        assert api.predict(event(1))["predictions"]
        assert resident_mb(pid) - before_mb < 50


@pytest.mark.long
def test_a_process_that_hangs_while_it_is_told_to_stop_is_killed_and_does_not_count(made: Service) -> None:
    with ApiProcess(made, processes=2) as api:
        api.wait_ready(2)
        hangs = api.pids[0]
        os.kill(hangs, signal.SIGSTOP)
        api.process.send_signal(signal.SIGHUP)
        assert until(lambda: hangs not in api.pids, 60), api.log
        assert until(lambda: "all processes are replaced" in api.log, 60), api.log
        api.wait_ready(2)
        assert api.status()["processes"] == {"wanted": 2, "ready": 2, "restarts": api.status()["processes"]["restarts"]}


@pytest.mark.long
def test_a_process_that_dies_while_others_are_replaced_leaves_as_many_as_are_wanted(made: Service) -> None:
    with ApiProcess(made, processes=2) as api:
        api.wait_ready(2)
        first = api.pids[0]
        api.process.send_signal(signal.SIGHUP)
        assert until(lambda: len(api.pids) == 3, 20)
        os.kill(first, signal.SIGKILL)
        assert until(lambda: "all processes are replaced" in api.log, 60), api.log
        api.wait_ready(2)
        assert until(lambda: len(api.pids) == 2, 30), api.status()
        time.sleep(5)  # longer than a replacement would have waited
        assert len(api.pids) == 2, api.status()


def test_a_hangup_that_is_sent_to_a_child_is_none_of_its_business(made: Service) -> None:
    with ApiProcess(made) as api:
        api.wait_ready()
        (pid,) = api.pids
        os.kill(pid, signal.SIGHUP)
        assert api.predict(event(1))["predictions"] and api.pids == [pid]


@pytest.mark.long
def test_a_machine_that_stood_still_kills_nobody(made: Service) -> None:
    with ApiProcess(made, processes=2) as api:
        api.wait_ready(2)
        before = api.pids
        everybody = [api.process.pid, *before]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(13)  # longer than a child may be silent
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        api.wait_ready(2)
        asking = Asking(api, event(1))
        asking.start()
        assert until(lambda: len(asking.answers) > 20, 10)
        assert asking.stop().failed == [] and api.pids == before
