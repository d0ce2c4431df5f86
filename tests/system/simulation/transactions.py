"""The transaction coordinator by the protocol before KIP-890's second part: epochs grow with a new producer only.

EndTxn answers when the decision is taken. The markers follow one by one, in any order; until the last one is written
the id can begin nothing new. A late EndTxn of the current epoch ends whatever transaction is open by then.
"""

from collections.abc import Callable
from typing import Literal

from tests.system.simulation.logs import Where

End = Literal["commit", "abort"]
OFFSETS: Where = ("__offsets", 0)  # stands for the group's partition among those of a transaction


class Rejected(Exception):
    """An answer that is an error: fenced, concurrent, invalid_state."""


class Transaction:
    """State of one transactional id."""

    def __init__(self, transactional_id: str, producer: int) -> None:
        self.transactional_id, self.producer = transactional_id, producer
        self.epoch = -1
        self.state = "empty"  # empty, ongoing, preparing, complete
        self.end: End = "abort"
        self.partitions: list[Where] = []
        self.markers: list[Where] = []
        self.started_s = 0.0
        self.timeout_s = 0.0


class Coordinator:
    """All transactional ids. `mark` writes one marker."""

    def __init__(self, mark: Callable[[Where, int, bool], None], note: Callable[[str], None]) -> None:
        self._mark, self._note = mark, note
        self.transactions: dict[str, Transaction] = {}

    def find(self, transactional_id: str) -> Transaction:
        """The state of this id, made where it is new."""
        return self.transactions.setdefault(transactional_id, Transaction(transactional_id, len(self.transactions)))

    def init(self, transactional_id: str, timeout_s: float) -> int:
        """A new epoch; an open transaction is aborted first, and `concurrent` is answered until that is done."""
        found = self.find(transactional_id)
        if found.state == "ongoing":
            found.epoch += 1
            self._decide(found, "abort")
        if found.state == "preparing":
            raise Rejected("concurrent")
        found.epoch += 1
        found.state, found.timeout_s = "empty", timeout_s
        self._note(f"coordinator: {transactional_id} has epoch {found.epoch}")
        return found.epoch

    def add(self, transactional_id: str, epoch: int, where: Where, now_s: float) -> Transaction:
        """Add a partition to the open transaction; the first one opens it."""
        found = self._current(transactional_id, epoch)
        if found.state == "preparing":
            raise Rejected("concurrent")
        if found.state != "ongoing":
            found.state, found.partitions, found.started_s = "ongoing", [], now_s
        if where not in found.partitions:
            found.partitions.append(where)
        return found

    def finish(self, transactional_id: str, epoch: int, end: End) -> None:
        """EndTxn."""
        found = self._current(transactional_id, epoch)
        if found.state == "ongoing":
            self._decide(found, end)
        elif found.state == "empty" or found.end != end:
            raise Rejected("invalid_state")

    def expire(self, now_s: float) -> None:
        """Abort what is open for longer than its timeout; its producer is fenced by that."""
        for found in self.transactions.values():
            if found.state == "ongoing" and now_s - found.started_s > found.timeout_s:
                self._note(f"coordinator: transaction of {found.transactional_id} timed out")
                found.epoch += 1
                self._decide(found, "abort")

    def unmarked(self) -> list[tuple[Transaction, Where]]:
        """Markers that are decided and not yet written."""
        return [(found, where) for found in self.transactions.values() for where in found.markers]

    def write(self, found: Transaction, where: Where) -> None:
        """Write one of them."""
        found.markers.remove(where)
        self._mark(where, found.producer, found.end == "commit")
        if not found.markers:
            found.state = "complete"

    def _current(self, transactional_id: str, epoch: int) -> Transaction:
        found = self.find(transactional_id)
        if found.epoch != epoch:
            raise Rejected("fenced")
        return found

    def _decide(self, found: Transaction, end: End) -> None:
        self._note(f"coordinator: {end} of {found.transactional_id}, {len(found.partitions)} partitions")
        found.state, found.end, found.markers = "preparing", end, list(found.partitions)
