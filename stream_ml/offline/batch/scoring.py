"""Rows of files to predictions of one version: read and scored as a worker reads and scores events."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stream_ml.app.parts import Parts
from stream_ml.core.avro.arrow import doubles_column, same_values, texts_column
from stream_ml.core.avro.texts import joined
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.inputs.events import Events
from stream_ml.core.model.scoring import Scores
from stream_ml.offline.rows import FileEncoder, Refused, mapped, read_rows
from stream_ml.records import Record, Records

SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("event_time", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("class", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("scores", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("lineage", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("examples_learned", pa.int64(), nullable=False),
        pa.field("flags", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
    ]
)  # names as in the predictions' topic, and where the row stood


class Piece(NamedTuple):
    """Some rows of a file: their predictions, and those that cannot be used."""

    predictions: pa.RecordBatch
    refused: list[Refused]
    rows: int


class BatchScorer:
    """Scores rows of files with one version of a model; equal to what the service would publish for each.

    Attributes
    ----------
    left_out
        Columns of the files that are no field of an event.
    """

    def __init__(self, parts: Parts, model: LineageModel) -> None:
        self._parts, self._model = parts, model
        self._encoder = FileEncoder(parts.config.events, parts.reader.payloads, "events")
        self._is_cold = model.examples_learned < parts.config.quality.cold_below

    @property
    def left_out(self) -> set[str]:
        """Columns of the files that are no field of an event."""
        return self._encoder.left_out

    def score_file(self, path: Path, skipped: int = 0) -> Iterator[Piece]:
        """Its rows in their order, a piece at a time; the first so many are not scored, pieces before it not read."""
        first = 1
        for given in read_rows(path):
            count = len(given)
            if first > skipped:
                yield self._piece(path, first, given)
            first += count

    def _piece(self, path: Path, first: int, given: Any) -> Piece:
        encoded = self._encoder.encode(path, first, given)
        topic, now_ms = self._parts.config.events.topic, time.time_ns() // 1_000_000
        pairs = zip(encoded.numbers, encoded.keys, encoded.values, strict=True)
        records = Records.of(topic, 0, [Record(topic, 0, number, now_ms, key, value) for number, key, value in pairs])
        rows: list[Any] = []

        def row_of(number: int) -> Any:
            if not rows:
                rows.extend(mapped(encoded.rows))
            return rows[number]

        predictions, refused = self._scored(path.name, records, encoded.numbers, now_ms, row_of)
        return Piece(predictions, sorted([*encoded.refused, *refused], key=lambda one: one.number), len(given))

    def score_records(self, records: Records) -> Piece:
        """Records of the events' topic; they are named by topic and partition, and numbered by offset."""
        name = f"{records.topic}[{records.partition}]"
        now_ms, offsets = time.time_ns() // 1_000_000, records.offsets
        predictions, refused = self._scored(name, records, offsets, now_ms, lambda row: records.values[row])
        return Piece(predictions, sorted(refused, key=lambda one: one.number), len(records))

    def _scored(
        self, name: str, records: Records, numbers: Sequence[int], now_ms: int, row_of: Callable[[int], Any]
    ) -> tuple[pa.RecordBatch, list[Refused]]:
        """Predictions of records, and those that cannot be used; `row_of` shows what was given for one."""
        events = self._parts.reader.decode_many(records, now_ms)
        scores = self._model.model.score_many(events.features, len(events))
        why = {row: f"{dead.reason}: {dead.message}" for row, dead in events.dead_letters.items()}
        why |= {row: f"model_failed: {words}" for row, words in scores.failed.items()}
        refused = [Refused(name, numbers[row], words, row_of(row)) for row, words in why.items()]
        taken = [row for row in range(len(events)) if row not in why]
        return self._columns(name, events, scores, taken, numbers), refused

    def _columns(
        self, name: str, events: Events, scores: Scores, taken: Sequence[int], numbers: Sequence[int]
    ) -> pa.RecordBatch:
        count, (lineage, position) = len(taken), self._model.version
        every = len(taken) == len(events)

        def of(column: Sequence[Any] | None) -> Any:
            return column if column is None or every else [column[row] for row in taken]

        columns = [
            pa.array(of(events.ids), pa.string()),
            pa.array(np.array(of(events.times_ms), np.int64)).cast(pa.timestamp("ms", "UTC")),
            pa.array(of(scores.class_names), pa.string()),
            pa.array(of(scores.scores), pa.float64()),
            texts_column(of(scores.texts), count),
            doubles_column(of(scores.values), count),
            same_values(lineage, count, pa.string()),
            same_values(position, count, pa.int64()),
            same_values(self._model.examples_learned, count, pa.int64()),
            pa.array(self._flags(events, scores, taken), pa.string()),
            same_values(name, count, pa.string()),
            pa.array(of(numbers), pa.int64()),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    def _flags(self, events: Events, scores: Scores, taken: Sequence[int]) -> list[str]:
        """As a worker flags them, where they depend on the event or the model alone."""
        said = scores.class_names if scores.values is None else scores.values
        halted = ("learning_halted",) if self._model.halt is not None else ()
        if not (events.imputed or scores.clipped or self._is_cold or None in said):
            return [joined(halted)] * len(taken)
        found = []
        for row in taken:
            own = {
                "cold": self._is_cold or said[row] is None,
                "imputed": row in events.imputed,
                "clipped": row in scores.clipped,
            }
            found.append(joined((*halted, *(name for name, is_set in own.items() if is_set))))
        return found
