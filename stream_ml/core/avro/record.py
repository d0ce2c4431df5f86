"""One Avro record to bytes and back: the only calls of fastavro on the path of a record."""

import io
from typing import Any, cast

import fastavro

from stream_ml.core.avro.walk import walk_of


def encode_record(schema: Any, values: dict[str, Any], header: bytes = b"") -> bytes:
    """Header and record as bytes; ValueError or TypeError where values do not fit the schema."""
    stream = io.BytesIO()
    stream.write(header)
    fastavro.schemaless_writer(stream, schema, values)
    return stream.getvalue()


class Decoder:
    """Bytes of one record type to values, for one writer schema and, where it is another one, a reader schema.

    fastavro takes bytes that no Avro writer makes, so each record is walked by the specification before it is decoded.
    """

    def __init__(self, schema: Any, reader: Any = None) -> None:
        self._schema, self._reader = schema, reader
        self._walk = walk_of(schema)

    def decode(self, value: bytes, start: int = 0) -> tuple[dict[str, Any], int]:
        """The record at `start`, read into the reader schema, and where it ends.

        Raises EOFError where the bytes end before the record does, NotAvro where they are no record; and what fastavro
        raises where a text is not UTF-8 or the reader schema cannot take a value: ValueError and others.
        """
        end = self._walk(value, start)
        stream = io.BytesIO(value)
        stream.seek(start)
        return cast("dict[str, Any]", fastavro.schemaless_reader(stream, self._schema, self._reader)), end


class LaterFormat(ValueError):
    """A record of ours, of a format that a later version writes: to take it for none would be to lose it.

    `where` are topic, partition and offset of what it is about: the fields in front stand so in every format.
    """

    where: tuple[str, int, int] | None = None
    row = -1  # of the records that were given


FORMATS_MAX = 1_000  # a number above it is no format: somebody else's bytes
_FORMAT = Decoder(
    fastavro.parse_schema({"type": "record", "name": "Format", "fields": [{"name": "format", "type": "int"}]})
)


def check_format(value: bytes, start: int, ours: int, what: str) -> None:
    """The format is the first field of every record of ours, and chooses the schema of the rest.

    Raises
    ------
    LaterFormat
        It is a later one than ours.
    ValueError
        It is none, or an earlier one.
    """
    found = decode_own(value, _FORMAT, start)["format"]
    if found == ours:
        return
    message = f"{what} of format {found}, and this version reads {ours}"
    if ours < found <= FORMATS_MAX:
        raise LaterFormat(message)
    raise ValueError(message)


def check_format_of(value: bytes, start: int, ours: int, head: Decoder, what: str, about: str) -> None:
    """As `check_format`; of a later format also which record it is about.

    Parameters
    ----------
    head
        Of the fields in front, which stand so in every format.
    about
        ``event`` or ``feedback``: how the names of the three fields begin that say so.
    """
    try:
        check_format(value, start, ours, what)
    except LaterFormat as later:
        found = decode_own(value, head, start)
        later.where = found[f"{about}_topic"], found[f"{about}_partition"], found[f"{about}_offset"]
        raise


def decode_named(value: bytes, schema: Any, start: int, reader: Any) -> dict[str, Any]:
    """A record whose unions give their named types as (name, value): the value alone does not tell which it is."""
    stream = io.BytesIO(value)
    stream.seek(start)
    found = fastavro.schemaless_reader(stream, schema, reader, return_named_type=True, return_record_name=True)
    return cast("dict[str, Any]", found)


def avro_long(number: int) -> bytes:
    """A long as Avro writes it (specification, "Binary Encoding": zigzag, seven bits a byte)."""
    left, found = (number << 1) ^ (number >> 63), bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)


def decode_own(value: bytes, decoder: Decoder, start: int = 0, *, to_end: bool = False) -> dict[str, Any]:
    """A record of this project's own schemas, or a prefix of one; ValueError where the bytes are something else.

    Parameters
    ----------
    to_end
        No prefix: the record ends where the bytes do.
    """
    try:
        found, end = decoder.decode(value, start)
        if to_end and end != len(value):
            raise ValueError(f"it ends at {end} of {len(value)} bytes")
        return found
    except (EOFError, LookupError, TypeError, ArithmeticError, ValueError) as error:
        raise ValueError(f"not such a record: {type(error).__name__} {error}") from error
