"""Examples that were made of rows or of topics, in a file until it is known in which order they are learned."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from stream_ml.core.evaluation.timeline import steps
from stream_ml.core.fold.batches import FoldSettings, prepare
from stream_ml.core.fold.book import Judged
from stream_ml.offline.replay.tape import SEGMENT, Tape, TapeWriter
from stream_ml.records import LogRecord

Ints = NDArray[np.int64]


class ExampleFile:
    """n entries of a log, with the moment of each event and when its label is due (milliseconds)."""

    def __init__(self, work: Path) -> None:
        self._work, self._path = work, work / "rows.arrow"
        self._file = ipc.new_file(str(self._path), pa.schema([pa.field("entry", pa.binary())]))
        self._moments: list[Ints] = []
        self._due: list[Ints] = []
        self._sizes: list[int] = []  # of the batches
        self.count = 0

    def add(self, entries: Sequence[bytes], moments: Sequence[int], due: Sequence[int]) -> None:
        """Some more."""
        if not entries:
            return
        self.count += len(entries)
        self._sizes.append(len(entries))
        self._moments.append(np.array(moments, np.int64))
        self._due.append(np.array(due, np.int64))
        self._file.write_batch(pa.record_batch([pa.array(entries, pa.binary())], ["entry"]))

    def times(self) -> tuple[Ints, Ints]:
        """Moments, and when labels are due."""
        return np.concatenate(self._moments), np.concatenate(self._due)

    def tape(self, settings: Sequence[FoldSettings], order: Ints, positions: Ints, ranks: Ints) -> Tape:
        """The tape; the file goes.

        Parameters
        ----------
        order
            Numbers of the examples as they are learned.
        positions
            Of each example how many are learned before it is asked about.
        ranks
            Of each example its place among those that are asked about at one position.
        """
        self._file.close()
        writer = TapeWriter(self._work, settings)
        for records in self._entries(order):
            writer.add([Judged(item, learns=True) for item in prepare(settings[0], records)])
        tape = writer.close(lambda offsets: (positions[order[offsets]], ranks[order[offsets]]))
        self._path.unlink()
        return tape

    def _entries(self, order: Ints) -> Iterator[list[LogRecord]]:
        """Entries in the order in which they are learned, with their places in it.

        Taken from the batches of the file in which they stand: those of partitions lie far from each other.
        """
        file = ipc.open_file(pa.memory_map(str(self._path)))
        ends = np.cumsum(self._sizes)
        for first in range(0, len(order), SEGMENT):
            wanted = order[first : first + SEGMENT]
            batches = np.searchsorted(ends, wanted, side="right")
            values: list[Any] = [None] * len(wanted)
            for number in np.unique(batches).tolist():
                places = np.flatnonzero(batches == number)
                begins = int(ends[number] - self._sizes[number])
                own = file.get_batch(number).column(0).take(pa.array(wanted[places] - begins)).to_pylist()
                for place, value in zip(places.tolist(), own, strict=True):
                    values[place] = value
            yield [LogRecord(first + n, value) for n, value in enumerate(values)]


def timeline(times: tuple[Ints, Ints], *, in_line: bool) -> tuple[Ints, Ints]:
    """Events in the order in which their labels are revealed; and of each event how many are revealed before it.

    `times` are in the order in which events are asked about.
    """
    moments, due = (column.tolist() for column in times)
    order, positions, answers = np.empty(len(moments), np.int64), np.empty(len(moments), np.int64), 0
    for number, is_answer in steps(zip(moments, due, strict=True), in_line=in_line):
        if is_answer:
            order[answers] = number
            answers += 1
        else:
            positions[number] = answers
    return order, positions
