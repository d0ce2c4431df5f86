"""A transactional producer: what it promises, what it hides, and the requests that get lost on their way."""

from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.system.simulation.groups import GroupMetadata
from tests.system.simulation.logs import Where
from tests.system.simulation.scheduler import simulation
from tests.system.simulation.transactions import End, Rejected


class Producer:
    """A transactional producer."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._sim = simulation()
        self._process = self._sim.current
        self._id: str = settings["transactional.id"]
        self._timeout_s = settings["transaction.timeout.ms"] / 1000
        self._on_delivery: Callable[[KafkaError, Any], None] = settings.get("on_delivery", lambda error, message: None)
        self._epoch = -1
        self._queue: deque[tuple[Where, bytes | None, bytes | None, Any]] = deque()
        self._added: set[Where] = set()
        self._fatal = False

    def init_transactions(self, timeout: float) -> None:
        self._sim.request("init", self._process)
        coordinator = self._sim.cluster.coordinator

        def ready() -> bool:
            try:
                self._epoch = coordinator.init(self._id, self._timeout_s)
            except Rejected:
                return False
            return True

        if not self._sim.wait(self._process, timeout, ready):
            raise _error(KafkaError._TIMED_OUT, "init_transactions", retriable=True)

    def begin_transaction(self) -> None:
        self._alive()
        self._queue.clear()
        self._added.clear()

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Any = None) -> None:
        self._queue.append(((topic, partition), key, value, headers or ()))

    def poll(self, timeout: float) -> int:
        self._sim.idle(self._process, timeout)
        return 0

    def flush(self, timeout: float) -> int:
        """Write what was produced; the number of records that were not written in time."""
        self._sim.request("flush", self._process)
        stuck = self._sim.rng.randint(0, len(self._queue)) if self._sim.armed("flush") else -1
        while self._queue:
            if len(self._queue) == stuck:
                self._sim.idle(self._process, timeout)
                return len(self._queue)
            where, key, value, headers = self._queue.popleft()
            try:
                if where not in self._added:
                    self._add(where, timeout)
                self._sim.cluster.produce(self._id, self._epoch, where, key, value, headers)
            except Rejected as refused:
                self._fatal = self._fatal or str(refused) == "fenced"
                self._on_delivery(_REFUSED[str(refused)], None)
            self._sim.pause(self._process, 0.05)
        self._sim.pause(self._process)
        return 0

    def _add(self, where: Where, timeout: float) -> None:
        def added() -> bool:
            try:
                self._sim.cluster.coordinator.add(self._id, self._epoch, where, self._sim.now_s)
            except Rejected as refused:
                if str(refused) == "concurrent":
                    return False
                raise
            return True

        if not self._sim.wait(self._process, timeout, added):
            raise Rejected("timed_out")
        self._added.add(where)

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], group: GroupMetadata, timeout: float) -> None:
        self._sim.request("offsets", self._process)
        self._alive()
        if {tp.partition for tp in offsets} - group.told():
            self._sim.failures.append(f"{self._process.name} commits what it was told is no longer its own")
        late = self._sim.armed("offsets")
        wanted = [((tp.topic, tp.partition), tp.offset, tp.metadata) for tp in offsets]

        def sent() -> bool:
            try:
                self._sim.cluster.send_offsets(self._id, self._epoch, wanted, group, self._sim.now_s)
            except Rejected as refused:
                if str(refused) == "concurrent":
                    return False
                self._fatal = self._fatal or str(refused) == "fenced"
                raise KafkaException(_REFUSED[str(refused)]) from None
            return True

        if not self._sim.wait(self._process, timeout, sent):
            raise _error(KafkaError._TIMED_OUT, "offsets", retriable=True)
        self._sim.pause(self._process)
        if late:
            raise _error(KafkaError._TIMED_OUT, "the answer to the offsets was lost", retriable=True)

    def commit_transaction(self, timeout: float) -> None:
        assert not self._queue
        self._end("commit", timeout)

    def abort_transaction(self, timeout: float) -> None:
        self._queue.clear()
        self._end("abort", timeout)

    def _end(self, end: End, timeout: float) -> None:
        self._sim.request(end, self._process)
        self._alive()
        fault = self._sim.armed_end()
        if fault == "delayed":
            self._sim.later(lambda: self._send_end(end))
        if fault == "slow":
            self._sim.idle(self._process, self._sim.rng.uniform(0, 1.5 * timeout))
        if fault not in ("lost", "delayed"):
            self._ended(end)
        if fault in ("repeated", "repeated late"):
            self._repeat(end, late=fault == "repeated late")
        if fault in ("lost", "delayed", "unanswered"):
            self._sim.idle(self._process, timeout)
            raise _error(KafkaError._TIMED_OUT, end, retriable=True)
        self._sim.pause(self._process)

    def _repeat(self, end: End, *, late: bool) -> None:
        if late:
            transaction = self._sim.cluster.coordinator.find(self._id)
            self._sim.once(lambda: transaction.state == "ongoing", lambda: self._send_end(end))
        else:
            self._send_end(end)

    def _ended(self, end: End) -> None:
        try:
            if self._added or self._sim.cluster.coordinator.find(self._id).state == "ongoing":
                self._sim.cluster.coordinator.finish(self._id, self._epoch, end)
        except Rejected as refused:
            self._fatal = True
            raise KafkaException(_REFUSED["fenced" if str(refused) == "fenced" else "wrong_end"]) from None

    def _send_end(self, end: End) -> None:
        """The request alone, whoever waits for its answer."""
        try:
            self._sim.cluster.coordinator.finish(self._id, self._epoch, end)
        except Rejected as refused:
            self._sim.note(f"late {end} of {self._id} refused: {refused}")
        else:
            self._sim.note(f"late {end} of {self._id} carried out")

    def _alive(self) -> None:
        if self._fatal:
            raise KafkaException(_REFUSED["fenced"])


def _error(code: int, reason: str, *, retriable: bool = False) -> KafkaException:
    return KafkaException(KafkaError(code, reason, False, retriable, False))


_REFUSED = {
    "fenced": KafkaError(KafkaError._FENCED, "fenced", True, False, False),
    "wrong_end": KafkaError(KafkaError.INVALID_TXN_STATE, "the transaction has ended", True, False, False),
    "invalid_state": KafkaError(KafkaError.INVALID_TXN_STATE, "no transaction is open", False, False, True),
    "too_large": KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "too large", False, False, True),
    "timed_out": KafkaError(KafkaError._MSG_TIMED_OUT, "not delivered in time", False, False, True),
    "illegal_generation": KafkaError(KafkaError.ILLEGAL_GENERATION, "illegal generation", False, False, True),
    "unknown_member": KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "unknown member", False, False, True),
    "fenced_instance": KafkaError(KafkaError.FENCED_INSTANCE_ID, "fenced instance", False, False, True),
}
