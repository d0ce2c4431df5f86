"""Chunks of the partitions that the group gives this runner.

1. The group's metadata is captured in its callbacks: a transaction that names a generation of which this process does
   not know yet what it took would commit what another runner has by now.
2. What was taken of a partition that went since is dropped, and nothing is taken twice.
"""

from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from stream_ml.config import Config
from stream_ml.kafka.clients import TIMEOUT_S, close_within, member_of, take
from stream_ml.kafka.errors import ended_by, lasting
from stream_ml.kafka.reading.ends import end_of


class Membership:
    """A member of the runners' group; one thread only.

    Attributes
    ----------
    metadata
        Of the generation whose partitions these are; None without any.
    """

    def __init__(self, config: Config, group: str) -> None:
        self._config, self._topic = config, config.job_requests
        self._consumer: Consumer = member_of(config, group)
        self._given: set[int] = set()
        self._next: dict[int, int] = {}  # offset of the next chunk, by partition
        self.metadata: Any = None

    def join(self) -> None:
        """Ask for partitions; they come in a later `take`."""
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.metadata = consumer.consumer_group_metadata()
        self._given |= {tp.partition for tp in partitions}
        consumer.incremental_assign(partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.metadata = consumer.consumer_group_metadata()
        self._let_go(partitions)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.metadata = None
        self._let_go(partitions)
        consumer.incremental_unassign(partitions)

    def _let_go(self, partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            self._given.discard(tp.partition)
            self._next.pop(tp.partition, None)

    def take(self, most: int, wait_s: float) -> list[Message]:
        """Chunks that have come, of partitions that are this runner's.

        Raises
        ------
        FatalError
            The topic cannot be read any more.
        """
        taken = []
        for message in take(self._consumer, most, wait_s):
            error = message.error()
            if error is None:
                taken.append(message)
            elif lasting(error):
                raise ended_by(self._config, self._topic, error)
        found = []
        for message in taken:  # once all callbacks of this call are through
            partition, offset = message.partition(), message.offset()
            if partition in self._given and offset >= self._next.get(partition, 0):
                self._next[partition] = offset + 1
                found.append(message)
        return found

    @property
    def waiting(self) -> int:
        """Chunks that wait in its partitions, as the last fetch saw them."""
        found = 0
        for partition, at in list(self._next.items()):
            end = end_of(self._consumer, self._topic, partition)
            found += max(0, end - at) if end is not None else 0
        return found

    def go_back(self, messages: list[Message]) -> None:
        """Take again what of these is not committed."""
        partitions = {message.partition() for message in messages} & self._given
        firsts = {p: min(m.offset() for m in messages if m.partition() == p) for p in partitions}
        committed = self._consumer.committed([TopicPartition(self._topic, p) for p in partitions], TIMEOUT_S)
        for tp in committed:
            at = tp.offset if tp.offset >= 0 else firsts[tp.partition]
            self._next[tp.partition] = at
            try:
                self._consumer.seek(TopicPartition(self._topic, tp.partition, at))
            except KafkaException:  # it is about to go, or has only just come: it is assigned anew where it stands
                self._consumer.incremental_unassign([TopicPartition(self._topic, tp.partition)])
                self._consumer.incremental_assign([TopicPartition(self._topic, tp.partition, at)])

    def close(self) -> None:
        """Leave."""
        close_within(self._consumer)
