"""The lineage: a digest of everything that the fold depends on beside the log's entries.

Anything else in it is another model, folded from the log's start.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, NamedTuple

PRIVATE = "stream_ml_model_"  # what a private module's package begins with: it is in no specification
FORMAT = 2  # of the specification
LINEAGE_DIGITS = 16  # of its digest: a name. Wherever a lineage is bound to state all 64 are compared
FOLD_FORMAT = 6  # raised whenever the fold itself would give other bits from the same log
WATCH_FORMAT = 1  # the same of quality and drift


class Covered(NamedTuple):
    """What the digest covers beside the log's id and the versions of this process.

    Parameters
    ----------
    factory, params
        Name of the factory and the arguments that the configuration gives it.
    settings
        Reader schema, resolved features, task, labels, seed, as JSON values; one that is not set is left out, so that
        keys which come later make no model another one.
    estimator
        A new estimator: its classes and parameters are walked.
    sources
        Digest of the source of each module that the model is made of, by its path.
    distributions
        Versions of all others that those import, by name.
    """

    factory: str
    params: dict[str, Any]
    settings: dict[str, Any]
    estimator: Any
    sources: dict[str, str]
    distributions: Mapping[str, str] = MappingProxyType({})


def lineage_of(log_id: str, covered: Covered) -> str:
    """Digest, as 16 hex digits, of the log's id and all that is listed in `spec_of`."""
    return digest_of(spec_of(log_id, covered))[:LINEAGE_DIGITS]


def digest_of(spec: dict[str, Any]) -> str:
    """The whole digest of a specification, 64 hex digits: SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical(spec).encode()).hexdigest()


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of what two specifications have differently, or one of them alone; in order."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def core_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A specification without what it selects of the log: models with one core differ in what they have learned."""
    return {name: value for name, value in spec.items() if name != "learn"}


def canonical(value: Any) -> str:
    """JSON of which there is one text only: what digests are made of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def spec_of(log_id: str, covered: Covered) -> dict[str, Any]:
    """Everything that the digest covers, as JSON values; a checkpoint keeps it so that a person can compare.

    The log's own id is part of it, and not Kafka's of its topic: a log that was moved keeps its lineages.
    """
    return {
        "format": FORMAT,
        "fold_format": FOLD_FORMAT,
        "log_id": log_id,
        **{name: value for name, value in covered.settings.items() if value not in (None, {}, [])},
        "factory": covered.factory,
        "params": {name: describe(value) for name, value in covered.params.items()},
        "estimator": describe(covered.estimator),
        "sources": covered.sources,
        "distributions": dict(covered.distributions),
        "river": version("river"),
        "numpy": version("numpy"),
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
    }


def watch_spec_of(log_id: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything that quality and drift of what is served depend on beside the log, as JSON values; no model is."""
    return {
        "format": FORMAT,
        "watch_format": WATCH_FORMAT,
        "log_id": log_id,
        **{name: describe(value) for name, value in settings.items() if value not in (None, {}, [])},
        "river": version("river"),
        "numpy": version("numpy"),
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
    }


def plain_module(name: str) -> str:
    """A module's name as its source has it: without the private package that it was loaded in."""
    return name.partition(".")[2] if name.startswith(PRIVATE) and "." in name else name


def describe(value: Any, depth: int = 0) -> Any:
    """A value as JSON: classes with their parameters, floats to the last bit, nothing that a process changes."""
    if depth > 20:
        return "..."
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, dict):
        return [[describe(k, depth + 1), describe(v, depth + 1)] for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [describe(item, depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(describe(item, depth + 1)) for item in value)
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{plain_module(value.__module__)}.{value.__qualname__}"
    name = f"{plain_module(type(value).__module__)}.{type(value).__qualname__}"
    if isinstance(value, partial):
        return [name, describe([value.func, value.args, value.keywords], depth + 1)]
    if hasattr(value, "steps") or hasattr(value, "transformers"):
        return [name, describe(dict(getattr(value, "steps", None) or value.transformers), depth + 1)]
    parameters = getattr(value, "_get_params", None)
    if parameters is not None:
        return [name, describe({k: getattr(value, k, v) for k, v in parameters().items()}, depth + 1)]
    return [name, describe(_state(value), depth + 1)]


def parts_of(value: Any) -> list[Any]:
    """What a value is made of, for walking an estimator: items, attributes, a partial's function and arguments."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, type | str | bytes | int | float | None) or callable(value):
        return list(vars(value).values()) if hasattr(value, "learn_one") and not isinstance(value, type) else []
    return [_state(value)]


def _state(value: Any) -> Any:
    """Attributes, slots included; never an address."""
    try:
        return value.__getstate__()
    except Exception:
        return None
