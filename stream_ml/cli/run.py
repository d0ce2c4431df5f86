"""``stream-ml run``: refuse what is wrong, fix the hash seed, then turn the loop until a signal."""

import contextlib
import gc
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from stream_ml.cli.logs import set_up_log
from stream_ml.config import Config
from stream_ml.core.lineage import hash_seed
from stream_ml.hash_seed import VARIABLE, remember, run_with
from stream_ml.kafka.topics import inspect_topics

if TYPE_CHECKING:
    from rich.live import Live

    from stream_ml.worker.report import Report

INTERRUPTED = 130


def run(config: Config) -> None:
    """Run one worker. SIGTERM ends it after its turn, with a checkpoint and exit code 0; Ctrl-C with 130."""
    set_up_log(config)
    facts = inspect_topics(config)
    fix_hash_seed(facts.training_log_id, config.model.seed)

    from stream_ml.assembly import assemble, checked
    from stream_ml.endpoints import Endpoints, serve
    from stream_ml.kafka.clients import reaching
    from stream_ml.metrics import Metrics
    from stream_ml.worker.loop import Worker
    from stream_ml.worker.report import ALIVE_S

    parts = checked(assemble(config))
    metrics = Metrics()
    stop = Stop()
    with reaching(config), contextlib.ExitStack() as stack:
        worker = Worker(parts, facts, metrics)
        if config.http.port:
            endpoints = Endpoints(metrics.registry, worker.report, ALIVE_S)
            stack.callback(serve(config.http.host, config.http.port, endpoints))
        if watched(config):
            stack.enter_context(_live(worker.report))
            set_up_log(config, sys.stderr)  # which now writes above the display
        worker.start()
        calm_collector()
        try:
            worker.run(lambda: stop.signal != 0)
        finally:
            worker.close()
    if stop.signal == signal.SIGINT:
        sys.exit(INTERRUPTED)


def watched(config: Config) -> bool:
    """Whether somebody looks at a terminal and asked for no other form."""
    return sys.stderr.isatty() and config.log.format == "auto" and os.environ.get("TERM") != "dumb"


def _live(report: "Report") -> "Live":
    from rich.console import Console
    from rich.live import Live

    from stream_ml.live import Shown

    return Live(Shown(lambda: report.status), console=Console(stderr=True), refresh_per_second=2)


class Stop:
    """Remembers that SIGTERM or SIGINT came; a second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._come)

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signal = number


def calm_collector() -> None:
    """Keep the garbage collector off what stays: nothing on the path of a record makes cycles.

    With Python's thresholds a turn costs 10 % more, and a full collection walks every pending event.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def fix_hash_seed(topic_id: str, seed: int) -> None:
    """Run this process anew with the hash seed that its model asks for, unless it has it already."""
    wanted = str(hash_seed(topic_id, seed))
    remember(wanted)
    if os.environ.get(VARIABLE) != wanted:
        run_with(wanted)
