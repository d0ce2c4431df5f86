"""The model that answers, folded between requests in the loop's own thread.

1. Nothing awaits between the reading of `moment` and the last score of a request: its version is that of all scores.
2. Age is from the last moment at which Kafka itself said where the log ends, and everything before that was folded.
3. While it is behind it folds a share of its time, as long as requests come; else it does nothing else.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Protocol

from stream_ml.app.parts import Parts
from stream_ml.core.api.problems import Problem
from stream_ml.core.api.scoring import Moment
from stream_ml.errors import FatalError
from stream_ml.follower.follower import Follower
from stream_ml.follower.moments import Moments
from stream_ml.follower.said import folded_words
from stream_ml.kafka.reading.log_heartbeat import Heard
from stream_ml.records import BY_LABEL

IDLE_S = 0.005  # between two looks at a log that is quiet: half of it is what a label waits longer
BUSY_S = 0.05  # after a request others are expected to come
NEVER_S = -math.inf  # before any time of `time.monotonic`
WAITERS_MAX = 64  # requests that wait for a position at once: they are counted apart from those that are answered

log = logging.getLogger(__name__)


class Heartbeat(Protocol):
    """Says where the log ends, as Kafka itself says it.

    Attributes
    ----------
    heard
        The last answer; None before the first.
    wrong
        Why the log can no longer be followed; empty while it can.
    """

    heard: Heard | None
    wrong: str

    def begin(self) -> None:
        """Ask from now on."""

    def close(self) -> None:
        """Ask no more."""


class Live:
    """One follower and its age; one event loop only.

    Attributes
    ----------
    moment
        None until the log was folded.
    wrong
        Why this process cannot go on; empty while it can.

    So many attributes: what answers and how old it is are looked at in every request.
    """

    def __init__(self, parts: Parts, follower: Follower, beat: Heartbeat) -> None:
        config = parts.config
        self._settings, self._lag_max_s = config.serve, config.learning.lag_max / 1000
        self.follower, self._beat = follower, beat
        self._moments = Moments(parts, follower, config.serve.instances_max)
        self.wrong = ""
        self._fresh_s, self._asked_s = NEVER_S, NEVER_S
        self._heard: Heard | None = None
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self.folded = 0  # entries since the start

    @property
    def moment(self) -> Moment | None:
        """Who answers until the next fold; None before the start has ended."""
        return self._moments.now

    @property
    def instances_max(self) -> int:
        """In one request."""
        return self._settings.instances_max

    # --- the start, in a thread of its own ---

    def start(self, stop: Callable[[], bool]) -> None:
        """Load checkpoints and fold to the log's end; nothing else may touch the model meanwhile."""
        self._beat.begin()
        self.follower.start(stop)
        if not stop():
            self._renew()

    @property
    def start_words(self) -> str:
        """How far the start is."""
        folding = self.follower.folding
        return "starting: reading the training log" if folding is None else f"starting: {folded_words(folding)}"

    # --- beside requests ---

    async def follow(self) -> None:
        """Fold for ever."""
        slice_s, share = self._settings.fold_slice / 1000, self._settings.fold_share
        while True:
            began_s, position = time.monotonic(), self.follower.replica.read_position
            self.follower.turn(slice_s)
            took_s = time.monotonic() - began_s
            self.folded += max(0, self.follower.replica.read_position - position)
            if self.follower.replica.read_position != position or self._beat.heard is not self._heard or self._moves:
                self._renew()
                self._wake()
            if self._beat.wrong:
                raise FatalError(self._beat.wrong)
            if not self.follower.behind and not self.follower.chases:
                await asyncio.sleep(IDLE_S)
            elif began_s - self._asked_s < BUSY_S:
                await asyncio.sleep(took_s * (1 - share) / share)
            else:
                await asyncio.sleep(0)

    @property
    def _moves(self) -> bool:
        """Whether who answers may change though nothing comes: a model is behind, or is made anew."""
        return bool(self.follower.lineup.chasing) or self.moment is None or self.moment.model.is_to_be_remade

    def _renew(self) -> None:
        """Look at who answers, and whether that is all that Kafka has."""
        heard, follower = self._beat.heard, self.follower
        self._heard = heard
        before, behind = self.moment, self._moments.is_behind
        if heard is not None and heard.asked_s > self._fresh_s and follower.is_past(heard.end) and not behind:
            self._fresh_s = heard.asked_s
        elif behind and (before is None or before.model is not follower.serving.model):
            self._fresh_s = NEVER_S  # a successor that is still on its way: nobody knows how old it is
        self._moments.renew()

    # --- how old it is ---

    @property
    def age_s(self) -> float:
        """Seconds since everything that Kafka had was in the model; infinite before that."""
        return time.monotonic() - self._fresh_s

    @property
    def is_stale(self) -> bool:
        """Whether predictions are flagged so."""
        return self.age_s > self._lag_max_s

    def answering(self) -> Moment:
        """Who answers now; Problem where nobody can."""
        self._asked_s = time.monotonic()
        if self.moment is None:
            raise Problem("starting", self.start_words, headers={"Retry-After": "2"})
        return self.moment

    # --- waiting for what is not here yet ---

    async def wait(self, is_here: Callable[[], bool], wait_s: float) -> bool:
        """Wait until something is folded; whether it is."""
        if is_here():
            return True
        if wait_s <= 0 or len(self._waiting) >= WAITERS_MAX:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (is_here, future)
        self._waiting.append(waiting)
        try:
            await asyncio.wait_for(future, wait_s)
        except TimeoutError:
            return is_here()
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
        return True

    def _wake(self) -> None:
        for waiting in list(self._waiting):
            is_here, future = waiting
            try:
                if not future.done() and is_here():
                    future.set_result(None)
            except Problem as problem:  # its own: the fold goes on
                future.set_exception(problem)

    def has_learned(self, partition: int, offset: int) -> bool:
        """Whether the label at this offset of the feedback is in the model that answers, or one behind it there."""
        moment, book = self.moment, self.follower.book
        if moment is None or moment.of.position < book.position or book.halt is not None:
            return False
        return book.seen.last_trigger(partition, BY_LABEL) >= offset

    def close(self) -> None:
        """Let go of Kafka."""
        self._beat.close()
        self.follower.close()
