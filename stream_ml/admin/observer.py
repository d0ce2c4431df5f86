"""Committed offsets beside what there is to read, looked at again and again."""

from typing import NamedTuple

from stream_ml.config import Config
from stream_ml.kafka.clients import TIMEOUT_S, admin
from stream_ml.kafka.committed import CommittedState, committed_reader, committed_states
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.reading.ends import ends


class Shown(NamedTuple):
    """A partition's committed state beside what there is to read, in offsets."""

    pair: CommittedState
    events: tuple[int, int]
    feedback: tuple[int, int]


class Observer:
    """Looks at committed offsets again and again, with clients of its own."""

    def __init__(self, config: Config, partitions: int) -> None:
        self._config, self._numbers = config, range(partitions)
        self._admin = admin(config)
        self._consumer = committed_reader(config, stable=False)

    def pairs(self) -> list[CommittedState]:
        """Committed state of all partitions."""
        with reaching(self._config):
            return committed_states(self._config, self._consumer, list(self._numbers), TIMEOUT_S)

    def shown(self) -> list[Shown]:
        """Committed positions and the ranges of both topics."""
        topics = (self._config.events.topic, self._config.feedback.topic)
        pairs = self.pairs()
        with reaching(self._config):
            ranges = ends(self._admin, [(topic, p) for p in self._numbers for topic in topics])
        return [Shown(pair, ranges[topics[0], pair.partition], ranges[topics[1], pair.partition]) for pair in pairs]

    def close(self) -> None:
        """Let go of the clients."""
        self._consumer.close()
