"""What a model has learned as JSON, for people: weights, means, trees, counts; nothing reads it back."""

from typing import Any

from river import compose

MEMBERS_MAX = 10_000
DEPTH_MAX = 60


def to_plain(estimator: Any, depth: int = 0) -> Any:
    """An estimator's parameters and what it has learned, as JSON values."""
    if depth > DEPTH_MAX:
        return "..."
    if isinstance(estimator, compose.Pipeline):
        return {"pipeline": {name: to_plain(step, depth + 1) for name, step in estimator.steps.items()}}
    if isinstance(estimator, compose.TransformerUnion):
        return {"union": {name: to_plain(one, depth + 1) for name, one in estimator.transformers.items()}}
    root = getattr(estimator, "_root", None)
    found: dict[str, Any] = {"class": f"{type(estimator).__module__}.{type(estimator).__qualname__}"}
    if hasattr(estimator, "_get_params"):
        found["params"] = {name: _value(value, depth) for name, value in estimator._get_params().items()}  # noqa: SLF001
    if root is not None:
        found["tree"] = _node(root, depth)
    elif hasattr(estimator, "weights"):
        found |= {"intercept": _value(getattr(estimator, "intercept", 0.0), depth)}
        found["weights"] = {str(name): float(weight) for name, weight in estimator.weights.items()}
    elif isinstance(getattr(estimator, "data", None), list):
        found["members"] = [to_plain(one, depth + 1) for one in estimator.data[:MEMBERS_MAX]]
    else:
        state = {name: value for name, value in vars(estimator).items() if not name.startswith("_")}
        found["learned"] = {name: _value(value, depth + 1) for name, value in state.items()}
    return found


def _node(node: Any, depth: int) -> Any:
    children = getattr(node, "children", None)
    found: dict[str, Any] = {"stats": _value(node.stats, depth)}
    if children and depth < DEPTH_MAX:
        found["split"] = str(node.repr_split)
        found["children"] = [
            {"when": str(node.repr_branch(number)), **_node(child, depth + 1)} for number, child in enumerate(children)
        ]
    return found


def _value(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > DEPTH_MAX:
        return "..."
    if isinstance(value, dict):
        return {str(name): _value(inner, depth + 1) for name, inner in list(value.items())[:MEMBERS_MAX]}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(map(str, value)) if isinstance(value, set | frozenset) else value
        return [_value(inner, depth + 1) for inner in list(items)[:MEMBERS_MAX]]
    get = getattr(value, "get", None)
    if callable(get) and hasattr(value, "update"):
        try:
            return _value(get(), depth + 1)
        except TypeError:  # it asks for something
            return str(value)[:500]
    return str(value)[:500]
