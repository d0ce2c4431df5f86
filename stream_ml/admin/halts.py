"""Where learning is halted, as the topics say it."""

import contextlib

from stream_ml.config import Config
from stream_ml.core.drift.signals import decode_signal
from stream_ml.core.log.entry import LaterEntry, decode_entry
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.partition.predictions import halted_at
from stream_ml.errors import ConfigError
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.newest import newest
from stream_ml.kafka.reading.ranges import read_range

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


def check_passable(config: Config, position: int, seal: LogSeal | None) -> None:
    """Refuse to lift a halt at an entry that a later version wrote: no replica obeys.

    Raises
    ------
    ConfigError
        It is such an entry; says what does help.
    """
    topic = (config.training_log_topic, 0)
    first, end = ends(admin(config), [topic])[topic]
    if not first <= position < end:
        return
    for batch in read_range(config, *topic, position, position + 1, keep_alive=lambda: None):
        for record in batch:
            with contextlib.suppress(ValueError):
                _check_known(log_value(record, seal), position)


def _check_known(value: bytes, position: int) -> None:
    try:
        decode_entry(value).check_known()
    except LaterEntry as later:
        raise ConfigError(
            f"at {position} the training log holds {later}: no replica passes it over",
            f"install that version; where you know that none wrote it: stream-ml skip CONFIG {position} --later",
        ) from None
