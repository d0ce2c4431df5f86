"""The Open Inference Protocol in the API's document; how shape and data belong together JSON Schema cannot say."""

from collections.abc import Sequence
from typing import Any

from stream_ml.core.api.tensors import AXES_MAX, DATATYPES

ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": AXES_MAX}
_PARAMETERS = {"type": ["object", "null"]}
_TENSOR = {
    "name": {"type": "string"},
    "datatype": {"type": "string", "enum": [*DATATYPES]},
    "shape": _SHAPE,
    "parameters": _PARAMETERS,
}
_META = {"type": "object", "required": ["name", "datatype", "shape"]}


def is_of_protocol(path: str) -> bool:
    """Whether a path belongs to the protocol."""
    return path == "/v2" or path.startswith("/v2/")


def bodies(path: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Schema of the request, where there is one, and of the answer."""
    if path.endswith("/infer"):
        return _ref("InferenceRequest"), _ref("InferenceResponse")
    if path.endswith(("/live", "/ready")):
        return None, {"type": "object"}
    return None, {"type": "object", "required": ["name"]} if path == "/v2" else _ref("InferenceModel")


def schemas(inputs: Sequence[str]) -> dict[str, Any]:
    """Those that the document names.

    Parameters
    ----------
    inputs
        Names of the model's features.
    """
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "additionalProperties": False,
        "properties": {
            **_TENSOR,
            "name": {"type": "string", "description": f"a field: {', '.join(inputs)[:2_000]}, ...; or `features`"},
            "data": {"type": ["array", "null"], "items": {}, "description": "n values, flat or nested as the shape"},
        },
    }
    output = {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
    }
    return {
        "InferenceRequest": {
            "type": "object",
            "required": ["inputs"],
            "additionalProperties": False,
            "properties": {
                "id": {"type": ["string", "null"]},
                "model_name": {"type": ["string", "null"], "description": "of no effect: the path names the model"},
                "parameters": _PARAMETERS,
                "inputs": {"type": "array", "items": tensor},
                "outputs": {"type": ["array", "null"], "items": output},
            },
        },
        "InferenceResponse": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string", "description": "the lineage; parameters have the position"},
                "id": {"type": "string"},
                "parameters": {"type": "object"},
                "outputs": {"type": "array", "items": {"type": "object", "properties": {**_TENSOR, "data": {}}}},
            },
        },
        "InferenceModel": {
            "type": "object",
            "required": ["name", "versions", "platform", "inputs", "outputs"],
            "properties": {
                "name": {"type": "string"},
                "versions": {"type": "array", "items": {"type": "string"}},
                "platform": {"type": "string"},
                "inputs": {"type": "array", "items": _META},
                "outputs": {"type": "array", "items": _META},
            },
        },
        "InferenceError": ERROR,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
