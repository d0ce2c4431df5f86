"""First offsets and ends of partitions."""

from functools import partial
from weakref import WeakKeyDictionary

from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from stream_ml.kafka.clients import TIMEOUT_S
from stream_ml.kafka.retries import asked


def ends(
    client: AdminClient, partitions: list[tuple[str, int]], patience_s: float = TIMEOUT_S
) -> dict[tuple[str, int], tuple[int, int]]:
    """First offset and read_uncommitted end of each partition.

    The end counts transaction markers and open transactions: a reader is done when it meets an end-of-partition event
    at or past it, which the last record's offset plus one may never reach.

    Parameters
    ----------
    patience_s
        How long to ask again while a leader is on its move; after it the KafkaException is raised.
    """
    wanted = [TopicPartition(topic, partition) for topic, partition in partitions]
    _learn_leaders(client, {topic for topic, _ in partitions})

    def answer(spec: OffsetSpec) -> dict[TopicPartition, int]:
        futures = client.list_offsets(
            dict.fromkeys(wanted, spec),
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=TIMEOUT_S,
        )
        return {tp: future.result().offset for tp, future in futures.items()}

    def anew() -> None:
        _LEADERS.pop(client, None)  # else it asks with the leader's old epoch for ever
        _learn_leaders(client, {topic for topic, _ in partitions})

    found = [
        asked(partial(answer, spec), patience_s, made=True, between=anew)
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
    ]
    return {(tp.topic, tp.partition): (found[0][tp], found[1][tp]) for tp in wanted}


def since(client: AdminClient, partitions: list[tuple[str, int]], ms: int) -> dict[tuple[str, int], tuple[int, int]]:
    """Of each partition the first offset that is as young as a time, its end where none is; and its end, as of `ends`.

    Parameters
    ----------
    ms
        Milliseconds since 1970.
    """
    asked_for = {TopicPartition(*where): OffsetSpec.for_timestamp(ms) for where in partitions}
    answers = client.list_offsets(asked_for, request_timeout=TIMEOUT_S)
    found = {(tp.topic, tp.partition): answer.result().offset for tp, answer in answers.items()}
    last = {where: end for where, (_, end) in ends(client, partitions).items()}
    return {where: (first if first >= 0 else last[where], last[where]) for where, first in found.items()}


def _learn_leaders(client: AdminClient, topics: set[str]) -> None:
    """Let the client know who leads these topics: of those that learn it on the way 4 in 100 wait 3 s for it."""
    known = _LEADERS.setdefault(client, set())
    for topic in topics - known:
        client.list_topics(topic, timeout=TIMEOUT_S)
    known |= topics


_LEADERS: WeakKeyDictionary[AdminClient, set[str]] = WeakKeyDictionary()


def end_of(consumer: Consumer, topic: str, partition: int) -> int | None:
    """End of a partition as the last fetch saw it, open transactions included; None before the first.

    No request is made: librdkafka keeps what the fetch said.
    """
    found = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
    return found[1] if found is not None and found[1] >= 0 else None
