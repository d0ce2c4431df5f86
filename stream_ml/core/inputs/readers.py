"""Records of a topic to events and labels: a reference path for one, and columns for many.

1. The reference path (`decode_one`) says what a record is, and why it becomes a dead letter.
2. The fast path takes the rows in which there is nothing to say: it gives what the reference would, or leaves the
   row to it. So a bad record costs itself only, and its dead letter is worded in one place.
"""

import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stream_ml.core.avro.arrow import Mask, column_of, id_column, time_column
from stream_ml.core.avro.fields import InvalidValue, composed, converter, find_field, getter, id_text_of, time_ms_of
from stream_ml.core.avro.framing import ColumnarRows, Payloads, Rejected
from stream_ml.core.inputs.events import Events, Taken, picked
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.inputs.labels import NO_TARGET, Labels
from stream_ml.core.inputs.settings import LabelSource, Source
from stream_ml.records import (
    KEY_CUT,
    NOT_UNPACKED,
    TOO_LARGE,
    VALUE_BYTES,
    DeadLetter,
    Event,
    Label,
    Record,
    Records,
    Target,
)

ID_MAX_CHARS = 1_024
AHEAD_MAX_MS = 86_400_000  # a day: beyond it a time is a mistake, not a clock that runs ahead
OLDEST_MS = -62_135_596_800_000  # year 1


class _Reader:
    """What events and feedback share: payload, id and time, each of which can be wrong."""

    def __init__(self, source: Source, payloads: Payloads, where: str) -> None:
        schema = payloads.reader
        self.payloads, self.topic = payloads, source.topic
        self._id: Callable[[Any], str] | None = None
        self._time: Callable[[Any], int | None] | None = None
        self._id_column: Callable[[pa.RecordBatch], tuple[list[str], Mask]] | None = None
        self._time_column: Callable[[pa.RecordBatch], tuple[NDArray[np.int64], Mask]] | None = None
        if source.id != "key":
            id_ = find_field(schema, source.id, where=f"{where}.id")
            self._id = composed(getter(id_), id_text_of(id_, where=f"{where}.id"))
            texts_of = id_column(id_, ID_MAX_CHARS)
            self._id_column = lambda batch: texts_of(column_of(batch, id_.path))
        if source.time != "record":
            time = find_field(schema, source.time, where=f"{where}.time")
            self._time = composed(getter(time), time_ms_of(time, where=f"{where}.time"))
            times_of = time_column(time, where=f"{where}.time")
            self._time_column = lambda batch: times_of(column_of(batch, time.path))

    def head(self, record: Record, now_ms: int) -> tuple[int, dict[str, Any], str, int] | Rejected:
        """Writer's fingerprint, payload, id and time of one record."""
        if record.value is None and record.headers:
            said = dict(record.headers)
            if NOT_UNPACKED in said:
                return Rejected("not_unpacked", "its batch cannot be unpacked by the client: what it held is not known")
            if TOO_LARGE in said:
                sizes = [(said.get(name) or b"").decode("utf-8", "replace") for name in (VALUE_BYTES, KEY_CUT)]
                return Rejected("too_large", f"{' and '.join(filter(None, sizes))} bytes are not looked at")
        decoded = self.payloads.decode_one(record.value)
        if isinstance(decoded, Rejected):
            return decoded
        fingerprint, payload = decoded
        placed = self.placed(payload, record.key, record.timestamp_ms, now_ms)
        return placed if isinstance(placed, Rejected) else (fingerprint, payload, *placed)

    def placed(
        self, payload: dict[str, Any], key: bytes | None, timestamp_ms: int, now_ms: int
    ) -> tuple[str, int] | Rejected:
        """Id and time of a decoded record, which may be those of Kafka: its key, its timestamp."""
        event_id = self._id_of(key, payload)
        if isinstance(event_id, Rejected):
            return event_id
        time_ms = timestamp_ms if self._time is None else self._time(payload)
        if time_ms is None:
            return Rejected("out_of_range_time", "the time is null")
        if time_ms > now_ms + AHEAD_MAX_MS:
            return Rejected(
                "out_of_range_time", f"the time {time_ms} ms lies more than a day ahead of this host's clock"
            )
        if time_ms < OLDEST_MS:
            return Rejected("out_of_range_time", f"the time {time_ms} ms lies before the year 1")
        return event_id, time_ms

    def _id_of(self, key: bytes | None, payload: dict[str, Any]) -> str | Rejected:
        try:
            text = self._id(payload) if self._id is not None else _key_text(key)
        except (ValueError, TypeError) as error:
            return Rejected("missing_id", f"the id cannot be read: {error}")
        if not text:
            return Rejected(
                "missing_id",
                "the record key is null or empty" if self._id is None else "the id is null or empty",
            )
        if len(text) > ID_MAX_CHARS:
            return Rejected("missing_id", f"the id has {len(text)} characters; at most {ID_MAX_CHARS}")
        return text

    def heads(self, lane: ColumnarRows, records: Records, now_ms: int) -> "_Heads":
        """Ids and times of k decoded rows, and which rows the reference must judge."""
        if self._id_column is None:
            ids, wrong = _key_texts([records.keys[row] for row in lane.rows])
        else:
            ids, wrong = self._id_column(lane.batch)
        if self._time_column is None:
            times = np.array([records.timestamps_ms[row] for row in lane.rows], np.int64)
        else:
            times, null = self._time_column(lane.batch)
            wrong = wrong | null
        return _Heads(ids, times, wrong | (times > now_ms + AHEAD_MAX_MS) | (times < OLDEST_MS))


class _Heads(NamedTuple):
    ids: list[str]
    times_ms: NDArray[np.int64]
    wrong: Mask


def _key_text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8")


def _key_texts(keys: list[bytes | None]) -> tuple[list[str], Mask]:
    """Texts of k keys; those that are null, empty, too long or no text are wrong."""
    texts, wrong = [""] * len(keys), np.zeros(len(keys), np.bool_)
    for row, key in enumerate(keys):
        with contextlib.suppress(UnicodeDecodeError):
            texts[row] = key.decode("utf-8") if key else ""
        if not 0 < len(texts[row]) <= ID_MAX_CHARS:
            wrong[row] = True
    return texts, wrong


class EventReader(_Reader):
    """Batches of event records to Events: usable rows and dead letters."""

    def __init__(self, source: Source, payloads: Payloads, plan: FeaturePlan, carry: Sequence[str]) -> None:
        super().__init__(source, payloads, "events")
        self.plan = plan
        fields = [find_field(payloads.reader, name, where="predictions.carry") for name in carry]
        self._carry = [(field.name.replace(".", "_"), getter(field)) for field in fields]
        self._carry_paths = [field.path for field in fields]
        self._columnar = all(field.base in _CARRIED for field in fields)

    def under(self, plan: FeaturePlan) -> "EventReader":
        """A reader of the same topic that makes the features of another plan."""
        if plan is self.plan:
            return self
        found = copy.copy(self)
        found.plan = plan
        return found

    def decode_many(self, records: Records, now_ms: int) -> Events:
        """n records to n events or dead letters. Errors are values; nothing is raised for data.

        Fast path of `decode_one`, equal to it row by row: tests/equivalence/test_columnar_is_reference.py.
        """
        lanes = self.payloads.decode_many(records.values) if self._columnar else []
        taken = [self._take(lane, records, now_ms) for lane in lanes]
        left: list[int] = []
        if sum(len(lane.rows) for lane in taken) < len(records):
            done = {row for lane in taken for row in lane.rows}
            left = [row for row in range(len(records)) if row not in done]
        others = {row: self.decode_one(records.record(row), now_ms) for row in left}
        return Events(records, taken, others, self.plan)

    def _take(self, lane: ColumnarRows, records: Records, now_ms: int) -> Taken:
        """Events out of decoded columns, but for the rows that the reference must judge."""
        heads, table = self.heads(lane, records, now_ms), self.plan.extract_many(lane.batch)
        rows, ids, times_ms, columns = lane.rows, heads.ids, heads.times_ms.tolist(), table.columns
        paths = self._carry_paths
        carried = list(zip(*(column_of(lane.batch, path).to_pylist() for path in paths), strict=True))
        wrong = heads.wrong | table.wrong
        imputed = {rows[number] for number in np.flatnonzero(table.imputed & ~wrong).tolist()}
        if wrong.any():
            right = np.flatnonzero(~wrong).tolist()
            columns = columns.take(pa.array(right, pa.int64()))
            rows, ids, times_ms = [rows[n] for n in right], [ids[n] for n in right], [times_ms[n] for n in right]
            carried = [carried[number] for number in right] if paths else []
        names = [name for name, _ in self._carry]
        taken_along = [dict(zip(names, values, strict=True)) for values in carried] if paths else None
        return Taken(rows, ids, times_ms, lane.fingerprint, columns, imputed, taken_along)

    def decode_one(self, record: Record, now_ms: int) -> Event | DeadLetter:
        """The reference path: one record to an Event or a DeadLetter."""
        head = self.head(record, now_ms)
        if isinstance(head, Rejected):
            return DeadLetter(record, head.reason, head.message, "decode")
        fingerprint, payload, event_id, time_ms = head
        extracted = self.plan.extract_one(payload)
        if isinstance(extracted, Rejected):
            return DeadLetter(record, extracted.reason, extracted.message, "features")
        features, imputed = extracted
        return Event(record, event_id, time_ms, features, imputed, self.carried(payload), fingerprint)

    def carried(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """Fields of the event that its prediction takes along; None where there are none."""
        return {name: get(payload) for name, get in self._carry} if self._carry else None


_CARRIED = {"null", "boolean", "int", "long", "float", "double", "string", "enum"}  # the same from either path


class _Told(NamedTuple):
    """Rows that were made labels of as columns."""

    rows: Sequence[int]
    ids: list[str]
    times_ms: list[int]
    targets: list[Target]


class FeedbackReader(_Reader):
    """Batches of feedback records to Labels and dead letters, in the same order."""

    def __init__(self, source: LabelSource, payloads: Payloads, domain: LabelDomain) -> None:
        super().__init__(source, payloads, "feedback")
        self.domain = domain
        field = find_field(payloads.reader, source.label, where="feedback.label")
        self.label_field = field
        self._label = getter(field)
        self._convert = converter(field) if domain.task == "regression" else None
        self._path = field.path

    def decode_many(self, records: Records, now_ms: int) -> Labels:
        """n records to n labels or dead letters. Errors are values; nothing is raised for data.

        Fast path of `decode_one`, equal to it row by row: tests/equivalence/test_columnar_is_reference.py.
        """
        lanes = self.payloads.decode_many(records.values)
        taken = [self._take(lane, records, now_ms) for lane in lanes]
        if len(taken) == 1 and len(taken[0].rows) == len(records):
            _, ids, times_ms, targets = taken[0]
            return Labels(records, ids, times_ms, targets, {})
        count = len(records)
        found = Labels(records, [""] * count, [0] * count, [NO_TARGET] * count, {})
        left = set(range(count))
        for rows, ids, times_ms, targets in taken:
            left.difference_update(rows)
            for row, event_id, time_ms, target in zip(rows, ids, times_ms, targets, strict=True):
                found.ids[row], found.times_ms[row], found.targets[row] = event_id, time_ms, target
        for row in sorted(left):
            item = self.decode_one(records.record(row), now_ms)
            if isinstance(item, DeadLetter):
                found.dead_letters[row] = item
            else:
                _, found.ids[row], found.times_ms[row], found.targets[row] = item
        return found

    def _take(self, lane: ColumnarRows, records: Records, now_ms: int) -> "_Told":
        """Labels out of decoded columns, but for the rows that the reference must judge."""
        heads = self.heads(lane, records, now_ms)
        values = column_of(lane.batch, self._path).to_pylist()
        if self._convert is None:
            known = {value: self._target(value) for value in set(values)}  # a class has few
            targets: list[Any] = [known[value] for value in values]
        else:
            targets = [self._target(value) for value in values]
        told = _Told(lane.rows, heads.ids, heads.times_ms.tolist(), targets)
        if not heads.wrong.any() and not any(isinstance(target, Rejected) for target in targets):
            return told
        judged = zip(heads.wrong.tolist(), targets, strict=True)
        right = [number for number, (wrong, target) in enumerate(judged) if not wrong and isinstance(target, Target)]
        return _Told(*(picked(list(column), right) for column in told))

    def decode_one(self, record: Record, now_ms: int) -> Label | DeadLetter:
        """The reference path: one record to a Label or a DeadLetter."""
        head = self.head(record, now_ms)
        if isinstance(head, Rejected):
            return DeadLetter(record, head.reason, head.message, "decode")
        _, payload, event_id, time_ms = head
        target = self._target(self._label(payload))
        if isinstance(target, Rejected):
            return DeadLetter(record, target.reason, target.message, "label")
        return Label(record, event_id, time_ms, target)

    def _target(self, value: Any) -> Target | Rejected:
        if value is None or self._convert is None:
            return self.domain.canonical(value)
        try:
            return self.domain.canonical(self._convert(value))
        except InvalidValue as error:
            return Rejected("not_finite", f"the label: {error}")
