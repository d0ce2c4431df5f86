"""When a follower writes a checkpoint, what it says, and how it went."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from stream_ml.app.parts import Parts
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.replica import Replica
from stream_ml.core.model.lineage import digest_of
from stream_ml.errors import CheckpointError, OldFormat
from stream_ml.follower.cost import Cost
from stream_ml.follower.model_size import ModelSize
from stream_ml.follower.restore import replica_of
from stream_ml.kafka.topics import TopicFacts
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.status import CheckpointStatus
from stream_ml.storage.checkpoints import CheckpointStore
from stream_ml.storage.keys import key_of
from stream_ml.storage.writer import CheckpointWriter

BEGIN_S = 0.005  # what the turn that begins a checkpoint gives to it
VERIFY_S = 0.005  # a turn of the loop, for a checkpoint that holds nothing any more
PART = 10  # learning waits for what is pickled: for a tenth of the time at most

log = logging.getLogger(__name__)


class Checkpointing:
    """The checkpoints of one follower, written a few milliseconds at a time between the turns of its loop.

    Attributes
    ----------
    problem
        Why the last one could not be written, or the directory is not as it should be; empty where all is well.
    sealed
        Whether they carry a seal: there is a key.
    size
        How large the model is, as the last one found.

    So many attributes: what was written, what is under way and where it goes are of one conversation.
    """

    def __init__(self, parts: Parts, facts: TopicFacts, settings: FoldSettings, cost: Cost, metrics: Metrics) -> None:
        config = parts.config
        self._settings, self._facts, self._cost, self._metrics = settings, facts, cost, metrics
        self._types = config.model.checkpoint_types
        self._app, self._spec = config.app.id, parts.spec(facts.log.log_id)
        key = key_of(config, make=True)
        self.sealed = key is not None
        directory = config.path(config.checkpoints.directory)
        self.store = CheckpointStore(directory, settings.lineage, keep=config.checkpoints.keep, key=key)
        self.problem = self.store.prepare()
        self.size = ModelSize(config.model.memory_max, config.model.memory_policy)
        self._writer, self._position_under_way = CheckpointWriter(), -1
        self._begun_s = time.monotonic()
        self._position, self._written_s = -1, 0.0
        self._size_is_new = False
        self.stands_at = 0  # where the newest one is of which this process knows

    # --- at a start ---

    def restored(self, at_most: int | None, check: Callable[[Replica], None]) -> Replica | None:
        """The replica of the newest checkpoint that is right; None where there is none.

        Parameters
        ----------
        at_most
            Position up to which one is looked for; None: any.
        check
            Raises CheckpointError where the log says that a replica cannot be right.
        """
        for found in self.store.newest(at_most):
            try:
                if isinstance(found, CheckpointError):
                    raise found
                replica = replica_of(self.store, found, self._settings, self._types, self._facts, self._spec)
                check(replica)
            except OldFormat as error:  # as after every upgrade that changes it: nothing is broken
                log.info("checkpoint skipped: %s", error)
            except CheckpointError as error:
                self._metrics.count("checkpoint_failures")
                log.warning("checkpoint skipped: %s", error)
            else:
                self._cost.restore(found.header.get("cost"))
                self.stands_at = max(self.stands_at, replica.position)
                log.info("checkpoint at %d loaded", replica.position)
                return replica
        return None

    # --- between the turns ---

    @property
    def holds(self) -> bool:
        """Whether the model must not change now, because it is being pickled."""
        return self._writer.holds

    @property
    def busy(self) -> bool:
        """Whether one is under way."""
        return self._writer.busy

    def too_large(self) -> bool:
        """Whether the last one has found the model larger than it may be; asked once for each."""
        new, self._size_is_new = self._size_is_new, False
        return new and self.size.over

    def write_if_due(self, replica: Replica, interval_s: float) -> bool:
        """Go on with the one under way, or begin one when the last is old enough; whether one was begun."""
        if self._writer.busy:
            self.write_on(VERIFY_S)
            return False
        interval_s = max(interval_s, PART * self._writer.took_s)
        due = time.monotonic() - self._begun_s >= interval_s
        if due:
            self.begin(replica)
        return due

    def begin(self, replica: Replica) -> None:
        """Begin one, unless halted or nothing was folded since the last; a failure is reported, never fatal."""
        self._begun_s = time.monotonic()
        if replica.halt is not None or replica.interrupted:
            return
        if replica.position in (0, self._position) or not replica.is_healthy:
            return
        content = {"state": replica.state(), "probe_bits": replica.probe_bits()}
        self._position_under_way = replica.position
        save = partial(self.store.save, replica.position, self._header(replica), content, checkpoint_types=self._types)
        self._writer.begin(save)
        self.write_on(BEGIN_S)

    def write_on(self, budget_s: float) -> None:
        """Give so much time to the one under way."""
        with self._reported():
            if self._writer.turn(budget_s):
                self._written()
                self.size.measured(self.store.pickled_bytes)
                self._size_is_new = True

    def write_until(self, until_s: float) -> bool:
        """Go on with the one under way until then (monotonic clock); whether none is under way any more."""
        while self._writer.busy and time.monotonic() < until_s:
            self.write_on(min(0.2, max(0.0, until_s - time.monotonic())))
        return not self._writer.busy

    def give_up(self) -> None:
        """Give up the one that holds the fold, because something waits for it; the next turn begins anew."""
        if self._writer.holds:
            self._writer.drop()
            self._begun_s = -math.inf

    def leave(self, replica: Replica, after_s: float) -> None:
        """At the end of the process: leave one that was not finished in time, and say what that means."""
        self._writer.drop(wait=False)
        log.warning(
            "the last checkpoint was not written within %.1f s (checkpoints.stop_wait): the one at %d stands, and the "
            "next start folds %d entries again",
            *(after_s, self.stands_at, replica.position - self.stands_at),
        )

    def written(self) -> CheckpointStatus:
        """Position and age of this process's last checkpoint; None before the first."""
        if self._position < 0:
            return {"position": None, "age_seconds": None}
        return {"position": self._position, "age_seconds": round(time.monotonic() - self._written_s, 1)}

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError as error:
            self._metrics.count("checkpoint_failures")
            log.error("%s; scoring goes on, older checkpoints stay", error)
            self.problem = str(error)

    def _written(self) -> None:
        self._position, self._written_s = self._position_under_way, time.monotonic()
        self.stands_at = self._position
        self.problem = ""
        self._metrics.set("checkpoint_timestamp_seconds", time.time())
        self._metrics.set("checkpoint_seconds", self._writer.took_s)
        self._metrics.set("checkpoint_bytes", self.store.size(self._position))

    def _header(self, replica: Replica) -> dict[str, Any]:
        return {
            "app": self._app,
            "halted_at": None,
            "log": {
                "id": self._facts.log.log_id,
                "hash_key": self._facts.log.hash_key,
                "partition": 0,
                "partitions": 1,
                "topic_id": self._facts.training_log_topic_id,
            },
            "last_digest": replica.last_digest,
            "spec": self._spec,
            "spec_sha256": digest_of(self._spec),
            "created_at": time.time_ns() // 1_000_000,
            "examples_learned": replica.examples_learned,
            "quality": replica.quality.report(),
            "cost": self._cost.state(),
        }
