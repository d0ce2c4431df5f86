"""One runner: takes chunks of jobs, scores each with one version, and commits results and offsets together.

::

    take chunks ──► fold what came since ──► score ──► one transaction: results, offsets ──► take the next ones
        ▲                                                      │ aborted, or nobody knows
        └───────── again from what is committed ◄──────────────┘

A runner that dies leaves its chunks uncommitted: another one scores them. A runner that was thought dead is fenced by
the group's generation, which each transaction names.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Message, TopicPartition

from stream_ml.app.parts import Parts
from stream_ml.core.api.answers import Answers
from stream_ml.core.api.jobs import CHUNK_ROWS, Chunk, Result, chunk_key, decode, encode_within
from stream_ml.core.api.scoring import Moment, score_asked
from stream_ml.core.avro.record import LaterFormat
from stream_ml.errors import FatalError
from stream_ml.follower.follower import Follower
from stream_ml.follower.moments import Moments
from stream_ml.follower.said import folded_words
from stream_ml.jobs.membership import Membership
from stream_ml.kafka.errors import let_in
from stream_ml.kafka.messages import headers_of
from stream_ml.kafka.reading.jobs import JobWatch
from stream_ml.kafka.topics import TopicFacts
from stream_ml.kafka.writing.transaction import Ending, Transactor
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.traces import Traces
from stream_ml.observe.turn_spans import TurnSpans
from stream_ml.records import Block
from stream_ml.runtime.failpoints import passes

CHUNKS_MAX = 20  # in one transaction
IDLE_S = 0.05  # for the first chunk
FOLD_S = 0.05  # between two turns of chunks
SAID_S = 60.0  # between two lines in the log
WATCH_S = 10.0  # at the start, for what is known of jobs: a job that was cancelled need not be scored

log = logging.getLogger(__name__)


class Runner:
    """One runner; one thread only, but for `reasons` and `silent_s`.

    Attributes
    ----------
    scored
        Rows since the start, committed.

    So many attributes: they are what a turn needs, and what is told of it.
    """

    def __init__(
        self, parts: Parts, facts: TopicFacts, seal: Any, metrics: Metrics, traces: Traces | None = None
    ) -> None:
        config = self._config = parts.config
        self._follower = Follower(parts, facts, Metrics(), lambda: None, seal, reads_only=True)
        self._moments = Moments(parts, self._follower, CHUNK_ROWS)
        self._answers = Answers(parts.domain, parts.feedback.label_field)
        self._watch = JobWatch(config)
        self._record_bytes_max = facts.record_bytes_max
        self._group = f"{config.app.id}.jobs"
        self._transactor = Transactor(config, facts.record_bytes_max, None, f"{self._group}-{config.instance}")
        self._membership = Membership(config, self._group)
        of_requests = {"topic": config.job_requests, "group": self._group, "client": f"{self._group}-{config.instance}"}
        self._spans = TurnSpans(traces or Traces(config, None), **of_requests)
        self._metrics, self.scored = metrics, 0
        self._said_s, self._said = time.monotonic(), 0
        self._turned_s = time.monotonic()

    def run(self, told_to_stop: Callable[[], bool]) -> None:
        """Score until told to stop; StreamMLError where that cannot go on."""
        self._watch.begin()
        self._follower.start(told_to_stop)
        if told_to_stop():
            return
        self._watch.caught_up.wait(WATCH_S)
        self._moments.renew()
        self._membership.join()
        let_in.set()
        log.info("waiting for chunks of jobs in %s, group %s", self._config.job_requests, self._group)
        while not told_to_stop():
            self._turn()
            if self._watch.problem:
                raise FatalError(self._watch.problem)

    @property
    def reasons(self) -> list[str]:
        """Why it does not score; empty while it does."""
        if self._moments.now is None:
            return [folded_words(folding) if (folding := self._follower.folding) is not None else "starting"]
        if self._membership.metadata is None:
            return ["the group has not given it anything yet"]
        return []

    @property
    def silent_s(self) -> float:
        """Seconds since its last turn."""
        return time.monotonic() - self._turned_s

    def close(self) -> None:
        """Leave the group and let go of Kafka."""
        self._watch.close()
        self._membership.close()
        self._transactor.close()
        self._follower.close()

    def _turn(self) -> None:
        self._turned_s = time.monotonic()
        self._follower.turn(FOLD_S)
        self._moments.renew()
        messages = self._membership.take(CHUNKS_MAX, 0.0 if self._follower.behind else IDLE_S)
        if messages:
            self._spans.begin(map(headers_of, messages))
            self._commit(messages)
        self._metrics.set("jobs_ready", not self.reasons)
        self._metrics.set("jobs_waiting", self._membership.waiting)
        if time.monotonic() - self._said_s >= SAID_S:
            if self.scored > self._said:
                log.info("%d rows of jobs scored so far", self.scored)
            self._said_s, self._said = time.monotonic(), self.scored

    def _commit(self, messages: list[Message]) -> None:
        passes("jobs-taken")
        moment = self._moments.now
        assert moment is not None  # noqa: S101 - the start has ended
        blocks, rows, failed, chunks = dict[int, Block](), 0, 0, 0
        ends = dict[int, int]()
        for message in messages:
            partition = message.partition()
            ends[partition] = message.offset() + 1
            result = self._result(message, moment)
            if result is not None:
                block = blocks.setdefault(partition, Block.empty(self._config.job_results, partition))
                block.add(chunk_key(result.job, result.number), encode_within(result, self._record_bytes_max))
                rows, failed, chunks = rows + result.rows, failed + result.failed, chunks + 1
        passes("jobs-scored")
        offsets = [TopicPartition(self._config.job_requests, partition, end) for partition, end in ends.items()]
        ending = self._transactor.run(list(blocks.values()), offsets, self._membership.metadata)
        told: dict[str, str | int] = {"stream_ml.lineage": moment.of.lineage, "stream_ml.position": moment.of.position}
        self._spans.end(len(messages), told, "" if ending is Ending.COMMITTED else ending.value)
        if ending is Ending.COMMITTED:
            passes("jobs-committed")
            self.scored += rows
            self._metrics.count("jobs_rows", rows)
            self._metrics.count("jobs_rows_failed", failed)
            self._metrics.count("jobs_chunks", chunks)
            self._metrics.count("jobs_passed_by", len(messages) - chunks)
            return
        self._metrics.count("jobs_repeated")
        log.warning("a transaction of %d chunks ended %s: again from what is committed", len(messages), ending.value)
        if ending is Ending.UNKNOWN:
            self._transactor.open()  # settles it: whatever the old one left open is aborted, or was committed
        self._membership.go_back(messages)

    def _result(self, message: Message, moment: Moment) -> Result | None:
        """A chunk's predictions; None where nobody waits for them, or it is none."""
        where = f"{message.topic()} [{message.partition()}] {message.offset()}"
        try:
            chunk = decode(message.value(), Chunk)
            instances = chunk.rows()
        except LaterFormat as error:
            raise FatalError(f"{where}: {error}", "update this runner") from error
        except ValueError as error:
            log.warning("%s is no chunk of a job, and is passed by: %s", where, error)
            return None
        with self._watch.lock:
            is_over = self._watch.book.is_over(chunk.job, chunk.at_ms)
        if is_over or time.time() * 1000 >= chunk.expires_ms:
            return None
        asked = moment.door.of_values(instances, chunk.at_ms, partial=True)
        predictions = score_asked(moment, moment.of, self._answers, asked, verbose=self._config.serve.verbose_errors)
        failed = sum("error" in one for one in predictions)
        of = moment.of
        return Result(
            *(chunk.job, chunk.number, chunk.first, chunk.at_ms, len(instances), failed),
            *(of.lineage, of.position, of.epoch, predictions),
        )
