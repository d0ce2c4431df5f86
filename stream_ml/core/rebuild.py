"""What a crash lost of a partition's join, out of what was committed: set subtraction, no decision is made again."""

from collections.abc import Iterable, Sequence

from stream_ml.core.codec import FeedbackReader
from stream_ml.core.events import picked
from stream_ml.core.log_entry import decode_pair
from stream_ml.core.outputs import dead_letter_origin, decode_outcome
from stream_ml.core.partition import ENTRY_BYTES
from stream_ml.core.payloads import Payloads
from stream_ml.core.pending import Rows, known_or_nan, number_of, shared_tags
from stream_ml.core.predictions import PredictionCodec, Published
from stream_ml.core.times import NEVER_MS
from stream_ml.records import DeadLetter, Label, LogRecord, Record, Records


class Evidence:
    """Gathers what was committed for one partition at or above its floors, record by record.

    What others wrote into these topics says nothing, and is passed over.
    """

    def __init__(
        self, partition: int, events_floor: int, feedback_floor: int, events_topic: str, feedback_topic: str
    ) -> None:
        self.partition = partition
        self._events_topic = events_topic
        self._events_floor, self._feedback_floor = events_floor, feedback_floor
        self._feedback_topic = feedback_topic
        self.published: dict[int, Published] = {}
        self.joined_events: set[int] = set()
        self.ended_labels: set[int] = set()

    def predictions(self, values: Sequence[bytes], codec: PredictionCodec) -> None:
        """Note predictions: which events they are of, and what was served."""
        for found in codec.decode_many(values):
            if found is None or (found.topic, found.partition) != (self._events_topic, self.partition):
                continue
            if found.offset >= self._events_floor:
                self.published[found.offset] = found

    def log_record(self, record: LogRecord) -> None:
        """Note an example of this partition: its event has joined, its label has ended."""
        try:
            pair = decode_pair(record.value)
        except ValueError:
            return
        if pair is not None and pair.source_partition == self.partition:
            if pair.event_offset >= self._events_floor:
                self.joined_events.add(pair.event_offset)
            if pair.feedback_offset >= self._feedback_floor:
                self.ended_labels.add(pair.feedback_offset)

    def outcome(self, value: bytes) -> None:
        """Note a label that ended without an example."""
        try:
            offset = int(decode_outcome(value)["feedback_offset"])
        except ValueError:
            return
        if offset >= self._feedback_floor:
            self.ended_labels.add(offset)

    def dead_letter(self, record: Record) -> None:
        """Note a label that could not be used. Events that could not have no prediction, which says the same."""
        origin = dead_letter_origin(record)
        if origin is not None and origin[0] == self._feedback_topic and origin[2] >= self._feedback_floor:
            self.ended_labels.add(origin[2])


def rebuilt_events(records: Records, evidence: Evidence, payloads: Payloads, *, record_bytes_max: int) -> Rows:
    """Those events that were scored as the first of their id, joined or still waiting.

    An event without a prediction was a dead letter, and one flagged duplicate_event never joins.
    """
    published = evidence.published
    kept = [
        row
        for row, offset in enumerate(records.offsets)
        if offset in published and "duplicate_event" not in published[offset].served.flags
    ]
    offsets, values = picked(records.offsets, kept), [value or b"" for value in picked(records.values, kept)]
    said = [published[offset] for offset in offsets]
    evidence.published = {}
    found = Rows()
    found.extend(
        offsets,
        [one.event_time_ms for one in said],
        [one.event_id for one in said],
        values,
        shared_tags(map(payloads.fingerprint_of, values), (one.served for one in said)),
        known_or_nan([number_of(one.served) for one in said], len(said)),
        [one.served.scores for one in said] if any(one.served.scores for one in said) else None,
    )
    for row, offset in enumerate(offsets):
        if offset in evidence.joined_events:
            found.mark_joined(row)
    found.limit(record_bytes_max - ENTRY_BYTES)
    return found


def rebuilt_labels(
    records: Iterable[Record], evidence: Evidence, reader: FeedbackReader
) -> tuple[list[Label], list[DeadLetter]]:
    """Those labels that have neither an example, nor an outcome, nor a dead letter: they wait.

    They were taken once, so their times are not judged again by this host's clock. One that settings which have
    changed since cannot read any more comes as a dead letter, to be published.
    """
    left = [record for record in records if record.offset not in evidence.ended_labels]
    waiting = reader.decode(Records.of(reader.topic, evidence.partition, left), NEVER_MS)
    labels = [item for item in waiting if isinstance(item, Label)]
    return labels, [item for item in waiting if isinstance(item, DeadLetter)]
