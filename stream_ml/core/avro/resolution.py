"""Whether what one schema writes means the same to another one that reads it.

Avro resolves what values stand on and leaves logical types to the reader: a number of milliseconds is read as one of
microseconds, 3.14 as 0.0314, without a word. Such a pair is refused.
Source: Avro specification, "Schema Resolution" and "Logical Types" (decimals match where scale and precision do).
"""

from collections.abc import Iterator
from typing import Any

from stream_ml.core.avro.fields import base_of, logical_of
from stream_ml.core.avro.schema import Schema
from stream_ml.errors import ConfigError

_PROMOTED = {  # Avro: what a written type may be read as beside itself
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}
_INNER = {"array": "items", "map": "values"}


def check_meaning(writer: Schema, reader: Schema, *, where: str) -> None:
    """Refuse a writer schema whose values would mean something else to the reader schema.

    Raises
    ------
    ConfigError
        A field has one logical type where it is written and another one where it is read; `where` names the writer.
    """
    found = [f"{path} is written as {theirs} and read as {ours}" for path, theirs, ours in _differences(writer, reader)]
    if found:
        raise ConfigError(
            f"{where} cannot be read as {reader.name}: {'; '.join(found)}",
            "give both the same logical type, or produce in a new field",
        )


def _differences(writer: Schema, reader: Schema) -> Iterator[tuple[str, str, str]]:
    yield from _of_fields(writer, reader, writer.fields, reader.fields, ())


def _of_fields(
    writer: Schema, reader: Schema, theirs: list[dict[str, Any]], ours: list[dict[str, Any]], path: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    written = {field["name"]: field["type"] for field in theirs}
    for field in ours:
        names = [name for name in (field["name"], *field.get("aliases", ())) if name in written]
        if len(names) > 1:
            yield ".".join((*path, field["name"])), " and as ".join(names), "one field"
        elif names:
            yield from _of_types(writer, reader, written[names[0]], field["type"], (*path, field["name"]))


def _of_types(
    writer: Schema, reader: Schema, theirs: Any, ours: Any, path: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    for written in _branches(writer, theirs):
        read = _match(written, _branches(reader, ours))
        if read is None:
            continue  # a dead letter says so where such a value comes
        base = base_of(written)
        if base == base_of(read) == "record":
            yield from _of_fields(writer, reader, written["fields"], read["fields"], path)
        elif base == base_of(read) and base in _INNER:
            yield from _of_types(writer, reader, written[_INNER[base]], read[_INNER[base]], path)
        elif logical_of(written) and logical_of(read) and not _same(written, read):
            yield ".".join(path), _words(written), _words(read)


def _branches(schema: Schema, type_: Any) -> list[Any]:
    resolved = schema.resolve(type_)
    return [schema.resolve(branch) for branch in resolved] if isinstance(resolved, list) else [resolved]


def _match(written: Any, branches: list[Any]) -> Any:
    """The branch that Avro reads a written type into: of the same type, else one that it is promoted to."""
    for base in (base_of(written), *_PROMOTED.get(base_of(written), ())):
        for branch in branches:
            if base_of(branch) == base:
                return branch
    return None


def _same(written: Any, read: Any) -> bool:
    """Whether two logical types mean the same; a decimal may be read with more digits before its point."""
    if logical_of(written) != logical_of(read):
        return False
    same_scale: bool = written.get("scale", 0) == read.get("scale", 0)
    return same_scale and bool(written.get("precision", 0) <= read.get("precision", 0))


def _words(type_: Any) -> str:
    logical = logical_of(type_)
    return f"decimal({type_.get('precision')},{type_.get('scale', 0)})" if logical == "decimal" else logical


def unlike(writer: Schema, reader: Schema) -> str:
    """The first field of the reader schema that some value of the writer's cannot be read into, and both types."""
    return next(_unlike_fields(writer, reader, writer.fields, reader.fields, ()), "no field, by its type alone")


def _unlike_fields(
    writer: Schema, reader: Schema, theirs: list[dict[str, Any]], ours: list[dict[str, Any]], path: tuple[str, ...]
) -> Iterator[str]:
    written = {field["name"]: field["type"] for field in theirs}
    for field in ours:
        at = (*path, field["name"])
        names = [name for name in (field["name"], *field.get("aliases", ())) if name in written]
        if names:
            yield from _unlike(writer, reader, written[names[0]], field["type"], at)
        elif "default" not in field:
            yield f"{'.'.join(at)} is not there, and has no default here"


def _unlike(writer: Schema, reader: Schema, theirs: Any, ours: Any, path: tuple[str, ...]) -> Iterator[str]:
    mine = _branches(reader, ours)
    for written in _branches(writer, theirs):
        read = _match(written, mine)
        base = base_of(written)
        names = (_kind_words(writer, theirs), _kind_words(reader, ours))
        at = ".".join(path)
        if read is None or (base in _NAMED and not _same_named(written, read)):
            yield f"{at} is {names[0]} there and {names[1]} here"
        elif base == "record":
            yield from _unlike_fields(writer, reader, written["fields"], read["fields"], path)
        elif base in _INNER and base == base_of(read):
            if any(_unlike(writer, reader, written[_INNER[base]], read[_INNER[base]], path)):
                yield f"{at} is {names[0]} there and {names[1]} here"
        elif base == "enum":
            for symbol in written["symbols"]:
                if symbol not in read["symbols"] and "default" not in read:
                    yield f"{at} is {symbol}, which enum {_short(read)} here does not have"


_NAMED = ("enum", "fixed")


def _same_named(written: Any, read: Any) -> bool:
    sizes = (written.get("size"), read.get("size"))
    return base_of(written) != base_of(read) or (_short(written) == _short(read) and sizes[0] == sizes[1])


def _short(type_: Any) -> str:
    return str(type_["name"]).rpartition(".")[2]


def _kind_words(schema: Schema, type_: Any) -> str:
    branches = _branches(schema, type_)
    return " or ".join(_one_kind(schema, branch) for branch in branches)


def _one_kind(schema: Schema, type_: Any) -> str:
    base = base_of(type_)
    if base in ("record", "enum"):
        return f"{base} {_short(type_)}"
    if base == "fixed":
        return f"fixed {_short(type_)} of {type_['size']} bytes"
    return f"{base} of {_kind_words(schema, type_[_INNER[base]])}" if base in _INNER else base
