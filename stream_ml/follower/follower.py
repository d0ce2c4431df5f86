"""Drives the fold: reads the training log, keeps checkpoints, gets a tainted replica out of the way."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from typing import Any

from confluent_kafka import KafkaException

from stream_ml.app.parts import Parts
from stream_ml.core.fold.batches import FoldSettings, Halt, Run, Single, size_of, split
from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import CheckpointError, ConfigError, FatalError, StreamMLError
from stream_ml.follower.cost import Cost
from stream_ml.follower.model_size import HINT, ModelSize
from stream_ml.kafka.clients import admin
from stream_ml.kafka.commands import write_command
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import LogReader, log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.observe.metrics import Metrics
from stream_ml.records import LogRecord, Record
from stream_ml.runtime.failpoints import passes
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.keys import key_of
from stream_ml.storage.writer import CheckpointWriter

READ_MAX = 2_000  # entries that are decoded at once: 3 us each
CHUNK_S = 0.005  # of folding between two looks at the clock, as far as the pace so far tells
CHUNK_LEAST = 8  # records; of ten trees they take as long
TELL_S = 2.0  # between two lines that say how far a long fold is
CHECKPOINT_PART = 10  # learning waits for what is pickled: for a tenth of the time at most
VERIFY_S = 0.005  # a turn of the loop, for a checkpoint that holds nothing any more
FROZEN_HINT = f"{HINT}; then type stream-ml resume CONFIG"
START_WAIT_S = 60.0  # for the log's end at start; a dead worker's transaction holds it for 10 s at most

log = logging.getLogger(__name__)


class Learning:
    """One replica, the log that it folds, its checkpoints."""

    def __init__(
        self,
        parts: Parts,
        topic_id: str,
        metrics: Metrics,
        keep_alive: Callable[[], None],
        seal: LogSeal | None,
    ) -> None:
        config = parts.config
        self._parts, self._metrics, self.keep_alive = parts, metrics, keep_alive
        self._spec = parts.spec(topic_id)
        self._topic_id, self.seal = topic_id, seal
        self._settings = parts.fold_settings(parts.lineage(topic_id))
        self._types = config.model.checkpoint_types
        key = key_of(config, make=True)
        self.sealed = key is not None
        self.store = CheckpointStore(
            config.path(config.checkpoints.directory), self._settings.lineage, keep=config.checkpoints.keep, key=key
        )
        full = self.store.prepare()
        self.replica = Replica(self._settings)
        self._reader: LogReader | None = None
        self._read: list[Run | Single] = []  # and not yet folded
        self._example_s = CHUNK_S / 50  # what learning one takes, before it is known
        self._at_end_s = time.monotonic()
        self._checkpoint_s = time.monotonic()
        self._checkpoint_position, self._checkpoint_written_s = -1, 0.0
        self._stands_at = 0  # where the newest checkpoint is of which this process knows
        self.cost, self.size = Cost(), ModelSize(config.model.memory_max, config.model.memory_policy)
        self._measured = False  # since `size` was looked at
        self.folding: dict[str, int] | None = None  # how far a long fold is
        self.checkpoint_problem = full  # why the last one could not be written
        self._writer, self._position_under_way = CheckpointWriter(), -1

    # --- start ---

    def start(self, stop: Callable[[], bool] = lambda: False, interval_s: float = 60.0) -> None:
        """Load the newest checkpoint that is right, then fold to the log's end as it is now, unless told to stop.

        A long fold writes checkpoints on the way, so what it has done is kept whatever ends it.

        Raises
        ------
        ConfigError
            There is no usable checkpoint and the log no longer begins at 0: the model cannot be rebuilt.
        """
        self.replica = self._restored(None)
        self._stands_at = self.replica.position
        self._reader = LogReader(self._parts.config, self.replica.read_position, self.seal)
        self.fold_past_end(stop=stop, interval_s=interval_s)
        log.info("model %s/%d, %d examples", *self.replica.version, self.replica.examples_learned)

    def fold_past_end(
        self,
        end: int | None = None,
        *,
        stall_max_s: float = START_WAIT_S,
        most_s: float = math.inf,
        stop: Callable[[], bool] = lambda: False,
        interval_s: float = math.inf,
    ) -> None:
        """Fold everything that the log holds now, open transactions that end meanwhile included.

        Parameters
        ----------
        end
            Of the log, where it is known already.
        most_s
            For at most so long; what is left the next process folds.
        stop
            Says whether to give up.
        interval_s
            Between two checkpoints on the way.

        Raises
        ------
        FatalError
            Nothing came for `stall_max_s` before that end; a restart tries again.
        """
        topic = self._parts.config.training_log_topic
        end = self._log_range()[1] if end is None else end
        began_s = told_s = time.monotonic()
        deadline = began_s + stall_max_s
        self.folding = {"position": self.replica.read_position, "end": end}
        while not self.is_past(end):
            before = self.replica.read_position
            self._step(0.2)
            self.keep_alive()
            self.folding = {"position": self.replica.read_position, "end": end}
            if stop() or time.monotonic() - began_s > most_s:
                break
            if interval_s < math.inf:
                self.checkpoint_if_due(interval_s)
            if time.monotonic() - told_s > TELL_S:
                told_s = time.monotonic()
                log.info("folded %s of %s entries of the training log", f"{self.replica.read_position:,}", f"{end:,}")
            if self.replica.read_position != before or self._writer.holds:
                deadline = time.monotonic() + stall_max_s
            elif time.monotonic() > deadline:
                raise FatalError(
                    f"{topic} cannot be read to its end {end}: stuck at {before}",
                    "a transaction that nobody ends may hold it: kafka-transactions.sh find-hanging",
                )
        self.folding = None

    def _log_range(self) -> tuple[int, int]:
        """First offset and end of the training log now, open transactions included; asks Kafka."""
        config = self._parts.config
        where = (config.training_log_topic, 0)
        return ends(admin(config), [where])[where]

    def is_past(self, end: int) -> bool:
        """Whether everything before this end of the log is folded."""
        assert self._reader is not None  # noqa: S101
        if self.replica.read_position >= end:
            return True
        return not self._read and max(self._reader.position, self._reader.end_seen) >= end  # markers stand before it

    def _restored(self, at_most: int | None) -> Replica:
        for found in self.store.newest(at_most):
            try:
                if isinstance(found, CheckpointError):
                    raise found
                replica = self._loaded(found)
            except CheckpointError as error:
                self._metrics.count("checkpoint_failures")
                log.warning("checkpoint passed over: %s", error)
            else:
                log.info("checkpoint at %d loaded", replica.position)
                return replica
        config = self._parts.config
        first, _ = self._log_range()
        if first > 0:
            raise ConfigError(
                f"{config.training_log_topic} begins at {first}, and there is no usable checkpoint of lineage "
                f"{self._settings.lineage}: the model cannot be rebuilt from its beginning",
                f"put a checkpoint into {config.path(config.checkpoints.directory) / self._settings.lineage}, "
                "or go back to the settings and versions that wrote the last one",
            )
        return Replica(self._settings)

    def _loaded(self, checkpoint: Checkpoint) -> Replica:
        replica = restored(self.store, checkpoint, self._settings, self._types, self._topic_id)
        self._check_last_entry(replica)
        self.cost.restore(checkpoint.header.get("cost"))
        return replica

    def _check_last_entry(self, replica: Replica) -> None:
        """The log must still hold the very entry that was folded last."""
        position, config = replica.position, self._parts.config
        if position == 0:
            return
        first, end = self._log_range()
        if position > end:
            raise CheckpointError(f"checkpoint {position} is ahead of the training log, which ends at {end}")
        if position - 1 < first:
            raise CheckpointError(f"the training log begins at {first}, after checkpoint {position}")
        batches = read_range(config, config.training_log_topic, 0, position - 1, position, keep_alive=self.keep_alive)
        found = [record for batch in batches for record in batch]
        if [sha256(log_value(record, self.seal)).hexdigest() for record in found] != [replica.last_digest]:
            raise CheckpointError(f"the training log holds another entry before {position} than the checkpoint folded")

    # --- in the loop ---

    def turn(self, budget_s: float) -> None:
        """Fold what is committed, for at most this long; a spoilt model is made anew, which may take longer."""
        deadline = time.monotonic() + budget_s
        while self._step(0.0) and time.monotonic() < deadline:
            pass

    def turn_beside(self, budget_s: float, most: int | None) -> None:
        """The same beside a transaction: `most` entries or so, where that is given; a spoilt model waits for `turn`."""
        deadline, began = time.monotonic() + budget_s, self.replica.read_position
        while not self.spoilt and self._fold_chunk(0.0) and time.monotonic() < deadline:
            if most is not None and self.replica.read_position - began >= most:
                break

    @property
    def spoilt(self) -> bool:
        """Whether the model has to be made anew, which the next `turn` does."""
        return self.replica.halt is not None and self.replica.halt.tainted

    @property
    def behind(self) -> bool:
        """Whether there is something at hand to be folded."""
        return bool(self._read)

    @property
    def held_s(self) -> float | None:
        """For how long an open transaction has held back the log's newest entries; None where none does."""
        return None if self._reader is None else self._reader.held_s

    @property
    def lag_s(self) -> float:
        """How far learning is behind the log, in seconds; 0 when everything that it holds was folded."""
        since_end = time.monotonic() - self._at_end_s
        behind = time.time() - self.replica.last_written_at_ms / 1000
        return max(0.0, min(since_end, behind))

    def _step(self, wait_s: float) -> bool:
        """Fold a chunk and make a model anew that is spoilt; whether there was anything to do."""
        mended = self._mend()
        folded = self._fold_chunk(wait_s)
        return self._mend() or folded or mended

    def _fold_chunk(self, wait_s: float) -> bool:
        """Fold a chunk; whether there was one. Only `_mend` helps a model that it spoils."""
        assert self._reader is not None  # noqa: S101
        if self._writer.holds:
            self._write_on(CHUNK_S)
            return True
        if not self._read:
            self._read = self.replica.prepare(self._reader.take(READ_MAX, wait_s))
        size = max(CHUNK_LEAST, int(CHUNK_S / self._example_s))
        chunk, self._read = split(self._read, size)
        if chunk:
            halted, before, began_s = self.replica.halt, self.replica.examples_learned, time.monotonic()
            alike = "run" if any(isinstance(item, Run) for item in chunk) else "single"
            with self.cost.of("learn", alike) as learned:
                self.replica.fold_prepared(chunk)
                count = self.replica.examples_learned - before
                learned.append(count if count == sum(map(size_of, chunk)) else 0)
            self._pace(count, time.monotonic() - began_s)
            passes("after-fold")
            if not self.spoilt:
                self._look_at_halt(is_new=halted is None)
        if self._reader.at_end and not self._read:
            self._at_end_s = time.monotonic()
        return bool(chunk)

    def _pace(self, learned: int, took_s: float) -> None:
        """What an example takes: the mean of this chunk and of what was thought before. Only read on, none counts."""
        if learned > 0:
            self._example_s = (self._example_s + took_s / learned) / 2

    def _mend(self) -> bool:
        """Make a spoilt model anew; whether it was spoilt."""
        if not self.spoilt:
            return False
        self._recover()
        self._look_at_halt(is_new=True)
        return True

    def _look_at_halt(self, *, is_new: bool) -> None:
        """Go back where a halt was lifted; tell a new one."""
        if self.replica.refold_from is not None:
            log.info("halt at %d lifted: folding again from there", self.replica.refold_from)
            self.replica.lift()
            self._seek(self.replica.read_position)
        elif self.replica.halt is not None and is_new:
            self._tell(self.replica.halt)

    def _seek(self, position: int) -> None:
        assert self._reader is not None  # noqa: S101
        self._read = []
        self._reader.seek(position)

    def _tell(self, halt: Halt) -> None:
        other = {"gap": "accept-gap", "disagree": "accept-gap", "far_example": "accept"}.get(halt.reason)
        instead = f", or: stream-ml {other} CONFIG {halt.position}" if other else ""
        log.error(
            "learning halted at %d (%s): %s",
            *(halt.position, halt.reason, halt.message),
            extra={
                "topic": self._parts.config.training_log_topic,
                "partition": 0,
                "offset": halt.position,
                "hint": f"look at it, then: stream-ml skip CONFIG {halt.position}{instead}",
            },
        )

    def _recover(self) -> None:
        """Make a replica that is clean up to just before the example at which the old one was spoilt."""
        assert self._reader is not None  # noqa: S101
        while self.replica.halt is not None and self.replica.halt.tainted:
            old, halt = self.replica, self.replica.halt
            log.warning("model spoilt at %d (%s): made anew up to there", halt.position, halt.message)
            fresh = old.heir(self._restored(halt.position))
            config = self._parts.config
            for records in read_range(
                config,
                config.training_log_topic,
                0,
                fresh.read_position,
                old.read_position,
                keep_alive=self.keep_alive,
            ):
                fresh.fold(_log_records(records, self.seal))
            self.replica = fresh
        self.replica.check_each_after = None
        self._seek(self.replica.read_position)

    # --- checkpoints ---

    def checkpoint_if_due(self, interval_s: float) -> bool:
        """Write a checkpoint when the last one is old enough; whether it was."""
        if self._measured and self.size.over:
            self._too_large()
        self._measured = False
        if self._writer.busy:
            self._write_on(VERIFY_S)
            return False
        interval_s = max(interval_s, CHECKPOINT_PART * self._writer.took_s)
        due = time.monotonic() - self._checkpoint_s >= interval_s
        if due:
            self.checkpoint()
        return due

    def checkpoint(self) -> None:
        """Begin a checkpoint, unless halted or nothing was folded since the last; a failure is told, never fatal."""
        self._checkpoint_s = time.monotonic()
        replica = self.replica
        if replica.halt is not None or replica.torn:
            return
        if replica.position in (0, self._checkpoint_position) or not replica.sound():
            return
        header, content = self._header(), self._content()
        self._position_under_way = replica.position

        self._writer.begin(partial(self.store.save, replica.position, header, content, checkpoint_types=self._types))
        self._write_on(CHUNK_S)

    def _write_on(self, budget_s: float) -> None:
        with self._told():
            if self._writer.turn(budget_s):
                self._written()
                self.size.measured(self.store.pickled_bytes)
                self._measured = True

    def _too_large(self) -> None:
        """Do what the configuration says of a model that is too large.

        Raises
        ------
        FatalError
            It says that the worker ends.
        """
        said = self.size.said()
        if self.size.policy == "halt":
            raise FatalError(f"{said}, and model.memory_policy is halt", HINT)
        if self.size.policy == "freeze" and not self.replica.frozen:
            try:
                at = write_command(self._parts.config, "freeze", {}, self.seal, writer=self._parts.config.instance)
            except StreamMLError as error:  # Kafka is away, or refuses it
                log.warning("%s; learning could not be frozen, the next checkpoint tries again: %s", said, error)
            else:
                log.error("%s: learning is frozen at %d of the log", said, at, extra={"hint": FROZEN_HINT})

    def drop_checkpoint(self) -> None:
        """Give up the one under way, where something else waits for the fold; the next turn of the loop begins anew."""
        if self._writer.holds:
            self._writer.drop()
            self._checkpoint_s = -math.inf

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError as error:
            self._metrics.count("checkpoint_failures")
            log.error("%s; scoring goes on, older checkpoints stay", error)
            self.checkpoint_problem = str(error)

    def _written(self) -> None:
        self._checkpoint_position, self._checkpoint_written_s = self._position_under_way, time.monotonic()
        self._stands_at = self._position_under_way
        self.checkpoint_problem = ""
        self._metrics.set("checkpoint_timestamp_seconds", time.time())
        self._metrics.set("checkpoint_seconds", self._writer.took_s)
        self._metrics.set("checkpoint_bytes", self.store.size(self._checkpoint_position))

    def checkpointed(self) -> dict[str, Any]:
        """Position and age of this process's last checkpoint; None before the first."""
        if self._checkpoint_position < 0:
            return {"position": None, "age_seconds": None}
        age_s = time.monotonic() - self._checkpoint_written_s
        return {"position": self._checkpoint_position, "age_seconds": round(age_s, 1)}

    def _content(self) -> dict[str, Any]:
        return {"state": self.replica.state(), "probe_bits": self.replica.probe_bits()}

    def _header(self) -> dict[str, Any]:
        replica = self.replica
        return {
            "app": self._parts.config.app.id,
            "halted_at": None,
            "topic_id": self._topic_id,
            "last_digest": replica.last_digest,
            "spec": self._spec,
            "created_at": time.time_ns() // 1_000_000,
            "examples_learned": replica.examples_learned,
            "quality": replica.quality.report(),
            "cost": self.cost.state(),
        }

    def finish(self, stall_max_s: float, checkpoint_max_s: float) -> None:
        """Fold what is committed and write a checkpoint, as far as that goes so quickly; let the consumer go."""
        if self._reader is None:
            return
        until_s = time.monotonic() + checkpoint_max_s
        if self.replica.torn:
            log.warning("interrupted in the middle of the fold: no checkpoint is written, the next start folds again")
            self._reader.close()
            return
        self._write_until(until_s)  # of the one under way: it is nearer to its end than a new one
        try:
            self.fold_past_end(stall_max_s=stall_max_s, most_s=stall_max_s)
        except (FatalError, KafkaException) as error:
            log.warning("not everything was folded at the end: %s", error)
        if not self._writer.busy:
            self.checkpoint()
        if not self._write_until(until_s):
            self._tell_left(checkpoint_max_s)
        self._reader.close()

    def _write_until(self, until_s: float) -> bool:
        """Go on with a checkpoint for so long; whether none is under way then."""
        while self._writer.busy and time.monotonic() < until_s:
            self._write_on(min(0.2, max(0.0, until_s - time.monotonic())))
        return not self._writer.busy

    def _tell_left(self, after_s: float) -> None:
        self._writer.drop(wait=False)
        log.warning(
            "the last checkpoint was not written within %.1f s (checkpoints.stop_wait): the one at %d stands, and the "
            "next start folds %d entries again",
            *(after_s, self._stands_at, self.replica.position - self._stands_at),
        )


def restored(
    store: CheckpointStore, checkpoint: Checkpoint, settings: FoldSettings, types: list[str], topic_id: str
) -> Replica:
    """The replica in a checkpoint; CheckpointError where it is of another log or predicts something else."""
    if checkpoint.header.get("topic_id") != topic_id:
        raise CheckpointError(f"checkpoint {checkpoint.position} belongs to another training log")
    content = store.content(checkpoint, types)
    replica = Replica(settings)
    try:
        replica.restore(content["state"])
        probes = replica.probe_bits()
        said = content["probe_bits"]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # what native classes raise is no Exception
        raise CheckpointError(f"checkpoint {checkpoint.position} has another content: {str(error)[:300]}") from error
    if probes != said or replica.position != checkpoint.position:
        raise CheckpointError(f"checkpoint {checkpoint.position} predicts differently from when it was written")
    return replica


def newest_replica(parts: Parts, topic_id: str) -> Replica:
    """The replica in the newest usable checkpoint, or an untrained one; nothing is read from Kafka."""
    config = parts.config
    settings = parts.fold_settings(parts.lineage(topic_id))
    folder, types = config.path(config.checkpoints.directory), config.model.checkpoint_types
    key = key_of(config)
    store = CheckpointStore(folder, settings.lineage, keep=config.checkpoints.keep, key=key)
    for found in store.newest() if key or config.checkpoints.unsealed else ():
        with contextlib.suppress(CheckpointError):
            if isinstance(found, Checkpoint):
                return restored(store, found, settings, types, topic_id)
    return Replica(settings)


def _log_records(records: list[Record], seal: LogSeal | None) -> list[LogRecord]:
    return [LogRecord(record.offset, log_value(record, seal)) for record in records]
