"""Which records an example is made of, from the fields in front of its entry: they stand so in every format."""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from stream_ml.core.avro.columnar import ROWS_MIN
from stream_ml.core.avro.record import FORMATS_MAX, decode_own
from stream_ml.core.log.entry import EXAMPLE, FORMAT, HEAD
from stream_ml.core.log.entry_columns import decode_columns
from stream_ml.core.log.sequences import Place


class Pair(NamedTuple):
    """Which records an example is made of."""

    source_partition: int
    sequence: int
    event_offset: int
    feedback_offset: int


def decode_pairs(values: list[bytes]) -> list[Pair | None]:
    """The pairs behind n entries; None in the place of each that is no example, or no entry."""
    found: list[Pair | None] = [None] * len(values)
    rows: Sequence[int] = ()
    if len(values) >= ROWS_MIN:
        many = decode_columns(values)
        rows, kinds = many.rows, many.numbers("kind")
        columns = zip(*(many.numbers(name) for name in Pair._fields), strict=True)
        for row, kind, pair in zip(rows, kinds, columns, strict=True):
            if kind == EXAMPLE:
                found[row] = Pair(*pair)
    for row in set(range(len(values))).difference(rows):
        with contextlib.suppress(ValueError):
            found[row] = decode_pair(values[row])
    return found


def decode_pair(value: bytes) -> Pair | None:
    """The pair behind an example; None for other kinds, ValueError for other bytes.

    The fields in front stand so in every format, so an example of a later one has a pair. Source: Avro has no framing
    between fields, so a reader with a prefix of the schema stops early.
    """
    head = _head_of(value)
    if head["kind"] != EXAMPLE:
        return None
    return Pair(head["source_partition"], head["sequence"], head["event_offset"], head["feedback_offset"])


def decode_place(value: bytes) -> Place | None:
    """The place of an example in its sequence; None for other kinds, ValueError for other bytes."""
    head = _head_of(value)
    if head["kind"] != EXAMPLE:
        return None
    return head["source_partition"], head["sequence"], head["trigger"], head["trigger_offset"]


def _head_of(value: bytes) -> dict[str, Any]:
    head = decode_own(value, HEAD)
    if head["format"] not in range(FORMAT, FORMATS_MAX + 1):
        raise ValueError(f"a log entry of format {head['format']}")
    return head
