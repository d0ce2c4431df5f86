"""``stream-ml serve`` as processes: its supervisor, and whoever asks it."""

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stream_ml.embedded.broker import free_port
from tests.support.service import Service, until

START_S = 180.0  # a bound: six processes that start at once on a machine that does much else take a minute


class ApiProcess:
    """One supervisor with its children, on ports of its own or those that are given.

    Parameters
    ----------
    name
        Of its configuration's file; two replicas beside each other have two.
    others
        Changes of other sections than `serve`.
    """

    def __init__(
        self, made: Service, *, name: str = "api", others: Mapping[str, Any] | None = None, **serve: Any
    ) -> None:
        self.port: int = serve.get("port") or free_port()
        self.admin_port: int = serve.get("admin_port") or free_port(but=self.port)
        ports = {"port": self.port, "admin_port": self.admin_port}
        self.settings: dict[str, Any] = {"feedback": True, "drain": "300ms"} | serve | ports
        made.write(name, serve=self.settings, **(others or {}))
        self._log_file = made.folder / f"{name}-{self.port}.log"
        with self._log_file.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stream_ml", "serve", str(made.folder / f"{name}.yaml")],
                stdout=log,
                stderr=log,
                env=made.environment_without_seed(),
            )

    @property
    def log(self) -> str:
        """What it has said, without what others with its name and port said before it."""
        return self._log_file.read_bytes()[self._log_start :].decode("utf-8")

    def wait_ready(self, processes: int = 1) -> "ApiProcess":
        def is_over() -> bool:
            return self.process.poll() is not None or self.status().get("processes", {}).get("ready") == processes

        assert until(is_over, START_S) and self.process.poll() is None, self.log
        return self

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of an answer, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            raw = None if body is None else json.dumps(body)
            connection.request(method, path, raw, {"Content-Type": "application/json", **given})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def lines(self, method: str, path: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and text of an answer that is no JSON as a whole."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()

    def predict(self, *instances: dict[str, Any], **headers: str) -> Any:
        """The answer, which has to be one."""
        status, _, said = self.ask("POST", "/v1/predict", {"instances": list(instances)}, **headers)
        assert status == 200, said
        return said

    def status(self) -> dict[str, Any]:
        """What the admin port says; empty while it does not answer."""
        return json.loads(self.admin("/v1/status")[1] or "{}")  # type: ignore[no-any-return]

    def admin(self, path: str) -> tuple[int, str]:
        """Status and text of an answer of the admin port; 0 while it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    @property
    def pids(self) -> list[int]:
        """Of the children, as long as it answers who asks for them."""
        return [int(child["pid"]) for child in self.status().get("children", [])]

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def close(self) -> None:
        """End it whatever it does: its children end with it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> "ApiProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Asking(threading.Thread):
    """Asks again and again over one kept connection each, until told to end; notes what failed."""

    def __init__(self, api: ApiProcess, instance: dict[str, Any], pause_s: float = 0.005) -> None:
        super().__init__(daemon=True)
        self._api, self._body, self._pause_s = api, json.dumps({"instances": [instance]}), pause_s
        self._ended = threading.Event()
        self.answers: list[Any] = []
        self.failed: list[str] = []
        self.broken = 0  # connections that ended without an answer

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._ended.is_set():
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self._api.port, timeout=20)
                connection.request("POST", "/v1/predict", self._body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                said = answer.read()
                if answer.status == 200:
                    self.answers.append(json.loads(said))
                else:
                    self.failed.append(f"{answer.status} {said.decode()}")
                if answer.getheader("connection") == "close":
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.broken += 1
                self.failed.append(repr(error))
                if connection is not None:
                    connection.close()
                connection = None
            time.sleep(self._pause_s)  # the load, not a synchronisation
        if connection is not None:
            connection.close()

    def stop(self) -> "Asking":
        self._ended.set()
        self.join(30)
        return self


def log_of(folder: Path) -> str:
    """What all API processes of a folder have said."""
    return "\n".join(file.read_text("utf-8") for file in folder.glob("api-*.log"))
