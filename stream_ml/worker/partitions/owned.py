"""One partition that this worker owns, with everything that the worker's parts remember of it."""

from dataclasses import dataclass, field

from stream_ml.core.inputs.alignment import HeldFeedback
from stream_ml.core.partition.batch import Batch, Outputs
from stream_ml.core.partition.partition import Partition


@dataclass
class LabelTimes:
    """Whether labels of a partition stay away, in event time: a quiet weekend is no starvation."""

    newest_event_ms: int = 0
    waiting_since_ms: int = 0  # the first event since the last label; 0 where there is none
    starving: bool = False

    def take(self, batch: Batch) -> int:
        """Take a committed batch; how many milliseconds of events have come since the last label."""
        latest_ms, before_ms = batch.events.latest_ms(0), self.newest_event_ms
        self.newest_event_ms = max(before_ms, latest_ms)
        if batch.feedback.latest_ms(0):
            self.waiting_since_ms = 0
        elif latest_ms and not self.waiting_since_ms:  # an event that comes late has its time behind it
            self.waiting_since_ms = max(before_ms, min(time_ms for time_ms in batch.events.times_ms if time_ms))
        return self.newest_event_ms - self.waiting_since_ms if self.waiting_since_ms else 0


@dataclass
class OwnedPartition:
    """A partition from the moment at which it is owned; what was kept of one that went is one, too.

    Attributes
    ----------
    core
        Its join and its positions.
    token
        Names the transaction that committed it last.
    backlog_end
        Events before this offset lay there when the app started for the first time.
    events_at_end
        Whether the last read of its events met their end.
    held
        Labels that were read and are not processed yet; None while it is not read.
    served_s, committed_s
        When it was worked on, and committed, last; seconds of the monotonic clock.
    event_ms, label_ms
        Kafka's time of the last event and label that were committed; None before the first.
    labels
        Whether labels stay away.
    """

    core: Partition
    token: str
    backlog_end: int = 0
    events_at_end: bool = False
    held: HeldFeedback | None = None
    served_s: float = 0.0
    committed_s: float = 0.0
    event_ms: int | None = None
    label_ms: int | None = None
    labels: LabelTimes = field(default_factory=LabelTimes)

    @property
    def number(self) -> int:
        """Of the partition, in events and in feedback."""
        return self.core.number

    @property
    def backlog_left(self) -> int:
        """Offsets of its first backlog that are still to be read; markers of transactions may be the last of them."""
        return 0 if self.events_at_end else max(0, self.backlog_end - self.core.events_position)

    def starts(self, now_s: float) -> None:
        """It is read from now on."""
        self.held, self.committed_s = HeldFeedback(), now_s

    def committed(self, batch: Batch, outputs: Outputs, now_s: float) -> None:
        """Take over what a committed batch changed."""
        self.core.apply(outputs)
        self.token = outputs.metadata.token
        if self.held is not None:
            self.held.drop(len(batch.feedback))
        self.committed_s = now_s
        if len(batch.events):
            self.event_ms = batch.events.records.timestamps_ms[-1]
        if len(batch.feedback):
            self.label_ms = batch.feedback.records.timestamps_ms[-1]

    def stops(self) -> None:
        """It is read no longer; what was read and not processed comes again."""
        self.held = None
