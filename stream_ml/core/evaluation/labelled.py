"""What was served beside what came true, of the examples of a run: one column a fact, or one by one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stream_ml.core.avro.texts import words_of
from stream_ml.core.log.entry_columns import EntryColumns
from stream_ml.records import Served

NOT_COUNTED = frozenset({"cold", "unsound"})  # flags of predictions that say nothing of how well the model does


class Labelled(NamedTuple):
    """A labelled prediction; `y` is what came true as the model learns it, the rest are fields of `Served` and times.

    `usable`: no flag of the prediction leaves it out of quality.
    """

    y: Any
    class_name: str | None
    score: float | None
    scores: str | None
    value: float | None
    position: int
    usable: bool
    label_ms: int
    event_ms: int

    @classmethod
    def of(cls, y: Any, served: Served, label_ms: int, event_ms: int) -> "Labelled":
        """Out of a prediction as it was served."""
        said = (served.class_name, served.score, served.scores, served.value, served.position)
        return cls(y, *said, not NOT_COUNTED.intersection(served.flags), label_ms, event_ms)


class ScoredColumns(NamedTuple):
    """Columns of n examples, as arrays; of each that has a class (`said`) its score."""

    ys: NDArray[np.bool_]
    said: NDArray[np.bool_]
    scores: NDArray[np.float64]
    positions: NDArray[np.int64]
    usable: NDArray[np.bool_]
    label_ms: NDArray[np.int64]
    event_ms: NDArray[np.int64]


class LabelledColumns:
    """The examples of decoded entries; `ys` of each, None where the model knows no such label.

    So many attributes: they are the columns of what was served that are looked at.
    """

    def __init__(self, columns: EntryColumns, ys: Sequence[Any]) -> None:
        batch = columns.batch
        self._ys = ys
        self._names = batch.column("served_class")
        self._texts = batch.column("served_scores")
        self._values = batch.column("served_value")
        self._scores = batch.column("served_score")
        self._positions, *self._times = (
            batch.column(name).to_numpy(zero_copy_only=False)
            for name in ("served_position", "label_time", "event_time")
        )
        self._lineages = batch.column("served_lineage")
        self._places = [
            batch.column(name).to_numpy(zero_copy_only=False) for name in ("source_partition", "event_offset")
        ]
        self._usable = _usable(batch.column("served_flags"))
        self._score = self._scores.to_numpy(zero_copy_only=False)  # nan where there is none
        self._said = self._names.is_valid().to_numpy(zero_copy_only=False)
        self._more = self._texts.is_valid().to_numpy(zero_copy_only=False) | (self._said & np.isnan(self._score))

    def scored(self, first: int, stop: int) -> ScoredColumns | None:
        """Of a binary task, these rows; None where more or less than a class and its score was said of one."""
        of = slice(first, stop)
        if self._more[of].any():
            return None
        columns = (self._said, self._score, self._positions, self._usable, *self._times)
        return ScoredColumns(np.array(self._ys[of], np.bool_), *(column[of] for column in columns))

    def served_by(self, lineage: str, first: int, stop: int) -> NDArray[np.bool_]:
        """Which of these rows this lineage has served."""
        codes = self._lineages.slice(first, stop - first).dictionary_encode()
        ours = np.array([name == lineage for name in codes.dictionary.to_pylist()], np.bool_)
        found: NDArray[np.bool_] = ours[codes.indices.to_numpy(zero_copy_only=False)]
        return found

    def since(self, ends: Mapping[int, int], first: int, stop: int) -> NDArray[np.bool_]:
        """Of which of these rows the event does not lie before the end that its partition has, if it has one."""
        partitions, offsets = (column[first:stop] for column in self._places)
        found = np.ones(stop - first, np.bool_)
        for partition, end in ends.items():
            found &= (partitions != partition) | (offsets >= end)
        return found

    def facts(self, first: int, stop: int) -> dict[str, pa.Array]:
        """What was served to these rows, and when, as columns."""
        count = stop - first
        label_ms, event_ms = (pa.array(column[first:stop]) for column in self._times)
        return {
            "position": pa.array(self._positions[first:stop]),
            "event_ms": event_ms,
            "label_ms": label_ms,
            "served_class": self._names.slice(first, count),
            "served_score": self._scores.slice(first, count),
            "served_scores": self._texts.slice(first, count),
            "served_value": self._values.slice(first, count),
            "served_lineage": self._lineages.slice(first, count),
            "usable": pa.array(self._usable[first:stop]),
        }

    def rows(self, first: int, stop: int) -> Iterator[Labelled]:
        """These rows one by one."""
        of, count = slice(first, stop), stop - first
        said = (self._names, self._scores, self._texts, self._values)
        names, scores, texts, values = (array.slice(first, count).to_pylist() for array in said)
        numbers = (numbers[of].tolist() for numbers in (self._positions, self._usable, *self._times))
        return map(Labelled._make, zip(self._ys[of], names, scores, texts, values, *numbers, strict=True))


def _usable(flags: pa.StringArray) -> NDArray[np.bool_]:
    """Which rows have no flag of NOT_COUNTED."""
    codes = flags.dictionary_encode()
    counted = np.array([NOT_COUNTED.isdisjoint(words_of(text)) for text in codes.dictionary.to_pylist()], np.bool_)
    found: NDArray[np.bool_] = counted[codes.indices.to_numpy(zero_copy_only=False)]
    return found
