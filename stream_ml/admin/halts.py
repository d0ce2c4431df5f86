"""Where learning is halted, as the topics say it."""

import contextlib

from stream_ml.config import Config
from stream_ml.core.drift.signals import decode_signal
from stream_ml.core.partition.predictions import halted_at
from stream_ml.errors import ConfigError
from stream_ml.kafka.reading.newest import newest

SIGNALS_READ = 1_000  # newest ones, to see which halts have not ended


def halts(config: Config) -> set[int]:
    """Positions at which learning is halted, as the newest predictions say, or a signal that no end followed.

    Each is written with a transaction of a worker's: a halt of this moment may not stand there yet.
    """
    found = set()
    for record in newest(config, config.predictions.topic, 1)[0]:
        with contextlib.suppress(ValueError):
            position = halted_at(record.value or b"", config.predictions.framing)
            found |= set() if position is None else {position}
    halted: dict[str, int] = {}
    for record in newest(config, config.signals, SIGNALS_READ)[0]:
        with contextlib.suppress(ValueError):
            signal = decode_signal(record.value or b"")
            if signal.kind == "halted":
                halted[signal.origin] = signal.position
            elif signal.kind == "resumed":
                halted.pop(signal.origin, None)
    return found | set(halted.values())


def check_halted(config: Config, position: int, verb: str) -> None:
    """Refuse to lift a halt that is none: it would do nothing, and be taken for an end of what never began.

    Raises
    ------
    ConfigError
        Learning is not halted there; it names where it is.
    """
    known = sorted(halts(config))
    if position in known:
        return
    there = "; ".join(f"stream-ml {verb} CONFIG {at}" for at in known)
    raise ConfigError(
        f"learning is not halted at {position}" + (f", but at {', '.join(map(str, known))}" if known else ""),
        there or "where it is halted stands in stream-ml top CONFIG; --anyway writes the command all the same",
    )
