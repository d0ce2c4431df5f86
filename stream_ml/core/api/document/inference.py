"""The Open Inference Protocol in the API's document; how shape and data belong together JSON Schema cannot say."""

from collections.abc import Sequence
from typing import Any

from stream_ml.core.api.tensors import AXES_MAX, DATATYPES

ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": AXES_MAX}
_PARAMETERS = {"anyOf": [{"$ref": "#/components/schemas/InferenceParameters"}, {"type": "null"}]}
_TENSOR = {
    "name": {"type": "string"},
    "datatype": {"$ref": "#/components/schemas/InferenceDatatype"},
    "shape": _SHAPE,
    "parameters": _PARAMETERS,
}


def bodies(path: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Schema of the request, where there is one, and of the answer."""
    if path.endswith("/infer"):
        return _ref("InferenceRequest"), _ref("InferenceResponse")
    if path.endswith("/live"):
        return None, _ref("InferenceLive")
    if path.endswith("/ready"):
        return None, _ref("InferenceReady")
    return None, _ref("InferenceServer" if path == "/v2" else "InferenceModel")


def schemas(inputs: Sequence[str]) -> dict[str, Any]:
    """Those that the document names.

    Parameters
    ----------
    inputs
        Names of the model's features.
    """
    texts = {"type": "array", "items": {"type": "string"}}
    tensors = {"type": "array", "items": _ref("InferenceTensor")}
    return {
        "InferenceDatatype": {"type": "string", "enum": [*DATATYPES]},
        "InferenceParameters": {"type": "object", "additionalProperties": True},
        "InferenceInput": {
            "type": "object",
            "required": ["name", "shape", "datatype"],
            "additionalProperties": False,
            "properties": {
                **_TENSOR,
                "name": {"type": "string", "description": f"a field: {', '.join(inputs)[:2_000]}, ...; or `features`"},
                "data": {
                    "type": ["array", "null"],
                    "items": {},
                    "description": "n values, flat or nested as the shape",
                },
            },
        },
        "InferenceWanted": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
        },
        "InferenceRequest": {
            "type": "object",
            "required": ["inputs"],
            "additionalProperties": False,
            "properties": {
                "id": {"type": ["string", "null"]},
                "model_name": {"type": ["string", "null"], "description": "of no effect: the path names the model"},
                "parameters": _PARAMETERS,
                "inputs": {"type": "array", "items": _ref("InferenceInput")},
                "outputs": {"type": ["array", "null"], "items": _ref("InferenceWanted")},
            },
        },
        "InferenceOutput": {
            "type": "object",
            "required": ["name", "shape", "datatype"],
            "properties": {**_TENSOR, "data": {"type": "array", "items": {}}},
        },
        "InferenceResponse": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string", "description": "the lineage; parameters have the position"},
                "id": {"type": "string"},
                "parameters": _ref("InferenceParameters"),
                "outputs": {"type": "array", "items": _ref("InferenceOutput")},
            },
        },
        "InferenceTensor": {
            "type": "object",
            "required": ["name", "datatype", "shape"],
            "properties": {
                "name": {"type": "string"},
                "datatype": _ref("InferenceDatatype"),
                "shape": {"type": "array", "items": {"type": "integer"}, "description": "-1: any number"},
            },
        },
        "InferenceModel": {
            "type": "object",
            "required": ["name", "versions", "platform", "inputs", "outputs"],
            "properties": {
                "name": {"type": "string"},
                "versions": texts,
                "platform": {"type": "string"},
                "inputs": tensors,
                "outputs": tensors,
            },
        },
        "InferenceServer": {
            "type": "object",
            "required": ["name", "version", "extensions"],
            "properties": {"name": {"type": "string"}, "version": {"type": "string"}, "extensions": texts},
        },
        "InferenceLive": {"type": "object", "required": ["live"], "properties": {"live": {"type": "boolean"}}},
        "InferenceReady": {
            "type": "object",
            "required": ["ready"],
            "properties": {"name": {"type": "string", "description": "of the model"}, "ready": {"type": "boolean"}},
        },
        "InferenceError": ERROR,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
