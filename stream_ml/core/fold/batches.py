"""Records of the training log, decoded as far as that goes without the replica's state.

1. What is prepared depends on the records and the settings alone, so it may be done for a thousand at once.
2. Examples that stand one after another, and in which there is nothing to say, make a *run*: columns. Everything else
   is single. A run can always be folded as singles, and must then come to the same.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_ml.core.avro.columnar import ROWS_MIN
from stream_ml.core.avro.framing import Payloads, Rejected
from stream_ml.core.drift.concept import ConceptMonitor
from stream_ml.core.evaluation.labelled import LabelledColumns
from stream_ml.core.fold.halt import Halt
from stream_ml.core.fold.limits import Ranges, nothing_watched
from stream_ml.core.inputs.events import picked, rows_of
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.log.entry import EXAMPLE, FRAMINGS, Entry, decode_entry
from stream_ml.core.log.entry_columns import EntryColumns, decode_columns
from stream_ml.core.log.sequences import Place
from stream_ml.core.model.linear_batch import Matrix
from stream_ml.core.model.selection import EVERYTHING, Selection
from stream_ml.records import NOT_SEALED, NOT_UNPACKED, TOO_LARGE, LogRecord, Target


class FoldSettings(NamedTuple):
    """What the fold depends on beside the log; all of it but `sealed_from` and `concept` is in the lineage's digest.

    `watch` is the digest of what watches: the origin of what it finds.
    `selection` says which examples the model learns.
    `started` has the partitions that need no `start` entry, where there is no Kafka to take them up from.
    `quarantine` says what becomes of an example that is far from all others (`halt`, `divert` or `tell`).
    From offset `sealed_from` on (None: nowhere) entries are sealed, and a command that was written again halts.
    """

    lineage: str
    payloads: Payloads
    plan: FeaturePlan
    domain: LabelDomain
    build: Callable[[], Any]
    concept: Callable[[], ConceptMonitor]
    started: Collection[int] = ()
    ranges: Callable[[], Ranges] = nothing_watched
    quarantine: str = "tell"
    sealed_from: int | None = None
    watch: str = ""
    selection: Selection = EVERYTHING


class Single(NamedTuple):
    """One record; `features` of an example, or why there are none: a Halt (of no position yet) at bytes that are none.

    `entry` is None where the bytes are no entry, for the `problem`.
    """

    record: LogRecord
    entry: Entry | None
    problem: ValueError | None
    features: dict[str, Any] | Rejected | Halt | None


class Lanes:
    """The events of a chunk as columns, and the features that plans make of them: each asked once."""

    def __init__(self, payloads: Payloads, columns: EntryColumns) -> None:
        columns_of = (columns.numbers("kind"), columns.numbers("event_schema"), columns.numbers("event_framing"))
        writers = list(zip(*columns_of, strict=True))
        self._lanes: list[tuple[Sequence[int], pa.RecordBatch]] = []
        self._features: dict[int, tuple[FeaturePlan, FeatureRows]] = {}
        for writer in set(writers):
            kind, fingerprint, framing = writer
            own = [number for number, one in enumerate(writers) if one == writer] if kind == EXAMPLE else []
            lane = payloads.decode_logged_many(fingerprint, FRAMINGS[framing], picked(columns.events, own))
            if lane is not None:
                self._lanes.append((picked(own, lane.rows), lane.batch))

    def features(self, plan: FeaturePlan) -> "FeatureRows":
        """Features of the examples in which there is nothing to say, under one plan."""
        known = self._features.get(id(plan))
        if known is None:
            known = self._features[id(plan)] = (plan, self._made(plan))
        return known[1]

    def _made(self, plan: FeaturePlan) -> "FeatureRows":
        found = FeatureRows({}, {})
        for numbers, batch in self._lanes:
            table = plan.extract_many(batch)
            found.rows.update(zip(numbers, rows_of(table.columns), strict=True))
            widen(found.extremes, table.columns)
            for row in np.flatnonzero(table.wrong).tolist():
                del found.rows[numbers[row]]
        return found


class FeatureRows(NamedTuple):
    """Rows by their number in the columns of a chunk, and the extremes of their numbers."""

    rows: dict[int, Sequence[Any]]
    extremes: dict[str, tuple[Any, Any]]


class Run(NamedTuple):
    """k examples, one column a fact; `ys` is what the model learns, `rows` their features in the order of `names`."""

    records: Sequence[LogRecord]
    places: Sequence[Place]
    names: Sequence[str]
    rows: Matrix
    ys: Sequence[Any]
    labelled: LabelledColumns
    first: int  # row of the first in there
    written_at_ms: Sequence[int]
    extremes: Mapping[str, tuple[Any, Any]]  # of its numbers, or of more rows than these; nothing of what is no column
    lanes: Lanes

    @property
    def size(self) -> int:
        """k."""
        return len(self.records)

    def singles(self) -> Iterator[Single]:
        """One by one."""
        for number, record in enumerate(self.records):
            yield Single(record, decode_entry(record.value), None, self.features(number))

    def some(self, first: int, stop: int) -> "Run":
        """Rows `first` to before `stop`."""
        of = slice(first, stop)
        return self._replace(
            records=self.records[of],
            places=self.places[of],
            rows=self.rows[of],
            ys=self.ys[of],
            first=self.first + first,
            written_at_ms=self.written_at_ms[of],
        )

    def before(self, offset: int | None) -> "tuple[Run, Run]":
        """The rows whose offsets are below this one (None: all), and the rest."""
        if offset is None or self.records[-1].offset < offset:  # as nearly always: nothing is copied
            return self, self.some(self.size, self.size)
        count = bisect_left(self.records, offset, key=lambda record: record.offset)
        return self.some(0, count), self.some(count, self.size)

    def under(self, settings: FoldSettings) -> "list[Run | Single]":
        """The same examples with the features of another plan; those in which it has something to say are single."""
        rows, extremes = self.lanes.features(settings.plan)
        found: list[Run | Single] = []
        done = 0
        known = [number for number in range(self.size) if self.first + number in rows]
        for first, stop in _stretches(known):
            own = range(known[first], known[stop - 1] + 1)
            found += [_single(settings, record) for record in self.records[done : own.start]]
            taken = [rows[self.first + number] for number in own]
            run = self.some(own.start, own.stop)
            found.append(run._replace(names=settings.plan.names, rows=taken, extremes=extremes))
            done = own.stop
        return [*found, *(_single(settings, record) for record in self.records[done:])]

    def features(self, number: int) -> dict[str, Any]:
        """Those of one example, as River takes them."""
        return dict(zip(self.names, self.rows[number], strict=True))


def prepare(settings: FoldSettings, records: Sequence[LogRecord]) -> list[Run | Single]:
    """Decode records of the log; many at once are cheaper."""
    if len(records) < ROWS_MIN:
        return [_single(settings, record) for record in records]
    columns = decode_columns([record.value for record in records])
    found: list[Run | Single] = []
    done = 0
    for rows, run in _runs(settings, columns, records):
        found += [_single(settings, record) for record in records[done : rows.start]]
        found.append(run)
        done = rows.stop
    return [*found, *(_single(settings, record) for record in records[done:])]


def size_of(item: Run | Single) -> int:
    """How many records it is."""
    return item.size if isinstance(item, Run) else 1


def split(prepared: Sequence[Run | Single], most: int) -> tuple[list[Run | Single], list[Run | Single]]:
    """The first `most` records, and the rest."""
    size = 0
    for number, item in enumerate(prepared):
        own = size_of(item)
        if size + own > most:
            left = most - size
            if left and isinstance(item, Run):
                return [*prepared[:number], item.some(0, left)], [item.some(left, own), *prepared[number + 1 :]]
            return list(prepared[:number]), list(prepared[number:])
        size += own
    return list(prepared), []


def before(prepared: Sequence[Run | Single], limit: int) -> tuple[list[Run | Single], list[Run | Single]]:
    """The records whose offsets are below the limit, and the rest."""
    for number, item in enumerate(prepared):
        if isinstance(item, Run) and item.records[-1].offset >= limit:
            part, rest = item.before(limit)
            return [*prepared[:number], *([part] if part.size else [])], [rest, *prepared[number + 1 :]]
        if isinstance(item, Single) and item.record.offset >= limit:
            return list(prepared[:number]), list(prepared[number:])
    return list(prepared), []


_NOT_READ = {
    NOT_UNPACKED.encode(): "its batch cannot be unpacked by the client",
    TOO_LARGE.encode(): "it is larger than any entry",
    NOT_SEALED.encode(): "it is not sealed with the key of training_log.key_file",
}


def _single(settings: FoldSettings, record: LogRecord) -> Single:
    try:
        if record.value in _NOT_READ:
            raise ValueError(_NOT_READ[record.value])
        entry = decode_entry(record.value)
    except ValueError as problem:
        return Single(record, None, problem, None)
    return Single(record, entry, None, features_of(settings, entry) if entry.kind == "example" else None)


def features_of(settings: FoldSettings, entry: Entry) -> dict[str, Any] | Rejected | Halt:
    """Features of an example's event; Rejected by the plan; a Halt (of no position yet) at bytes that are none."""
    payload = settings.payloads.decode_logged_one(entry.event_schema, entry.event_framing, entry.event)
    if isinstance(payload, Rejected):
        return Halt(-1, payload.reason, f"the event of the example cannot be read: {payload.message}")
    extracted = settings.plan.extract_one(payload)
    return extracted if isinstance(extracted, Rejected) else extracted[0]


def _runs(settings: FoldSettings, columns: EntryColumns, records: Sequence[LogRecord]) -> Iterator[tuple[range, Run]]:
    """Runs of the examples whose features are there and whose label the model knows, with the records' rows."""
    lanes, ys = Lanes(settings.payloads, columns), _ys(settings.domain, columns)
    features, extremes = lanes.features(settings.plan)
    labelled = LabelledColumns(columns, ys)
    of_place = (
        columns.numbers("source_partition"),
        columns.numbers("sequence"),
        columns.numbers("trigger"),
        columns.numbers("trigger_offset"),
    )
    places, written_at_ms = list(zip(*of_place, strict=True)), columns.numbers("written_at")
    usable = [number for number, y in enumerate(ys) if y is not None and number in features]
    for first, stop in _stretches([columns.rows[number] for number in usable]):
        own = usable[first:stop]
        rows = range(columns.rows[own[0]], columns.rows[own[-1]] + 1)
        of = slice(own[0], own[-1] + 1)
        taken = [features[number] for number in own]
        yield (
            rows,
            Run(
                records=records[rows.start : rows.stop],
                places=places[of],
                names=settings.plan.names,
                rows=taken,
                ys=ys[of],
                labelled=labelled,
                first=own[0],
                written_at_ms=written_at_ms[of],
                extremes=extremes,
                lanes=lanes,
            ),
        )


def _stretches(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where consecutive numbers stand: first index and exclusive stop."""
    first = 0
    for number in range(1, len(rows) + 1):
        if number == len(rows) or rows[number] != rows[number - 1] + 1:
            yield first, number
            first = number


def widen(extremes: dict[str, tuple[Any, Any]], table: pa.Table) -> None:
    """Take the smallest and the largest number of each column."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if len(column) and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            low, high = pc.min_max(column).as_py().values()
            if low is not None:
                known = extremes.get(name, (low, high))
                extremes[name] = min(low, known[0]), max(high, known[1])


def _ys(domain: LabelDomain, columns: EntryColumns) -> list[Any]:
    """What the model learns; None where it knows no such label."""
    if domain.task == "regression":
        found: list[Any] = columns.batch.column("label_value").to_pylist()
        return [y if y is not None and math.isfinite(y) else None for y in found]
    names = columns.texts("label_class")
    known = {name: domain.y(Target(name, None)) if name in domain.classes else None for name in set(names)}
    return [known[name] for name in names]
