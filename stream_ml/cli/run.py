"""``stream-ml run``: refuse what is wrong, fix the hash seed, then turn the loop until a signal."""

import gc
import json
import logging
import os
import signal
import sys
from types import FrameType

from prometheus_client import start_http_server

from stream_ml.config import Config
from stream_ml.core.lineage import hash_seed
from stream_ml.errors import ConfigError
from stream_ml.kafka.topics import inspect_topics

INTERRUPTED = 130

log = logging.getLogger("stream_ml")


def run(config: Config) -> None:
    """Run one worker. SIGTERM ends it after its turn, with a checkpoint and exit code 0; Ctrl-C with 130."""
    set_up_log(config)
    facts = inspect_topics(config)
    fix_hash_seed(facts.training_log_id, config.model.seed)

    from stream_ml.assembly import assemble, checked
    from stream_ml.kafka.clients import reaching
    from stream_ml.metrics import Metrics
    from stream_ml.worker.loop import Worker

    parts = checked(assemble(config))
    metrics = Metrics()
    stop = Stop()
    _serve_metrics(config, metrics)
    with reaching(config):
        worker = Worker(parts, facts, metrics)
        worker.start()
        calm_collector()
        try:
            worker.run(lambda: stop.signal != 0)
        finally:
            worker.close()
    if stop.signal == signal.SIGINT:
        sys.exit(INTERRUPTED)


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
    if os.environ.get("PYTHONHASHSEED") != wanted:
        sys.stdout.flush()
        os.execve(  # noqa: S606 - itself, with its own arguments
            sys.executable,
            [sys.executable, "-m", "stream_ml", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": wanted},
        )


def _serve_metrics(config: Config, metrics: "object") -> None:
    if config.http.port == 0:
        return
    try:
        start_http_server(config.http.port, config.http.host, registry=metrics.registry)  # type: ignore[attr-defined]
    except OSError as error:
        raise ConfigError(
            f"http.port {config.http.port} on {config.http.host} cannot be listened on: {error.strerror}",
            "set http.port to a free one, or to 0 for none",
        ) from error


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        found = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found)


def set_up_log(config: Config) -> None:
    """Log to standard error: one line per change, never one per record."""
    handler = logging.StreamHandler()
    as_json = config.log.format == "json" or (config.log.format == "auto" and not sys.stderr.isatty())
    handler.setFormatter(_JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=config.log.level.upper(), handlers=[handler], force=True)
