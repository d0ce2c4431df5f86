"""A proxy between clients and a broker that knows Kafka's frames, and does harm to the end of a transaction.

A request is ``size int32, api_key int16, api_version int16, correlation_id int32, ...``, an answer ``size int32,
correlation_id int32, ...``. Clients go where the broker says that it is, so the address in the answers that name
brokers is replaced by the proxy's own: the same host and thus as many bytes.
"""

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Iterator
from enum import Enum
from typing import Self

METADATA, FIND_COORDINATOR, INIT_PRODUCER_ID, END_TXN, TXN_OFFSET_COMMIT = 3, 10, 22, 26, 28
NAME_BROKERS = {METADATA, FIND_COORDINATOR}


class Fault(Enum):
    """What happens to one request to commit, of which the client hears nothing in any case."""

    ANSWER_LOST = "carried out, and its answer lost"
    REQUEST_LOST = "never carried out"
    REQUEST_LATE = "carried out in the middle of a transaction of the next producer"
    CONNECTION_LOST = "carried out, and its connection closed instead of an answer"


class Proxy:
    """Listens on a port of its own until the block ends."""

    def __init__(self, bootstrap_servers: str) -> None:
        host, port = bootstrap_servers.rsplit(":", 1)
        assert host in ("127.0.0.1", "localhost"), f"the proxy must listen on the broker's own host, not {host}"
        self._broker = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self._address = self._server.getsockname()
        self.bootstrap_servers = f"{host}:{self._address[1]}"
        self._names = [(_name(each, int(port)), _name(each, self._address[1])) for each in (b"127.0.0.1", b"localhost")]
        self._faults: queue.SimpleQueue[Fault] = queue.SimpleQueue()
        self._late: queue.SimpleQueue[tuple[Connection, bytes]] = queue.SimpleQueue()
        self._sockets: list[socket.socket] = [self._server]
        self.done: list[Fault] = []
        self.late_errors: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def harm_next_commit(self, fault: Fault) -> None:
        self._faults.put(fault)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                broker = socket.create_connection(self._broker)
                self._sockets += [client, broker]
                connection = Connection(client, broker)
                threading.Thread(target=self._requests, args=[connection], daemon=True).start()
                threading.Thread(target=self._answers, args=[connection], daemon=True).start()

    # --- from the client to the broker ---

    def _requests(self, connection: "Connection") -> None:
        for frame in _frames(connection.client):
            key, version, correlation = struct.unpack_from(">hhi", frame)
            connection.asked[correlation] = key
            if key == TXN_OFFSET_COMMIT:
                self._deliver_late()
            if key == END_TXN and _commits(frame, version) and self._harmed(connection, correlation, frame):
                continue
            _send(connection.broker, frame)
        if not connection.waits_for_late:
            _close(connection.broker)

    def _harmed(self, connection: "Connection", correlation: int, frame: bytes) -> bool:
        """Whether the request to commit is kept back; its answer may be kept back instead."""
        try:
            fault = self._faults.get_nowait()
        except queue.Empty:
            return False
        if fault is Fault.REQUEST_LATE:
            connection.waits_for_late = True
            connection.fate[correlation] = fault
            self._late.put((connection, frame))
        elif fault is not Fault.REQUEST_LOST:
            connection.fate[correlation] = fault
            return False
        self.done.append(fault)
        return True

    def _deliver_late(self) -> None:
        """Send what was held back, and wait for its answer."""
        with contextlib.suppress(queue.Empty):
            connection, frame = self._late.get_nowait()
            _send(connection.broker, frame)
            assert connection.late_answered.wait(10)

    # --- from the broker to the client ---

    def _answers(self, connection: "Connection") -> None:
        for frame in _frames(connection.broker):
            correlation = struct.unpack_from(">i", frame)[0]
            key, fate = connection.asked.pop(correlation), connection.fate.get(correlation)
            if fate is Fault.REQUEST_LATE:
                self.late_errors.append(struct.unpack_from(">h", frame, 8)[0])  # after correlation and throttle time
                connection.late_answered.set()
                continue
            if fate is not None:
                self.done.append(fate)
                if fate is Fault.CONNECTION_LOST:
                    break
                continue
            _send(connection.client, self._renamed(frame) if key in NAME_BROKERS else frame)
        _close(connection.client)

    def _renamed(self, frame: bytes) -> bytes:
        for theirs, ours in self._names:
            frame = frame.replace(theirs, ours)
        return frame


class Connection:
    """One connection of a client, and the proxy's own to the broker for it."""

    def __init__(self, client: socket.socket, broker: socket.socket) -> None:
        self.client, self.broker = client, broker
        self.asked: dict[int, int] = {}
        self.fate: dict[int, Fault] = {}
        self.waits_for_late = False
        self.late_answered = threading.Event()


def _name(host: bytes, port: int) -> bytes:
    return host + struct.pack(">i", port)


def _commits(frame: bytes, version: int) -> bool:
    """Whether an EndTxn commits: its last field, behind which the flexible versions have an empty list of tags."""
    return frame[-1 if version < 3 else -2] == 1


def _frames(source: socket.socket) -> Iterator[bytes]:
    """Frames without their size, until the connection ends."""
    with contextlib.suppress(OSError), source.makefile("rb") as stream:
        while len(size := stream.read(4)) == 4:
            yield stream.read(struct.unpack(">i", size)[0])


def _send(target: socket.socket, frame: bytes) -> None:
    with contextlib.suppress(OSError):
        target.sendall(struct.pack(">i", len(frame)) + frame)


def _close(target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
