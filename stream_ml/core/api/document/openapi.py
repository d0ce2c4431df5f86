"""The document of the API (OpenAPI 3.1), made from the schemas of events and labels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from stream_ml.core.api.answers import Answers
from stream_ml.core.api.document import inference, jobs
from stream_ml.core.api.document.described import field_schema
from stream_ml.core.api.inference import is_of_protocol
from stream_ml.core.api.problems import KINDS, MEDIA_TYPE, TYPE

JSON, NDJSON = "application/json", "application/x-ndjson"
SCHEMAS = ("event.avsc", "label.avsc", "prediction.avsc")  # of GET /v1/schema/{name}
_DEMANDS = (
    (
        "Stream-ML-Min-Position",
        "at least this position, as an answer says it: N or LINEAGE/N; waited for",
        r"^([0-9a-f]{16}/)?[0-9]{1,18}$",
    ),
    (
        "Stream-ML-After",
        "after these labels: `after` of POST /v1/feedback; waited for",
        r"^f:[0-9]{1,9}:[0-9]{1,18}(,f:[0-9]{1,9}:[0-9]{1,18}){0,63}$",
    ),
    ("Stream-ML-Max-Age", "at most so many milliseconds old", r"^[0-9]{1,12}$"),
    ("Prefer", "wait=SECONDS: how long to wait, at most 30", ""),
)


_PLAIN: dict[str, dict[str, Any]] = {
    "/docs": {"type": "string"},
    "/livez": {"$ref": "#/components/schemas/Live"},
    "/readyz": {"$ref": "#/components/schemas/Ready"},
}
_PATH_PARTS: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "enum": [*SCHEMAS]},
    "receipt": {"type": "string", "pattern": r"^f:[0-9]{1,9}:[0-9]{1,18}$", "description": "of POST /v1/feedback"},
    "job": {"type": "string", "minLength": 1, "maxLength": 200, "description": "id of a job"},
    "version": {"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "a lineage"},
}


class Operation(NamedTuple):
    """A path and method of the API.

    Parameters
    ----------
    scope
        What a credential has to allow; empty: none is needed.
    """

    method: str
    path: str
    scope: str
    summary: str


class Described(NamedTuple):
    """What the document tells of an app.

    Parameters
    ----------
    event, label
        JSON Schemas of an instance and of a label.
    places
        Names of the model's features, in their order.
    """

    title: str
    version: str
    event: dict[str, Any]
    label: dict[str, Any]
    places: Sequence[str]
    answers: Answers
    instances_max: int
    secured: bool
    open_scopes: Sequence[str] = ("",)  # that need no credential
    repeatable: Sequence[str] = ()  # paths that take an Idempotency-Key
    jobs_max: int = 0  # instances of a job; 0: none are taken


def openapi(app: Described, operations: Sequence[Operation], aliases: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The document.

    Parameters
    ----------
    aliases
        Of each `path`, `request` and `answer`: JSON Schemas.
    """
    paths: dict[str, Any] = {}
    of_alias = {alias["path"]: alias for alias in aliases}
    for operation in operations:
        body = of_alias.get(operation.path)
        item = _operation(operation, app, body)
        paths.setdefault(operation.path, {})[operation.method.lower()] = item
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": app.title, "version": app.version},
        "paths": paths,
        "components": {"schemas": _schemas(app)},
    }
    if app.secured:
        found["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    return found


def _operation(operation: Operation, app: Described, alias: dict[str, Any] | None) -> dict[str, Any]:
    name = (operation.method.lower() + operation.path).replace("/", "_").replace("{", "").replace("}", "")
    name = name.replace(".", "_").replace("-", "_").replace(":", "_")
    found: dict[str, Any] = {"operationId": name, "summary": operation.summary, "responses": {}}
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": _PATH_PARTS[part[1:-1]]}
        for part in operation.path.split("/")
        if part.startswith("{")
    ]
    if operation.method == "POST" and operation.scope == "predict":
        parameters += [
            {
                "name": header,
                "in": "header",
                "required": False,
                "description": meaning,
                "schema": {"type": "string", **({"pattern": pattern} if pattern else {})},
            }
            for header, meaning, pattern in _DEMANDS
        ]
    if operation.method == "POST" and operation.path in app.repeatable:
        key = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
        meaning = "the same request with the same key is answered again as it was; for requests that write"
        parameters.append({"name": "Idempotency-Key", "in": "header", "description": meaning, "schema": key})
    if operation.path == "/v1/feedback":
        parameters.append({"name": "dry_run", "in": "query", "required": False, "schema": {"type": "boolean"}})
    if operation.path.endswith("/results"):
        cursor = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
        parameters.append({"name": "after", "in": "query", "required": False, "schema": cursor})
    if parameters:
        found["parameters"] = parameters
    body, good, answer = _bodies(operation, alias)
    if body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    kind = {"/docs": "text/html"}.get(operation.path, NDJSON if operation.path.endswith("/results") else JSON)
    found["responses"][str(good)] = {"description": "OK", "content": {kind: {"schema": answer}}}
    if operation.path == "/v1/feedback":
        found["responses"]["200"] = {
            "description": "dry_run: nothing is written",
            "content": {JSON: {"schema": answer}},
        }
    if operation.path == "/v1/model":
        found["responses"]["304"] = {"description": "as If-None-Match has it"}
    for status in _statuses(operation, app, with_body=body is not None):
        titles = sorted({kind.title for kind in KINDS.values() if kind.status == status})
        name, kind = ("InferenceError", JSON) if is_of_protocol(operation.path) else ("Problem", MEDIA_TYPE)
        found["responses"][str(status)] = {
            "description": "; ".join(titles),
            "content": {kind: {"schema": _ref(name)}},
        }
    if operation.path.endswith(("/readyz", "/ready")):
        found["responses"]["503"] = {"description": "Not ready", "content": {JSON: {"schema": answer}}}
    found["security"] = [{"bearer": []}, {"key": []}] if app.secured and operation.scope not in app.open_scopes else []
    return found


def _bodies(operation: Operation, alias: dict[str, Any] | None) -> tuple[Any, int, Any]:
    """Schema of the request, status and schema of the answer."""
    if alias is not None:
        return alias["request"], 200, alias["answer"]
    if jobs.is_of_jobs(operation.path):
        return jobs.bodies(operation.method, operation.path)
    if is_of_protocol(operation.path):
        request, answer = inference.bodies(operation.path)
        return request, 200, answer
    if operation.path == "/v1/feedback":
        return _ref("Feedback"), 202, _ref("Accepted")
    if operation.method == "POST":
        return _ref("Asked"), 200, _ref("Answered")
    return None, 200, _PLAIN.get(operation.path, {"type": "object"})


def _statuses(operation: Operation, app: Described, *, with_body: bool) -> list[int]:
    found = {500}
    if with_body:
        found |= {400, 413, 415, 422, 503}
    if operation.scope and app.secured:
        found |= {401, 403, 429}
    if operation.scope:
        found |= {403, 429, 503}
    if operation.method == "POST" and operation.scope == "predict":
        found |= {400, 412}
    if "{" in operation.path:
        found |= {400, 404}
    if operation.method == "POST" and operation.path in app.repeatable:
        found.add(409)
    return sorted(found)


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(app: Described) -> dict[str, Any]:
    answers = app.answers
    named: dict[str, Any] = {
        "type": "object",
        "required": ["instances"],
        "additionalProperties": False,
        "properties": {
            "instances": {"type": "array", "items": _ref("Event"), "minItems": 1, "maxItems": app.instances_max},
            "on_error": {"type": "string", "const": "fail", "description": "one that is wrong refuses all"},
            "record": {"type": ["boolean", "null"]},
        },
    }
    row = {
        "type": "array",
        "prefixItems": [field_schema(app.event, name) for name in app.places],
        "minItems": len(app.places),
        "maxItems": len(app.places),
        "description": f"values of {', '.join(app.places)}",
    }
    placed: dict[str, Any] = {
        "type": "object",
        "required": ["features"],
        "additionalProperties": False,
        "properties": {
            "features": {"anyOf": [row, {"type": "array", "items": row, "minItems": 1, "maxItems": app.instances_max}]},
            "on_error": {"type": "string", "const": "fail"},
            "record": {"type": ["boolean", "null"]},
        },
    }
    anything: dict[str, Any] = {"anyOf": [_ref("Event"), {}], "description": "a wrong one is answered in its place"}
    partial = {
        **named,
        "required": ["instances", "on_error"],
        "properties": {
            **named["properties"],
            "instances": {"type": "array", "items": anything, "minItems": 1, "maxItems": app.instances_max},
            "on_error": {"type": "string", "const": "partial"},
        },
    }
    no_list: dict[str, Any] = {"not": {"type": "array"}}
    loose = {name: value for name, value in row.items() if name != "prefixItems"} | {"items": {}}
    rows = placed["properties"]["features"]
    placed_partial = {
        **placed,
        "required": ["features", "on_error"],
        "properties": {
            **placed["properties"],
            "features": {"anyOf": [{**loose, "prefixItems": [no_list]}, {**rows["anyOf"][1], "items": loose}]},
            "on_error": {"type": "string", "const": "partial"},
        },
    }
    prediction = prediction_schema(answers)
    failed = {"type": "object", "required": ["error"], "properties": {"error": _ref("Fault")}}
    return {
        **inference.schemas(app.places),
        **(jobs.schemas(app.jobs_max) if app.jobs_max else {}),
        "Event": app.event,
        "Label": app.label,
        "AskedByName": named,
        "AskedByNamePartial": partial,
        "AskedByPlace": placed,
        "AskedByPlacePartial": placed_partial,
        "Asked": {"anyOf": [_ref(f"AskedBy{name}") for name in ("Name", "NamePartial", "Place", "PlacePartial")]},
        "Prediction": prediction,
        "Failed": failed,
        "Model": {
            "type": "object",
            "required": ["lineage", "position", "epoch", "age_ms", "examples_learned"],
            "properties": {
                "lineage": {"type": "string", "description": "which model: all versions folded from one log"},
                "position": {"type": "integer", "description": "so many entries of the log are in it"},
                "epoch": {"type": "integer", "description": "of the table of who serves"},
                "age_ms": {"type": ["integer", "null"], "description": "since it had all that Kafka had"},
                "examples_learned": {"type": "integer"},
                "learned_at_ms": {"type": ["integer", "null"], "description": "when its newest entry was written"},
            },
        },
        "Answered": {
            "type": "object",
            "required": ["predictions", "model"],
            "properties": {
                "predictions": {"type": "array", "items": {"anyOf": [_ref("Prediction"), _ref("Failed")]}},
                "prediction": {"type": "array", "items": {}, "description": "bare answers, of features by place"},
                "model": _ref("Model"),
            },
        },
        "Feedback": {
            "type": "object",
            "required": ["labels"],
            "additionalProperties": False,
            "properties": {
                "labels": {"type": "array", "items": _ref("Label"), "minItems": 1, "maxItems": app.instances_max}
            },
        },
        "Accepted": {
            "type": "object",
            "required": ["accepted"],
            "properties": {
                "accepted": {"type": "integer"},
                "would_accept": {"type": "integer"},
                "receipts": {"type": "array", "items": {"type": "string"}},
                "after": {"type": "string", "description": "for Stream-ML-After"},
            },
        },
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status"],
            "properties": {
                "type": {"type": "string", "description": f"{TYPE}... of {', '.join(KINDS)}; there may be more"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "instance": {"type": "string", "description": "id of the request, as X-Request-Id"},
                "errors": {
                    "type": "array",
                    "items": _ref("Fault"),
                },
            },
        },
        "Fault": {
            "type": "object",
            "required": ["pointer", "code"],
            "properties": {name: {"type": "string"} for name in ("pointer", "code", "detail")},
        },
        "Ready": {
            "type": "object",
            "required": ["ready", "reasons"],
            "properties": {"ready": {"type": "boolean"}, "reasons": {"type": "array", "items": {"type": "string"}}},
        },
        "Live": {"type": "object", "required": ["alive"], "properties": {"alive": {"type": "boolean"}}},
    }


def prediction_schema(answers: Answers) -> dict[str, Any]:
    """JSON Schema of one prediction."""
    flags = {"type": "array", "items": {"type": "string"}, "description": "what is to be known of it: cold, stale, ..."}
    properties: dict[str, Any] = {"id": {"type": "string"}, "flags": flags}
    if answers.task == "regression":
        return {
            "type": "object",
            "required": ["value", "flags"],
            "properties": {"value": {"type": ["number", "null"]}, **properties},
        }
    score = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    kind = {bool: "boolean", int: "integer", str: "string"}[type(answers.classes[0])]
    of_class: dict[str, Any] = {"type": [kind, "null"], "description": "as the label is, so that it can be sent back"}
    if kind != "boolean":
        of_class["enum"] = [*answers.classes, None]
    properties = {"class": of_class, "score": score, **properties}
    if answers.task == "multiclass":
        properties["scores"] = {"type": ["object", "null"], "additionalProperties": {"type": "number"}}
    return {"type": "object", "required": ["class", "score", "flags"], "properties": properties}
