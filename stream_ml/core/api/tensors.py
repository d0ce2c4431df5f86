"""Tensors of the Open Inference Protocol (version 2): named, typed columns of n values, as JSON or as raw bytes.

Source of names, widths and layouts: the protocol's "Required API" and its binary tensor data extension.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from stream_ml.core.api.problems import Fault, Problem, step_of

BYTES = "BYTES"
_RAW: dict[str, Any] = {  # little-endian, as raw contents have them
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
DATATYPES = (*_RAW, BYTES)
_LIMITS = {name: np.iinfo(kind) for name, kind in _RAW.items() if kind.kind in "iu"}
_NARROW = {"FP16": struct.Struct("<e"), "FP32": struct.Struct("<f")}
_LENGTH = struct.Struct("<I")
AXES_MAX = 8  # of a shape
WHOLE_MAX = 2**53  # up to here each whole number is a float of its own
TENSORS_MAX = 4_096  # inputs of one request


class Tensor(NamedTuple):
    """A tensor whose values are here.

    Parameters
    ----------
    values
        All of them, flat: bool, int, float; of BYTES a text, or bytes where they came raw.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    values: Sequence[Any]

    @property
    def rows(self) -> int:
        """The first axis."""
        return self.shape[0]


def wrong(name: str, words: str) -> Problem:
    """The problem of a tensor that is none."""
    return Problem("not-readable", f"input {name[:100]}: {words}")


def check_count(count: int) -> None:
    """Problem where a request has more inputs than are taken."""
    if count > TENSORS_MAX:
        raise Problem("too-large", f"{count:,} inputs; at most {TENSORS_MAX:,} in one request")


def size_of(name: str, datatype: str, shape: Sequence[int], most: int) -> int:
    """How many values a tensor has; Problem where its type is unknown, or its shape is none, or of more than `most`."""
    if datatype not in DATATYPES:
        raise wrong(name, f"there is no datatype {datatype[:20]!r}; there are {', '.join(DATATYPES)}")
    if not 0 < len(shape) <= AXES_MAX or any(axis < 0 for axis in shape):
        raise wrong(name, f"its shape has 1 to {AXES_MAX} axes, none of them negative")
    found = math.prod(shape)
    if found > most:
        raise Problem("too-large", f"input {name[:100]}: {found:,} values; at most {most:,} in one request")
    return found


def of_json(name: str, datatype: str, shape: Sequence[int], data: Any, most: int) -> Tensor:
    """A tensor whose data is JSON, flat or nested as its shape says; Problem where it does not fit."""
    size = size_of(name, datatype, shape, most)
    if not isinstance(data, list):
        raise wrong(name, "data is a list")
    values = list(_flat(name, data, len(shape)))
    if len(values) != size:
        raise wrong(name, f"its shape {list(shape)} is of {size} values, and its data has {len(values)}")
    return Tensor(name, datatype, shape, _checked(name, datatype, values))


def of_typed(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any], most: int) -> Tensor:
    """A tensor whose values a decoder has typed already (gRPC); Problem where it does not fit."""
    size = size_of(name, datatype, shape, most)
    if len(values) != size:
        raise wrong(name, f"its shape {list(shape)} is of {size} values, and its contents have {len(values)}")
    if datatype in _LIMITS:
        values = _checked(name, datatype, list(values))
    return Tensor(name, datatype, shape, values)


def of_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes, most: int) -> Tensor:
    """A tensor of raw contents: little-endian, row by row; of BYTES each value after its length in 4 bytes."""
    size = size_of(name, datatype, shape, most)
    if datatype == BYTES:
        return Tensor(name, datatype, shape, _texts(name, raw, size))
    kind = _RAW[datatype]
    if len(raw) != size * kind.itemsize:
        needs = f"{size} values of {datatype} are {size * kind.itemsize} bytes"
        raise wrong(name, f"{needs}, and its raw contents have {len(raw)}")
    return Tensor(name, datatype, shape, np.frombuffer(raw, kind).tolist())


def raw_of(tensor: Tensor) -> bytes:
    """Its values as raw contents."""
    if tensor.datatype != BYTES:
        return np.array(tensor.values, _RAW[tensor.datatype]).tobytes()
    found = bytearray()
    for value in tensor.values:
        encoded = value if isinstance(value, bytes) else value.encode()
        found += _LENGTH.pack(len(encoded)) + encoded
    return bytes(found)


def _flat(name: str, data: list[Any], axes: int) -> Iterator[Any]:
    """The values of nested lists; at most so deep as the shape has axes."""
    for value in data:
        if isinstance(value, list):
            if axes == 1:
                raise wrong(name, "its data nests more deeply than its shape")
            yield from _flat(name, value, axes - 1)
        else:
            yield value


def _checked(name: str, datatype: str, values: list[Any]) -> list[Any]:
    """Values as their type holds them; Problem at the first that it cannot hold.

    JSON has one kind of number: 1.0 is an INT32, and some clients write true as 1.0 (open-inference-openapi 2.0.0).
    """
    if datatype in _LIMITS:
        limits = _LIMITS[datatype]
        low, high = int(limits.min), int(limits.max)
        for number, value in enumerate(values):
            if type(value) is float and abs(value) <= WHOLE_MAX and value.is_integer():
                values[number] = int(value)
            if type(values[number]) is not int or not low <= value <= high:
                raise _wrong_value(name, number, f"{_shown(value)} is no {datatype}")
        return values
    if datatype in ("BOOL", BYTES):
        kind = bool if datatype == "BOOL" else str
        for number, value in enumerate(values):
            if kind is bool and type(value) in (int, float) and value in (0, 1):
                values[number] = value == 1
            elif type(value) is not kind:
                raise _wrong_value(name, number, f"{_shown(value)} is no {datatype}")
        return values
    narrow = _NARROW.get(datatype)
    for number, value in enumerate(values):
        if type(value) not in (int, float):
            raise _wrong_value(name, number, f"{_shown(value)} is no {datatype}")
        try:
            values[number] = float(value) if narrow is None else narrow.unpack(narrow.pack(value))[0]
        except (OverflowError, struct.error):  # the latter of whole numbers beyond all floats
            raise _wrong_value(name, number, f"{_shown(value)} is beyond {datatype}") from None
    return values


def _wrong_value(name: str, number: int, words: str) -> Problem:
    """With words that repeat a value, which are left out where an operator wants that."""
    pointer = f"/inputs/{number}{step_of(name[:100])}"
    return Problem("not-readable", words, faults=[Fault(pointer, "schema_mismatch", words)])


def _shown(value: Any) -> str:
    return repr(value)[:40]


def _texts(name: str, raw: bytes, size: int) -> list[bytes]:
    found, at = list[bytes](), 0
    for _ in range(size):
        if at + _LENGTH.size > len(raw):
            break
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if at + length > len(raw):
            break
        found.append(raw[at : at + length])
        at += length
    if len(found) != size or at != len(raw):
        raise wrong(name, f"its raw contents are not {size} values, each after its length in 4 bytes")
    return found
