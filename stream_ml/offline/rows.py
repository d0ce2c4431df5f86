"""Rows of files as records of a topic: Parquet, CSV, JSON lines, Avro; read in pieces, whatever their size.

Rows that the schema refuses are kept with their reason; nothing is passed over.
"""

import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from stream_ml.core.avro.columnar import avro_columns
from stream_ml.core.avro.fields import base_of, logical_of
from stream_ml.core.avro.framing import Payloads
from stream_ml.core.avro.from_json import SchemaMismatch, branches_of
from stream_ml.core.avro.json_text import read_json
from stream_ml.core.avro.schema import Schema
from stream_ml.core.avro.to_json import jsonable
from stream_ml.core.inputs.rows import RowEncoder
from stream_ml.core.inputs.settings import Source
from stream_ml.errors import ConfigError

ROWS = 8_192  # read at once
LINE_BYTES_MAX = 2**20  # of a line of JSON: what a record of Kafka may hold
NESTING_MAX = 100  # brackets
SHOWN_CHARS = 200
KINDS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".avro": "avro"}

T = TypeVar("T")
Given: TypeAlias = "list[Any] | pa.RecordBatch"


class FileRefused(ConfigError):
    """One file cannot be scored or replayed, or its result is there already; others may be."""


class Refused(NamedTuple):
    """A row that is none of the schema: its number in its file, from 1 on, and why."""

    file: str
    number: int
    why: str
    row: Any

    def plain(self) -> dict[str, Any]:
        """As a line of JSON."""
        try:
            given = jsonable(self.row)
        except RecursionError:
            given = "(nested too deeply to be shown)"
        return {"file": self.file, "row": self.number, "why": self.why, "given": given}


class Unreadable(NamedTuple):
    """In the place of a row that is none: why, and how it begins; without a reason a line that is empty."""

    why: str
    begins: str = ""


class Encoded(NamedTuple):
    """Rows as records: key and framed value of each that the schema takes, and the others.

    Parameters
    ----------
    rows
        As they were given, of those that were taken: what is no field stands there.
    numbers
        Their places in the file, from 1 on.
    """

    file: str
    numbers: list[int]
    keys: list[bytes]
    values: list[bytes]
    rows: Given
    refused: list[Refused]


def kind_of(path: Path) -> str:
    """parquet, csv, jsonl or avro, by the name; FileRefused where it says none of them."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise FileRefused(f"{path} is none of {', '.join(KINDS)}", "name a file that ends so")
    if not path.is_file():
        raise FileRefused(f"{path} is no file", "name one that is there")
    return kind


def read_rows(path: Path) -> Iterator[Given]:
    """A file's rows in pieces.

    Raises
    ------
    FileRefused
        It is none of its kind, or breaks off.
    """
    kind = kind_of(path)
    try:
        yield from {"parquet": _parquet, "csv": _csv, "jsonl": _json_lines, "avro": _avro}[kind](path)
    except (OSError, ValueError, pa.ArrowException, EOFError, csv.Error) as error:
        if isinstance(error, ConfigError):
            raise
        words = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FileRefused(f"{path} cannot be read as {kind}: {words}") from error


def _parquet(path: Path) -> Iterator[Given]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):  # read as one, what was read of all groups would stay in memory
            yield from file.iter_batches(batch_size=ROWS, row_groups=[group])


def _csv(path: Path) -> Iterator[Given]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        for rows in _pieces(reader):
            yield [_of_csv(row) for row in rows]


def _of_csv(row: dict[Any, Any]) -> Any:
    if None in row or None in row.values():
        return Unreadable("it has more or fewer values than the first line has names", str(row)[:SHOWN_CHARS])
    return row


def _json_lines(path: Path) -> Iterator[Given]:
    with path.open("rb") as file:
        for lines in _pieces(_lines(file)):
            yield [_of_json(line) for line in lines]


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines, of which none is longer than LINE_BYTES_MAX: what is more of one is read and left out."""
    while line := file.readline(LINE_BYTES_MAX + 1):
        if len(line) > LINE_BYTES_MAX:
            while not line.endswith(b"\n") and (more := file.readline(LINE_BYTES_MAX)):
                line = line[:SHOWN_CHARS] + more[-1:]
            line = b"more than %d bytes: " % LINE_BYTES_MAX + line[:SHOWN_CHARS]
        yield line


def _of_json(line: bytes) -> Any:
    if not line.strip():
        return Unreadable("")
    try:
        return read_json(line.decode(), NESTING_MAX)
    except ValueError as error:
        return Unreadable(f"it is no JSON: {error}", line[:SHOWN_CHARS].decode("utf-8", "replace"))


def _avro(path: Path) -> Iterator[Given]:
    import fastavro

    with path.open("rb") as file:
        try:
            pieces = _pieces(dict(row) for row in fastavro.reader(file))  # type: ignore[arg-type]
        except (Exception, MemoryError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        while True:
            try:
                piece = next(pieces, None)
            except (Exception, MemoryError) as error:
                raise ValueError(f"{type(error).__name__}: {error}") from error
            if piece is None:
                return
            yield piece


def _pieces(rows: Iterable[T]) -> Iterator[list[T]]:
    """ROWS of them at a time."""
    left = iter(rows)
    while piece := list(islice(left, ROWS)):
        yield piece


class FileEncoder:
    """Rows of files to records of one topic.

    Attributes
    ----------
    left_out
        Columns that are no field: to be said.
    """

    def __init__(self, source: Source, payloads: Payloads, where: str) -> None:
        reader = payloads.reader
        self._source, self._payloads = source, payloads
        self._rows = RowEncoder(source, payloads, where)
        self._types = {field["name"]: _one_type(reader, field["type"]) for field in reader.fields}
        self._taken = {*self._types, *(["key"] if source.id == "key" else [])}
        self._codec = avro_columns(reader.parsed) if source.id in self._types else None
        self.left_out: set[str] = set()

    def encode(self, path: Path, first: int, given: Given) -> Encoded:
        """Rows of a piece of a file; `first` is the number of the first one."""
        if isinstance(given, pa.RecordBatch):
            if len(set(given.schema.names)) < len(given.schema.names):
                raise FileRefused(f"{path} has two columns of one name", "name them apart")
            self.left_out |= set(given.schema.names) - self._taken
            columns = self._columns(given)
            if columns is not None:
                keys, values = columns
                return Encoded(path.name, list(range(first, first + len(values))), keys, values, given, [])
            return self._one_by_one(path, first, mapped(given))
        return self._one_by_one(path, first, given)

    def _one_by_one(self, path: Path, first: int, rows: Iterable[Any]) -> Encoded:
        """The reference: each row as JSON would have it."""
        is_csv = path.suffix.lower() == ".csv"
        taken: list[dict[str, Any]] = []
        found = Encoded(path.name, [], [], [], taken, [])
        for number, row in enumerate(rows, first):
            if isinstance(row, Unreadable):
                if row.why:
                    found.refused.append(Refused(path.name, number, row.why, row.begins))
                continue
            try:
                if not isinstance(row, dict):
                    raise SchemaMismatch("it is no object")
                self.left_out |= set(map(str, row)) - self._taken
                own = {name: self._plain(name, value) for name, value in row.items() if name in self._taken}
                if is_csv:
                    own = {name: self._from_text(name, text) for name, text in own.items()}
                key, value = self._rows.encode(own)
            except (ValueError, OverflowError, RecursionError) as error:
                found.refused.append(Refused(path.name, number, str(error) or type(error).__name__, row))
                continue
            found.numbers.append(number)
            found.keys.append(key)
            found.values.append(value)
            taken.append(row)
        return found

    def _plain(self, name: str, value: Any) -> Any:
        """A value as JSON has it; of a text only what is one."""
        if base_of(self._types.get(name, "string")) != "string" or value is None or isinstance(value, str):
            return jsonable(value, non_finite=float)  # of two types of a union it is the number
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, int | float):
            return value  # which the schema refuses
        raise SchemaMismatch(f"{name} is a {type(value).__name__}, and it is a string", name)

    def _from_text(self, name: str, text: str) -> Any:
        """A value of CSV, which knows texts alone: what is empty is null, but of a text."""
        base = base_of(self._types.get(name, "string"))
        if base == "string":
            return text
        if text == "":
            return None
        if base == "boolean":
            return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)
        if base in ("int", "long", "float", "double"):
            for number in (int, float):
                try:
                    return number(text)
                except ValueError:
                    continue
        return text  # a time, or none: the schema says

    def _columns(self, batch: pa.RecordBatch) -> tuple[list[bytes], list[bytes]] | None:
        """Keys and values of a batch whose columns are as the schema has them; None: it is read one by one.

        Fast path of `_one_by_one`, with the same bytes: tests/offline/test_rows.py.
        """
        names = set(batch.schema.names)
        if self._codec is None or not names >= set(self._types) or base_of(self._types[self._source.id]) != "string":
            return None
        columns = []
        for field in self._codec.schema:
            if pa.types.is_nested(field.type):
                return None
            column = _as_avro(batch.column(field.name), field.type, self._types[field.name])
            if column is None or (column.null_count and not field.nullable):
                return None
            columns.append(column)
        try:
            ids = batch.column(self._source.id).cast(pa.string()).to_pylist()
            header, values = self._payloads.header, self._codec.encode(columns)
        except (ValueError, OverflowError):  # a symbol that is none, a text that is none: it is read one by one
            return None
        if not all(ids):
            return None
        return [text.encode() for text in ids], [header + value for value in values] if header else values


def _as_avro(column: pa.Array, wanted: pa.DataType, type_: Any) -> pa.Array | None:
    """A column as Avro has its values; None where one of them is to be judged by itself."""
    logical = logical_of(type_)
    try:
        if pa.types.is_timestamp(column.type):
            unit = {"timestamp-millis": "ms", "timestamp-micros": "us"}.get(logical)
            if unit is None:
                return None
            return pc.cast(column, pa.timestamp(unit, column.type.tz), safe=True).cast(pa.int64())
        if logical or not _fits(column.type, wanted):
            return column if column.type == wanted and not logical else None
        return pc.cast(column, wanted, safe=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _fits(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a value of the one is a value of the other as JSON has it: no number becomes a text, no text a number."""
    if pa.types.is_floating(wanted):
        return bool(pa.types.is_floating(given) or pa.types.is_integer(given))
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_integer(given))
    if pa.types.is_string(wanted):
        return bool(pa.types.is_string(given) or pa.types.is_large_string(given))
    return bool(given == wanted)


def _one_type(schema: Schema, type_: Any) -> Any:
    """The type of a field that is null or one type; of a union of more the first."""
    others = [branch for branch in branches_of(schema, type_) if branch != "null"]
    return others[0] if others else "null"


def mapped(rows: Given) -> list[Any]:
    """Rows as dicts; Unreadable in the place of one that is none."""
    if isinstance(rows, list):
        return rows
    try:
        found: list[Any] = rows.to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError):  # a text that is none, a time that Python has not
        found = [_one_of(rows, number) for number in range(len(rows))]
    return found


def _one_of(rows: Any, number: int) -> Any:
    try:
        return rows.slice(number, 1).to_pylist(maps_as_pydicts="strict")[0]
    except (ValueError, OverflowError) as error:
        return Unreadable(f"a value of it cannot be read: {error}")
