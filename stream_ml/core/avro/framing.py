"""Bytes of a topic to records: three framings, reader and writer schemas; one by one, and as columns."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from fastavro.read import SchemaResolutionError

from stream_ml.core.avro.columnar import ROWS_MIN, AvroColumns, avro_columns
from stream_ml.core.avro.record import Decoder, decode_named, encode_record
from stream_ml.core.avro.resolution import unlike
from stream_ml.core.avro.schema import HEADER_BYTES, Schema, single_object_header
from stream_ml.core.avro.walk import not_text
from stream_ml.records import Framing

PIECE_BYTES = 1_000_000  # that are decoded at once: 8,000 events of 126 bytes

_BROKEN = (
    ValueError,
    IndexError,
    TypeError,
    KeyError,
    OverflowError,
    ArithmeticError,
    AttributeError,
    struct.error,
)


class Rejected(NamedTuple):
    """Why a record cannot be used: the dead letter's reason and words."""

    reason: str
    message: str


class ColumnarRows(NamedTuple):
    """Rows that were decoded as columns, and the writer schema that they name."""

    batch: pa.RecordBatch
    rows: Sequence[int]
    fingerprint: int


class Payloads:
    """Decodes the values of one topic into the reader schema's form.

    Parameters
    ----------
    framing
        How bytes name their writer schema.
    reader
        The schema that values are read into.
    by_id
        Confluent: writer schemas by their registered id.
    writers
        Single-object: writer schemas beside the reader, found by their fingerprints.
    """

    def __init__(
        self, framing: Framing, reader: Schema, by_id: dict[int, Schema], writers: Sequence[Schema] = ()
    ) -> None:
        self.framing = framing
        self.reader = reader
        self._by_id = by_id
        self._by_fingerprint = {s.fingerprint: s for s in (reader, *by_id.values(), *writers)}
        self._columns: dict[int, AvroColumns | None] = {}
        self._decoders: dict[int, Decoder] = {}

    @property
    def schemas(self) -> dict[int, Schema]:
        """Writer schemas by fingerprint."""
        return self._by_fingerprint

    def add(self, writer: Schema) -> None:
        """Make one more writer schema known; one that is known by its fingerprint stays as it is."""
        self._by_fingerprint.setdefault(writer.fingerprint, writer)

    def decode_one(self, value: bytes | None) -> tuple[int, dict[str, Any]] | Rejected:
        """Fingerprint of the writer schema, and the record; or why it cannot be read."""
        if value is None:
            return Rejected("empty", "the value is null (a tombstone)")
        if not value:
            return Rejected("empty", "the value has no bytes")
        found = self._writer(value)
        if isinstance(found, Rejected):
            return found
        writer, start = found
        payload = self.read(writer, value, start)
        return payload if isinstance(payload, Rejected) else (writer.fingerprint, payload)

    def named(self, value: bytes | None) -> dict[str, Any] | Rejected:
        """A record whose unions say which named type they hold, for people; or why it cannot be read."""
        decoded = self.decode_one(value)
        found = self._writer(value or b"\0")
        if isinstance(decoded, Rejected):
            return decoded
        if isinstance(found, Rejected):
            return found
        writer, start = found
        reader = None if writer.fingerprint == self.reader.fingerprint else self.reader.parsed
        return decode_named(value or b"", writer.parsed, start, reader)

    def decode_many(self, values: list[bytes | None]) -> list[ColumnarRows]:
        """What of n values decodes as columns. A row that is missing is for `decode_one`: broken, or of another kind.

        Fast path of `decode_one`, equal to it row by row: tests/equivalence/test_columnar_is_reference.py.
        """
        there: Sequence[int] = range(len(values)) if all(values) else [row for row, value in enumerate(values) if value]
        groups: dict[bytes, Sequence[int]] = {b"": there}
        size = HEADER_BYTES[self.framing]
        if size:
            groups = {}
            for row in there:
                groups.setdefault(values[row][:size], []).append(row)  # type: ignore[index, attr-defined]
        enough = ((header, rows) for header, rows in groups.items() if len(rows) >= ROWS_MIN)
        pieces = ((header, piece) for header, rows in enough for piece in _pieces(rows, values))
        return [lane for header, rows in pieces if (lane := self._lane(header, rows, values)) is not None]

    def decode_logged_many(self, fingerprint: int, framing: Framing, values: list[bytes]) -> ColumnarRows | None:
        """What decodes as columns of values from the training log that have one writer schema and framing."""
        writer = self._by_fingerprint.get(fingerprint)
        if writer is None or len(values) < ROWS_MIN:
            return None
        return self._decoded(writer, values, range(len(values)), HEADER_BYTES[framing])

    def _lane(self, header: bytes, rows: Sequence[int], values: list[bytes | None]) -> ColumnarRows | None:
        found = self._writer(values[rows[0]] or b"")
        if isinstance(found, Rejected):
            return None
        some = values if len(rows) == len(values) else [values[row] for row in rows]
        return self._decoded(found[0], some, rows, len(header))  # type: ignore[arg-type]

    def _decoded(self, writer: Schema, values: list[bytes], rows: Sequence[int], start: int) -> ColumnarRows | None:
        if writer.fingerprint not in self._columns:
            same = writer.fingerprint == self.reader.fingerprint or _holds(writer, self.reader)
            self._columns[writer.fingerprint] = avro_columns(writer.parsed) if same else None
        columns = self._columns[writer.fingerprint]
        if columns is None:
            return None
        batch, found, _ = columns.decode([value[start:] for value in values] if start else values)
        return ColumnarRows(
            batch, rows if len(found) == len(rows) else [rows[number] for number in found], writer.fingerprint
        )

    def encode(self, payload: dict[str, Any]) -> bytes:
        """A record, as the reader schema writes it, in this topic's framing; ValueError where no id names that schema.

        Single-object and Confluent header: Avro specification, and Confluent's "Wire format".
        """
        return encode_record(self.reader.parsed, payload, self.header)

    @property
    def header(self) -> bytes:
        """What stands before a record of the reader schema; ValueError as of `encode`."""
        if self.framing == "single-object":
            return single_object_header(self.reader.fingerprint)
        if self.framing == "bare":
            return b""
        ids = [number for number, s in self._by_id.items() if s.fingerprint == self.reader.fingerprint]
        if not ids:
            raise ValueError(f"no id in schema_ids stands for the schema of {self.reader.name}")
        return b"\x00" + max(ids).to_bytes(4, "big")

    def fingerprint_of(self, value: bytes) -> int:
        """Fingerprint of the writer schema that a readable value names."""
        found = self._writer(value)
        return self.reader.fingerprint if isinstance(found, Rejected) else found[0].fingerprint

    def decode_logged_one(self, fingerprint: int, framing: Framing, value: bytes) -> dict[str, Any] | Rejected:
        """A value from the training log, whose entry names schema and framing."""
        writer = self._by_fingerprint.get(fingerprint)
        if writer is None:
            return Rejected("unknown_schema", f"the writer schema {fingerprint} does not stand in the log before it")
        return self.read(writer, value, HEADER_BYTES[framing])

    def read(self, writer: Schema, value: bytes, start: int) -> dict[str, Any] | Rejected:
        """The record whose bytes begin at `start`; all bytes must belong to it."""
        try:
            payload, end = self._decoder(writer).decode(value, start)
        except EOFError as error:
            return Rejected("truncated", f"{writer.name}: {error}{_guess(value, self.framing)}")
        except SchemaResolutionError:
            return Rejected("schema_mismatch", f"written with {self._named(writer)}: {unlike(writer, self.reader)}")
        except UnicodeDecodeError:
            words = not_text(writer.parsed, value, start) or "a text is not UTF-8"
            return Rejected("not_avro", f"{writer.name}: {words}{_guess(value, self.framing)}")
        except _BROKEN as error:
            return Rejected("not_avro", f"{writer.name}: {error or type(error).__name__}{_guess(value, self.framing)}")
        left = len(value) - end
        if left:
            return Rejected("not_avro", f"{left} bytes are left after the record{_guess(value, self.framing)}")
        return payload

    def _named(self, writer: Schema) -> str:
        ids = [number for number, schema in self._by_id.items() if schema is writer]
        return f"schema id {ids[0]}" if ids else f"another schema of {writer.name}"

    def _decoder(self, writer: Schema) -> Decoder:
        found = self._decoders.get(writer.fingerprint)
        if found is None:
            same = writer.fingerprint == self.reader.fingerprint
            found = self._decoders[writer.fingerprint] = Decoder(writer.parsed, None if same else self.reader.parsed)
        return found

    def _writer(self, value: bytes) -> tuple[Schema, int] | Rejected:
        if self.framing == "bare":
            return self.reader, 0
        if self.framing == "confluent":
            if value[0] != 0 or len(value) < 5:
                return Rejected("framing", f"Confluent framing begins with byte 00{_guess(value, self.framing)}")
            schema_id = int.from_bytes(value[1:5], "big")
            writer = self._by_id.get(schema_id)
            if writer is None:
                return Rejected("unknown_schema", f"schema id {schema_id} is not in the configuration (schema_ids)")
            return writer, 5
        if value[:2] != b"\xc3\x01" or len(value) < 10:
            return Rejected("framing", f"single-object encoding begins with bytes c3 01{_guess(value, self.framing)}")
        fingerprint = int.from_bytes(value[2:10], "little", signed=True)
        writer = self._by_fingerprint.get(fingerprint)
        if writer is None:
            return Rejected(
                "unknown_schema",
                f"no configured schema has the fingerprint {value[2:10].hex()} (schema_ids lists more)",
            )
        return writer, 10


def _pieces(rows: Sequence[int], values: Sequence[bytes | None]) -> Iterator[Sequence[int]]:
    """The rows in their order, a piece ends at PIECE_BYTES; each has as many rows as columns are worth it."""
    if sum(map(len, filter(None, values))) <= PIECE_BYTES:
        yield rows
        return
    first = size = 0
    for number, row in enumerate(rows):
        size += len(values[row] or b"")
        if size >= PIECE_BYTES and number + 1 - first >= ROWS_MIN and len(rows) - number - 1 >= ROWS_MIN:
            yield rows[first : number + 1]
            first, size = number + 1, 0
    yield rows[first:]


def _guess(value: bytes, framing: Framing) -> str:
    head = value.lstrip()[:1]
    if head in (b"{", b"["):
        return "; this is JSON"
    if value[:2] == b"\xc3\x01" and framing != "single-object":
        return "; this looks like single-object encoding"
    if value[:1] == b"\x00" and framing != "confluent" and len(value) > 5:
        return "; this may be Confluent framing"
    return f"; it begins with {value[:8].hex(' ')}"


def _holds(writer: Schema, reader: Schema) -> bool:
    """Whether each field of the reader stands in the writer with the same type, so that resolving leaves out others."""
    theirs = {field["name"]: field["type"] for field in writer.parsed["fields"]}
    ours = {field["name"]: field["type"] for field in reader.parsed["fields"]}
    return writer.name == reader.name and all(theirs.get(name) == type_ for name, type_ in ours.items())
