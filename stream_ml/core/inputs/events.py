"""A batch of events, decoded: columns of n rows, each an event or a dead letter."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import repeat
from sys import intern
from typing import Any, NamedTuple

import pyarrow as pa

from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.records import DeadLetter, Event, Records


class Features:
    """Features of a batch's events: of most as columns, of the others one by one.

    Parameters
    ----------
    table
        k rows, d columns in schema order.
    rows
        Which of the batch's rows they are, ascending.
    others
        Features by row, of those that are in no column.
    """

    __slots__ = ("others", "rows", "table")

    def __init__(self, table: pa.Table | None, rows: Sequence[int], others: dict[int, dict[str, Any]]) -> None:
        self.table, self.rows, self.others = table, rows, others

    def dicts(self) -> list[dict[str, Any]]:
        """The table's k rows one by one, as River's `*_one` take them."""
        return [] if self.table is None else dicts_of(self.table)


def dicts_of(table: pa.Table) -> list[dict[str, Any]]:
    """A table's rows as Python values by name."""
    names = [intern(name) for name in table.column_names]  # the model's own dicts find them by identity
    return [dict(zip(names, values, strict=True)) for values in rows_of(table)]


def rows_of(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """A table's rows as Python values, in the order of its columns."""
    return zip(*map(_values_of, table.columns), strict=True)


def _values_of(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python values: numbers by way of numpy, three times as fast."""
    if column.null_count or not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        found: list[Any] = column.to_pylist()
    else:
        found = column.to_numpy().tolist()
    return found


class Taken(NamedTuple):
    """Rows that were made events of as columns; `carried` has their values, or is None where nothing is carried."""

    rows: Sequence[int]
    ids: list[str]
    times_ms: list[int]
    schema: int
    table: pa.Table
    imputed: set[int]
    carried: list[dict[str, Any]] | None


class Events:
    """n records as events: `dead_letters` has the rows that cannot be used, whose other columns say nothing.

    `plan` made the features: a model that has another one is asked with features of its own.
    """

    __slots__ = ("carried", "dead_letters", "features", "ids", "imputed", "plan", "records", "schemas", "times_ms")

    def __init__(
        self,
        records: Records,
        taken: Sequence[Taken],
        others: dict[int, Event | DeadLetter],
        plan: FeaturePlan | None = None,
    ) -> None:
        self.records, self.plan = records, plan
        self.dead_letters = {row: item for row, item in others.items() if isinstance(item, DeadLetter)}
        self.imputed = set().union(*(lane.imputed for lane in taken))
        if len(taken) == 1 and not others:
            lane = taken[0]
            self.ids, self.times_ms, self.schemas = lane.ids, lane.times_ms, [lane.schema] * len(records)
            self.carried: list[dict[str, Any] | None] | None = None if lane.carried is None else list(lane.carried)
            self.features = Features(lane.table, range(len(records)), {})
        else:
            self._gather(taken, {row: item for row, item in others.items() if isinstance(item, Event)})

    def _gather(self, taken: Sequence[Taken], others: dict[int, Event]) -> None:
        count = len(self.records)
        self.ids, self.times_ms, self.schemas = [""] * count, [0] * count, [0] * count
        carried: list[dict[str, Any] | None] = [None] * count
        for lane in taken:
            spread(self.ids, lane.rows, lane.ids)
            spread(self.times_ms, lane.rows, lane.times_ms)
            spread(self.schemas, lane.rows, repeat(lane.schema, len(lane.rows)))
            if lane.carried is not None:
                spread(carried, lane.rows, lane.carried)
        for row, event in others.items():
            self.ids[row], self.times_ms[row], self.schemas[row] = event.event_id, event.time_ms, event.schema
            carried[row] = event.carried
            if event.imputed:
                self.imputed.add(row)
        self.carried = carried if any(value is not None for value in carried) else None
        self.features = Features(*_sorted(taken), {row: event.features for row, event in others.items()})

    def __len__(self) -> int:
        """n."""
        return len(self.records)

    def latest_ms(self, otherwise_ms: int, without: Collection[int] | None = None) -> int:
        """The largest time of the rows but some (the dead letters), or the other one where that is later."""
        left_out = self.dead_letters if without is None else without
        times = self.times_ms
        if left_out:
            times = [time_ms for row, time_ms in enumerate(times) if row not in left_out]
        return max(otherwise_ms, max(times, default=otherwise_ms))


def spread(found: list[Any], rows: Iterable[int], column: Iterable[Any]) -> None:
    """Put a column's values where they belong in a batch."""
    for row, value in zip(rows, column, strict=True):
        found[row] = value


def picked(column: list[Any] | None, rows: Sequence[int]) -> Any:
    """A column's values in some rows of a batch: the column itself where these are all, None of none."""
    return column if column is None or len(rows) == len(column) else [column[row] for row in rows]


def _sorted(taken: Sequence[Taken]) -> tuple[pa.Table | None, list[int]]:
    """The tables of all groups of rows as one, in the order of the batch's rows."""
    lanes = [lane for lane in taken if lane.rows]
    if not lanes:
        return None, []
    rows = [row for lane in lanes for row in lane.rows]
    table = lanes[0].table if len(lanes) == 1 else pa.concat_tables([lane.table for lane in lanes])
    if len(lanes) > 1 and rows != sorted(rows):
        order = sorted(range(len(rows)), key=rows.__getitem__)
        table, rows = table.take(pa.array(order, pa.int64())), [rows[number] for number in order]
    return table, rows
