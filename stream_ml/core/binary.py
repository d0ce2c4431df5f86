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
    except IndexError as error:  # also a union's branch that does not exist, and then bytes are left
        if stream.tell() >= len(value):
            raise EOFError from error
        raise
