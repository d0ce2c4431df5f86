"""Clients that misbehave at a worker's port: it goes on committing, and answers again once they are gone."""

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stream_ml.embedded.broker import free_port
from stream_ml.observe.http_server import PLACES_OF_ADDRESS, TIMEOUT_S
from tests.support.service import Service, service, until

pytestmark = pytest.mark.kafka

FOLLOW = b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connected(made: Service, buffer: int | None = None) -> socket.socket:
    """A connection that has sent nothing yet, perhaps of somebody who takes little at a time."""
    client = socket.socket()
    client.settimeout(10)
    if buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    try:
        client.connect(("127.0.0.1", made.settings["http"]["port"]))
    except OSError:
        client.close()
        raise
    return client


def answer(client: socket.socket, request: bytes) -> str:
    """The first line of the answer; empty where there is none."""
    with contextlib.suppress(OSError):
        client.sendall(request)
        with client.makefile("rb") as file:
            return file.readline().decode().strip()
    return ""


def get(made: Service, path: str) -> str:
    """The status line; empty where nobody answers."""
    with contextlib.suppress(OSError), connected(made) as client:
        return answer(client, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return ""


def ended(client: socket.socket) -> bool:
    """Whether the worker has closed this connection."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def alive(made: Service) -> bool:
    return get(made, "/livez").endswith("200 OK")


@contextlib.contextmanager
def working(folder: Path, servers: str, app_id: str) -> Iterator[Service]:
    """A worker that is ready."""
    with service(folder, servers, app_id, http={"port": free_port()}) as made:
        made.start()
        made.wait_for(lambda: get(made, "/readyz").endswith("200 OK"), "readiness")
        yield made


@pytest.fixture(scope="module")
def served(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with working(tmp_path_factory.mktemp("bad"), kafka, f"t{uuid.uuid4().hex[:8]}") as made:
        yield made


def goes_on(made: Service, first: int, last: int) -> None:
    """These events and labels are read and committed within seconds."""
    made.pairs(range(first, last))
    made.flush()
    made.wait_for(lambda: len(set(made.progress())) == 1, "committing all", 10)


def test_idle_clients_and_one_that_never_reads_stop_nothing(kafka: str, app_id: str, tmp_path: Path) -> None:
    with working(tmp_path, kafka, app_id) as made, contextlib.ExitStack() as stack:
        deaf = stack.enter_context(connected(made, buffer=4096))
        deaf.sendall(FOLLOW)
        idle = [stack.enter_context(connected(made)) for _ in range(40)]
        assert alive(made) and made.ready, "who says nothing keeps nobody out"
        goes_on(made, 0, 500)
        assert alive(made), made.logs()
        assert until(lambda: all(map(ended, idle)), TIMEOUT_S + 5), "who says nothing is let go"
        goes_on(made, 500, 1_000)
        assert alive(made)


@pytest.mark.long
def test_fifty_scrapes_a_second_stop_nothing(kafka: str, app_id: str, tmp_path: Path) -> None:
    with working(tmp_path, kafka, app_id) as made, ThreadPoolExecutor(8) as pool:
        start_s = time.monotonic()

        def scrape(number: int) -> str:
            time.sleep(max(0.0, start_s + number / 50 - time.monotonic()))  # the pace of the flood
            return get(made, "/metrics")

        answers = pool.map(scrape, range(150))
        for first in range(0, 1_000, 100):
            goes_on(made, first, first + 100)
        assert set(answers) == {"HTTP/1.0 200 OK"}
        assert alive(made)


def test_one_follower_more_than_there_are_places_is_told_to_come_again(kafka: str, app_id: str, tmp_path: Path) -> None:
    with working(tmp_path, kafka, app_id) as made, contextlib.ExitStack() as stack:
        followers = [stack.enter_context(connected(made)) for _ in range(PLACES_OF_ADDRESS)]
        assert [answer(follower, FOLLOW) for follower in followers] == ["HTTP/1.0 200 OK"] * PLACES_OF_ADDRESS
        assert get(made, "/v1/stream").endswith("503 Service Unavailable")
        assert alive(made)
        goes_on(made, 0, 500)
        followers[0].close()
        assert until(lambda: get(made, "/v1/stream").endswith("200 OK"), 10), "its place is free"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (b"POST /v1/status HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "HTTP/1.0 405 Method Not Allowed"),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", "HTTP/1.0 404 Not Found"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", ""),
    ],
    ids=["post", "another path", "a long path", "TLS"],
)
def test_what_is_no_request_is_refused(served: Service, request_: bytes, said: str) -> None:
    with connected(served) as client:
        assert answer(client, request_).startswith(said)
    assert alive(served)
