"""The tape of a replay: what is learned and what is scored, written once as columns, run by any number of models.

::

    <work>/learn.arrow   entries in the order of the log: features of an example for each different plan
    <work>/facts.arrow   of each example: label, times, what was served, and where it is asked about
    <work>/score.arrow   the same examples, in the order in which they are asked about

An example is scored once everything before its `position` was learned. One whose features are no columns, or which a
plan refuses, keeps the bytes of its entry beside them; so do commands.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import ipc

from stream_ml.core.evaluation.labelled import NOT_COUNTED
from stream_ml.core.fold.batches import FoldSettings, Run, Single
from stream_ml.core.fold.book import Judged
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.log.entry import Entry

SEGMENT = 32_768  # rows of a batch of the files

Ints = NDArray[np.int64]
Asked = Callable[[Ints], tuple[Ints, Ints]]  # offsets of examples to where each is asked about, and in which order

FIXED = pa.schema(
    [
        pa.field("offset", pa.int64()),
        pa.field("written_at", pa.int64()),
        pa.field("learns", pa.bool_()),  # else it is a command that is obeyed
        pa.field("entry", pa.binary()),
    ]
)
FACTS = pa.schema(
    [
        pa.field("offset", pa.int64()),
        pa.field("position", pa.int64()),
        pa.field("event_ms", pa.int64()),
        pa.field("label_ms", pa.int64()),
        pa.field("served_class", pa.string()),
        pa.field("served_score", pa.float64()),
        pa.field("served_scores", pa.string()),
        pa.field("served_value", pa.float64()),
        pa.field("served_lineage", pa.string()),
        pa.field("usable", pa.bool_()),
    ]
)


def has(plan: int) -> str:
    """Column that says which rows have features under a plan."""
    return f"{plan}.has"


def feature(plan: int, name: str) -> str:
    """Column of a feature under a plan."""
    return f"{plan}.{name}"


def y_type(domain: LabelDomain) -> pa.DataType:
    """How labels stand on a tape: a class as text, else a number; 1 is the positive class."""
    return pa.string() if domain.task == "multiclass" else pa.float64()


class TapeWriter:
    """Writes what is learned, in its order.

    Parameters
    ----------
    settings
        Of models with different plans, one of each plan; the first one's made the runs that are given, and its payloads
        know every schema of theirs.

    Attributes
    ----------
    examples, entries
        How many were written.
    """

    def __init__(self, work: Path, settings: Sequence[FoldSettings]) -> None:
        first = settings[0]
        self._work, self._settings = work, [one._replace(payloads=first.payloads) for one in settings]
        self._domain = first.domain
        self._facts_schema = FACTS.append(pa.field("y", y_type(self._domain)))
        self._types: list[list[pa.DataType] | None] = [None] * len(settings)
        self._pieces: list[tuple[dict[str, Any], int]] = []
        self._facts_pieces: list[pa.RecordBatch] = []
        self._held = self.examples = self.entries = 0
        self._learn: Any = None
        self._facts = ipc.new_file(str(work / "facts.arrow"), self._facts_schema)

    def add(self, judged: Iterable[Judged]) -> None:
        """Take what a book has judged."""
        for one in judged:
            if isinstance(one.item, Run):
                self._run(one.item)
            elif one.learns or one.obeyed:
                self._single(one, one.item)

    def _run(self, run: Run) -> None:
        columns: dict[str, Any] = {
            "offset": pa.array([record.offset for record in run.records], pa.int64()),
            "written_at": pa.array(run.written_at_ms, pa.int64()),
            "learns": pa.array([True] * run.size),
        }
        whole = [self._of_plan(number, run, columns) for number in range(len(self._settings))]
        bare = (
            np.zeros(run.size, np.bool_)
            if all(whole)
            else ~np.all([columns[has(number)].to_numpy(zero_copy_only=False) for number in range(len(whole))], axis=0)
        )
        values = [record.value if is_bare else None for record, is_bare in zip(run.records, bare.tolist(), strict=True)]
        columns["entry"] = pa.array(values, pa.binary())
        facts = run.labelled.facts(run.first, run.first + run.size)
        facts |= {"offset": columns["offset"], "y": pa.array(self._plain(run.ys), y_type(self._domain))}
        self._take(columns, facts, run.size)

    def _plain(self, ys: Sequence[Any]) -> Sequence[Any]:
        return [float(y) for y in ys] if self._domain.task == "binary" else ys

    def _of_plan(self, number: int, run: Run, columns: dict[str, Any]) -> bool:
        """Add the features of one plan to the columns; whether each row has them."""
        settings = self._settings[number]
        rows: Sequence[Any] = run.rows
        if number:
            found, _ = run.lanes.features(settings.plan)
            rows = [found.get(run.first + row) for row in range(run.size)]
        there = [row is not None for row in rows]
        own = [row for row in rows if row is not None]
        arrays = [pa.array(list(column)) for column in zip(*own, strict=True)] if own else []
        types = [array.type for array in arrays]
        if own and self._types[number] is None:
            self._types[number] = types
        if types != self._types[number]:  # as where one column holds numbers of two kinds
            there, arrays = [False] * run.size, []
        columns[has(number)] = pa.array(there)
        if arrays and all(there):
            columns |= {feature(number, name): array for name, array in zip(settings.plan.names, arrays, strict=True)}
            return True
        if arrays:
            places = pc.indices_nonzero(pa.array(there))
            for name, array in zip(settings.plan.names, arrays, strict=True):
                columns[feature(number, name)] = _spread(array, places, run.size)
        return False

    def _single(self, one: Judged, single: Single) -> None:
        entry, record = single.entry, single.record
        assert entry is not None  # noqa: S101 - what is learned or obeyed was decoded
        columns = {
            "offset": pa.array([record.offset]),
            "written_at": pa.array([entry.written_at_ms]),
            "learns": pa.array([one.learns]),
            "entry": pa.array([record.value], pa.binary()),
            **{has(number): pa.array([False]) for number in range(len(self._settings))},
        }
        self._take(columns, self._facts_of(record.offset, entry) if one.learns else None, 1)

    def _facts_of(self, offset: int, entry: Entry) -> dict[str, Any]:
        served, target, domain = entry.served, entry.target, self._domain
        said = {
            "offset": offset,
            "position": served.position,
            "event_ms": entry.event_time_ms,
            "label_ms": entry.label_time_ms,
            "served_class": served.class_name,
            "served_score": served.score,
            "served_scores": served.scores,
            "served_value": served.value,
            "served_lineage": served.lineage,
            "usable": not NOT_COUNTED.intersection(served.flags),
            "y": self._plain([domain.y(target)])[0] if domain.fits(target) else None,
        }
        return {field.name: pa.array([said[field.name]], field.type) for field in self._facts_schema}

    def _take(self, columns: dict[str, Any], facts: dict[str, Any] | None, count: int) -> None:
        self._pieces.append((columns, count))
        if facts is not None:
            arrays = [facts[field.name].cast(field.type) for field in self._facts_schema]
            self._facts_pieces.append(pa.record_batch(arrays, schema=self._facts_schema))
            self.examples += count
        self._held += count
        self.entries += count
        known = None not in self._types
        if self._held >= (SEGMENT if known else 8 * SEGMENT):
            self._flush()

    def _flush(self) -> None:
        self._types = [types if types is not None else [] for types in self._types]
        schema = self.schema
        facts, self._facts_pieces = self._facts_pieces, []
        if facts:
            self._facts.write_table(pa.Table.from_batches(facts).combine_chunks())
        if self._learn is None:
            self._learn = ipc.new_file(str(self._work / "learn.arrow"), schema)
        pieces, self._pieces, self._held = self._pieces, [], 0
        tables = []
        for columns, count in pieces:
            arrays = [columns[f.name] if f.name in columns else pa.nulls(count, f.type) for f in schema]
            tables.append(pa.table(arrays, schema=schema))
        if tables:
            self._learn.write_table(pa.concat_tables(tables).combine_chunks(), max_chunksize=2 * SEGMENT)

    @property
    def schema(self) -> pa.Schema:
        """Of the entries, as far as is known."""
        fields = list(FIXED)
        for number, (settings, types) in enumerate(zip(self._settings, self._types, strict=True)):
            fields.append(pa.field(has(number), pa.bool_()))
            fields += [
                pa.field(feature(number, name), type_)
                for name, type_ in zip(settings.plan.names, types or [], strict=False)
            ]
        return pa.schema(fields)

    def close(self, asked: Asked | None = None) -> "Tape":
        """Write the examples in the order in which they are asked about, and give the tape.

        Parameters
        ----------
        asked
            Where each example is asked about; None: as it was served, of one position in the order of the log.
        """
        self._flush()
        self._learn.close()
        self._facts.close()
        tape = Tape(self._work, self.examples, len(self._settings))
        _write_score(tape, asked)
        return tape


def _spread(array: pa.Array, places: pa.Array, count: int) -> pa.Array:
    """Values in their places of a longer column, null elsewhere."""
    index = np.full(count, -1, np.int64)
    index[places.to_numpy()] = np.arange(len(array))
    return array.take(pa.array(index, mask=index < 0))


class Tape(NamedTuple):
    """A tape that was written: read by any number of processes."""

    work: Path
    examples: int
    plans: int

    def assuming(self, delay_ms: int, work: Path) -> "Tape":
        """The same examples, as if each label had taken so long: learned in their order, asked about by their events.

        A label is learned once its own time and those before it have come, so it may come later than that; never is an
        example asked about after its own label.

        Parameters
        ----------
        work
            An empty folder for what differs.
        """
        for name in ("facts.arrow", "learn.arrow"):
            os.link(self.work / name, work / name)
        found = self._replace(work=work)
        facts = found.facts()
        events = facts.column("event_ms").to_numpy()
        known_ms = np.maximum.accumulate(events + delay_ms)

        def asked(offsets: Ints) -> tuple[Ints, Ints]:
            after = np.searchsorted(known_ms, events, side="right")  # the first label that is not known by then
            positions = np.append(offsets, offsets[-1:] + 1)[after]
            order = np.lexsort((np.arange(len(events)), events))
            ranks = np.empty_like(order)
            ranks[order] = np.arange(len(order))
            return np.minimum(positions, offsets), ranks

        _write_score(found, asked)
        return found

    def facts(self) -> pa.Table:
        """Of all examples, in the order of the log."""
        return _mapped(self.work / "facts.arrow").read_all()

    def order(self) -> Ints:
        """Numbers of the examples in the order in which they are asked about."""
        found: Ints = np.load(self.work / "order.npy", mmap_mode="r")
        return found

    def positions(self) -> Ints:
        """Before which entry each is asked about, in that order."""
        found: Ints = np.load(self.work / "positions.npy", mmap_mode="r")
        return found

    def learned(self) -> Iterator[pa.RecordBatch]:
        """Entries in the order of the log."""
        return _batches(self.work / "learn.arrow")

    def asked(self) -> Iterator[pa.RecordBatch]:
        """Examples in the order in which they are asked about."""
        return _batches(self.work / "score.arrow")


def _mapped(path: Path) -> Any:
    return ipc.open_file(pa.memory_map(str(path)))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    reader = _mapped(path)
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def _write_score(tape: Tape, asked: Asked | None) -> None:
    facts = tape.facts()
    offsets, positions = (facts.column(name).to_numpy() for name in ("offset", "position"))
    positions = np.where(positions < 0, offsets, positions)  # never served: as if just before it was learned
    within = np.arange(len(offsets))
    if asked is not None:
        positions, within = asked(offsets)
    order = np.lexsort((within, positions))
    np.save(tape.work / "order.npy", order)
    np.save(tape.work / "positions.npy", positions[order])
    learned = _mapped(tape.work / "learn.arrow").read_all()
    rows = np.flatnonzero(learned.column("learns").to_numpy())
    with ipc.new_file(str(tape.work / "score.arrow"), learned.schema) as file:
        for first in range(0, len(order), SEGMENT):
            wanted = rows[order[first : first + SEGMENT]]
            low, high = int(wanted.min()), int(wanted.max()) + 1  # near each other: a label takes hours, a log years
            part = learned.slice(low, high - low).combine_chunks()
            file.write_table(part.take(pa.array(wanted - low)), max_chunksize=SEGMENT)
