"""A tape of files: each row an event with its label, which comes when it says; in River's order of both.

An example stands on the tape where its label is revealed, and is asked about once all labels before its event were.
"""

import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from stream_ml.app.parts import Parts
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.evaluation.timeline import steps
from stream_ml.core.fold.batches import FoldSettings, prepare
from stream_ml.core.fold.book import Judged
from stream_ml.core.log.entry import Example, encode_example
from stream_ml.errors import ConfigError
from stream_ml.offline.replay.tape import SEGMENT, Tape, TapeWriter
from stream_ml.offline.rows import FileEncoder, Refused, mapped, read_rows
from stream_ml.records import NOT_SERVED, LogRecord, Record, Records
from stream_ml.units import duration_ms, time_ms

Ints = NDArray[np.int64]


class Columns(NamedTuple):
    """Where a row has what is no field of the event.

    Parameters
    ----------
    label
        Column of the label.
    delay
        A duration that all labels take; or the column that has each one's: seconds, a duration, or the time at which
        it came; None: at once.
    moment
        Column of the time of the event; None: the app's own (events.time); and without any the rows' order.
    """

    label: str
    delay: int | str | None = None
    moment: str | None = None


class FromFiles(NamedTuple):
    """A tape, how many rows were read, and those that the schema refuses."""

    tape: Tape
    rows: int
    refused: list[Refused]
    left_out: set[str]


def tape_of_files(
    parts: Parts,
    settings: Sequence[FoldSettings],
    files: Sequence[Path],
    columns: Columns,
    work: Path,
    said: Callable[[int], None] = lambda _: None,
) -> FromFiles:
    """Read files once, in their order, and write their tape.

    Raises
    ------
    ConfigError
        A file is none of its kind, a column is missing, or no row can be used.
    """
    reading = _Reading(parts, columns, work / "rows.arrow")
    for path in files:
        first = 1
        for given in read_rows(path):
            reading.take(path, first, given)
            first += len(given)
            said(reading.rows)
    reading.close()
    if not reading.count:
        first_one = f": {reading.refused[0].why}" if reading.refused else ""
        raise ConfigError(f"no row of {', '.join(path.name for path in files)} can be used{first_one}")
    if columns.delay is None:  # each label right behind its question, whatever the times are
        order = positions = np.arange(reading.count)
    else:
        order, positions = _timeline(reading.times(), in_line=not isinstance(columns.delay, str))
    writer = TapeWriter(work, settings)
    for records in _entries(work / "rows.arrow", order):
        judged = [Judged(item, learns=True) for item in prepare(settings[0], records)]
        writer.add(judged)
    tape = writer.close(lambda offsets: (positions[order[offsets]], order[offsets]))
    (work / "rows.arrow").unlink()
    return FromFiles(tape, reading.rows, reading.refused, reading.left_out)


class _Reading:
    """Rows to entries of a log, in the order of the files."""

    def __init__(self, parts: Parts, columns: Columns, file: Path) -> None:
        self._parts, self._columns = parts, columns
        config = parts.config
        self._encoder = FileEncoder(config.events, parts.reader.payloads, "events")
        self._file = ipc.new_file(str(file), pa.schema([pa.field("entry", pa.binary())]))
        self._moments: list[Ints] = []
        self._due: list[Ints] = []
        self.rows = self.count = 0
        self.refused: list[Refused] = []

    @property
    def left_out(self) -> set[str]:
        """Columns that are no field, and are not used for anything else."""
        return self._encoder.left_out - {self._columns.label, str(self._columns.delay), self._columns.moment or ""}

    def take(self, path: Path, first: int, given: Any) -> None:
        """A piece of a file."""
        encoded = self._encoder.encode(path, first, given)
        self.rows += len(given)
        self._refuse(encoded.refused)
        rows = mapped(encoded.rows)
        if not rows:
            return
        topic = self._parts.config.events.topic
        records = Records.of(
            topic,
            0,
            [
                Record(topic, 0, self.count + n, 0, key, value)
                for n, (key, value) in enumerate(zip(encoded.keys, encoded.values, strict=True))
            ],
        )
        events = self._parts.reader.decode_many(records, _FAR_MS)
        entries, moments, due = list[bytes](), list[int](), list[int]()
        for n, row in enumerate(rows):
            dead = events.dead_letters.get(n)
            try:
                if dead is not None:
                    raise ValueError(f"{dead.reason}: {dead.message}")
                moment_ms = self._moment(row, events.times_ms[n], self.count + len(entries))
                due_ms = self._due_ms(row, moment_ms)
                number = self.count + len(entries)
                entry = self._entry(number, moment_ms, due_ms, self._target(row), encoded.values[n], events, n)
            except (ValueError, TypeError, OverflowError) as error:
                self._refuse([Refused(path.name, encoded.numbers[n], str(error), row)])
                continue
            entries.append(entry)
            moments.append(moment_ms)
            due.append(due_ms)
        self.count += len(entries)
        self._moments.append(np.array(moments, np.int64))
        self._due.append(np.array(due, np.int64))
        self._file.write_batch(pa.record_batch([pa.array(entries, pa.binary())], ["entry"]))

    def _entry(
        self, number: int, moment_ms: int, due_ms: int, target: Any, value: bytes, events: Any, row: int
    ) -> bytes:
        example = Example(
            source_partition=0,
            sequence=number,
            trigger=1,
            trigger_offset=number,
            event_id=events.ids[row],
            event_time_ms=moment_ms,
            event_offset=number,
            event_schema=events.schemas[row],
            event_framing=self._parts.config.events.framing,
            event=value,
            label_time_ms=due_ms,
            target=target,
            feedback_offset=number,
            served=NOT_SERVED,
        )
        return encode_example(example, written_at_ms=due_ms, writer="replay")

    def _refuse(self, some: Sequence[Refused]) -> None:
        self.refused += some

    def _moment(self, row: dict[str, Any], own_ms: int, number: int) -> int:
        column = self._columns.moment
        if column is None:
            return own_ms if self._parts.config.events.time != "record" else number
        return _time(row, column)

    def _due_ms(self, row: dict[str, Any], moment_ms: int) -> int:
        delay = self._columns.delay
        if delay is None:
            return moment_ms
        if isinstance(delay, int):
            return moment_ms + delay
        value = _number(_given(row, delay))
        if isinstance(value, datetime.timedelta):
            return moment_ms + round(value.total_seconds() * 1000)
        if isinstance(value, bool) or value is None:
            raise ValueError(f"{delay} is {value!r}: neither a duration nor a time")
        if isinstance(value, int | float):
            if abs(value) > DELAY_MAX_S:
                raise ValueError(f"{delay} is {value:g} seconds, more than ten years: write a time as ISO 8601")
            return moment_ms + round(value * 1000)
        if isinstance(value, datetime.datetime):
            return _time(row, delay)
        try:
            return moment_ms + duration_ms(value)
        except ValueError:
            return _time(row, delay)

    def _target(self, row: dict[str, Any]) -> Any:
        value = _given(row, self._columns.label)
        domain = self._parts.domain
        if isinstance(value, str) and domain.task == "regression":
            value = float(value)
        found = domain.canonical(value)
        if isinstance(found, Rejected) and isinstance(value, str) and value.lower() in ("true", "false"):
            found = domain.canonical(value.lower() == "true")
        if isinstance(found, Rejected):
            raise ValueError(found.message)
        return found

    def times(self) -> tuple[Ints, Ints]:
        """Moments, and when labels are due, in the order of the rows."""
        return np.concatenate(self._moments), np.concatenate(self._due)

    def close(self) -> None:
        """No more rows come."""
        self._file.close()


DELAY_MAX_S = 10 * 366 * 86_400
_FAR_MS = 2**62  # what is replayed may lie in any time


def _given(row: dict[str, Any], column: str) -> Any:
    if column not in row:
        raise ValueError(f"there is no column {column}; there are {', '.join(map(str, row))[:300]}")
    return row[column]


def _number(value: Any) -> Any:
    """A text of CSV that is a number as one."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _time(row: dict[str, Any], column: str) -> int:
    value = _given(row, column)
    if isinstance(value, datetime.datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{column} is {value!r}, and no time")
    return time_ms(value) if isinstance(value, str) else int(value)


def _timeline(times: tuple[Ints, Ints], *, in_line: bool) -> tuple[Ints, Ints]:
    """Events in the order in which their labels are revealed; and of each event how many are revealed before it."""
    moments, due = (column.tolist() for column in times)
    order, positions, answers = np.empty(len(moments), np.int64), np.empty(len(moments), np.int64), 0
    for number, is_answer in steps(zip(moments, due, strict=True), in_line=in_line):
        if is_answer:
            order[answers] = number
            answers += 1
        else:
            positions[number] = answers
    return order, positions


def _entries(file: Path, order: Ints) -> Iterator[list[LogRecord]]:
    """Entries in the order in which labels are revealed, with their places in it."""
    column = ipc.open_file(pa.memory_map(str(file))).read_all().column("entry")
    for first in range(0, len(order), SEGMENT):
        wanted = order[first : first + SEGMENT]
        low, high = int(wanted.min()), int(wanted.max()) + 1
        part = column.slice(low, high - low).combine_chunks()
        part = part.chunk(0) if isinstance(part, pa.ChunkedArray) else part
        values = part.take(pa.array(wanted - low)).to_pylist()
        yield [LogRecord(first + n, value) for n, value in enumerate(values)]
