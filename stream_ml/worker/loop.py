"""The loop of one worker. Each turn:

1. consume events and feedback: what has arrived is the batch
2. fold committed log entries, for a bounded time, so that the batch is scored with what is known by now; in a backlog
   beside step 4, while Kafka takes what was produced
3. one call into the core for each partition gives all outputs as values
4. one transaction holds them all, with the offsets of both topics; what follows from its ending: commit.py
5. a checkpoint, when it is due

What a worker may be doing instead: state.py.
"""

import logging
import time
from collections.abc import Callable
from functools import partial

from stream_ml.app.parts import Parts
from stream_ml.core.partition.batch import Batch, Outputs
from stream_ml.follower.follower import Follower
from stream_ml.kafka.access.certificates import FileWatch
from stream_ml.kafka.clients import admin
from stream_ml.kafka.consumers import FeedbackInput, Group
from stream_ml.kafka.topic_watch import TopicWatch
from stream_ml.kafka.topics import TopicFacts
from stream_ml.kafka.writing.transaction import Transactor
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.traces import Traces
from stream_ml.observe.turn_spans import TurnSpans
from stream_ml.runtime.failpoints import passes
from stream_ml.storage.keys import log_seal
from stream_ml.worker.commit import Committer
from stream_ml.worker.housekeeping import Housekeeping, log_answers_again
from stream_ml.worker.intake import Intake, clock_now
from stream_ml.worker.partitions.assignment import ClaimFailed, Ownership, new_token
from stream_ml.worker.partitions.moves import Moves
from stream_ml.worker.partitions.offsets import refuse_lost_offsets
from stream_ml.worker.report.monitor import Monitor
from stream_ml.worker.report.report import Report
from stream_ml.worker.state import WorkerState, state_of

BACKLOG_FOLDS = 10  # times learning.budget_per_turn
KEEPS_STEP_S = 1.0  # learning that lags by more in a backlog folds as much as its budget allows
STOOD_STILL_S = 0.25  # between two signs of life of this thread: topics may have been changed unseen
TOPICS_WAIT_S = 2.0  # for what Kafka says of them then
BLOCKED_S = 0.1  # between two looks at topics that are not as they were
CLOSE_STALL_S = 2.0  # for learning at the end: what is not folded by then, the next process folds

log = logging.getLogger(__name__)


class Worker:
    """One member of the group, with one replica of the model.

    Attributes
    ----------
    replaced
        Files of certificates that were replaced while it ran: it has ended, so that the process begins anew.

    So many attributes: it makes the parts of a worker, and calls them in their order.
    """

    def __init__(
        self,
        parts: Parts,
        facts: TopicFacts,
        metrics: Metrics,
        stop: Callable[[], bool] = lambda: False,
        traces: Traces | None = None,
    ) -> None:
        self._stop = stop
        config = parts.config
        self._parts, self._config, self._facts, self.metrics = parts, config, facts, metrics
        self._client = admin(config)
        seal = log_seal(config, facts.training_log_topic_id)
        self._transactor = Transactor(config, facts.record_bytes_max, seal)
        self._group = Group(config, facts.partitions)
        self._feedback = FeedbackInput(config, facts.partitions)
        self._topics = TopicWatch(config, self._client, facts)
        self.follower = Follower(parts, facts, metrics, self._keep_alive, seal)
        self.ownership = Ownership(parts, facts, self._client, self.follower, self._transactor)
        self.monitor = Monitor(parts, metrics)
        inputs = (self._group, self._feedback)
        self.report = Report(parts, metrics, self.follower, self.ownership, inputs, self.monitor, self._topics)
        self._intake = Intake(parts, self._group, self._feedback, self.ownership, self.follower, facts.partitions)
        self._moves = Moves(self._group, self.ownership, self._intake, metrics, self._keep_alive)
        self._committer = Committer(parts, self._transactor, self.ownership, self._intake, metrics, self._is_alive)
        self._housekeeping = Housekeeping(
            parts, self._client, self._group, self.ownership, self._intake, self.report, metrics
        )
        of_inputs = {"topic": config.events.topic, "group": config.app.id, "client": config.transactional_id}
        self._spans = TurnSpans(traces or Traces(config, None), **of_inputs)
        self._files, self.replaced = FileWatch(config), ""
        self._verdict, self._alive_s = self._topics.verdict, time.monotonic()

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
        try:
            while not self._stop() and not self.replaced:
                self.turn()
                self._look_at_certificates()
        except BaseException as error:
            self._spans.end(0, error=type(error).__name__)
            raise

    def _look_at_certificates(self) -> None:
        """See whether the files of Kafka's clients were replaced, which they do not see: then another process does."""
        self.replaced = self._files.replaced()
        self.report.warn("certificates", self._files.problem)

    def turn(self) -> None:
        """One turn, as in the module's text."""
        self._look_at_topics()
        if state_of(self._verdict, self._group, self.ownership) is WorkerState.BLOCKED:
            self._keep_alive()
            self.report.renew()
            time.sleep(BLOCKED_S)
            return
        self._take_up()
        if self.ownership.wanted and not self.ownership.owned:
            self.report.renew()
            return
        batches = self._batches()
        self._begin_span(batches)
        if not batches or self.follower.chases or not self._intake.backlog(self._committer.limit):
            self._fold(partial(self.follower.turn, self._config.learning.budget_per_turn / 1000))
        began_s = time.monotonic()
        batches = self._still_ours(batches)
        outputs = self._process(batches)
        if outputs:
            passes("after-process")
            self._observe(process=time.monotonic() - began_s)
        self._end_span(batches, outputs, self._commit(batches, outputs) if outputs else {})
        if self.follower.checkpoint_if_due(self._config.checkpoints.interval / 1000):
            self.monitor.save()
        self.follower.take_over.look(self.follower.lineup)
        self._housekeeping.run()
        self.report.renew()

    # --- what is traced ---

    def _begin_span(self, batches: dict[int, Batch]) -> None:
        if any(len(batch.events) or len(batch.feedback) for batch in batches.values()):
            both = (records for batch in batches.values() for records in (batch.events.records, batch.feedback.records))
            self._spans.begin(headers for records in both for headers in records.headers.values())

    def _end_span(self, batches: dict[int, Batch], outputs: dict[int, Outputs], committed: dict[int, Outputs]) -> None:
        if not self._spans.is_open:
            return
        count = sum(len(batch.events) + len(batch.feedback) for batch in batches.values())
        model = self.follower.serving.model
        told: dict[str, str | int] = {"stream_ml.lineage": model.settings.lineage, "stream_ml.position": model.position}
        self._spans.end(count, told, "" if len(committed) == len(outputs) else "not_committed")

    # --- 1: consume ---

    def _batches(self) -> dict[int, Batch]:
        if self._catching_up():
            self._keep_alive()
            return {}
        committer = self._committer
        return self._intake.batches(committer.limit, committer.poison_records, wait=not self.ownership.wanted)

    def _still_ours(self, batches: dict[int, Batch]) -> dict[int, Batch]:
        """Without what went while it was read: that is not committed, so it comes again, here or elsewhere."""
        if self._group.metadata is None:
            self._intake.go_back(batches)
            return {}
        gone = self._group.gone
        return {number: batch for number, batch in batches.items() if number not in gone} if gone else batches

    def _catching_up(self) -> bool:
        """Whether learning lags too far behind a backlog: then events wait, so that the model is not left behind."""
        lags = self.follower.lag_s > self._config.learning.lag_max / 1000 and self.follower.halt is None
        held = self.follower.held_s is not None  # then there is nothing to catch up with
        return lags and not held and not self._group.ends.all_reached()

    def _observe(self, **seconds: float) -> None:
        for stage, took_s in seconds.items():
            self.metrics.observe("stage_seconds", took_s, stage=stage)
            self._spans.stage(stage, took_s)

    # --- the topics and the group may have changed ---

    def _look_at_topics(self) -> None:
        """Take the verdict of the topics; what is not as it was is reported, and where more came they are taken up.

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
            log_answers_again()
        if known.reasons != verdict.reasons:
            self.report.renew(at_once=True)
        if verdict.partitions != self.ownership.partitions and not verdict.blocking:
            log.info("the topics have %d partitions now, %d before", verdict.partitions, self.ownership.partitions)
            self.ownership.partitions = verdict.partitions
            self._intake.sample_keys(verdict.partitions)
            self._moves.look_again_at_suspended()
            self._group.join()

    def _take_up(self) -> None:
        if self._moves.look():
            self._housekeeping.group_moved()
            self.report.renew(at_once=True)
        if not self.ownership.wanted:
            return
        try:
            self._moves.go_on()
        except ClaimFailed:
            self._committer.count_abort()
            self._keep_alive()  # without a poll a member that was thrown out would never hear of it
        if not self.ownership.wanted:
            self.report.renew(at_once=True)

    def _is_alive(self) -> None:
        """What took long was work of this thread's own."""
        self._alive_s = time.monotonic()
        self.report.health.alive()

    def _keep_alive(self) -> None:
        self._is_alive()
        self._group.keep_alive()

    # --- 2: fold ---

    def _fold(self, turn: Callable[[], None]) -> float:
        """Fold for a turn; how many seconds that took."""
        began_s = time.monotonic()
        turn()
        took_s = time.monotonic() - began_s
        self._observe(fold=took_s)
        return took_s

    def _fold_backlog(self, examples: int) -> float:
        """In a backlog nobody waits for one event: learning keeps step, while Kafka takes what was produced.

        Of the log as much as this transaction adds to it, so that something is left for the next one's wait.
        """
        most = None if self.follower.lag_s > KEEPS_STEP_S else examples
        budget_s = BACKLOG_FOLDS * self._config.learning.budget_per_turn / 1000
        return self._fold(partial(self.follower.turn_during_commit, budget_s, most))

    # --- 3: process ---

    def _process(self, batches: dict[int, Batch]) -> dict[int, Outputs]:
        """Outputs of the partitions that have something to commit; the idle ones' time moves on without."""
        found: dict[int, Outputs] = {}
        if not batches:
            return found
        clock, token = clock_now(), new_token(self._config.transactional_id)
        serving = self.follower.serving
        stale = self.follower.lag_s > self._config.learning.lag_max / 1000
        for number, read in list(batches.items()):
            batch = batches[number] = self._intake.under(read, serving.model.settings.plan, clock)
            of = self.ownership.owned[number]
            with self.follower.cost.of("score", by=serving.model.settings.lineage[:8]) as scored:
                outputs = of.core.process(batch, serving, clock, stale=stale, token=token)
                scored.append(len(batch.events))
            self._is_alive()
            if len(batch.events) or len(batch.feedback) or outputs.is_due or self._intake.commit_is_due(of):
                found[number] = outputs
            else:
                of.core.apply(outputs)
        return found

    # --- 4: commit ---

    def _commit(self, batches: dict[int, Batch], outputs: dict[int, Outputs]) -> dict[int, Outputs]:
        """The outputs that stand."""
        examples = sum(output.counts["labels", "joined"] for output in outputs.values())
        in_backlog, began_s = self._intake.backlog(self._committer.limit), time.monotonic()
        committed = self._committer.commit(
            batches,
            outputs,
            self.monitor.signals.block(clock_now()),
            self._group.metadata,
            partial(self._fold_backlog, examples) if in_backlog else None,
        )
        self._spans.stage("commit", time.monotonic() - began_s)
        if committed:
            self.monitor.signals.committed()
        for number, output in committed.items():
            self.report.committed(batches[number], output)
            self.monitor.committed(self.ownership.owned[number], batches[number], output)
        return committed

    # --- the end ---

    def close(self, why: str = "the end") -> None:
        """Learn what is committed, as far as that goes quickly, write a checkpoint, let go of everything.

        A static member's place is kept for the session timeout.
        """
        log.info("stopping, because of %s: what is committed is learned, then a checkpoint", why)
        self.report.health.stopping = why
        self.follower.finish(CLOSE_STALL_S, self._config.checkpoints.stop_wait / 1000)
        self.monitor.save()
        self._topics.close()
        self._transactor.close()
        self.ownership.close()
        self._feedback.close()
        self._group.close()
        log.info("stopped at %d of the training log", self.follower.book.position)
