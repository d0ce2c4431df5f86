"""Avro types as JSON Schema (2020-12, as OpenAPI 3.1 has it): what `from_json` takes, for clients to read."""

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from stream_ml.core.avro.fields import MAGNITUDE_MAX, base_of, logical_of
from stream_ml.core.avro.from_json import branches_of
from stream_ml.core.avro.schema import Schema
from stream_ml.core.inputs.features import FeaturePlan

TIME_OF_DAY = r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?Z?$"  # `format: time` demands an offset
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
        null = "null" in branches_of(schema, field["type"]) and _may_be_null((*path, name), features)
        has_default = field.get("default") is not None or null
        if not has_default and name not in may_miss:
            required.append(name)
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        found["required"] = required
    return found


def _of(schema: Schema, type_: Any, path: tuple[str, ...], features: dict[str, Any]) -> dict[str, Any]:
    branches = branches_of(schema, type_)
    null = "null" in branches and _may_be_null(path, features)
    found = [_one(schema, branch, path, features) for branch in branches if branch != "null"]
    if len(found) == 1 and not null:
        return found[0]
    if len(found) == 1 and "type" in found[0] and "enum" not in found[0]:
        kinds = found[0]["type"] if isinstance(found[0]["type"], list) else [found[0]["type"]]
        return {**found[0], "type": [*kinds, "null"]}
    return {"anyOf": [*found, *([{"type": "null"}] if null else [])]}


def _may_be_null(path: tuple[str, ...], features: dict[str, Any]) -> bool:
    """Whether nothing that is refused when null is there, or in it."""
    at = ".".join(path)
    inside = [one for name, one in features.items() if name == at or name.startswith(f"{at}.")]
    return all(one["missing"] != "reject" for one in inside)


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
        return {"type": "number", **(_bounds(feature) if base == "double" else _binary32(_bounds(feature)))}
    if logical == "decimal":
        scale, digits = int(type_.get("scale", 0)), int(type_.get("precision", 0))
        before = max(1, digits - scale)
        after = f"(\\.[0-9]{{1,{scale}}})?" if scale else ""
        most = 10**before - 1
        text = {"type": "string", "pattern": f"^-?[0-9]{{1,{before}}}{after}$", "format": "decimal"}
        return {"anyOf": [text, {"type": "integer", "minimum": -most, "maximum": most}]}
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
        text = {"format": "date" if logical == "date" else "date-time"}
        if logical.startswith("time-"):
            text = {"pattern": TIME_OF_DAY}
        return {"anyOf": [{"type": "string", **text}, number], "description": f"Avro {logical}"}
    bounds = _bounds(feature)
    low, high = bounds.get("minimum", -most), bounds.get("maximum", most - 1)
    return number | {"minimum": max(-most, _ceil(low)), "maximum": min(most - 1, int(high))}


def _binary32(bounds: dict[str, Any]) -> dict[str, Any]:
    """What is within them once it is a float of 32 bits: up to half of the way to the next one."""
    found = {}
    for name, sign in (("minimum", -1.0), ("maximum", 1.0)):
        if name not in bounds:
            continue
        limit = bounds[name] * sign
        inside = np.float32(limit)
        if float(inside) > limit:
            inside = np.nextafter(inside, np.float32(-np.inf))
        beyond = np.nextafter(inside, np.float32(np.inf))
        half = (float(inside) + float(beyond)) / 2
        if float(np.float32(half)) > limit:
            half = math.nextafter(half, -math.inf)
        found[name] = half * sign
    return found


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
    size = type_.get("size") if isinstance(type_, dict) else None
    char = "[A-Za-z0-9+/]"
    ends = ["", f"{char}{{2}}==", f"{char}{{3}}="]
    if size is None:
        pattern = f"^({char}{{4}})*({ends[1]}|{ends[2]})?$"
    else:
        pattern = f"^{char}{{{4 * (int(size) // 3)}}}{ends[int(size) % 3]}$"
    return {"type": "string", "contentEncoding": "base64", "pattern": pattern}
