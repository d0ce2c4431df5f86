"""Runs of linear models leave the bits that `learn_one` leaves, or nothing; all else goes one by one."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import compose, linear_model, optim, preprocessing

from stream_ml.core.model import linear_batch as module
from stream_ml.core.model.estimator import Learner, bits
from stream_ml.core.model.linear_batch import ROWS_MIN, LinearRuns, linear_runs
from tests.support.catalogue import CATALOGUE
from tests.support.inputs import domain_of
from tests.support.partition import content

LAW = settings(max_examples=60, deadline=None, derandomize=True, database=None)
NAMES = ["a", "b", "c"]
LOGISTIC: dict[str, Callable[[], Any]] = {
    "as it comes": linear_model.LogisticRegression,
    "l2 and a fast intercept": lambda: linear_model.LogisticRegression(optim.SGD(0.3), l2=0.1, intercept_lr=0.5),
    "clipped": lambda: linear_model.LogisticRegression(optim.SGD(1.0), clip_gradient=0.3),
    "weighted": lambda: linear_model.LogisticRegression(loss=optim.losses.Log(weight_pos=3, weight_neg=0.5)),
    "hinge": lambda: linear_model.LogisticRegression(loss=optim.losses.Hinge()),
}
LINEAR: dict[str, Callable[[], Any]] = {
    "squared": linear_model.LinearRegression,
    "absolute": lambda: linear_model.LinearRegression(loss=optim.losses.Absolute(), intercept_init=2.0),
}
SCALED: dict[str, Callable[[Any], Any]] = {
    "raw": lambda model: model,
    "scaled": lambda model: preprocessing.StandardScaler() | model,
    "centred": lambda model: preprocessing.StandardScaler(with_std=False) | model,
}
VALUES = st.one_of(
    st.floats(-1e3, 1e3),
    st.sampled_from((0.0, -0.0, 1e-300, -1e12, 0.1 + 0.2)),
    st.integers(-(2**60), 2**60),
    st.booleans(),
)


def learned(estimator: Any, rows: Sequence[Sequence[Any]], ys: Sequence[Any]) -> Any:
    for row, y in zip(rows, ys, strict=True):
        estimator.learn_one(dict(zip(NAMES, row, strict=True)), y)
    return estimator


def gauss(count: int, seed: int = 1) -> tuple[list[list[Any]], list[bool]]:
    """Rows of numbers of every type, and labels that they tell something about."""
    chance = random.Random(seed)
    rows = [[chance.gauss(3, 2), chance.randrange(1000), chance.random() < 0.5] for _ in range(count)]
    return rows, [row[0] + row[2] > 3.5 for row in rows]


def runs_of(estimator: Any) -> LinearRuns:
    found = linear_runs(estimator)
    assert found is not None
    return found


@pytest.mark.parametrize("scaling", SCALED)
@pytest.mark.parametrize("model", [*LOGISTIC, *LINEAR])
def test_runs_leave_the_very_model_that_learn_one_leaves(scaling: str, model: str) -> None:
    def build() -> Any:
        return SCALED[scaling]((LOGISTIC | LINEAR)[model]())

    rows, labels = gauss(400)
    if scaling == "raw":
        rows = [[row[0], row[1] / 1000, row[2]] for row in rows]
    ys: list[Any] = [float(y) for y in labels] if model in LINEAR else list(labels)
    alone, by_runs = learned(build(), rows, ys), learned(build(), rows[:3], ys[:3])
    runs = runs_of(by_runs)
    for first in range(3, 400, 29):
        assert runs.learn(NAMES, rows[first : first + 29], ys[first : first + 29])
    assert content(by_runs) == content(alone)
    assert not runs.fallback_reason


@LAW
@given(st.data())
def test_runs_of_any_numbers_leave_what_learn_one_leaves_or_nothing(data: st.DataObject) -> None:
    scaling, model = data.draw(st.sampled_from(list(SCALED))), data.draw(st.sampled_from(list(LOGISTIC)))
    rows = data.draw(st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=2 + ROWS_MIN, max_size=40))
    ys = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    first = data.draw(st.integers(1, 2))
    found = []
    for by_runs in (False, True):
        estimator = learned(SCALED[scaling](LOGISTIC[model]()), rows[:first], ys[:first])
        before, left = content(estimator), (rows[first:], ys[first:])
        if by_runs and not runs_of(estimator).learn(NAMES, *left):
            assert content(estimator) == before
        if not by_runs or content(estimator) == before:
            learned(estimator, *left)
        found.append(content(estimator))
    assert found[0] == found[1]


def test_what_is_out_of_the_ordinary_leaves_the_model_as_it_was() -> None:
    rows, ys = gauss(ROWS_MIN)

    def refused(rows: Sequence[Sequence[Any]], *, names: Sequence[str] = NAMES, taught: int = 40) -> bool:
        estimator = learned(SCALED["scaled"](linear_model.LogisticRegression()), *gauss(taught))
        before = content(estimator)
        return not runs_of(estimator).learn(names, rows, ys[: len(rows)]) and content(estimator) == before

    assert not refused(rows)
    assert refused(rows[:-1]), "too few to be worth it"
    assert refused(rows, taught=0), "features that the model has not met"
    assert refused(rows, names=["a", "b", "d"])
    assert refused([row[:2] for row in rows], names=["a", "b"])
    assert refused([*rows[:-1], [1.0, "text", True]])
    assert refused([*rows[:-1], [1.0, 10**400, True]])
    assert refused([*rows[:-1], [math.inf, 1, True]])


def test_a_feature_that_was_missing_now_and_then_is_left_to_learn_one() -> None:
    estimator = learned(SCALED["scaled"](linear_model.LogisticRegression()), *gauss(40))
    estimator.learn_one({"a": 1.0, "b": 2}, True)
    assert not runs_of(estimator).learn(NAMES, *gauss(ROWS_MIN))


class Own(linear_model.LogisticRegression):
    """A model of somebody's own may learn otherwise."""


class OwnScaler(preprocessing.StandardScaler):
    """And a step as well."""


@pytest.mark.parametrize(
    "estimator",
    [
        Own(),
        OwnScaler() | linear_model.LogisticRegression(),
        linear_model.LogisticRegression(l1=0.1),
        linear_model.LogisticRegression(optim.Adam()),
        linear_model.LogisticRegression(optim.SGD(optim.schedulers.InverseScaling(0.1))),
        linear_model.LogisticRegression(intercept_lr=optim.schedulers.InverseScaling(0.1)),
        preprocessing.StandardScaler(window_size=5) | linear_model.LogisticRegression(),
        preprocessing.MinMaxScaler() | linear_model.LogisticRegression(),
        preprocessing.StandardScaler() | preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        compose.Select("a") | linear_model.LogisticRegression(),
        (preprocessing.StandardScaler() + preprocessing.MinMaxScaler()) | linear_model.LogisticRegression(),
        linear_model.Perceptron(),
        preprocessing.StandardScaler(),
    ],
    ids=str,
)
def test_every_other_model_learns_one_by_one(estimator: Any) -> None:
    assert linear_runs(estimator) is None


def test_a_run_that_comes_out_different_is_not_taken_and_no_other_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of River, or of a processor, may add up otherwise."""
    descended = module._descended

    def otherwise(*told: Any) -> tuple[list[float], float]:
        weights, intercept = descended(*told)
        return [math.nextafter(weights[0], 1.0), *weights[1:]], intercept

    monkeypatch.setattr(module, "_descended", otherwise)
    rows, ys = gauss(100)
    estimator = learned(linear_model.LogisticRegression(), rows[:40], ys[:40])
    before, runs = content(estimator), runs_of(estimator)
    assert not runs.learn(NAMES, rows[40:], ys[40:])
    assert content(estimator) == before
    assert "different models" in runs.fallback_reason
    monkeypatch.undo()
    assert not runs.learn(NAMES, rows[40:], ys[40:])


def test_a_model_that_cannot_be_copied_learns_one_by_one() -> None:
    class Once(optim.initializers.Zeros):
        """Nothing copies a generator."""

        def __init__(self) -> None:
            super().__init__()
            self.numbers = (number for number in range(3))

    rows, ys = gauss(100)
    estimator = learned(linear_model.LogisticRegression(initializer=Once()), rows[:40], ys[:40])
    learner = Learner(estimator, CATALOGUE["scaled logistic"].domain)
    assert learner.learn_in_order(NAMES, rows[40:], ys[40:]) == (60, None)
    assert "generator" in learner.fallback_reason
    assert content(estimator.weights) == content(learned(linear_model.LogisticRegression(), rows, ys).weights)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_learner_learns_many_as_it_learns_one_by_one(name: str) -> None:
    given = CATALOGUE[name]
    if given.domain.task == "regression":
        ys: list[Any] = [float(y) for y in gauss(100)[1]]
    else:
        ys = [y if given.domain.task == "binary" else given.domain.classes[y] for y in gauss(100)[1]]
    rows = [[float(value) for value in row] for row in gauss(100)[0]]
    found = []
    for sizes in (1, 30):
        learner = Learner(given.build(), given.domain)
        for first in range(0, 100, sizes):
            count, failed = learner.learn_in_order(NAMES, rows[first : first + sizes], ys[first : first + sizes])
            assert (count, failed) == (len(rows[first : first + sizes]), None)
        found.append([learner.score_one(dict(zip(NAMES, row, strict=True))) for row in rows[:20]])
    assert found[0] == found[1]


def test_where_the_model_raises_in_a_run_the_examples_before_it_are_learned() -> None:
    rows, ys = gauss(60)
    rows[50] = [1.0, "text", True]
    learner = Learner(SCALED["scaled"](linear_model.LogisticRegression()), CATALOGUE["scaled logistic"].domain)
    assert learner.learn_in_order(NAMES, rows[:40], ys[:40]) == (40, None)
    count, failed = learner.learn_in_order(NAMES, rows[40:], ys[40:])
    assert count == 10
    assert "TypeError" in str(failed)


@pytest.mark.parametrize("scaling", SCALED)
@pytest.mark.parametrize("model", [linear_model.LogisticRegression, linear_model.LinearRegression])
def test_a_model_of_usual_numbers_is_sound_without_being_asked(scaling: str, model: Callable[[], Any]) -> None:
    estimator = learned(SCALED[scaling](model()), *gauss(40))
    runs, probes = runs_of(estimator), [dict(zip(NAMES, row, strict=True)) for row in gauss(16, 2)[0]]
    assert runs.surely_sound(probes)
    assert not runs.surely_sound([*probes, {**probes[0], "a": 1e300}])
    assert not runs.surely_sound([*probes, {**probes[0], "a": "text"}])
    assert not runs.surely_sound([*probes, {"a": 1.0}])
    assert not runs.surely_sound([*probes, {**probes[0], "d": "text"}]), "a step of the pipeline may stumble over it"
    assert runs.surely_sound(probes)
    if scaling == "scaled":
        estimator["StandardScaler"].vars["a"] = -1e-9
        assert not runs.surely_sound(probes), "of which the root is no number"


@pytest.mark.parametrize("corrupted", [math.nan, math.inf, 1e200])
def test_a_model_with_a_number_that_is_none_is_asked(corrupted: float) -> None:
    estimator = learned(preprocessing.StandardScaler() | linear_model.LogisticRegression(), *gauss(40))
    probes = [dict(zip(NAMES, row, strict=True)) for row in gauss(16, 2)[0]]
    estimator["LogisticRegression"].intercept = corrupted
    assert not runs_of(estimator).surely_sound(probes)
    learner = Learner(estimator, CATALOGUE["scaled logistic"].domain)
    assert learner.sound(probes) == math.isfinite(learner.estimator.predict_proba_one(probes[0])[True])


def test_a_loss_whose_answer_is_not_known_is_asked() -> None:
    estimator = learned(linear_model.LogisticRegression(loss=optim.losses.Hinge()), *gauss(40))
    assert not runs_of(estimator).surely_sound([dict(zip(NAMES, row, strict=True)) for row in gauss(16)[0]])


COLUMNS = st.lists(
    st.tuples(st.floats(-1e18, 1e18), st.integers(-(2**53), 2**53), st.sampled_from((0.0, -0.0, 5e-324, 0.1))),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize("scaling", SCALED)
@pytest.mark.parametrize("model", [*LOGISTIC, *LINEAR])
@LAW
@given(rows=COLUMNS, count=st.integers(0, 60))
def test_columns_are_scored_to_the_bit_as_each_event_is(scaling: str, model: str, rows: Any, count: int) -> None:
    domain = domain_of("regression" if model in LINEAR else "binary")
    learner = Learner(learned(SCALED[scaling]((LOGISTIC | LINEAR)[model]()), *gauss(count)), domain)
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    found = learner.score_columns(NAMES, columns)
    expected = [bits(learner.score_one(dict(zip(NAMES, row, strict=True)))) for row in rows]
    assert found is None or [bits(one) for one in found] == expected
    assert found is not None or not count or learner.fallback_reason or model == "hinge" or "nan" in str(expected)


def test_a_model_that_raises_for_one_of_the_columns_is_asked_one_by_one() -> None:
    """An exponential is no number beyond 709: one event of the request is wrong, and no runner of jobs dies of it."""
    estimator = learned(linear_model.LinearRegression(loss=optim.losses.Poisson()), *gauss(5))
    learner = Learner(estimator, domain_of("regression"))
    for first, second in ((1.0, 1e6), (1e6, 1.0)):
        columns = [np.array([first, second]), np.array([2, 2]), np.array([0.0, 0.0])]
        assert learner.score_columns(NAMES, columns) is None and not learner.fallback_reason
    assert learner.score_columns(NAMES, [column[1:] for column in columns]) is not None


def test_a_model_whose_columns_come_out_otherwise_is_asked_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = domain_of("binary")
    learner = Learner(learned(SCALED["scaled"](linear_model.LogisticRegression()), *gauss(50)), domain)
    monkeypatch.setattr(LinearRuns, "answers", lambda self, names, columns: [0.25] * len(columns[0]))
    columns = [np.array([1.0, 2.0]), np.array([3, 4]), np.array([0.0, 1.0])]
    assert learner.score_columns(NAMES, columns) is None and "different answers" in learner.fallback_reason
