"""Avro schemas: parsed, named by fingerprint, and refused where their data could hurt the reader.

fastavro crashes the process on deeply nested recursive data and never ends on an array of a billion nulls, so
such schemas are refused when they are loaded, before any byte is decoded.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import fastavro
from fastavro.schema import SchemaParseException, UnknownType, to_parsing_canonical_form

from stream_ml.errors import ConfigError

DEPTH_MAX = 32  # nested types; real records seldom have five
FIELDS_MAX = 2_000  # in all records of one schema
FIXED_MAX_BYTES = 1_048_576  # one fixed value

_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
_KEPT = {"decimal"}  # other logical types are decoded as what they stand on, and converted by plan
_MASK = 2**64 - 1


class Schema(NamedTuple):
    """A record schema. `parsed` is fastavro's form without logical types other than decimal."""

    name: str
    text: str
    parsed: Any
    fields: list[dict[str, Any]]
    named: dict[str, Any]
    fingerprint: int


def load_schema(text: str, *, where: str) -> Schema:
    """A record schema that is safe to read with.

    Raises
    ------
    ConfigError
        Not JSON, not Avro, not a record, or linted away; `where` names the file. The operator mends it.
    """
    try:
        raw = json.loads(text)
        fastavro.parse_schema(copy.deepcopy(raw))
        canonical = to_parsing_canonical_form(copy.deepcopy(raw))
    except (ValueError, SchemaParseException, UnknownType, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{where} is not an Avro schema: {type(error).__name__}: {error}") from error
    if not isinstance(raw, dict) or raw.get("type") != "record":
        raise ConfigError(f"{where} is not a record schema", "an event or a label is an Avro record")
    _lint(raw, where)
    parsed = fastavro.parse_schema(_stripped(raw))
    return Schema(
        name=str(raw["name"]).rpartition(".")[2],
        text=json.dumps(raw, separators=(",", ":"), sort_keys=True),
        parsed=parsed,
        fields=raw["fields"],
        named=_named(raw),
        fingerprint=fingerprint(canonical),
    )


def fingerprint(canonical: str) -> int:
    """CRC-64-AVRO of a parsing canonical form, as a signed long (Avro specification, "Schema Fingerprints")."""
    return int.from_bytes(fingerprint_bytes(canonical), "little", signed=True)


def fingerprint_bytes(canonical: str) -> bytes:
    """The eight bytes of the fingerprint as single-object encoding has them."""
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


def single_object_header(fingerprint_: int) -> bytes:
    """The ten bytes before a record in single-object encoding: marker and little-endian fingerprint."""
    return b"\xc3\x01" + (fingerprint_ & _MASK).to_bytes(8, "little")


def _stripped(node: Any) -> Any:
    if isinstance(node, list):
        return [_stripped(item) for item in node]
    if isinstance(node, dict):
        drop = node.get("logicalType") not in _KEPT
        return {k: v if k == "default" else _stripped(v) for k, v in node.items() if not (drop and k == "logicalType")}
    return node


def _full_name(node: dict[str, Any], namespace: str) -> str:
    name = str(node["name"])
    space = str(node.get("namespace", namespace))
    return name if "." in name or not space else f"{space}.{name}"


def _children(node: Any, namespace: str) -> Iterator[tuple[Any, str]]:
    if isinstance(node, list):
        yield from ((branch, namespace) for branch in node)
    elif isinstance(node, dict):
        kind = node.get("type")
        if kind in ("record", "error"):
            inner = _full_name(node, namespace).rpartition(".")[0]
            yield from ((field["type"], inner) for field in node["fields"])
        elif kind == "array":
            yield node["items"], namespace
        elif kind == "map":
            yield node["values"], namespace
        elif isinstance(kind, dict | list):
            yield kind, namespace


def _named(root: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(node: Any, namespace: str) -> None:
        if isinstance(node, dict) and node.get("type") in ("record", "error", "enum", "fixed"):
            found[_full_name(node, namespace)] = node
            found.setdefault(str(node["name"]).rpartition(".")[2], node)
        for child, inner in _children(node, namespace):
            walk(child, inner)

    walk(root, "")
    return found


def _lint(root: dict[str, Any], where: str) -> None:
    named = _named(root)
    count = sum(len(node["fields"]) for node in {id(n): n for n in named.values()}.values() if "fields" in node)
    if count > FIELDS_MAX:
        raise ConfigError(f"{where} has {count} fields; at most {FIELDS_MAX} are read")

    def resolve(node: Any) -> Any:
        return named.get(node, node) if isinstance(node, str) else node

    def walk(node: Any, path: tuple[int, ...], field: str) -> None:
        node = resolve(node)
        if id(node) in path and isinstance(node, dict):
            raise ConfigError(f"{where}: {field} contains itself", "recursive types are refused: flatten the record")
        if len(path) >= DEPTH_MAX:
            raise ConfigError(f"{where}: {field} is nested deeper than {DEPTH_MAX}")
        if isinstance(node, dict) and node.get("type") == "fixed" and int(node["size"]) > FIXED_MAX_BYTES:
            raise ConfigError(f"{where}: {field} is a fixed of {node['size']} bytes; at most {FIXED_MAX_BYTES}")
        if isinstance(node, dict) and node.get("type") == "array" and not _has_bytes(node["items"], resolve, 0):
            raise ConfigError(
                f"{where}: {field} is an array whose items take no bytes",
                "five bytes could claim a billion of them: give the items a type with a size",
            )
        for child, name in _labelled(node, field):
            walk(child, (*path, id(node)), name)

    walk(root, (), str(root["name"]))


def _labelled(node: Any, field: str) -> Iterator[tuple[Any, str]]:
    if isinstance(node, dict) and node.get("type") in ("record", "error"):
        yield from ((item["type"], f"{field}.{item['name']}") for item in node["fields"])
    else:
        yield from ((child, field) for child, _ in _children(node, ""))


def _has_bytes(node: Any, resolve: Any, depth: int) -> bool:
    """Whether every value of this type takes at least one byte on the wire."""
    node = resolve(node)
    if node == "null" or depth > DEPTH_MAX:
        return False
    if isinstance(node, dict):
        kind = node.get("type")
        if kind in ("record", "error"):
            return any(_has_bytes(field["type"], resolve, depth + 1) for field in node["fields"])
        if kind == "fixed":
            return int(node["size"]) > 0
        if kind not in _PRIMITIVES and kind not in ("array", "map", "enum"):
            return _has_bytes(kind, resolve, depth + 1)
        return bool(kind != "null")
    return True
