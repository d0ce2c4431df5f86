"""A condition on examples of the training log, as an operator types it: ``partition=3 and label_time>=2026-11-27``."""

import datetime
import json
import operator
import re
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from stream_ml.core.log.entry import Entry
from stream_ml.errors import ConfigError
from stream_ml.units import time_ms

_COMPARISON = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(>=|<=|!=|==|=|>|<)\s*(.+?)\s*", re.DOTALL)
_AND = re.compile(r"\s+and\s+(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", re.IGNORECASE)  # none within a quoted text
_OR = re.compile(r"\s+or\s+(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", re.IGNORECASE)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
EVENT = "event."
FIELDS: dict[str, Callable[[Entry], Any]] = {
    "partition": lambda entry: entry.source_partition,
    "sequence": lambda entry: entry.sequence,
    "id": lambda entry: entry.event_id,
    "event_time": lambda entry: entry.event_time_ms,
    "label_time": lambda entry: entry.label_time_ms,
    "written_at": lambda entry: entry.written_at_ms,
    "label": lambda entry: entry.target.class_name if entry.target.value is None else entry.target.value,
    "class": lambda entry: entry.served.class_name,
    "score": lambda entry: entry.served.score,
    "value": lambda entry: entry.served.value,
    "lineage": lambda entry: entry.served.lineage,
    "position": lambda entry: entry.served.position,
    "writer": lambda entry: entry.writer,
}
_NUMBERS = ("partition", "sequence", "score", "value", "position")
_TIMES = ("event_time", "label_time", "written_at")


class _Comparison(NamedTuple):
    field: str
    compare: Callable[[Any, Any], bool]
    wanted: Any
    text: str


class Condition:
    """A condition; all of its comparisons have to hold.

    Attributes
    ----------
    needs_event
        Whether it looks at fields of the event, which then has to be decoded.

    Raises
    ------
    ConfigError
        It cannot be understood: which part, and what may stand there.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if _OR.search(text):
            raise ConfigError("--where: there is no or, only and", "name ranges of the log: --exclude FIRST:STOP,...")
        self._comparisons = [_comparison(part) for part in _AND.split(text)]
        self.needs_event = any(one.field.startswith(EVENT) for one in self._comparisons)

    def check_fields(self, names: Collection[str]) -> None:
        """See that each field of the event is one; ConfigError where a name is misspelt."""
        for one in self._comparisons:
            first = one.field.removeprefix(EVENT).split(".")[0]
            if one.field.startswith(EVENT) and first not in names:
                raise ConfigError(f"--where: the event has no field {first}", f"it has {', '.join(names)}")

    def holds(self, entry: Entry, payload: Any = None) -> bool:
        """Whether it holds for an example; `payload` is its event, where that is needed."""
        return all(_holds(one, _value(one.field, entry, payload)) for one in self._comparisons)


def _comparison(text: str) -> _Comparison:
    found = _COMPARISON.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"--where: {text.strip()!r} is no comparison", "write FIELD=VALUE, FIELD>=VALUE ..., joined by and"
        )
    field, sign, value = found.groups()
    if field not in FIELDS and not field.startswith(EVENT):
        known = ", ".join(FIELDS)
        raise ConfigError(f"--where: there is no field {field}", f"there are {known}, and event.NAME of the event")
    text = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return _Comparison(field, _OPERATORS[sign], _wanted(field, value), text)


def _wanted(field: str, text: str) -> Any:
    if field in _TIMES:
        try:
            return time_ms(text.strip('"'))
        except ValueError:
            raise ConfigError(f"--where: {text} is no time", "write 2026-11-27T08:10:00Z, or 2026-11-27") from None
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    if field in _NUMBERS and (isinstance(found, bool) or not isinstance(found, int | float)):
        raise ConfigError(f"--where: {field} is a number, and {text} is none", f"{field}>=0, for example")
    return found


def _value(field: str, entry: Entry, payload: Any) -> Any:
    if not field.startswith(EVENT):
        return FIELDS[field](entry)
    for name in field.removeprefix(EVENT).split("."):
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload


def _time_or_none(text: str) -> int | None:
    try:
        return time_ms(text)
    except ValueError:
        return None


def _holds(one: _Comparison, value: Any) -> bool:
    wanted = one.wanted
    if value is None and wanted is not None:
        return False  # also for !=: what is not there is neither this nor another
    if isinstance(value, str):
        wanted = one.text  # as it was typed: an id may look like a number
    if isinstance(value, datetime.datetime):
        value, wanted = round(value.timestamp() * 1000), _time_or_none(one.text)
    elif isinstance(value, datetime.date):
        value, wanted = value.isoformat(), one.text
    if isinstance(value, bool) and wanted in ("true", "false"):
        wanted = wanted == "true"
    try:
        return one.compare(value, wanted)
    except TypeError:
        return False
