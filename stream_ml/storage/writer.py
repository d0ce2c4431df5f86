"""Writes checkpoints without holding up the loop: in a forked process, once one has taken longer than PAUSE_MAX_S.

1. The child has the model as it stood at the fork, and shares its memory; only the thread that forked runs in it.
2. It touches no client, logs nothing, collects no garbage, and ends by ``os._exit``: nothing of the parent is closed.
3. What it writes is what the parent would have: digested, read back, named by position. A child that dies leaves at
   most a file without a name.
"""

import contextlib
import gc
import os
import time
import warnings
from collections.abc import Callable
from typing import Literal

from stream_ml.errors import CheckpointError

PAUSE_MAX_S = 0.05  # the fork itself takes about 5 ms with 300 MB
_TEXT_MAX = 4_096  # of an error, through a pipe that nobody reads until the child has ended

Outcome = Literal["written", "under way"]


class CheckpointWriter:
    """One writer; one thread only. At most one checkpoint is under way."""

    def __init__(self) -> None:
        self._took_s = 0.0
        self._child: tuple[int, int, float] | None = None  # process, its pipe, since when

    @property
    def took_s(self) -> float:
        """How long the last one took."""
        return self._took_s

    @property
    def busy(self) -> bool:
        """Whether one is under way."""
        return self._child is not None

    def write(self, save: Callable[[], object], *, wait: bool = False) -> Outcome:
        """Write one, here where that is quick, or `wait` is set; else in a process of its own.

        Raises
        ------
        CheckpointError
            It could not be written; the next one tries again.
        """
        if wait:
            self.finish()
        if not wait and self._took_s > PAUSE_MAX_S and hasattr(os, "fork"):
            self._child = self._forked(save)
            return "under way"
        started_s = time.monotonic()
        save()
        self._took_s = time.monotonic() - started_s
        return "written"

    def poll(self) -> bool:
        """Whether the one that was under way has been written by now; CheckpointError where it failed."""
        if self._child is None:
            return False
        return self._reap(os.WNOHANG)

    def finish(self) -> None:
        """Wait for the one under way, whatever becomes of it."""
        with contextlib.suppress(CheckpointError):
            if self._child is not None:
                self._reap(0)

    def _forked(self, save: Callable[[], object]) -> tuple[int, int, float]:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child needs none of their locks
            process = os.fork()
        if process:
            os.close(writing)
            return process, reading, time.monotonic()
        code = 1
        try:
            gc.disable()
            save()
            code = 0
        except BaseException as error:  # the child must end here, whatever it was
            with contextlib.suppress(OSError):
                os.write(writing, f"{error}".encode()[:_TEXT_MAX])
        finally:
            os._exit(code)

    def _reap(self, options: int) -> bool:
        assert self._child is not None  # noqa: S101 - callers have looked
        process, reading, since_s = self._child
        ended, status = os.waitpid(process, options)
        if not ended:
            return False
        self._child = None
        self._took_s = time.monotonic() - since_s
        with os.fdopen(reading, "rb") as pipe:
            text = pipe.read(_TEXT_MAX).decode("utf-8", "replace")
        if status:
            code = os.waitstatus_to_exitcode(status)
            raise CheckpointError(text or f"the process that wrote a checkpoint ended with {code}")
        return True
