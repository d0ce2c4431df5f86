"""Replay beside River: for each data set that ships and each kind of delay the same scores, order and number."""

import datetime
import functools
import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import (
    compose,
    datasets,
    evaluate,
    linear_model,
    metrics,
    multioutput,
    preprocessing,
    stream,
    tree,
)

from stream_ml.core.evaluation.timeline import questions_and_answers
from stream_ml.offline.replay.river_score import progressive_answers, progressive_val_score

LAW = settings(max_examples=60, deadline=None, derandomize=True, database=None)
ROWS = 300
KINDS: dict[str, tuple[Any, Any]] = {
    "none": (None, None),
    "constant": (None, 30),
    "callable": (lambda x: x["at"], lambda x, y: datetime.timedelta(seconds=(x["n"] * 7919) % 500)),
    "field": ("at", "late"),
}


def shipped() -> dict[str, Any]:
    """Every data set that comes with River, and needs no download."""
    found = {name: made() for name, made in inspect.getmembers(datasets, inspect.isclass)}
    return {name: one for name, one in found.items() if not isinstance(one, datasets.base.RemoteDataset)}


def model_of(one: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A model and a metric for a data set's task."""
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    if one.task == "Regression":
        return lambda: numbers.clone() | linear_model.LinearRegression(intercept_lr=0.1), metrics.MAE
    if one.task == "Binary classification":
        return lambda: numbers.clone() | linear_model.LogisticRegression(), metrics.LogLoss
    if one.task == "Multi-class classification":
        return lambda: tree.HoeffdingTreeClassifier(grace_period=50), metrics.MacroF1
    if one.task == "Multi-output regression":
        inner = numbers.clone() | linear_model.LinearRegression(intercept_lr=0.1)
        return lambda: multioutput.RegressorChain(inner.clone()), lambda: metrics.multioutput.MicroAverage(
            metrics.MAE()
        )
    inner = numbers.clone() | linear_model.LogisticRegression()
    return lambda: multioutput.ClassifierChain(inner.clone()), metrics.multioutput.ExactMatch


@functools.cache
def first_rows(name: str) -> list[tuple[dict[str, Any], Any]]:
    """Read whole, so that River closes its file."""
    one = shipped()[name]
    return list(one)[: ROWS // 5 if one.task.startswith("Multi-output") else ROWS]  # a chain of fourteen models


def timed(name: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Its first rows, with a moment and a delay among their features, some alike."""
    began = datetime.datetime(2026, 1, 1)  # noqa: DTZ001 - River's own have no zone
    for number, (x, y) in enumerate(first_rows(name)):
        at = began + datetime.timedelta(seconds=number // 3 * 60)
        yield {**x, "n": number, "at": at, "late": datetime.timedelta(seconds=(number * 7919) % 500)}, y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", shipped())
def test_every_data_set_gives_rivers_scores_and_rivers_number(name: str, kind: str) -> None:
    one = shipped()[name]
    (build, measure), (moment, delay) = model_of(one), KINDS[kind]
    theirs = evaluate.progressive_val_score(timed(name), build(), measure(), moment=moment, delay=delay)
    ours = progressive_val_score(timed(name), build(), measure(), moment, delay)
    assert ours.get() == theirs.get()
    model, order, scores = build(), list[tuple[int, bool]](), dict[int, Any]()
    asks = getattr(model, "predict_proba_one", model.predict_one)
    for number, x, y in stream.simulate_qa(timed(name), moment, delay):
        order.append((number, y is not None))
        if y is None:
            scores[number] = model.predict_one(x) if getattr(measure(), "requires_labels", True) else asks(x)
        else:
            model.learn_one(x, y)
    assert [(n, is_answer) for n, _, _, is_answer in questions_and_answers(timed(name), moment, delay)] == order
    own = {n: said for n, _, said in progressive_answers(timed(name), build(), measure(), moment, delay)}
    assert repr(own) == repr({n: scores[n] for n in own}) and len(own) == len(scores)


@LAW
@given(
    moments=st.lists(st.integers(0, 12), max_size=40),
    delays=st.lists(st.integers(0, 9), min_size=40, max_size=40),
    constant=st.one_of(st.none(), st.integers(0, 9)),
)
def test_the_order_is_rivers_also_where_times_run_backwards(
    moments: list[int], delays: list[int], constant: int | None
) -> None:
    rows = [({"t": t, "d": d}, True) for t, d in zip(moments, delays, strict=False)]
    delay: Any = "d" if constant is None else constant
    if delay == "d" and moments != sorted(moments):
        moments.sort()  # a queue that is sorted at its insertion is none where a label is due before it was taken
        rows = [({"t": t, "d": d}, True) for t, d in zip(moments, delays, strict=False)]
    theirs = [(number, y is not None) for number, _, y in stream.simulate_qa(rows, "t", delay)]
    ours = [(number, is_answer) for number, _, _, is_answer in questions_and_answers(rows, "t", delay)]
    assert ours == theirs


def test_of_labels_that_are_due_at_once_the_one_of_the_earlier_event_comes_first() -> None:
    """Not the one whose row comes first: its label may have been written later."""
    rows = [({"t": 0, "d": 10}, 1), ({"t": 5, "d": 5}, 2), ({"t": 1, "d": 9}, 3), ({"t": 20, "d": 0}, 4)]
    answers = [number for number, _, _, is_answer in questions_and_answers(rows, "t", "d") if is_answer]
    assert answers == [0, 1, 2, 3]


def test_random_streams_are_in_rivers_order() -> None:
    chance = random.Random(4)
    for _ in range(300):
        times = sorted(chance.choices(range(20), k=30)) if chance.random() < 0.5 else chance.choices(range(20), k=30)
        rows = [({"t": t, "d": chance.randrange(8)}, True) for t in times]
        for delay in ("d", 5, lambda x, _: x["d"]):
            theirs = [(number, y is not None) for number, _, y in stream.simulate_qa(rows, "t", delay)]
            ours = [(number, is_answer) for number, _, _, is_answer in questions_and_answers(rows, "t", delay)]
            assert ours == theirs, (rows, delay)
