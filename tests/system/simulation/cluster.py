"""Kafka as far as the service meets it: logs, transactions, one group. Every request is carried out at once."""

from collections.abc import Callable, Sequence
from typing import Any

from tests.system.simulation.groups import Group, GroupMetadata
from tests.system.simulation.logs import NO_PRODUCER, Entry, PartitionLog, Where
from tests.system.simulation.transactions import OFFSETS, Coordinator, Rejected


class Cluster:
    """The brokers. Time comes in with each request, in seconds."""

    def __init__(self, topics: dict[str, int], group: Group, now_ms: Callable[[], int], note: Callable[[str], None]):
        self.logs = {(topic, p): PartitionLog() for topic, count in topics.items() for p in range(count)}
        self.group = group
        self.coordinator = Coordinator(self._mark, note)
        self.too_large: set[tuple[str, bytes | None]] = set()
        self.checkpoints: dict[str, dict[int, tuple[dict[str, Any], bytes]]] = {}  # by lineage or watch, and position
        self._now_ms = now_ms

    def put(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """A record of the world outside, in no transaction."""
        return self.logs[topic, partition].append(Entry("data", NO_PRODUCER, self._now_ms(), key, value))

    def produce(
        self,
        transactional_id: str,
        epoch: int,
        where: Where,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        """One record of a transaction, whose partition was added to it before.

        A log that holds nothing of the transaction yet asks the coordinator whether it is open (KIP-890, part 1).
        """
        if (where[0], key) in self.too_large:
            raise Rejected("too_large")
        transaction = self.coordinator.find(transactional_id)
        if transaction.epoch != epoch:
            raise Rejected("fenced")
        log, is_open = self.logs[where], transaction.state == "ongoing" and where in transaction.partitions
        if not log.holds_open(transaction.producer) and not is_open:
            raise Rejected("invalid_state")
        log.append(Entry("data", transaction.producer, self._now_ms(), key, value, tuple(headers)))

    def send_offsets(
        self,
        transactional_id: str,
        epoch: int,
        offsets: list[tuple[Where, int, str]],
        said: GroupMetadata,
        now_s: float,
    ) -> None:
        """AddOffsetsToTxn, then TxnOffsetCommit."""
        transaction = self.coordinator.add(transactional_id, epoch, OFFSETS, now_s)
        problem = self.group.check(said)
        if problem:
            raise Rejected(problem)
        self.group.hold(transaction.producer, offsets)

    def _mark(self, where: Where, producer: int, commit: bool) -> None:
        if where == OFFSETS:
            self.group.mark(producer, commit=commit)
        else:
            self.logs[where].mark(producer, commit=commit, now_ms=self._now_ms())
