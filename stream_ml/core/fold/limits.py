"""What is usual of a feature: limits to which values are clipped, and beyond which an example is *far* from all others.

One labelled event with an amount of 1e18 ruins a linear model for good, and every replica that folds the log again.

1. The limits come from the examples that the fold has learned, so they are the same in every replica at one position.
2. They are made anew where the number of examples is a power of two from FIRST to RENEW, then every RENEW: from the
   last WINDOW values. Median, spread and tail are order statistics of them: up to 1 % of false values move none.
3. A value enters the window as it was clipped, so a feature that changes for good moves the limits, step by step.
4. What moves through its window (a counter, a season) or never changes has wide limits, by how far it moved.
5. Before there are limits examples are learned as they come. The first FIRST are kept: where one of them turns out to
   be outside, the model begins again with all of them.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stream_ml.core.avro.fields import MAGNITUDE_MAX
from stream_ml.core.inputs.events import Features

FIRST, WINDOW, RENEW = 32, 512, 1024  # the window is sorted four times a feature when limits are made anew: 60 us
OTHER = "(other)"  # what a text is to the model that is one too many
NONE: Mapping[str, int] = {}
NO_EXTREMES: Mapping[str, tuple[Any, Any]] = {}
NEVER = 2**62
BEYOND = 2.0 * MAGNITUDE_MAX
LABEL = "the label"  # of a regression; no field has such a name
USUAL = (0.95, 1.96)  # share of the distances from the median, and what it is of a normal distribution, in deviations
TAIL = 100  # one in so many distances is larger than the tail
CLIP_TAILS, FAR_TAILS = 2.0, 10.0  # limits are never nearer than so many tails: most of what is rare is honest
WIDE = 100.0  # of what moved through its window by that way, of what never changed by its size


class Limits(NamedTuple):
    """Of one feature: what is usual, and beyond which values an example is far."""

    median: float
    spread: float
    near: float  # distance from the median to which it is clipped
    far: float  # distance from which an example is far

    @property
    def far_low(self) -> float:
        """Below it an example is far."""
        return self.median - self.far

    @property
    def far_high(self) -> float:
        """Above it an example is far."""
        return self.median + self.far


class Clip(NamedTuple):
    """To what one feature is clipped: its numbers with a fraction, and whole ones, which stay whole."""

    low: float
    high: float
    whole_low: int
    whole_high: int

    def within(self, value: Any) -> Any:
        """The nearest value within; the same object where it is."""
        low, high = (self.whole_low, self.whole_high) if isinstance(value, int) else (self.low, self.high)
        return low if value < low else high if value > high else value


class Ranges:
    """Windows and limits of one fold.

    Parameters
    ----------
    numbers
        Features that are numbers and no times, in schema order.
    sigmas
        Features that are clipped, by how many spreads from the median.
    guard
        Spreads from which an example is far; 0: none is.
    label
        Whether the label is a number, and so watched as well.
    distinct
        Texts of which so many values are learned; all others are OTHER to the model.
    """

    def __init__(
        self,
        numbers: Sequence[str],
        sigmas: Mapping[str, float],
        guard: float,
        *,
        label: bool,
        distinct: Mapping[str, int] = NONE,
    ) -> None:
        watched = [*numbers, *([LABEL] if label else [])] if guard else [n for n in numbers if n in sigmas]
        self._sigmas, self._guard = dict(sigmas), guard
        self._windows: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in watched}
        self._limits: dict[str, Limits] = {}
        self._clips: dict[str, Clip] = {}
        self._guarded: dict[str, Limits] = {}  # of what is not clipped
        self._distinct = dict(distinct)
        self._known: dict[str, dict[str, None]] = {name: {} for name in distinct}
        self._full: dict[str, dict[str, None]] = {}  # those of them that take no more
        self.first: list[tuple[int, dict[str, Any], Any]] = []  # position, features and label, until there are limits
        self.seen = 0

    @property
    def until_next(self) -> int:
        """Examples until the limits are made anew."""
        if not self._windows:
            return NEVER
        due = FIRST
        while due <= self.seen:
            due = due * 2 if due < RENEW else (self.seen // RENEW + 1) * RENEW
        return due - self.seen

    @property
    def names_others(self) -> bool:
        """Whether texts have room for so many values only."""
        return bool(self._distinct)

    # --- clipping ---

    def clip_one(self, features: dict[str, Any]) -> dict[str, Any]:
        """The features within their limits; the same object where they are."""
        found = features
        for name, clip in self._clips.items():
            value = features.get(name)
            if value is not None:
                within = clip.within(value)
                if within is not value:
                    found = dict(features) if found is features else found
                    found[name] = within
        for name, known in self._full.items():
            value = features.get(name)
            if value is not None and value not in known:
                found = dict(features) if found is features else found
                found[name] = OTHER
        return found

    def clip_many(self, features: Features) -> tuple[Features, frozenset[int]]:
        """What `clip_one` gives for each of a batch; and the batch's rows that were clipped."""
        if not self._clips and not self._full:
            return features, frozenset()
        clipped: set[int] = set()
        table, others = features.table, features.others
        if table is not None and table.num_rows:
            for name, clip in self._clips.items():
                table = _clip_column(table, name, clip, features.rows, clipped)
            for name, known in self._full.items():
                table = _name_other(table, name, known, features.rows, clipped)
        for row, one in features.others.items():
            within = self.clip_one(one)
            if within is not one:
                clipped.add(row)
                others = {**others, row: within}
        return (Features(table, features.rows, others) if clipped else features), frozenset(clipped)

    def clip_rows(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        """What `clip_one` gives for each of n rows."""
        if not (self._clips or self._distinct) or not rows:
            return rows
        columns, changed = list(zip(*rows, strict=True)), False
        for number, name in enumerate(names):
            clip, column = self._clips.get(name), columns[number]
            if clip is not None and any(clip.within(of) is not of for of in (min(column), max(column))):
                columns[number], changed = tuple(map(clip.within, column)), True
            if name in self._distinct:
                named = self._named(name, column)
                if named is not column:
                    columns[number], changed = named, True
        return list(zip(*columns, strict=True)) if changed else rows

    def admits_columns(self, names: Sequence[str], columns: Sequence[npt.NDArray[Any]]) -> bool:
        """Whether `clip_one` would leave all of n rows of numbers as they are."""
        if self._full:
            return False
        for name, column in zip(names, columns, strict=True) if self._clips else ():
            clip = self._clips.get(name)
            if clip is not None:
                low, high = (clip.whole_low, clip.whole_high) if column.dtype.kind == "i" else (clip.low, clip.high)
                if column.min() < low or column.max() > high:
                    return False
        return True

    def _named(self, name: str, column: tuple[str, ...]) -> tuple[str, ...]:
        """Texts of rows that are learned one after the other: each new one takes room, while there is some."""
        known, most = self._known[name], self._distinct[name]
        new = [text for text in dict.fromkeys(column) if text not in known]
        room = most - len(known)
        if len(new) <= room:
            return column
        left = set(new[: max(0, room)])
        return tuple(text if text in known or text in left else OTHER for text in column)

    # --- far ---

    def why_far(self, features: Mapping[str, Any], y: Any) -> str:
        """Why an example is far from those that were learned, in words; empty where it is not."""
        for name, limits in self._guarded.items():
            value = y if name == LABEL else features.get(name)
            if value is not None and not limits.far_low <= value <= limits.far_high:
                spreads = abs(value - limits.median) / limits.spread
                around = f"{limits.median:.6g}, give or take {limits.spread:.3g}"
                return f"{name} is {value:.6g}, {spreads:.2g} spreads from what was learned so far ({around})"
        return ""

    def first_far(
        self,
        names: Sequence[str],
        rows: Sequence[Sequence[Any]],
        ys: Sequence[Any],
        extremes: Mapping[str, tuple[Any, Any]] = NO_EXTREMES,
    ) -> int:
        """The first of n rows for which `why_far` has words; n where none has.

        Parameters
        ----------
        extremes
            Of features, over these rows or more: where they are usual no row is looked at.
        """
        first = len(rows)
        if not rows or self._are_usual(extremes, ys):
            return first
        columns = dict(zip(names, zip(*rows, strict=True), strict=True)) | {LABEL: ys}
        for name, limits in self._guarded.items():
            column = columns[name][:first]
            if column and not (limits.far_low <= min(column) and max(column) <= limits.far_high):
                first = next(n for n, v in enumerate(column) if not limits.far_low <= v <= limits.far_high)
        return first

    def _are_usual(self, extremes: Mapping[str, tuple[Any, Any]], ys: Sequence[Any]) -> bool:
        """Whether no row can be far: a NaN in the middle of a column is in no extremes, and no finite number."""
        for name, limits in self._guarded.items():
            of = (min(ys), max(ys)) if name == LABEL else extremes.get(name)
            if of is None or not (limits.far_low <= of[0] and of[1] <= limits.far_high):
                return False
        return True

    # --- what was learned ---

    def keep_first(self, position: int, features: dict[str, Any], y: Any) -> None:
        """Keep an example as it came, as long as there are no limits."""
        if self._windows and self.seen < FIRST:
            self.first.append((position, features, y))

    def begin_again(self) -> list[tuple[int, dict[str, Any], Any]]:
        """The first examples, where one of them is outside of the limits that they have just made; asked once.

        The windows then hold them as if they had come within the limits.
        """
        first, self.first = self.first, []
        if not any(self.clip_one(x) is not x or self.why_far(x, y) for _, x, y in first):
            return []
        for window in self._windows.values():
            window.clear()
        for _, features, y in first:
            self._enter(self.clip_one(features), y)
        return first

    def saw_one(self, features: Mapping[str, Any], y: Any) -> None:
        """Take an example that the model has learned, or one that was left out because it is far."""
        self._enter(features, y)
        for name in self._distinct:
            if features.get(name) is not None:
                self._knows(name, [features[name]])
        self._count(1)

    def _enter(self, features: Mapping[str, Any], y: Any) -> None:
        """Take the numbers of an example, which is clipped, into their windows; what is far, as far as it may be."""
        for name, window in self._windows.items():
            value = y if name == LABEL else features.get(name)
            if value is not None:
                limits = self._guarded.get(name)
                if limits is not None:
                    value = min(max(value, limits.far_low), limits.far_high)
                window.append(float(value))

    def saw_many(self, names: Sequence[str], rows: Sequence[Sequence[Any]], ys: Sequence[Any]) -> None:
        """What `saw_one` does with each of n rows, none of which is far; n is at most `until_next`."""
        if self._windows and rows:
            columns = dict(zip(names, zip(*rows, strict=True), strict=True)) | {LABEL: ys}
            for name, window in self._windows.items():
                column = columns[name][-WINDOW:]
                window.extend(column if type(column[0]) is float else map(float, column))
        for number, name in enumerate(names if rows else ()):
            if name in self._distinct:
                self._knows(name, [row[number] for row in rows])
        self._count(len(rows))

    def _knows(self, name: str, texts: Sequence[str]) -> None:
        """Remember texts that the model has learned; one that is OTHER to it takes no room."""
        known, most = self._known[name], self._distinct[name]
        if name not in self._full:
            for text in texts:
                if text != OTHER and len(known) < most:
                    known[text] = None
            if len(known) >= most:
                self._full[name] = known

    def _count(self, count: int) -> None:
        anew = count == self.until_next
        self.seen += count
        if anew:
            found = {name: self._limits_of(name, window) for name, window in self._windows.items()}
            self._set({name: limits for name, limits in found.items() if limits is not None})

    def _set(self, limits: dict[str, Limits]) -> None:
        self._limits = limits
        self._clips = {name: _clip(of) for name, of in limits.items() if name in self._sigmas}
        self._guarded = {name: of for name, of in limits.items() if name not in self._sigmas}

    def _limits_of(self, name: str, window: Sequence[float]) -> Limits | None:
        """None of too few values."""
        count = len(window)
        if count < FIRST:
            return None
        values = np.array(window, np.float64)
        median = _of(np.sort(values), 0.5)
        distances = np.sort(np.abs(values - median))
        tail = float(distances[-max(4, count // TAIL)])
        spread = _of(distances, USUAL[0]) / USUAL[1] or tail / USUAL[1]
        halves = [_of(np.sort(half), 0.5) for half in (values[: count // 2], values[count // 2 :])]
        last = self._limits.get(name)
        moved = max(abs(halves[1] - halves[0]), abs(median - last.median) if last is not None else 0.0)
        if not spread:
            wide = max(abs(median), 1.0) * WIDE
            return Limits(median, max(abs(median), 1.0), wide, wide)
        is_moving = moved > spread * (0.5 + 6.0 / math.sqrt(count))  # 3.5 standard errors and more
        wide = moved * WIDE if is_moving else 0.0
        near = max(self._sigmas.get(name, 0.0) * spread, CLIP_TAILS * tail, wide)
        return Limits(median, spread, near, max(self._guard * spread, FAR_TAILS * tail, wide))

    # --- a checkpoint's content ---

    def state(self) -> dict[str, Any]:
        """Plain values."""
        windows = {name: list(window) for name, window in self._windows.items()}
        limits = {name: of._asdict() for name, of in self._limits.items()}
        known = {name: list(texts) for name, texts in self._known.items()}
        return {"windows": windows, "limits": limits, "known": known, "first": self.first, "seen": self.seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._windows = {name: deque(held, maxlen=WINDOW) for name, held in state["windows"].items()}
        self._set({name: Limits(**of) for name, of in state["limits"].items()})
        self._known = {name: dict.fromkeys(texts) for name, texts in state["known"].items()}
        self._full = {name: known for name, known in self._known.items() if len(known) >= self._distinct[name]}
        self.first = [tuple(one) for one in state["first"]]
        self.seen = state["seen"]


def _of(ordered: np.ndarray[Any, np.dtype[np.float64]], share: float) -> float:
    """An order statistic: no sum and no interpolation, so the same to the last bit on every machine."""
    return float(ordered[int(share * (len(ordered) - 1))])


def _clip(limits: Limits) -> Clip:
    low, high = limits.median - limits.near, limits.median + limits.near
    low, high = max(low, -BEYOND), min(high, BEYOND)  # an integer column holds no larger number
    whole_low, whole_high = math.ceil(low), math.floor(high)
    if whole_low > whole_high:  # no whole number is between the two
        whole_low = whole_high = round(limits.median)
    return Clip(low, high, whole_low, whole_high)


def _clip_column(table: pa.Table, name: str, clip: Clip, rows: Sequence[int], clipped: set[int]) -> pa.Table:
    number = table.column_names.index(name)
    column = table.column(number)
    low, high = (clip.whole_low, clip.whole_high) if pa.types.is_integer(column.type) else (clip.low, clip.high)
    values = column.to_numpy()
    outside = np.flatnonzero((values < low) | (values > high))
    if not len(outside):
        return table
    clipped.update(rows[at] for at in outside.tolist())
    return table.set_column(number, name, pa.array(np.clip(values, low, high), column.type))


def _name_other(table: pa.Table, name: str, known: dict[str, None], rows: Sequence[int], clipped: set[int]) -> pa.Table:
    number = table.column_names.index(name)
    column = table.column(number)
    texts = column.to_pylist()
    others = [at for at, text in enumerate(texts) if text is not None and text not in known]
    if not others:
        return table
    for at in others:
        texts[at] = OTHER
    clipped.update(rows[at] for at in others)
    return table.set_column(number, name, pa.array(texts, column.type))


def nothing_watched() -> Ranges:
    """Ranges without a feature: nothing is clipped, nothing far."""
    return Ranges((), {}, 0.0, label=False)
