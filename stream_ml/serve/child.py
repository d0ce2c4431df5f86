"""One process that answers: the model, the server and the fold in one thread; what it says of itself goes up a pipe.

::

    starting (the log is folded; 503) ──► answering ──► draining ──► ended

A child ends when its supervisor does: the pipe that it reads from ends.
"""

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from stream_ml.app.parts import Parts
from stream_ml.errors import ConfigError, StreamMLError
from stream_ml.follower.follower import Follower
from stream_ml.kafka.access.refusals import refusals, words_of
from stream_ml.kafka.errors import let_in, reaching
from stream_ml.kafka.reading.jobs import JobWatch
from stream_ml.kafka.reading.labels import LabelReader
from stream_ml.kafka.reading.log_heartbeat import LogHeartbeat
from stream_ml.kafka.topics import TopicFacts
from stream_ml.observe.metrics import SERVE_TABLE, Metrics
from stream_ml.observe.traces import traces_of
from stream_ml.serve.access.certificates import Certificates
from stream_ml.serve.access.gate import Gate
from stream_ml.serve.access.guard import Guard
from stream_ml.serve.api import hints_of, routes_of
from stream_ml.serve.http.app import Application
from stream_ml.serve.http.messages import Routes
from stream_ml.serve.http.server import Server
from stream_ml.serve.live import Live
from stream_ml.serve.producer import Writer
from stream_ml.storage.keys import log_seal

if TYPE_CHECKING:
    from stream_ml.serve.rpc.server import RpcServer

SAY_S = 0.5  # between two words to the supervisor
END_S = 5.0  # for requests that are being answered, once the time to drain is over
JOBS_S = 5.0  # at the start, for what is known of jobs; until then whoever asks for one is told 503
OWN_FILES = 256  # of Kafka's clients, the log, keys and certificates
VARIABLE = "CHILD_OF_STREAM_ML"  # none of the configuration's, which begin with its name

log = logging.getLogger(__name__)


class Pipes(NamedTuple):
    """What a child was given: its number, the listening socket, where it says how it is, and what ends with its parent.

    All three are file descriptors. `waits` 1: others answer, so it takes no connection before its model is ready.
    """

    number: int
    listener: int
    say: int
    life: int
    waits: int = 0

    @classmethod
    def of_environment(cls) -> "Pipes | None":
        """Those of this process; None where it is no child."""
        text = os.environ.pop(VARIABLE, "")
        return cls(*map(int, text.split(","))) if text else None


class Child:
    """One process.

    So many attributes: they are what runs beside each other.
    """

    def __init__(self, parts: Parts, facts: TopicFacts, pipes: Pipes) -> None:
        config = self._config = parts.config
        self._settings, self._pipes = config.serve, pipes
        self._metrics, self._stop = Metrics(SERVE_TABLE), threading.Event()
        seal = log_seal(config, facts.training_log_topic_id)
        follower = Follower(parts, facts, Metrics(), lambda: None, seal, reads_only=True)
        self._live = Live(parts, follower, LogHeartbeat(config, facts))
        settings = self._settings
        writes = settings.feedback or settings.record != "off" or settings.jobs is not None
        self._writer = Writer(config) if writes else None
        self._jobs = JobWatch(config) if settings.jobs is not None else None
        table, self._info, inferences = routes_of(
            parts, self._live, self._writer, LabelReader(config, seal), self._jobs
        )
        guard = Guard(config, lambda: self._metrics.count("auth_failures"))
        self._traces = traces_of(config, self._metrics, "api")
        self._gate = Gate(config, guard, self._metrics, self._traces)
        hosts = [socket.gethostname(), config.serve.host, *config.http.hosts]
        application = Application(config, Routes(table, hints_of(parts)), self._gate, hosts)
        self._certificates = Certificates.of(config)
        self._rpc: RpcServer | None = None
        if config.serve.grpc_port is not None:
            from stream_ml.serve.rpc import server as rpc

            self._rpc = rpc.RpcServer(config, self._gate, inferences, self._certificates)
        self._server = Server(config, application, self._certificates, self._gate.refused_unread, end_s=END_S)
        self._begun = asyncio.Event()  # its model answers, or it is about to end
        self._folded, self._evicted, self._unsent = 0, 0, b""
        self._failure: BaseException | None = None

    # --- a life ---

    async def run(self) -> None:
        """Answer until SIGTERM, or until the supervisor is gone; StreamMLError where that cannot go on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_reader(self._pipes.life, self._told_to_stop)
        listener = socket.socket(fileno=self._pipes.listener)
        saying = asyncio.create_task(self._say())
        start = asyncio.create_task(self._start())
        try:
            if self._pipes.waits:
                await self._begun.wait()
            await self._server.serve([listener])
            if self._rpc is not None:
                await self._rpc.stop(END_S)
        finally:
            for task in (saying, start):
                task.cancel()
            self._told()
            if self._writer is not None:
                self._writer.close()
            self._live.close()
            self._traces.close()
            if self._jobs is not None:
                self._jobs.close()
        if self._failure is not None:
            raise self._failure

    async def _start(self) -> None:
        """Fold to the log's end, then follow it; what goes wrong ends the process."""
        try:
            with reaching(self._config):
                if self._jobs is not None:
                    self._jobs.begin()
                    await asyncio.to_thread(self._jobs.caught_up.wait, JOBS_S)
                await asyncio.to_thread(self._live.start, self._stop.is_set)
                if self._stop.is_set():
                    return
                moment = self._live.moment
                assert moment is not None  # noqa: S101 - the start has ended
                if self._rpc is not None:
                    await self._rpc.start()
                self._begun.set()
                let_in.set()
                log.info("answering: version %s/%d, %d examples learned", *moment.of[:2], moment.of.examples_learned)
                await self._live.follow()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if not isinstance(error, StreamMLError):
                log.exception("the fold failed")
            self._failure = error
            self._end()

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            return
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ValueError, OSError):
            loop.remove_reader(self._pipes.life)
        self._stop.set()
        self._info.draining = self._gate.draining = True
        log.info("about to end: connections are closed in %.1f s", self._settings.drain / 1000)
        loop.call_later(self._settings.drain / 1000, self._end)

    def _end(self) -> None:
        self._server.should_exit = True
        self._begun.set()

    # --- what it says ---

    async def _say(self) -> None:
        os.set_blocking(self._pipes.say, False)
        while True:
            if self._certificates is not None:
                self._certificates.look()
            if self._rpc is not None:
                await self._rpc.say(is_ready=not self._info.reasons())
            self._told()
            await asyncio.sleep(SAY_S)

    def _told(self) -> None:
        """One line to the supervisor; what a full pipe does not take goes before the next one, so that none is cut."""
        self._unsent = self._unsent or json.dumps(self.status()).encode() + b"\n"
        with contextlib.suppress(OSError):
            self._unsent = self._unsent[os.write(self._pipes.say, self._unsent) :]

    def status(self) -> dict[str, Any]:
        """How this process is, with its metrics."""
        live, metrics, reasons = self._live, self._metrics, self._info.reasons()
        moment, age_s = live.moment, live.age_s
        metrics.set("serve_ready", not reasons)
        metrics.set("serve_age_seconds", age_s)
        metrics.set("serve_in_flight", self._gate.in_flight)
        metrics.set("serve_position", 0 if moment is None else moment.of.position)
        metrics.count("serve_folded", live.folded - self._folded)
        self._folded = live.folded
        metrics.set("serve_connections", self._server.limits.count)
        metrics.count("serve_evicted", self._server.limits.evicted - self._evicted)
        self._evicted = self._server.limits.evicted
        refusal = refusals.recent if live.is_stale else None
        refused = [] if refusal is None else [words_of(refusal, self._config, asks=False)[0]]
        told = (self._gate.guard, self._certificates, self._writer, self._jobs)
        return {
            "child": self._pipes.number,
            "pid": os.getpid(),
            "ready": not reasons,
            "reasons": reasons,
            "problems": [*refused, *(one.problem for one in told if one is not None and one.problem)],
            "model": None if moment is None else moment.of._asdict(),
            "age_seconds": None if age_s == float("inf") else round(age_s, 3),
            "stale": live.is_stale,
            "in_flight": self._gate.in_flight,
            "at": time.time(),
            "metrics": [
                [family.name, family.type, family.documentation, [[s.name, s.labels, s.value] for s in family.samples]]
                for family in metrics.registry.collect()
            ],
        }


def room_for(connections: int) -> None:
    """Let this process have so many connections beside its own files; ConfigError where the system forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OWN_FILES
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"serve.connections_max {connections} and {OWN_FILES} files of its own are more than this process may open "
            f"({hard}: ulimit -Hn)",
            "raise that limit, or set serve.connections_max lower",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run_child(parts: Parts, facts: TopicFacts, pipes: Pipes) -> None:
    """Run one until it ends."""
    import uvloop

    serve = parts.config.serve
    room_for(serve.connections_max * (1 if serve.grpc_port is None else 2))
    child = Child(parts, facts, pipes)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(child.run())
