"""The invariant that makes exactly-once visible: dense sequences and ever later triggers per source partition.

1. next sequence and later trigger: the example is new, learn it.
2. old sequence and old trigger: a repeat, drop it and count it.
3. anything else - a gap, or a sequence and a trigger that disagree - is a loss or a forgery: halt.
"""

from typing import Literal, NamedTuple

Verdict = Literal["learn", "drop", "gap", "disagree"]


class Account(NamedTuple):
    """What is known of one source partition: the next sequence, and the last trigger offset per topic."""

    next_sequence: int = 0
    triggers: tuple[tuple[str, int], ...] = ()

    def last_trigger(self, topic: str) -> int:
        """Offset of the last trigger from this topic, -1 before the first."""
        return dict(self.triggers).get(topic, -1)


class Ledger:
    """Accounts of all source partitions; a value in all but name: `copy` before a change that may be undone."""

    def __init__(self, accounts: dict[int, Account] | None = None) -> None:
        self.accounts = dict(accounts or {})

    def copy(self) -> "Ledger":
        """An independent ledger with the same accounts."""
        return Ledger(self.accounts)

    def next_sequence(self, partition: int) -> int:
        """The sequence that the next example of this partition must carry."""
        return self.accounts.get(partition, Account()).next_sequence

    def judge(self, partition: int, sequence: int, topic: str, offset: int) -> Verdict:
        """What to do with an example, by the three rules above."""
        account = self.accounts.get(partition, Account())
        later = offset > account.last_trigger(topic)
        if sequence == account.next_sequence and later:
            return "learn"
        if sequence < account.next_sequence and not later:
            return "drop"
        return "gap" if sequence > account.next_sequence and later else "disagree"

    def saw(self, partition: int, sequence: int, topic: str, offset: int) -> None:
        """Count an example as seen; sequences and triggers never move back."""
        account = self.accounts.get(partition, Account())
        triggers = dict(account.triggers)
        triggers[topic] = max(offset, triggers.get(topic, -1))
        self.accounts[partition] = Account(max(account.next_sequence, sequence + 1), tuple(sorted(triggers.items())))

    def take(self, partition: int, sequence: int, topic: str, offset: int) -> None:
        """Take this sequence as the one that was next, whatever was expected (command accept-gap)."""
        triggers = dict(self.accounts.get(partition, Account()).triggers)
        triggers[topic] = max(offset, triggers.get(topic, -1))
        self.accounts[partition] = Account(sequence + 1, tuple(sorted(triggers.items())))

    def rebase(self, partition: int) -> None:
        """Forget the triggers of a partition whose offsets an operator moved; its sequence goes on."""
        account = self.accounts.get(partition, Account())
        self.accounts[partition] = Account(account.next_sequence, ())
