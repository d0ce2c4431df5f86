"""What each feature adds to a prediction.

=====================  =============  =====================================================================
model                  of             how
=====================  =============  =====================================================================
linear                 log odds,      weight times value behind the pipeline's own transformers; exact
                       value
Gaussian naive Bayes   log odds       difference of the log densities of two classes, and of their priors; exact
Hoeffding tree         probability,   what each split on the path changes in the share of the class (or the
                       value          mean), and what the leaf makes of it; exact
forest of these        the same       mean over its trees, weighted as it votes
any other              probability,   how it answers without the feature; called ablation: contributions of
                       value          features that belong together do not add up
=====================  =============  =====================================================================

Sources: River's `_raw_dot_one`, `joint_log_likelihood` and `walk`; the path of a tree: Saabas 2014.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from river import base, compose, forest, linear_model, naive_bayes, optim, tree
from river.tree.nodes.branch import DTBranch

from stream_ml.core.inputs.label_domain import LabelDomain

EXACT = 1e-9  # how far a sum may be from the score of what is called exact
_TREES = (tree.HoeffdingTreeClassifier, tree.HoeffdingTreeRegressor)
_FORESTS = (forest.ARFClassifier, forest.ARFRegressor)


class Part(NamedTuple):
    """What one feature adds.

    Parameters
    ----------
    name
        As the model knows it: `kind_b` behind a one-hot encoder, or the condition of a split.
    value
        As the model got it.
    adds
        To the log odds, the probability or the value.
    """

    name: str
    value: Any
    adds: float


class Contributions(NamedTuple):
    """A prediction as a sum.

    Parameters
    ----------
    of
        log odds, probability or value.
    how
        linear, naive Bayes, path, mean of paths, or ablation.
    base
        What there is without any feature.
    total
        What the model says, in the same unit.
    is_exact
        Whether base and parts add up to it, to EXACT.
    """

    of: str
    how: str
    base: float
    parts: list[Part]
    total: float
    is_exact: bool


class NothingToSay(Exception):
    """The model has no answer yet, or none that is a number."""


def contributions(estimator: Any, features: Mapping[str, Any], domain: LabelDomain, y: Any = None) -> Contributions:
    """What each feature adds to what a model says of one event.

    Parameters
    ----------
    features
        As the model gets them.
    y
        Of several classes the one that is explained, as the model has it; None: the positive one, or the likeliest.

    Raises
    ------
    NothingToSay
        The model is cold.
    """
    x, last = _behind_transformers(estimator, dict(features))
    wanted = _wanted(estimator, features, domain, y)
    if type(last) is linear_model.LinearRegression and type(last.loss) is optim.losses.Squared:
        return _linear(last, x, "value")
    if type(last) is linear_model.LogisticRegression and type(last.loss) is optim.losses.Log:
        return _linear(last, x, "log odds")
    if type(last) is naive_bayes.GaussianNB and wanted in last.class_counts and len(last.class_counts) > 1:
        return _bayes(last, x, wanted)
    if type(last) in _TREES and last._root is not None:  # noqa: SLF001 - there is no other way to it
        return _summed(
            "probability" if domain.task != "regression" else "value", "path", [(1.0, last)], x, wanted, last
        )
    if type(last) in _FORESTS and len(last):
        of = "probability" if domain.task != "regression" else "value"
        return _summed(of, "mean of paths", _weighted(last), x, wanted, last)
    return _ablated(estimator, features, domain, wanted)


def _behind_transformers(estimator: Any, x: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Features as the last step of a pipeline gets them, and that step."""
    while isinstance(estimator, compose.Pipeline):
        x, estimator = estimator._transform_one(x)  # noqa: SLF001 - as its own predict_proba_one does
    return x, estimator


def _wanted(estimator: Any, features: Mapping[str, Any], domain: LabelDomain, y: Any) -> Any:
    if domain.task == "regression":
        return None
    if domain.task == "binary":
        return True
    if y is not None:
        return y
    try:
        found = estimator.predict_proba_one(dict(features))
    except (NotImplementedError, AttributeError):
        return None
    if not found:
        raise NothingToSay
    return max(sorted(found), key=lambda name: found[name])


def _made(of: str, how: str, first: float, parts: list[Part], total: float) -> Contributions:
    if not math.isfinite(total):
        raise NothingToSay
    added = math.fsum([first, *(part.adds for part in parts)])
    is_exact = abs(added - total) <= EXACT * max(1.0, abs(total))
    return Contributions(of, how, first, sorted(parts, key=lambda part: -abs(part.adds)), total, is_exact)


# --- linear ---


def _linear(model: Any, x: Mapping[str, Any], of: str) -> Contributions:
    weights = model.weights
    parts = [Part(name, value, weights.get(name, 0.0) * value) for name, value in x.items()]
    return _made(of, "linear", float(model.intercept), parts, float(model._raw_dot_one(dict(x))))  # noqa: SLF001


# --- naive Bayes ---


def _bayes(model: Any, x: Mapping[str, Any], wanted: Any) -> Contributions:
    """Of the class against the likeliest of the others."""
    whole = model.joint_log_likelihood(dict(x))
    other = max((name for name in whole if name != wanted), key=lambda name: whole[name])
    first = math.log(model.p_class(wanted)) - math.log(model.p_class(other))
    parts = []
    for name, value in x.items():
        alone = model.joint_log_likelihood({name: value})
        parts.append(Part(name, value, alone[wanted] - alone[other] - first))
    return _made("log odds", "naive Bayes", first, parts, whole[wanted] - whole[other])


# --- trees ---


def _weighted(model: Any) -> list[tuple[float, Any]]:
    """The trees of a forest with the weights of their votes, which add up to 1."""
    trees = [member if type(member) in _TREES or hasattr(member, "_root") else None for member in model]
    if isinstance(model, forest.ARFRegressor) or model.disable_weighted_vote:
        return [(1 / len(trees), one) for one in trees]
    said = [model._metrics[number].get() for number in range(len(trees))]  # noqa: SLF001
    votes = [value if value > 0 else 1.0 for value in said]
    return [(vote / sum(votes), one) for vote, one in zip(votes, trees, strict=True)]


def _summed(
    of: str, how: str, trees: list[tuple[float, Any]], x: dict[str, Any], wanted: Any, model: Any
) -> Contributions:
    total = _answer(model, x, wanted)
    first, adds = 0.0, dict[str, float]()
    values: dict[str, Any] = {}
    for weight, one in trees:
        root, path = _path(one, x, wanted)
        first += weight * root
        for name, value, change in path:
            adds[name] = adds.get(name, 0.0) + weight * change
            values[name] = value
    parts = [Part(name, values[name], change) for name, change in adds.items()]
    return _made(of, how, first, parts, total)


def _answer(model: Any, x: dict[str, Any], wanted: Any) -> float:
    if isinstance(model, base.Regressor):
        given: Any = x
        return float(model.predict_one(given))
    found = model.predict_proba_one(x)
    if not found:
        raise NothingToSay
    return float(found.get(wanted, 0.0))


def _path(model: Any, x: dict[str, Any], wanted: Any) -> tuple[float, list[tuple[str, Any, float]]]:
    """Share of the class at the root, and what each split, and the leaf, change in it."""
    node = model._root  # noqa: SLF001
    if node is None:
        return 0.0, []
    first = now = _share(node, wanted)
    found = []
    while isinstance(node, DTBranch):
        try:
            number = node.branch_no(x)
            below = node.children[number]
        except (KeyError, IndexError):  # its value was never seen, or is missing
            number, below = node.most_common_path()
        then = _share(below, wanted)
        found.append((str(node.repr_branch(number)), x.get(node.feature), then - now))  # type: ignore[attr-defined]
        node, now = below, then
    said = node.prediction(x, tree=model)
    last = float(said.get(wanted, 0.0)) if isinstance(said, dict) else float(said)
    if last != now:
        found.append(("its leaf's own model", None, last - now))
    return first, found


def _share(node: Any, wanted: Any) -> float:
    """Of the class among those that came by a node; of a regression their mean."""
    stats = node.stats
    if isinstance(stats, dict):
        total = sum(stats.values())
        return float(stats.get(wanted, 0.0) / total) if total else 0.0
    mean = getattr(stats, "mean", None)
    return float(mean.get()) if mean is not None else 0.0


# --- any other ---


def _ablated(estimator: Any, features: Mapping[str, Any], domain: LabelDomain, wanted: Any) -> Contributions:
    ask = _asker(estimator, domain, wanted)
    whole = ask(dict(features))
    if whole is None:
        raise NothingToSay
    parts = []
    for name, value in features.items():
        without = ask({other: given for other, given in features.items() if other != name})
        if without is None:
            without = ask({**features, name: 0.0 if isinstance(value, int | float) else ""})
        if without is not None:
            parts.append(Part(name, value, whole - without))
    of = "value" if domain.task == "regression" else "probability"
    nothing = ask({})
    first = whole - math.fsum(part.adds for part in parts) if nothing is None else nothing
    return _made(of, "ablation", first, parts, whole)._replace(is_exact=False)


def _asker(estimator: Any, domain: LabelDomain, wanted: Any) -> Callable[[dict[str, Any]], float | None]:
    def ask(x: dict[str, Any]) -> float | None:
        try:
            if domain.task == "regression":
                return float(estimator.predict_one(x))
            try:
                found = estimator.predict_proba_one(x)
            except (NotImplementedError, AttributeError):
                said = estimator.predict_one(x)
                return None if said is None else float(said == wanted or said is wanted)
            return float(found.get(wanted, 0.0)) if found else None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a model that needs the feature
            return None

    return ask
