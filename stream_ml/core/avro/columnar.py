"""Batches of one record type between Avro bytes and Arrow columns: the only calls of pyruhvro.

1. A row counts as decoded only if encoding it again gives the very bytes that it came from. So nothing depends on what
   the decoder overlooks (bytes after a record, a varint longer than it must be): such rows are for the reference.
2. Types are allowed by list and never by trying: on others (bytes, fixed) the library panics.
3. One bad row fails the library's whole batch. A scan then finds it, and the rest is decoded at once.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyruhvro
from fastavro.schema import to_parsing_canonical_form

from stream_ml.core.avro.scan import Scan, scan_of

ROWS_MIN = 64  # a call takes 50 us and hands over to a thread, 0.1 to 1.7 ms; fastavro takes 6 us for 14 fields

_SIMPLE = {"null", "boolean", "int", "long", "float", "double", "string"}


class Decoded(NamedTuple):
    """k of n rows as columns: which they are, and how many bytes of each belong to the record."""

    batch: pa.RecordBatch
    rows: Sequence[int]
    lengths: list[int]


class AvroColumns:
    """Codec of one record type that `avro_columns` allows, given in parsing canonical form."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.schema: pa.Schema = pyruhvro.avro_to_arrow_schema(text)
        self._scan: Scan | None = scan_of(json.loads(text))

    def decode(self, values: list[bytes]) -> Decoded:
        """Those of n values that are exactly one record each; the reference judges the others."""
        return self._decoded(values, bytes.__eq__)

    def decode_prefixes(self, values: list[bytes]) -> Decoded:
        """Those of n values that begin with a record.

        Source: Avro has no framing between fields, so a reader with the first fields of a schema stops early.
        """
        return self._decoded(values, bytes.startswith)

    def encode(self, columns: Iterable[pa.Array]) -> list[bytes]:
        """n records out of columns, which stand in the order of the schema's fields."""
        return self._bytes_of(pa.RecordBatch.from_arrays(list(columns), schema=self.schema))

    def _decoded(self, values: list[bytes], proof: Callable[[bytes, bytes], bool]) -> Decoded:
        batch, rows = self._read(values, range(len(values)))
        if batch is None and self._scan is not None:
            batch, rows = self._read(values, self._scan(values, whole=proof is bytes.__eq__))
        if batch is None:
            batch, rows = self._halves(values, rows)
        batch, rows = _of_text(batch, rows)
        again = self._bytes_of(batch)
        if again != values:
            right = [number for number, row in enumerate(rows) if proof(values[row], again[number])]
            if len(right) < len(rows):
                batch, rows = batch.take(pa.array(right, pa.int64())), [rows[number] for number in right]
                again = [again[number] for number in right]
        return Decoded(batch, rows, list(map(len, again)))

    def _read(self, values: list[bytes], rows: Sequence[int]) -> "_Some | tuple[None, Sequence[int]]":
        """These rows as columns; None where one of them is broken."""
        if not rows:
            return _empty(self.schema), rows
        some = values if len(rows) == len(values) else [values[row] for row in rows]
        try:
            return pyruhvro.deserialize_array(some, self._text), rows
        except (ValueError, OverflowError):
            return None, rows

    def _halves(self, values: list[bytes], rows: Sequence[int]) -> "_Some":
        """Where no scan helps: what decodes of either half. Nothing of a few rows, which the reference reads faster."""
        if len(rows) <= ROWS_MIN:
            return _empty(self.schema), []
        found: list[_Some] = []
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            batch, read = self._read(values, half)
            found.append(self._halves(values, half) if batch is None else (batch, read))
        return _joined([batch for batch, _ in found], self.schema), [row for _, read in found for row in read]

    def _bytes_of(self, batch: pa.RecordBatch) -> list[bytes]:
        if not batch.num_rows:
            return []
        arrays = pyruhvro.serialize_record_batch(batch, self._text, 1)
        return [value for array in arrays for value in array.to_pylist()]


_Some = tuple[pa.RecordBatch, Sequence[int]]


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _joined(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.concat_arrays([batch.column(number) for batch in batches]) for number in range(len(schema))], schema=schema
    )


def _of_text(batch: pa.RecordBatch, rows: Sequence[int]) -> _Some:
    """Without the rows whose texts are not UTF-8, which the library does not look at."""
    right = _texts(batch, 0, batch.num_rows)
    if len(right) == len(rows):
        return batch, rows
    return batch.take(pa.array(right, pa.int64())), [rows[number] for number in right]


def _texts(batch: pa.RecordBatch, first: int, count: int) -> Sequence[int]:
    try:
        batch.slice(first, count).validate(full=True)
    except pa.ArrowInvalid:
        middle = count // 2
        return [*_texts(batch, first, middle), *_texts(batch, first + middle, count - middle)] if middle else []
    return range(first, first + count)


def avro_columns(raw: Any) -> AvroColumns | None:
    """The codec of a record type; None where one of its types is not on the list."""
    text = to_parsing_canonical_form(raw)
    return AvroColumns(text) if _allowed(json.loads(text)) else None


def _allowed(node: Any) -> bool:
    """Whether the library is known to be right about a type: each has been tried, damaged bytes included."""
    if isinstance(node, list):
        return len(node) == 2 and "null" in node and all(_allowed(branch) for branch in node)
    if isinstance(node, str):
        return node in _SIMPLE
    kind = node["type"]
    if kind == "record":
        return all(_allowed(field["type"]) for field in node["fields"]) and bool(node["fields"])
    if kind in ("array", "map"):
        return _allowed(node["items" if kind == "array" else "values"])
    return kind == "enum" or (not isinstance(kind, str) and _allowed(kind)) or kind in _SIMPLE
