"""Connections to the port: who is answered, how many at once, and how long one may take.

1. One thread waits for all requests: a socket that says nothing costs no thread and keeps nobody out. Where too many
   wait, the oldest one of the address that has the most goes.
2. Probes are answered by that thread itself: no flood of other requests takes their place.
3. Everything else has a thread, a number of places in all and for each address, and a rate.
"""

import io
import logging
import re
import resource
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from stream_ml.errors import ConfigError

HEAD_BYTES_MAX = 16_384  # of a request: its line and all headers
WAITING_MAX = 256  # connections whose request is not here yet
PLACES_MAX = 32  # requests that are answered at once, probes left out
PLACES_OF_ADDRESS = 12  # of them for one address: a browser opens six connections
RATE, BURST = 100.0, 200.0  # requests a second that are answered, probes left out: each costs the loop about 0.3 ms
TIMEOUT_S = 5.0  # for a client to send its request, and for each write to it
PROBE_TIMEOUT_S = 0.5  # for the few bytes of a probe's answer, which the system takes at once
BACKLOG = 128
LOOK_S = 0.5  # between two looks for connections that have waited too long
PROBE = re.compile(rb"(GET|HEAD) (/livez|/readyz)(?:\?[^ \r\n]*)? HTTP/1\.[01]\r?\n")
HOST = re.compile(rb"\nHost:[ \t]*([^\r\n]*)", re.IGNORECASE)
_REFUSED = "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}"

log = logging.getLogger(__name__)

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]


class _Waiting:
    """A connection whose request is still coming."""

    __slots__ = ("address", "head", "until_s")

    def __init__(self, address: Any) -> None:
        self.address, self.head, self.until_s = address, b"", time.monotonic() + TIMEOUT_S


_ONE_MORE = "; one more worker here needs a name, too: --set worker.instance=w2"


class HttpServer:
    """Answers on a port, in threads of its own, from `start` to `stop`.

    Raises
    ------
    ConfigError
        The port cannot be listened on; the operator names another one.
    """

    def __init__(self, host: str, port: int, application: Application, key: str = "http.port") -> None:
        try:
            self._listener = socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"{key} {port} on {host} cannot be listened on: {error.strerror or error}",
                f"another process has it? --set {key}={port + 10}"
                + (_ONE_MORE if key == "http.port" else ", or 0: none"),
            ) from error
        self._listener.setblocking(False)
        self._answering = _Answering(host, port, application)
        self._waiting: dict[socket.socket, _Waiting] = {}
        self._waiting_max = min(WAITING_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._places: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._left, self._left_s = BURST, time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Let go of the port; requests that are being answered end by themselves."""
        if self._thread.is_alive():
            self._wake.send(b"x")
            self._thread.join(TIMEOUT_S)

    # --- one thread waits for requests ---

    def _run(self) -> None:
        looked_s = time.monotonic()
        while True:
            for key, _ in self._selector.select(LOOK_S):
                if key.fileobj is self._woken:
                    self._end()
                    return
                try:
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._read(key.fileobj)  # type: ignore[arg-type]
                except Exception:  # one connection never ends the thread that answers all
                    log.exception("a connection failed")
            if time.monotonic() - looked_s >= LOOK_S:
                looked_s = time.monotonic()
                for connection in [c for c, waiting in self._waiting.items() if waiting.until_s < looked_s]:
                    self._drop(connection)

    def _end(self) -> None:
        for connection in list(self._waiting):
            self._drop(connection)
        for held in (self._selector, self._listener, self._wake, self._woken):
            held.close()

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
            connection.setblocking(False)
        except OSError:  # it went away, or there are no file descriptors left
            time.sleep(0.01)
            return
        self._waiting[connection] = _Waiting(address)
        self._selector.register(connection, selectors.EVENT_READ)
        if len(self._waiting) > self._waiting_max:
            most, _ = Counter(waiting.address[0] for waiting in self._waiting.values()).most_common(1)[0]
            self._drop(next(c for c, waiting in self._waiting.items() if waiting.address[0] == most))

    def _read(self, connection: socket.socket) -> None:
        waiting = self._waiting.get(connection)
        if waiting is None:  # dropped in this very turn
            return
        try:
            came = connection.recv(HEAD_BYTES_MAX + 1 - len(waiting.head))
        except BlockingIOError:
            return
        except OSError:
            came = b""
        waiting.head += came
        if b"\r\n\r\n" in waiting.head or b"\n\n" in waiting.head:
            self._forget(connection)
            self._answer(connection, waiting)
        elif not came:
            self._drop(connection)
        elif len(waiting.head) > HEAD_BYTES_MAX:
            self._forget(connection)
            _refuse(connection, "431 Request Header Fields Too Large", f"at most {HEAD_BYTES_MAX} bytes of headers\n")

    def _forget(self, connection: socket.socket) -> None:
        del self._waiting[connection]
        self._selector.unregister(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._forget(connection)
        connection.close()

    # --- and answers, or lets others answer ---

    def _answer(self, connection: socket.socket, waiting: _Waiting) -> None:
        probe = PROBE.match(waiting.head)
        if probe is not None:
            self._answering.probe(connection, probe[1].decode(), probe[2].decode(), waiting.head)
        elif not self._in_time():
            _refuse(connection, "429 Too Many Requests", f"at most {RATE:.0f} requests a second\n")
        elif not self._take_place(waiting.address[0]):
            _refuse(connection, "503 Service Unavailable", "too many connections; come again\n")
        else:
            of = (connection, waiting.address, waiting.head)
            try:
                threading.Thread(target=self._in_thread, args=of, name="http request", daemon=True).start()
            except RuntimeError:  # the system gives no more threads
                self._give_place(waiting.address[0])
                _refuse(connection, "503 Service Unavailable", "no thread is left; come again\n")

    def _in_thread(self, connection: socket.socket, address: Any, head: bytes) -> None:
        try:
            self._answering.answer(connection, address, head, TIMEOUT_S)
        finally:
            self._give_place(address[0])

    def _give_place(self, address: str) -> None:
        with self._lock:
            self._places[address] -= 1
            self._places += Counter()  # forgets addresses that have none

    def _in_time(self) -> bool:
        now_s = time.monotonic()
        self._left, self._left_s = min(BURST, self._left + RATE * (now_s - self._left_s)), now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def _take_place(self, address: str) -> bool:
        with self._lock:
            if self._places.total() >= PLACES_MAX or self._places[address] >= PLACES_OF_ADDRESS:
                return False
            self._places[address] += 1
            return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _refuse(connection: socket.socket, status: str, text: str) -> None:
    """A few words that need no application; whoever does not take them gets none."""
    try:
        connection.send(_REFUSED.format(status, len(text), text).encode())
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    finally:
        connection.close()


class _Answering(WSGIServer):
    """What the standard library needs to answer one request; it listens to nothing itself."""

    def __init__(self, host: str, port: int, application: Application, key: str = "http.port") -> None:
        super().__init__((host, port), WSGIRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.server_name, self.server_port = host, port
        self.setup_environ()
        self.set_app(application)
        self.application: Application = application

    def probe(self, connection: socket.socket, method: str, path: str, head: bytes) -> None:
        """Answer a probe from what its first line and Host say; nothing else of it is read."""
        said: list[Any] = []
        host = HOST.search(head)
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
        environ |= {"HTTP_HOST": host[1].decode("latin-1")} if host is not None else {}
        body = b"".join(self.application(environ, lambda *of: said.append(of)))
        status, headers = said[0]
        lines = [f"HTTP/1.0 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        try:
            connection.settimeout(PROBE_TIMEOUT_S)
            connection.sendall("\r\n".join(lines).encode("latin-1", "replace") + body)
        except OSError:
            pass
        finally:
            self.shutdown_request(connection)

    def answer(self, connection: socket.socket, address: Any, head: bytes, timeout_s: float) -> None:
        """Answer a request whose head is here, and close the connection."""
        try:
            connection.settimeout(timeout_s)
            _Handler(connection, address, self, head)
        except Exception as error:
            if not isinstance(error, OSError):
                log.exception("a request failed")
        finally:
            self.shutdown_request(connection)


class _Failures(io.StringIO):
    """What wsgiref has to say of a request; that a client went away or does not read is no event."""

    def flush(self) -> None:
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        if text.strip() and not any(name in text for name in ("TimeoutError", "ConnectionError", "BrokenPipeError")):
            log.error("a request failed: %s", text.strip())


class _Quiet(ServerHandler):
    server_software = ""  # nobody needs to know


class _Handler(WSGIRequestHandler):
    def __init__(self, connection: socket.socket, address: Any, server: _Answering, head: bytes) -> None:
        self._head = head
        super().__init__(connection, address, server)

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(io.BytesIO(self._head))

    def handle(self) -> None:
        """As the standard library's, with a handler that names no software."""
        self.raw_requestline = self.rfile.readline(HEAD_BYTES_MAX + 1)
        if self.parse_request():
            body: Any = self.rfile
            out: Any = self.wfile
            handler = _Quiet(body, out, self.get_stderr(), self.get_environ())
            handler.request_handler = self  # type: ignore[attr-defined]
            handler.run(self.server.get_app())  # type: ignore[attr-defined]

    def get_stderr(self) -> Any:
        return _Failures()

    def log_message(self, format: str, *args: Any) -> None:
        """No line for a request."""

    def address_string(self) -> str:
        return str(self.client_address[0])

    def version_string(self) -> str:
        return ""
