"""JSON as people write it to what a schema's records hold: times and decimals as text, null without a type's name.

Avro's own JSON encoding names the branch of every union and has no words for logical types, so nobody writes it.
"""

import base64
import datetime
import decimal
import uuid
from typing import Any

from stream_ml.core.avro.schema import Schema

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_PER_S = {"millis": 1_000, "micros": 1_000_000, "nanos": 1_000_000_000}
DIGITS_MAX = 1_000  # of a decimal whose schema does not say how many
EXACT_MAX = 2**53  # integers up to it are themselves as a double
_BITS = {"int": 32, "long": 64}


class SchemaMismatch(ValueError):
    """A value that its field cannot hold; the message names the field. Whoever wrote the JSON mends it."""


def from_json(schema: Schema, value: Any) -> dict[str, Any]:
    """A record in the form that `schema.parsed` encodes.

    Timestamps are ISO 8601 text or the number that Avro holds, dates ``2026-01-31``, decimals and uuids text, bytes
    base64. A field that is left out takes its default.
    """
    found: dict[str, Any] = _record(schema, schema.fields, value, "")
    return found


def _record(schema: Schema, fields: list[dict[str, Any]], value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SchemaMismatch(f"{path or schema.name} is a record: write {{...}}")
    names = [field["name"] for field in fields]
    unknown = [name for name in value if name not in names]
    if unknown:
        raise SchemaMismatch(f"{_at(path, unknown[0])} is no field; there are {', '.join(names)}")
    found = {}
    for field in fields:
        at = _at(path, field["name"])
        if field["name"] in value:
            found[field["name"]] = _value(schema, field["type"], value[field["name"]], at)
        elif "default" in field:
            found[field["name"]] = _default(schema, field["type"], field["default"], at)
        elif "null" in (branches := branches_of(schema, field["type"])):
            found[field["name"]] = None
        else:
            raise SchemaMismatch(f"{at} is missing; it is {_type_name(branches[0])}")
    return found


def _default(schema: Schema, type_: Any, default: Any, path: str) -> Any:
    """A default as the schema spells it: bytes are text of code points up to 255 (Avro specification)."""
    first = branches_of(schema, type_)[0]
    base = first["type"] if isinstance(first, dict) else first
    if base in ("bytes", "fixed") and isinstance(default, str):
        return default.encode("latin-1")
    return _value(schema, type_, default, path)


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def branches_of(schema: Schema, type_: Any) -> list[Any]:
    """The types that a value may have: one, or those of a union."""
    resolved = schema.resolve(type_)
    return [schema.resolve(branch) for branch in resolved] if isinstance(resolved, list) else [resolved]


def branch_name(type_: Any) -> str:
    """What Avro's JSON encoding calls a branch of a union: a named type's full name, else the type."""
    return str(type_.get("name", type_["type"])) if isinstance(type_, dict) else str(type_)


def _type_name(type_: Any) -> str:
    return str(type_.get("logicalType", type_["type"])) if isinstance(type_, dict) else str(type_)


def _value(schema: Schema, type_: Any, value: Any, path: str) -> Any:
    branches = branches_of(schema, type_)
    if value is None:
        if "null" in branches:
            return None
        raise SchemaMismatch(f"{path} is null, and it is {_type_name(branches[0])}")
    others = [branch for branch in branches if branch != "null"]
    if len(others) > 1 and isinstance(value, dict) and len(value) == 1:
        ((name, inner),) = value.items()
        named = next((branch for branch in others if branch_name(branch) == name), None)
        if named is not None:
            found = value_of(schema, named, inner, path)
            return (name, found) if isinstance(named, dict) and "name" in named else found
    problem = None
    for branch in others:
        try:
            return value_of(schema, branch, value, path)
        except SchemaMismatch as error:
            problem = problem or error
    raise problem or SchemaMismatch(f"{path} can only be null")


def value_of(schema: Schema, type_: Any, value: Any, path: str) -> Any:
    """A JSON value as one type, that is no union, has it; SchemaMismatch where it is none."""
    base = type_["type"] if isinstance(type_, dict) else type_
    logical = type_.get("logicalType", "") if isinstance(type_, dict) else ""
    if base == "record":
        return _record(schema, type_["fields"], value, path)
    if base == "array" and isinstance(value, list):
        return [_value(schema, type_["items"], item, f"{path}[{number}]") for number, item in enumerate(value)]
    if base == "map" and isinstance(value, dict):
        return {
            _text(name, path): _value(schema, type_["values"], item, f"{path}[{name}]") for name, item in value.items()
        }
    if base == "boolean" and isinstance(value, bool):
        return value
    if base in _BITS:
        return _whole(base, logical, value, path)
    if base in ("float", "double") and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise SchemaMismatch(f"{path} is beyond what a {base} holds") from None
    if base in ("float", "double") and value in ("inf", "-inf", "nan"):  # JSON has no such numbers
        return float(value)
    if base == "enum" and value in type_["symbols"]:
        return value
    if base == "string" and isinstance(value, str):
        return _text(value, path)
    if base in ("bytes", "fixed") and isinstance(value, str | int | float):
        return _bytes(type_ if isinstance(type_, dict) else {}, logical, str(value), path)
    allowed = f" (one of {', '.join(type_['symbols'])})" if base == "enum" else ""
    raise SchemaMismatch(f"{path} is {value!r}, and it is {logical or base}{allowed}")


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SchemaMismatch(f"{path} holds half of a character (a lone surrogate), which no text has") from None
    return value


def _whole(base: str, logical: str, value: Any, path: str) -> int:
    if isinstance(value, str) and logical:
        value = _time(logical, value, path)
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT_MAX:
        value = int(value)  # JSON has one kind of number
    if not isinstance(value, int) or isinstance(value, bool):
        raise SchemaMismatch(f"{path} is {value!r}, and it is {logical or base}")
    if not -(2 ** (_BITS[base] - 1)) <= value < 2 ** (_BITS[base] - 1):
        raise SchemaMismatch(f"{path} is {value}, which takes more than {_BITS[base]} bits")
    return value


def _time(logical: str, text: str, path: str) -> int:
    kind, _, unit = logical.rpartition("-")
    try:
        if logical == "date":
            return (datetime.date.fromisoformat(text) - _EPOCH.date()).days
        per_s = _PER_S[unit]
        if kind == "time":
            moment = datetime.datetime.combine(_EPOCH, datetime.time.fromisoformat(text), datetime.UTC)
        else:
            moment = datetime.datetime.fromisoformat(text)
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
    except (ValueError, KeyError):
        example = {"date": "2026-01-31", "time": "12:30:00"}.get(kind or logical, "2026-01-31T12:30:00Z")
        raise SchemaMismatch(f"{path} is {text!r}, and it is {logical}: write {example}") from None
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * per_s + since.microseconds * per_s // 1_000_000


def _bytes(type_: dict[str, Any], logical: str, text: str, path: str) -> bytes:
    try:
        if logical == "decimal":
            given, scale = decimal.Decimal(text), int(type_.get("scale", 0))
            digits = int(type_.get("precision", DIGITS_MAX)) - scale
            if given.is_finite() and given and given.adjusted() >= digits:
                raise SchemaMismatch(f"{path} is {text[:50]}, which has more than {digits} digits before its point")
            with decimal.localcontext(prec=len(text) + scale + digits + 1):
                scaled = given.scaleb(scale)
            if scaled != scaled.to_integral_value():
                raise SchemaMismatch(f"{path} is {text}, which has more than {type_.get('scale', 0)} decimal places")
            whole = int(scaled)
            size = int(type_["size"]) if type_["type"] == "fixed" else (whole + (whole < 0)).bit_length() // 8 + 1
            return whole.to_bytes(size, "big", signed=True)
        raw = uuid.UUID(text).bytes if logical == "uuid" else base64.b64decode(text, validate=True)
    except (ArithmeticError, ValueError) as error:
        if isinstance(error, SchemaMismatch):
            raise
        raise SchemaMismatch(f"{path} is {text!r}, and it is {logical or 'bytes: write base64'}") from None
    if type_.get("type") == "fixed" and len(raw) != type_["size"]:
        raise SchemaMismatch(f"{path} has {len(raw)} bytes, and it has {type_['size']}")
    return raw
