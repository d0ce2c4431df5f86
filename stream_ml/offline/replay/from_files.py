"""A tape of files: each row an event with its label, which comes when it says; in River's order of both.

An example stands on the tape where its label is revealed, and is asked about once all labels before its event were.
"""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stream_ml.app.parts import Parts
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.log.entry import Example, encode_example
from stream_ml.errors import ConfigError
from stream_ml.offline.replay.examples import ExampleFile, timeline
from stream_ml.offline.replay.tape import Tape
from stream_ml.offline.rows import FileEncoder, Refused, mapped, read_rows
from stream_ml.records import NOT_SERVED, Record, Records
from stream_ml.units import duration_ms, time_ms


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
    reading = _Reading(parts, columns, ExampleFile(work))
    for path in files:
        first = 1
        for given in read_rows(path):
            reading.take(path, first, given)
            first += len(given)
            said(reading.rows)
    examples = reading.examples
    if not examples.count:
        first_one = f": {reading.refused[0].why}" if reading.refused else ""
        raise ConfigError(f"no row of {', '.join(path.name for path in files)} can be used{first_one}")
    each = np.arange(examples.count)
    if columns.delay is None:  # each label right behind its question, whatever the times are
        order = positions = each
    else:
        order, positions = timeline(examples.times(), in_line=not isinstance(columns.delay, str))
    tape = examples.tape(settings, order, positions, each)
    return FromFiles(tape, reading.rows, reading.refused, reading.left_out)


class _Reading:
    """Rows to entries of a log, in the order of the files."""

    def __init__(self, parts: Parts, columns: Columns, examples: ExampleFile) -> None:
        self._parts, self._columns, self.examples = parts, columns, examples
        config = parts.config
        self._encoder = FileEncoder(config.events, parts.reader.payloads, "events")
        self.rows = 0
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
                Record(topic, 0, self.examples.count + n, 0, key, value)
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
                moment_ms = self._moment(row, events.times_ms[n], self.examples.count + len(entries))
                due_ms = self._due_ms(row, moment_ms)
                number = self.examples.count + len(entries)
                entry = self._entry(number, moment_ms, due_ms, self._target(row), encoded.values[n], events, n)
            except (ValueError, TypeError, OverflowError) as error:
                self._refuse([Refused(path.name, encoded.numbers[n], str(error), row)])
                continue
            entries.append(entry)
            moments.append(moment_ms)
            due.append(due_ms)
        self.examples.add(entries, moments, due)

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
