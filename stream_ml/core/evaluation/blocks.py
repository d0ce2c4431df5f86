"""Whether one model is better than another: a test whose unit is a block of event time, valid however often one looks.

1. Two models are compared on the same events (pairs). Pairs of one hour are alike, so they are no units: a block is.
   Its value is the sum of its pairs' differences, in millionths of the loss, over the mean number of pairs a block.
   Sums are integers: in whatever order and in how many parts they were added, they come to the same.
2. A label counts if it came within `mature_ms`, and a block is closed once the log is so far behind its end: each
   block then has its early and late labels in the same proportion.
3. The interval holds at all times at once: the normal mixture of Robbins, for means that change and blocks that are
   not independent (Waudby-Smith et al., Annals of Statistics 2024, arXiv:2103.06476), from `blocks_least` on (Bibaut,
   Kallus, Lindon, arXiv:2212.14411).

Read first: `Blocks.verdict`.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ml.core.evaluation.metrics import Floats

UNIT = 1_000_000  # a difference of losses is kept as so many parts
MIXTURE = 1 / 50  # r of the mixture: the interval is narrowest for about as many blocks as its reciprocal
AUTOCORRELATED = 0.3  # of one block and the next: above this they are no units
LEAST = 20  # blocks before anything is decided
PIECE = 1_000_000  # pairs whose squares add up in 64 bits
FORETOLD_MAX = 100_000  # blocks; further nothing is foretold

Ints = NDArray[np.int64]
Decision = Literal["better", "worse", "equivalent", "undecided"]


class Limits(NamedTuple):
    """What a decision asks for.

    Parameters
    ----------
    alpha
        Probability of deciding at any time that there is a difference where there is none.
    margin
        A difference of the loss that does not matter; 0: each does, and nothing is ever equivalent.
    blocks_least
        So many closed blocks.
    """

    alpha: float = 0.05
    margin: float = 0.0
    blocks_least: int = LEAST


class Verdict(NamedTuple):
    """What is known of a difference of mean losses, first minus second: less than 0 speaks for the first.

    Parameters
    ----------
    pairs, blocks
        Of closed blocks.
    mean, low, high
        Of the difference, and its interval at all times; infinite before there are two blocks.
    decision
        For the first: better, worse, equivalent, or undecided.
    why
        Why it is undecided, in words; else empty.
    blocks_more
        About so many more would decide, were the difference what it seems to be; None where that is not foretold.
    autocorrelation
        Of the value of a block and of the next one.
    inflation
        By how much the variance of a block is larger than it would be if pairs were independent.
    """

    pairs: int
    blocks: int
    mean: float
    low: float
    high: float
    decision: Decision
    why: str
    blocks_more: int | None
    autocorrelation: float
    inflation: float


class Blocks:
    """Sums of paired differences by block of event time; any number of them can be added together.

    Parameters
    ----------
    block_ms
        Length of a block; blocks begin at multiples of it since 1970.
    mature_ms
        A label that took longer does not count.

    Attributes
    ----------
    late
        Pairs that did not count because their label took longer.
    """

    def __init__(self, block_ms: int, mature_ms: int) -> None:
        self.block_ms, self.mature_ms = block_ms, mature_ms
        self._sums: dict[int, tuple[int, int, int]] = {}  # by block: pairs, sum, sum of squares
        self.late = 0

    def add_many(self, event_ms: Ints, delay_ms: Ints, first: Floats, second: Floats) -> None:
        """Add n pairs: event time, delay of the label, loss of the first and of the second model."""
        for begin in range(0, len(event_ms), PIECE):
            of = slice(begin, begin + PIECE)
            self._add_some(event_ms[of], delay_ms[of], first[of], second[of])

    def _add_some(self, event_ms: Ints, delay_ms: Ints, first: Floats, second: Floats) -> None:
        counts = delay_ms <= self.mature_ms
        self.late += int(np.count_nonzero(~counts))
        blocks = event_ms[counts] // self.block_ms
        differences = np.rint(first[counts] * UNIT).astype(np.int64) - np.rint(second[counts] * UNIT).astype(np.int64)
        order = np.argsort(blocks, kind="stable")
        blocks, differences = blocks[order], differences[order]
        found, starts = np.unique(blocks, return_index=True)
        if not len(found):
            return
        sums = np.add.reduceat(differences, starts).tolist()
        squares = np.add.reduceat(differences * differences, starts).tolist()
        pairs = np.diff([*starts.tolist(), len(blocks)]).tolist()
        for block, *more in zip(found.tolist(), pairs, sums, squares, strict=True):
            self._add(block, *more)

    def add(self, other: "Blocks") -> None:
        """Add what another one of the same lengths holds."""
        if (self.block_ms, self.mature_ms) != (other.block_ms, other.mature_ms):
            raise ValueError("sums of other blocks cannot be added")
        self.late += other.late
        for block, sums in other._sums.items():  # noqa: SLF001
            self._add(block, *sums)

    def _add(self, block: int, pairs: int, total: int, squares: int) -> None:
        known = self._sums.get(block, (0, 0, 0))
        self._sums[block] = (known[0] + pairs, known[1] + total, known[2] + squares)

    def closed(self, watermark_ms: int) -> dict[int, tuple[int, int, int]]:
        """Blocks whose labels have all come that count, by their begin in ms: pairs, sum, sum of squares."""
        before = (watermark_ms - self.mature_ms) // self.block_ms
        return {block * self.block_ms: sums for block, sums in sorted(self._sums.items()) if block < before}

    def verdict(self, watermark_ms: int, limits: Limits = Limits()) -> Verdict:  # noqa: B008 - an immutable value
        """What the closed blocks say, where the log is at this event time."""
        return _judged(list(self.closed(watermark_ms).values()), limits)

    def course(self, watermark_ms: int, limits: Limits = Limits()) -> list[tuple[int, float, float, float]]:  # noqa: B008
        """The verdict after each closed block: its end in ms, mean, low and high; as it would have been told then."""
        found, sums = list[tuple[int, float, float, float]](), _Sums(0, 0, 0, 0)
        for begin, (pairs, total, _) in self.closed(watermark_ms).items():
            sums = sums.with_block(pairs, total)
            half = radius(sums.blocks, sums.deviation, limits.alpha)
            found.append((begin + self.block_ms, sums.mean, sums.mean - half, sums.mean + half))
        return found

    # --- to be kept ---

    def state(self) -> dict[str, Any]:
        """Plain values."""
        sums = {str(block): list(of) for block, of in sorted(self._sums.items())}
        return {"block_ms": self.block_ms, "mature_ms": self.mature_ms, "late": self.late, "blocks": sums}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Blocks":
        """What `state` gave."""
        found = cls(state["block_ms"], state["mature_ms"])
        found.late = state["late"]
        for block, (pairs, total, squares) in state["blocks"].items():
            found._sums[int(block)] = (pairs, total, squares)
        return found


def radius(blocks: int, deviation: float, alpha: float) -> float:
    """Half the width of the interval of a mean of n values, valid at all n at once; of less than two infinite.

    Source: Waudby-Smith et al. 2024, Theorem 2.2, with the variance as estimated.
    """
    if blocks < 2:
        return math.inf
    weight = blocks * MIXTURE + 1
    return deviation * math.sqrt(2 * weight / (blocks**2 * MIXTURE) * math.log(math.sqrt(weight) / alpha))


class _Sums(NamedTuple):
    """Of some blocks, as integers: what is made of them has the same bits in one pass and in many."""

    blocks: int
    pairs: int
    total: int
    squares: int  # of the sum of each block

    def with_block(self, pairs: int, total: int) -> "_Sums":
        return _Sums(self.blocks + 1, self.pairs + pairs, self.total + total, self.squares + total**2)

    @property
    def mean(self) -> float:
        return self.total / (self.pairs * UNIT)

    @property
    def deviation(self) -> float:
        """Of the values of blocks, which are their sums over the mean number of pairs."""
        if self.blocks < 2:
            return 0.0
        squared = (self.blocks * self.squares - self.total**2) / (self.blocks * (self.blocks - 1))
        return math.sqrt(squared) / UNIT / (self.pairs / self.blocks)


def _judged(sums: list[tuple[int, int, int]], limits: Limits) -> Verdict:
    whole = _Sums(0, 0, 0, 0)
    for pairs, total, _ in sums:
        whole = whole.with_block(pairs, total)
    blocks, pairs, _, _ = whole
    if not pairs:
        return Verdict(0, 0, math.nan, -math.inf, math.inf, "undecided", "no block is closed", None, 0.0, 1.0)
    mean, deviation = whole.mean, whole.deviation
    half = radius(blocks, deviation, limits.alpha)
    correlated = _autocorrelation(np.array([of[1] for of in sums], np.float64))
    inflated = _inflation(sums, deviation)
    low, high = mean - half, mean + half
    decision, why = _decided(blocks, low, high, correlated, limits)
    more = None if decision != "undecided" else _blocks_more(blocks, mean, deviation, limits)
    return Verdict(pairs, blocks, mean, low, high, decision, why, more, correlated, inflated)


def _decided(blocks: int, low: float, high: float, correlated: float, limits: Limits) -> tuple[Decision, str]:
    if blocks < limits.blocks_least:
        return "undecided", f"{blocks} blocks are fewer than {limits.blocks_least}"
    if correlated > AUTOCORRELATED:
        return "undecided", f"a block and the next are alike (autocorrelation {correlated:.2f}): take longer blocks"
    if low == high == 0.0:
        return "equivalent", ""  # to the last part: they say the same
    if high < 0:
        return "better", ""
    if low > 0:
        return "worse", ""
    if limits.margin and -limits.margin < low and high < limits.margin:
        return "equivalent", ""
    return "undecided", "the interval holds 0"


def _autocorrelation(values: Floats) -> float:
    """Of each value and the next one, in whatever unit; 0 where there are too few, or all are the same."""
    if len(values) < 3:
        return 0.0
    away = values - values.mean()
    whole = float((away * away).sum())
    return float((away[1:] * away[:-1]).sum()) / whole if whole else 0.0


def _inflation(sums: list[tuple[int, int, int]], deviation: float) -> float:
    """Variance of a block's value over what it would be, were its pairs independent; 1 where that is not known."""
    pairs, total, squares = (sum(of[number] for of in sums) for number in range(3))
    of_pair = (squares / pairs - (total / pairs) ** 2) / UNIT**2
    if of_pair <= 0 or len(sums) < 2:
        return 1.0
    return deviation**2 / (of_pair / (pairs / len(sums)))


def _blocks_more(blocks: int, mean: float, deviation: float, limits: Limits) -> int | None:
    """How many more blocks it takes until the interval leaves out 0, or lies within the margin."""
    if blocks < 2 or not deviation:
        return None
    wanted = max(abs(mean), limits.margin - abs(mean))
    number = max(blocks, limits.blocks_least)
    while radius(number, deviation, limits.alpha) >= wanted:
        number = number + max(1, number // 50)
        if number > FORETOLD_MAX:
            return None
    return max(1, number - blocks)
