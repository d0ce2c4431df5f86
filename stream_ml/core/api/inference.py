"""The Open Inference Protocol's view of an app: fields of events as input tensors, predictions as output tensors.

1. An input is a field by its dotted name, of shape [n] or [n, 1]; or `features`, [n, d], in the order of the model's.
2. A field without a tensor is missing in all n rows: the protocol has no null.
3. What a value may be, `from_json` says, as everywhere: a tensor's type only says how it is written.
"""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

from stream_ml.core.api.answers import Answers
from stream_ml.core.api.door import KEY
from stream_ml.core.api.places import put_at
from stream_ml.core.api.problems import Fault, Problem
from stream_ml.core.api.tensors import BYTES, Tensor, wrong
from stream_ml.core.avro.fields import Field, find_field
from stream_ml.core.avro.schema import Schema
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.errors import ConfigError

MATRIX = "features"
FIELDS_KEPT = 1_000  # beside the model's, of a schema that may name itself
EXTENSIONS = ("binary_tensor_data",)
_DATATYPES = {"boolean": "BOOL", "int": "INT32", "long": "INT64", "float": "FP32", "double": "FP64"}
_OF_CLASS = {bool: "BOOL", int: "INT64", str: BYTES}


class Described(NamedTuple):
    """A tensor as metadata tells it; -1 of a shape: any number."""

    name: str
    datatype: str
    shape: Sequence[int]


def is_of_protocol(path: str) -> bool:
    """Whether a path of HTTP belongs to the protocol, which has bodies and refusals of its own form."""
    return path == "/v2" or path.startswith("/v2/")


def datatype_of(base: str) -> str:
    """The type that fits a field of this Avro type; texts, decimals and bytes are BYTES."""
    return _DATATYPES.get(base, BYTES)


class Inference:
    """Reads tensors as instances of one model, and writes its predictions as tensors."""

    def __init__(self, schema: Schema, plan: FeaturePlan, answers: Answers) -> None:
        self._schema, self._names, self._answers = schema, plan.names, answers
        self.inputs = [Described(one["name"], datatype_of(one["type"]), [-1]) for one in plan.resolved]
        self.outputs = self._outputs()
        self._fields: dict[str, Field | None] = {name: self._field(name) for name in plan.names}

    def _outputs(self) -> list[Described]:
        answers = self._answers
        if answers.task == "regression":
            return [Described("value", "FP64", [-1])]
        found = [Described("class", _OF_CLASS[type(answers.classes[0])], [-1]), Described("score", "FP64", [-1])]
        if answers.task == "multiclass":
            found.append(Described("scores", "FP64", [-1, len(answers.classes)]))
        return found

    def _field(self, name: str) -> Field | None:
        try:
            return find_field(self._schema, name, where="inputs")
        except ConfigError:
            return None

    # --- what is asked ---

    def instances(self, tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
        """n instances as their JSON would be; Problem where tensors are none of the app's."""
        if not tensors:
            raise Problem("not-readable", f"there are no inputs; the model has {', '.join(self._names)}")
        names = [tensor.name for tensor in tensors]
        if len(set(names)) < len(names):
            raise Problem("not-readable", "two inputs have the same name")
        if names == [MATRIX] and self._known(MATRIX) is None:
            return self._of_matrix(tensors[0])
        count = tensors[0].rows
        columns = []
        for tensor in tensors:
            if tensor.rows != count or list(tensor.shape) not in ([count], [count, 1]):
                shapes = f"its shape is {list(tensor.shape)}; of {count} rows it is [{count}] or [{count}, 1]"
                raise wrong(tensor.name, shapes)
            columns.append((tensor.name.split("."), self._values(tensor)))
        self._check_apart(names)
        if not count:
            raise Problem("not-readable", "the inputs have no rows")
        return [_row(columns, number) for number in range(count)]

    def _of_matrix(self, tensor: Tensor) -> list[dict[str, Any]]:
        names = self._names
        shape = list(tensor.shape)
        if len(shape) != 2 or shape[1] != len(names) or not shape[0]:
            raise wrong(MATRIX, f"its shape is {shape}, and the model has {len(names)} features: {', '.join(names)}")
        width = len(names)
        parts = [
            (name.split("."), self._values(tensor._replace(name=name, values=tensor.values[place::width])))
            for place, name in enumerate(names)
        ]
        return [_row(parts, number) for number in range(shape[0])]

    def _check_apart(self, names: Sequence[str]) -> None:
        """Problem where of these fields one is inside of another."""
        given = set(names)
        for name in names:
            for at, mark in enumerate(name):
                if mark == "." and name[:at] in given:
                    raise wrong(name[:at], "a field inside of it is given, too")

    def _known(self, name: str) -> Field | None:
        """The field; only those that there are take room here, for names are anybody's."""
        found = self._fields.get(name)
        if found is None:
            found = self._field(name)
            if found is not None and len(self._fields) < FIELDS_KEPT:
                self._fields[name] = found
        return found

    def _values(self, tensor: Tensor) -> Sequence[Any]:
        """Values as JSON writes those of the field."""
        field = self._known(tensor.name)
        if field is None and tensor.name != KEY:
            words = f"it is no field; the model has {', '.join(self._names)[:1_000]}"
            raise Problem("not-of-schema", f"input {tensor.name[:100]}: {words}")
        if tensor.datatype != BYTES:
            return tensor.values
        is_binary = field is not None and field.base in ("bytes", "fixed") and not field.logical
        found = []
        for number, value in enumerate(tensor.values):
            if isinstance(value, str):
                found.append(value)
            elif is_binary:
                found.append(base64.b64encode(value).decode())
            else:
                try:
                    found.append(value.decode())
                except UnicodeDecodeError:
                    raise wrong(tensor.name, f"value {number} is no text in UTF-8") from None
        return found

    # --- what is answered ---

    def answered(self, predictions: Sequence[dict[str, Any]], wanted: Sequence[str]) -> list[Tensor]:
        """Output tensors of n predictions.

        Parameters
        ----------
        wanted
            Names; empty: all that there are.

        Raises
        ------
        Problem
            An output is unknown; or a row has no answer yet, for which the protocol has no words.
        """
        outputs = [*self.outputs]
        if any("id" in one for one in predictions):
            outputs.append(Described("id", BYTES, [-1]))
        known = {one.name: one for one in outputs}
        if len(set(wanted)) < len(wanted):
            raise Problem("not-readable", "an output is asked for twice")
        for name in wanted:
            if name not in known:
                raise Problem("not-readable", f"output {name[:100]}: there are {', '.join(known)}")
        if wanted:
            return [self._output(known[name], predictions) for name in wanted]
        return [self._output(one, predictions) for one in outputs if not _is_never_there(one.name, predictions)]

    def _output(self, described: Described, predictions: Sequence[dict[str, Any]]) -> Tensor:
        name, count = described.name, len(predictions)
        if name == "id":
            return Tensor(name, BYTES, [count], [str(one.get("id", "")) for one in predictions])
        found = [one[name] for one in predictions]
        if _is_never_there(name, predictions):
            raise Problem("not-readable", f"output {name}: this model says classes without probabilities")
        if None in found:
            words = f"the model has no answer for row {found.index(None)}: it has not learned enough yet"
            raise Problem("no-answer", words, headers={"Retry-After": "5"})
        if name == "scores":
            names = self._answers.names
            values = [float(one.get(each, 0.0)) for one in found for each in names]
            return Tensor(name, described.datatype, [count, len(names)], values)
        return Tensor(name, described.datatype, [count], found)


def _is_never_there(name: str, predictions: Sequence[dict[str, Any]]) -> bool:
    """Whether it is a probability, of a model that has classes alone."""
    return name in ("score", "scores") and any(one[name] is None and one["class"] is not None for one in predictions)


def _row(columns: Sequence[tuple[list[str], Sequence[Any]]], number: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, values in columns:
        put_at(found, path, values[number])
    return found


def words_of(problem: Problem, *, verbose: bool = True) -> str:
    """A problem in the one line that the protocol has for it; of instances the inputs they came from."""
    if not problem.faults:
        return problem.detail
    told = problem.faults[:3]
    more = f" ({len(problem.faults)} errors)" if len(problem.faults) > len(told) else ""
    return "; ".join(_fault_words(fault, verbose=verbose) for fault in told)[:900] + more


def _fault_words(fault: Fault, *, verbose: bool) -> str:
    empty, _, *rest = fault.pointer.split("/")
    if empty or not rest:
        return fault.detail if verbose else fault.code
    row, *path = rest
    where = f"input {'.'.join(path)}[{row}]" if path else f"row {row}"
    return f"{where}: {fault.detail if verbose else fault.code}"
