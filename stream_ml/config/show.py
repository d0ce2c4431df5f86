"""The configuration as text: resolved, with origins, without secrets; its reference; its schema for editors."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, PlainSerializer
from pydantic_core import PydanticSerializationError, PydanticUndefined

from stream_ml.config.load import leaves
from stream_ml.config.sources import CLIENT_MAPS, FREE, SECRET, Keys
from stream_ml.config.tree import Config
from stream_ml.errors import ConfigError

HIDDEN = "***"
NUMBER = re.compile(r"-?\d+(\.\d+)?|true|false", re.I)
TOKEN_URL = "sasl.oauthbearer.token.endpoint.url"  # noqa: S105
NAMES_A_FILE = frozenset({"token_file", "key_file"})
PLAIN_WORDS = frozenset(  # librdkafka's keys whose texts are words, names or files
    [
        "acks",
        "api.version.fallback.ms",
        "auto.offset.reset",
        "broker.address.family",
        "broker.version.fallback",
        "builtin.features",
        "client.dns.lookup",
        "client.id",
        "client.rack",
        "compression.codec",
        "compression.type",
        "debug",
        "enabled_events",
        "group.protocol",
        "group.protocol.type",
        "log_level",
        "metadata.recovery.strategy",
        "partitioner",
        "queuing.strategy",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.kerberos.keytab",
        "sasl.kerberos.service.name",
        "https.ca.location",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.method",
        "sasl.oauthbearer.scope",
        "security.protocol",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.cipher.suites",
        "ssl.crl.location",
        "ssl.curves.list",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.keystore.location",
        "ssl.sigalgs.list",
    ]
)


def is_secret(keys: Keys, value: Any) -> bool:
    """Whether the value of a key must never be shown.

    Of a key that the tree knows, its name decides. What stands in a map whose names are somebody else's may be
    anything: there a text is a secret, unless it is one of librdkafka's words.
    """
    free = keys[:2] in FREE or keys[:3] in FREE
    if keys[:2] in CLIENT_MAPS and keys[2] == TOKEN_URL and not {"@", "?"} & {*str(value)}:
        return False
    if SECRET.search(".".join(keys)) and (free or keys[-1] not in NAMES_A_FILE):
        return True
    known = keys[:2] in CLIENT_MAPS and (keys[2] in PLAIN_WORDS or bool(NUMBER.fullmatch(str(value))))
    return free and isinstance(value, str) and not known


def _without_secrets(value: Any, keys: Keys = ()) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(inner, (*keys, str(name))) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner, keys) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    if is_secret(keys, value):
        return HIDDEN
    return _without_user(value) if isinstance(value, str) else value


def _without_user(text: str) -> str:
    """An address without the user and password in it."""
    scheme, slashes, rest = text.partition("://")
    return f"{scheme}://{HIDDEN}@{rest.rpartition('@')[2]}" if slashes and "@" in rest else text


def show(config: Config, *, with_origins: bool) -> str:
    """The resolved configuration as YAML; `with_origins` gives one line for each key and where its value stands."""
    try:
        tree = _without_secrets(json.loads(config.model_dump_json(by_alias=True)))
    except (PydanticSerializationError, RecursionError):
        raise ConfigError(
            "model.params holds what cannot be shown: bytes, half a character, or too deep a map"
        ) from None
    if not with_origins:
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).rstrip()
    rows = [(dotted, value, config.origin(dotted)) for dotted, value in _flat(tree, config)]
    width = max(len(f"{dotted}: {value}") for dotted, value, _ in rows)
    return "\n".join(f"{f'{dotted}: {value}':<{min(width, 70)}}  # {origin}" for dotted, value, origin in rows)


def _flat(tree: dict[str, Any], config: Config) -> Iterator[tuple[str, str]]:
    for keys in leaves(config):
        value: Any = tree
        for name in keys:
            value = value[name]
        yield ".".join(keys), json.dumps(value)


def schema() -> dict[str, Any]:
    """JSON Schema of ``stream_ml.yaml``, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema(by_alias=True)}


def reference() -> str:
    """The table of all keys in Markdown, as it stands in the documents."""
    rows = [f"| `{dotted}` | {default} | {meaning} |" for dotted, default, meaning in _reference(Config, "")]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _reference(model: type[BaseModel], above: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        dotted = above + (field.alias or name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _reference(inner, f"{dotted}.")
            continue
        yield dotted, _default(field), field.description or ""
        for part in () if get_origin(inner) is dict else get_args(inner):  # one that may be there, or a list of them
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _reference(part, f"{dotted}[]." if get_origin(inner) is list else f"{dotted}.")


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required"
    unit: Any = next((part.func for part in field.metadata if isinstance(part, PlainSerializer)), None)
    return f"`{unit(field.default) if unit else _json(field.default)}`"


def _json(value: Any) -> str:
    text = str(value) if isinstance(value, str) or hasattr(value, "parts") else json.dumps(value)
    return text.replace('"', "")
