"""How much lies in Kafka: whether a few turns can take it, and whether its events wait for its labels."""

from collections.abc import Mapping

from stream_ml.core.inputs.alignment import FirstLabels
from stream_ml.kafka.consumers import FeedbackInput, Group
from stream_ml.records import Clock
from stream_ml.worker.partitions.owned import OwnedPartition

TURNS = 2  # more than these can take is a backlog: nobody waits for one event of it


class Backlog:
    """Of the partitions that are owned; `limit` is what a turn takes at most."""

    def __init__(self, group: Group, feedback: FeedbackInput, clock: Clock) -> None:
        self._group, self._feedback = group, feedback
        self._first_labels = FirstLabels(clock)

    def begin(self, clock: Clock) -> None:
        """Partitions were assigned."""
        self._first_labels = FirstLabels(clock)

    def waiting(self, owned: Mapping[int, OwnedPartition]) -> tuple[int, int]:
        """How many offsets of events and of labels lie before what has been taken, as far as fetches have told."""
        return (
            sum(_left(self._group.end(number), of.core.events_position) for number, of in owned.items()),
            sum(_left(self._feedback.end(number), of.core.feedback_position) for number, of in owned.items()),
        )

    def there(self, owned: Mapping[int, OwnedPartition], limit: int) -> bool:
        """Whether there is a backlog of events or of labels."""
        return any(
            self._of_events(number, of, limit) or _far(self._feedback.end(number), of.core.feedback_position, limit)
            for number, of in owned.items()
        )

    def awaits_first_labels(self, owned: Mapping[int, OwnedPartition], limit: int, clock: Clock) -> bool:
        """Whether a backlog of events waits for its first labels."""
        if self._first_labels.over:
            return False
        both = any(
            self._of_events(number, of, limit)
            and ((end := self._feedback.end(number)) is None or _far(end, of.core.feedback_position, limit))
            for number, of in owned.items()
        )
        return self._first_labels.awaited(sum(len(of.held or ()) for of in owned.values()), both, clock)

    def _of_events(self, number: int, of: OwnedPartition, limit: int) -> bool:
        return _far(self._group.end(number), of.core.events_position, limit)


def _far(end: int | None, position: int, limit: int) -> bool:
    return _left(end, position) > TURNS * limit


def _left(end: int | None, position: int) -> int:
    return 0 if end is None else max(0, end - position)
