"""The configuration as text: resolved, with origins, without secrets; its reference; its schema for editors."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel, PlainSerializer
from pydantic_core import PydanticUndefined

from stream_ml.config.load import leaves
from stream_ml.config.tree import Config

HIDDEN = "***"
# librdkafka's own list of what it never logs (_RK_SENSITIVE in rdkafka_conf.c), as a pattern that covers later ones.
SECRET = re.compile(r"password|secret|passphrase|token|\.pem$|sasl\.username|oauthbearer\.config|credential", re.I)


def is_secret(dotted: str) -> bool:
    """Whether the value of a key must never be shown."""
    return bool(SECRET.search(dotted))


def _without_secrets(value: Any, dotted: str) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(inner, f"{dotted}.{name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner, dotted) for inner in value]
    return HIDDEN if value is not None and is_secret(dotted) else value


def show(config: Config, *, with_origins: bool) -> str:
    """The resolved configuration as YAML; `with_origins` gives one line for each key and where its value stands."""
    tree = _without_secrets(json.loads(config.model_dump_json(by_alias=True)), "")
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
    """The table of all keys in Markdown, as it stands in the README."""
    rows = [f"| `{dotted}` | {default} | {meaning} |" for dotted, default, meaning in _reference(Config, "")]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _reference(model: type[BaseModel], above: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        dotted = above + (field.alias or name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _reference(inner, f"{dotted}.")
        else:
            yield dotted, _default(field), field.description or ""


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required"
    unit: Any = next((part.func for part in field.metadata if isinstance(part, PlainSerializer)), None)
    return f"`{unit(field.default) if unit else _json(field.default)}`"


def _json(value: Any) -> str:
    text = str(value) if isinstance(value, str) or hasattr(value, "parts") else json.dumps(value)
    return text.replace('"', "")
