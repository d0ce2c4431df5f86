"""How far a long verb is."""

import sys
import time

from stream_ml.cli.say import say, say_over

SAY_S = 5.0  # between two lines, where nobody looks at a terminal


class Progress:
    """Says how far it is: a line that changes on a terminal, else one every few seconds."""

    def __init__(self) -> None:
        self._said_s, self._live = time.monotonic(), sys.stderr.isatty()

    def __call__(self, what: str, share: float | None) -> None:
        if time.monotonic() - self._said_s < (0.2 if self._live else SAY_S):
            return
        self._said_s = time.monotonic()
        words = what if share is None else f"{what}: {share:.0%}"
        if self._live:
            say_over(words)
        else:
            say(words, err=True)
