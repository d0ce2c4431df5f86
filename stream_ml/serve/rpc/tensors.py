"""Tensors of protobuf messages to tensors, and back."""

from collections.abc import Sequence
from typing import Any

from stream_ml.core.api.problems import Problem
from stream_ml.core.api.tensors import Tensor, check_count, of_raw, of_typed, raw_of, wrong

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def tensors_of(request: Any, most: int) -> list[Tensor]:
    """The inputs of a ModelInferRequest, typed or raw; Problem where they do not fit."""
    inputs, raw = request.inputs, request.raw_input_contents
    check_count(len(inputs))
    if not raw:
        return [_typed(one, most) for one in inputs]
    if len(raw) != len(inputs) or any(one.contents.ByteSize() for one in inputs):
        words = f"{len(raw)} raw_input_contents for {len(inputs)} inputs: either all of them, without contents, or none"
        raise Problem("not-readable", words)
    return [
        of_raw(one.name, one.datatype, list(one.shape), content, most) for one, content in zip(inputs, raw, strict=True)
    ]


def _typed(one: Any, most: int) -> Tensor:
    field = _CONTENTS.get(one.datatype)
    if field is None and one.datatype == "FP16":
        raise wrong(one.name, "FP16 comes in raw_input_contents only")
    values = list(getattr(one.contents, field)) if field is not None else []
    return of_typed(one.name, one.datatype, list(one.shape), values, most)


def fill_outputs(answer: Any, outputs: Sequence[Tensor], *, is_raw: bool) -> None:
    """Put output tensors into a ModelInferResponse, in the way in which the inputs came."""
    for tensor in outputs:
        one = answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if is_raw:
            answer.raw_output_contents.append(raw_of(tensor))
        elif tensor.datatype == "BYTES":
            one.contents.bytes_contents.extend(value.encode() for value in tensor.values)
        else:
            getattr(one.contents, _CONTENTS[tensor.datatype]).extend(tensor.values)


def fill_parameters(answer: Any, parameters: dict[str, Any]) -> None:
    """Put what an answer says of its model into a message."""
    for name, value in parameters.items():
        if isinstance(value, str):
            answer.parameters[name].string_param = value
        else:
            answer.parameters[name].int64_param = value
