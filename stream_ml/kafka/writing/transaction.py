"""The commit protocol: outputs and offsets in one transaction, and three ways in which it ends.

1. begin   2. produce   3. flush   4. offsets   5. commit

Steps 3 to 5 wait for Kafka. Where there is other work they do so in a thread of their own, and `run` returns when both
are done; callbacks of the group come only in a poll, and nobody polls its consumer until then.

Flushing before the offsets are sent is ten times faster than leaving it to the commit (44 ms against 5 ms for 1,000
records, measured). Until step 5 nothing can have been committed, so whatever goes wrong ends in ABORTED. From step 5
on an error, or a commit slower than COMMIT_SLOW_S, ends in UNKNOWN: librdkafka hides its retries, and a request that
was thought lost may be carried out late. The producer is then thrown away; a new one under the same id fences
stragglers, and the token in the committed metadata says how it ended.
"""

import logging
import time
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from stream_ml.config import Config
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import FatalError
from stream_ml.kafka.broker_statistics import BrokerStatistics
from stream_ml.kafka.clients import producer
from stream_ml.kafka.errors import error_of, reaching, step_after
from stream_ml.kafka.threads import call_within, run_concurrently
from stream_ml.records import Block
from stream_ml.runtime.failpoints import passes

COMMIT_SLOW_S = 5.0  # a healthy commit takes 1 ms, one that was retried inside librdkafka 0.5 s and more
RETRY_MAX_S = 15.0  # for calls before the commit that say they may be repeated
OFFSETS_MAX_S = 4.0  # for sending offsets once: it takes milliseconds, and after a lost connection it may hang for ever
FLUSH_SLICE_S = 0.2  # after a refusal the rest may never be sent: flush would wait out the transaction's time
OPEN_S = 10.0  # for a new producer, beside twice the transaction timeout: what an open transaction may hold it up
REOPENED_MAX = 5  # producers made in a row without one commit between them

log = logging.getLogger(__name__)


class Ending(Enum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


class Transactor:
    """Runs transactions under one transactional id, the worker's where none is given; one thread only."""

    def __init__(
        self, config: Config, record_bytes_max: int, seal: LogSeal | None = None, transactional_id: str = ""
    ) -> None:
        self._config, self._seal = config, seal
        self._id = transactional_id or config.transactional_id
        self._record_bytes_max = record_bytes_max
        self._producer: Producer | None = None
        self._reopened = 0
        self.refused: list[KafkaError] = []
        self.brokers = BrokerStatistics()
        self.open()

    def open(self) -> None:
        """Throw the producer away and make a new one: fences whatever the old one, or a predecessor, left open."""
        self._producer = None
        self._reopened += 1
        if self._reopened > REOPENED_MAX:
            raise FatalError(
                f"no transaction of {self._id} was committed by {REOPENED_MAX} producers in a row",
                "does another process run with the same worker.instance?",
            )
        made = producer(
            self._config,
            self._id,
            **{
                "message.max.bytes": max(1_000, self._record_bytes_max),
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
                **self.brokers.settings(),
            },
        )
        with reaching(self._config):
            made.init_transactions(2 * self._config.delivery.transaction_timeout / 1000 + OPEN_S)
        self._producer = made

    def run(
        self,
        blocks: Sequence[Block],
        offsets: list[TopicPartition],
        group: Any,
        meanwhile: Callable[[], None] | None = None,
    ) -> Ending:
        """One transaction.

        Parameters
        ----------
        blocks
            Written in this order.
        offsets
            Next positions with their metadata; computed from records, never from position().
        group
            The consumer group metadata captured when these partitions were assigned.
        meanwhile
            Other work than this transaction's, done while Kafka takes the records. What it raises is raised once the
            transaction has ended.
        """
        assert self._producer is not None  # noqa: S101
        self.refused = []
        error = self._error_of(partial(self._produced, self._producer, blocks))
        if error is not None:
            return self._give_up(error)
        ended = partial(self._ended, self._producer, offsets, group)
        ending = ended() if meanwhile is None else run_concurrently(ended, meanwhile)
        del ended  # nothing may keep a producer alive that is thrown away
        return ending if isinstance(ending, Ending) else self._give_up(ending)

    # --- the steps ---

    def _produced(self, made: Producer, blocks: Sequence[Block]) -> None:
        """Steps 1 and 2."""
        self._begin(made)
        self._produce(made, blocks)
        passes("after-produce")

    def _ended(self, made: Producer, offsets: list[TopicPartition], group: Any) -> Ending | KafkaError:
        """Steps 3 to 5; the error that stands before step 5."""
        error = self._error_of(lambda: self._prepared(made, offsets, group))
        return self._commit(made) if error is None else error

    def _prepared(self, made: Producer, offsets: list[TopicPartition], group: Any) -> None:
        """Steps 3 and 4."""
        self._flush(made)
        passes("after-flush")
        self._offsets(made, offsets, group)
        passes("after-offsets")

    def _error_of(self, steps: Callable[[], None]) -> KafkaError | None:
        """The error that ends these steps. Its exception ends here: it would keep the producer alive."""
        try:
            steps()
        except FAILURES as exception:
            error = error_of(exception)
            if error.code() not in RECORD_REFUSED:
                return error
            self.refused.append(error)
            return _ABORT
        return None

    def _begin(self, made: Producer) -> None:
        made.begin_transaction()

    def _produce(self, made: Producer, blocks: Sequence[Block]) -> None:
        passing = True
        for topic, partition, keys, values, headers in map(self._sealed, blocks):
            for row, (key, value) in enumerate(zip(keys, values, strict=True)):
                while True:
                    try:
                        if headers and row in headers:
                            made.produce(topic, value, key, partition, headers=list(headers[row]))
                        else:
                            made.produce(topic, value, key, partition)
                        break
                    except BufferError:
                        made.poll(0.05)
                        if self.refused:
                            raise KafkaException(_ABORT) from None
                if passing:
                    passing = False
                    passes("some-produced")

    def _sealed(self, block: Block) -> Block:
        """Entries of the training log with their seals; other records as they are."""
        if self._seal is None or block.topic != self._config.training_log_topic:
            return block
        return block._replace(
            headers={row: [self._seal.header(value or b"")] for row, value in enumerate(block.values)}
        )

    def _flush(self, made: Producer) -> None:
        deadline = time.monotonic() + self._config.delivery.transaction_timeout / 1000
        while (left := made.flush(FLUSH_SLICE_S)) and not self.refused and time.monotonic() < deadline:
            pass
        if self.refused or left:
            raise KafkaException(_ABORT)

    def _offsets(self, made: Producer, offsets: list[TopicPartition], group: Any) -> None:
        deadline = time.monotonic() + RETRY_MAX_S
        while True:
            try:
                call_within(lambda: made.send_offsets_to_transaction(offsets, group, OFFSETS_MAX_S), OFFSETS_MAX_S + 1)
                return
            except FAILURES as exception:
                if step_after(error_of(exception)) != "retry" or time.monotonic() > deadline:
                    raise

    def _commit(self, made: Producer) -> Ending:
        started = time.monotonic()
        passes("before-commit")
        try:
            made.commit_transaction(COMMIT_SLOW_S)
        except FAILURES as exception:
            log.warning("commit ended without a certain answer: %s", error_of(exception).str())
            return Ending.UNKNOWN
        if time.monotonic() - started >= COMMIT_SLOW_S:
            return Ending.UNKNOWN
        self._reopened = 0
        return Ending.COMMITTED

    # --- when something goes wrong before the commit ---

    def _give_up(self, error: KafkaError) -> Ending:
        """Abort; where even that fails, a new producer does it. Nothing was committed."""
        log.warning("transaction given up: %s", error.str() if error is not _ABORT else self._refusal())
        if step_after(error) != "fatal" or error is _ABORT:
            try:
                assert self._producer is not None  # noqa: S101
                self._producer.abort_transaction(RETRY_MAX_S)
                return Ending.ABORTED
            except FAILURES as exception:
                log.warning("abort failed: %s", error_of(exception).str())
        self.open()
        return Ending.ABORTED

    def _refusal(self) -> str:
        return f"not delivered: {self.refused[0].str()}" if self.refused else "records were not delivered in time"

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and error.code() not in _PURGED:
            self.refused.append(error)

    def close(self) -> None:
        """Let go of the producer. Nothing is open between transactions."""
        self._producer = None


FAILURES = (KafkaException, SystemError)  # see error_of
_PURGED = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}  # noqa: SLF001 - consequences of an abort
_ABORT = KafkaError(KafkaError._FAIL, "records were not delivered")  # noqa: SLF001
RECORD_REFUSED = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG}
