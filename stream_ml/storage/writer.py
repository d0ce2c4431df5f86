"""Writes checkpoints between the turns of the loop, without a copy of the model.

1. What is written is pickled in a thread of its own, which goes on only while `turn` waits for it: of the loop's thread
   and this one, one works at a time. Nobody may change the model until it is pickled (`holds`); scoring does not.
2. Then it is flushed to the disk, read back and named, which asks for turns, too, but holds nothing.
3. A checkpoint that is given up, or whose process ends, leaves at most a file without a name.

A forked process would hold up nothing but its fork, and would come to hold a second model page by page: pickling counts
references in every object. Ten trees of 128 MB: 115 MB more in the fork, 18 MB here (measured).
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Save(Protocol):
    """Writes a checkpoint."""

    def __call__(self, *, passing: Callable[[], None], pickled: Callable[[], None]) -> object:
        """Call `passing` again and again, and `pickled` once what is to be written may change again."""
        ...


class CheckpointWriter:
    """One writer; one thread only. At most one checkpoint is under way."""

    def __init__(self) -> None:
        self._under_way: _UnderWay | None = None
        self._took_s = 0.0

    @property
    def took_s(self) -> float:
        """How long the last one took, from its beginning to its end."""
        return self._took_s

    @property
    def busy(self) -> bool:
        """Whether one is under way."""
        return self._under_way is not None

    @property
    def holds(self) -> bool:
        """Whether what is being written must not change."""
        return self._under_way is not None and not self._under_way.pickled.is_set()

    def begin(self, save: Save) -> None:
        """Begin one; nothing of it is done before `turn`."""
        assert self._under_way is None  # noqa: S101 - callers have looked
        self._under_way = _UnderWay(save)

    def turn(self, budget_s: float) -> bool:
        """Go on for so long, or a little longer; whether it has been written by now, which is said once.

        Raises
        ------
        CheckpointError
            It could not be written; the next one tries again.
        """
        found = self._under_way
        if found is None or not found.turn(budget_s):
            return False
        self._took_s, self._under_way = time.monotonic() - found.began_s, None
        if found.failure is not None:
            raise found.failure
        return True

    def drop(self, *, wait: bool = True) -> None:
        """Give up the one under way, if there is one; without `wait` it may still end what it has asked of the disk."""
        if self._under_way is not None:
            self._under_way.drop(wait=wait)
            self._under_way = None


class _Dropped(BaseException):
    """Ends the thread of a checkpoint that was given up."""


class _UnderWay:
    """One checkpoint and its thread."""

    def __init__(self, save: Save) -> None:
        self._save = save
        self.began_s = time.monotonic()
        self.pickled = threading.Event()
        self.failure: BaseException | None = None
        self._dropped = self._ended = False
        self._until_s = 0.0
        self._may_go, self._rests = threading.Semaphore(0), threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def turn(self, budget_s: float) -> bool:
        """Let it work; whether it has ended."""
        self._until_s = time.monotonic() + budget_s
        if self._rests.is_set():
            self._rests.clear()
            self._may_go.release()
        self._rests.wait(budget_s)  # it may be in a call that takes longer, as to the disk
        return self._ended

    def drop(self, *, wait: bool) -> None:
        """End it where it is."""
        self._dropped = True
        self._may_go.release()
        if wait:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._rest()
            self._save(passing=self._passing, pickled=self.pickled.set)
        except _Dropped:
            pass
        except BaseException as error:  # what it is the loop's thread says
            self.failure = error
        self._ended = True
        self._rests.set()

    def _passing(self) -> None:
        if self._dropped or time.monotonic() >= self._until_s:
            self._rest()

    def _rest(self) -> None:
        """Wait for a turn."""
        if not self._dropped:
            self._rests.set()
            self._may_go.acquire()
        if self._dropped:
            raise _Dropped
