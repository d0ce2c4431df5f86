"""Drift of what goes in and what comes out, by feature and for the score: windows of counts against a reference.

1. The first events make the reference; that of the score begins when the model has learned as many examples, because
   an untrained model's scores are none. It freezes: a number's bins are its deciles, a text's are its commonest values;
   two more bins hold what is missing and what is not among them.
2. Each full window is compared with the reference and with the window before it. Two drifted windows in a row are
   drift, two sound ones its end: so one odd hour is no alarm.
3. What is compared are shares with half a count added to each bin, so an empty bin is no infinity. The population
   stability index of two samples of the *same* source is about (bins - 1) (1/n + 1/m); a window is drifted only where
   it is NOISE times that, too.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BINS = 10  # of a number: deciles of the reference
TEXT_MAX = 200  # characters of a text by which it is known
VALUES_MAX = 50  # of a text that have a bin of their own
FEATURES_MAX = 300  # that are watched, in schema order
BATCH_ROWS_MAX = 500  # of a batch that are looked at, evenly spread: bounds the cost of a large one
NOISE = 4.0
IN_A_ROW = 2
WINDOW_LEAST = 100  # values without which a window says nothing
HISTORY = 60  # windows of which the index is kept, for a chart
SCORE = "score"

_MISSING, _OTHER = 0, 1  # the first two bins of a text; a number has only the first


class Compared(NamedTuple):
    """How far one window of a feature is from the reference, and from the window before it.

    `psi` is the population stability index, `distance` Jensen and Shannon's, 0 to 1.
    """

    psi: float
    distance: float
    psi_recent: float
    missing: float
    noise: float


class Bins:
    """The bins of one feature, made of a sample."""

    def __init__(self, sample: Sequence[Any]) -> None:
        known = [value for value in sample if value is not None]
        self.edges: list[float] | None = None
        self.places: dict[Any, int] = {}
        if known and all(_is_number(value) for value in known):
            finite = [value for value in known if math.isfinite(value)]
            quantiles = np.quantile(np.asarray(finite or [0.0], np.float64), np.linspace(0, 1, BINS + 1)[1:-1])
            self.edges = sorted({float(edge) for edge in quantiles})
        else:
            commonest = Counter(map(_text, known)).most_common(VALUES_MAX)
            self.places = {value: number + 2 for number, (value, _) in enumerate(commonest)}

    @property
    def count(self) -> int:
        """Number of bins."""
        return len(self.edges) + 2 if self.edges is not None else len(self.places) + 2

    def counts(self, values: Sequence[Any]) -> NDArray[np.int64]:
        """How many of the values fall into each bin."""
        if self.edges is None:
            return self._texts(Counter(values).items())
        return self._numbers(np.array([math.nan if not _is_number(value) else value for value in values], np.float64))

    def column_counts(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """Count the values of a column."""
        if self.edges is None:
            return self._texts((item["values"], item["counts"]) for item in column.value_counts().to_pylist())
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            return self._numbers(column.to_numpy().astype(np.float64))
        return self.counts(column.to_pylist())

    def _texts(self, values: Iterable[tuple[Any, int]]) -> NDArray[np.int64]:
        places, found = self.places, np.zeros(self.count, np.int64)
        for value, times in values:
            found[_MISSING if value is None else places.get(_text(value), _OTHER)] += times
        return found

    def _numbers(self, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        placed = np.searchsorted(np.array(self.edges), numbers, side="right") + 1
        placed[~np.isfinite(numbers)] = _MISSING
        return np.bincount(placed, minlength=self.count)

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        return {"edges": self.edges, "places": self.places}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Bins":
        """Out of what `state` gave."""
        found = cls(())
        found.edges = None if state["edges"] is None else [float(edge) for edge in state["edges"]]
        found.places = {str(name): int(place) for name, place in state["places"].items()}
        return found


class Watched:
    """One feature: its reference, its window, and whether it drifts."""

    def __init__(self) -> None:
        self.sample: list[Any] = []
        self.bins: Bins | None = None
        self.reference = self.window = self.before = np.zeros(0, np.int64)
        self.compared: Compared | None = None
        self.history: deque[float] = deque(maxlen=HISTORY)
        self.drifted, self.in_a_row = False, 0

    def add(self, values: Iterable[Any]) -> None:
        """Take values for the reference."""
        self.sample += [_text(value) if isinstance(value, str) else value for value in values]

    def freeze(self) -> None:
        """Make the reference of the sample."""
        self.bins = Bins(self.sample)
        self.reference = self.bins.counts(self.sample)
        self.window = np.zeros(self.bins.count, np.int64)
        self.before, self.sample = np.zeros(0, np.int64), []

    def close(self, threshold: float) -> bool:
        """Compare the window and begin the next; whether that began or ended a drift."""
        window, self.window = self.window, np.zeros_like(self.window)
        size = int(window.sum())
        if size < WINDOW_LEAST or not self.reference.sum():
            return False
        noise = NOISE * (len(window) - 1) * (1 / size + 1 / int(self.reference.sum()))
        recent = psi(window, self.before) if len(self.before) else 0.0
        found = Compared(
            psi(window, self.reference), distance(window, self.reference), recent, int(window[_MISSING]) / size, noise
        )
        self.compared, self.before = found, window
        self.history.append(round(found.psi, 4))
        changed = (found.psi > max(threshold, noise)) is not self.drifted
        self.in_a_row = self.in_a_row + 1 if changed else 0
        if self.in_a_row < IN_A_ROW:
            return False
        self.drifted, self.in_a_row = not self.drifted, 0
        return True


class InputDrift:
    """Watches the features of one worker's events, and the scores given to them.

    Parameters
    ----------
    names
        Features in schema order.
    reference, window
        Events that make the reference (0: nothing is watched) and a window.
    threshold
        Population stability index from which a window is drifted.
    """

    def __init__(self, names: Iterable[str], *, reference: int, window: int, threshold: float) -> None:
        self.reference_size, self.window_size, self.threshold = reference, window, threshold
        self.names = [*names][:FEATURES_MAX]
        self.since_ms = 0
        self.begin()

    def begin(self) -> None:
        """Forget the reference: what comes next makes a new one."""
        self.watched = {name: Watched() for name in [*(f"feature:{name}" for name in self.names), SCORE]}
        self.seen = 0  # events of the reference, or of the window
        self.windows = -1  # closed ones; -1 while the reference is made

    @property
    def referenced(self) -> bool:
        """Whether the reference stands."""
        return self.windows >= 0

    def take(
        self, table: pa.Table | None, singles: Sequence[Mapping[str, Any]], scores: Sequence[float], time_ms: int
    ) -> list[tuple[str, Watched, int]]:
        """Count a batch's events; subjects that began or ended to drift, with the time at which their window began.

        Parameters
        ----------
        table
            Features of events, as columns; `singles` those of the others, one by one.
        scores
            What was served for the batch's events, nan where nothing was; none while the model is untrained.
        time_ms
            Of the batch's last event.
        """
        if not self.reference_size:
            return []
        if not self.seen:
            self.since_ms = time_ms
        step = 1 if table is None else 1 + table.num_rows // BATCH_ROWS_MAX
        if table is not None and step > 1:
            table = table.take(pa.array(range(0, table.num_rows, step), pa.int64()))
        rows = 0 if table is None else table.num_rows
        present = set() if table is None else set(table.column_names)
        for name in self.names:
            if table is not None and name in present:
                self._count_column(self.watched[f"feature:{name}"], table.column(name))
            self._count(f"feature:{name}", [single.get(name) for single in singles[:BATCH_ROWS_MAX]])
        self._count(SCORE, [None if score != score else score for score in scores[::step]])  # noqa: PLR0124 - nan
        self.seen += rows + min(len(singles), BATCH_ROWS_MAX)
        for watched in self.watched.values():
            if watched.bins is None and len(watched.sample) >= self.reference_size:
                watched.freeze()
        if not self.referenced and self.seen >= self.reference_size:
            self.seen, self.windows = 0, 0
        elif self.referenced and self.seen >= self.window_size:
            return self._close()
        return []

    def _count(self, subject: str, values: list[Any]) -> None:
        watched = self.watched[subject]
        if watched.bins is None:
            watched.add(values)
        elif values:
            watched.window += watched.bins.counts(values)

    def _count_column(self, watched: Watched, column: pa.ChunkedArray) -> None:
        if watched.bins is None:
            watched.add(column.to_pylist())
        else:
            watched.window += watched.bins.column_counts(column)

    def _close(self) -> list[tuple[str, Watched, int]]:
        self.seen, self.windows = 0, self.windows + 1
        return [(name, of, self.since_ms) for name, of in self.watched.items() if of.close(self.threshold)]

    def state(self) -> dict[str, Any] | None:
        """As JSON values; None while the reference is made."""
        if not self.referenced:
            return None
        return {
            "names": self.names,
            "sizes": [self.reference_size, self.window_size],
            "windows": self.windows,
            "watched": {
                name: {
                    "bins": of.bins.state(),
                    "reference": of.reference.tolist(),
                    "before": of.before.tolist(),
                    "drifted": of.drifted,
                    "history": list(of.history),
                }
                for name, of in self.watched.items()
                if of.bins is not None
            },
        }

    def restore(self, state: Mapping[str, Any]) -> bool:
        """Take back what `state` gave, but for the window under way; False where that was of other settings."""
        if state["names"] != self.names or state["sizes"] != [self.reference_size, self.window_size]:
            return False
        for name, kept in state["watched"].items():
            of = self.watched[name]
            of.bins = Bins.restored(kept["bins"])
            of.reference, of.before = np.array(kept["reference"], np.int64), np.array(kept["before"], np.int64)
            of.window = np.zeros(of.bins.count, np.int64)
            if of.reference.shape != of.window.shape or of.before.shape not in ((0,), of.window.shape):
                raise ValueError(f"{name}: counts of other bins")
            if min(of.reference.min(initial=0), of.before.min(initial=0)) < 0:
                raise ValueError(f"{name}: counts below zero")
            history = [float(index) for index in kept["history"]]
            if not all(map(math.isfinite, history)):
                raise ValueError(f"{name}: an index that is no number")
            of.drifted, of.history = bool(kept["drifted"]), deque(history, maxlen=HISTORY)
        self.windows = int(state["windows"])
        return True


def psi(counts: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """Population stability index of two samples over the same bins, half a count added to each.

    Source: sum of (p - q) ln(p / q); symmetric, 0 for equal shares.
    """
    p, q = _shares(counts), _shares(others)
    return float(((p - q) * np.log(p / q)).sum())


def distance(counts: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """Jensen and Shannon's distance with base 2: 0 for equal shares, 1 where none are common."""
    p, q = _shares(counts), _shares(others)
    middle = (p + q) / 2
    divergence = float((p * np.log2(p / middle)).sum() + (q * np.log2(q / middle)).sum()) / 2
    return math.sqrt(max(0.0, divergence))


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    padded = counts + 0.5
    found: NDArray[np.float64] = padded / padded.sum()
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return str(value)[:TEXT_MAX]
