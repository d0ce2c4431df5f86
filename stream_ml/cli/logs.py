"""The log: one line per change or interval, never per record; JSON where nobody watches, words on a terminal."""

import logging
import re
import sys
import threading
import time
from typing import IO, Any

import structlog

from stream_ml.config import Config
from stream_ml.observe.problems import printable
from stream_ml.observe.traces import with_trace

REPEAT_S = 30.0  # the same thing said by a client again within this time is counted, not written
REMEMBERED_MAX = 1_000  # different things

_NUMBERS = re.compile(r"\d+")


_CLIENT = ("clients", "errors", "reading.ranges", "reading.log_reader", "reading.unpacking")  # librdkafka as the first
CLIENT = {f"stream_ml.kafka.{name}" for name in _CLIENT}
SENDERS = ("opentelemetry.",)  # of spans: a collector that is away is said once a while


class Repeats(logging.Filter):
    """Lets the first of many lines through that differ in numbers only; the next one says how many there were.

    librdkafka writes a line for each attempt to reach a broker, ten a second for each of its clients.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; of other loggers every one is."""
        if record.name not in CLIENT and not record.name.startswith(SENDERS):
            return True
        kind = _NUMBERS.sub("#", record.getMessage())
        now_s = time.monotonic()
        with self._lock:
            since_s, count = self._seen.get(kind, (-REPEAT_S, 0))
            if now_s - since_s < REPEAT_S:
                self._seen[kind] = (since_s, count + 1)
                return False
            if len(self._seen) >= REMEMBERED_MAX:
                self._seen.clear()
            self._seen[kind] = (now_s, 0)
        if count:
            record.msg, record.args = f"{record.getMessage()} ({count} more like it in between)", ()
        return True


def in_json(config: Config, stream: IO[str] | None = None) -> bool:
    """Whether the log's lines are JSON: where it is asked for, or nobody watches."""
    return config.log.format == "json" or (config.log.format == "auto" and not (stream or sys.stderr).isatty())


def set_up_log(config: Config, stream: IO[str] | None = None) -> None:
    """Log to standard error, or to a stream that stands in for it."""
    into = stream or sys.stderr
    as_json = in_json(config, stream)
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        with_trace,
        structlog.processors.TimeStamper(fmt="iso", utc=True)
        if as_json
        else structlog.processors.TimeStamper("%H:%M:%S"),
    ]
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        last += [
            structlog.processors.EventRenamer("message"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        last += [_words]
    handler = logging.StreamHandler(into)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    handler.addFilter(Repeats())
    logging.basicConfig(level=config.log.level.upper(), handlers=[handler], force=True)


def _words(logger: Any, name: str, event: dict[str, Any]) -> str:
    """A line for a terminal: the message holds every number already, so the fields are left out."""
    level = event["level"]
    line = f"{event['timestamp']} {'' if level == 'info' else level.upper() + ' '}{printable(str(event['event']))}"
    hint = f"\n  -> {printable(str(event['hint']))}" if event.get("hint") else ""
    exception = event.get("exc_info")
    trace = logging.Formatter().formatException(exception).split("\n") if exception else []
    return "\n".join([line + hint, *map(printable, trace)])
