"""The model's factory: imported, given its parameters, and which modules its estimator comes from."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_ml.config import Config
from stream_ml.core.model.lineage import parts_of
from stream_ml.errors import ConfigError


def load_factory(config: Config) -> Callable[[], Any]:
    """A function that gives a new estimator each time, from ``module:attribute``.

    The configuration's folder is searched first. A factory that takes `seed` gets model.seed.
    """
    module_name, _, attribute = config.model.factory.partition(":")
    folder = str(config.path(Path()).resolve())
    if sys.path[0] != folder:
        sys.path.insert(0, folder)
    _forget_namesakes(Path(folder))
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        there = f"is {module_name}.py beside the configuration, or its package installed?"
        raise ConfigError(
            f"model.factory {config.model.factory} cannot be imported: {type(error).__name__}: {error}",
            there if missing else f"{module_name} was found; look into it",
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


def _forget_namesakes(folder: Path) -> None:
    """Modules of another app in this process that have the names of this app's are not this app's."""
    for name in list(sys.modules):
        root = name.partition(".")[0]
        module = sys.modules.get(root)
        if module is None or root in sys.stdlib_module_names or root == __name__.partition(".")[0]:
            continue
        beside = [place for place in (folder / f"{root}.py", folder / root / "__init__.py") if place.exists()]
        if beside and Path(getattr(module, "__file__", None) or beside[0]) not in beside:
            for other in [other for other in sys.modules if other.partition(".")[0] == root]:
                del sys.modules[other]


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
        modules.add(str(getattr(named, "__module__", "builtins")))
        if depth > 12:
            return
        for part in parts_of(value):
            walk(part, depth + 1)

    walk(estimator, 0)
    return modules
