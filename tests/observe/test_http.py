"""What the HTTP endpoints answer, from what a worker has left behind."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import CollectorRegistry, Counter

from stream_ml.core.log.logged_schemas import WrittenSchema
from stream_ml.embedded.broker import free_port
from stream_ml.errors import ConfigError
from stream_ml.observe.access import Access
from stream_ml.observe.http import STREAMS_MAX, Endpoints, serve
from stream_ml.observe.http_server import BURST, HEAD_BYTES_MAX, PLACES_OF_ADDRESS, PROBE, RATE, WAITING_MAX


class Said:
    """A worker's last words."""

    def __init__(self, *, ready: bool = True, loop_silent_s: float = 0.1) -> None:
        self.status: dict[str, Any] = {"ready": ready, "reasons": [] if ready else ["partition 3 is suspended: why"]}
        self.loop_silent_s = loop_silent_s
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
    status, body, _ = ask(Endpoints(registry, Said(loop_silent_s=61.0), 60), "/livez")
    assert (status, body) == ("503 Service Unavailable", b"the loop has not turned for 61 s\n")


def test_readyz_gives_its_reasons_in_words() -> None:
    assert ask(Endpoints(CollectorRegistry(), Said(), 60), "/readyz")[:2] == ("200 OK", b"ready\n")
    status, body, _ = ask(Endpoints(CollectorRegistry(), Said(ready=False), 60), "/readyz")
    assert (status, body) == ("503 Service Unavailable", b"partition 3 is suspended: why\n")


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
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(WAITING_MAX + 8)]
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
    assert first == again and b"partition 3 is suspended: why" in first


# --- floods ---


def probe(port: int, path: str = "/livez", timeout_s: float = 2.0) -> int:
    """Status of an answer that has to come soon."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    asked.request("GET", path)
    return asked.getresponse().status


@pytest.mark.parametrize("half", [b"", b"GET /livez HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_probes_are_answered_beside_followers_and_sockets_that_say_nothing_or_half(half: bytes) -> None:
    with serving(Said()) as port, contextlib.ExitStack() as stack:
        for _ in range(STREAMS_MAX + 4):
            follower = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            follower.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(2 * WAITING_MAX):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            silent.sendall(half)
        assert [probe(port, path) for path in ("/livez", "/readyz") * 20] == [200] * 40


def test_one_address_does_not_take_all_places() -> None:
    with serving(Said()) as port, contextlib.ExitStack() as stack:
        said = []
        for _ in range(PLACES_OF_ADDRESS + 5):
            follower = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            follower.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said.append(int(follower.recv(12)[9:12]))
        assert said.count(200) == PLACES_OF_ADDRESS < STREAMS_MAX and set(said) == {200, 503}


def test_more_requests_than_the_rate_are_refused_and_probes_are_not() -> None:
    with serving(Said()) as port:
        with ThreadPoolExecutor(8) as several:  # one alone may be slower than the rate
            said = list(several.map(lambda _: probe(port, "/v1/status"), range(int(BURST + 2 * RATE))))
        assert said[0] == 200 and 429 in said
        assert probe(port) == 200


@pytest.mark.parametrize("line", [b"X: " + b"x" * 40_000, b"X: y\r\n" * 5_000])
def test_a_head_that_is_too_large_is_refused(line: bytes) -> None:
    with serving(Said()) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as asked:
        with suppress(OSError):
            asked.sendall(b"GET /livez HTTP/1.1\r\n" + line + b"\r\n\r\n")
        with suppress(ConnectionResetError):  # what it did not read it resets
            assert asked.recv(100).startswith(b"HTTP/1.1 431")
        assert len(line) > HEAD_BYTES_MAX and probe(port) == 200


@pytest.mark.parametrize(
    "bytes_",
    [b"\r\n\r\n", b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET /\xff /livez\r\n\r\n", b"\n\n"],
)
def test_bytes_that_are_no_request_harm_nobody(bytes_: bytes) -> None:
    with serving(Said()) as port:
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as asked:
                asked.sendall(bytes_)
                with suppress(OSError):
                    asked.recv(1_000)
        assert probe(port) == 200


def test_memory_and_threads_after_a_flood_are_as_before_it() -> None:
    with serving(Said()) as port:
        probe(port)
        before = threading.active_count()
        for _ in range(2_000):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as asked:
                asked.sendall(b"GET /v1/status HTTP/1.1\r\n\r\n")
        for _ in range(100):
            if threading.active_count() <= before:
                break
            threading.Event().wait(0.05)
        assert threading.active_count() <= before


# --- who may ask ---


def asked_as(access: Access, path: str = "/v1/status", query: str = "", **headers: str) -> tuple[str, dict[str, str]]:
    """Status and headers of an answer to a request with these headers."""
    seen: list[Any] = []
    environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "QUERY_STRING": query}
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    endpoints = Endpoints(CollectorRegistry(), Said(), 60, access)
    endpoints(environ, lambda status, found: seen.append((status, found)))
    return seen[0][0], dict(seen[0][1])


@pytest.mark.parametrize("path", ["/", "/v1/status", "/v1/stream", "/metrics", "/livez", "/v1/schemas"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.com", "0x7f.1"]
)
def test_a_name_that_is_not_known_gets_nothing(path: str, host: str) -> None:
    assert asked_as(Access(["worker-1"]), path, host=host)[0].startswith("421")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST",
        "127.0.0.1:8080",
        "[::1]:8080",
        "10.1.2.3",
        "worker-1",
        "Worker-1.:80",
        "",
    ],
)
def test_names_of_this_machine_and_addresses_are_answered(host: str) -> None:
    assert asked_as(Access(["worker-1"]), host=host)[0] == "200 OK"


TOKEN = b"sixteen-bytes_and.more+=/"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN.decode()}"},
        {"cookie": "stream_ml_token=wrong"},
        {"cookie": "\x00;;==="},
        {"cookie": f"xstream_ml_token={TOKEN.decode()}"},
        {"authorization": "Bearer \ud800"},
    ],
)
def test_without_the_token_only_probes_are_answered(headers: dict[str, str]) -> None:
    access = Access(token=TOKEN)
    for path in ("/", "/v1/status", "/v1/stream", "/v1/history", "/metrics", "/v1/schemas", "/nowhere"):
        status, found = asked_as(access, path, **headers)
        assert status.startswith("401") and found["WWW-Authenticate"] == "Bearer"
    assert asked_as(access, "/livez", **headers)[0] == asked_as(access, "/readyz", **headers)[0] == "200 OK"


def test_the_token_comes_as_a_header_or_as_a_cookie_that_the_page_sets() -> None:
    access, right = Access(token=TOKEN), TOKEN.decode()
    assert asked_as(access, authorization=f"Bearer {right}")[0] == "200 OK"
    assert asked_as(access, authorization=f"bearer  {right}")[0] == "200 OK"
    status, headers = asked_as(access, "/", query=f"token={quote(right)}")
    assert status.startswith("303") and headers["Location"] == "/"
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    assert asked_as(access, "/", query="token=wrong")[0].startswith("401")
    assert asked_as(access, "/", query=f"token={quote(right)}", host="evil.example")[0].startswith("421")


@pytest.mark.parametrize(
    "line", [b" /livez /v1/status", b"/livez /v1/status", b"GET  /livez", b"GET\t/livez", b"GET /livez/../v1/status"]
)
def test_a_request_that_only_looks_like_a_probe_waits_like_any_other(line: bytes) -> None:
    """It was parsed by the thread that answers all, cookies and all: five of them kept a probe waiting for 17 s."""
    assert PROBE.match(line + b" HTTP/1.1\r\n") is None


@pytest.mark.timeout(20)
def test_a_cookie_that_takes_long_to_read_is_not_read() -> None:
    slow = 'a="' + "\\" * 16_000 + '"'
    for _ in range(50):
        assert asked_as(Access(token=TOKEN), cookie=slow)[0].startswith("401")
    for other in ("a[]=1; ", 'x={"a":1}; ', "a b=c; ", "expires=1; "):
        assert asked_as(Access(token=TOKEN), cookie=f"{other}stream_ml_token={TOKEN.decode()}")[0] == "200 OK"


@pytest.mark.parametrize(
    "query", ["a&" * 5_000, "token=%", "token=%ff%fe", "token=" + "x" * 20_000, "a=1&token=x", "token"]
)
def test_a_query_that_is_none_is_no_token(query: str) -> None:
    assert asked_as(Access(token=TOKEN), "/", query=query)[0].startswith("401")


def test_the_thread_that_answers_lives_on_where_the_system_gives_no_more_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(Said()) as port:
        start = threading.Thread.start

        def none_left(thread: threading.Thread) -> None:
            if thread.name.startswith("http request"):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", none_left)
        assert [probe(port, "/v1/status") for _ in range(2 * PLACES_OF_ADDRESS)] == [503] * 2 * PLACES_OF_ADDRESS
        assert probe(port) == 200
        monkeypatch.undo()
        assert probe(port, "/v1/status") == 200


@pytest.mark.parametrize("path", ["/", "/v1/status", "/livez", "/nowhere"])
def test_every_answer_has_the_headers_that_keep_other_pages_out(path: str) -> None:
    _, headers = asked_as(Access(), path)
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin" and headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer" and headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_no_answer_names_the_software() -> None:
    with serving(Said()) as port:
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        asked.request("GET", "/livez")
        assert asked.getresponse().getheader("Server") is None
