"""The loop of one worker. Each turn:

1. consume events and feedback: what has arrived is the batch
2. fold committed log entries, for a bounded time, so that the batch is scored with what is known by now; in a backlog
   beside step 4, while Kafka takes what was produced
3. one call into the core for each partition gives all outputs as values
4. one transaction holds them all, with the offsets of both topics
5. on COMMITTED the staged changes become real; on ABORTED the inputs go back; on UNKNOWN the committed token tells
6. a checkpoint, when it is due
"""

import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial

from confluent_kafka import KafkaException

from stream_ml.app.parts import Parts
from stream_ml.core.partition.partition import Batch, Coordinates, Outputs
from stream_ml.errors import FatalError
from stream_ml.follower.follower import Follower
from stream_ml.kafka.clients import admin
from stream_ml.kafka.committed import offsets_of, read_committed
from stream_ml.kafka.consumers import FeedbackInput, Group, unowned
from stream_ml.kafka.errors import error_of, outage
from stream_ml.kafka.topic_watch import TopicWatch
from stream_ml.kafka.topics import TopicFacts
from stream_ml.kafka.transaction import RECORD_REFUSED, Ending, Transactor
from stream_ml.observe.metrics import Metrics
from stream_ml.runtime.failpoints import passes
from stream_ml.storage.keys import log_seal
from stream_ml.worker.assignment import ClaimFailed, Ownership, new_token, refuse_lost_offsets
from stream_ml.worker.intake import Intake, clock_now
from stream_ml.worker.monitor import Monitor
from stream_ml.worker.moves import Moves
from stream_ml.worker.status import Report

BACKLOG_FOLDS = 10  # times learning.budget_per_turn
KEEPS_STEP_S = 1.0  # learning that lags by more in a backlog folds as much as its budget allows
FREE_S = 20.0  # until it is looked again whether a partition that was nobody's still is: its last owner may be slow
RESTORE_POINT_S = 10.0  # between two samples of the outputs' ends
STOOD_STILL_S = 0.25  # between two signs of life of this thread: topics may have been changed unseen
TOPICS_WAIT_S = 2.0  # for what Kafka says of them then
BLOCKED_S = 0.1  # between two looks at topics that are not as they were
CLOSE_STALL_S = 2.0  # for learning at the end: what is not folded by then, the next process folds
ABORTS_MAX = 50  # in a row, a growing pause between them: then the process gives up

log = logging.getLogger(__name__)


class Worker:
    """One member of the group, with one replica of the model."""

    def __init__(
        self, parts: Parts, facts: TopicFacts, metrics: Metrics, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._stop = stop
        config = parts.config
        self._parts, self._config, self._facts, self.metrics = parts, config, facts, metrics
        self._client = admin(config)
        seal = log_seal(config, facts.training_log_id)
        self._transactor = Transactor(config, facts.record_bytes_max, seal)
        self._group = Group(config, facts.partitions)
        self._feedback = FeedbackInput(config, facts.partitions)
        self._topics = TopicWatch(config, self._client, facts)
        self._verdict = self._topics.verdict
        self.follower = Follower(parts, facts.training_log_id, metrics, self._keep_alive, seal)
        self._ownership = Ownership(parts, facts, self._client, self.follower, self._transactor)
        self.monitor = Monitor(parts, metrics)
        inputs = (self._group, self._feedback)
        self.report = Report(parts, metrics, self.follower, self._ownership, inputs, self.monitor, self._topics)
        self._intake = Intake(parts, self._group, self._feedback, self._ownership, self.follower, facts.partitions)
        self._moves = Moves(self._group, self._ownership, self._intake, metrics, self._keep_alive)
        self._disagreement = ""
        self._unowned: set[int] = set()
        self._limit = config.delivery.batch_max_records
        self._poison_records: set[Coordinates] = set()
        self._aborts, self._folded_s, self._alive_s = 0, 0.0, time.monotonic()
        self._restore_point_s = 0.0

    def start(self) -> None:
        """Everything that can be refused is refused here, before anything is consumed; then join the group."""
        self._topics.begin()
        self.follower.start(self._stop, self._config.checkpoints.interval / 1000)
        if self._stop():
            return
        refuse_lost_offsets(self._parts, self.follower, self._client, self._facts)
        self._group.join()
        log.info("joining group %s as %s", self._config.app.id, self._config.transactional_id)

    def run(self) -> None:
        """Turn until told to stop; a turn is never left half done."""
        while not self._stop():
            self.turn()

    def turn(self) -> None:
        """One turn, as in the module's text."""
        if not self._topics_are_there():
            self._keep_alive()
            self.report.renew()
            time.sleep(BLOCKED_S)
            return
        self._take_up()
        if self._ownership.wanted and not self._ownership.owned:
            self.report.renew()
            return
        batches = self._batches()
        if not batches or self.follower.replica.corrupted or not self._intake.backlog(self._limit):
            self._fold(partial(self.follower.turn, self._config.learning.budget_per_turn / 1000))
        began_s = time.monotonic()
        outputs = self._process(self._still_ours(batches))
        if outputs:
            passes("after-process")
            self._observe(process=time.monotonic() - began_s)
            self._finish(batches, outputs, *self._commit(outputs))
        if self.follower.checkpoint_if_due(self._config.checkpoints.interval / 1000):
            self.monitor.save()
        self._housekeeping()
        self.report.renew()

    # --- 1: consume ---

    def _batches(self) -> dict[int, Batch]:
        if self._catching_up():
            self._keep_alive()
            return {}
        return self._intake.batches(self._limit, self._poison_records, wait=not self._ownership.wanted)

    def _still_ours(self, batches: dict[int, Batch]) -> dict[int, Batch]:
        """Without what went while it was read: that is not committed, so it comes again, here or elsewhere."""
        if self._group.metadata is None:
            self._intake.go_back(batches)
            return {}
        gone = self._group.gone
        return {number: batch for number, batch in batches.items() if number not in gone} if gone else batches

    def _catching_up(self) -> bool:
        """Whether learning lags too far behind a backlog: then events wait, so that the model is not left behind."""
        lags = self.follower.lag_s > self._config.learning.lag_max / 1000 and self.follower.replica.halt is None
        held = self.follower.held_s is not None  # then there is nothing to catch up with
        return lags and not held and not self._group.ends.all_reached()

    def _observe(self, **seconds: float) -> None:
        for stage, took_s in seconds.items():
            self.metrics.observe("stage_seconds", took_s, stage=stage)

    def _topics_are_there(self) -> bool:
        """Whether the topics are those that they were; what is not is reported, and where more came they are taken up.

        After the process stood still the topics are asked for before anything is done with what was read before.
        """
        now_s = time.monotonic()
        stood_still, self._alive_s = now_s - self._alive_s > STOOD_STILL_S, now_s
        verdict = self._topics.verdict
        if stood_still:
            verdict = self._topics.after(now_s, TOPICS_WAIT_S)
            self._alive_s = time.monotonic()
        known, self._verdict = self._verdict, verdict
        if known.answered_s != verdict.answered_s:
            self._log_answers_again()
        if known.reasons != verdict.reasons:
            self.report.renew(at_once=True)
        if verdict.partitions != self._ownership.partitions and not verdict.blocking:
            log.info("the topics have %d partitions now, %d before", verdict.partitions, self._ownership.partitions)
            self._ownership.partitions = verdict.partitions
            self._intake.sample_keys(verdict.partitions)
            self._moves.look_again_at_suspended()
            self._group.join()
        return not verdict.blocking

    def _is_alive(self) -> None:
        """What took long was work of this thread's own."""
        self._alive_s = time.monotonic()
        self.report.alive()

    def _keep_alive(self) -> None:
        self._is_alive()
        self._group.keep_alive()

    def close(self, why: str = "the end") -> None:
        """Learn what is committed, as far as that goes quickly, write a checkpoint, let go of everything.

        A static member's place is kept for the session timeout.
        """
        log.info("stopping, because of %s: what is committed is learned, then a checkpoint", why)
        self.follower.finish(CLOSE_STALL_S, self._config.checkpoints.stop_wait / 1000)
        self.monitor.save()
        self._topics.close()
        self._transactor.close()
        self._ownership.close()
        self._feedback.close()
        self._group.close()
        log.info("stopped at model %s/%d", *self.follower.replica.version)

    # --- the group moved ---

    def _take_up(self) -> None:
        if self._moves.look():
            self._unowned = set()
            self.report.renew(at_once=True)
        if not self._ownership.wanted:
            return
        try:
            self._moves.go_on()
        except ClaimFailed:
            self._count_abort()
            self._keep_alive()  # without a poll a member that was thrown out would never hear of it
        if not self._ownership.wanted:
            self.report.renew(at_once=True)

    # --- 2: fold ---

    def _fold(self, turn: Callable[[], None]) -> None:
        began_s = time.monotonic()
        turn()
        self._folded_s = time.monotonic() - began_s
        self._observe(fold=self._folded_s)

    def _fold_backlog(self, examples: int) -> None:
        """In a backlog nobody waits for one event: learning keeps step, while Kafka takes what was produced.

        Of the log as much as this transaction adds to it, so that something is left for the next one's wait.
        """
        most = None if self.follower.lag_s > KEEPS_STEP_S else examples
        self._fold(
            partial(
                self.follower.turn_during_commit, BACKLOG_FOLDS * self._config.learning.budget_per_turn / 1000, most
            )
        )

    # --- 3: process ---

    def _process(self, batches: dict[int, Batch]) -> dict[int, Outputs]:
        """Outputs of the partitions that have something to commit; the idle ones' time moves on without."""
        found: dict[int, Outputs] = {}
        if not batches:
            return found
        clock, token = clock_now(), new_token(self._config.transactional_id)
        stale = self.follower.lag_s > self._config.learning.lag_max / 1000
        for number, batch in batches.items():
            partition = self._ownership.owned[number]
            with self.follower.cost.of("score") as scored:
                outputs = partition.process(batch, self.follower.replica, clock, stale=stale, token=token)
                scored.append(len(batch.events))
            self._is_alive()
            if len(batch.events) or len(batch.feedback) or outputs.moved or self._intake.commit_is_due(number):
                found[number] = outputs
            else:
                partition.apply(outputs)
        return found

    # --- 4: commit ---

    def _commit(self, outputs: dict[int, Outputs]) -> tuple[dict[int, Outputs], bool]:
        """Which partitions' outputs were committed, and whether the rest was aborted (else somebody else owns it)."""
        blocks = [block for output in outputs.values() for block in output.blocks]
        blocks.append(self.monitor.block(clock_now()))
        offsets = [
            tp
            for number, output in outputs.items()
            for tp in offsets_of(
                self._config, number, output.events_position, output.feedback_position, output.metadata
            )
        ]
        started, self._folded_s = time.monotonic(), 0.0
        examples = sum(output.counts["labels", "joined"] for output in outputs.values())
        meanwhile = partial(self._fold_backlog, examples) if self._intake.backlog(self._limit) else None
        ending = self._transactor.run(blocks, offsets, self._group.metadata, meanwhile)
        self._intake.ended()
        self._is_alive()
        self.metrics.count("transactions", ending=ending.value)
        if ending is Ending.COMMITTED:
            passes("after-commit")
            self._observe(commit=max(0.0, time.monotonic() - started - self._folded_s))
            return outputs, True
        if ending is Ending.ABORTED:
            return {}, True
        return self._resolve(outputs)

    def _resolve(self, outputs: dict[int, Outputs]) -> tuple[dict[int, Outputs], bool]:
        """After UNKNOWN: a new producer has ended the transaction; what stands committed says how."""
        self._transactor.open()
        committed: dict[int, Outputs] = {}
        for pair in read_committed(self._config, list(outputs), stable=True):
            output = outputs[pair.partition]
            if pair.metadata is not None and pair.metadata.token == output.metadata.token:
                committed[pair.partition] = output
            elif pair.metadata is None or pair.metadata.writer != self._config.transactional_id:
                log.warning("partition %d has another owner", pair.partition)
                self._ownership.forget(pair.partition)
                self._intake.stop([pair.partition])
        log.warning("commit of unknown outcome: partitions %s were committed", sorted(committed))
        return committed, len(committed) == len(outputs)

    # --- 5: what follows from it ---

    def _finish(
        self, batches: dict[int, Batch], outputs: dict[int, Outputs], committed: dict[int, Outputs], whole: bool
    ) -> None:
        for number, output in committed.items():
            self._ownership.owned[number].apply(output)
            self._ownership.tokens[number] = output.metadata.token
            self._intake.committed(number, len(batches[number].feedback))
            self.report.committed(number, batches[number], output)
            self.monitor.committed(number, batches[number], output)
            if self._poison_records:
                self._poison_records.difference_update(batches[number].coordinates())
            passes("between-applies")
        if committed:
            self.monitor.written()
        back = [number for number in outputs if number not in committed and number in self._ownership.owned]
        if back:
            self._intake.go_back(back)
            self._count_abort()
            self._bisect(batches)
        elif committed:
            self._aborts = 0
            self._limit = min(self._config.delivery.batch_max_records, self._limit * 2)
        if not whole and not back:
            log.warning("partitions %s went to another owner", sorted(set(outputs) - set(committed)))

    def _count_abort(self) -> None:
        self._aborts += 1
        if self._aborts > ABORTS_MAX:
            raise FatalError(f"{ABORTS_MAX} transactions in a row were aborted; the log lines above say why")
        time.sleep(min(1.0, 0.01 * 2 ** min(self._aborts, 7)))  # what refused it may need a moment

    def _bisect(self, batches: dict[int, Batch]) -> None:
        """Bisect a batch of which Kafka refused a record; alone in its batch, the record is a poison record."""
        if not any(error.code() in RECORD_REFUSED for error in self._transactor.refused):
            return
        inputs = [where for batch in batches.values() for where in batch.coordinates()]
        if len(inputs) == 1:
            self._poison_records.add(inputs[0])
            where = inputs[0]
            log.warning(
                "%s [%d] %d: what it would become is refused by Kafka; it becomes a dead letter",
                *where,
                extra=dict(zip(("topic", "partition", "offset"), where, strict=True)),
            )
        self._limit = max(1, min(self._limit, len(inputs)) // 2)

    # --- 6: beside the path of records ---

    def _housekeeping(self) -> None:
        now = time.monotonic()
        owned = self._ownership.owned
        if now - self._restore_point_s < (FREE_S if self._unowned else RESTORE_POINT_S):
            return
        self._restore_point_s = now
        self._ownership.serve()
        self._look_for_owners()
        if owned:
            try:
                samples = self._ownership.output_ends(list(owned), 0.5)
            except KafkaException as exception:  # a later sample does as well: a rebuild would begin a little earlier
                log.warning("ends of the outputs cannot be read now: %s", error_of(exception).str())
                samples = {}
            else:
                self._log_answers_again()
            for number, sample in samples.items():
                partition = owned[number]
                partition.restore_points.add(partition.events_position, partition.feedback_position, sample)
        elif outage.seconds is not None:
            with contextlib.suppress(KafkaException):
                self._client.list_topics(self._config.events.topic, timeout=1)
                self._log_answers_again()
        self._compare_partitioners()

    def _look_for_owners(self) -> None:
        """Partitions that came while the group stood still are given out; nobody else would notice."""
        config = self._config
        if not self._group.settled or outage.seconds is not None:
            return
        found = unowned(
            self._client, config.app.id, config.events.topic, self._ownership.partitions, self._group.member_id
        )
        free = sorted(self._unowned.intersection(found))  # one on its way between two members is nobody's for a moment
        self._unowned = set(found)
        said = f"partitions {free} of {config.events.topic} are nobody's: the group is asked anew" if free else ""
        if free:
            log.warning("%s", said)
            self._group.join()
        self.report.warnings["unowned"] = said

    def _log_answers_again(self) -> None:
        seconds = outage.over()
        if seconds is not None:
            log.info("Kafka answers again, after %.0f s", seconds)

    def _compare_partitioners(self) -> None:
        said = self._intake.keys_disagree()
        self.metrics.set("partitioners_differ", bool(said))
        if said and said != self._disagreement:
            log.warning("%s", said)
        self._disagreement = self.report.warnings["partitioners"] = said
