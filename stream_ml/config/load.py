"""One configuration out of all sources, or every problem of it, each with the place where it stands."""

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from stream_ml.config.sources import (
    CLIENT_MAPS,
    SECRETS,
    Given,
    Keys,
    from_environment,
    from_flags,
    from_secrets,
    from_yaml,
)
from stream_ml.config.tree import Config
from stream_ml.errors import ConfigError

DEFAULT = "default"


def load_config(file: Path, flags: list[str] | None = None, secrets: Path | None = None) -> Config:
    """The configuration: flags over environment over secret files over the YAML file over defaults.

    Parameters
    ----------
    flags
        ``KEY=VALUE``, dotted keys.
    secrets
        Directory whose files are named after keys; default: the one that STREAM_ML_SECRETS names.

    Raises
    ------
    ConfigError
        A source cannot be read, or keys or values are wrong; all of them are named. The operator mends them.
    """
    folder = secrets or (Path(os.environ[SECRETS]) if os.environ.get(SECRETS) else None)
    given = [from_flags(flags or []), from_environment(), from_secrets(folder), from_yaml(file)]
    merged: dict[str, Any] = {}
    for source in reversed(given):
        merged = _over(merged, source.values)
    unknown = [
        _problem(given, (name,), _unknown(name, _names(Config))) for name in merged if name not in Config.model_fields
    ]
    config = None
    try:
        config = Config(**{name: value for name, value in merged.items() if name in Config.model_fields})
        problems = unknown
    except ValidationError as error:
        problems = unknown + [_problem(given, *found) for found in _found(error, merged)]
    if problems or config is None:
        hint = "" if given[-1].values else "the file is empty: stream-ml init FOLDER writes one"
        every = "\n  ".join(sorted(set(problems), key=_place))
        raise ConfigError(f"{file} is not a valid configuration:\n  {every}", hint)
    config._folder = file.parent  # noqa: SLF001 - set once, here, beside the class that owns it
    config._origins.update(_origins(config, given))  # noqa: SLF001
    return config


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, key by key."""
    found = dict(below)
    for name, value in above.items():
        old = found.get(name)
        found[name] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return found


# --- problems ---


def _found(error: ValidationError, merged: dict[str, Any]) -> Iterator[tuple[Keys, str]]:
    for problem in error.errors():
        keys = _known(tuple(str(part) for part in problem["loc"]), merged, missing=problem["type"] == "missing")
        words = _words(problem, keys)
        if keys in CLIENT_MAPS and " belongs to the service: " in words:
            yield from (((*keys, one.partition(" ")[0]), one.partition(" ")[2]) for one in words.split("; "))
            continue
        yield (keys[:3] if keys[:2] == ("features", "missing") else keys), words


def _known(loc: Keys, merged: dict[str, Any], *, missing: bool) -> Keys:
    """The part of pydantic's path that stands in the sources; the rest names members of a union."""
    value: Any = merged
    for depth, name in enumerate(loc):
        names = {str(key): key for key in value} if isinstance(value, dict) else {}
        if name not in names:
            return loc[: depth + 1] if missing or isinstance(value, list) else loc[:depth]
        value = value[names[name]]
    return loc


def _words(problem: Any, keys: Keys) -> str:
    if keys[:2] == ("features", "missing") and len(keys) > 2:
        return "must be reject, drop, or {impute: VALUE}"
    if problem["type"] == "extra_forbidden":
        return _unknown(keys[-1], _names(_section(keys[:-1])))
    if problem["type"] == "missing":
        return "is required"
    if problem["type"] == "string_pattern_mismatch" and keys == ("model", "factory"):
        return "is not module:attribute, for example model:build for the function build in model.py"
    if problem["type"] == "string_pattern_mismatch":
        return "has letters, digits, dots, dashes and underscores, and begins with a letter or digit"
    return re.sub("^Input should be", "must be", str(problem["msg"]).removeprefix("Value error, "))


def _unknown(name: str, known: list[str]) -> str:
    section = next((part for part in known if name.startswith(f"{part}_")), None)
    if section is not None and known == _names(Config):
        return (
            f"no such key; two underscores part a section from its key: {section}__{name.removeprefix(section + '_')}"
        )
    near = difflib.get_close_matches(name, known, 1)
    return f"no such key; did you mean {near[0]}?" if near else f"no such key; known are {', '.join(sorted(known))}"


def _section(keys: Keys) -> type[BaseModel]:
    model: type[BaseModel] = Config
    for name in keys:
        inner = next((f.annotation for n, f in model.model_fields.items() if (f.alias or n) == name), None)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return model


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _problem(given: list[Given], keys: Keys, words: str) -> str:
    where = _origin(given, keys)
    dotted = ".".join(keys)
    said = f"{dotted}: {words}" if dotted else words
    return said if where == DEFAULT else f"{where}: {said}"


def _place(problem: str) -> tuple[bool, int, str]:
    """What stands in the file comes by its line, the rest after it."""
    line = re.match(r"[^ ]*:(\d+): ", problem)
    return line is None, int(line[1]) if line else 0, problem


# --- origins ---


def _origin(given: list[Given], keys: Keys) -> str:
    """Where the value of a key stands, a part of it, or else the section that lacks it."""
    stands = _stands(given, keys)
    section = (found for source in given if keys[:-1] and (found := source.origin(keys[:-1])))
    return stands or next(section, DEFAULT)


def _stands(given: list[Given], keys: Keys) -> str:
    """Where the value of a key stands, or a part of it; empty where no source gives it."""
    for source in given:
        if keys and source.holds(keys):
            below = (found for at, found in source.origins.items() if at[: len(keys)] == keys)
            return source.origins.get(keys) or next(below, None) or source.origin(keys) or DEFAULT
    return ""


def _origins(config: Config, given: list[Given]) -> dict[str, str]:
    """Dotted key -> where its value comes from."""
    return {".".join(keys): _stands(given, keys) or DEFAULT for keys in leaves(config)}


def leaves(model: BaseModel, above: Keys = ()) -> Iterator[Keys]:
    """Every key of the tree, and every key of the maps in it."""
    for name, field in type(model).model_fields.items():
        keys = (*above, field.alias or name)
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, keys)
        elif isinstance(value, dict) and value:
            yield from ((*keys, str(inner)) for inner in value)
        else:
            yield keys
