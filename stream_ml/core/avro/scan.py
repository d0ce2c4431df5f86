"""Which of many byte strings are one Avro record each: their structure, all rows at once, without decoding a value.

Only needed where a batch holds broken records. A position that is wrong never comes right again: it only grows, so one
comparison with the row's end, when all fields have been passed, is enough. Texts are not looked at.
Source: Avro specification, "Binary Encoding".
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

VARINT_MAX = 10  # bytes of a long
_SIZES = {"null": 0, "float": 4, "double": 8}
_WRONG = 2**62  # a position that no sum brings back before a row's end

Longs = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Step = Callable[[Bytes, Longs], Longs]  # positions before a value to positions after it


class Scan(Protocol):
    """Tells which rows hold a record; `whole`: and not a byte more."""

    def __call__(self, values: Sequence[bytes], *, whole: bool) -> list[int]:
        """Numbers of those rows."""
        ...


def scan_of(record: Any) -> Scan | None:
    """The scan of a record type; None where it has arrays or maps, whose length is no matter of a few steps."""
    step = _step(record)
    if step is None:
        return None

    def scan(values: Sequence[bytes], *, whole: bool) -> list[int]:
        end = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
        start = np.concatenate((np.zeros(1, np.int64), end[:-1]))
        at = step(np.frombuffer(b"".join(values) + b"\0", np.uint8), start)
        found: list[int] = np.flatnonzero(at == end if whole else at <= end).tolist()
        return found

    return scan


def _step(node: Any) -> Step | None:
    if isinstance(node, list):
        return _union([_step(branch) for branch in node])
    kind = node if isinstance(node, str) else node["type"]
    if kind == "record":
        return _record([field["type"] for field in node["fields"]])
    if kind == "enum":
        return _bounded(0, len(node["symbols"]) - 1)
    if kind in _SIZES:
        return _by(_SIZES[kind])
    return {"boolean": _boolean, "int": _bounded(-(2**31), 2**31 - 1), "long": _long, "string": _string}.get(kind)


def _record(types: list[Any]) -> Step | None:
    """Fields of a fixed size that follow each other are one step."""
    steps: list[Step | None] = []
    for fixed, group in groupby(types, key=lambda type_: isinstance(type_, str) and type_ in _SIZES):
        alike = list(group)
        steps += [_by(sum(_SIZES[type_] for type_ in alike))] if fixed else [_step(type_) for type_ in alike]
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        return None

    def record(data: Bytes, at: Longs) -> Longs:
        for step in known:
            at = step(data, at)
        return at

    return record


def _by(size: int) -> Step:
    return lambda _, at: at + size


def _union(steps: list[Step | None]) -> Step | None:
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        return None

    def union(data: Bytes, at: Longs) -> Longs:
        branch, at = _varint(data, at)
        found = np.full_like(at, _WRONG)
        for number, step in enumerate(known):
            rows = np.flatnonzero(branch == number)
            found[rows] = step(data, at[rows])
        return found

    return union


def _bounded(least: int, most: int) -> Step:
    def step(data: Bytes, at: Longs) -> Longs:
        value, at = _varint(data, at)
        return np.where((value >= least) & (value <= most), at, _WRONG)

    return step


def _long(data: Bytes, at: Longs) -> Longs:
    return _varint(data, at)[1]


def _boolean(data: Bytes, at: Longs) -> Longs:
    return np.where(data[np.minimum(at, len(data) - 1)] <= 1, at + 1, _WRONG)


def _string(data: Bytes, at: Longs) -> Longs:
    size, at = _varint(data, at)
    return np.where((size >= 0) & (size <= len(data)), at + size, _WRONG)


def _varint(data: Bytes, at: Longs) -> tuple[Longs, Longs]:
    last = len(data) - 1
    byte = data[np.minimum(at, last)]
    value, at = (byte & 0x7F).astype(np.uint64), at + 1
    rows = np.flatnonzero(byte >= 0x80)
    for number in range(1, VARINT_MAX):
        if not len(rows):
            break
        byte = data[np.minimum(at[rows], last)]
        value[rows] |= (byte & 0x7F).astype(np.uint64) << np.uint64(7 * number)
        at[rows] += 1
        rows = rows[byte >= 0x80]
    at[rows] = _WRONG
    return (value >> np.uint64(1)).astype(np.int64) ^ -(value & np.uint64(1)).astype(np.int64), at
