"""Models on one tape beside each other: measures of each, and what blocks of time say of their difference."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stream_ml.core.evaluation.blocks import AUTOCORRELATED, LEAST, Blocks, Limits, Verdict
from stream_ml.core.evaluation.metrics import CALIBRATION_BINS, Floats
from stream_ml.core.evaluation.window import delay_quantiles, measured
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.scoring import AGREE
from stream_ml.core.model.selection import Selection
from stream_ml.offline.replay.run import Said

SERVED = "served"  # the name of what was published, among the models
BASELINE = "baseline"  # of one that knows the labels' frequencies alone
BLOCKS_MS = (15 * 60_000, 3_600_000, 6 * 3_600_000, 86_400_000, 7 * 86_400_000)  # tried in this order
BUCKETS = 120  # of a chart over time
SCALE_OF = 1_000  # labels whose spread makes the scale of a regression's loss

MEASURES = {
    "binary": ("brier", "accuracy", "precision", "recall", "f1", "log_loss", "auc", "calibration_error"),
    "multiclass": ("brier", "accuracy", "macro_f1", "log_loss"),
    "regression": ("loss", "mae", "rmse", "r2"),
}

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Facts(NamedTuple):
    """Of n examples, in the order of the log; `true` as `Said.said` has it.

    `served_by` has of each the number of its lineage among `lineages`: a text each would take more than all else.
    """

    offset: Ints
    event_ms: Ints
    label_ms: Ints
    true: Floats
    served_by: Ints
    lineages: Sequence[str | None]

    @classmethod
    def of(cls, table: pa.Table, domain: LabelDomain) -> "Facts":
        """Out of a tape's facts."""
        offset, event_ms, label_ms = (table.column(name).to_numpy() for name in ("offset", "event_ms", "label_ms"))
        ys = table.column("y")
        if domain.task == "multiclass":
            numbers = {name: float(number) for number, name in enumerate(domain.classes)}
            true = np.array([numbers.get(name, math.nan) for name in ys.to_pylist()], np.float64)
        else:
            true = ys.to_numpy().astype(np.float64)
        served = table.column("served_lineage").dictionary_encode(null_encoding="encode").unify_dictionaries()
        names = served.chunk(0).dictionary.to_pylist() if served.num_chunks else []
        codes = [chunk.indices.to_numpy() for chunk in served.chunks]
        return cls(offset, event_ms, label_ms, true, np.concatenate(codes) if codes else np.zeros(0, np.int32), names)

    def was_served_by(self, lineage: str) -> Flags:
        """Which of the examples this lineage has scored."""
        found: Flags = self.served_by == (self.lineages.index(lineage) if lineage in self.lineages else -1)
        return found

    @property
    def delay_ms(self) -> Ints:
        """How long each label took; 0 of one that came before its event."""
        found: Ints = np.maximum(self.label_ms - self.event_ms, 0)
        return found


class Measured(NamedTuple):
    """One model over the examples that all have answered."""

    name: str
    measures: dict[str, float]
    answered: int
    reliability: list[tuple[float, float, int]]
    course: list[tuple[int, float | None]]


class Pair(NamedTuple):
    """Two models compared: what blocks say of the first one's loss less the second one's."""

    first: str
    second: str
    verdict: Verdict
    course: list[tuple[int, float, float, float]]
    blocks: Blocks


class Terms(NamedTuple):
    """How models are compared.

    Parameters
    ----------
    from_ms, to_ms
        Event times of what is compared, the second one exclusive; None: no bound.
    block_ms
        None: the shortest of `BLOCKS_MS` of which one and the next are not alike.
    mature_ms
        A label that took longer does not count; None: nine and a half of ten come within it.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    block_ms: int | None = None
    mature_ms: int | None = None
    limits: Limits = Limits()


class Comparison:
    """All models of a replay over the examples that each of them has answered.

    Attributes
    ----------
    counts
        Which examples are compared.
    left_out
        How many are not, by why.
    """

    def __init__(
        self,
        facts: Facts,
        domain: LabelDomain,
        said: Mapping[str, Said],
        terms: Terms,
        selections: Sequence[Selection] = (),
    ) -> None:
        self.facts, self.domain, self._terms = facts, domain, terms
        self._said = {**said, BASELINE: baseline(facts, domain)}
        self.left_out: dict[str, int] = {}
        self.counts = self._counted(said, selections)
        self._losses = {name: self._loss(one) for name, one in self._said.items()}
        self.mature_ms = self._mature() if terms.mature_ms is None else terms.mature_ms
        self.watermark_ms = int(max(facts.event_ms.max(), facts.label_ms.max())) if len(facts.offset) else 0
        self._block_ms = terms.block_ms

    def _counted(self, said: Mapping[str, Said], selections: Sequence[Selection]) -> Flags:
        facts, terms = self.facts, self._terms
        counts: Flags = np.ones(len(facts.offset), np.bool_)
        if terms.from_ms is not None:
            counts &= facts.event_ms >= terms.from_ms
        if terms.to_ms is not None:
            counts &= facts.event_ms < terms.to_ms
        for selection in selections:
            for first, stop in selection.exclude:
                out = counts & (facts.offset >= first) & (facts.offset < stop)
                self._leave_out("not to be believed: a model leaves it out", out)
                counts &= ~out
        unknown = counts & np.isnan(facts.true)
        self._leave_out("its label is none of the task's", unknown)
        counts &= ~unknown
        for name, one in said.items():
            silent = counts & np.isnan(one.said)
            self._leave_out(f"{name} said nothing" if name != SERVED else "not served, cold or unsound", silent)
            counts &= ~silent
        return counts

    def _leave_out(self, why: str, rows: Flags) -> None:
        if rows.any():
            self.left_out[why] = self.left_out.get(why, 0) + int(np.count_nonzero(rows))

    def _loss(self, one: Said) -> Floats:
        if self.domain.task != "regression":
            return one.loss
        error = np.abs(one.said - self.facts.true)
        scale = self._scale()
        return np.where(error > 0, error / (error + scale), 0.0)

    def _scale(self) -> float:
        """Of a regression's loss: the spread of the first labels, fixed before anything is compared."""
        known = self.facts.true[~np.isnan(self.facts.true)][:SCALE_OF]
        spread = float(np.abs(known - np.median(known)).mean()) if len(known) else 0.0
        return spread or 1.0

    def _mature(self) -> int:
        """Nine and a half of ten labels come within it, by those from before what is compared where there are some."""
        delays = self.facts.delay_ms
        if self._terms.from_ms is not None:
            before = delays[self.facts.event_ms < self._terms.from_ms]
            delays = before if len(before) >= SCALE_OF else delays
        return int(np.quantile(delays, 0.95)) if len(delays) else 0

    # --- of each ---

    @property
    def names(self) -> list[str]:
        """Of all, the baseline last."""
        return list(self._said)

    def measure(self, name: str) -> Measured:
        """Measures of one model over all that is compared."""
        one, counts, facts = self._said[name], self.counts, self.facts
        if not counts.any():
            return Measured(name, {}, 0, [], [])
        true, said, probability = facts.true[counts], one.said[counts], one.probability[counts]
        found = measured(self.domain.task, true, said, probability, len(self.domain.classes))
        loss = self._losses[name][counts]
        key = "loss" if self.domain.task == "regression" else "brier"
        found = {key: float(loss.mean()), **found}
        reliable = _reliability(true, probability) if self.domain.task == "binary" else []
        return Measured(name, found, int(counts.sum()), reliable, self._course(loss))

    def _course(self, loss: Floats) -> list[tuple[int, float | None]]:
        """Mean loss by time: the begin of each stretch, and the mean in it."""
        times = self.facts.event_ms[self.counts]
        first, last = int(times.min()), int(times.max())
        width = max(1, (last - first) // BUCKETS + 1)
        bucket = (times - first) // width
        sums, counts = np.bincount(bucket, loss), np.bincount(bucket)
        return [
            (first + number * width, float(total / count) if count else None)
            for number, (total, count) in enumerate(zip(sums.tolist(), counts.tolist(), strict=True))
        ]

    def delays(self) -> dict[str, float]:
        """How long labels took, in seconds."""
        return delay_quantiles(self.facts.delay_ms[self.counts])

    # --- of two ---

    def blocks(self, first: str, second: str, block_ms: int) -> Blocks:
        """Sums of the difference of two by block."""
        found, counts = Blocks(block_ms, self.mature_ms), self.counts
        times, delays = self.facts.event_ms[counts], self.facts.delay_ms[counts]
        found.add_many(times, delays, self._losses[first][counts], self._losses[second][counts])
        return found

    def pair(self, first: str, second: str, *, course: bool = True) -> Pair:
        """What blocks say of two."""
        found = self.blocks(first, second, self.block_ms(first, second))
        limits = self._terms.limits
        along = found.course(self.watermark_ms, limits) if course else []
        return Pair(first, second, found.verdict(self.watermark_ms, limits), along, found)

    def block_ms(self, first: str, second: str) -> int:
        """The length of a block; where none is given it is chosen for the first pair, and stays."""
        if self._block_ms is None:
            self._block_ms = self._chosen(first, second)
        return self._block_ms

    def _chosen(self, first: str, second: str) -> int:
        verdicts = {
            block_ms: self.blocks(first, second, block_ms).verdict(self.watermark_ms, self._terms.limits)
            for block_ms in BLOCKS_MS
        }
        enough = [block_ms for block_ms, one in verdicts.items() if one.blocks >= max(LEAST, 2)]
        apart = [block_ms for block_ms in enough if verdicts[block_ms].autocorrelation <= AUTOCORRELATED]
        return (apart or enough[-1:] or [BLOCKS_MS[0]])[0]

    def equal(self, name: str, lineage: str) -> tuple[int, int]:
        """Of the examples that count and that this lineage has served: for how many a model says what was published,
        to AGREE; and how many they are."""
        pairs = self._beside_served(name, lineage)
        same = np.ones(len(pairs[0][0]), np.bool_)
        for a, b in pairs:
            same &= (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= AGREE + AGREE * np.abs(b))
        return int(same.sum()), len(same)

    def apart(self, name: str, lineage: str) -> tuple[float, float]:
        """Of the same examples: by how much a model's probability, or its value, differs from what was published; the
        mean and the most. nan where there is none of both."""
        (said, of_said), (probability, of_probability) = self._beside_served(name, lineage)
        apart = np.abs(said - of_said if self.domain.task == "regression" else probability - of_probability)
        apart = apart[~np.isnan(apart)]
        return (float(apart.mean()), float(apart.max())) if len(apart) else (math.nan, math.nan)

    def _beside_served(self, name: str, lineage: str) -> list[tuple[Floats, Floats]]:
        """What was said and with which probability, by a lineage as published and by a model of the replay."""
        served, own = self._said[SERVED], self._said[name]
        counts = self.counts & self.facts.was_served_by(lineage)
        both = ((served.said, own.said), (served.probability, own.probability))
        return [(one[counts], other[counts]) for one, other in both]


def metrics_of(task: str) -> tuple[str, ...]:
    """Names of the measures of a task."""
    return MEASURES[task]


def baseline(facts: Facts, domain: LabelDomain) -> Said:
    """What one says that knows the labels before each alone: their frequencies, each class once more than it was seen
    (Laplace), or their mean. It knows each label at once, so it is a little better than it could be."""
    true, count = facts.true, len(facts.true)
    seen = np.arange(count)
    if domain.task == "regression":
        known = np.nan_to_num(true)
        before = np.concatenate(([0.0], np.cumsum(known)[:-1])) if count else known
        there = np.cumsum(~np.isnan(true)) - ~np.isnan(true)
        value = before / np.maximum(there, 1)
        return Said(value, np.full(count, math.nan), np.full(count, math.nan))
    frequencies = np.empty((count, max(len(domain.classes), 2)))
    for number in range(frequencies.shape[1]):
        hits = (true == number).astype(np.float64)
        frequencies[:, number] = np.concatenate(([0.0], np.cumsum(hits)[:-1])) + 1 if count else hits
    frequencies /= frequencies.sum(axis=1, keepdims=True)
    if domain.task == "binary":
        positive = frequencies[:, 1]
        return Said((positive >= domain.threshold).astype(np.float64), positive, (positive - true) ** 2)
    numbers = np.nan_to_num(true).astype(np.int64)
    of_true = frequencies[seen, numbers]
    squares = (frequencies**2).sum(axis=1)
    loss = (squares - of_true**2 + (1 - of_true) ** 2) / 2
    return Said(frequencies.argmax(axis=1).astype(np.float64), of_true, loss)


def _reliability(true: Floats, probability: Floats) -> list[tuple[float, float, int]]:
    """By tenth of the probability: its mean, the share that came true, and how many."""
    known = ~np.isnan(probability)
    probability, true = probability[known], true[known]
    bins = np.minimum((probability * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    found = []
    for number in range(CALIBRATION_BINS):
        own = bins == number
        if own.any():
            found.append((float(probability[own].mean()), float(true[own].mean()), int(own.sum())))
    return found
