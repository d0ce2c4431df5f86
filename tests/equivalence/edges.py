"""Record types by chance, and records of them that are full of values at the edges."""

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from stream_ml.core.avro.schema import Schema, load_schema
from stream_ml.records import Record, Records
from tests.support.inputs import NOW_MS

DAY_MS = 86_400_000
UUID = "9f2c5d1e-0f3b-4a53-9d2e-0a1b2c3d4e5f"

# --- types, and values at their edges ---


def _around(*middles: int) -> list[int]:
    return [middle + step for middle in middles for step in (-1, 0, 1)]


_INTS = [*_around(0, 2**24, -(2**24)), 2**31 - 1, -(2**31), -719_162, -719_163]
_MOST = [10**18 + step for step in (-65, -1, 0, 1, 63, 64, 65, 128)]
_LONGS = [*_INTS, *_MOST, *(-number for number in _MOST), *_around(2**53, -(2**53)), 2**63 - 1, -(2**63)]
_DOUBLES = [
    *(0.0, -0.0, 0.1, 5e-324, -5e-324, 2.2e-308, 1e18, -1e18, 1.0000000000000002e18, 1e308),
    *(float("inf"), float("-inf"), float("nan"), float(2**53), 1e-7, 123456789.125),
]
_FLOATS = [struct.unpack("<f", struct.pack("<f", x))[0] for x in _DOUBLES if not abs(x) > 3e38 or x == float("inf")]
_TEXTS = [
    *("", "a", "A", " a", "\x00", "a\x00b", "ü", "e\u0301", "\ufeff", "\u2028", "\U0001d4b3", "true", "1", "nan", UUID),
    *("x" * 1_023, "x" * 1_024, "x" * 1_025, "ü" * 1_024, "\U0001d4b3" * 1_024, "\U0001d4b3" * 1_025),
]
_UUIDS = [UUID, UUID.upper(), "{" + UUID + "}", "urn:uuid:" + UUID, UUID.replace("-", ""), "", "x", UUID + "0"]
_MILLIS = [0, -1, 1, NOW_MS, *_around(NOW_MS + DAY_MS, -62_135_596_800_000), *_LONGS]


def logical(base: str, name: str) -> dict[str, Any]:
    return {"type": base, "logicalType": name}


def _enum(name: str) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": ["A", "B", "true"]}


def _times(unit: int) -> list[int]:
    return [found for ms in _MILLIS if -(2**63) <= (found := ms * unit) < 2**63]


class Kind(NamedTuple):
    """A type (by a name for what has one), values of it, and what a null may be filled in with."""

    type_: Callable[[str], Any]
    values: Sequence[Any]
    imputes: Sequence[Any]


_NUMBERS: list[Any] = [0, 3, -7, 1.5, -0.0, 10**18, 2**53 + 1, 1e-300]
KINDS: dict[str, Kind] = {
    "int": Kind(lambda _: "int", _INTS, _NUMBERS),
    "long": Kind(lambda _: "long", _LONGS, _NUMBERS),
    "float": Kind(lambda _: "float", _FLOATS, _NUMBERS),
    "double": Kind(lambda _: "double", _DOUBLES, _NUMBERS),
    "boolean": Kind(lambda _: "boolean", [True, False], [True, False]),
    "string": Kind(lambda _: "string", _TEXTS, ["", "?", "\x00"]),
    "enum": Kind(_enum, ["A", "B", "true"], ["A", "?"]),
    "uuid": Kind(lambda _: logical("string", "uuid"), _UUIDS, [UUID, UUID.upper(), "none"]),
    "timestamp-millis": Kind(lambda _: logical("long", "timestamp-millis"), _MILLIS, _NUMBERS),
    "timestamp-micros": Kind(lambda _: logical("long", "timestamp-micros"), _times(1_000), _NUMBERS),
    "timestamp-nanos": Kind(lambda _: logical("long", "timestamp-nanos"), _times(1_000_000), _NUMBERS),
    "local-timestamp-micros": Kind(lambda _: logical("long", "local-timestamp-micros"), _times(1_000), _NUMBERS),
    "date": Kind(lambda _: logical("int", "date"), _INTS, _NUMBERS),
    "time-millis": Kind(lambda _: logical("int", "time-millis"), _INTS, _NUMBERS),
    "time-micros": Kind(lambda _: logical("long", "time-micros"), _LONGS, _NUMBERS),
    "date on a long": Kind(lambda _: logical("long", "date"), _LONGS, _NUMBERS),
    "unknown": Kind(lambda _: logical("double", "money"), _DOUBLES, _NUMBERS),
    "array": Kind(lambda _: {"type": "array", "items": "long"}, [[], [1], [2**63 - 1, -1]], []),
    "map": Kind(lambda _: {"type": "map", "values": "string"}, [{}, {"": ""}, {"a": "\x00", "ü": "b"}], []),
}
IDS = ("string", "uuid", "enum", "int", "long")
TIMES = ("timestamp-millis", "timestamp-micros", "timestamp-nanos", "local-timestamp-micros", "date")


class Made:
    """A record type and rows of it, by chance: fields stand alone or in a record, nullable or not."""

    def __init__(self, chance: random.Random, kinds: Sequence[str], fixed: dict[str, str]) -> None:
        self._chance = chance
        self.imputes: dict[str, Sequence[Any]] = {}
        self.paths: dict[str, str] = {}
        some = [*fixed.items(), *((f"f{number}", kind) for number, kind in enumerate(kinds))]
        chance.shuffle(some)
        inner, flat = [], []
        for name, kind in some:
            (inner if chance.random() < 0.3 else flat).append((name, kind))
        self._flat, self._values = self._fields(flat, "")
        if inner:
            fields, values = self._fields(inner, "inner.")
            record = {"type": "record", "name": "Inner", "fields": fields}
            self._flat.append({"name": "inner", "type": ["null", record] if chance.random() < 0.5 else record})
            nullable = isinstance(self._flat[-1]["type"], list)
            self._values["inner"] = lambda: (
                None if nullable and chance.random() < 0.05 else {name: of() for name, of in values.items()}
            )

    def _fields(self, some: list[tuple[str, str]], under: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        fields, values = [], {}
        for name, kind in some:
            type_, pool, imputes = KINDS[kind]
            found = type_(f"E_{name}")
            chance, nullable = self._chance, self._chance.random() < 0.5
            if nullable:
                found = ["null", found] if chance.random() < 0.7 else [found, "null"]
            self.paths[name] = under + name
            if imputes:
                self.imputes[under + name] = imputes
            fields.append({"name": name, "type": found})
            values[name] = lambda pool=pool, nullable=nullable: self._one(pool, nullable)
        return fields, values

    def _one(self, pool: Sequence[Any], nullable: bool) -> Any:
        """Mostly what is harmless, or a row would never be without a fault."""
        if nullable and self._chance.random() < 0.1:
            return None
        return self._chance.choice(pool) if self._chance.random() < 0.2 else pool[self._chance.randrange(2)]

    def schema(self, **more: Any) -> Schema:
        """The record type."""
        return load_schema(json.dumps({"type": "record", "name": "R", "fields": self._flat, **more}), where="r.avsc")

    def rows(self, count: int) -> list[dict[str, Any]]:
        """Values of it."""
        return [{name: of() for name, of in self._values.items()} for _ in range(count)]

    def missing(self, left_out: set[str]) -> dict[str, Any]:
        """A policy for some features; those that are left out are none."""
        chance = self._chance
        found: dict[str, Any] = {"default": chance.choice(["reject", "drop", {"impute": 1.5}, {"impute": 3}])}
        for name, values in self.imputes.items():
            if name not in left_out and chance.random() < 0.7:
                found[name] = chance.choice(["reject", "drop", *({"impute": value} for value in values)])
        return found


def records_of(values: Sequence[bytes | None], chance: random.Random) -> Records:
    """Records with these values, and keys and times at their edges."""
    keys = [b"k", b"key", b"", None, b"\xff", b"\xed\xa0\x80", *(text.encode() for text in _TEXTS)]
    times = [NOW_MS, NOW_MS - 1, *_around(NOW_MS + DAY_MS, -62_135_596_800_000), 2**63 - 1, -1]
    some = [
        Record("t", 3, row, times[chance.randrange(len(times))], keys[chance.randrange(len(keys))], value)
        for row, value in enumerate(values)
    ]
    return Records.of("t", 3, some)


def damaged(value: bytes, chance: random.Random) -> bytes | None:
    """Now and then something else."""
    if chance.random() > 0.1:
        return value
    at = chance.randrange(len(value))
    return chance.choice(
        [
            None,
            b"",
            value[:at],
            value + b"\x00",
            value[:at] + bytes([chance.randrange(256)]) + value[at + 1 :],
            value[:at] + b"\x80\x00" + value[at + 1 :],
            value[:at] + b"\xed\xa0\x80" + value[at + 3 :],
        ]
    )
