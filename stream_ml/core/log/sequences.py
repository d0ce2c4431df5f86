"""The invariant that makes exactly-once visible: dense sequences and ever later triggers per source partition.

1. next sequence and later trigger: the example is new, learn it.
2. old sequence and old trigger: a repeat, drop it and count it.
3. anything else - a gap, or a sequence and a trigger that disagree - is a loss or a forgery: halt.
"""

from collections.abc import Iterable
from typing import Literal

Verdict = Literal["learn", "drop", "gap", "disagree"]
Place = tuple[int, int, int, int]  # of an example: source partition, sequence; its trigger: which input, and offset


class SequenceState:
    """What is known of one source partition: the next sequence, and the last trigger offset per input."""

    __slots__ = ("next_sequence", "triggers")

    def __init__(self, next_sequence: int = 0, triggers: dict[int, int] | None = None) -> None:
        self.next_sequence = next_sequence
        self.triggers = dict(triggers or {})

    def last_trigger(self, trigger: int) -> int:
        """Offset of the last trigger from this input, -1 before the first."""
        return self.triggers.get(trigger, -1)

    def check(self, sequence: int, trigger: int, offset: int) -> Verdict:
        """What to do with an example, by the three rules above."""
        expected = self.next_sequence
        later = offset > self.last_trigger(trigger)
        if sequence == expected and later:
            return "learn"
        if sequence < expected and not later:
            return "drop"
        return "gap" if sequence > expected and later else "disagree"

    def record(self, sequence: int, trigger: int, offset: int) -> None:
        """Count an example as seen; sequences and triggers never move back."""
        self.triggers[trigger] = max(offset, self.last_trigger(trigger))
        self.next_sequence = max(self.next_sequence, sequence + 1)

    def plain(self) -> tuple[int, dict[int, int]]:
        """As values, for a checkpoint and for comparing."""
        return self.next_sequence, dict(self.triggers)


class SequenceTracker:
    """The states of all source partitions; `copy` before a change that may be undone."""

    def __init__(self, states: dict[int, SequenceState] | None = None) -> None:
        self.states: dict[int, SequenceState] = dict(states or {})

    def copy(self) -> "SequenceTracker":
        """An independent one with the same states."""
        return SequenceTracker({partition: SequenceState(*state.plain()) for partition, state in self.states.items()})

    def plain(self) -> dict[int, tuple[int, dict[int, int]]]:
        """As values, for a checkpoint and for comparing."""
        return {partition: state.plain() for partition, state in sorted(self.states.items())}

    def next_sequence(self, partition: int) -> int:
        """The sequence that the next example of this partition must carry."""
        state = self.states.get(partition)
        return state.next_sequence if state is not None else 0

    def last_trigger(self, partition: int, trigger: int) -> int:
        """Offset of the partition's last trigger from this input, -1 before the first."""
        state = self.states.get(partition)
        return state.last_trigger(trigger) if state is not None else -1

    def check(self, partition: int, sequence: int, trigger: int, offset: int) -> Verdict:
        """What to do with an example of a partition; of an unknown one as of one that has had none."""
        return (self.states.get(partition) or SequenceState()).check(sequence, trigger, offset)

    def state(self, partition: int) -> SequenceState:
        """The state of a partition; a new one where nothing is known of it."""
        if partition not in self.states:
            self.states[partition] = SequenceState()
        return self.states[partition]

    def record(self, partition: int, sequence: int, trigger: int, offset: int) -> None:
        """Count an example of a partition as seen."""
        self.state(partition).record(sequence, trigger, offset)

    def record_new(self, places: Iterable[Place]) -> int:
        """Count examples as seen as long as each is new; how many were."""
        count, states = 0, self.states
        for partition, sequence, trigger, offset in places:
            state = states.get(partition)
            if state is None or sequence != state.next_sequence or offset <= state.triggers.get(trigger, -1):
                break
            state.next_sequence, state.triggers[trigger] = sequence + 1, offset
            count += 1
        return count

    def accept_gap(self, partition: int, sequence: int, trigger: int, offset: int) -> None:
        """Record this sequence as the one that was next, whatever was expected (command accept-gap)."""
        self.record(partition, sequence, trigger, offset)
        self.state(partition).next_sequence = sequence + 1

    def rebase(self, partition: int) -> None:
        """Forget the triggers of a partition whose offsets an operator moved; its sequence goes on."""
        self.state(partition).triggers.clear()
