"""Places at which a test can end, stop, slow or break a worker; while none is set, a place costs a call of nothing.

``STREAM_ML_FAIL_POINTS="after-flush:kill:3, before-commit:kill:2:5ms"`` names places, what happens there, at which
passing (the first where it is left out), and, for kill, stop and sleep, how much later or for how long.
"""

import errno
import os
import signal
import threading
import time
from collections import Counter
from typing import Literal, NamedTuple, get_args

from stream_ml.errors import ConfigError
from stream_ml.units import duration_ms

VARIABLE = "STREAM_ML_FAIL_POINTS"

Place = Literal[
    "after-consume",
    "after-decode",
    "after-process",
    "some-produced",
    "after-produce",
    "after-flush",
    "after-offsets",
    "before-commit",
    "after-commit",
    "between-applies",
    "on-revoke",
    "on-assign",
    "after-claim",
    "in-rebuild",
    "after-fold",
    "checkpoint-probed",
    "checkpoint-written",
    "checkpoint-synced",
    "checkpoint-named",
    "before-prune",
    "model-declared",
    "model-joins",
    "model-serves",
    "jobs-taken",
    "jobs-scored",
    "jobs-committed",
]
Action = Literal["kill", "stop", "sleep", "raise", "full"]


class Armed(NamedTuple):
    """What is to happen at a place: `passing` counts from 1; `ms` later (kill, stop) or for so long (sleep)."""

    action: Action
    passing: int
    ms: int


class Injected(Exception):
    """Raised at a place because a test asked for it."""


def parse(text: str) -> dict[str, Armed]:
    """Places and what is to happen there; ConfigError where a word is unknown."""
    found: dict[str, Armed] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        place, action, *rest = [*part.split(":"), ""]
        numbers = [word for word in rest if word]
        try:
            if place not in get_args(Place) or action not in get_args(Action) or len(numbers) > 2:
                raise ValueError(f"places are {', '.join(get_args(Place))}; actions {', '.join(get_args(Action))}")
            found[place] = Armed(
                action,  # type: ignore[arg-type]
                int(numbers[0]) if numbers else 1,
                duration_ms(numbers[1]) if len(numbers) > 1 else 0,
            )
        except ValueError as error:
            raise ConfigError(f"{VARIABLE}: {part!r} is no place:action:passing:time: {error}") from error
    return found


class FailPoints:
    """The places of one process."""

    def __init__(self, armed: dict[str, Armed]) -> None:
        self._armed = armed
        self._passed: Counter[str] = Counter()

    def passes(self, place: Place) -> None:
        """Do what is to be done here, if this is the passing."""
        armed = self._armed.get(place)
        if armed is None:
            return
        self._passed[place] += 1
        if self._passed[place] != armed.passing:
            return
        if armed.action == "raise":
            raise Injected(f"fail point {place}")
        if armed.action == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if armed.action == "sleep":
            time.sleep(armed.ms / 1000)  # what was asked for
        elif armed.ms:
            number = _SIGNALS[armed.action]
            threading.Timer(armed.ms / 1000, os.kill, (os.getpid(), number)).start()
        else:
            os.kill(os.getpid(), _SIGNALS[armed.action])


_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def _nothing(place: Place) -> None:
    """Nothing is armed."""


_text = os.environ.get(VARIABLE, "")
passes = FailPoints(parse(_text)).passes if _text else _nothing
