"""The group coordinator of the classic protocol, with static members and transactional offsets; its assignor is
cooperative-sticky: what one member still owns no other is given before it was given back.

What it checks of a transactional offset commit is what Kafka checks: member id, instance and generation - and nothing
at all where none of the three is given.
"""

from collections.abc import Callable, Set
from typing import NamedTuple

from tests.system.simulation.logs import Where


class Stored(NamedTuple):
    """A committed or pending offset; of two for one partition the later one stays."""

    offset: int
    metadata: str
    number: int


class GroupMetadata(NamedTuple):
    """What a consumer says of itself when its offsets are committed; Kafka never hears of `told`."""

    member: str
    generation: int
    instance: str | None
    told: Callable[[], Set[int]]  # partitions of which the application was told that they came, and not that they went


class Member:
    """A member as the coordinator knows it."""

    def __init__(self, name: str, instance: str | None, now_s: float) -> None:
        self.name, self.instance, self.heard_s = name, instance, now_s
        self.joined = False
        self.owned: Set[int] = set()  # as it said when it joined last
        self.assigned: Set[int] = set()


class Group:
    """The one group of the cluster."""

    def __init__(self, partitions: int, session_s: float, note: Callable[[str], None]) -> None:
        self._partitions, self._session_s, self._note = partitions, session_s, note
        self.members: dict[str, Member] = {}
        self.fenced: set[str] = set()
        self.generation = 0
        self.stable = True
        self.committed: dict[Where, Stored] = {}
        self.pending: dict[int, dict[Where, Stored]] = {}
        self._names = self._numbers = 0

    # --- membership ---

    def join(self, instance: str | None, now_s: float) -> str:
        """JoinGroup of a new process. A static member takes its predecessor's place, without a rebalance."""
        self._names += 1
        name = f"member-{self._names}"
        member = Member(name, instance, now_s)
        old = next((m for m in self.members.values() if instance is not None and m.instance == instance), None)
        if old is None:
            self.members[name] = member
            self._rebalance(f"{name} joins")
        else:
            del self.members[old.name]
            self.fenced.add(old.name)
            self.members[name] = member
            member.assigned = old.assigned
            self._note(f"group: {name} takes the place of {old.name}")
        self.rejoin(name, now_s, set())
        return name

    def rejoin(self, name: str, now_s: float, owned: Set[int]) -> None:
        """JoinGroup of a member that is known."""
        member = self.members[name]
        member.joined, member.heard_s, member.owned = True, now_s, owned
        self._complete()

    def given_back(self, name: str, now_s: float, owned: Set[int]) -> None:
        """JoinGroup of a member that gave partitions back, in whatever state the group is."""
        self._rebalance(f"{name} gave back")
        self.rejoin(name, now_s, owned)

    def leave(self, name: str) -> None:
        """LeaveGroup."""
        if self.members.pop(name, None) is not None:
            self._rebalance(f"{name} leaves")
            self._complete()

    def heard(self, name: str, now_s: float) -> None:
        """A heartbeat."""
        if name in self.members:
            self.members[name].heard_s = now_s

    def expire(self, now_s: float) -> None:
        """Remove members that have not been heard for the session timeout."""
        for name in [m.name for m in self.members.values() if now_s - m.heard_s > self._session_s]:
            del self.members[name]
            self._rebalance(f"{name} was not heard")
        self._complete()

    def _rebalance(self, why: str) -> None:
        self._note(f"group: {why}, rebalance")
        self.stable = False
        for member in self.members.values():
            member.joined = False

    def _complete(self) -> None:
        if self.stable or not all(member.joined for member in self.members.values()):
            return
        self.stable = True
        self.generation += 1
        ordered = sorted(self.members.values(), key=lambda m: (-len(m.owned), m.instance or m.name))
        free = set(range(self._partitions))
        for number, member in enumerate(ordered):
            most = self._partitions // len(ordered) + (number < self._partitions % len(ordered))
            member.assigned = set(sorted(member.owned & free)[:most])
            free -= member.assigned
        owned = {number for member in ordered for number in member.owned}
        for number, member in enumerate(ordered):
            most = self._partitions // len(ordered) + (number < self._partitions % len(ordered))
            more = set(sorted(free)[: most - len(member.assigned)])
            free -= more
            member.assigned = member.assigned | (more - owned)
        given = {member.instance or member.name: sorted(member.assigned) for member in ordered}
        self._note(f"group: generation {self.generation}: {given}")

    def unowned(self, name: str) -> list[int]:
        """Partitions that are nobody's, as the first of the members is told."""
        if not self.stable or name != min(self.members, default=""):
            return []
        return sorted(set(range(self._partitions)).difference(*(m.assigned for m in self.members.values())))

    # --- offsets ---

    def check(self, said: GroupMetadata) -> str:
        """What is wrong with a commit by whoever says this; empty where it is accepted."""
        if said.generation < 0 and not self.members:
            return ""
        if said.generation < 0 and not said.member and said.instance is None:
            return ""  # a transactional commit without any of the three is not looked at
        if said.instance is not None:
            holder = next((m for m in self.members.values() if m.instance == said.instance), None)
            if holder is not None and holder.name != said.member:
                return "fenced_instance"
        if said.member not in self.members:
            return "unknown_member"
        return "" if said.generation == self.generation else "illegal_generation"

    def hold(self, producer: int, offsets: list[tuple[Where, int, str]]) -> None:
        """Transactional offsets, pending until their marker."""
        held = self.pending.setdefault(producer, {})
        for where, offset, metadata in offsets:
            self._numbers += 1
            held[where] = Stored(offset, metadata, self._numbers)

    def mark(self, producer: int, *, commit: bool) -> None:
        """The marker of a transaction: its offsets become committed, or nothing."""
        for where, stored in self.pending.pop(producer, {}).items():
            if commit and (where not in self.committed or self.committed[where].number < stored.number):
                self.committed[where] = stored

    def unstable(self, where: Where) -> bool:
        """Whether a transaction that has not ended holds an offset of this partition."""
        return any(where in held for held in self.pending.values())
