"""Follows the training log with one replica: reads, folds in slices, gets a corrupted model out of the way.

Whoever wants the model of now has one: a worker, which lets it fold between its own steps. Read first: `start`, `turn`.
"""

import logging
import math
import time
from collections.abc import Callable

from confluent_kafka import KafkaException

from stream_ml.app.parts import Parts
from stream_ml.core.fold.batches import Run, Single, size_of, split
from stream_ml.core.fold.halt import Corrupted, Folded, FoldResult, Halt, Halted, Refold
from stream_ml.core.fold.replica import Replica
from stream_ml.core.fold.way_out import way_out
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import FatalError, StreamMLError
from stream_ml.follower.checkpointing import Checkpointing
from stream_ml.follower.cost import Cost
from stream_ml.follower.model_size import HINT
from stream_ml.follower.restore import check_last_entry, log_range, untrained
from stream_ml.kafka.commands import write_command
from stream_ml.kafka.reading.log_reader import LogReader, log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import TopicFacts
from stream_ml.observe.metrics import Metrics
from stream_ml.records import LogRecord, Record
from stream_ml.runtime.failpoints import passes

READ_MAX = 2_000  # entries that are decoded at once: 3 us each
CHUNK_S = 0.005  # of folding between two looks at the clock, as far as the pace so far tells
CHUNK_LEAST = 8  # records; of ten trees they take as long
REPORT_S = 2.0  # between two lines that say how far a long fold is
FROZEN_HINT = f"{HINT}; then type stream-ml resume CONFIG"
START_WAIT_S = 60.0  # for the log's end at start; a dead worker's transaction holds it for 10 s at most

log = logging.getLogger(__name__)


class Pace:
    """What learning one example takes, by the chunks that were folded: how large the next one may be."""

    def __init__(self) -> None:
        self._example_s = CHUNK_S / 50  # before anything is known

    @property
    def chunk(self) -> int:
        """So many records are folded between two looks at the clock."""
        return max(CHUNK_LEAST, int(CHUNK_S / self._example_s))

    def learned(self, count: int, took_s: float) -> None:
        """Take a chunk: the mean of it and of what was thought before. Where nothing was learned, none counts."""
        if count > 0:
            self._example_s = (self._example_s + took_s / count) / 2


class Follower:
    """One replica, the log that it folds, its checkpoints; one thread only.

    Parameters
    ----------
    keep_alive
        Is called again and again while a long fold goes on.
    seal
        Tells which entries are to be believed; None: all are.

    Attributes
    ----------
    folding
        How far a long fold is, as `position` and `end`; None while there is none.
    """

    def __init__(
        self,
        parts: Parts,
        facts: TopicFacts,
        metrics: Metrics,
        keep_alive: Callable[[], None],
        seal: LogSeal | None,
    ) -> None:
        self._parts, self.keep_alive, self.seal = parts, keep_alive, seal
        self._settings = parts.fold_settings(parts.lineage(facts.log.log_id))
        self.cost, self._pace = Cost(), Pace()
        self.checkpoints = Checkpointing(parts, facts, self._settings, self.cost, metrics)
        self.replica = Replica(self._settings)
        self._reader: LogReader | None = None
        self._read: list[Run | Single] = []  # and not yet folded
        self._at_end_s = time.monotonic()
        self.folding: dict[str, int] | None = None

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
        self._reader = LogReader(self._parts.config, self.replica.read_position, self.seal)
        self.fold_past_end(stop=stop, interval_s=interval_s)
        log.info(
            "model restored: version %s/%d, %d examples learned", *self.replica.version, self.replica.examples_learned
        )

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
        end = log_range(self._parts)[1] if end is None else end
        began_s = reported_s = time.monotonic()
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
            if time.monotonic() - reported_s > REPORT_S:
                reported_s = time.monotonic()
                log.info("folded %s of %s entries of the training log", f"{self.replica.read_position:,}", f"{end:,}")
            if self.replica.read_position != before or self.checkpoints.holds:
                deadline = time.monotonic() + stall_max_s
            elif time.monotonic() > deadline:
                raise FatalError(
                    f"{topic} cannot be read to its end {end}: stuck at {before}",
                    "a transaction that nobody ends may hold it: kafka-transactions.sh find-hanging",
                )
        self.folding = None

    def is_past(self, end: int) -> bool:
        """Whether everything before this end of the log is folded."""
        assert self._reader is not None  # noqa: S101
        if self.replica.read_position >= end:
            return True
        return not self._read and max(self._reader.position, self._reader.end_seen) >= end  # markers stand before it

    def _restored(self, at_most: int | None) -> Replica:
        def check(replica: Replica) -> None:
            check_last_entry(self._parts, replica, self.seal, self.keep_alive)

        return self.checkpoints.restored(at_most, check) or untrained(self._parts, self._settings)

    # --- in the loop ---

    def turn(self, budget_s: float) -> None:
        """Fold what is committed, for at most this long; recovery of a corrupted model may take longer."""
        deadline = time.monotonic() + budget_s
        while self._step(0.0) and time.monotonic() < deadline:
            pass

    def turn_during_commit(self, budget_s: float, most: int | None) -> None:
        """Fold while a transaction is being committed; a corrupted model waits for the next `turn`.

        Parameters
        ----------
        most
            So many entries or a few more; None: what the time allows.
        """
        deadline, began = time.monotonic() + budget_s, self.replica.read_position
        while not self.replica.corrupted and self._fold_chunk(0.0) and time.monotonic() < deadline:
            if most is not None and self.replica.read_position - began >= most:
                break

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
        behind = time.time() - self.replica.progress.written_at_ms / 1000
        return max(0.0, min(since_end, behind))

    def _step(self, wait_s: float) -> bool:
        """Fold a chunk and recover a corrupted model; whether there was anything to do."""
        recovered = self._recover_if_corrupted()
        folded = self._fold_chunk(wait_s)
        return self._recover_if_corrupted() or folded or recovered

    def _fold_chunk(self, wait_s: float) -> bool:
        """Fold a chunk; whether there was one. A model that it corrupts is recovered by `_step`."""
        assert self._reader is not None  # noqa: S101
        if self.checkpoints.holds:
            self.checkpoints.write_on(CHUNK_S)
            return True
        if not self._read:
            self._read = self.replica.prepare(self._reader.take(READ_MAX, wait_s))
        chunk, self._read = split(self._read, self._pace.chunk)
        if chunk:
            self._follow(self._fold(chunk))
        if self._reader.at_end and not self._read:
            self._at_end_s = time.monotonic()
        return bool(chunk)

    def _fold(self, chunk: list[Run | Single]) -> FoldResult:
        before, began_s = self.replica.examples_learned, time.monotonic()
        alike = "run" if any(isinstance(item, Run) for item in chunk) else "single"
        with self.cost.of("learn", alike) as learned:
            result = self.replica.fold_prepared(chunk)
            count = self.replica.examples_learned - before
            learned.append(count if count == sum(map(size_of, chunk)) else 0)
        self._pace.learned(count, time.monotonic() - began_s)
        passes("after-fold")
        return result

    def _follow(self, result: FoldResult) -> None:
        """Do what follows from folding: read again where a halt has ended, log a new one."""
        match result:
            case Refold():
                log.info("halt at %d ended: folding again from there", result.position)
                self._seek(self.replica.clear_halt())
            case Halted():
                self._log_halt(result.halt)
            case Folded() | Corrupted():  # of a corrupted one `_step` makes a successor
                return

    def _seek(self, position: int) -> None:
        assert self._reader is not None  # noqa: S101
        self._read = []
        self._reader.seek(position)

    def _log_halt(self, halt: Halt) -> None:
        other = {"gap": "accept-gap", "disagree": "accept-gap", "far_example": "accept"}.get(halt.reason)
        instead = f", or: stream-ml {other} CONFIG {halt.position}" if other else ""
        log.error(
            "learning halted at %d (%s): %s",
            *(halt.position, halt.reason, halt.message),
            extra={
                "topic": self._parts.config.training_log_topic,
                "partition": 0,
                "offset": halt.position,
                "hint": f"look at it, then: {way_out(halt.reason, halt.position)}{instead}",
            },
        )

    # --- recovery ---

    def _recover_if_corrupted(self) -> bool:
        """Put a successor in the place of a corrupted replica; whether it was one."""
        if not self.replica.corrupted:
            return False
        result = self._recover()
        while isinstance(result, Corrupted):
            result = self._recover()
        self.replica.recovered()
        self._seek(self.replica.read_position)
        self._follow(result)
        return True

    def _recover(self) -> FoldResult:
        """Fold a successor up to just before the example that corrupted the model; what that came to."""
        old, halt, config = self.replica, self.replica.halt, self._parts.config
        assert halt is not None  # noqa: S101
        log.warning(
            "model corrupted at offset %d (%s): restoring from the checkpoint before it", halt.position, halt.message
        )
        fresh = old.successor(self._restored(halt.position))
        ranges = (config.training_log_topic, 0, fresh.read_position, old.read_position)
        for records in read_range(config, *ranges, keep_alive=self.keep_alive):
            fresh.fold(_log_records(records, self.seal))
        self.replica = fresh
        return fresh.halts.result(None)

    # --- checkpoints ---

    def checkpoint_if_due(self, interval_s: float) -> bool:
        """Write a checkpoint when the last one is old enough; whether one was begun."""
        if self.checkpoints.too_large():
            self._obey_memory_policy()
        return self.checkpoints.write_if_due(self.replica, interval_s)

    def _obey_memory_policy(self) -> None:
        """Do what the configuration says of a model that is too large.

        Raises
        ------
        FatalError
            It says that the worker ends.
        """
        size, config = self.checkpoints.size, self._parts.config
        if size.policy == "exit":
            raise FatalError(f"{size.said()}, and model.memory_policy is exit", HINT)
        if size.policy == "freeze" and not self.replica.facts.frozen:
            try:
                at = write_command(config, "freeze", {}, self.seal, writer=config.instance)
            except StreamMLError as error:  # Kafka is away, or refuses it
                log.warning("%s; learning could not be frozen, the next checkpoint tries again: %s", size.said(), error)
            else:
                log.error("%s: learning is frozen at %d of the log", size.said(), at, extra={"hint": FROZEN_HINT})

    def finish(self, stall_max_s: float, checkpoint_max_s: float) -> None:
        """Fold what is committed and write a checkpoint, as far as that goes so quickly; close the consumer."""
        if self._reader is None:
            return
        until_s = time.monotonic() + checkpoint_max_s
        if self.replica.interrupted:
            log.warning("interrupted in the middle of the fold: no checkpoint is written, the next start folds again")
            self._reader.close()
            return
        self.checkpoints.write_until(until_s)  # the one under way: it is nearer to its end than a new one
        try:
            self.fold_past_end(stall_max_s=stall_max_s, most_s=stall_max_s)
        except (FatalError, KafkaException) as error:
            log.warning("not everything was folded at the end: %s", error)
        if not self.checkpoints.busy:
            self.checkpoints.begin(self.replica)
        if not self.checkpoints.write_until(until_s):
            self.checkpoints.leave(self.replica, checkpoint_max_s)
        self._reader.close()


def _log_records(records: list[Record], seal: LogSeal | None) -> list[LogRecord]:
    return [LogRecord(record.offset, log_value(record, seal)) for record in records]
