"""Made-up events of a reader schema: values that the schema allows, always the same ones, to try a model with."""

import uuid
from collections.abc import Iterator
from typing import Any

from stream_ml.core.avro.fields import base_of, logical_of
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.avro.schema import Schema
from stream_ml.core.inputs.features import FeaturePlan

TEXTS = 5  # different ones of a text field
NULL_EVERY = 4  # a field that may be missing is null in one of so many
_FIRST_MS = 1_577_836_800_000  # 2020
_DAYS = 2_000  # of dates from 2020 on
_UNITS = {"millis": 1, "micros": 1_000, "nanos": 1_000_000}  # in a millisecond


def payloads(schema: Schema, plan: FeaturePlan, count: int) -> Iterator[dict[str, Any]]:
    """`count` events as the decoder would give them; what `plan` rejects where it is null never is."""
    for number in range(count):
        yield _Made(schema, plan.may_be_null, number).record(schema.fields, ())


def features(schema: Schema, plan: FeaturePlan, count: int) -> list[dict[str, Any]]:
    """Features of `count` made-up events, without those events that would be dead letters."""
    found = (plan.extract_one(payload) for payload in payloads(schema, plan, count))
    return [kept[0] for kept in found if not isinstance(kept, Rejected)]


class _Made:
    """One event. Each field has a place of its own in the numbers, so that fields do not move together."""

    def __init__(self, schema: Schema, may_be_null: Any, number: int) -> None:
        self._schema, self._may_be_null, self._number = schema, may_be_null, number
        self._place = 0

    def record(self, fields: list[dict[str, Any]], path: tuple[str, ...]) -> dict[str, Any]:
        return {field["name"]: self._field(field["type"], (*path, field["name"])) for field in fields}

    def _field(self, type_: Any, path: tuple[str, ...]) -> Any:
        self._place += 1
        resolved = self._schema.resolve(type_)
        if isinstance(resolved, list):
            branches = [self._schema.resolve(branch) for branch in resolved]
            missing = "null" in branches and (self._number + self._place) % NULL_EVERY == 0
            others = [branch for branch in branches if branch != "null"]
            if not others or (missing and self._may_be_null(path)):
                return None
            resolved = others[0]
        return self._value(resolved, path)

    def _value(self, type_: Any, path: tuple[str, ...]) -> Any:
        base, spread = base_of(type_), self._number * 7919 + self._place * 104_729
        if base == "record":
            return self.record(type_["fields"], path)
        if base == "array":
            return [self._field(type_["items"], path)]
        if base == "map":
            return {"key": self._field(type_["values"], path)}
        if logical_of(type_):
            return self._logical(type_, logical_of(type_), spread)
        if base == "enum":
            return type_["symbols"][spread % len(type_["symbols"])]
        if base == "fixed":
            return bytes([spread % 256]) * int(type_["size"])
        plain = {
            "boolean": spread % 3 == 0,
            "int": spread % 100,  # most whole numbers are counts
            "long": spread % 100,
            "float": (spread % 81 - 40) / 8,
            "double": spread % 1_000 / 100 - 5.0,
            "bytes": bytes([spread % 256]),
            "string": f"v{(self._number * 3 + self._place) % TEXTS}",
        }
        return plain.get(base)

    def _logical(self, type_: Any, logical: str, spread: int) -> Any:
        if logical == "decimal":
            whole = spread % min(10 ** int(type_.get("precision", 1)), 1_000_000)
            if base_of(type_) == "fixed":
                return whole.to_bytes(int(type_["size"]), "big", signed=True)
            return whole.to_bytes(whole.bit_length() // 8 + 1, "big", signed=True)
        if logical == "uuid":
            found = uuid.UUID(int=spread % 50 + 1)
            return found.bytes if base_of(type_) == "fixed" else str(found)
        if logical == "date":
            return _FIRST_MS // 86_400_000 + spread % _DAYS
        kind, _, unit = logical.rpartition("-")
        if kind == "time":
            return spread % 86_400_000 * _UNITS[unit]
        return (_FIRST_MS + spread % _DAYS * 86_400_000) * _UNITS[unit]
