"""One replica on its way along the training log: its reader, and what was read and is not folded yet."""

import time
from typing import NamedTuple

from stream_ml.config import Config
from stream_ml.core.fold.batches import Run, Single, before, size_of, split
from stream_ml.core.fold.halt import FoldResult
from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.seals import LogSeal
from stream_ml.follower.cost import Cost
from stream_ml.kafka.reading.log_reader import LogReader
from stream_ml.runtime.failpoints import passes

CHUNK_S = 0.005  # of folding between two looks at the clock, as far as the pace so far tells


class Slices(NamedTuple):
    """How much is done at once, before the clock is looked at.

    Parameters
    ----------
    read_max
        Entries that are decoded: 3 us each.
    chunk_s
        Of folding, as far as the pace so far tells.
    chunk_least
        Records that are folded; eight of ten trees take as long.
    """

    read_max: int
    chunk_s: float
    chunk_least: int


BETWEEN_TURNS = Slices(2_000, CHUNK_S, 8)  # of a worker
BETWEEN_ANSWERS = Slices(250, 0.001, 1)  # somebody waits for an answer meanwhile


class Pace:
    """What learning one example takes, by the chunks that were folded: how large the next one may be."""

    def __init__(self, slices: Slices) -> None:
        self._slices = slices
        self._example_s = slices.chunk_s / 50  # before anything is known

    @property
    def chunk(self) -> int:
        """So many records are folded between two looks at the clock."""
        return max(self._slices.chunk_least, int(self._slices.chunk_s / self._example_s))

    def learned(self, count: int, took_s: float) -> None:
        """Take a chunk: the mean of it and of what was thought before. Where nothing was learned, none counts."""
        if count > 0:
            self._example_s = (self._example_s + took_s / count) / 2


class Track:
    """A replica and the reader that feeds it; one thread only."""

    def __init__(self, config: Config, replica: Replica, seal: LogSeal | None, cost: Cost, slices: Slices) -> None:
        self.replica, self._cost, self._slices = replica, cost, slices
        self.reader = LogReader(config, replica.read_position, seal)
        self._read: list[Run | Single] = []
        self._pace = Pace(slices)

    @property
    def behind(self) -> bool:
        """Whether there is something at hand to be folded."""
        return bool(self._read)

    @property
    def at_end(self) -> bool:
        """Whether everything that the log holds was folded."""
        return self.reader.at_end and not self._read

    def is_past(self, end: int) -> bool:
        """Whether everything before this end of the log is folded."""
        if self.replica.read_position >= end:
            return True
        return not self._read and max(self.reader.position, self.reader.end_seen) >= end  # markers stand before it

    def step(self, wait_s: float, limit: int | None = None) -> FoldResult | None:
        """Fold a chunk of what stands before `limit`; what came of it, None where there was nothing to fold."""
        if not self._read:
            self._read = self.replica.prepare(self.reader.take(self._slices.read_max, wait_s))
        chunk, rest = split(self._read, self._pace.chunk)
        if limit is not None:
            chunk, later = before(chunk, limit)
            rest = [*later, *rest]
        self._read = rest
        return self._fold(chunk) if chunk else None

    def _fold(self, chunk: list[Run | Single]) -> FoldResult:
        models = list(self.replica.models.values())
        known = [model.examples_learned for model in models]
        began_s, size = time.monotonic(), sum(map(size_of, chunk))
        by = "+".join(sorted(lineage[:8] for lineage in self.replica.models))
        alike = "run" if any(isinstance(item, Run) for item in chunk) else "single"
        with self._cost.of("learn", alike, by) as learned:
            result = self.replica.fold_prepared(chunk)
            counts = [model.examples_learned - count for model, count in zip(models, known, strict=True)]
            learned.append(size if counts and min(counts) == size else 0)
        self._pace.learned(max(counts, default=size), time.monotonic() - began_s)
        passes("after-fold")
        return result

    def seek(self, position: int) -> None:
        """Read again from this offset."""
        self._read = []
        self.reader.seek(position)

    def go_back(self) -> None:
        """Read again from the halt that a command has ended."""
        self.seek(self.replica.clear_halt())

    def close(self) -> None:
        """Let go of the reader."""
        self.reader.close()
