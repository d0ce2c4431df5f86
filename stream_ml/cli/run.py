"""``stream-ml run``: refuse what is wrong, fix the hash seed, then turn the loop until a signal."""

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from stream_ml.cli.logs import in_json, set_up_log
from stream_ml.config import Config
from stream_ml.errors import StreamMLError
from stream_ml.kafka.errors import said_of
from stream_ml.kafka.threads import BackgroundCall
from stream_ml.kafka.topics import inspect_topics
from stream_ml.runtime.collector import calm_collector
from stream_ml.runtime.hash_seed import run_under, run_with

T = TypeVar("T")

if TYPE_CHECKING:
    from rich.live import Live

    from stream_ml.core.log.identity import LogIdentity
    from stream_ml.worker.report.report import Report

INTERRUPTED = 130
LOOK_S = 0.1  # between two looks for a signal, while a client waits for Kafka


def run(config: Config) -> None:
    """Run one worker. SIGTERM ends it after its turn, with a checkpoint and exit code 0; Ctrl-C with 130.

    What ends it is the last line of its log, in the log's form.
    """
    set_up_log(config)
    try:
        _run(config)
    except StreamMLError as error:
        if not in_json(config):
            raise
        told = {"hint": error.hint, "exit_code": error.exit_code}
        logging.getLogger(__name__).critical("%s", error.message, extra=told)
        sys.exit(error.exit_code)


def _run(config: Config) -> None:
    from stream_ml.follower.identity import identified

    stop = Stop()
    facts = stop.unless_told(lambda: identified(config, inspect_topics(config), make=True))
    fix_hash_seed(facts.log)

    from stream_ml.app.assemble import assemble
    from stream_ml.app.trial import checked
    from stream_ml.kafka.errors import let_in, reaching
    from stream_ml.observe.access import Access
    from stream_ml.observe.http import Endpoints, serve
    from stream_ml.observe.metrics import Metrics
    from stream_ml.observe.traces import traces_of
    from stream_ml.storage.keys import token_of
    from stream_ml.worker.loop import Worker
    from stream_ml.worker.report.report import ALIVE_S

    parts = checked(assemble(config))
    metrics = Metrics()
    access = Access([socket.gethostname(), config.http.host, *config.http.hosts], token_of(config))
    with reaching(config), contextlib.ExitStack() as stack:
        traces = traces_of(config, metrics, "worker")
        stack.callback(traces.close)
        worker = stop.unless_told(lambda: Worker(parts, facts, metrics, stop.told, traces))
        if config.http.port:
            endpoints = Endpoints(metrics.registry, worker.report, ALIVE_S, access)
            stack.callback(serve(config.http.host, config.http.port, endpoints))
        if watched(config):
            stack.enter_context(_live(worker.report))
            set_up_log(config, sys.stderr)  # which now writes above the display
        try:
            worker.start()
            let_in.set()
            calm_collector()
            worker.run()
        except BaseException as error:
            worker.close(stop.why or f"an error: {said_of(error)}")
            raise
        worker.close(stop.why or f"other certificates ({worker.replaced}), with which it begins anew")
    begin_anew(stop, facts.log)
    if stop.signal == signal.SIGINT:
        sys.exit(INTERRUPTED)


def watched(config: Config) -> bool:
    """Whether somebody looks at a terminal and asked for no other form."""
    return sys.stderr.isatty() and config.log.format == "auto" and os.environ.get("TERM") != "dumb"


def _live(report: "Report") -> "Live":
    from rich.console import Console
    from rich.live import Live

    from stream_ml.observe.terminal import Shown

    return Live(Shown(lambda: report.status), console=Console(stderr=True), refresh_per_second=2)


class Stop:
    """Remembers that SIGTERM or SIGINT came; a second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._come)

    def told(self) -> bool:
        """Whether one came."""
        return self.signal != 0

    @property
    def why(self) -> str | None:
        """Its name."""
        return signal.Signals(self.signal).name if self.signal else None

    def unless_told(self, call: Callable[[], T]) -> T:
        """What the call gives; where a signal comes first the process ends as a worker that was told to does.

        A client's call holds a signal back until it returns, so it is done in another thread.
        """
        aside = BackgroundCall(call)
        while aside.is_alive():
            aside.join(LOOK_S)
            if self.told():
                logging.getLogger(__name__).info("stopping, because of %s: nothing was begun", self.why)
                sys.stdout.flush()
                os._exit(0 if self.signal == signal.SIGTERM else INTERRUPTED)  # the thread that waits would hold it
        return aside.result()

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signal = number


def begin_anew(stop: Stop, log: "LogIdentity") -> None:
    """Run this process anew, unless it was told to stop. It has let go of everything: what comes now ends it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os._exit(INTERRUPTED if number == signal.SIGINT else 0))
    if not stop.signal:
        run_with(str(log.hash_seed))


def fix_hash_seed(log: "LogIdentity") -> None:
    """Run this process anew with the hash seed of the log, unless it has it already."""
    run_under(log.hash_seed)
