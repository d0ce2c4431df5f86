"""Whether what one schema writes means the same to another one that reads it.

Avro resolves what values stand on and leaves logical types to the reader: a number of milliseconds is read as one of
microseconds, 3.14 as 0.0314, without a word. Such a pair is refused.
Source: Avro specification, "Schema Resolution" and "Logical Types" (decimals match where scale and precision do).
"""

from collections.abc import Iterator
from typing import Any

from stream_ml.core.fields import base_of, logical_of
from stream_ml.core.schema import Schema
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
