"""One field of a record schema: how to reach it and which plain value it gives.

A field is named by a dotted path through nested records, any of which may be nullable.
"""

import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from stream_ml.core.avro.schema import Schema
from stream_ml.errors import ConfigError

MAGNITUDE_MAX = 1e18  # beyond it squares and products of features leave the range that doubles hold exactly enough

_NUMBERS = {"int", "long", "float", "double"}
_PER_S = {"millis": 1e3, "micros": 1e6, "nanos": 1e9}
_TIMES_PER_S = {f"{kind}-{unit}": n for kind in ("timestamp", "local-timestamp", "time") for unit, n in _PER_S.items()}
_STANDS_ON = {  # Avro: a logical type on any other base is to be ignored
    "date": {"int"},
    "time-millis": {"int"},
    "time-micros": {"long"},
    **{f"{kind}-{unit}": {"long"} for kind in ("timestamp", "local-timestamp") for unit in _PER_S},
    "decimal": {"bytes", "fixed"},
    "uuid": {"string", "fixed"},
}


class Field(NamedTuple):
    """A scalar field: where it stands and what kind it is.

    `kind` is number, boolean or text; `logical` the Avro logical type or the empty string; `type_` its Avro type.
    """

    path: tuple[str, ...]
    type_: Any
    base: str
    logical: str
    nullable: bool

    @property
    def name(self) -> str:
        """Dotted name."""
        return ".".join(self.path)

    @property
    def kind(self) -> str:
        """What the model would get: number, boolean or text; empty where it is none of these."""
        if self.base in _NUMBERS or self.logical == "decimal":
            return "number"
        if self.base == "boolean":
            return "boolean"
        return "text" if self.base in ("string", "enum") or self.logical == "uuid" else ""


def find_field(schema: Schema, dotted: str, *, where: str) -> Field:
    """The field with this dotted name; ConfigError says which names there are."""
    fields, nullable = schema.fields, False
    path: tuple[str, ...] = ()
    parts = dotted.split(".")
    for depth, part in enumerate(parts):
        found = next((field for field in fields if field["name"] == part), None)
        if found is None:
            names = ", ".join(str(field["name"]) for field in fields)
            raise ConfigError(f"{where}: {schema.name} has no field {dotted!r}", f"its fields are: {names}")
        field = _field(schema, found["type"], (*path, part))
        path, nullable = field.path, nullable or field.nullable
        if depth < len(parts) - 1:
            if field.base != "record":
                raise ConfigError(f"{where}: {'.'.join(path)} is not a record, so it has no field {parts[depth + 1]!r}")
            fields = schema.resolve(field.type_)["fields"]
    return field._replace(nullable=nullable)


def scalar_fields(schema: Schema) -> list[Field]:
    """Every field that a model could get, nested ones too, in schema order."""
    found: list[Field] = []

    def walk(fields: list[dict[str, Any]], path: tuple[str, ...], nullable: bool) -> None:
        for item in fields:
            field = _field(schema, item["type"], (*path, item["name"]))
            field = field._replace(nullable=nullable or field.nullable)
            if field.base == "record":
                walk(schema.resolve(field.type_)["fields"], field.path, field.nullable)
            elif field.kind:
                found.append(field)

    walk(schema.fields, (), False)
    return found


def _field(schema: Schema, type_: Any, path: tuple[str, ...]) -> Field:
    resolved, nullable = schema.resolve(type_), False
    if isinstance(resolved, list):
        rest = [branch for branch in resolved if branch != "null"]
        nullable = len(rest) < len(resolved)
        if len(rest) != 1:
            return Field(path, resolved, "union", "", nullable)
        resolved = schema.resolve(rest[0])
    return Field(path, resolved, base_of(resolved), logical_of(resolved), nullable)


def base_of(resolved: Any) -> str:
    """The Avro type that a resolved type stands on."""
    return str(resolved["type"]) if isinstance(resolved, dict) else str(resolved)


def logical_of(resolved: Any) -> str:
    """The logical type of a resolved type; empty where there is none, or one on a base that it cannot stand on."""
    logical = str(resolved.get("logicalType", "")) if isinstance(resolved, dict) else ""
    return logical if base_of(resolved) in _STANDS_ON.get(logical, ()) else ""


def getter(field: Field) -> Callable[[Any], Any]:
    """A function from a decoded record to this field's raw value, None where it or a parent is null."""
    if len(field.path) == 1:
        name = field.path[0]
        return lambda record: record[name]

    def reach(record: Any) -> Any:
        for part in field.path:
            if record is None:
                return None
            record = record[part]
        return record

    return reach


def composed(get: Callable[[Any], Any], convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function from a record to a converted field; None where the field is null."""

    def value_of(payload: Any) -> Any:
        value = get(payload)
        return None if value is None else convert(value)

    return value_of


class InvalidValue(ValueError):
    """A value that must never reach a model: not finite, or absurdly large."""


def converter(field: Field) -> Callable[[Any], Any]:
    """A function from the raw value (not None) to what the model gets.

    number: finite float or int; times become seconds, dates days since 1970-01-01. boolean: bool. text: str.
    The function raises InvalidValue on NaN, infinities and beyond MAGNITUDE_MAX; the caller makes a dead letter.
    """
    if field.kind == "text":
        return uuid_text if field.logical == "uuid" else str
    if field.kind == "boolean":
        return bool
    divisor = divisor_of(field)
    if divisor is not None:
        return lambda value: finite(value / divisor)
    return _decimal_of(field) if field.logical == "decimal" else finite


def divisor_of(field: Field) -> float | None:
    """Units in a second of a field that is a time; None for other numbers."""
    return _TIMES_PER_S.get(field.logical)


def finite(value: float) -> float:
    """The number itself where a model can bear it; InvalidValue otherwise."""
    if not -MAGNITUDE_MAX <= value <= MAGNITUDE_MAX:
        if isinstance(value, int):
            raise InvalidValue("an integer beyond 1e18")
        raise InvalidValue(f"{value!r} is {'beyond 1e18' if math.isfinite(value) else 'not finite'}")
    return value


def _decimal_of(field: Field) -> Callable[[bytes], float]:
    """Big-endian two's complement by the type's scale; no longer than its precision needs, so it takes no time."""
    precision, scale = int(field.type_.get("precision", 0)), int(field.type_.get("scale", 0))
    bytes_max = (precision * 10 // 3 + 1) // 8 + 1  # a digit takes less than 10/3 bits

    def value_of(raw: bytes) -> float:
        if field.base == "bytes" and len(raw) > bytes_max:
            raise InvalidValue(f"a decimal of {len(raw)} bytes, where {precision} digits need {bytes_max}")
        return finite(float(Decimal(int.from_bytes(raw, "big", signed=True)).scaleb(-scale)))

    return value_of


def uuid_text(value: Any) -> str:
    """Canonical text of a uuid, given as text or as its sixteen bytes."""
    return str(uuid.UUID(bytes=value) if isinstance(value, bytes) else uuid.UUID(value))


def time_ms_of(field: Field, *, where: str) -> Callable[[Any], int]:
    """A function from the raw value to milliseconds since 1970-01-01 UTC; ConfigError where it is no time."""
    factor, divisor = time_scale(field, where=where)
    return lambda value: int(value * factor // divisor)


def time_scale(field: Field, *, where: str) -> tuple[int, int]:
    """By what a raw time is multiplied, then divided, to give milliseconds; ConfigError where it is no time."""
    kind, _, unit = field.logical.rpartition("-")
    if kind in ("timestamp", "local-timestamp"):
        return 1, {"millis": 1, "micros": 1_000, "nanos": 1_000_000}[unit]
    if field.logical == "date":
        return 86_400_000, 1
    raise ConfigError(
        f"{where}: {field.name} has no timestamp type",
        "use a field with logicalType timestamp-millis, -micros, -nanos or date, or: record",
    )


def id_text_of(field: Field, *, where: str) -> Callable[[Any], str]:
    """A function from the raw value to the canonical text of an event id; ConfigError where it cannot be one."""
    if field.logical == "uuid":
        return uuid_text
    if field.base in ("string", "enum", "int", "long") and field.logical != "decimal":
        return str
    if field.base == "fixed" and not field.logical:
        return lambda value: str(value.hex())
    raise ConfigError(f"{where}: {field.name} is {field.base}", "an id is a string, an integer, a uuid or a fixed")
