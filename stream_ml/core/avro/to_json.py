"""What a schema's records hold as JSON that `from_json` takes back: the same bytes come of it."""

import base64
import datetime
import math
import uuid
from collections.abc import Callable
from typing import Any

from stream_ml.core.avro.fields import base_of, logical_of
from stream_ml.core.avro.from_json import SchemaMismatch, branch_name, branches_of, value_of
from stream_ml.core.avro.schema import Schema

_TYPES: dict[type, tuple[str, ...]] = {
    bool: ("boolean",),
    int: ("int", "long"),
    float: ("float", "double"),
    str: ("string", "enum"),
    bytes: ("bytes", "fixed"),
    list: ("array",),
    dict: ("map", "record"),
}


def to_json(schema: Schema, payload: dict[str, Any]) -> dict[str, Any]:
    """A record as JSON values.

    Parameters
    ----------
    payload
        As the decoder gives it without logical types; of a union the named types as (name, value).
    """
    return {field["name"]: _value(schema, field["type"], payload[field["name"]]) for field in schema.fields}


def jsonable(value: Any, non_finite: Callable[[float], Any] = str) -> Any:
    """Any value as JSON has it: times as ISO 8601, bytes as base64, decimals and the like as text.

    Parameters
    ----------
    non_finite
        Makes what stands in the place of a number that JSON has not: for people its text.
    """
    if isinstance(value, dict):
        return {str(name): jsonable(one, non_finite) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(one, non_finite) for one in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return non_finite(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _value(schema: Schema, type_: Any, value: Any) -> Any:
    branches = branches_of(schema, type_)
    if value is None:
        return None
    name, plain = value if isinstance(value, tuple) else ("", value)
    kinds = _TYPES[type(plain)]
    others = [branch for branch in branches if branch != "null"]
    branch = next(
        (b for b in others if (branch_name(b) == name if name else base_of(b) in kinds)),
        others[0],
    )
    found = _of(schema, branch, plain)
    if len(others) == 1 or _taken_back(schema, others, found) is branch:
        return found
    return {branch_name(branch): found}  # as Avro's own JSON encoding has it: by its value alone it is another one


def _taken_back(schema: Schema, branches: list[Any], value: Any) -> Any:
    for branch in branches:
        try:
            value_of(schema, branch, value, "")
        except SchemaMismatch:
            continue
        return branch
    return None


def _of(schema: Schema, type_: Any, value: Any) -> Any:
    base, logical = base_of(type_), logical_of(type_)
    if base == "record":
        return {field["name"]: _value(schema, field["type"], value[field["name"]]) for field in type_["fields"]}
    if base == "array":
        return [_value(schema, type_["items"], item) for item in value]
    if base == "map":
        return {name: _value(schema, type_["values"], item) for name, item in value.items()}
    if logical == "decimal":
        return _decimal(type_, value)
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value)) if logical == "uuid" else base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    return value


def _decimal(type_: Any, value: bytes) -> str:
    whole, scale = int.from_bytes(value, "big", signed=True), int(type_.get("scale", 0))
    digits = str(abs(whole)).rjust(scale + 1, "0")
    text = f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
    return f"-{text}" if whole < 0 else text
