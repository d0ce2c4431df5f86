"""Avro types as JSON Schema (2020-12, as OpenAPI 3.1 has it): what `from_json` takes, for clients to read."""

from collections.abc import Collection
from typing import Any

from stream_ml.core.avro.fields import MAGNITUDE_MAX, base_of, logical_of
from stream_ml.core.avro.from_json import branches_of
from stream_ml.core.avro.schema import Schema
from stream_ml.core.inputs.features import FeaturePlan

_BITS = {"int": 32, "long": 64}


def record_schema(
    schema: Schema, plan: FeaturePlan | None = None, may_miss: Collection[str] = (), example: Any = None
) -> dict[str, Any]:
    """A record as people write it in JSON.

    Parameters
    ----------
    plan
        Its features have bounds of their own; None: nothing is a feature.
    may_miss
        Fields that may be left out, though they have no default.
    """
    features = {} if plan is None else {one["name"]: one for one in plan.resolved}
    found = _record(schema, schema.fields, (), features, may_miss)
    if example is not None:
        found["examples"] = [example]
    return found


def _record(
    schema: Schema,
    fields: list[dict[str, Any]],
    path: tuple[str, ...],
    features: dict[str, Any],
    may_miss: Collection[str] = (),
) -> dict[str, Any]:
    properties, required = {}, []
    for field in fields:
        name = field["name"]
        found = _of(schema, field["type"], (*path, name), features)
        if field.get("doc"):
            found["description"] = str(field["doc"])
        properties[name] = found
        has_default = "default" in field or "null" in branches_of(schema, field["type"])
        if not has_default and name not in may_miss:
            required.append(name)
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        found["required"] = required
    return found


def _of(schema: Schema, type_: Any, path: tuple[str, ...], features: dict[str, Any]) -> dict[str, Any]:
    branches = branches_of(schema, type_)
    feature = features.get(".".join(path))
    null = "null" in branches and (feature is None or feature["missing"] != "reject")
    found = [_one(schema, branch, path, features) for branch in branches if branch != "null"]
    if len(found) == 1 and not null:
        return found[0]
    if len(found) == 1 and "type" in found[0] and "enum" not in found[0]:
        kinds = found[0]["type"] if isinstance(found[0]["type"], list) else [found[0]["type"]]
        return {**found[0], "type": [*kinds, "null"]}
    return {"anyOf": [*found, *([{"type": "null"}] if null else [])]}


def _one(schema: Schema, type_: Any, path: tuple[str, ...], features: dict[str, Any]) -> dict[str, Any]:
    base, logical = base_of(type_), logical_of(type_)
    feature = features.get(".".join(path))
    if base == "record":
        return _record(schema, type_["fields"], path, features)
    if base == "array":
        return {"type": "array", "items": _of(schema, type_["items"], (*path, ""), features)}
    if base == "map":
        return {"type": "object", "additionalProperties": _of(schema, type_["values"], (*path, ""), features)}
    if base == "enum":
        return {"type": "string", "enum": list(type_["symbols"])}
    if base == "boolean":
        return {"type": "boolean"}
    if base in _BITS:
        return _whole(base, logical, feature)
    if base in ("float", "double"):
        return {"type": "number", **_bounds(feature)}
    if logical == "decimal":
        scale, digits = int(type_.get("scale", 0)), int(type_.get("precision", 0))
        before = max(1, digits - scale)
        after = f"(\\.[0-9]{{1,{scale}}})?" if scale else ""
        return {"type": "string", "pattern": f"^-?[0-9]{{1,{before}}}{after}$", "format": "decimal"}
    if base in ("bytes", "fixed"):
        return {"type": "string", "format": "uuid"} if logical == "uuid" else _base64(type_)
    found: dict[str, Any] = {"type": "string"}
    if logical == "uuid":
        found["format"] = "uuid"
    length = ((feature or {}).get("bounds") or {}).get("length")
    return found | ({"maxLength": length} if length is not None else {})


def _whole(base: str, logical: str, feature: Any) -> dict[str, Any]:
    most = 2 ** (_BITS[base] - 1)
    number: dict[str, Any] = {"type": "integer", "minimum": -most, "maximum": most - 1, "format": f"int{_BITS[base]}"}
    if logical:
        kind = "date" if logical == "date" else "time" if logical.startswith("time-") else "date-time"
        return {"anyOf": [{"type": "string", "format": kind}, number], "description": f"Avro {logical}"}
    bounds = _bounds(feature)
    low, high = bounds.get("minimum", -most), bounds.get("maximum", most - 1)
    return number | {"minimum": max(-most, _ceil(low)), "maximum": min(most - 1, int(high))}


def _ceil(value: float) -> int:
    return -int(-value // 1) if value == value // 1 else int(value // 1) + 1


def _bounds(feature: Any) -> dict[str, Any]:
    """Of a number: what a model can bear, or what features.bounds says; of one that is no feature none."""
    if feature is None:
        return {}
    bounds = feature["bounds"] or {}
    low, high = bounds.get("min"), bounds.get("max")
    return {
        "minimum": -MAGNITUDE_MAX if low is None else max(low, -MAGNITUDE_MAX),
        "maximum": MAGNITUDE_MAX if high is None else min(high, MAGNITUDE_MAX),
    }


def _base64(type_: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string", "contentEncoding": "base64"}
    size = type_.get("size") if isinstance(type_, dict) else None
    if size is not None:
        length = 4 * ((int(size) + 2) // 3)
        found |= {"minLength": length, "maxLength": length}
    return found
