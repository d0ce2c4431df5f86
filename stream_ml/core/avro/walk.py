"""Where one Avro record ends, by the letter of the specification: what fastavro takes and must not is refused here.

fastavro reads a negative symbol or branch from the back of its list, keeps an int of more than 32 bits, and takes any
byte for a boolean. Such bytes were never written by an Avro writer, so what they decode to is nobody's data.
Source: Avro specification, "Binary Encoding".
"""

from collections.abc import Callable
from itertools import groupby
from typing import Any

from stream_ml.core.avro.scan import VARINT_MAX

EMPTY_MAX = 10_000  # items that take no bytes: six bytes could claim a billion

Walk = Callable[[bytes, int], int]  # bytes and the place of a value to the place after it

_SIZES = {"null": 0, "float": 4, "double": 8}


class NotAvro(ValueError):
    """Bytes that no Avro writer would have written; says of which field, and what stands there instead."""

    def __init__(self, words: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(words.replace("{}", ".".join(path) or "it"))
        self.words, self.path = words, path


class Ended(EOFError):
    """The bytes end before the value does; says inside of which field."""

    def __init__(self, path: tuple[str, ...] = ()) -> None:
        super().__init__(f"the bytes end inside of {'.'.join(path)}" if path else "the bytes end too early")
        self.path = path


def walk_of(schema: Any) -> Walk:
    """A function that passes one value of a parsed schema, and raises where the bytes are none: NotAvro, or Ended."""
    return _walk(schema, {})


def _walk(node: Any, named: dict[str, Walk], simple: dict[str, Walk] | None = None) -> Walk:
    simple = _SIMPLE if simple is None else simple
    if isinstance(node, list):
        return _union([_walk(branch, named, simple) for branch in node])
    if isinstance(node, str):
        return named[node] if node in named else simple[node]
    kind = node["type"]
    if kind in ("record", "error"):
        walk = _record(_fields(node["fields"], named, simple))
    elif kind == "enum":
        walk = _enum(len(node["symbols"]))
    elif kind == "fixed":
        walk = _by(int(node["size"]))
    elif kind == "array":
        return _blocks(_walk(node["items"], named, simple))
    elif kind == "map":
        return _blocks(_pair(_walk(node["values"], named, simple)))
    else:
        return _walk(kind, named, simple)
    named[node["name"]] = walk
    return walk


def _fields(fields: list[dict[str, Any]], named: dict[str, Walk], simple: dict[str, Walk]) -> list[tuple[str, Walk]]:
    """A step for each field, one for fields of a fixed size that follow each other, which have nothing to refuse."""
    steps: list[tuple[str, Walk]] = []
    for fixed, group in groupby(fields, key=lambda field: isinstance(field["type"], str) and field["type"] in _SIZES):
        alike = list(group)
        if fixed:
            steps.append((str(alike[0]["name"]), _by(sum(_SIZES[field["type"]] for field in alike))))
        else:
            steps += [(str(field["name"]), _walk(field["type"], named, simple)) for field in alike]
    return steps


def _record(fields: list[tuple[str, Walk]]) -> Walk:
    def record(value: bytes, at: int) -> int:
        name = ""
        try:
            for name, walk in fields:  # noqa: B007 - told where it fails
                at = walk(value, at)
        except NotAvro as error:
            raise NotAvro(error.words, (name, *error.path)) from None
        except Ended as error:
            raise Ended((name, *error.path)) from None
        return at

    return record


def _by(size: int) -> Walk:
    def fixed(value: bytes, at: int) -> int:
        at += size
        if at > len(value):
            raise Ended
        return at

    return fixed


def _boolean(value: bytes, at: int) -> int:
    if at >= len(value):
        raise Ended
    if value[at] > 1:
        raise NotAvro(f"{{}} is a boolean, 0 or 1, and here stands {value[at]}")
    return at + 1


def _number(value: bytes, at: int) -> tuple[int, int]:
    """A long and the place after it."""
    try:
        byte = value[at]
        if byte < 0x80:
            return (byte >> 1) ^ -(byte & 1), at + 1
        raw = shift = 0
        for at in range(at, at + VARINT_MAX):  # noqa: B020, PLR1704 - goes on from the place
            byte = value[at]
            raw |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
    except IndexError:
        raise Ended from None
    if byte >= 0x80 or raw >= 2**64:
        raise NotAvro("{} holds a number of more than 64 bits")
    return (raw >> 1) ^ -(raw & 1), at + 1


def _long(value: bytes, at: int) -> int:
    return _number(value, at)[1]


def _int(value: bytes, at: int) -> int:
    number, at = _number(value, at)
    if not -(2**31) <= number < 2**31:
        raise NotAvro(f"{{}} is an int of 32 bits, and here stands {number}")
    return at


def _bytes(value: bytes, at: int) -> int:
    size, at = _number(value, at)
    if size < 0:
        raise NotAvro(f"the length of {{}} is {size}")
    at += size
    if at > len(value):
        raise Ended
    return at


def _enum(count: int) -> Walk:
    def enum(value: bytes, at: int) -> int:
        number, at = _number(value, at)
        if not 0 <= number < count:
            raise NotAvro(f"{{}} names symbol {number} of an enum with {count}")
        return at

    return enum


def _union(branches: list[Walk]) -> Walk:
    def union(value: bytes, at: int) -> int:
        number, at = _number(value, at)
        if not 0 <= number < len(branches):
            raise NotAvro(f"{{}} names branch {number} of a union with {len(branches)}")
        return branches[number](value, at)

    return union


def _pair(walk: Walk) -> Walk:
    return lambda value, at: walk(value, _bytes(value, at))


def _blocks(item: Walk) -> Walk:
    """Items of an array or a map, in blocks; a negative count is followed by the block's size in bytes."""

    def blocks(value: bytes, at: int) -> int:
        while True:
            count, at = _number(value, at)
            if count == 0:
                return at
            stop = None
            if count < 0:
                size, at = _number(value, at)
                stop = at + size
            for _ in range(abs(count)):
                begin, at = at, item(value, at)
                if begin == at and abs(count) > EMPTY_MAX:
                    raise NotAvro(f"{{}} claims {abs(count)} items that take no bytes")
            if stop is not None and at != stop:
                raise NotAvro(f"a block of {{}} ends at byte {at}, where it says {stop}")

    return blocks


_SIMPLE: dict[str, Walk] = {
    **{name: _by(size) for name, size in _SIZES.items()},
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "bytes": _bytes,
    "string": _bytes,
}


def not_text(schema: Any, value: bytes, start: int) -> str:
    """The words for a text that is not UTF-8, where there is one; empty where there is none."""
    try:
        _walk(schema, {}, {**_SIMPLE, "string": _text})(value, start)
    except NotAvro as error:
        return str(error)
    except EOFError:
        return ""
    return ""


def _text(value: bytes, at: int) -> int:
    end = _bytes(value, at)
    _, begin = _number(value, at)
    try:
        value[begin:end].decode("utf-8")
    except UnicodeDecodeError:
        raise NotAvro("{} is not UTF-8") from None
    return end
