"""Keeps checkpoints of a directory in a bucket, too, and brings those that are missing here.

1. The directory stays what the loop writes and reads. A thread of its own takes what was written to the bucket; one
   that is away, slow or full costs the loop nothing, is said, and is tried again with what is newest by then.
2. Only at a start it is waited for: the newest checkpoint may lie there alone, as on a machine that is new.
3. What comes from the bucket passes the same checks as a file: seal, digest, name, before a byte of it is unpickled.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from stream_ml.errors import CheckpointError
from stream_ml.storage.bucket import Bucket
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.packing import PAYLOAD_BYTES_MAX
from stream_ml.storage.retention import kept_of, position_of

AGAIN_S, AGAIN_MAX_S = 1.0, 60.0  # until the next try
LOOK_S = 0.1  # how often it is asked whether to go on waiting
FETCHED_MAX = 5  # checkpoints that are brought for one folder: behind so many bad ones the log is nearer

log = logging.getLogger(__name__)


T = TypeVar("T")


class Pruned(Exception):
    """The checkpoint is gone here by now."""


class Mirror:
    """One bucket, and the thread that writes to it.

    Attributes
    ----------
    problem
        Why the bucket does not have what is newest; empty where it has.

    So many attributes: what waits, what went wrong and what it says of that are of one thread.
    """

    def __init__(self, bucket: Bucket, directory: Path, *, wait_s: float) -> None:
        self._bucket, self._directory, self._wait_s = bucket, directory, wait_s
        self._waiting: dict[str, tuple[CheckpointStore, int]] = {}  # by folder: what is newest there
        self._changed, self._ends, self._pause_s = threading.Condition(), False, AGAIN_S
        self._until_s: float | None = None  # of the waiting at a start, once it has begun
        self.problem = ""
        threading.Thread(target=self._run, name="bucket", daemon=True).start()

    # --- from here to there ---

    def offer(self, store: CheckpointStore, position: int) -> None:
        """Have a checkpoint kept in the bucket; returns at once."""
        with self._changed:
            self._waiting[self._folder(store)] = (store, position)
            self._changed.notify_all()

    def close(self, most_s: float) -> None:
        """Let what waits go there, for at most so long; say what does not."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or bool(self.problem), most_s)
            self._ends = True
            self._changed.notify_all()
            if self._waiting:
                why = self.problem or f"not within {most_s:.1f} s (checkpoints.stop_wait)"
                log.warning("the last checkpoints of %s are not in the bucket: %s", ", ".join(self._waiting), why)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ends or bool(self._waiting))
                if self._ends:
                    return
                folder, (store, position) = next(iter(self._waiting.items()))
            try:
                self._keep(folder, store, position)
            except Pruned:  # a newer one is offered, or will be
                with self._changed:
                    self._done(folder, position)
            except CheckpointError as error:
                self._failed(error)
            except BaseException as error:  # a client's panic is no Exception; this thread must not end in silence
                log.exception("the bucket's client failed")
                self._failed(CheckpointError(f"the bucket's client failed: {type(error).__name__}: {error}"[:300]))
            else:
                self._kept(folder, position)

    def _keep(self, folder: str, store: CheckpointStore, position: int) -> None:
        try:
            file = store.raw(position)
        except FileNotFoundError:
            raise Pruned from None
        except OSError as error:
            raise CheckpointError(f"checkpoint {position} of {folder} cannot be read: {error.strerror}") from error
        with file:
            self._bucket.create(f"{folder}/{store.name_of(position)}", file)
        there = {at: name for name in self._bucket.names(folder) if (at := position_of(name)) is not None}
        pinned = {name.partition(".")[0] for name in (*self._bucket.names(f"{folder}/pins"), *store.pins())}
        kept = kept_of(there, position, store.keep, spaced=store.spaced)
        gone = [
            at
            for at in there
            if at <= position and at not in kept and store.name_of(at).partition(".")[0] not in pinned
        ]
        self._bucket.delete([f"{folder}/{there[at]}" for at in gone])

    def _kept(self, folder: str, position: int) -> None:
        with self._changed:
            self._done(folder, position)
            if self.problem:
                log.info("checkpoints reach %s again", self._bucket.url)
            self.problem, self._pause_s = "", AGAIN_S
            self._changed.notify_all()

    def _done(self, folder: str, position: int) -> None:
        """Take one from the line; where a newer one has been offered meanwhile, that one has to wait its turn."""
        offered = self._waiting.pop(folder)
        if offered[1] != position:
            self._waiting[folder] = offered

    def _failed(self, error: CheckpointError) -> None:
        with self._changed:
            if not self.problem:
                log.error("%s; checkpoints stay in %s, and it is tried again", error.message, self._directory)
            self.problem = error.message
            folder = next(iter(self._waiting), "")
            if folder:  # the next one first: it may be about this one alone
                self._waiting[folder] = self._waiting.pop(folder)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ends, self._pause_s)
            self._pause_s = min(AGAIN_MAX_S, 2 * self._pause_s)

    # --- from there to here ---

    def newest(
        self, store: CheckpointStore, at_most: int | None, waits: Callable[[], bool] = lambda: True
    ) -> Iterator[Checkpoint | CheckpointError]:
        """As of the store, with those that only the bucket has; each is brought when it is asked for.

        Parameters
        ----------
        waits
            Asked again and again while the bucket is waited for: whether to go on. `wait_s` after the first question
            that is over anyhow, for all folders together; what is here has to do then.
        """
        folder = self._folder(store)
        try:
            names = self._waited(lambda: self._bucket.names(folder), waits, f"{self._bucket.url}/{folder}")
        except CheckpointError as error:
            yield error
            names = []
        there = {at: name for name in names if (at := position_of(name)) is not None}
        here, fetched = set(store.positions()), 0
        for position in sorted(here | set(there), reverse=True):
            if at_most is not None and position > at_most:
                continue
            try:
                if position not in here:
                    if fetched >= FETCHED_MAX:
                        continue
                    fetched += 1
                    name = there[position]
                    fetch = partial(self._fetch, folder, name, store, position)
                    self._waited(fetch, waits, f"{self._bucket.url}/{folder}/{name}")
                found: Checkpoint | CheckpointError = store.read(position)
            except CheckpointError as error:
                found = error
            yield found

    def _waited(self, work: Callable[[], T], waits: Callable[[], bool], what: str) -> T:
        """What some work gives; in a thread of its own, which is left behind where it takes too long."""
        if self._until_s is None:
            self._until_s = time.monotonic() + self._wait_s
        results: list[T] = []
        failures: list[CheckpointError] = []

        def run() -> None:
            try:
                results.append(work())
            except CheckpointError as error:
                failures.append(error)

        thread = threading.Thread(target=run, name="bucket-asked", daemon=True)
        thread.start()
        while thread.is_alive():
            if time.monotonic() > self._until_s or not waits():
                raise CheckpointError(f"{what} is not waited for any longer (checkpoints.bucket.wait)")
            thread.join(LOOK_S)
        if not results:
            raise failures[0] if failures else CheckpointError(f"{what}: the bucket's client failed")
        return results[0]

    def _fetch(self, folder: str, name: str, store: CheckpointStore, position: int) -> None:
        began_s = time.monotonic()
        with store.adopting(position) as file:
            self._bucket.read(f"{folder}/{name}", file, PAYLOAD_BYTES_MAX)
        log.info("checkpoint %d of %s came from the bucket in %.1f s", position, folder, time.monotonic() - began_s)

    def _folder(self, store: CheckpointStore) -> str:
        return store.folder.relative_to(self._directory).as_posix()
