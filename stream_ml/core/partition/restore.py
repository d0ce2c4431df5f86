"""What a crash lost of a partition's join, out of what was committed: set subtraction, no decision is made again.

What is read becomes what is kept, piece by piece: nothing is held beside the join that grows with it but 16 bytes for
an event that is read before its prediction, and a byte for each offset.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from stream_ml.core.avro.framing import Payloads
from stream_ml.core.avro.record import LaterFormat
from stream_ml.core.inputs.readers import FeedbackReader
from stream_ml.core.join.pending import CHUNK_ROWS, Rows, Tag, known_or_nan, number_of, shared_tags
from stream_ml.core.join.watermark import NEVER_MS
from stream_ml.core.log.heads import Pair
from stream_ml.core.partition.held import ENTRY_BYTES
from stream_ml.core.partition.outputs import dead_letter_origin, decode_outcome
from stream_ml.core.partition.predictions import PredictionCodec, Published
from stream_ml.records import DeadLetter, Label, Record, Records

_UNKNOWN = 0  # schema of an event that has not been read


class Marks:
    """Some of the offsets from `first` to before `stop`, a byte each; others cannot be marked."""

    def __init__(self, first: int, stop: int) -> None:
        self._first = first
        self._found = bytearray(max(0, stop - first))

    def add(self, offset: int) -> None:
        """Mark one."""
        if 0 <= offset - self._first < len(self._found):
            self._found[offset - self._first] = 1

    def __contains__(self, offset: int) -> bool:
        """Whether it is marked."""
        return 0 <= offset - self._first < len(self._found) and bool(self._found[offset - self._first])

    def __bool__(self) -> bool:
        """Whether any is."""
        return any(self._found)


class CommittedOutputs:
    """Gathers what was committed for one partition between its floors and its positions, record by record.

    What others wrote into these topics says nothing, and is passed over.

    Parameters
    ----------
    floors, positions
        Of events and of feedback: what lies before or behind is not asked for.
    """

    def __init__(
        self,
        partition: int,
        floors: tuple[int, int],
        positions: tuple[int, int],
        topics: tuple[str, str],
        payloads: Payloads,
    ) -> None:
        self._feedback_topic, self._partition = topics[1], partition
        self.events = RebuiltEvents(partition, floors[0], topics[0], payloads)
        self.joined_events = Marks(floors[0], positions[0])
        self.ended_labels = Marks(floors[1], positions[1])

    def example(self, pair: Pair) -> None:
        """Note an example of this partition: its event has joined, its label has ended."""
        self.joined_events.add(pair.event_offset)
        self.ended_labels.add(pair.feedback_offset)

    def outcome(self, value: bytes) -> None:
        """Note a label that ended without an example; LaterFormat where a later version wrote so of one of ours."""
        try:
            found = decode_outcome(value)
        except LaterFormat as later:
            if later.where is not None and later.where[:2] == (self._feedback_topic, self._partition):
                raise
            return
        except ValueError:
            return
        if (found["feedback_topic"], found["feedback_partition"]) == (self._feedback_topic, self._partition):
            self.ended_labels.add(found["feedback_offset"])

    def dead_letter(self, record: Record) -> None:
        """Note a label that could not be used. Events that could not have no prediction, which says the same."""
        origin = dead_letter_origin(record)
        if origin is not None and origin[0] == self._feedback_topic:
            self.ended_labels.add(origin[2])


class RebuiltEvents:
    """Those events that were scored as the first of their id, joined or still waiting, as the join keeps them.

    Predictions and events are each taken in the order of their topic, whichever is read first. An event without a
    prediction was a dead letter, and one flagged duplicate_event never joins. Of two predictions for one event, as
    after offsets that were set back, the later one holds.
    """

    def __init__(self, partition: int, floor: int, topic: str, payloads: Payloads) -> None:
        self._where, self._floor = (topic, partition), floor
        self._payloads = payloads
        self._chunks: list[Rows] = []
        self._firsts: list[int] = []  # offset of each chunk's first row
        self._read: list[bytearray] = []  # by row, whether its event was read
        self._last = -1  # offset of the last row
        self._others: dict[int, Published] = {}  # later predictions for events that are passed
        self._early = array("q"), list[bytes | None]()  # events without a prediction so far
        self._tags: dict[tuple[Tag, int], Tag] = {}

    def published(self, values: Sequence[bytes], codec: PredictionCodec) -> None:
        """Take predictions; LaterFormat where a later version wrote one of them."""
        new: list[Published] = []
        for row, found in enumerate(codec.decode_many(values)):
            if isinstance(found, LaterFormat):
                if found.where is not None and found.where[:2] == self._where and found.where[2] >= self._floor:
                    found.row = row
                    raise found
                continue
            if found is None or (found.topic, found.partition) != self._where or found.offset < self._floor:
                continue
            if found.offset <= self._last:
                self._others[found.offset] = found
            elif "duplicate_event" not in found.served.flags:
                new.append(found)
                self._last = found.offset
        if new:
            self._append(new)
            self._meet(new[0].offset, new[-1].offset)

    def take(self, records: Records) -> None:
        """Take events."""
        early, values = self._early
        following: tuple[int, int] | None = None  # the row after the last one is that of the next event, as a rule
        for offset, value in zip(records.offsets, records.values, strict=True):
            following = self._fill(offset, value or b"", following)
            if following is None:
                early.append(offset)
                values.append(value)

    def finish(self, joined: Marks, record_bytes_max: int) -> list[Rows]:
        """The events, in offset order and in pieces."""
        for offset in sorted(self._others):
            self._replace(self._others[offset])
        self._others = {}
        found = []
        while self._chunks:  # from the end: what was looked at is let go of
            rows, read = self._chunks.pop(), self._read.pop()
            if not all(read):
                rows = rows.only([row for row, is_read in enumerate(read) if is_read])
            for row, offset in enumerate(rows.offsets):
                if offset in joined:
                    rows.mark_joined(row)
            rows.limit(record_bytes_max - ENTRY_BYTES)
            if len(rows):
                found.append(rows)
        return found[::-1]

    def _append(self, new: list[Published]) -> None:
        rows = _rows_of(new)
        if self._chunks and len(self._chunks[-1]) + len(rows) <= CHUNK_ROWS:
            self._chunks[-1].take(rows)
            self._read[-1] += bytes(len(rows))
        else:
            self._chunks.append(rows)
            self._firsts.append(new[0].offset)
            self._read.append(bytearray(len(rows)))

    def _meet(self, first: int, last: int) -> None:
        """Give the rows between two offsets the events that were read before them."""
        offsets, values = self._early
        following: tuple[int, int] | None = None
        for number in range(bisect_left(offsets, first), bisect_right(offsets, last)):
            following = self._fill(offsets[number], values[number] or b"", following)
            if following is not None:
                values[number] = None

    def _place(self, offset: int) -> tuple[int, int] | None:
        """Chunk and row of an offset; None where it has none."""
        number = bisect_right(self._firsts, offset) - 1
        if number < 0:
            return None
        offsets = self._chunks[number].offsets
        row = bisect_left(offsets, offset)
        return (number, row) if row < len(offsets) and offsets[row] == offset else None

    def _fill(self, offset: int, value: bytes, perhaps: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """Give the row of this offset, which is `perhaps` there, its event; the place after it, None without a row."""
        if perhaps is not None and self._stands_at(offset, perhaps):
            number, row = perhaps
        else:
            place = self._place(offset)
            if place is None:
                return None
            number, row = place
        rows = self._chunks[number]
        tag = rows.tags[row]
        rows.values[row] = value
        self._read[number][row] = 1
        of = (tag, self._payloads.fingerprint_of(value))
        if of not in self._tags:
            self._tags[of] = tag._replace(schema=of[1])
        rows.tags[row] = self._tags[of]
        return number, row + 1

    def _stands_at(self, offset: int, place: tuple[int, int]) -> bool:
        offsets = self._chunks[place[0]].offsets
        return place[1] < len(offsets) and offsets[place[1]] == offset

    def _replace(self, later: Published) -> None:
        """Let a later prediction hold instead of the one before, or of none."""
        offset, place = later.offset, self._place(later.offset)
        if "duplicate_event" in later.served.flags:
            if place is not None:
                self._read[place[0]][place[1]] = 0  # as if its event were not there
            return
        value: bytes | None = None
        if place is not None:
            number, row = place
            value = self._chunks[number].values[row] if self._read[number][row] else None
        else:
            early, values = self._early
            at = bisect_left(early, offset)
            value = values[at] if at < len(early) and early[at] == offset else None
        if place is None and not self._chunks:
            self._append([later])
        else:
            made = _rows_of([later])
            if place is None:
                number = max(0, bisect_right(self._firsts, offset) - 1)
                row = bisect_left(self._chunks[number].offsets, offset)
                self._read[number].insert(row, 0)
            self._chunks[number].put(row, made.event(0), made.tags[0], instead=place is not None)
            self._firsts[number] = self._chunks[number].offsets[0]
        if value is not None:
            self._fill(offset, value)


def _rows_of(found: Sequence[Published]) -> Rows:
    """Rows of predictions, whose events are not there yet."""
    rows, served = Rows(), [one.served for one in found]
    rows.extend(
        [one.offset for one in found],
        [one.event_time_ms for one in found],
        [one.event_id for one in found],
        [b""] * len(found),
        shared_tags([_UNKNOWN] * len(found), served),
        known_or_nan([number_of(one) for one in served], len(served)),
        [one.scores for one in served] if any(one.scores for one in served) else None,
    )
    return rows


def rebuilt_labels(
    records: Iterable[Record], evidence: CommittedOutputs, reader: FeedbackReader, partition: int
) -> tuple[list[Label], list[DeadLetter]]:
    """Those labels that have neither an example, nor an outcome, nor a dead letter: they wait.

    They were taken once, so their times are not judged again by this host's clock. One that settings which have
    changed since cannot read any more comes as a dead letter, to be published.
    """
    left = [record for record in records if record.offset not in evidence.ended_labels]
    waiting = reader.decode_many(Records.of(reader.topic, partition, left), NEVER_MS)
    labels = [item for item in waiting if isinstance(item, Label)]
    return labels, [item for item in waiting if isinstance(item, DeadLetter)]
