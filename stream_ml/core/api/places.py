"""Events without names: lists of values in the order of the model's features, and where their faults stand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from stream_ml.core.api.bodies import envelope, unusable
from stream_ml.core.api.problems import Fault


def put_at(instance: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Put a value into an instance, at the path of its field; the records on the way are made where they are none."""
    *outer, last = path
    for part in outer:
        instance = instance.setdefault(part, {})
    instance[last] = value


class Placed(NamedTuple):
    """Instances with names, of a request by place; `is_one`: it was one list of values, and no list of lists."""

    instances: list[dict[str, Any]]
    partial: bool
    record: bool | None
    is_one: bool


def is_by_place(said: Any) -> bool:
    """Whether a document has that form."""
    return isinstance(said, dict) and "features" in said and "instances" not in said


class Places:
    """Gives values their names, and faults their places."""

    def __init__(self, names: Sequence[str], most: int) -> None:
        self._names, self._max = names, most

    def named(self, said: Any) -> Placed:
        """Instances of ``{"features": [...]}``, one event or a list of them; Problem where it has another form."""
        rows, partial, record = envelope(said, "features", self._max)
        is_one = bool(rows) and not isinstance(rows[0], list)
        rows = [rows] if is_one else rows
        for number, values in enumerate(rows):
            if not isinstance(values, list) or len(values) != len(self._names):
                has = f"{len(values)} values" if isinstance(values, list) else "no list"
                detail = f"{has}; the model has {len(self._names)} features: {', '.join(self._names)}"
                at = "/features" if is_one else f"/features/{number}"
                raise unusable([Fault(at, "schema_mismatch", detail)], len(rows))
        return Placed([self._one(values) for values in rows], partial, record, is_one)

    def _one(self, values: Sequence[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in zip(self._names, values, strict=True):
            put_at(found, name.split("."), value)
        return found

    def fault(self, fault: Fault, *, is_one: bool) -> Fault:
        """A fault of an instance with names, where its value stands in the list."""
        _, _, row, *path = fault.pointer.split("/")
        name = ".".join(path)
        at = "/features" if is_one else f"/features/{row}"
        return fault._replace(pointer=f"{at}/{self._names.index(name)}" if name in self._names else at)
