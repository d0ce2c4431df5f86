"""Contributions add up to the score: exactly where that is said, for every kind of model that says it."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from river import compose, forest, linear_model, naive_bayes, neighbors, preprocessing, tree

from stream_ml.core.model.contributions import NothingToSay, contributions
from tests.support.partition import parts


def rows(count: int, task: str) -> list[tuple[dict[str, Any], Any]]:
    chance = random.Random(3)
    found = []
    for _ in range(count):
        x = {"a": chance.gauss(0, 2), "b": chance.gauss(1, 1), "kind": chance.choice("uvw")}
        score = x["a"] - x["b"] + (x["kind"] == "u")
        y: Any = score > 0
        if task == "multiclass":
            y = "low" if score < -1 else "mid" if score < 1 else "high"
        found.append((x, 2 * score + 1 if task == "regression" else y))
    return found


def union() -> Any:
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    return numbers + (compose.SelectType(str) | preprocessing.OneHotEncoder())


MODELS: dict[str, tuple[str, Callable[[], Any], str, str]] = {
    "linear": ("binary", lambda: union() | linear_model.LogisticRegression(), "log odds", "linear"),
    "linear value": ("regression", lambda: union() | linear_model.LinearRegression(), "value", "linear"),
    "naive Bayes": ("binary", lambda: compose.SelectType(float) | naive_bayes.GaussianNB(), "log odds", "naive Bayes"),
    "tree": ("binary", lambda: tree.HoeffdingTreeClassifier(grace_period=50), "probability", "path"),
    "tree of counts": (
        "binary",
        lambda: tree.HoeffdingTreeClassifier(grace_period=50, leaf_prediction="mc"),
        "probability",
        "path",
    ),
    "tree of classes": ("multiclass", lambda: tree.HoeffdingTreeClassifier(grace_period=50), "probability", "path"),
    "tree value": (
        "regression",
        lambda: compose.SelectType(float) | tree.HoeffdingTreeRegressor(grace_period=50),
        "value",
        "path",
    ),
    "forest": ("binary", lambda: forest.ARFClassifier(n_models=5, seed=1), "probability", "mean of paths"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_add_up_to_the_score(name: str) -> None:
    task, build, of, how = MODELS[name]
    domain, model, some = parts(task).domain, build(), rows(900, task)
    for x, y in some:
        model.learn_one(x, y)
    seen = 0
    for x, _ in some[:60]:
        found = contributions(model, x, domain)
        assert (found.of, found.how) == (of, how)
        assert found.is_exact, found
        assert abs(math.fsum([found.base, *(part.adds for part in found.parts)]) - found.total) < 1e-9
        if task == "regression":
            assert found.total == pytest.approx(model.predict_one(x), abs=1e-12)
        elif found.of == "log odds":
            assert 1 / (1 + math.exp(-found.total)) == pytest.approx(model.predict_proba_one(x)[True], abs=1e-9)
        else:
            said = model.predict_proba_one(x)
            wanted = True if task == "binary" else max(sorted(said), key=lambda one: said[one])
            assert found.total == pytest.approx(said[wanted], abs=1e-12)
        seen += len(found.parts)
    assert seen > 60


def test_a_model_of_no_known_kind_is_ablated_and_never_called_exact() -> None:
    domain, model = parts().domain, compose.SelectType(float) | neighbors.KNNClassifier(n_neighbors=5)
    for x, y in rows(300, "binary"):
        model.learn_one(x, y)
    found = contributions(model, rows(1, "binary")[0][0], domain)
    assert found.how == "ablation" and not found.is_exact and {part.name for part in found.parts} >= {"a", "b"}


def test_a_value_that_no_split_knows_takes_the_path_of_most_as_the_tree_does() -> None:
    domain, model = parts().domain, tree.HoeffdingTreeClassifier(grace_period=50, binary_split=True)
    for x, y in rows(900, "binary"):
        model.learn_one(x, y)
    x = {"a": 1.0}
    assert contributions(model, x, domain).total == pytest.approx(model.predict_proba_one(x)[True])


def test_a_cold_model_has_nothing_to_say() -> None:
    with pytest.raises(NothingToSay):
        contributions(forest.ARFClassifier(n_models=3, seed=1), {"a": 1.0}, parts("multiclass").domain)


def test_asking_changes_nothing() -> None:
    domain, model = parts().domain, union() | linear_model.LogisticRegression()
    for x, y in rows(200, "binary"):
        model.learn_one(x, y)
    before = model.predict_proba_one(rows(1, "binary")[0][0])
    contributions(model, rows(1, "binary")[0][0], domain)
    assert model.predict_proba_one(rows(1, "binary")[0][0]) == before
