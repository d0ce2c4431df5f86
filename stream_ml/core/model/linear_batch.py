"""Runs of examples for linear models: the bits that `learn_one` leaves, in less than half of the time.

1. River walks a dict for each example and each step of a pipeline. Here a run is walked as a matrix: the scaler feature
   by feature, then the model example by example. Every operation on a number is River's, and so is their order.
2. Nothing changes before a run is through. Whatever is out of the ordinary (another class or setting, a feature that
   the model has not met, a number that is not finite) leaves the model as it was, and `learn_one` takes the run.
3. Proved and not believed: the runs numbered 1, 2, 4, 8 ... are learned by `learn_one` too, in a copy of the model. The
   first that comes out different is the last one that is tried.

Source of the arithmetic: River 0.26, `preprocessing.StandardScaler` and `linear_model.base.GLM` with `optim.SGD`.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SURELY_FINITE = 1e100  # a sum of magnitudes below it stays finite however it is rounded, and in whatever order
ROWS_MIN = 4  # taking a model's state and giving it back costs as much as two examples save

Column = npt.NDArray[Any]
Matrix = Sequence[Sequence[Any]]
"""Features of n examples, each a row of d values in the order of the names."""


class _State(NamedTuple):
    """What learning changes: of the scaler (0 examples where there is none), then of the linear model."""

    examples: int
    means: list[float]
    variances: list[float]
    weights: list[float]
    intercept: float
    iterations: int

    def finite(self) -> bool:
        """Whether all of it is finite floats."""
        numbers = (*self.means, *self.variances, *self.weights, self.intercept)
        return set(map(type, numbers)) == {float} and all(map(math.isfinite, numbers))

    def bits(self) -> tuple[Any, ...]:
        """For comparing."""
        numbers = (*self.means, *self.variances, *self.weights, self.intercept)
        return self.examples, self.iterations, [number.hex() for number in numbers]


class LinearRuns:
    """Learns runs of one estimator that `linear_runs` allows; `fallback_reason` says why it no longer does, if so."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self._scaler, self._model = _parts(estimator)
        self._run = 0
        self._probes: tuple[Any, list[float]] | None = None  # as they were given, and the largest of each feature
        self.fallback_reason = ""

    def learn(self, names: Sequence[str], rows: Matrix, ys: Sequence[Any]) -> bool:
        """Learn n examples, all or (False) none of them."""
        if len(rows) < ROWS_MIN or self.fallback_reason:
            return False
        before = self._taken(names)
        if before is None:
            return False
        try:
            after = self._walked(before, rows, ys)
            if not after.finite():
                return False
        except (ArithmeticError, TypeError, ValueError):  # `learn_one` finds at which example, and what it does of it
            return False
        self._run += 1
        if self._run & (self._run - 1) == 0 and not self._proved(names, rows, ys, after):
            return False
        self._give(names, after)
        return True

    def answers(self, names: Sequence[str], columns: Sequence[Column]) -> list[float] | None:
        """What the model answers to n events, as `predict_proba_one` or `predict_one` would; None: ask it one by one.

        Parameters
        ----------
        columns
            Of each feature n finite numbers. Taken a column at a time, the operations on each number are River's, in
            River's order.
        """
        state = self._taken(names)
        if state is None or self.fallback_reason or not state.finite():
            return None
        raw = np.zeros(len(columns[0]))
        means, deviations = state.means, [variance**0.5 for variance in state.variances]
        with np.errstate(all="ignore"):
            for number, (weight, column) in enumerate(zip(state.weights, columns, strict=True)):
                scaled = column
                if means:
                    scaled = column - means[number]
                if deviations:
                    deviation = deviations[number]
                    scaled = scaled / deviation if deviation else np.zeros(len(column))
                raw = raw + weight * scaled
            raw = raw + state.intercept
        return list(map(float, map(self._model.loss.mean_func, raw.tolist())))

    def surely_sound(self, probes: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the answers to these features are finite beyond doubt; False: ask the model itself."""
        names = list(self._model.weights)
        state = self._taken(names) if _has_finite_answers(self._model) else None
        if state is None or not state.finite() or min(state.variances, default=0.0) < 0:
            return False
        if self._probes is None or self._probes[0] is not probes:
            self._probes = probes, _largest(names, probes)
        most = abs(state.intercept)
        scales = zip(state.means or repeat(0.0), state.variances or repeat(1.0), strict=False)
        for weight, largest, (mean, variance) in zip(state.weights, self._probes[1], scales, strict=False):
            if variance:
                most += abs(weight) * (largest + abs(mean)) / variance**0.5
        return most < SURELY_FINITE

    def _taken(self, names: Sequence[str]) -> _State | None:
        """The state by feature; None where the model has met other features, or not all of them equally often."""
        scaler, weights = self._scaler, self._model.weights
        if len(weights) != len(names) or not weights.keys() >= set(names):
            return None
        own = [weights[name] for name in names]
        intercept, iterations = self._model.intercept, self._model.optimizer.n_iterations
        if scaler is None:
            return _State(0, [], [], own, intercept, iterations)
        counts = {scaler.counts.get(name) for name in names}
        if len(counts) > 1 or None in counts:
            return None
        means = [scaler.means[name] for name in names]
        variances = [scaler.vars[name] for name in names] if scaler.with_std else []
        return _State(counts.pop(), means, variances, own, intercept, iterations)

    def _walked(self, before: _State, rows: Matrix, ys: Sequence[Any]) -> _State:
        counts, means, variances = range(before.examples + 1, before.examples + 1 + len(rows)), [], []
        if self._scaler is not None:
            columns: list[list[float]] = []
            for number, column in enumerate(zip(*rows, strict=True)):
                if before.variances:
                    mean, variance, scaled = _scaled(column, counts, before.means[number], before.variances[number])
                    variances.append(variance)
                else:
                    mean, scaled = _centred(column, counts, before.means[number])
                means.append(mean)
                columns.append(scaled)
            rows = list(zip(*columns, strict=True))
        weights, intercept = _descended(self._model, before.weights, before.intercept, rows, ys)
        examples = before.examples + len(rows) if self._scaler is not None else 0
        return _State(examples, means, variances, weights, intercept, before.iterations + len(rows))

    def _give(self, names: Sequence[str], state: _State) -> None:
        model, scaler = self._model, self._scaler
        for name, weight in zip(names, state.weights, strict=True):
            model._weights[name] = weight  # noqa: SLF001 - `weights` is a copy
        model.intercept, model.optimizer.n_iterations = state.intercept, state.iterations
        if scaler is not None:
            for name in names:
                scaler.counts[name] = state.examples
            scaler.means.update(zip(names, state.means, strict=True))
            scaler.vars.update(zip(names, state.variances, strict=False))  # none without with_std

    def _proved(self, names: Sequence[str], rows: Matrix, ys: Sequence[Any], state: _State) -> bool:
        """Whether `learn_one` leaves the same; else never again."""
        try:
            other = LinearRuns(copy.deepcopy(self._estimator))
            for row, y in zip(rows, ys, strict=True):
                other._estimator.learn_one(dict(zip(names, row, strict=True)), y)
        except Exception as error:
            self.fallback_reason = f"a copy of it does not learn a run: {type(error).__name__}: {error}"
            return False
        theirs = other._taken(names)
        if theirs is not None and theirs.bits() == state.bits():
            return True
        self.fallback_reason = "a run and as many calls of learn_one leave different models"
        return False


def _scaled(
    column: Iterable[Any], counts: Iterable[int], mean: float, variance: float
) -> tuple[float, float, list[float]]:
    """One feature of a run: mean and variance after it, and each value as it stood right after it was learned."""
    found: list[float] = []
    add = found.append
    for value, count in zip(column, counts, strict=True):
        before = value - mean
        mean += before / count
        after = value - mean
        variance += (before * after - variance) / count
        add(after / variance**0.5 if variance else 0.0)
    return mean, variance, found


def _centred(column: Iterable[Any], counts: Iterable[int], mean: float) -> tuple[float, list[float]]:
    """A column as a scaler without a variance makes it, and the mean after it."""
    found: list[float] = []
    for value, count in zip(column, counts, strict=True):
        mean += (value - mean) / count
        found.append(value - mean)
    return mean, found


def _descended(
    model: Any, weights: list[float], intercept: float, rows: Matrix, ys: Iterable[Any]
) -> tuple[list[float], float]:
    """Weights and intercept after a step of gradient descent for each example.

    A product that `sum` adds up would not do: it compensates since Python 3.12, and River does not.
    """
    gradient: Callable[[Any, float], float] = model.loss.gradient
    rate, intercept_rate = model.optimizer.lr.learning_rate, model.intercept_lr.learning_rate
    clip, l2 = model.clip_gradient, model.l2
    for row, y in zip(rows, ys, strict=True):
        raw = 0.0
        for weight, value in zip(weights, row, strict=True):
            raw += weight * value
        slope = float(gradient(y, raw + intercept))
        if not -clip <= slope <= clip:
            slope = float(max(min(slope, clip), -clip))
        intercept -= intercept_rate * slope
        if l2:
            weights = [w - rate * (value * slope + l2 * w) for w, value in zip(weights, row, strict=True)]
        else:
            weights = [w - rate * (value * slope) for w, value in zip(weights, row, strict=True)]
    return weights, intercept


def _largest(names: Sequence[str], probes: Sequence[Mapping[str, Any]]) -> list[float]:
    """The largest magnitude of each feature; infinite where one is missing, is another, or is no number."""
    if any(len(probe) != len(names) for probe in probes):
        return [math.inf] * len(names)
    try:
        return [max(abs(float(probe[name])) for probe in probes) for name in names]
    except (KeyError, TypeError, ValueError, OverflowError):
        return [math.inf] * len(names)


def _has_finite_answers(model: Any) -> bool:
    """Whether its answer is a logistic function of the sum, or the sum."""
    return _is(model.loss, "optim.losses.Log") or _is(model.loss, "optim.losses.Squared")


def linear_runs(estimator: Any) -> LinearRuns | None:
    """For a linear model by stochastic gradient descent, its features scaled or not; None for every other estimator."""
    scaler, model = _parts(estimator)
    if model is None:
        return None
    usual = (
        _is(model.optimizer, "optim.sgd.SGD")
        and _is(model.optimizer.lr, "optim.schedulers.Constant")
        and _is(model.intercept_lr, "optim.schedulers.Constant")
        and type(model.loss).__module__ == "river.optim.losses"
        and not model.l1
    )
    return LinearRuns(estimator) if usual and (scaler is None or scaler.window_size is None) else None


def _parts(estimator: Any) -> tuple[Any, Any]:
    """Scaler (or None) and linear model; the latter None where it is something else."""
    steps = list(estimator.steps.values()) if _is(estimator, "compose.pipeline.Pipeline") else [estimator]
    *before, last = steps
    linear = _is(last, "linear_model.log_reg.LogisticRegression") or _is(last, "linear_model.lin_reg.LinearRegression")
    if not linear or len(before) > 1 or not all(_is(step, "preprocessing.scale.StandardScaler") for step in before):
        return None, None
    return (before[0] if before else None), last


def _is(found: Any, name: str) -> bool:
    """Whether it is of this very class of River's, which then need not be imported where it is not used."""
    return f"{type(found).__module__}.{type(found).__qualname__}" == f"river.{name}"
