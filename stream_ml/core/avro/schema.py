"""Avro schemas: parsed, named by fingerprint, and refused where their data could hurt the reader.

fastavro crashes the process on deeply nested recursive data and never ends on an array of a billion nulls, so
such schemas are refused when they are loaded, before any byte is decoded.
"""

import copy
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import fastavro
from fastavro.schema import SchemaParseException, UnknownType, to_parsing_canonical_form

from stream_ml.core.avro.json_text import read_json
from stream_ml.errors import ConfigError

DEPTH_MAX = 32  # nested types; real records seldom have five
NESTING_MAX = 200  # brackets around brackets in a schema's text: four a nested type, and some
FIELDS_MAX = 2_000  # in all records of one schema
FIXED_MAX_BYTES = 1_048_576  # one fixed value

HEADER_BYTES = {"bare": 0, "confluent": 5, "single-object": 10}  # before a record, by framing
_MASK = 2**64 - 1
_BROKEN = (ValueError, SchemaParseException, UnknownType, KeyError, TypeError, AttributeError, RecursionError)


class Schema(NamedTuple):
    """A record schema.

    `parsed` is fastavro's form without logical types: values are decoded as what they stand on, and converted by plan.
    `fields` and `named` keep the logical types; in them every name is a full name.
    """

    name: str
    text: str
    parsed: Any
    fields: list[dict[str, Any]]
    named: dict[str, Any]
    fingerprint: int

    def resolve(self, type_: Any) -> Any:
        """A type with names replaced by what they name, and needless wrappers taken off."""
        while True:
            if isinstance(type_, str) and type_ in self.named:
                type_ = self.named[type_]
            elif isinstance(type_, dict) and isinstance(type_.get("type"), dict | list):
                type_ = type_["type"]
            else:
                return type_


def load_schema(text: str, *, where: str) -> Schema:
    """A record schema that is safe to read with.

    Raises
    ------
    ConfigError
        Not JSON, not Avro, not a record, or linted away; `where` names the file. The operator mends it.
    """
    try:
        raw = read_json(text, NESTING_MAX)
        if not isinstance(raw, dict) or raw.get("type") != "record" or not isinstance(raw.get("fields"), list):
            raise ConfigError(f"{where} is not a record schema", "an event or a label is an Avro record")
        _check_names(raw, where, str(raw.get("name")))
        full: dict[str, Any] = fastavro.parse_schema(copy.deepcopy(raw))  # type: ignore[assignment]
        named = full.pop("__named_schemas")
        _Lint(named, where).record(full)
        parsed = fastavro.parse_schema(_without("logicalType", raw))
        canonical = to_parsing_canonical_form(copy.deepcopy(raw))
    except _BROKEN as error:
        raise ConfigError(f"{where} is not an Avro schema: {type(error).__name__}: {error}") from error
    return Schema(
        name=str(full["name"]).rpartition(".")[2],
        text=json.dumps(raw, separators=(",", ":"), sort_keys=True),
        parsed=parsed,
        fields=full["fields"],
        named=named,
        fingerprint=fingerprint(canonical),
    )


_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_GRAMMAR = "a name has letters, digits and underscores, and begins with no digit; dots part a namespace"


def _check_names(node: Any, where: str, at: str) -> None:
    """Refuse names and unions that Avro does not have: other readers do, some only after thousands of records.

    Source: Avro specification, "Names" and "Unions".
    """
    if isinstance(node, list):
        _check_union(node, where, at)
    if not isinstance(node, dict):
        return
    kind = node.get("type")
    if kind in ("record", "error", "enum", "fixed"):
        full = [node.get("name"), *node.get("aliases", ()), *([node["namespace"]] if node.get("namespace") else [])]
        for name in full:
            parts = name.split(".") if isinstance(name, str) else [name]
            _check_each(parts[1:] if len(parts) > 1 and not parts[0] else parts, name, where, at)
        for symbol in node.get("symbols", ()) if kind == "enum" else ():
            _check_each([symbol], symbol, where, at)
        for field in node.get("fields", ()) if kind in ("record", "error") else ():
            for name in (field.get("name"), *field.get("aliases", ())):
                _check_each([name], name, where, at)
            _check_names(field.get("type"), where, f"{at}.{field['name']}")
        return
    for inner in (kind, node.get("items"), node.get("values")):
        _check_names(inner, where, at)


def _check_each(parts: list[Any], name: Any, where: str, at: str) -> None:
    if not all(isinstance(part, str) and _NAME.fullmatch(part) for part in parts):
        raise ConfigError(f"{where}: {at} has the name {name!r}, which Avro does not allow: {_GRAMMAR}")


def _check_union(branches: list[Any], where: str, at: str) -> None:
    kinds = [branch.get("type") if isinstance(branch, dict) else branch for branch in branches]
    plain = [kind for kind in kinds if isinstance(kind, str) and kind not in ("record", "error", "enum", "fixed")]
    if not branches or any(isinstance(branch, list) for branch in branches) or len(set(plain)) < len(plain):
        raise ConfigError(f"{where}: {at} is no union that Avro allows: one branch of each type, and no union inside")
    for branch in branches:
        _check_names(branch, where, at)


def fingerprint(canonical: str) -> int:
    """CRC-64-AVRO of a parsing canonical form, as a signed long (Avro specification, "Schema Fingerprints")."""
    found = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
    return int.from_bytes(found, "little", signed=True)


@lru_cache(maxsize=64)
def fingerprint_of_text(text: str) -> int:
    """Fingerprint of a schema as JSON text, for one that nothing is read with.

    ValueError where it is none or nests too deeply: the same whatever the caller's own depth is.
    """
    try:
        return fingerprint(to_parsing_canonical_form(read_json(text, NESTING_MAX)))
    except _BROKEN as error:
        raise ValueError(f"not an Avro schema: {type(error).__name__}: {error}") from error


def shown_fingerprint(fingerprint_: int) -> str:
    """A fingerprint as hex of its bytes in a record's header, which is how a reader of records meets it."""
    return single_object_header(fingerprint_)[2:].hex()


def single_object_header(fingerprint_: int) -> bytes:
    """The ten bytes before a record in single-object encoding: marker and little-endian fingerprint."""
    return b"\xc3\x01" + (fingerprint_ & _MASK).to_bytes(8, "little")


def _without(key: str, node: Any) -> Any:
    """A schema without this key, wherever it stands; a default is a value, and stays as it is."""
    if isinstance(node, list):
        return [_without(key, item) for item in node]
    if isinstance(node, dict):
        return {k: v if k == "default" else _without(key, v) for k, v in node.items() if k != key}
    return node


def children(node: Any) -> Iterator[tuple[str, Any]]:
    """The types inside a type, each with the name of its field or an empty text."""
    if isinstance(node, list):
        yield from (("", branch) for branch in node)
    elif isinstance(node, dict):
        kind = node.get("type")
        if kind in ("record", "error"):
            yield from ((str(field["name"]), field["type"]) for field in node["fields"])
        elif kind == "array":
            yield "", node["items"]
        elif kind == "map":
            yield "", node["values"]
        elif isinstance(kind, dict | list):
            yield "", kind


class _Lint:
    """One pass over a schema in fastavro's form; each named type is looked at once."""

    def __init__(self, named: dict[str, Any], where: str) -> None:
        self._named, self._where = named, where
        self._depths: dict[str, int] = {}
        self._open: set[str] = set()

    def record(self, root: dict[str, Any]) -> None:
        fields = sum(len(node.get("fields", ())) for node in self._named.values())
        if fields > FIELDS_MAX:
            raise ConfigError(f"{self._where} has {fields} fields; at most {FIELDS_MAX} are read")
        self._depth(root, str(root["name"]).rpartition(".")[2])

    def _depth(self, node: Any, at: str) -> int:
        node = self._named.get(node, node) if isinstance(node, str) else node
        name = node.get("name") if isinstance(node, dict) else None
        if name in self._open:
            raise ConfigError(f"{self._where}: {at} contains itself", "recursive types are refused: flatten the record")
        if name in self._depths:
            return self._depths[name]
        if name is not None:
            self._open.add(name)
        self._check(node, at)
        inner = [self._depth(child, f"{at}.{label}" if label else at) for label, child in children(node)]
        depth = 1 + max(inner, default=0)
        if depth > DEPTH_MAX:
            raise ConfigError(f"{self._where}: {at} is nested deeper than {DEPTH_MAX}")
        if name is not None:
            self._open.discard(name)
            self._depths[name] = depth
        if isinstance(node, dict) and node.get("type") == "array" and not self._has_bytes(node["items"]):
            raise ConfigError(
                f"{self._where}: {at} is an array whose items take no bytes",
                "five bytes could claim a billion of them: give the items a type with a size",
            )
        return depth

    def _check(self, node: Any, at: str) -> None:
        if not isinstance(node, dict):
            return
        if node.get("type") == "fixed":
            size = node["size"]
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= FIXED_MAX_BYTES:
                raise ConfigError(f"{self._where}: {at} is a fixed of {size!r} bytes; 0 to {FIXED_MAX_BYTES} are read")
        if node.get("type") in ("record", "error"):
            names = [field["name"] for field in node["fields"]]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ConfigError(f"{self._where}: {at} has two fields of the name {', '.join(twice)}")

    def _has_bytes(self, node: Any, seen: frozenset[str] = frozenset()) -> bool:
        """Whether every value of this type takes at least one byte on the wire."""
        if isinstance(node, str) and node in self._named:
            if node in seen:
                return False
            seen, node = seen | {node}, self._named[node]
        if node == "null":
            return False
        if isinstance(node, dict):
            kind = node.get("type")
            if kind in ("record", "error"):
                return any(self._has_bytes(field["type"], seen) for field in node["fields"])
            if kind == "fixed":
                return bool(node["size"] > 0)
            if kind not in ("array", "map", "enum"):
                return self._has_bytes(kind, seen)
        return True


def meaning_of(text: str) -> str:
    """A schema's text as canonical JSON without any `doc`: what people say in it changes nothing."""
    return json.dumps(_without("doc", json.loads(text)), sort_keys=True, separators=(",", ":"))
