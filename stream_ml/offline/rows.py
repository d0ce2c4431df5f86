"""Rows of files as records of a topic: Parquet, CSV, JSON lines, Avro; read in pieces, whatever their size.

Rows that the schema refuses are kept with their reason; nothing is passed over.
"""

import base64
import csv
import datetime
import decimal
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from stream_ml.core.avro.columnar import avro_columns
from stream_ml.core.avro.fields import base_of, logical_of
from stream_ml.core.avro.framing import Payloads
from stream_ml.core.avro.from_json import SchemaMismatch, branches_of
from stream_ml.core.avro.schema import Schema
from stream_ml.core.inputs.rows import RowEncoder
from stream_ml.core.inputs.settings import Source
from stream_ml.errors import ConfigError

ROWS = 8_192  # read at once
KINDS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".avro": "avro"}

T = TypeVar("T")
Given: TypeAlias = "list[dict[str, Any]] | pa.RecordBatch"


class Refused(NamedTuple):
    """A row that is none of the schema: its number in its file, from 1 on, and why."""

    file: str
    number: int
    why: str
    row: Any

    def plain(self) -> dict[str, Any]:
        """As a line of JSON."""
        return {"file": self.file, "row": self.number, "why": self.why, "given": plain(self.row)}


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
    """parquet, csv, jsonl or avro, by the name; ConfigError where it says none of them."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path} is none of {', '.join(KINDS)}", "name a file that ends so")
    if not path.is_file():
        raise ConfigError(f"{path} is no file", "name one that is there")
    return kind


def read_rows(path: Path) -> Iterator[Given]:
    """A file's rows in pieces.

    Raises
    ------
    ConfigError
        It is none of its kind, or breaks off.
    """
    kind = kind_of(path)
    try:
        yield from {"parquet": _parquet, "csv": _csv, "jsonl": _json_lines, "avro": _avro}[kind](path)
    except (OSError, ValueError, pa.ArrowException, EOFError, csv.Error) as error:
        if isinstance(error, ConfigError):
            raise
        words = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ConfigError(f"{path} cannot be read as {kind}: {words}") from error


def _parquet(path: Path) -> Iterator[Given]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=ROWS)


def _csv(path: Path) -> Iterator[Given]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        for rows in _pieces(reader):
            yield [_of_csv(path, row) for row in rows]


def _of_csv(path: Path, row: dict[Any, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise ConfigError(f"{path}: a row has more or fewer values than the first line has names: {str(row)[:200]}")
    return row


def _json_lines(path: Path) -> Iterator[Given]:
    with path.open("rb") as file:
        for number, lines in enumerate(_pieces(file)):
            found = []
            for row, line in enumerate(lines, number * ROWS + 1):
                if not line.strip():
                    continue
                try:
                    found.append(json.loads(line))
                except ValueError as error:
                    raise ConfigError(f"{path}, line {row}, is no JSON: {error}") from None
            yield found


def _avro(path: Path) -> Iterator[Given]:
    import fastavro

    with path.open("rb") as file:
        yield from _pieces(dict(row) for row in fastavro.reader(file))  # type: ignore[arg-type]


def _pieces(rows: Iterable[T]) -> Iterator[list[T]]:
    """ROWS of them at a time."""
    left = iter(rows)
    while piece := list(islice(left, ROWS)):
        yield piece


def plain(value: Any) -> Any:
    """A value as JSON has it: times as ISO 8601, decimals and the like as text."""
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, decimal.Decimal) or not isinstance(value, str | int | float | bool | None):
        return str(value)
    return value


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
            self.left_out |= set(given.schema.names) - self._taken
            columns = self._columns(given)
            if columns is not None:
                keys, values = columns
                return Encoded(path.name, list(range(first, first + len(values))), keys, values, given, [])
            return self._one_by_one(path, first, given.to_pylist())
        return self._one_by_one(path, first, given)

    def _one_by_one(self, path: Path, first: int, rows: Iterable[Any]) -> Encoded:
        """The reference: each row as JSON would have it."""
        is_csv = path.suffix.lower() == ".csv"
        taken: list[dict[str, Any]] = []
        found = Encoded(path.name, [], [], [], taken, [])
        for number, row in enumerate(rows, first):
            try:
                if not isinstance(row, dict):
                    raise SchemaMismatch("it is no object")
                self.left_out |= set(row) - self._taken
                own = {name: plain(value) for name, value in row.items() if name in self._taken}
                if is_csv:
                    own = {name: self._from_text(name, text) for name, text in own.items()}
                key, value = self._rows.encode(own)
            except ValueError as error:
                found.refused.append(Refused(path.name, number, str(error), row))
                continue
            found.numbers.append(number)
            found.keys.append(key)
            found.values.append(value)
            taken.append(row)
        return found

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
            try:
                return json.loads(text)
            except ValueError:
                return text  # a time, or none: the schema says
        return text

    def _columns(self, batch: pa.RecordBatch) -> tuple[list[bytes], list[bytes]] | None:
        """Keys and values of a batch whose columns are as the schema has them; None: it is read one by one.

        Fast path of `_one_by_one`, with the same bytes: tests/offline/test_rows.py.
        """
        names = set(batch.schema.names)
        if self._codec is None or not names >= set(self._types) or base_of(self._types[self._source.id]) != "string":
            return None
        columns = []
        for field in self._codec.schema:
            column = _as_avro(batch.column(field.name), field.type, self._types[field.name])
            if column is None or (column.null_count and not field.nullable):
                return None
            columns.append(column)
        ids = batch.column(self._source.id).cast(pa.string()).to_pylist()
        if not all(ids):
            return None
        header = self._payloads.header
        values = self._codec.encode(columns)
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


def mapped(rows: Given) -> list[dict[str, Any]]:
    """Rows as dicts."""
    found: list[dict[str, Any]] = rows if isinstance(rows, list) else rows.to_pylist()
    return found
