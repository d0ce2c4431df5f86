"""A model as a formula of its features, where it is one: scaled numbers and one-hot texts into a linear sum, or a tree.

What it is made from is River's public state; a step that it does not know is refused by its name.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from river import compose, linear_model, optim, preprocessing, tree
from river.tree.nodes.branch import DTBranch, NominalBinaryBranch, NumericBinaryBranch

from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.errors import ConfigError

NODES_MAX = 100_000


class Scaled(NamedTuple):
    """A number: (value - mean) / deviation; always 0 where the deviation is 0."""

    feature: str
    mean: float = 0.0
    deviation: float = 1.0


class OneHot(NamedTuple):
    """A text as one indicator for each of its values."""

    feature: str


class Term(NamedTuple):
    """A weight times a number, or times whether a text is this one."""

    weight: float
    of: Scaled | OneHot
    value: str = ""


class Linear(NamedTuple):
    """A sum; through the logistic function where it is of log odds."""

    intercept: float
    terms: list[Term]
    is_logistic: bool


class Split(NamedTuple):
    """A condition of a tree: a number is at most this one, or a text is this one."""

    feature: str
    threshold: float | None
    value: str
    yes: "Split | float"
    no: "Split | float"


Formula = Linear | Split | float


def formula_of(estimator: Any, kinds: Mapping[str, str], domain: LabelDomain) -> Formula:
    """The formula of a model.

    Parameters
    ----------
    kinds
        number, text or boolean by feature.

    Raises
    ------
    ConfigError
        A step of it, or the model itself, has none: which one.
    """
    known: dict[str, Scaled | OneHot] = {name: Scaled(name) for name in kinds}
    steps = list(estimator.steps.values()) if isinstance(estimator, compose.Pipeline) else [estimator]
    for step in steps[:-1]:
        known = _through(step, known, kinds)
    return _of_model(steps[-1], known, kinds, domain)


def _through(step: Any, known: dict[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    if isinstance(step, compose.Pipeline):
        for inner in step.steps.values():
            known = _through(inner, known, kinds)
        return known
    if isinstance(step, compose.TransformerUnion):
        found: dict[str, Any] = {}
        for inner in step.transformers.values():
            own = _through(inner, known, kinds)
            if set(own) & set(found):
                raise ConfigError(f"two branches of a union give {min(set(own) & set(found))}", "select each in one")
            found |= own
        return found
    if isinstance(step, compose.Select | compose.Discard):
        wanted = isinstance(step, compose.Select)
        return {name: one for name, one in known.items() if (name in step.keys) is wanted}
    if isinstance(step, compose.SelectType):
        types = {"number": float, "text": str, "boolean": bool}
        if int in step.types and float not in step.types:
            raise ConfigError(
                "a selection of whole numbers alone has no form in ONNX here", "select int and float, or names"
            )
        wanted_types = tuple(step.types)
        return {name: one for name, one in known.items() if issubclass(types[kinds[one.feature]], wanted_types)}
    if type(step) is preprocessing.StandardScaler and step.window_size is None:
        return {name: _scaled(step, name, one, kinds) for name, one in known.items()}
    if type(step) is preprocessing.OneHotEncoder and not step.drop_first and step.categories is None:
        return {name: _one_hot(name, one, kinds) for name, one in known.items()}
    raise _refused(step)


def _refused(step: Any) -> ConfigError:
    return ConfigError(
        f"{type(step).__module__.partition('.')[0]}'s {type(step).__name__} has no form in ONNX here",
        "scalers, one-hot encoders, selections, unions, linear models and trees with majority leaves have; "
        "--format mlflow takes any model",
    )


def _scaled(step: Any, name: str, one: Scaled | OneHot, kinds: Mapping[str, str]) -> Scaled:
    if isinstance(one, OneHot) or kinds[one.feature] == "text" or (one.mean, one.deviation) != (0.0, 1.0):
        raise _refused(step)
    deviation = float(step.vars[name]) ** 0.5 if step.with_std and step.vars.get(name) else 0.0
    return Scaled(one.feature, float(step.means.get(name, 0.0)), deviation if step.with_std else 1.0)


def _one_hot(name: str, one: Scaled | OneHot, kinds: Mapping[str, str]) -> OneHot:
    if isinstance(one, OneHot) or kinds[one.feature] != "text" or name != one.feature:
        raise ConfigError(f"a one-hot encoder of {name}, which is no text, has no form in ONNX here", "select texts")
    return OneHot(one.feature)


def _of_model(
    model: Any, known: Mapping[str, Scaled | OneHot], kinds: Mapping[str, str], domain: LabelDomain
) -> Formula:
    if type(model) is linear_model.LogisticRegression and type(model.loss) is optim.losses.Log:
        return _linear(model, known, kinds, is_logistic=True)
    if type(model) is linear_model.LinearRegression and type(model.loss) is optim.losses.Squared:
        return _linear(model, known, kinds, is_logistic=False)
    if type(model) is tree.HoeffdingTreeClassifier and model.leaf_prediction == "mc" and domain.task == "binary":
        return _tree(model, known, kinds)
    if isinstance(model, tree.HoeffdingTreeClassifier):
        raise ConfigError(
            f"a tree whose leaves are models (leaf_prediction {model.leaf_prediction}) has no form in ONNX here",
            "leaf_prediction: mc has one, of a binary task; --format mlflow takes any model",
        )
    raise _refused(model)


def _linear(model: Any, known: Mapping[str, Scaled | OneHot], kinds: Mapping[str, str], *, is_logistic: bool) -> Linear:
    terms = []
    for key, weight in model.weights.items():
        one = known.get(key)
        if isinstance(one, Scaled):
            if kinds[one.feature] == "text":
                raise ConfigError(
                    f"the text {one.feature} goes into a linear model as it is", "encode it, or leave it out"
                )
            terms.append(Term(float(weight), one))
            continue
        texts = [name for name, of in known.items() if isinstance(of, OneHot) and str(key).startswith(f"{name}_")]
        if len(texts) > 1:
            raise ConfigError(f"{key} may be a value of {' or '.join(texts)}", "rename one of these features")
        if texts:
            terms.append(Term(float(weight), OneHot(texts[0]), str(key)[len(texts[0]) + 1 :]))
        elif weight:
            raise ConfigError(f"the model has learned {key}, which is no feature now: it has no form in ONNX")
    return Linear(float(model.intercept), terms, is_logistic)


def _tree(model: Any, known: Mapping[str, Scaled | OneHot], kinds: Mapping[str, str]) -> Split | float:
    if any(isinstance(one, OneHot) or (one.mean, one.deviation) != (0.0, 1.0) for one in known.values()):
        raise ConfigError("a tree behind a scaler or an encoder has no form in ONNX here", "--format mlflow")
    root = model._root  # noqa: SLF001 - there is no other way to it
    if root is not None and getattr(root, "n_nodes", 1) > NODES_MAX:
        raise ConfigError(f"the tree has more than {NODES_MAX:,} nodes")
    return 0.0 if root is None else _node(root, kinds)


def _node(node: Any, kinds: Mapping[str, str]) -> Split | float:
    if not isinstance(node, DTBranch):
        total = sum(node.stats.values())
        return float(node.stats.get(True, 0.0) / total) if total else 0.0
    yes, no = (_node(child, kinds) for child in node.children[:2])
    is_text = kinds.get(str(getattr(node, "feature", ""))) == "text"
    if isinstance(node, NumericBinaryBranch) and not is_text:
        return Split(str(node.feature), float(node.threshold), "", yes, no)
    if isinstance(node, NominalBinaryBranch) and is_text:
        return Split(str(node.feature), None, str(node.value), yes, no)
    raise ConfigError(
        f"the split {node.repr_split} has no form in ONNX here", "with binary_split, texts as nominal_attributes it has"
    )
