"""TLS of both ports: certificates of clients, and one that expires or is replaced under load."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from stream_ml.errors import ConfigError
from stream_ml.serve.access import certificates
from stream_ml.serve.access.certificates import Certificates
from stream_ml.serve.access.keys import new_key, write_keys
from stream_ml.serve.http.server import Server
from stream_ml.serve.rpc.server import RpcServer
from tests.serve.test_inference import Caller, request
from tests.support.api import Api
from tests.support.certificates import Authority, Pair
from tests.support.follower_on_a_list import LINEAR, App, Log

HEAD = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = '{"instances": [{"x": 1.0}]}'
PREDICT = f"{HEAD}Content-Length: {len(BODY)}\r\n\r\n{BODY}".encode()


class Served:
    """An application behind a real socket with TLS, in a thread of its own."""

    def __init__(self, api: Api) -> None:
        self.certificates = Certificates.of(api.config)
        self.server = Server(api.config, api.application, self.certificates, api.gate.refused_unread, end_s=1)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([listener])), daemon=True)
        self._thread.start()

    def look(self) -> None:
        assert self.certificates is not None
        self.certificates.look()

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join(20)

    def connect(self, authority: Authority, pair: Pair | None = None) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(authority.file))
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        try:
            return context.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise


def asked(connection: ssl.SSLSocket, more: str = "") -> tuple[int, Any]:
    """Status and JSON of an answer."""
    connection.sendall(PREDICT.replace(b"Host: localhost\r\n", b"Host: localhost\r\n" + more.encode()))
    found = b""
    while b"\r\n\r\n" not in found:
        found += _more(connection)
    head, _, body = found.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += _more(connection)
    return int(head.split()[1]), json.loads(body)


def _more(connection: ssl.SSLSocket) -> bytes:
    found = connection.recv(65_536)
    if not found:
        raise ConnectionError("it was closed")
    return found


@contextlib.contextmanager
def serving(app: App, log: Log, **serve: Any) -> Iterator[tuple[Api, Served]]:
    config = app.config(LINEAR, serve={"tls_cert": "localhost.crt", "tls_key": "localhost.key", **serve})
    app.serving(config)
    log.usual(100)
    api = Api(app, config)
    served = Served(api)
    try:
        yield api, served
    finally:
        served.close()


def is_turned_away(connect: Callable[[], ssl.SSLSocket]) -> bool:
    """Whether one side does not want the other; in TLS 1.3 a client hears of that with its first read."""
    try:
        with connect() as connection:
            asked(connection)
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def test_a_certificate_is_replaced_under_load_and_no_request_fails(
    app: App, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LOOK_S", 0.0)
    old, new = Authority(app.folder, "old"), Authority(app.folder, "new")
    old.signs("localhost")
    with serving(app, log) as (_, served):
        stays = served.connect(old)
        stop, statuses = threading.Event(), list[int]()

        def ask() -> None:
            while not stop.is_set():
                statuses.append(asked(stays)[0])

        thread = threading.Thread(target=ask)
        thread.start()
        new.signs("localhost")
        served.look()
        with served.connect(new) as fresh:
            assert asked(fresh)[0] == 200
        assert is_turned_away(lambda: served.connect(old)), "the old one is not shown any more"
        stop.set()
        thread.join(20)
        stays.close()
        assert statuses and {*statuses} == {200}, "who was connected stays"


def test_a_new_certificate_beside_the_old_key_leaves_both_old_ones_in_place(
    app: App, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are replaced one after the other; a look between the two is no end of TLS."""
    monkeypatch.setattr(certificates, "LOOK_S", 0.0)
    authority = Authority(app.folder)
    old_key = authority.signs("localhost").key.read_bytes()
    with serving(app, log) as (_, served):
        new_key = authority.signs("localhost").key.read_bytes()
        (app.folder / "localhost.key").write_bytes(old_key)
        served.look()
        assert served.certificates is not None and "cannot be used" in served.certificates.problem
        with served.connect(authority) as connection:
            assert asked(connection)[0] == 200
        (app.folder / "localhost.key").write_bytes(new_key)
        served.look()
        assert not served.certificates.problem
        with served.connect(authority) as connection:
            assert asked(connection)[0] == 200


def test_a_certificate_that_has_expired_is_the_clients_to_refuse_and_its_successor_is_taken_up(
    app: App, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LOOK_S", 0.0)
    authority = Authority(app.folder)
    authority.signs("localhost", days=-0.5)
    with serving(app, log) as (_, served):
        assert is_turned_away(lambda: served.connect(authority))
        authority.signs("localhost")
        served.look()
        with served.connect(authority) as fresh:
            assert asked(fresh)[0] == 200


def test_files_that_do_not_belong_together_leave_the_old_ones_and_are_told(
    app: App, log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(certificates, "LOOK_S", 0.0)
    authority = Authority(app.folder)
    pair = authority.signs("localhost")
    with serving(app, log) as (_, served):
        good = pair.key.read_bytes()
        other = authority.signs("other")
        pair.key.write_bytes(other.key.read_bytes())
        served.look()
        assert served.certificates is not None
        assert "cannot be used, the old one stays" in served.certificates.problem
        with served.connect(authority) as fresh:
            assert asked(fresh)[0] == 200
        pair.key.write_bytes(good)
        os.utime(pair.key)
        served.look()
        assert served.certificates.problem == ""


def test_a_client_is_known_by_its_certificate_and_others_need_another_credential(app: App, log: Log) -> None:
    authority, stranger = Authority(app.folder), Authority(app.folder, "stranger")
    authority.signs("localhost")
    shop, nobody = authority.signs("shop"), authority.signs("nobody")
    late, forged = authority.signs("shop", days=-0.5, file="late"), stranger.signs("shop", file="forged")
    text, key = new_key("k", ["predict"])
    write_keys(app.folder / "keys.json", [key])
    auth = {"mtls": {"ca_file": "authority.pem", "names": ["shop"]}, "keys_file": "keys.json"}
    with serving(app, log, auth=auth) as (_, served):
        with served.connect(authority, shop) as connection:
            assert asked(connection)[0] == 200
        with served.connect(authority, nobody) as connection:
            assert asked(connection)[0] == 401, "the authority signed it, and it is not among the names"
            assert asked(connection, f"X-API-Key: {text}\r\n")[0] == 200
            assert asked(connection, "X-API-Key: wrong\r\n")[0] == 401
        with served.connect(authority, shop) as connection:
            assert asked(connection, "X-API-Key: wrong\r\n")[0] == 401, "who shows a wrong key is not let in for less"
        with served.connect(authority) as connection:
            status, said = asked(connection)
            assert status == 401 and "a client certificate" in said["detail"]
        for wrong in (late, forged):
            assert is_turned_away(lambda wrong=wrong: served.connect(authority, wrong))


def test_a_client_certificate_may_do_what_the_configuration_says_and_no_more(app: App, log: Log) -> None:
    authority = Authority(app.folder)
    authority.signs("localhost")
    auth = {"mtls": {"ca_file": "authority.pem", "scopes": ["feedback"]}}
    with serving(app, log, auth=auth) as (_, served), served.connect(authority, authority.signs("shop")) as connection:
        status, said = asked(connection)
        assert status == 403 and said["scope"] == "predict"


def test_over_grpc_a_client_shows_its_certificate_too(app: App, log: Log) -> None:
    authority, stranger = Authority(app.folder), Authority(app.folder, "stranger")
    authority.signs("localhost")
    shop, nobody = authority.signs("shop"), authority.signs("nobody")
    with serving(app, log, auth={"mtls": {"ca_file": "authority.pem", "names": ["shop"]}}) as (api, _):
        asyncio.run(
            _over_grpc(
                api, authority, {"shop": shop, "nobody": nobody, "forged": stranger.signs("shop", file="forged")}
            )
        )


async def _over_grpc(api: Api, authority: Authority, pairs: dict[str, Pair]) -> None:
    server = RpcServer(api.config, api.gate, api.inferences, Certificates.of(api.config))
    await server.start()
    expected = {"shop": "OK", "nobody": "UNAUTHENTICATED", "forged": "UNAVAILABLE"}
    try:
        for name, pair in pairs.items():
            roots = authority.file.read_bytes()
            credentials = grpc.ssl_channel_credentials(roots, pair.key.read_bytes(), pair.cert.read_bytes())
            async with grpc.aio.secure_channel(f"localhost:{server.port}", credentials) as channel:
                try:
                    await Caller(server, channel)("ModelInfer", **request(1.0))
                    code = "OK"
                except grpc.aio.AioRpcError as error:
                    code = error.code().name
            assert code == expected[name], name
    finally:
        await server.stop(0)


@pytest.mark.parametrize("missing", ["localhost.key", "authority.pem"])
def test_files_that_are_not_there_are_refused_at_the_start(app: App, log: Log, missing: str) -> None:
    Authority(app.folder).signs("localhost")
    (app.folder / missing).unlink()
    serve = {"tls_cert": "localhost.crt", "tls_key": "localhost.key", "auth": {"mtls": {"ca_file": "authority.pem"}}}
    with pytest.raises(ConfigError, match="cannot be used"):
        Certificates.of(app.config(LINEAR, serve=serve))


def test_a_port_of_grpc_that_another_process_has_is_refused_in_words(app: App, tmp_path: Path) -> None:
    from stream_ml.embedded.broker import free_port
    from stream_ml.serve.supervisor import reserved

    config = app.config(LINEAR, serve={"grpc_port": free_port()})
    first = reserved(config)
    assert first is not None
    with pytest.raises(ConfigError, match=r"grpc_port .* cannot be listened on"):
        reserved(config)
    first.close()
    again = reserved(config)
    assert again is not None
    again.close()
