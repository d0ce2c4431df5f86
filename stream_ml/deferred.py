"""Imports that are put off until something in them is used.

River asks for scipy.stats and scipy.integrate in three modules that every model imports, and uses them in metrics and
distributions that hardly any model has: 1.1 s of the 1.9 s that a worker took to import. `importlib.util.LazyLoader`
does not help, because ``from scipy.stats import name`` is a use.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

# What River takes by name out of a deferred module (river 0.26: proba/gaussian.py, tree/stochastic_gradient_tree.py).
BY_NAME = {"scipy.stats": ("multivariate_normal", "f"), "scipy.integrate": ()}


class DeferredModule(ModuleType):
    """Stands in for a module until anything in it is asked for, but for the names that may wait longer."""

    def __init__(self, name: str, later: tuple[str, ...]) -> None:
        super().__init__(name)
        self._later = later
        self.__spec__ = importlib.util.find_spec(name)
        self.__path__ = DeferredPath(self)  # type: ignore[assignment]

    def __getattr__(self, attribute: str) -> Any:
        """Something of the real module."""
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if attribute in self._later:
            return DeferredObject(self, attribute)
        return getattr(self.real(), attribute)

    def real(self) -> ModuleType:
        """The module itself, which takes this one's place."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return importlib.import_module(self.__name__)


class DeferredPath:
    """Where submodules are: who looks there wants the real module first, because its parts need each other."""

    def __init__(self, module: DeferredModule) -> None:
        self._module = module

    def __iter__(self) -> Iterator[str]:
        """The real module's folders."""
        return iter(self._module.real().__path__)


class DeferredObject:
    """Stands in for a function or a distribution, which is called or asked for a method."""

    def __init__(self, module: DeferredModule, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return getattr(self._module.real(), self._name)(*arguments, **named)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(self._module.real(), self._name), attribute)


def defer_imports() -> None:
    """Put off what BY_NAME names, where it is not imported already."""
    for name, later in BY_NAME.items():
        if name not in sys.modules:
            sys.modules[name] = DeferredModule(name, later)
            setattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2], sys.modules[name])
