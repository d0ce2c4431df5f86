"""Holds the socket, and keeps processes that answer: it starts them, replaces the dead and those that hang.

1. Connections that wait to be accepted outlive a child: the socket is this process's, and every child has it.
2. SIGHUP: for each child a new one is started, and the old one told to stop once that one is ready.
3. SIGTERM: all are told to stop; they drain, then end.
"""

import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError
from stream_ml.kafka.access.certificates import FileWatch
from stream_ml.serve.child import END_S, VARIABLE

SILENT_S = 10.0  # without a word of a child that has spoken before: its loop stands still
FIRST_S = 300.0  # until its first word: it imports, tries its model, and asks Kafka
READY_S = 5.0  # one that was silent for longer is not counted among those that answer
GAP_S = 1.0  # of this process between two turns: the machine stood still, and with it the children
AGAIN_S, AGAIN_MAX_S = 1.0, 30.0  # until a child that died is replaced; twice as long each time it dies soon
SOON_S = 30.0
LOOK_S = 0.2
GRACE_S = 10.0  # beyond drain and what is being answered, until SIGKILL
CONFIG_CODE = 78
OTHER_LOG = 79  # of a child whose log is not the one that its hash seed is of
BACKLOG = 2_048

log = logging.getLogger(__name__)


class Process:
    """One child, as its parent sees it."""

    def __init__(
        self, number: int, command: Sequence[str], listener: socket.socket, environment: dict[str, str], *, waits: bool
    ) -> None:
        self.number, self.began_s = number, time.monotonic()
        say_out, say_in = os.pipe()
        life_out, self._life = os.pipe()
        passed = (listener.fileno(), say_in, life_out)
        variable = ",".join(map(str, (number, *passed, int(waits))))
        self.process = subprocess.Popen(command, pass_fds=passed, env=environment | {VARIABLE: variable})
        for descriptor in (say_in, life_out):
            os.close(descriptor)
        os.set_blocking(say_out, False)
        self.pipe, self.words = say_out, b""  # where it says how it is, and what is no whole line yet
        self.heard_s, self.status = time.monotonic(), dict[str, Any]()
        self.stopping_s: float | None = None

    def read(self) -> None:
        """Take what it has said."""
        try:
            self.words += os.read(self.pipe, 2**20)
        except BlockingIOError:
            return
        self.heard_s = time.monotonic()
        *lines, self.words = self.words.split(b"\n")
        if lines:
            self.status = json.loads(lines[-1])

    @property
    def silent_s(self) -> float:
        """Seconds since its last word, or its start."""
        return time.monotonic() - self.heard_s

    @property
    def hangs(self) -> bool:
        """Whether it has not said anything for too long."""
        return self.silent_s > (SILENT_S if self.status else FIRST_S)

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        lives = self.process.poll() is None and self.stopping_s is None
        return lives and bool(self.status.get("ready")) and self.silent_s < READY_S

    def shown(self) -> dict[str, Any]:
        """What it has said last, without its metrics."""
        known = {"child": self.number, "pid": self.process.pid, "ready": False, "reasons": ["starting"]}
        said = {k: v for k, v in self.status.items() if k != "metrics"}
        return known | said | {"ready": self.ready, "silent_seconds": round(self.silent_s, 1)}

    def stop(self) -> None:
        """Tell it to end."""
        if self.stopping_s is None and self.process.poll() is None:
            self.stopping_s = time.monotonic()
            self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Let go of its pipes."""
        for descriptor in (self.pipe, self._life):
            os.close(descriptor)


class Supervisor:
    """Keeps `serve.processes` children; one thread only.

    So many attributes: they are the children, and what is wanted of them.
    """

    def __init__(self, config: Config, command: Sequence[str], environment: dict[str, str]) -> None:
        self._settings, self._command, self._environment = config.serve, command, environment
        self._listener, self._reserved = listening(config), reserved(config)
        self._selector = selectors.DefaultSelector()
        self.children: list[Process] = []
        self._numbers = 0
        self._due_s: list[float] = []
        self._pause_s = AGAIN_S
        self._rolling: list[Process] | None = None
        self._successor: Process | None = None
        self.restarts, self.stopping, self.hung_up, self.other_log = 0, False, False, False
        self.roll_failed = ""
        self._code = 0
        self._config, self._files = config, FileWatch(config)

    def _start(self) -> Process:
        self._numbers += 1
        waits = any(child.ready for child in self.children)
        child = Process(self._numbers, self._command, self._listener, self._environment, waits=waits)
        self.children.append(child)
        self._selector.register(child.pipe, selectors.EVENT_READ, child)
        return child

    def run(self) -> None:
        """Keep children until told to stop.

        Raises
        ------
        ConfigError
            The first children have ended because of the configuration: they have said what is wrong.
        """
        for _ in range(self._settings.processes):
            self._start()
        turned_s = time.monotonic()
        while not self.stopping or self.children:
            found = self._selector.select(LOOK_S)
            gap_s, turned_s = time.monotonic() - turned_s, time.monotonic()
            for child in self.children if gap_s > GAP_S else ():
                child.heard_s += gap_s
            for key, _ in found:
                key.data.read()
            self._reap()
            if self.stopping:
                self._stop_all()
                continue
            self._replace()
            self._look_at_files()
            self._roll()
        if self._code == CONFIG_CODE:
            raise ConfigError("no process could start: its own message stands above")

    # --- the dead and those that hang ---

    def _reap(self) -> None:
        limit_s = self._settings.drain / 1000 + END_S + GRACE_S
        for child in list(self.children):
            code = child.process.poll()
            if code is None:
                stops_s = 0.0 if child.stopping_s is None else time.monotonic() - child.stopping_s
                if child.hangs or stops_s > limit_s:
                    why = (
                        f"does not end within {limit_s:.0f} s"
                        if stops_s
                        else f"has not turned for {child.silent_s:.0f} s"
                    )
                    log.error("process %d (pid %d) %s: killed", child.number, child.process.pid, why)
                    child.process.kill()
                continue
            self._forget(child)
            if child.stopping_s is None and not self.stopping:
                self._died(child, code)

    def _forget(self, child: Process) -> None:
        child.read()
        self._selector.unregister(child.pipe)
        child.close()
        self.children.remove(child)

    def _died(self, child: Process, code: int) -> None:
        lived_s = time.monotonic() - child.began_s
        if code == OTHER_LOG:
            self.other_log = self.stopping = True
            return
        if child is self._successor:
            self.roll_failed = f"SIGHUP: the new process ended with {code} after {lived_s:.0f} s; the old ones stay"
            log.error("%s", self.roll_failed)
            self._rolling, self._successor = None, None
            return
        first = child.number <= self._settings.processes
        if code == CONFIG_CODE and first and not any(other.ready for other in self.children):
            self._code, self.stopping = code, True
            return
        self.restarts += 1
        self._pause_s = min(AGAIN_MAX_S, 2 * self._pause_s) if lived_s < SOON_S else AGAIN_S
        words = "process %d ended with %d after %.0f s: replaced in %.0f s"
        log.error(words, child.number, code, lived_s, self._pause_s)
        self._due_s.append(time.monotonic() + self._pause_s)

    @property
    def _staying(self) -> int:
        """How many children are not told to stop, successors among them."""
        return sum(child.stopping_s is None for child in self.children)

    def _replace(self) -> None:
        now_s, wanted = time.monotonic(), self._settings.processes
        for due_s in [due_s for due_s in self._due_s if due_s <= now_s]:
            self._due_s.remove(due_s)
            if self._staying < wanted:
                self._try_start()
        while self._rolling is None and self._staying + len(self._due_s) < wanted:  # a successor stood in for it
            self._due_s.append(now_s + self._pause_s)

    def _try_start(self) -> Process | None:
        """A new child; None where the system gives none: it is tried again."""
        try:
            return self._start()
        except OSError as error:
            log.error("no process can be started: %s; tried again in %.0f s", error, AGAIN_MAX_S)
            self._due_s.append(time.monotonic() + AGAIN_MAX_S)
            return None

    # --- a rolling restart ---

    def _look_at_files(self) -> None:
        """Certificates of Kafka's clients that were replaced are seen by new processes alone."""
        replaced = self._files.replaced()
        if replaced:
            log.info("%s: other certificates", replaced)
            self.hung_up, self._files = True, FileWatch(self._config)

    def _roll(self) -> None:
        if self.hung_up and self._rolling is None:
            self.hung_up, self.roll_failed = False, ""
            self._rolling = [child for child in self.children if child.stopping_s is None]
            log.info("SIGHUP: %d processes are replaced, one after the other", len(self._rolling))
        if self._rolling is None:
            return
        self._rolling = [child for child in self._rolling if child in self.children]  # one that died is replaced anyhow
        if self._successor is not None:
            if not self._successor.ready:
                return
            self._successor = None
            if self._rolling and self._staying > self._settings.processes:  # else it stands in for one that died
                self._rolling.pop(0).stop()
        if not self._rolling:
            log.info("all processes are replaced")
            self._rolling = None
        else:
            self._successor = self._try_start()

    # --- the end ---

    def _stop_all(self) -> None:
        for child in self.children:
            child.stop()

    # --- what is said of all ---

    def status(self) -> dict[str, Any]:
        """How it is, of all processes."""
        shown = [child.shown() for child in list(self.children)]
        ready = sum(child.ready for child in list(self.children))
        return {
            "format": 1,
            "ready": ready > 0 and not self.stopping,
            "processes": {"wanted": self._settings.processes, "ready": ready, "restarts": self.restarts},
            "reasons": self.reasons(),
            "problems": sorted({*(text for child in shown for text in child.get("problems", [])), *self._problems()}),
            "children": shown,
        }

    def _problems(self) -> list[str]:
        """What is wrong with the processes themselves."""
        wanted, ready = self._settings.processes, sum(child.ready for child in list(self.children))
        found = [one for one in (self.roll_failed, self._files.problem) if one]
        if 0 < ready < wanted:
            found.append(f"{ready} of {wanted} processes answer")
        return found

    def reasons(self) -> list[str]:
        """Why nothing is answered; empty where at least one process answers."""
        if self.stopping:
            return ["about to end"]
        children = list(self.children)
        if any(child.ready for child in children):
            return []
        said = [reason for child in children for reason in child.status.get("reasons", [])]
        return said[:3] or ["starting: no process has said anything yet"]


def listening(config: Config) -> socket.socket:
    """The socket of the API; ConfigError where it cannot be listened on."""
    serve = config.serve
    family = socket.AF_INET6 if ":" in serve.host else socket.AF_INET
    # Of a listener without the protocol's number asyncio's loop leaves Nagle's algorithm on: 40 ms for each answer.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        found.bind((serve.host, serve.port))
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise _taken("port", serve.host, serve.port, error) from error
    found.setblocking(False)
    return found


def reserved(config: Config) -> socket.socket | None:
    """A socket that keeps the port of gRPC for this process's children, who listen on it themselves by SO_REUSEPORT;
    None without it. ConfigError where another process has the port."""
    serve = config.serve
    if serve.grpc_port is None:
        return None
    family = socket.AF_INET6 if ":" in serve.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as alone:  # without SO_REUSEPORT nobody else may have it
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((serve.host, serve.grpc_port))
            alone.listen(1)
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((serve.host, serve.grpc_port))
    except OSError as error:
        raise _taken("grpc_port", serve.host, serve.grpc_port, error) from error
    return found


def _taken(name: str, host: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"serve.{name} {port} on {host} cannot be listened on: {error.strerror or error}",
        f"another process has it? --set serve.{name}={port + 10}",
    )


def own_command() -> list[str]:
    """What this process was started with."""
    if not sys.argv:
        raise FatalError("this process does not know how it was started")
    return [sys.executable, "-m", "stream_ml", *sys.argv[1:]]
