"""One Avro record to bytes and back: the only calls of fastavro on the path of a record."""

import io
from typing import Any, cast

import fastavro


def encode_record(schema: Any, values: dict[str, Any], header: bytes = b"") -> bytes:
    """Header and record as bytes; ValueError or TypeError where values do not fit the schema."""
    stream = io.BytesIO()
    stream.write(header)
    fastavro.schemaless_writer(stream, schema, values)
    return stream.getvalue()


def decode_record(value: bytes, schema: Any, start: int = 0, reader: Any = None) -> tuple[dict[str, Any], int]:
    """The record at `start`, read into the reader schema, and where it ends.

    Raises what fastavro raises on broken bytes: EOFError where they end too early, ValueError, IndexError and others.
    """
    stream = io.BytesIO(value)
    stream.seek(start)
    try:
        return cast("dict[str, Any]", fastavro.schemaless_reader(stream, schema, reader)), stream.tell()
    except IndexError as error:  # "list index": a branch or a symbol that does not exist; else a cut integer
        if stream.tell() >= len(value) and "list" not in str(error):
            raise EOFError from error
        raise


def long_bytes(number: int) -> bytes:
    """A long as Avro writes it (specification, "Binary Encoding": zigzag, seven bits a byte)."""
    left, found = (number << 1) ^ (number >> 63), bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)


def decode_own(value: bytes, schema: Any, start: int = 0) -> tuple[dict[str, Any], int]:
    """A record of this project's own schemas, or a prefix of one; ValueError where the bytes are something else."""
    try:
        return decode_record(value, schema, start)
    except (EOFError, LookupError, TypeError, ArithmeticError) as error:
        raise ValueError(f"not such a record: {type(error).__name__} {error}") from error
