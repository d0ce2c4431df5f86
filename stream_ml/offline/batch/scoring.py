"""Rows of files to predictions of one version: read and scored as a worker reads and scores events."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stream_ml.app.parts import Parts
from stream_ml.core.avro.arrow import doubles_column, same_values, texts_column
from stream_ml.core.avro.texts import joined
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.inputs.events import Events, picked
from stream_ml.core.model.scoring import Scores
from stream_ml.core.partition.predictions import PredictionCodec, Said
from stream_ml.offline.rows import FileEncoder, Refused, mapped, read_rows
from stream_ml.records import Block, Clock, Record, Records

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
ANY_PARTITION = -1  # of Kafka's client: the partitioner chooses


class Piece(NamedTuple):
    """Some rows of a file, scored.

    Parameters
    ----------
    name
        Of the file, or of the partition of a topic; offsets of the events' records are the rows' places in it.
    taken
        Which of the events have a prediction, with `flags` of each; the others, and rows that are no events, are
        `refused`.
    rows
        How many were read; up to `upto` of the source, a row's number or an offset that is not included.
    """

    name: str
    events: Events
    scores: Scores
    taken: Sequence[int]
    flags: list[tuple[str, ...]]
    said: Said
    refused: list[Refused]
    rows: int
    upto: int

    def columns(self) -> pa.RecordBatch:
        """Predictions as SCHEMA has them."""
        count, (lineage, position), scores = len(self.taken), self.said.version, self.scores
        of, texts = partial(picked, rows=self.taken), {one: joined(one) for one in set(self.flags)}
        columns = [
            pa.array(of(self.events.ids), pa.string()),
            pa.array(np.array(of(self.events.times_ms), np.int64)).cast(pa.timestamp("ms", "UTC")),
            pa.array(of(scores.class_names), pa.string()),
            pa.array(of(scores.scores), pa.float64()),
            texts_column(of(scores.texts), count),
            doubles_column(of(scores.values), count),
            same_values(lineage, count, pa.string()),
            same_values(position, count, pa.int64()),
            same_values(self.said.examples_learned, count, pa.int64()),
            pa.array([texts[one] for one in self.flags], pa.string()),
            same_values(self.name, count, pa.string()),
            pa.array(of(self.events.records.offsets), pa.int64()),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    def records(self, codec: PredictionCodec, topic: str) -> Block:
        """Predictions as the service publishes them, for a topic: the keys of the events say which partition."""
        values = codec.encode_many(self.events, self.taken, self.scores, self.flags, self.said)
        return Block(topic, ANY_PARTITION, picked(self.events.records.keys, self.taken), list(values), {})


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
        name, now_ms = path.name, time.time_ns() // 1_000_000
        pairs = zip(encoded.numbers, encoded.keys, encoded.values, strict=True)
        records = Records.of(name, 0, [Record(name, 0, number, now_ms, key, value) for number, key, value in pairs])
        rows: list[Any] = []

        def row_of(number: int) -> Any:
            if not rows:
                rows.extend(mapped(encoded.rows))
            return rows[number]

        found = self._scored(name, records, now_ms, row_of)
        refused = sorted([*encoded.refused, *found.refused], key=lambda one: one.number)
        return found._replace(refused=refused, rows=len(given), upto=first - 1 + len(given))

    def score_records(self, records: Records) -> Piece:
        """Records of the events' topic; they are named by topic and partition, and numbered by offset."""
        name, now_ms = f"{records.topic}[{records.partition}]", time.time_ns() // 1_000_000
        found = self._scored(name, records, now_ms, lambda row: records.values[row])
        return found._replace(refused=sorted(found.refused, key=lambda one: one.number))

    def _scored(self, name: str, records: Records, now_ms: int, row_of: Callable[[int], Any]) -> Piece:
        """Records and their predictions; `row_of` shows what was given for one."""
        events = self._parts.reader.decode_many(records, now_ms)
        scores = self._model.model.score_many(events.features, len(events))
        why = {row: f"{dead.reason}: {dead.message}" for row, dead in events.dead_letters.items()}
        why |= {row: f"model_failed: {words}" for row, words in scores.failed.items()}
        taken: Sequence[int] = range(len(events))
        if why:
            taken = [row for row in taken if row not in why]
        return Piece(
            name=name,
            events=events,
            scores=scores,
            taken=taken,
            flags=self._flags(events, scores, taken),
            said=Said(self._model.version, self._model.examples_learned, Clock(now_ms, 0)),
            refused=[Refused(name, records.offsets[row], words, row_of(row)) for row, words in why.items()],
            rows=len(records),
            upto=records.offsets[-1] + 1 if len(records) else 0,
        )

    def _flags(self, events: Events, scores: Scores, taken: Sequence[int]) -> list[tuple[str, ...]]:
        """As a worker flags them, where they depend on the event or the model alone."""
        said = scores.class_names if scores.values is None else scores.values
        halted = ("learning_halted",) if self._model.halt is not None else ()
        if not (events.imputed or scores.clipped or self._is_cold or None in said):
            return [halted] * len(taken)
        found = []
        for row in taken:
            own = {
                "cold": self._is_cold or said[row] is None,
                "imputed": row in events.imputed,
                "clipped": row in scores.clipped,
            }
            found.append((*halted, *(name for name, is_set in own.items() if is_set)))
        return found
