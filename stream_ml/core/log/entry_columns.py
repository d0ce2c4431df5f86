"""Many log entries at once: all fields but the tails as columns, and the tails cut from the end."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_ml import formats
from stream_ml.core.avro.columnar import ROWS_MIN, AvroColumns, avro_columns
from stream_ml.core.avro.record import avro_long
from stream_ml.core.avro.texts import words_of
from stream_ml.core.log.entry import (
    EXAMPLE,
    FORMAT,
    FRAMINGS,
    KINDS,
    NUMBERS,
    PARTITIONS_MAX,
    TEXTS_MAX,
    UNUSED,
    Entry,
    decode_entry,
)
from stream_ml.records import Served, Target


def _prefix() -> AvroColumns:
    """Codec of all fields but the tails: derived values and the event, the rest of a record."""
    raw = formats.load("log_entry")
    found = avro_columns({**raw, "fields": raw["fields"][:-2]})
    assert found is not None  # noqa: S101 - its types are on the list
    return found


PREFIX = _prefix()


def decode_entries(values: list[bytes]) -> list[Entry | ValueError]:
    """n log entries; an error in the place of each that `decode_entry` would raise it for.

    Fast path of `decode_entry`, equal to it row by row: tests/equivalence/test_columnar_is_reference.py.
    """
    found: dict[int, Entry] = {}
    if len(values) >= ROWS_MIN:
        many = decode_columns(values)
        found = dict(zip(many.rows, _entries(many), strict=True))
    return [found.get(row) or _one(value) for row, value in enumerate(values)]


def _one(value: bytes) -> Entry | ValueError:
    try:
        return decode_entry(value)
    except ValueError as error:
        return error


class EntryColumns(NamedTuple):
    """k of n entries: which they are, their fields but the tails as columns, and the tails."""

    rows: Sequence[int]
    batch: pa.RecordBatch
    derived: list[bytes]
    events: list[bytes]

    def numbers(self, name: str) -> list[Any]:
        """A column of numbers without a null, as Python's."""
        found: list[Any] = self.batch.column(name).to_numpy(zero_copy_only=False).tolist()
        return found

    def texts(self, name: str) -> list[Any]:
        """A column of texts or nulls of which there are few different ones, as few objects."""
        codes = self.batch.column(name).dictionary_encode(null_encoding="encode")
        words: list[Any] = codes.dictionary.to_pylist()
        if len(words) == 1:
            return words * len(codes)
        return [words[code] for code in codes.indices.to_pylist()]


def decode_columns(values: list[bytes]) -> EntryColumns:
    """Entries of this format whose fields decode as columns, and whose tails have the sizes that they say."""
    batch, rows, lengths = PREFIX.decode_prefixes(values)
    whole = values if len(rows) == len(values) else [values[row] for row in rows]
    events, derived, wrong = _tails(batch, whole, lengths)
    strange = np.flatnonzero(_strange(batch)).tolist()
    if not (wrong or strange):
        return EntryColumns(rows, batch, derived, events)
    right = sorted(set(range(len(rows))).difference(wrong, strange))
    return EntryColumns(
        rows=[rows[n] for n in right],
        batch=batch.take(pa.array(right, pa.int64())),
        derived=[derived[n] for n in right],
        events=[events[n] for n in right],
    )


def _tails(
    batch: pa.RecordBatch, values: list[bytes], lengths: list[int]
) -> tuple[list[bytes], list[bytes], Sequence[int]]:
    """Events and derived values of n entries, cut from their ends; and which entries have other bytes in between."""
    sizes: list[int] = batch.column("event_size").to_pylist()
    spelt = {size: avro_long(size) for size in set(sizes)}
    begins = [len(value) - size for value, size in zip(values, sizes, strict=True)]
    events = [value[begin:] for value, begin in zip(values, begins, strict=True)]
    derived_sizes: list[int] = batch.column("derived_size").to_pylist()
    if not any(derived_sizes):
        between = {size: b"\0" + text for size, text in spelt.items()}
        derived = [b""] * len(values)
        parts = zip(values, lengths, begins, (between[size] for size in sizes), strict=True)
        wrong = [
            number
            for number, (value, length, begin, text) in enumerate(parts)
            if not length <= begin <= len(value) or value[length:begin] != text
        ]
        return events, derived, wrong
    derived, wrong = [], list[int]()
    for number, (value, length, begin, size) in enumerate(zip(values, lengths, begins, sizes, strict=True)):
        stop = begin - len(spelt[size])
        own = value[max(0, stop - derived_sizes[number]) : max(0, stop)]
        derived.append(own)
        fits = length <= begin <= len(value) and len(own) == derived_sizes[number]
        if not fits or value[length:begin] != avro_long(len(own)) + own + spelt[size]:
            wrong.append(number)
    return events, derived, wrong


def _strange(batch: pa.RecordBatch) -> Any:
    """Which rows the reference decoder has to judge: they have what this version does not write."""
    numbers = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in ("format", "kind", *NUMBERS)}
    partition = batch.column("source_partition").to_numpy(zero_copy_only=False)
    found = (partition < -1) | (partition >= PARTITIONS_MAX) | (numbers["format"] != FORMAT)
    found |= (numbers["kind"] < 0) | (numbers["kind"] >= len(KINDS))
    found |= (numbers["kind"] == EXAMPLE) & (numbers["trigger"] < 0)
    for name, known in NUMBERS.items():
        found |= (numbers[name] < known.start) | (numbers[name] >= known.stop)
    for name in UNUSED:
        found |= batch.column(name).is_valid().to_numpy(zero_copy_only=False)
    for name, most in TEXTS_MAX.items():
        lengths = pc.binary_length(batch.column(name))
        if (pc.max(lengths).as_py() or 0) > most:
            found |= pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False) > most
    return found


_SERVED_FIELDS = ("class", "score", "scores", "value", "lineage", "position", "flags", "log_partition", "epoch", "arm")


def _entries(many: EntryColumns) -> Iterator[Entry]:
    """Out of columns; made without a call for each value."""
    of = {name: many.batch.column(name).to_pylist() for name in many.batch.schema.names}
    of["served_flags"] = list(map(words_of, of["served_flags"]))
    served = map(Served._make, zip(*(of[f"served_{name}"] for name in _SERVED_FIELDS), strict=True))
    found = zip(
        map(KINDS.__getitem__, of["kind"]),
        *(of[name] for name in ("source_partition", "sequence", "trigger", "trigger_offset", "event_id")),
        *(of[name] for name in ("event_time", "event_offset", "feedback_offset", "label_time")),
        map(Target._make, zip(of["label_class"], of["label_value"], strict=True)),
        *(served, of["event_schema"], map(FRAMINGS.__getitem__, of["event_framing"])),
        *(of[name] for name in ("command", "arguments", "control", "written_at", "writer", "derived_schema")),
        *(many.derived, many.events),
        strict=True,
    )
    return map(Entry._make, found)
