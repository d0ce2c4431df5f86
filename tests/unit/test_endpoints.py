"""What the HTTP endpoints answer, from what a worker has left behind."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from stream_ml.core.written import WrittenSchema
from stream_ml.endpoints import CONNECTIONS_MAX, Endpoints, serve
from stream_ml.errors import ConfigError
from stream_ml.kafka.broker import free_port


class Said:
    """A worker's last words."""

    def __init__(self, *, ready: bool = True, hangs_s: float = 0.1) -> None:
        self.status: dict[str, Any] = {"ready": ready, "reasons": [] if ready else ["partition 3 is parked: why"]}
        self.hangs_s = hangs_s
        self.schemas = [
            WrittenSchema("shop-predictions", "0a" * 8, current=False, text='{"old": 1}'),
            WrittenSchema("shop-predictions", "0b" * 8, current=True, text='{"new": 1}'),
        ]


def ask(endpoints: Endpoints, path: str, method: str = "GET") -> tuple[str, bytes, dict[str, str]]:
    """Status, body and headers of an answer."""
    seen: list[Any] = []
    body = endpoints(
        {"PATH_INFO": path, "REQUEST_METHOD": method}, lambda status, headers: seen.append((status, headers))
    )
    return seen[0][0], b"".join(body), dict(seen[0][1])


@contextmanager
def serving(said: Said, registry: CollectorRegistry | None = None) -> Iterator[int]:
    """The endpoints on a port."""
    port = free_port()
    stop = serve("127.0.0.1", port, Endpoints(registry or CollectorRegistry(), said, 60))
    try:
        yield port
    finally:
        stop()


def test_livez_says_no_when_the_loop_is_silent_and_nothing_else_makes_it_say_so() -> None:
    registry = CollectorRegistry()
    assert ask(Endpoints(registry, Said(ready=False), 60), "/livez")[0] == "200 OK"
    status, body, _ = ask(Endpoints(registry, Said(hangs_s=61.0), 60), "/livez")
    assert (status, body) == ("503 Service Unavailable", b"the loop has not turned for 61 s\n")


def test_readyz_gives_its_reasons_in_words() -> None:
    assert ask(Endpoints(CollectorRegistry(), Said(), 60), "/readyz")[:2] == ("200 OK", b"ready\n")
    status, body, _ = ask(Endpoints(CollectorRegistry(), Said(ready=False), 60), "/readyz")
    assert (status, body) == ("503 Service Unavailable", b"partition 3 is parked: why\n")


def test_status_is_json() -> None:
    _, body, headers = ask(Endpoints(CollectorRegistry(), Said(), 60), "/v1/status")
    assert json.loads(body) == {"ready": True, "reasons": [], "loop_silent_seconds": 0.1}
    assert headers["Content-Type"] == "application/json"


def test_metrics_are_rendered_once_a_second_at_most() -> None:
    registry = CollectorRegistry()
    counter = Counter("seen", "Seen.", registry=registry)
    endpoints = Endpoints(registry, Said(), 60)
    first = ask(endpoints, "/metrics")[1]
    counter.inc()
    assert ask(endpoints, "/metrics")[1] == first
    assert b"seen_total 0.0" in first


def test_schemas_are_listed_and_each_is_had_by_its_fingerprint() -> None:
    endpoints = Endpoints(CollectorRegistry(), Said(), 60)
    _, body, headers = ask(endpoints, "/v1/schemas")
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)[0] == {"topic": "shop-predictions", "fingerprint": "0a" * 8, "current": False}
    assert ask(endpoints, f"/v1/schemas/{'0a' * 8}")[:2] == ("200 OK", b'{"old": 1}')
    assert ask(endpoints, f"/v1/schemas/{'0b' * 8}")[1] == b'{"new": 1}'


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        *(("/page", "GET", "404"), ("/livez", "POST", "405"), ("/x", "GET", "404")),
        *((f"/v1/schemas/{name}", "GET", "404") for name in ("", "0a", "0A" * 8, "../schemas", "0a" * 8 + "/")),
    ],
)
def test_what_is_not_there_is_said(path: str, method: str, status: str) -> None:
    assert ask(Endpoints(CollectorRegistry(), Said(), 60), path, method)[0].startswith(status)


def test_head_has_no_body() -> None:
    assert ask(Endpoints(CollectorRegistry(), Said(), 60), "/livez", "HEAD")[1] == b""


def test_a_port_that_is_taken_is_an_error_that_says_so() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match=r"http\.port \d+ on 127\.0\.0\.1 cannot be listened on") as refused:
            serve("127.0.0.1", other.getsockname()[1], Endpoints(CollectorRegistry(), Said(), 60))
    assert refused.value.exit_code == 78


def test_connections_that_say_nothing_do_not_keep_others_out_for_ever() -> None:
    with serving(Said()) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS_MAX + 8)]
        for connection in silent:
            connection.close()
        answered = threading.Event()
        for _ in range(200):
            with suppress(OSError, http.client.HTTPException):
                asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                asked.request("GET", "/livez")
                if asked.getresponse().status == 200:
                    answered.set()
                    break
        assert answered.is_set()


def test_a_follower_gets_a_status_again_while_the_loop_leaves_no_new_one() -> None:
    followed = iter(
        Endpoints(CollectorRegistry(), Said(ready=False), 60)(
            {"PATH_INFO": "/v1/stream", "REQUEST_METHOD": "GET"}, lambda *_: None
        )
    )
    first, again = next(followed), next(followed)
    assert first == again and b"partition 3 is parked: why" in first
