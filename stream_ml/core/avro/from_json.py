"""JSON as people write it to what a schema's records hold: times and decimals as text, null without a type's name.

Avro's own JSON encoding names the branch of every union and has no words for logical types, so nobody writes it.
"""

import base64
import datetime
import decimal
import itertools
import uuid
from typing import Any

from stream_ml.core.avro.schema import Schema

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_PER_S = {"millis": 1_000, "micros": 1_000_000, "nanos": 1_000_000_000}
DIGITS_MAX = 1_000  # of a decimal whose schema does not say how many
EXACT_MAX = 2**53  # integers up to it are themselves as a double
UNKNOWN_MAX, NAMES_CHARS = 100, 2_000  # unknown fields of a record that are named, and of those that there are
_BITS = {"int": 32, "long": 64}


class SchemaMismatch(ValueError):
    """A value that its field cannot hold; the message names the field. Whoever wrote the JSON mends it.

    Attributes
    ----------
    path
        Where it stands, as ``a.b[3].c``; empty: the whole record.
    member
        Name of a member there that is no field; empty: it is the value itself.
    """

    def __init__(self, message: str, path: str = "", member: str = "") -> None:
        super().__init__(message)
        self.path, self.member = path, member


def from_json(schema: Schema, value: Any) -> dict[str, Any]:
    """A record in the form that `schema.parsed` encodes.

    Timestamps are ISO 8601 text or the number that Avro holds, dates ``2026-01-31``, decimals and uuids text, bytes
    base64. A field that is left out takes its default.

    Raises
    ------
    SchemaMismatch
        The first thing that is wrong; `mismatches` lists more.
    """
    found: dict[str, Any] = _record(schema, schema.fields, value, "")
    return found


def mismatches(schema: Schema, value: Any) -> list[SchemaMismatch]:
    """Everything that is wrong with a record, the first thing of each field; empty where `from_json` takes it."""
    return _wrong_in(schema, schema.fields, value, "")


def _wrong_in(schema: Schema, fields: list[dict[str, Any]], value: Any, path: str) -> list[SchemaMismatch]:
    if not isinstance(value, dict):
        return [SchemaMismatch(f"{path or schema.name} is a record: write {{...}}", path)]
    found = _unknown_in(fields, value, path)
    for field in fields:
        branches = [branch for branch in branches_of(schema, field["type"]) if branch != "null"]
        given = value.get(field["name"])
        if given is not None and len(branches) == 1 and isinstance(branches[0], dict) and "fields" in branches[0]:
            found += _wrong_in(schema, branches[0]["fields"], given, _at(path, field["name"]))
            continue
        try:
            _field(schema, field, value, path)
        except SchemaMismatch as error:
            found.append(error)
    return found


def _unknown_in(fields: list[dict[str, Any]], value: dict[str, Any], path: str) -> list[SchemaMismatch]:
    names = [field["name"] for field in fields]
    known = ", ".join(names)[:NAMES_CHARS]
    unknown = itertools.islice((name for name in value if name not in names), UNKNOWN_MAX)
    return [SchemaMismatch(f"{_at(path, name)[:200]} is no field; there are {known}", path, name) for name in unknown]


def _record(schema: Schema, fields: list[dict[str, Any]], value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SchemaMismatch(f"{path or schema.name} is a record: write {{...}}", path)
    for unknown in _unknown_in(fields, value, path):
        raise unknown
    return {field["name"]: _field(schema, field, value, path) for field in fields}


def _field(schema: Schema, field: dict[str, Any], record: dict[str, Any], path: str) -> Any:
    """One field of a record: given, its default, or null."""
    at = _at(path, field["name"])
    if field["name"] in record:
        return _value(schema, field["type"], record[field["name"]], at)
    if "default" in field:
        return _default(schema, field["type"], field["default"], at)
    branches = branches_of(schema, field["type"])
    if "null" in branches:
        return None
    raise SchemaMismatch(f"{at} is missing; it is {_type_name(branches[0])}", at)


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
        raise SchemaMismatch(f"{path} is null, and it is {_type_name(branches[0])}", path)
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
    raise problem or SchemaMismatch(f"{path} can only be null", path)


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
            raise SchemaMismatch(f"{path} is beyond what a {base} holds", path) from None
    if base in ("float", "double") and value in ("inf", "-inf", "nan"):  # JSON has no such numbers
        return float(value)
    if base == "enum" and value in type_["symbols"]:
        return value
    if base == "string" and isinstance(value, str):
        return _text(value, path)
    if base in ("bytes", "fixed") and isinstance(value, str | int | float):
        return _bytes(type_ if isinstance(type_, dict) else {}, logical, str(value), path)
    allowed = f" (one of {', '.join(type_['symbols'])})" if base == "enum" else ""
    raise SchemaMismatch(f"{path} is {value!r}, and it is {logical or base}{allowed}", path)


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SchemaMismatch(f"{path} holds half of a character (a lone surrogate), which no text has", path) from None
    return value


def _whole(base: str, logical: str, value: Any, path: str) -> int:
    if isinstance(value, str) and logical:
        value = time_of(logical, value, path)
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT_MAX:
        value = int(value)  # JSON has one kind of number
    if not isinstance(value, int) or isinstance(value, bool):
        raise SchemaMismatch(f"{path} is {value!r}, and it is {logical or base}", path)
    if not -(2 ** (_BITS[base] - 1)) <= value < 2 ** (_BITS[base] - 1):
        raise SchemaMismatch(f"{path} is {value}, which takes more than {_BITS[base]} bits", path)
    return value


def time_of(logical: str, text: str, path: str) -> int:
    """The number that Avro holds of a time, date or timestamp written as ISO 8601; SchemaMismatch where it is none."""
    kind, _, unit = logical.rpartition("-")
    try:
        if logical == "date":
            return (datetime.date.fromisoformat(text) - _EPOCH.date()).days
        per_s = _PER_S[unit]
        if kind == "time":
            of_day = datetime.time.fromisoformat(text)
            if of_day.utcoffset():
                raise ValueError("a time of day has no day to which its offset could lead")
            moment = datetime.datetime.combine(_EPOCH, of_day, datetime.UTC)
        else:
            moment = datetime.datetime.fromisoformat(text)
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
    except (ValueError, KeyError):
        example = {"date": "2026-01-31", "time": "12:30:00"}.get(kind or logical, "2026-01-31T12:30:00Z")
        raise SchemaMismatch(f"{path} is {text!r}, and it is {logical}: write {example}", path) from None
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * per_s + since.microseconds * per_s // 1_000_000


def _bytes(type_: dict[str, Any], logical: str, text: str, path: str) -> bytes:
    try:
        if logical == "decimal":
            given, scale = decimal.Decimal(text), int(type_.get("scale", 0))
            digits = int(type_.get("precision", DIGITS_MAX)) - scale
            if given.is_finite() and given and given.adjusted() >= digits:
                raise SchemaMismatch(
                    f"{path} is {text[:50]}, which has more than {digits} digits before its point", path
                )
            if given.is_finite() and given and given.adjusted() < -scale:
                places = f"more than {scale} decimal places"
                raise SchemaMismatch(f"{path} is {text[:50]}, which has {places}", path)
            with decimal.localcontext(prec=len(text) + scale + digits + 1):
                scaled = given.scaleb(scale)
            if scaled != scaled.to_integral_value():
                raise SchemaMismatch(
                    f"{path} is {text}, which has more than {type_.get('scale', 0)} decimal places", path
                )
            whole = int(scaled)
            size = int(type_["size"]) if type_["type"] == "fixed" else (whole + (whole < 0)).bit_length() // 8 + 1
            return whole.to_bytes(size, "big", signed=True)
        raw = uuid.UUID(text).bytes if logical == "uuid" else base64.b64decode(text, validate=True)
    except (ArithmeticError, ValueError) as error:
        if isinstance(error, SchemaMismatch):
            raise
        raise SchemaMismatch(f"{path} is {text!r}, and it is {logical or 'bytes: write base64'}", path) from None
    if type_.get("type") == "fixed" and len(raw) != type_["size"]:
        raise SchemaMismatch(f"{path} has {len(raw)} bytes, and it has {type_['size']}", path)
    return raw
