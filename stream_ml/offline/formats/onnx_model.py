"""A model as ONNX, in core operators with doubles: equal to River's to 1e-12.

Each feature is an input of shape [n]: numbers and booleans as double, texts as string. Outputs are `score` and `class`
of a binary task, `value` of a regression. Limits of what is usual (learning.guard, features.bounds) are not in it.
"""

from typing import Any

from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.errors import ConfigError
from stream_ml.offline.formats.formula import Formula, Linear, OneHot, Scaled, Split, Term

INNER = "stream_ml_inner_"  # what names within the graph begin with
OPSET = 19  # from which on texts can be compared


def to_onnx(formula: Formula, kinds: dict[str, str], domain: LabelDomain, about: dict[str, str]) -> bytes:
    """The model's bytes.

    Parameters
    ----------
    about
        What stands in its metadata.

    Raises
    ------
    ConfigError
        The package onnx is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise ConfigError("the package onnx is not installed", 'pip install "stream-ml[onnx]"') from None
    taken = {name for name in kinds if name in ("score", "class", "value") or name.startswith(INNER)}
    if taken:
        raise ConfigError(f"a feature is named {min(taken)}, as an output or an inner value is", "rename it")
    made = _Graph(onnx, kinds)
    result = made.of(formula)
    outputs = [made.value(result, "value")] if domain.task == "regression" else made.classified(result, domain)
    graph = onnx.helper.make_graph(made.nodes, "stream_ml", made.inputs(), outputs, made.constants)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], producer_name="stream_ml"
    )
    model.ir_version = 9  # of that opset: older runtimes read it
    onnx.helper.set_model_props(model, about)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConfigError(
            f"the model has no form in ONNX: {str(error).splitlines()[0][:200]}", "--format mlflow"
        ) from None
    found: bytes = model.SerializeToString()
    return found


class _Graph:
    """Nodes that are made one after the other."""

    def __init__(self, onnx: Any, kinds: dict[str, str]) -> None:
        self._onnx, self._kinds = onnx, kinds
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._number = 0
        self._known: dict[Any, str] = {}

    def inputs(self) -> list[Any]:
        """One of each feature."""
        types = self._onnx.TensorProto
        of = {"text": types.STRING}
        return [
            self._onnx.helper.make_tensor_value_info(name, of.get(kind, types.DOUBLE), ["n"])
            for name, kind in self._kinds.items()
        ]

    def value(self, name: str, called: str) -> Any:
        """An output."""
        self.nodes.append(self._onnx.helper.make_node("Identity", [name], [called]))
        return self._onnx.helper.make_tensor_value_info(called, self._onnx.TensorProto.DOUBLE, ["n"])

    def classified(self, score: str, domain: LabelDomain) -> list[Any]:
        """Score and class."""
        is_positive = self._node("GreaterOrEqual", score, self._double(domain.threshold))
        name = self._node("Where", is_positive, self._text(domain.positive), self._text(domain.negative))
        self.nodes.append(self._onnx.helper.make_node("Identity", [name], ["class"]))
        said = self._onnx.helper.make_tensor_value_info("class", self._onnx.TensorProto.STRING, ["n"])
        return [self.value(score, "score"), said]

    def of(self, formula: Formula) -> str:
        """The name of what a formula comes to."""
        if isinstance(formula, Linear):
            total = self._filled(formula.intercept)
            for term in formula.terms:
                total = self._node("Add", total, self._term(term))
            return self._node("Sigmoid", total) if formula.is_logistic else total
        if isinstance(formula, Split):
            yes, no = self.of(formula.yes), self.of(formula.no)
            return self._node("Where", self._condition(formula), yes, no)
        return self._filled(formula)

    def _filled(self, number: float) -> str:
        """A number for each of the n rows."""
        first = next(iter(self._kinds))
        if "rows" not in self._known:
            self._known["rows"] = self._node("Shape", first)
        name = self._name()
        value = self._onnx.helper.make_tensor("", self._onnx.TensorProto.DOUBLE, [1], [number])
        self.nodes.append(self._onnx.helper.make_node("ConstantOfShape", [self._known["rows"]], [name], value=value))
        return name

    def _term(self, term: Term) -> str:
        if isinstance(term.of, OneHot):
            same = self._node("Equal", term.of.feature, self._text(term.value))
            return self._node("Mul", self._cast(same), self._double(term.weight))
        return self._node("Mul", self._scaled(term.of), self._double(term.weight))

    def _scaled(self, of: Scaled) -> str:
        if (of.mean, of.deviation) == (0.0, 1.0):
            return of.feature
        if not of.deviation:
            return self._node("Mul", of.feature, self._double(0.0))
        return self._node("Div", self._node("Sub", of.feature, self._double(of.mean)), self._double(of.deviation))

    def _condition(self, split: Split) -> str:
        if split.threshold is None:
            return self._node("Equal", split.feature, self._text(split.value))
        return self._node("LessOrEqual", split.feature, self._double(split.threshold))

    def _cast(self, name: str) -> str:
        made = self._name()
        self.nodes.append(self._onnx.helper.make_node("Cast", [name], [made], to=self._onnx.TensorProto.DOUBLE))
        return made

    def _node(self, operator: str, *inputs: str) -> str:
        name = self._name()
        self.nodes.append(self._onnx.helper.make_node(operator, list(inputs), [name]))
        return name

    def _double(self, number: float) -> str:
        return self._constant(self._onnx.TensorProto.DOUBLE, number)

    def _text(self, text: str) -> str:
        return self._constant(self._onnx.TensorProto.STRING, text.encode())

    def _constant(self, type_: int, value: Any) -> str:
        known = self._known.get((type_, value))
        if known is None:
            known = self._known[type_, value] = self._name()
            self.constants.append(self._onnx.helper.make_tensor(known, type_, [], [value]))
        return known

    def _name(self) -> str:
        self._number += 1
        return f"{INNER}{self._number}"
