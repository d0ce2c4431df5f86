"""A model in the formats of others says what River says: ONNX by onnxruntime, MLflow by MLflow."""

import json
import numbers
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from river import compose, linear_model, naive_bayes, optim, preprocessing, tree

from stream_ml.core.model.contributions import contributions
from stream_ml.errors import ConfigError
from stream_ml.offline.formats.formula import formula_of
from stream_ml.offline.formats.onnx_model import to_onnx
from stream_ml.offline.formats.plain_model import to_plain
from tests.support.partition import parts

KINDS = {"a": "number", "b": "number", "n": "number", "kind": "text", "is_new": "boolean"}


def rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {
            "a": chance.gauss(0, 3),
            "b": chance.uniform(-1, 1) * 1e-3,
            "n": chance.randrange(50),
            "kind": chance.choice(("u", "v_1", "w w", "é", "")),
            "is_new": chance.random() < 0.3,
        }
        for _ in range(count)
    ]


def y_of(x: dict[str, Any]) -> bool:
    return bool(x["a"] + (x["kind"] == "u") - x["n"] / 25 > 0)


def union() -> Any:
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    return numbers + (compose.Select("kind") | preprocessing.OneHotEncoder())


LINEAR: dict[str, Callable[[], Any]] = {
    "scaled and one-hot": lambda: union() | linear_model.LogisticRegression(),
    "nested": lambda: compose.Pipeline(compose.Discard("is_new"), union(), linear_model.LogisticRegression(l2=0.01)),
    "bare numbers": lambda: compose.Select("a", "b") | linear_model.LogisticRegression(),
    "without deviations": lambda: (
        compose.Select("a", "n") | preprocessing.StandardScaler(with_std=False) | linear_model.LogisticRegression()
    ),
}


def answers(model: bytes, some: list[dict[str, Any]]) -> dict[str, Any]:
    """What onnxruntime says of rows."""
    session = onnxruntime.InferenceSession(model)
    given = {
        one.name: np.array([row[one.name] for row in some], object if KINDS[one.name] == "text" else np.float64)
        for one in session.get_inputs()
    }
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_model_is_equal_to_rivers_in_onnx(name: str) -> None:
    domain, model = parts().domain, LINEAR[name]()
    for x in rows(700):
        model.learn_one(x, y_of(x))
    some = [*rows(200, seed=5), {**rows(1)[0], "kind": "never seen"}]
    found = answers(to_onnx(formula_of(model, KINDS, domain), KINDS, domain, {"app": "x"}), some)
    expected = [model.predict_proba_one(x)[True] for x in some]
    np.testing.assert_allclose(found["score"], expected, rtol=1e-12, atol=1e-12)
    assert list(found["class"]) == [domain.positive if one >= 0.5 else domain.negative for one in expected]


def test_a_regression_is_equal_to_rivers_in_onnx() -> None:
    domain = parts("regression").domain
    model = union() | linear_model.LinearRegression(intercept_lr=0.1)
    for x in rows(500):
        model.learn_one(x, 3.0 * x["a"] + x["n"])
    some = rows(100, seed=3)
    found = answers(to_onnx(formula_of(model, KINDS, domain), KINDS, domain, {}), some)
    np.testing.assert_allclose(found["value"], [model.predict_one(x) for x in some], rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("learned", [0, 2_000])
def test_a_tree_with_majority_leaves_is_equal_to_rivers_in_onnx(learned: int) -> None:
    domain = parts().domain
    model = tree.HoeffdingTreeClassifier(
        grace_period=50, leaf_prediction="mc", binary_split=True, nominal_attributes=["kind"]
    )
    for x in rows(learned):
        model.learn_one(x, y_of(x))
    some = rows(200, seed=5)
    found = answers(to_onnx(formula_of(model, KINDS, domain), KINDS, domain, {}), some)
    expected = [model.predict_proba_one(x).get(True, 0.0) for x in some]
    np.testing.assert_allclose(found["score"], expected, rtol=1e-12, atol=1e-12)
    assert not learned or model.n_branches > 0


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: compose.SelectType(float) | naive_bayes.GaussianNB(), "GaussianNB has no form"),
        (tree.HoeffdingTreeClassifier, "leaves are models"),
        (
            lambda: compose.Select("a") | preprocessing.MinMaxScaler() | linear_model.LogisticRegression(),
            "MinMaxScaler",
        ),
        (
            lambda: compose.Select("a") | preprocessing.OneHotEncoder() | linear_model.LogisticRegression(),
            "which is no text",
        ),
        (lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(), "StandardScaler"),
    ],
)
def test_what_has_no_form_is_refused_by_its_name(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        formula_of(build(), KINDS, parts().domain)


class Halved(linear_model.LogisticRegression):
    """Answers otherwise than its weights say."""

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        said = super().predict_proba_one(x)
        return {name: value / 2 for name, value in said.items()}


def test_models_that_only_look_linear_are_refused_and_never_explained_as_such() -> None:
    domain, selected = parts().domain, compose.Select("a", "n")
    poisson = selected | linear_model.LinearRegression(loss=optim.losses.Poisson())
    for model, task in ((selected | Halved(), "binary"), (poisson, "regression")):
        for x in rows(200):
            model.learn_one(x, y_of(x) if task == "binary" else 1.0)
        with pytest.raises(ConfigError, match="has no form"):
            formula_of(model, KINDS, domain)
        explained = contributions(model, rows(1)[0], parts(task).domain)
        assert explained.how == "ablation" and not explained.is_exact


def test_names_that_mean_two_things_are_refused() -> None:
    domain, model = parts().domain, linear_model.LogisticRegression()
    twice = (compose.Select("a") | preprocessing.StandardScaler()) + compose.Select("a", "b")
    with pytest.raises(ConfigError, match="two branches of a union give a"):
        formula_of(twice | model, KINDS, domain)
    kinds = {"a": "text", "a_b": "text"}
    both = preprocessing.OneHotEncoder() | linear_model.LogisticRegression()
    both.learn_one({"a": "b_c", "a_b": "c"}, True)
    with pytest.raises(ConfigError, match="may be a value of"):
        formula_of(both, kinds, domain)
    with pytest.raises(ConfigError, match="a feature is named score"):
        to_onnx(0.5, {"score": "number"}, domain, {})


def test_a_selection_by_an_abstract_type_is_the_one_of_river() -> None:
    domain = parts().domain
    model = compose.SelectType(numbers.Number) | preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for x in rows(300):
        model.learn_one(x, y_of(x))
    some = rows(50, seed=2)
    found = answers(to_onnx(formula_of(model, KINDS, domain), KINDS, domain, {}), some)
    expected = [model.predict_proba_one(x)[True] for x in some]
    np.testing.assert_allclose(found["score"], expected, rtol=1e-12, atol=1e-12)


def test_json_holds_weights_means_and_trees_and_is_json() -> None:
    model = union() | linear_model.LogisticRegression()
    trees = tree.HoeffdingTreeClassifier(grace_period=50)
    for x in rows(1_500):
        model.learn_one(x, y_of(x))
        trees.learn_one(x, y_of(x))
    said = json.loads(json.dumps(to_plain(model)))
    text = json.dumps(said)
    assert '"weights"' in text and '"means"' in text and "kind_u" in text
    plain = json.loads(json.dumps(to_plain(trees)))
    assert plain["tree"]["children"][0]["when"]
