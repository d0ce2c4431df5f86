"""``stream-ml check`` tells a model that grows without end from one that does not, before it runs."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from river import compose, forest, linear_model, neighbors, preprocessing, tree

from stream_ml.check.growth import LEARNED_MAX, Growth, Size, growth, growth_lines, limits_of
from stream_ml.storage.pickling import dumps
from tests.check.test_check import check, folder  # noqa: F401 - a fixture
from tests.support.inputs import domain_of

CHANCE = random.Random(1)
NUMBERS = [{"a": CHANCE.gauss(0, 1), "b": CHANCE.gauss(5, 3)} for _ in range(200)]
TEXTS = [{**numbers, "user": f"u{n}", "kind": "xyz"[n % 3]} for n, numbers in enumerate(NUMBERS)]


def one_hot() -> Any:
    texts = compose.Select("user", "kind") | preprocessing.OneHotEncoder()
    return (texts + compose.Select("a", "b")) | linear_model.LogisticRegression()


def found(build: Callable[[], Any], events: list[dict[str, Any]], texts: dict[str, int | None]) -> Growth:
    return growth(build, domain_of("binary"), events, lambda model: len(dumps(model)), texts)


ENDLESS = {
    "a one-hot of a user's id": (one_hot, TEXTS, {"user": None, "kind": None}),
    "Mondrian trees": (lambda: forest.AMFClassifier(seed=1), NUMBERS, {}),
}
ENDING = {
    "a linear model": (lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(), NUMBERS, {}),
    "neighbours of a window": (
        lambda: neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=200)),
        NUMBERS,
        {},
    ),
    "a one-hot of bounded ids": (one_hot, TEXTS, {"user": 50, "kind": None}),
    "a one-hot of few kinds": (one_hot, [{**row, "user": "u"} for row in TEXTS], {"user": None, "kind": None}),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_model_that_grows_without_end_is_told_from_others(name: str) -> None:
    measured = found(*ENDLESS[name])
    assert measured.bytes_each > 0
    (first, *_) = growth_lines(measured, 10**9, 100.0, "the samples")
    assert first.startswith("note  the model grows with what it learns") and "days at 100 labels/s" in first


@pytest.mark.parametrize("name", ENDING)
def test_a_model_that_comes_to_an_end_of_growing_is_no_problem(name: str) -> None:
    measured = found(*ENDING[name])
    assert measured.bytes_each == 0
    assert not [line for line in growth_lines(measured, 10**9, None, "the samples") if "the model grows" in line]


def test_a_model_that_gets_slower_is_told_with_both_figures() -> None:
    sizes = [Size(250, 1_000, 10.0), Size(500, 1_000, 25.0), Size(1_000, 1_000, 45.0)]
    (line,) = growth_lines(Growth(sizes, []), 10**9, None, "the samples")
    assert "10 us an example at first, 45 after 1,000 examples of the samples" in line
    assert "nothing in this model bounds that" in line


def test_a_model_too_slow_to_be_told_is_said_to_be() -> None:
    (line,) = growth_lines(Growth([Size(250, 1_000, 20_000.0)], []), 10**9, None, "the samples")
    assert "cannot be told: it learned 250 examples" in line


def test_what_is_tried_stays_within_what_the_samples_say() -> None:
    def careful() -> Any:
        prices = compose.Select("price") | compose.FuncTransformer(logarithms)
        return compose.TargetTransformRegressor(prices | linear_model.LinearRegression(), math.log1p, math.expm1)

    prices = [{"price": 1.0 + number} for number in range(50)]
    measured = growth(careful, domain_of("regression"), prices, lambda model: 1_000, {})
    assert measured.sizes[-1].examples == LEARNED_MAX


def logarithms(x: dict[str, Any]) -> dict[str, Any]:
    """Of what is above 0 alone."""
    return {name: math.log(value) for name, value in x.items()}


def test_a_tree_of_whole_numbers_is_given_labels_that_follow_from_them() -> None:
    counts = [{"a": number % 40, "b": number % 7} for number in range(200)]
    measured = found(tree.HoeffdingTreeClassifier, counts, {})
    assert measured.sizes[-1].bytes > 2 * measured.sizes[0].bytes


def test_rivers_own_limits_are_named_with_their_values() -> None:
    trees = preprocessing.OneHotEncoder(drop_zeros=True) | tree.HoeffdingTreeClassifier(max_depth=9, max_size=50)
    assert limits_of(trees) == [
        "OneHotEncoder.drop_zeros=True",
        "HoeffdingTreeClassifier.max_depth=9",
        "HoeffdingTreeClassifier.max_size=50",
        "HoeffdingTreeClassifier.memory_estimate_period=1000000",
    ]


def test_check_says_whether_the_model_grows(folder: Path) -> None:  # noqa: F811
    said = check(folder, "--set", "features.exclude=[place]").output
    assert "the model comes to an end of growing" in said and "examples of made-up events" in said


def test_check_says_what_made_up_events_do_not_show(folder: Path) -> None:  # noqa: F811
    said = check(
        folder, "--set", "features.include=[x, place]", "--set", "model.factory=river.dummy:NoChangeClassifier"
    )
    assert "few different texts of place: model.samples would show more" in said.output, said.output
