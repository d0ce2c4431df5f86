"""The model's factory: imported, given its parameters, and which modules its estimator comes from."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stream_ml.app.private_modules import code_of, package
from stream_ml.app.sources import texts_below
from stream_ml.config import Config
from stream_ml.config.model import Model
from stream_ml.core.model.lineage import parts_of, plain_module
from stream_ml.errors import ConfigError


def load_factory(config: Config) -> Callable[[], Any]:
    """A function that gives a new estimator each time, from ``module:attribute``.

    The configuration's folder is searched first; what lies there is loaded under a private name. A factory that takes
    `seed` gets model.seed.
    """
    model = config.model
    module_name, _, attribute = model.factory.partition(":")
    folder = config.path(Path()).resolve()
    if sys.path[0] != str(folder):
        sys.path.insert(0, str(folder))
    return factory_in(config, private_name(model, module_name, folder), attribute)


def loaded_texts(config: Config) -> dict[str, bytes]:
    """Source of the factory's module and of what it imports from the configuration's folder, by path."""
    return texts_below(config.model.factory.partition(":")[0], config.path(Path()).resolve())


def private_name(model: Model, module: str, folder: Path, sources: Mapping[str, bytes] | None = None) -> str:
    """The name under which a module is loaded: private where it lies in the folder.

    Parameters
    ----------
    sources
        What runs, by path below the folder; None: what the module and its imports are now.
    """
    texts = texts_below(module, folder)
    if not texts:
        return module
    digests = {path: hashlib.sha256(text).hexdigest() for path, text in texts.items()}
    code = code_of(model.factory, model.params, model.seed, digests)
    return f"{package(code, folder, texts if sources is None else sources)}.{module}"


def factory_in(config: Config, module_name: str, attribute: str) -> Callable[[], Any]:
    """The factory in a module, which may be private, with what the configuration gives it."""
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        plain = plain_module(module_name)
        lacks = plain_module(error.name or "") if isinstance(error, ModuleNotFoundError) else ""
        missing = bool(lacks) and f"{plain}.".startswith(f"{lacks}.")
        there = f"is {plain}.py beside the configuration, or its package installed?"
        raise ConfigError(
            f"model.factory {config.model.factory} cannot be imported: {type(error).__name__}: {error}",
            there if missing else f"{plain} was found; look into it",
        ) from error
    if not callable(found):
        if config.model.params or not hasattr(found, "clone"):
            raise ConfigError(f"model.factory {config.model.factory} is no function, so model.params cannot reach it")
        clone: Callable[[], Any] = found.clone
        return clone
    params = dict(config.model.params)
    if "seed" in _parameters(found):
        params["seed"] = config.model.seed
    return lambda: found(**params)


def _parameters(factory: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return set()


def modules_of(estimator: Any) -> set[str]:
    """Modules that the estimator's parts come from."""
    modules: set[str] = set()

    def walk(value: Any, depth: int) -> None:
        named = value if isinstance(value, type) or inspect.isfunction(value) else type(value)
        modules.add(plain_module(str(getattr(named, "__module__", "builtins"))))
        if depth > 12:
            return
        for part in parts_of(value):
            walk(part, depth + 1)

    walk(estimator, 0)
    return modules
