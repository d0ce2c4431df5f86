"""Records of JSON in the form that the decoder of Avro gives, by types that msgspec checks: the fast lane of a request.

What the types cannot say exactly as `from_json` does is left to it: a schema with such a field has no fast lane.
"""

import struct
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, Literal

import msgspec

from stream_ml.core.avro.fields import base_of, logical_of
from stream_ml.core.avro.from_json import branches_of, from_json, time_of
from stream_ml.core.avro.schema import Schema

_SMALL, _LARGE = 2**31, 2**63  # beyond what an int and a long hold
_INT = Annotated[int, msgspec.Meta(ge=-_SMALL, le=_SMALL - 1)]
_LONG = Annotated[int, msgspec.Meta(ge=-_LARGE, le=_LARGE - 1)]
_PLAIN: dict[str, Any] = {"boolean": bool, "int": _INT, "long": _LONG, "float": float, "double": float, "string": str}
_FLOAT = struct.Struct("<f")

Convert = Callable[[Any], Any]


class NotPlain(Exception):
    """A type, or a value of it, that only the reference judges."""


class TypedRecord:
    """A record type whose values are decoded and checked in one step.

    Parameters
    ----------
    fields
        In the form of `Schema.fields`.
    may_miss
        Names of fields that may be left out, though they have no default: they are then left out of the payload.

    Raises
    ------
    NotPlain
        A field's type is left to the reference.
    """

    def __init__(self, schema: Schema, fields: list[dict[str, Any]], may_miss: Collection[str] = ()) -> None:
        self._converts: list[tuple[str, Convert]] = []
        self._absent: dict[str, Any] = {}  # what a field is that is left out, as far as the schema says it
        must, may = list[tuple[str, Any]](), list[tuple[str, Any, Any]]()
        names: dict[str, str] = {}  # by attribute: an Avro name may be a word of Python's
        for number, field in enumerate(fields):
            name, (type_, convert) = field["name"], _typed(schema, field["type"])
            attribute = f"f{number}"
            names[attribute] = name
            if convert is not None:
                self._converts.append((name, convert))
            if "default" in field or "null" in branches_of(schema, field["type"]):
                self._absent[name] = _absent(schema, field)
            elif name not in may_miss:
                must.append((attribute, type_))
                continue
            may.append((attribute, type_ | msgspec.UnsetType, msgspec.UNSET))
        self._order = [names[member[0]] for member in (*must, *may)]
        self._is_whole, self._musts = not may, len(must)
        self.type: Any = msgspec.defstruct("Record", [*must, *may], rename=names, forbid_unknown_fields=True, gc=False)

    def columns(self, given: Sequence[Any]) -> dict[str, tuple[Any, ...]]:
        """Values by field of n records, but of fields that none of them has.

        Raises
        ------
        NotPlain
            Some have a field and some have not, one is null, or a value has to be converted.
        """
        found: dict[str, tuple[Any, ...]] = {}
        converted = {name for name, convert in self._converts if convert is not _binary32}
        columns = zip(*map(msgspec.structs.astuple, given), strict=True)
        for number, (name, column) in enumerate(zip(self._order, columns, strict=True)):
            if number >= self._musts:  # of all others the types have seen to it that all have one, of one type
                kinds = set(map(type, column))
                if kinds == {msgspec.UnsetType} and name not in self._absent:
                    continue
                if len(kinds) > 1 or kinds & {msgspec.UnsetType, type(None)}:
                    raise NotPlain
            if name in converted:
                raise NotPlain
            found[name] = column
        return found

    def payload(self, given: Any) -> dict[str, Any]:
        """Its payload, as the decoder of Avro gives it; NotPlain where only the reference can judge a value."""
        found = dict(zip(self._order, msgspec.structs.astuple(given), strict=True))
        if not self._is_whole:
            for name in [name for name, value in found.items() if value is msgspec.UNSET]:
                del found[name]
                if name in self._absent:
                    found[name] = self._absent[name]
        for name, convert in self._converts:
            value = found.get(name)
            if value is not None:
                found[name] = convert(value)
        return found


def _absent(schema: Schema, field: dict[str, Any]) -> Any:
    """The payload of a field that is left out, before it is converted."""
    found = from_json(schema._replace(fields=[field]), {})[field["name"]]
    if isinstance(found, dict | list | tuple | bytes):
        raise NotPlain
    return found


def _typed(schema: Schema, type_: Any) -> tuple[Any, Convert | None]:
    """The type that msgspec checks, and what makes the payload of such a value; None: the value is it."""
    branches = branches_of(schema, type_)
    others = [branch for branch in branches if branch != "null"]
    if len(others) != 1:
        raise NotPlain
    found, convert = _one(schema, others[0])
    return (found | None if len(branches) > 1 else found), convert


def _one(schema: Schema, type_: Any) -> tuple[Any, Convert | None]:
    base, logical = base_of(type_), logical_of(type_)
    if base == "record":
        inner = TypedRecord(schema, type_["fields"])
        return inner.type, lambda value: inner.payload(value) if isinstance(value, inner.type) else value
    if base == "enum":
        return Literal[tuple(type_["symbols"])], None
    if base == "float":
        return float, _binary32
    said = str(type_.get("logicalType", "")) if isinstance(type_, dict) else ""
    if base in ("int", "long") and said:
        if said != logical:  # on a base that it cannot stand on
            raise NotPlain
        return _PLAIN[base] | str, _time(logical, _SMALL if base == "int" else _LARGE)
    if base in _PLAIN:
        return _PLAIN[base], None
    raise NotPlain


def _binary32(value: float) -> float:
    """As Avro's float holds it."""
    try:
        found: float = _FLOAT.unpack(_FLOAT.pack(value))[0]
    except OverflowError:
        raise NotPlain from None
    return found


def _time(logical: str, most: int) -> Convert:
    def convert(value: int | str) -> int:
        if isinstance(value, int):
            return value
        try:
            found = time_of(logical, value, "")
        except ValueError:
            raise NotPlain from None
        if not -most <= found < most:
            raise NotPlain
        return found

    return convert
