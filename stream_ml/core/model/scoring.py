"""Scores of many events at once: `*_many` where a model has it, `*_one` for the rest, the same to AGREE.

1. `*_one` is the reference. One row of each batch is scored both ways; a model whose answers differ, or which raises,
   is asked one by one from then on, and says so.
2. What a column holds that no score may be (not finite, out of range) is left to the reference, which calls it cold.
"""

import math
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stream_ml.core.avro.fields import MAGNITUDE_MAX
from stream_ml.core.avro.texts import scores_of, scores_text, scores_texts
from stream_ml.core.inputs.events import Features, dicts_of, spread
from stream_ml.core.model.estimator import COLD, Learner, ModelFailed, Scored
from stream_ml.records import Served

ROWS_MIN = 128  # a call of a scaled linear model takes 0.9 ms, predict_proba_one 7 us (measured)
AGREE = 1e-12  # relative and absolute: a batch and single calls of a model may differ in the last digits


class Scores(NamedTuple):
    """What a model says of a batch's n rows, as columns of `Scored`; None where it says nothing.

    `texts` has the scores by class as they are published; it and `values` are None where no row has one. `failed` has
    the rows for which the model raised, and what; `clipped` those of which a feature was brought within its limits.
    """

    class_names: list[str | None]
    scores: list[float | None]
    texts: list[str | None] | None
    values: list[float | None] | None
    failed: dict[int, str]
    clipped: frozenset[int] = frozenset()

    def of(self, row: int) -> Scored:
        """One row's."""
        text = None if self.texts is None else self.texts[row]
        return Scored(
            self.class_names[row],
            self.scores[row],
            None if text is None else scores_of(text),
            None if self.values is None else self.values[row],
        )


class Scorer:
    """Scores batches with one learner.

    `fallback_reason` says why a model that has `*_many` is not asked for it; empty where it is, or has none.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._task = learner.domain.task
        self._name = "predict_many" if self._task == "regression" else "predict_proba_many"
        self._turn = 0
        self.fallback_reason = ""

    def score_many(self, features: Features, count: int) -> Scores:
        """Scores of a batch of `count` rows, of which `features` has some.

        Fast path of `Learner.score_one`, equal to it to 1e-12 or given up: tests/equivalence/test_scoring.py.
        """
        singles: dict[int, Scored | str] = {}
        columns = self._many(features)
        if columns is None:
            for row, one in zip(features.rows, features.dicts(), strict=True):
                singles[row] = self._one(one)
        else:
            assert features.table is not None  # noqa: S101 - it was scored
            for number in columns.left:
                (one,) = _dicts(features.table, number)
                singles[features.rows[number]] = self._one(one)
        for row, one in features.others.items():
            singles[row] = self._one(one)
        return _gathered(columns, features.rows, singles, count)

    def _one(self, features: dict[str, Any]) -> Scored | str:
        try:
            return self._learner.score_one(features)
        except ModelFailed as error:
            return str(error)

    def _many(self, features: Features) -> "_Columns | None":
        table, estimator = features.table, self._learner.estimator
        if table is None or table.num_rows < ROWS_MIN or self.fallback_reason or not hasattr(estimator, self._name):
            return None
        try:
            said = nw.from_native(getattr(estimator, self._name)(table), allow_series=True)
            columns = self._columns(said, table.num_rows)
        except (NotImplementedError, AttributeError):  # River's words for a model, or a step of it, without it
            self.fallback_reason = f"it has no {self._name}"
            return None
        except Exception as error:
            self.fallback_reason = f"{self._name} raised {type(error).__name__}: {error}"
            return None
        return columns if self._proved(table, columns) else None

    def _proved(self, table: pa.Table, columns: "_Columns | None") -> bool:
        """Whether the reference says the same of one row, another one each time."""
        if columns is None:
            return False
        self._turn += 1
        number = self._turn * 7919 % table.num_rows
        if number in columns.left:
            return True
        (features,) = _dicts(table, number)
        one = self._one(features)
        if isinstance(one, Scored) and same(one, columns.of(number)):
            return True
        self.fallback_reason = f"{self._name} and the same for one event differ: {columns.of(number)}, {one}"
        return False

    def _columns(self, said: Any, count: int) -> "_Columns | None":
        """The model's answer as columns; None where it has none for these rows, like an untrained one."""
        if self._task == "regression":
            values = np.asarray(said.to_numpy(), np.float64)
            if values.shape != (count,):
                return None
            return _Columns(None, None, values, _outside(np.abs(values) <= MAGNITUDE_MAX))
        names = [str(name) for name in said.columns]
        numbers = np.asarray(said.to_numpy(), np.float64)
        if numbers.shape != (count, len(names)) or not names:
            return None
        if self._task == "binary":
            return self._binary(names, numbers)
        order = sorted(range(len(names)), key=names.__getitem__)
        numbers = numbers[:, order]
        return _Columns([names[i] for i in order], numbers, None, _outside(np.all(_probable(numbers), axis=1)))

    def _binary(self, names: list[str], numbers: NDArray[np.float64]) -> "_Columns":
        domain = self._learner.domain
        scores = numbers[:, names.index("True")] if "True" in names else np.zeros(len(numbers))
        left = _outside(_probable(scores) & np.all(np.isfinite(numbers), axis=1))
        positive = np.where(scores >= domain.threshold, domain.positive, domain.negative)
        return _Columns(None, None, scores, left, positive.tolist())


def _probable(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (numbers >= 0.0) & (numbers <= 1.0)


def _outside(right: NDArray[np.bool_]) -> list[int]:
    found: list[int] = np.flatnonzero(~right).tolist()
    return found


def _dicts(table: pa.Table, number: int) -> list[dict[str, Any]]:
    return dicts_of(table.slice(number, 1))


class _Columns(NamedTuple):
    """Answers for k rows; `left`: those of which the column is no score."""

    names: list[str] | None  # multiclass: of the columns of `by_class`
    by_class: NDArray[np.float64] | None
    numbers: NDArray[np.float64] | None  # scores or values
    left: list[int]
    classes: list[str] | None = None  # binary

    def of(self, number: int) -> Scored:
        if self.by_class is not None:
            return _multiclass(self.names or [], self.by_class[number].tolist())
        assert self.numbers is not None  # noqa: S101 - one of the two is there
        value = float(self.numbers[number])
        if self.classes is None:
            return Scored(None, None, None, value)
        return Scored(self.classes[number], value, None, None)


def _multiclass(names: list[str], numbers: list[float]) -> Scored:
    """As `Learner` has it: of equal scores the first name's."""
    best = max(numbers)
    return Scored(names[numbers.index(best)], best, dict(zip(names, numbers, strict=True)), None)


def _gathered(columns: _Columns | None, rows: Any, singles: dict[int, Scored | str], count: int) -> Scores:
    """One set of columns over all rows."""
    failed = {row: said for row, said in singles.items() if isinstance(said, str)}
    found = Scores([None] * count, [None] * count, None, None, failed)
    if columns is not None:
        found = _filled(columns, rows, found, count)
    texts, values = found.texts, found.values
    for row, answer in singles.items():
        said = COLD if isinstance(answer, str) else answer
        found.class_names[row], found.scores[row] = said.class_name, said.score
        if said.scores is not None or texts is not None:
            texts = texts if texts is not None else [None] * count
            texts[row] = None if said.scores is None else scores_text(said.scores)
        if said.value is not None or values is not None:
            values = values if values is not None else [None] * count
            values[row] = said.value
    return found._replace(texts=texts, values=values)


def _filled(columns: _Columns, rows: Any, found: Scores, count: int) -> Scores:
    if columns.by_class is not None:
        said = [_multiclass(columns.names or [], numbers) for numbers in columns.by_class.tolist()]
        names: list[Any] = [one.class_name for one in said]
        scores: list[Any] = [one.score for one in said]
        return found._replace(
            class_names=_spread(names, rows, count),
            scores=_spread(scores, rows, count),
            texts=_spread(scores_texts([one.scores for one in said]), rows, count),
        )
    assert columns.numbers is not None  # noqa: S101 - one of the two is there
    numbers = _spread(columns.numbers.tolist(), rows, count)
    if columns.classes is None:
        return found._replace(values=numbers)
    return found._replace(class_names=_spread(columns.classes, rows, count), scores=numbers)


def _spread(column: list[Any], rows: Any, count: int) -> list[Any]:
    """k values to their places in n rows."""
    if len(column) == count:
        return column
    found: list[Any] = [None] * count
    spread(found, rows, column)
    return found


def same(one: Scored | Served, other: Scored | Served) -> bool:
    """Whether the numbers of two answers are the same to AGREE; the class follows from them."""
    ours, theirs = _numbers(one), _numbers(other)
    return ours.keys() == theirs.keys() and all(
        math.isclose(value, theirs[name], rel_tol=AGREE, abs_tol=AGREE) for name, value in ours.items()
    )


def class_scores(said: Scored | Served) -> dict[str, float]:
    """Scores by class, empty where none were given; ValueError where the text of what was served is none."""
    return scores_of(said.scores) if isinstance(said.scores, str) else said.scores or {}


def _numbers(said: Scored | Served) -> dict[str, float]:
    of_classes = {f"of {name}": score for name, score in class_scores(said).items()}
    named = {"score": said.score, "value": said.value, **of_classes}
    return {name: value for name, value in named.items() if value is not None}
