"""The committed state of partition p: both offsets and their metadata; and the fence against a writer that died."""

import logging
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stream_ml.config import Config
from stream_ml.core.partition.commit_metadata import Metadata, other_format, parse_feedback_mark, parse_metadata
from stream_ml.kafka.clients import TIMEOUT_S, producer, reader
from stream_ml.kafka.errors import error_of
from stream_ml.kafka.retries import COORDINATORS, asked

UNSTABLE_WAIT_S = 2.0  # how long committed() may stay unstable before its writer is fenced

log = logging.getLogger(__name__)


class CommittedState(NamedTuple):
    """Positions of partition p in both topics and its state; None where nothing is committed.

    `whole` says that both offsets are there, of one transaction of ours. `inputs_id` names the topics that they were
    committed of, even where Kafka has forgotten one with its topic. `other_format` is the version of a state that this
    code does not read.
    """

    partition: int
    events: int | None
    feedback: int | None
    metadata: Metadata | None
    inputs_id: tuple[str, str] | None = None
    other_format: int | None = None

    @property
    def absent(self) -> bool:
        """Whether nothing at all was ever committed, or all of it is gone."""
        return self.events is None and self.feedback is None

    @property
    def whole(self) -> bool:
        """Whether the partition can go on from it."""
        return self.events is not None and self.feedback is not None and self.metadata is not None


def pair_of(config: Config, partition: int, found: list[TopicPartition]) -> CommittedState:
    """The pair out of a partition's committed offsets of both topics."""
    by_topic = {tp.topic: tp for tp in found}
    events, feedback = by_topic[config.events.topic], by_topic[config.feedback.topic]
    state, mark = parse_metadata(events.metadata), parse_feedback_mark(feedback.metadata)
    same = state is not None and mark is not None and state.token == mark.token
    known = state or mark
    return CommittedState(
        partition=partition,
        events=events.offset if events.offset >= 0 else None,
        feedback=feedback.offset if feedback.offset >= 0 else None,
        metadata=state if same else None,
        inputs_id=known.inputs_id if known else None,
        other_format=other_format(events.metadata) or other_format(feedback.metadata),
    )


def wanted(config: Config, partitions: list[int]) -> list[TopicPartition]:
    """Both topics' partitions with these numbers."""
    return [TopicPartition(t, p) for p in partitions for t in (config.events.topic, config.feedback.topic)]


def offsets_of(config: Config, partition: int, events: int, feedback: int, metadata: Metadata) -> list[TopicPartition]:
    """Both offsets of p: every transaction that touches p commits both."""
    return [
        TopicPartition(config.events.topic, partition, events, metadata.text()),
        TopicPartition(config.feedback.topic, partition, feedback, metadata.feedback_text()),
    ]


def read_committed(config: Config, partitions: list[int], *, stable: bool) -> list[CommittedState]:
    """Committed state of these partitions, read without joining the group.

    Parameters
    ----------
    stable
        Wait for open transactions to end; otherwise what was committed before them.
    """
    consumer = committed_reader(config, stable=stable)
    try:
        return committed_states(config, consumer, partitions, TIMEOUT_S)
    finally:
        consumer.close()


def committed_reader(config: Config, *, stable: bool) -> Consumer:
    """A consumer for `committed_states`."""
    return reader(config, **{"isolation.level": "read_committed" if stable else "read_uncommitted"})


def read_committed_stable(config: Config, partitions: list[int]) -> list[CommittedState]:
    """Committed state of these partitions once no transaction holds one any more; asked for all at once."""
    consumer = reader(config)
    try:
        return committed_states(config, consumer, partitions, UNSTABLE_WAIT_S)
    except KafkaException as exception:
        if error_of(exception).code() not in _UNSTABLE:
            raise
    finally:
        consumer.close()
    return [stable_pair(config, partition) for partition in partitions]  # which of them it is, nobody says


def stable_pair(config: Config, partition: int) -> CommittedState:
    """Committed state of one partition once no transaction holds it any more.

    Where one stays open, its writer stands in the metadata before it, because an owner's first transaction on a
    partition commits nothing else. Initialising a producer under that writer's id aborts the transaction: the offsets
    are readable after 0.6 s instead of after the transaction timeout (measured).
    """
    consumer = reader(config)
    try:
        try:
            return committed_pair(config, consumer, partition, UNSTABLE_WAIT_S)
        except KafkaException as exception:
            if error_of(exception).code() not in _UNSTABLE:
                raise
            _fence(config, partition)
        return committed_pair(config, consumer, partition, config.delivery.transaction_timeout / 1000 + TIMEOUT_S)
    finally:
        consumer.close()


def committed_pair(config: Config, consumer: Consumer, partition: int, timeout_s: float) -> CommittedState:
    """Committed state of a partition; KafkaException where it cannot be read in time."""
    return committed_states(config, consumer, [partition], timeout_s)[0]


def committed_states(
    config: Config, consumer: Consumer, partitions: list[int], timeout_s: float
) -> list[CommittedState]:
    """Committed state of these partitions, asked for at once; KafkaException where it cannot be read in time."""
    found = committed_offsets(consumer, wanted(config, partitions), timeout_s) if partitions else []
    by_number: dict[int, list[TopicPartition]] = {}
    for tp in found:
        by_number.setdefault(tp.partition, []).append(tp)
    return [pair_of(config, partition, by_number[partition]) for partition in partitions]


def committed_offsets(consumer: Consumer, places: list[TopicPartition], timeout_s: float) -> list[TopicPartition]:
    """Committed offsets of these places; a coordinator that is being found is waited for, TIMEOUT_S at most."""

    def ask() -> list[TopicPartition]:
        found: list[TopicPartition] = consumer.committed(places, timeout_s)
        for tp in found:
            if tp.error is not None:
                raise KafkaException(tp.error)
        return found

    return asked(ask, passing=COORDINATORS)


def _fence(config: Config, partition: int) -> None:
    pair = read_committed(config, [partition], stable=False)[0]
    writer = pair.metadata.writer if pair.metadata else ""
    if writer in ("", config.transactional_id):
        return
    log.warning("fencing %s, whose transaction holds the offsets of partition %d", writer, partition)
    fencing = producer(config, writer)
    asked(lambda: fencing.init_transactions(TIMEOUT_S))


_UNSTABLE = {KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT, KafkaError.REQUEST_TIMED_OUT}  # noqa: SLF001
