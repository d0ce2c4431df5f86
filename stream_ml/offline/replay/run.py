"""One model on a tape: each example is scored by what was learned before it, then learned in its turn.

The model is the service's own (`LineageModel`), and so are its limits, halts and freezes. What it says is written to a
file of numbers, one row an example, so that any number of models can be compared without keeping them.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stream_ml.core.avro.framing import Rejected
from stream_ml.core.avro.texts import scores_of
from stream_ml.core.fold.batches import FoldSettings, Run, Single, features_of, widen
from stream_ml.core.fold.book import Judged
from stream_ml.core.fold.halt import Halt
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.inputs.events import rows_of
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.log.entry import decode_entry
from stream_ml.core.model.estimator import ModelFailed, Scored
from stream_ml.core.model.linear_batch import Column
from stream_ml.follower.past.derive import REMADE_MAX
from stream_ml.offline.replay.tape import Tape, feature, has
from stream_ml.records import LogRecord

COLUMNS = ("said", "probability", "loss")  # of the file of a model; see `Said`
PIECE = 100_000  # rows written at once
TOGETHER = 4  # so many examples are scored as columns; below, one by one takes no longer

Floats = NDArray[np.float64]


class Said(NamedTuple):
    """What a model says of n examples, in the order of the log; nan where it said nothing.

    Parameters
    ----------
    said
        Number of the class among the task's, 1 for the positive one of two; the value of a regression.
    probability
        Binary: of the positive class; multiclass: of what came true.
    loss
        Brier score, of several classes halved; where no probability is said, whether it missed. Of a regression nan:
        its loss needs a scale.
    """

    said: Floats
    probability: Floats
    loss: Floats

    @classmethod
    def of(cls, numbers: Floats) -> "Said":
        """Columns of a file."""
        return cls(numbers[:, 0], numbers[:, 1], numbers[:, 2])


class Ran(NamedTuple):
    """How a model ran over a tape.

    Parameters
    ----------
    halted
        Where it stopped learning and why; empty where it did not.
    failed
        Examples for which it raised, or which its plan refuses.
    cpu_s
        Processor time of scoring and learning.
    """

    examples_learned: int
    halted: str
    failed: int
    cpu_s: float
    bits: list[tuple[str, ...]]


class Reckoner:
    """Turns what a model says into numbers of a task."""

    def __init__(self, domain: LabelDomain) -> None:
        self._domain = domain
        self._numbers = {name: float(number) for number, name in enumerate(domain.classes)}

    def numbers_of(self, scored: Sequence[Scored], ys: Sequence[Any]) -> Floats:
        """Of n events, n by 3; fast path of `numbers`, equal to it row by row: tests/offline/replay/test_run.py."""
        scores = [one.score for one in scored]
        if self._domain.task != "binary" or None in scores or None in ys:
            return np.array([self.numbers(one, y) for one, y in zip(scored, ys, strict=True)], np.float64)
        found = np.empty((len(scores), len(COLUMNS)))
        found[:, 1] = scores
        positive = self._domain.positive
        found[:, 0] = [one.class_name == positive for one in scored]
        found[:, 2] = (found[:, 1] - np.array(ys, np.float64)) ** 2
        return found

    def numbers(self, scored: Scored, y: Any) -> tuple[float, float, float]:
        """As `Said` has them; `y` as it stands on the tape."""
        domain, nan = self._domain, math.nan
        if scored.cold or y is None:
            return nan, nan, nan
        if domain.task == "regression":
            value = nan if scored.value is None else scored.value
            return value, nan, nan
        if domain.task == "binary":
            said = float(scored.class_name == domain.positive)
            if scored.score is None:
                return said, nan, float(said != y)
            return said, scored.score, (scored.score - y) ** 2
        said = self._numbers.get(scored.class_name or "", -1.0)
        if scored.scores is None:
            return said, nan, float(scored.class_name != y)
        probability = scored.scores.get(y, 0.0)
        squares = sum(score * score for score in scored.scores.values())
        return said, probability, (squares - probability**2 + (1.0 - probability) ** 2) / 2


def numbers_in(file: Path, count: int) -> Floats:
    """A file of n by 3 numbers, all nan. They are written before they are mapped: OSError where there is no room."""
    with file.open("wb") as writing:
        shape = (count, len(COLUMNS))
        np.lib.format.write_array_header_1_0(writing, {"descr": "<f8", "fortran_order": False, "shape": shape})
        left = count
        while left:
            piece = min(left, PIECE)
            writing.write(np.full((piece, len(COLUMNS)), math.nan).tobytes())
            left -= piece
    found: Floats = np.load(file, mmap_mode="r+")
    return found


def _flush(numbers: Any) -> None:
    """Bring what is mapped to its file."""
    numbers.flush()


def run(
    tape: Tape,
    plan: int,
    settings: FoldSettings,
    file: Path,
    upto: int | None = None,
    said: Callable[[int], None] = lambda _: None,
) -> Ran:
    """Run one model over a tape.

    Parameters
    ----------
    plan
        Number of its plan on the tape.
    settings
        Of its fold; its payloads know every schema of the log.
    file
        Where what it says is written to (numpy, n by 3).
    upto
        Only the first so many examples in the order in which they are asked about; None: all.
    said
        Told how many examples are scored.
    """
    model = LineageModel(settings)
    began_s, failed = time.process_time(), 0
    for _ in range(REMADE_MAX):
        numbers = numbers_in(file, tape.examples)
        failed = _pass(tape, plan, model, numbers, tape.examples if upto is None else upto, said)
        _flush(numbers)
        if not model.is_to_be_remade:
            break
        model = model.successor(LineageModel(settings))
    halt = model.halt
    words = "" if halt is None else f"at {halt.position:,}: {halt.reason}: {halt.message}"
    return Ran(model.examples_learned, words, failed, time.process_time() - began_s, model.probe_bits())


def _pass(tape: Tape, plan: int, model: LineageModel, numbers: Floats, upto: int, said: Callable[[int], None]) -> int:
    """From the beginning until the model has to be made anew, or all is scored; how many could not be scored."""
    asking = Asking(tape, plan, model, numbers, upto)
    for judged in _judged(tape, plan, model.settings):
        for one in judged:
            _learn(one, model, asking)
            if model.is_to_be_remade or asking.may_stop:
                return asking.failed
        said(asking.done)
    asking.all_before(None)
    return asking.failed


def _learn(one: Judged, model: LineageModel, asking: "Asking") -> None:
    """Learn an entry or a run, with what is asked about in between."""
    if not isinstance(one.item, Run):
        asking.all_before(one.item.record.offset)
        model.fold([one])
        return
    run, done = one.item, 0
    offsets = [record.offset for record in run.records]
    while done < run.size and not model.is_to_be_remade and not asking.may_stop:
        asking.all_before(offsets[done])
        upto = asking.next_position
        stop = run.size if upto is None else bisect_left(offsets, upto, lo=done)
        if stop > done:
            model.fold([one._replace(item=run.some(done, stop))])
            done = stop


def _judged(tape: Tape, plan: int, settings: FoldSettings) -> Iterator[list[Judged]]:
    """What the tape holds as a book has judged it, under one plan."""
    facts = tape.facts()
    ys, done = facts.column("y"), 0
    task = settings.domain.task
    for batch in tape.learned():
        learns, there = (batch.column(name).to_numpy(zero_copy_only=False) for name in ("learns", has(plan)))
        count = int(np.count_nonzero(learns))
        of_examples = ys.slice(done, count).to_pylist()
        done += count
        labels = np.cumsum(learns) - 1
        found: list[Judged] = []
        for first, stop in stretches(there):
            if there[first]:
                own = of_examples[labels[first] : labels[first] + stop - first]
                found.append(_run_of(batch.slice(first, stop - first), plan, settings, _as_learned(own, task)))
            else:
                found += [_single_of(batch, row, settings) for row in range(first, stop)]
        yield found


def _as_learned(ys: list[Any], task: str) -> list[Any]:
    return [y == 1.0 for y in ys] if task == "binary" else ys


def stretches(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where equal flags stand one after another: first index and exclusive stop."""
    bounds = np.flatnonzero(np.diff(flags.astype(np.int8))) + 1
    edges = [0, *bounds.tolist(), len(flags)]
    return list(pairwise(edges)) if len(flags) else []


def _run_of(batch: pa.RecordBatch, plan: int, settings: FoldSettings, ys: list[Any]) -> Judged:
    names = settings.plan.names
    table = pa.table([batch.column(feature(plan, name)) for name in names], names)
    extremes: dict[str, tuple[Any, Any]] = {}
    widen(extremes, table)
    records = list(map(LogRecord._make, zip(batch.column("offset").to_numpy().tolist(), repeat(b""))))
    nothing: Any = None  # what follows a book asks for neither
    item = Run(
        records=records,
        places=range(len(records)),  # type: ignore[arg-type]
        names=names,
        rows=list(rows_of(table)),
        ys=ys,
        labelled=nothing,
        first=0,
        written_at_ms=batch.column("written_at").to_numpy().tolist(),
        extremes=extremes,
        lanes=nothing,
    )
    return Judged(item, learns=True)


def _single_of(batch: pa.RecordBatch, row: int, settings: FoldSettings) -> Judged:
    offset, learns = batch.column("offset")[row].as_py(), batch.column("learns")[row].as_py()
    entry = decode_entry(batch.column("entry")[row].as_py())
    features = features_of(settings, entry) if learns else None
    return Judged(Single(LogRecord(offset, b""), entry, None, features), learns=learns, obeyed=not learns)


class Asking:
    """What is asked about, in its order, as far as the model has come.

    Attributes
    ----------
    done, failed
        Examples that were asked about, and those of them for which there is no answer.

    So many attributes: they are the tape, the model, and the segment that is at hand.
    """

    def __init__(self, tape: Tape, plan: int, model: LineageModel, numbers: Floats, upto: int) -> None:
        self._tape, self._plan, self._model, self._numbers = tape, plan, model, numbers
        self._upto = min(upto, tape.examples)
        self._positions, self._order = (np.asarray(of) for of in (tape.positions(), tape.order()))
        self._ys = tape.facts().column("y")
        self._reckoner = Reckoner(model.settings.domain)
        self._segments = tape.asked()
        self._first = self._stop = 0  # of the segment at hand
        self.done = self.failed = 0

    @property
    def is_done(self) -> bool:
        """Whether all that is wanted was asked about."""
        return self.done >= self._upto

    @property
    def may_stop(self) -> bool:
        """Whether what is left need not be learned: only a part of the tape is wanted."""
        return self.is_done and self._upto < self._tape.examples

    @property
    def next_position(self) -> int | None:
        """Before which entry the next one is asked about; None: behind all."""
        return None if self.is_done else int(self._positions[self.done])

    def all_before(self, offset: int | None) -> None:
        """Ask all that is asked about before this entry was learned; None: all that is left."""
        stop = self._upto
        if offset is not None:
            if self.is_done or self._positions[self.done] > offset:
                return
            stop = min(stop, int(np.searchsorted(self._positions, offset, side="right")))
        while self.done < stop:
            if self.done >= self._stop:
                self._load()
            self._ask(self.done, min(stop, self._stop))

    def _load(self) -> None:
        batch = next(self._segments)
        self._first, self._stop = self._stop, self._stop + batch.num_rows
        self._batch, names = batch, self._model.settings.plan.names
        self._there = batch.column(has(self._plan)).to_numpy(zero_copy_only=False)
        self._table = pa.table({})  # of examples none of which has columns
        if self._there.any():
            self._table = pa.table([batch.column(feature(self._plan, name)) for name in names], names)
        bare = int(np.count_nonzero(~self._there))
        self._columns = [_numbers(column, bare) for column in self._table.columns]
        self._is_numbers = all(column is not None for column in self._columns)
        self._rows = list(rows_of(self._table)) if self._there.any() else []
        own = self._order[self._first : self._stop]
        self._own_ys = self._ys.take(pa.array(own)).to_pylist()

    def _ask(self, first: int, stop: int) -> None:
        """Ask about rows of the segment at hand."""
        a, b = first - self._first, stop - self._first
        found: list[Scored] | None = None
        if b - a >= TOGETHER and self._is_numbers and self._there[a:b].all():
            columns: list[Column] = [column[a:b] for column in self._columns]
            found = self._model.model.score_columns(self._table.column_names, columns)
        if found is None:
            found = [self._one(row) for row in range(a, b)]
        self._numbers[self._order[first:stop]] = self._reckoner.numbers_of(found, self._own_ys[a:b])
        self.done = stop

    def _one(self, row: int) -> Scored:
        model = self._model
        if self._there[row]:
            features: Any = dict(zip(model.settings.plan.names, self._rows[row], strict=True))
        else:
            features = features_of(model.settings, decode_entry(self._batch.column("entry")[row].as_py()))
        try:
            if not isinstance(features, Rejected | Halt):
                return model.model.score_one(features)
        except ModelFailed:
            pass
        self.failed += 1
        return Scored(None, None, None, None)


def _numbers(column: pa.ChunkedArray, bare: int) -> Any:
    """A column of numbers as an array; None of others, and of one with nulls beside those of `bare` rows without any.

    Those rows are asked about one by one: what stands for them is never read.
    """
    is_number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if column.null_count != bare or not is_number:
        return None
    return column.fill_null(0).to_numpy() if bare else column.to_numpy()


def served_numbers(facts: pa.Table, domain: LabelDomain, file: Path) -> None:
    """What was published for each example, as a model's file; of those that do not count nothing."""
    reckoner = Reckoner(domain)
    numbers = numbers_in(file, facts.num_rows)
    done = 0
    for batch in facts.to_batches(max_chunksize=100_000):
        names = ("served_class", "served_score", "served_scores", "served_value", "usable", "y")
        said = []
        for class_name, score, scores, value, usable, y in zip(
            *(batch.column(name).to_pylist() for name in names), strict=True
        ):
            one = Scored(class_name, score, None if scores is None else scores_of(scores), value)
            said.append(reckoner.numbers(one if usable else Scored(None, None, None, None), y))
        numbers[done : done + len(said)] = np.array(said, np.float64).reshape(len(said), len(COLUMNS))
        done += len(said)
    _flush(numbers)
