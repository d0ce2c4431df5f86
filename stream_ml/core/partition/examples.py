"""The examples of a batch as columns, out of the rows of the join, and their bytes in the training log."""

from collections.abc import Sequence

import pyarrow as pa

from stream_ml.core.avro.arrow import same_values, texts_column
from stream_ml.core.avro.columnar import ROWS_MIN
from stream_ml.core.avro.record import avro_long
from stream_ml.core.avro.texts import joined
from stream_ml.core.join.join import Pair
from stream_ml.core.join.pending import Tag
from stream_ml.core.log.entry import EXAMPLE, FORMAT, FRAMINGS, Example, encode_example
from stream_ml.core.log.entry_columns import PREFIX
from stream_ml.records import Framing


class Examples:
    """Pairs in the order in which they were joined; sequences are dense. So many attributes: one a column."""

    def __init__(self, partition: int, first_sequence: int, framing: Framing, pairs: Sequence[Pair]) -> None:
        self._partition, self._first, self._framing = partition, first_sequence, framing
        chunks, rows, self.events, *label, self._triggers, self._offsets = zip(*pairs, strict=True)
        self._label_ms, self._targets, self._feedback_offsets = label
        self._rows = list(zip(chunks, rows, strict=True))
        self._tags = [chunk.tags[row] for chunk, row in self._rows]
        self.schemas = [tag.schema for tag in self._tags]
        self.event_ids = [chunk.ids[row] for chunk, row in self._rows]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.events)

    def example(self, number: int) -> Example:
        """The example of this number."""
        rows, row = self._rows[number]
        event = rows.event(row)
        return Example(
            self._partition,
            self._first + number,
            self._triggers[number],
            self._offsets[number],
            event.event_id,
            event.time_ms,
            event.offset,
            event.schema,
            self._framing,
            self.events[number],
            self._label_ms[number],
            self._targets[number],
            self._feedback_offsets[number],
            event.served,
        )

    def columns(self, written_at_ms: int, writer: str) -> list[pa.Array]:
        """All fields of a log entry but its tails, in the schema's order."""
        count, rows, of_tags = len(self), self._rows, _of_tags(self._tags)
        known = [None if number != number else number for number in (chunk.numbers[row] for chunk, row in rows)]  # noqa: PLR0124
        scores = [None if chunk.scores is None else chunk.scores[row] for chunk, row in rows]
        of = {
            "format": same_values(FORMAT, count, pa.int32()),
            "kind": same_values(EXAMPLE, count, pa.int32()),
            "source_partition": same_values(self._partition, count, pa.int32()),
            "sequence": range(self._first, self._first + count),
            "trigger": self._triggers,
            "trigger_offset": self._offsets,
            "event_id": self.event_ids,
            "event_time": [chunk.times_ms[row] for chunk, row in rows],
            "label_time": self._label_ms,
            "event_offset": [chunk.offsets[row] for chunk, row in rows],
            "feedback_offset": self._feedback_offsets,
            "label_class": [target.class_name for target in self._targets],
            "label_value": [target.value for target in self._targets],
            "weight": pa.nulls(count, pa.float64()),
            "served_class": of_tags["class_name"],
            "served_score": _either(known, self._tags, scored=True),
            "served_scores": texts_column(scores if any(scores) else None, count),
            "served_value": _either(known, self._tags, scored=False),
            "served_lineage": of_tags["lineage"],
            "served_log_partition": of_tags["log_partition"],
            "served_position": of_tags["position"],
            "served_epoch": of_tags["epoch"],
            "served_arm": of_tags["arm"],
            "served_flags": of_tags["flags"],
            "event_schema": self.schemas,
            "event_framing": same_values(FRAMINGS.index(self._framing), count, pa.int32()),
            "command": same_values("", count, pa.string()),
            "arguments": same_values("", count, pa.string()),
            "control": same_values(-1, count, pa.int64()),
            "key_id": pa.nulls(count, pa.string()),
            "derived_schema": same_values(0, count, pa.int64()),
            "derived_size": same_values(0, count, pa.int32()),
            "written_at": same_values(written_at_ms, count, pa.int64()),
            "writer": same_values(writer, count, pa.string()),
            "event_size": list(map(len, self.events)),
        }
        columns = ((field, of[field.name]) for field in PREFIX.schema)
        return [column if isinstance(column, pa.Array) else pa.array(column, field.type) for field, column in columns]


def _of_tags(tags: Sequence[Tag]) -> dict[str, pa.Array]:
    """Columns of what many rows have in common: of few different tags, each value is made a column's once."""
    different = {id(tag): tag for tag in tags}
    place = {of: number for number, of in enumerate(different)}
    rows, found = pa.array([place[id(tag)] for tag in tags], pa.int32()), list(different.values())
    columns = {
        "class_name": pa.array([tag.class_name for tag in found], pa.string()),
        "lineage": pa.array([tag.lineage for tag in found], pa.string()),
        "log_partition": pa.array([tag.log_partition for tag in found], pa.int32()),
        "position": pa.array([tag.position for tag in found], pa.int64()),
        "epoch": pa.array([tag.epoch for tag in found], pa.int64()),
        "arm": pa.array([tag.arm for tag in found], pa.string()),
        "flags": pa.array([joined(tag.flags) for tag in found], pa.string()),
    }
    return {name: column.take(rows) for name, column in columns.items()}


def _either(numbers: list[float | None], tags: list[Tag], *, scored: bool) -> list[float | None]:
    """The numbers that are scores, or those that are values."""
    return [number if tag.scored is scored else None for number, tag in zip(numbers, tags, strict=True)]


def encode_examples(examples: Examples, *, written_at_ms: int, writer: str) -> list[bytes]:
    """Bytes of entries of kind example.

    Fast path of `encode_example`, with the same bytes: tests/equivalence/test_columnar_is_reference.py.
    """
    if len(examples) < ROWS_MIN:
        some = [examples.example(number) for number in range(len(examples))]
        return [encode_example(example, written_at_ms=written_at_ms, writer=writer) for example in some]
    prefixes = PREFIX.encode(examples.columns(written_at_ms, writer))
    sizes = list(map(len, examples.events))
    spelt = {size: b"\0" + avro_long(size) for size in set(sizes)}  # no derived values, then the event
    parts = zip(prefixes, map(spelt.__getitem__, sizes), examples.events, strict=True)
    return list(map(b"".join, parts))
