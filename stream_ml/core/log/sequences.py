"""The invariant that makes exactly-once visible: dense sequences and ever later triggers per source partition.

1. next sequence and later trigger: the example is new, learn it.
2. old sequence and old trigger: a repeat, drop it and count it.
3. anything else - a gap, or a sequence and a trigger that disagree - is a loss or a forgery: halt.
"""

from collections.abc import Iterable
from typing import Literal

Verdict = Literal["learn", "drop", "gap", "disagree"]
Place = tuple[int, int, str, int]  # of an example: source partition, sequence, topic and offset of its trigger


class Account:
    """What is known of one source partition: the next sequence, and the last trigger offset per topic."""

    __slots__ = ("next_sequence", "triggers")

    def __init__(self, next_sequence: int = 0, triggers: dict[str, int] | None = None) -> None:
        self.next_sequence = next_sequence
        self.triggers = dict(triggers or {})

    def last_trigger(self, topic: str) -> int:
        """Offset of the last trigger from this topic, -1 before the first."""
        return self.triggers.get(topic, -1)

    def judge(self, sequence: int, topic: str, offset: int) -> Verdict:
        """What to do with an example, by the three rules above."""
        expected = self.next_sequence
        later = offset > self.last_trigger(topic)
        if sequence == expected and later:
            return "learn"
        if sequence < expected and not later:
            return "drop"
        return "gap" if sequence > expected and later else "disagree"

    def saw(self, sequence: int, topic: str, offset: int) -> None:
        """Count an example as seen; sequences and triggers never move back."""
        self.triggers[topic] = max(offset, self.last_trigger(topic))
        self.next_sequence = max(self.next_sequence, sequence + 1)

    def plain(self) -> tuple[int, dict[str, int]]:
        """As values, for a checkpoint and for comparing."""
        return self.next_sequence, dict(self.triggers)


class Ledger:
    """Accounts of all source partitions; `copy` before a change that may be undone."""

    def __init__(self, accounts: dict[int, Account] | None = None) -> None:
        self.accounts: dict[int, Account] = dict(accounts or {})

    def copy(self) -> "Ledger":
        """An independent ledger with the same accounts."""
        return Ledger({partition: Account(*account.plain()) for partition, account in self.accounts.items()})

    def plain(self) -> dict[int, tuple[int, dict[str, int]]]:
        """As values, for a checkpoint and for comparing."""
        return {partition: account.plain() for partition, account in sorted(self.accounts.items())}

    def next_sequence(self, partition: int) -> int:
        """The sequence that the next example of this partition must carry."""
        account = self.accounts.get(partition)
        return account.next_sequence if account is not None else 0

    def last_trigger(self, partition: int, topic: str) -> int:
        """Offset of the partition's last trigger from this topic, -1 before the first."""
        account = self.accounts.get(partition)
        return account.last_trigger(topic) if account is not None else -1

    def judge(self, partition: int, sequence: int, topic: str, offset: int) -> Verdict:
        """What to do with an example of a partition; of an unknown one as of one that has had none."""
        return (self.accounts.get(partition) or Account()).judge(sequence, topic, offset)

    def account(self, partition: int) -> Account:
        """The account of a partition; a new one where nothing is known of it."""
        if partition not in self.accounts:
            self.accounts[partition] = Account()
        return self.accounts[partition]

    def saw(self, partition: int, sequence: int, topic: str, offset: int) -> None:
        """Count an example of a partition as seen."""
        self.account(partition).saw(sequence, topic, offset)

    def saw_new(self, places: Iterable[Place]) -> int:
        """Count examples as seen as long as each is new; how many were."""
        count, accounts = 0, self.accounts
        for partition, sequence, topic, offset in places:
            account = accounts.get(partition)
            if account is None or sequence != account.next_sequence or offset <= account.triggers.get(topic, -1):
                break
            account.next_sequence, account.triggers[topic] = sequence + 1, offset
            count += 1
        return count

    def take(self, partition: int, sequence: int, topic: str, offset: int) -> None:
        """Take this sequence as the one that was next, whatever was expected (command accept-gap)."""
        self.saw(partition, sequence, topic, offset)
        self.account(partition).next_sequence = sequence + 1

    def rebase(self, partition: int) -> None:
        """Forget the triggers of a partition whose offsets an operator moved; its sequence goes on."""
        self.account(partition).triggers.clear()
