"""What a client knows of its group: it hears late, and tells the application when that polls."""

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from tests.system.simulation.groups import GroupMetadata
from tests.system.simulation.scheduler import Simulation


class Membership:
    """What the client's background thread knows of the group; the callbacks come when the application polls.

    That thread joins anew by itself when the group moves, and goes no further before the application has been told
    what came of it.
    """

    def __init__(self, consumer: Any, instance: str | None, sim: Simulation) -> None:
        self._consumer, self._instance, self._sim = consumer, instance, sim
        self._topic = ""
        self._callbacks: dict[str, Callable[..., None]] = {}
        self._state = "none"  # none, out, joining, active
        self._lost = self._fenced = False
        self._given: set[int] = set()
        self._told: set[int] = set()
        self._due: list[tuple[str, set[int]]] = []  # callbacks, in their order
        self.name, self._generation = "", -1

    def subscribe(self, topic: str, callbacks: dict[str, Callable[..., None]]) -> None:
        self._topic, self._callbacks = topic, callbacks
        self._state = "out" if self._state == "none" else self._state

    def unsubscribe(self) -> None:
        """And subscribe at once: all is given back, and given out anew."""
        if self._state == "active":
            self._due, self._given = [("on_revoke", set(self._told))], set()

    def metadata(self) -> GroupMetadata:
        return GroupMetadata(self.name, self._generation, self._instance, lambda: self._told)

    def heartbeat(self) -> None:
        """The answer to a heartbeat came. Who is no member now forgets its id, not its generation (librdkafka 2.16)."""
        group = self._sim.cluster.group
        if not self.name:
            return
        if self.name in group.fenced:
            self._fenced = True
        elif self.name not in group.members:
            self._sim.note(f"{self.name} learns that it is no member any more")
            self.name, self._lost = "", True
        else:
            group.heard(self.name, self._sim.now_s)
            self._join()

    def _join(self) -> None:
        """What the background thread does by itself, where nothing that the application has to hear of is due."""
        group, now_s = self._sim.cluster.group, self._sim.now_s
        if self._due or self.name not in group.members:
            return
        joined = group.members[self.name].joined
        if self._state == "active" and not joined and self._sim.rng.random() < 0.5:
            self._state = "joining"
            group.rejoin(self.name, now_s, set(self._given))
        elif self._state == "joining" and not joined:
            group.rejoin(self.name, now_s, set(self._given))
        elif self._state == "joining" and group.stable:
            self._generation, self._state = group.generation, "active"
            assigned = set(group.members[self.name].assigned)
            gone, self._given = self._given - assigned, assigned
            self._due = [("on_revoke", gone)] if gone else []
            self._due.append(("on_assign", assigned - self._told))

    def serve(self) -> None:
        """A callback that is due, and what follows from it."""
        if self._state == "none":
            return
        group, now_s = self._sim.cluster.group, self._sim.now_s
        if self._fenced:
            self._consumer.fail(KafkaError(KafkaError.FENCED_INSTANCE_ID, "fenced", True, False, False))
        elif self._lost:
            self._lost, self._due = False, []
            if self._given:
                self._call("on_lost", set(self._given))
                self._told = set()
            self._given, self._state = set(), "out"
        elif self._state == "out":
            self.name, self._state = group.join(self._instance, now_s), "joining"
        elif self.name not in group.members:
            return
        elif self._due:
            what, numbers = self._due.pop(0)
            self._call(what, numbers)
            if what == "on_revoke":
                self._state = "joining"
                group.given_back(self.name, now_s, set(self._given))
        else:
            self._join()

    def _call(self, name: str, numbers: set[int]) -> None:
        self._sim.note(f"{self.name or 'a lost member'}: {name} {sorted(numbers)}")
        self._told = self._told | numbers if name == "on_assign" else self._told - numbers
        self._callbacks[name](self._consumer, [TopicPartition(self._topic, number) for number in sorted(numbers)])

    def leave(self) -> None:
        if self._state == "active" and self._given:
            self._call("on_revoke", self._given)
        if self.name and self._instance is None:
            self._sim.cluster.group.leave(self.name)
        self._state = "none"
