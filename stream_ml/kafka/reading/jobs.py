"""What is known of all jobs: read from their topics for ever, in a thread of its own."""

import logging
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stream_ml.config import Config
from stream_ml.core.api.jobs import Done, JobBook, Result, decode, decode_state
from stream_ml.core.avro.record import LaterFormat
from stream_ml.errors import ConfigError, TransientError
from stream_ml.kafka.clients import admin, close_within, reader, take, topics_there
from stream_ml.kafka.errors import error_of, lasting, reaching
from stream_ml.kafka.reading.ends import since
from stream_ml.kafka.reading.ranges import read_ranges

BATCH = 500
WAIT_S = 0.1
GAP_MAX = 200  # records of others between two results that are read with them: each has up to half a megabyte
AGAIN_S = 2.0  # after Kafka did not answer

log = logging.getLogger(__name__)


def check_topics(config: Config) -> None:
    """ConfigError where a topic of jobs is missing."""
    there = topics_there(admin(config)).topics
    missing = [one for one in (config.jobs, config.job_requests, config.job_results) if one not in there]
    if missing:
        raise ConfigError(f"serve.jobs: there is no topic {', '.join(missing)}", "stream-ml topics create CONFIG")


class JobWatch:
    """Folds the topics of jobs into a book; whoever looks at it takes the lock.

    Attributes
    ----------
    caught_up
        Set once all is read that was there at the start.
    problem
        Why nothing is read any more; empty while it is.
    """

    def __init__(self, config: Config) -> None:
        self._config, self._client = config, admin(config)
        self.book, self.lock = JobBook(), threading.Lock()
        self.caught_up, self._ended = threading.Event(), threading.Event()
        self.problem = ""

    def begin(self) -> None:
        """Read for ever, in a thread that the end of the process does not wait for."""
        threading.Thread(target=self._run, name="jobs", daemon=True).start()

    def close(self) -> None:
        """Read no more."""
        self._ended.set()

    def results(self, where: Sequence[Done]) -> list[bytes]:
        """Values of these results, in their order; it blocks.

        Raises
        ------
        TransientError
            Kafka does not answer, or keeps one of them no more.
        """
        found: dict[tuple[int, int], bytes] = {}
        with reaching(self._config):
            wanted = {(one.partition, one.offset) for one in where}
            for ranges in rounds(self._config.job_results, wanted):
                for batch in read_ranges(self._config, ranges, keep_alive=lambda: None):
                    for message in batch:
                        at = (message.partition(), message.offset())
                        if at in wanted:
                            found[at] = message.value()
        missing = [one for one in where if (one.partition, one.offset) not in found]
        if missing:
            raise TransientError(
                f"{len(missing)} results are not there any more: {self._config.job_results}", "ask anew"
            )
        return [found[one.partition, one.offset] for one in where]

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._follow()
                return
            except (KafkaException, SystemError) as error:
                log.warning("jobs cannot be read, tried again: %s", error_of(error).str())
            except TransientError as error:
                log.warning("jobs cannot be read, tried again: %s", error.message)
            except LaterFormat as error:
                self.problem = f"{error}; update this process"
                log.error("jobs are not followed any more: %s", self.problem)
                return
            except Exception as error:  # nobody waits for this thread: else it would be missed by nobody
                self.problem = f"jobs are not followed any more, restart this process: {type(error).__name__}: {error}"
                log.exception("jobs are not followed any more")
                return
            self._ended.wait(AGAIN_S)

    def _follow(self) -> None:
        config = self._config
        assert config.serve.jobs is not None  # noqa: S101 - it is made only then
        since_ms = int(time.time() * 1000) - config.serve.jobs.keep
        there = topics_there(self._client).topics
        if config.job_results not in there:
            raise TransientError(f"there is no topic {config.job_results}", "stream-ml topics create CONFIG")
        count = len(there[config.job_results].partitions)
        wanted = [(config.jobs, 0), *((config.job_results, number) for number in range(count))]
        held = since(self._client, wanted, since_ms)
        left = {where for where, (first, end) in held.items() if first < end}
        consumer = reader(config)
        try:
            consumer.assign([TopicPartition(*where, first) for where, (first, _) in held.items()])
            while not self._ended.is_set():
                if not left:
                    self.caught_up.set()
                for message in take(consumer, BATCH, WAIT_S):
                    where = (message.topic(), message.partition())
                    error = message.error()
                    if error is not None:
                        if lasting(error):
                            raise KafkaException(error)
                        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                            left.discard(where)
                        continue
                    self._take(message)
                    if message.offset() + 1 >= held[where][1]:
                        left.discard(where)
        finally:
            close_within(consumer)

    def _take(self, message: Any) -> None:
        try:
            if message.topic() == self._config.jobs:
                said = decode_state(message.value())
                with self.lock:
                    self.book.state(said)
            else:
                result = decode(message.value(), Result)
                where = Done(
                    partition=message.partition(),
                    offset=message.offset(),
                    at_ms=result.at_ms,
                    rows=result.rows,
                    failed=result.failed,
                    lineage=result.lineage,
                    position=result.position,
                )
                with self.lock:
                    self.book.result(result.job, result.number, where)
        except LaterFormat:
            raise
        except ValueError as error:
            log.warning("%s [%d] %d is no record of a job: %s", *_where(message), error)


def rounds(topic: str, wanted: Collection[tuple[int, int]]) -> list[dict[tuple[str, int], tuple[int, int]]]:
    """Ranges that hold these partitions and offsets, each partition's that are far from each other in several rounds.

    Results of one job stand close together, unless runners were away in between, or other jobs have come there.
    """
    found = list[dict[tuple[str, int], tuple[int, int]]]()
    number, before = 0, (-1, 0)
    for partition, offset in sorted(wanted):
        is_other = partition != before[0]
        number = 0 if is_other else number + (offset - before[1] > GAP_MAX)
        if number == len(found):
            found.append({})
        first, _ = found[number].get((topic, partition), (offset, 0))
        found[number][topic, partition] = first, offset + 1
        before = partition, offset
    return found


def _where(message: Any) -> tuple[str, int, int]:
    return message.topic(), message.partition(), message.offset()
