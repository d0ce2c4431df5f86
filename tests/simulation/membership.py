"""What a client knows of its group: it hears late, and tells the application when that polls."""

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from .groups import GroupMetadata
from .scheduler import Simulation


class Membership:
    """What the client's background thread knows of the group; the callbacks come when the application polls."""

    def __init__(self, consumer: Any, instance: str | None, sim: Simulation) -> None:
        self._consumer, self._instance, self._sim = consumer, instance, sim
        self._topic = ""
        self._callbacks: dict[str, Callable[..., None]] = {}
        self._state = "none"  # none, out, joining, active
        self._lost = self._fenced = False
        self._given: list[int] = []
        self.name, self._generation = "", -1
        self._moves = 0  # how often the application was told that partitions went

    def subscribe(self, topic: str, callbacks: dict[str, Callable[..., None]]) -> None:
        self._topic, self._callbacks, self._state = topic, callbacks, "out"

    def metadata(self) -> GroupMetadata:
        return GroupMetadata(self.name, self._generation, self._instance, lambda: self._moves, self._moves)

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

    def serve(self) -> None:
        """Callbacks that are due, and what follows from them."""
        if self._state == "none":
            return
        group, rng, now_s = self._sim.cluster.group, self._sim.rng, self._sim.now_s
        if self._fenced:
            self._consumer.fail(KafkaError(KafkaError.FENCED_INSTANCE_ID, "fenced", True, False, False))
        elif self._lost:
            self._lost = False
            if self._state == "active":
                self._call("on_lost")
            self._state = "out"
        elif self._state == "out":
            self.name, self._state = group.join(self._instance, now_s), "joining"
        elif self.name not in group.members:
            return
        elif self._state == "active" and not group.members[self.name].joined and rng.random() < 0.5:
            self._call("on_revoke")
            group.rejoin(self.name, now_s)
            self._state = "joining"
        elif self._state == "joining" and not group.members[self.name].joined:
            group.rejoin(self.name, now_s)
        elif self._state == "joining" and group.stable:
            self._generation, self._state = group.generation, "active"
            self._given = group.members[self.name].assigned
            self._call("on_assign")

    def _call(self, name: str) -> None:
        self._sim.note(f"{self.name or 'a lost member'}: {name} {self._given}")
        self._moves += name != "on_assign"
        self._callbacks[name](self._consumer, [TopicPartition(self._topic, number) for number in self._given])

    def leave(self) -> None:
        if self._state == "active":
            self._call("on_revoke")
        if self.name and self._instance is None:
            self._sim.cluster.group.leave(self.name)
        self._state = "none"
