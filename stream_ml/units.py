"""Durations and sizes as text with a unit: ``100ms``, ``60s``, ``1GiB``; and times as ISO 8601 has them."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_DURATIONS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def _parse(text: object, units: dict[str, int], what: str) -> int:
    if isinstance(text, int) and not isinstance(text, bool) and text == 0:
        return 0
    match = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r} is not a {what}: write a number and one of {', '.join(units)}")
    return round(float(match[1]) * units[match[2]])


def duration_ms(text: object) -> int:
    """Milliseconds of a duration such as ``2d`` or ``100ms``; ValueError names the units.

    >>> duration_ms("1.5h")
    5400000
    """
    return _parse(text, _DURATIONS_MS, "duration")


def size_bytes(text: object) -> int:
    """Bytes of a size such as ``1GiB``; ValueError names the units."""
    return _parse(text, _SIZES, "size")


def _text(value: int, units: dict[str, int]) -> str:
    for unit, factor in sorted(units.items(), key=lambda item: -item[1]):
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return f"0{min(units, key=lambda unit: units[unit])}"


def duration_text(ms: int) -> str:
    """Shortest exact duration, for example ``2d`` for 172,800,000."""
    return _text(ms, {unit: factor for unit, factor in _DURATIONS_MS.items() if unit != "w"})


def duration_words(ms: float, digits: int = 1) -> str:
    """About how long, in the largest unit of which there is one: ``2.5 h``."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if abs(ms) >= size:
            return f"{ms / size:.{digits}f} {unit}"
    return f"{ms:.0f} ms"


def size_text(size: int) -> str:
    """Shortest exact size, for example ``1GiB``."""
    return _text(size, _SIZES)


def time_ms(text: str) -> int:
    """Milliseconds since 1970 of a time such as ``2026-11-27T08:10:00Z``; of one without a zone in UTC.

    >>> time_ms("1970-01-02")
    86400000
    """
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def time_text(ms: int) -> str:
    """A time for people, in UTC: ``2026-11-27 08:10:00``; of what is none the number."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"  # a producer that writes other units


def _schema(units: dict[str, int], example: str) -> WithJsonSchema:
    pattern = rf"^\d+(\.\d+)?\s*({'|'.join(units)})$"
    return WithJsonSchema({"anyOf": [{"type": "string", "pattern": pattern, "examples": [example]}, {"const": 0}]})


Duration = Annotated[int, BeforeValidator(duration_ms), PlainSerializer(duration_text), _schema(_DURATIONS_MS, "100ms")]
Size = Annotated[int, BeforeValidator(size_bytes), PlainSerializer(size_text), _schema(_SIZES, "1GiB")]
