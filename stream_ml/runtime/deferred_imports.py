"""Imports that are put off until something in them is used, in a process that is the service's own.

River asks for parts of scipy (stats, integrate, special, sparse, io) in modules that every model imports, and uses them
in metrics, distributions and readers that hardly any model has: 1.4 s of the 1.9 s that a worker took to import.
`importlib.util.LazyLoader` does not help, because ``from scipy.stats import name`` is a use.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# What River takes by name out of a deferred module (river 0.26: proba/gaussian.py, tree/stochastic_gradient_tree.py,
# linear_model/ad_predictor.py, stream/iter_arff.py). A module stands behind those that it is a part of.
# numpy.f2py, a compiler's front end, comes along with ``from numpy import *`` inside of scipy.
BY_NAME = {
    "scipy.stats": ("multivariate_normal", "f"),
    "scipy.integrate": (),
    "scipy.special": ("ndtri",),
    "scipy.ndimage": (),
    "scipy.sparse": (),
    "scipy.io": (),
    "scipy.io.arff": (),
    "scipy.io.arff._arffread": ("read_header",),
    "numpy.f2py": (),
}


class DeferredModule(ModuleType):
    """Stands in for a module until anything in it is asked for, but for the names that may wait longer."""

    def __init__(self, name: str, later: tuple[str, ...]) -> None:
        super().__init__(name)
        self._later = later
        self._real: ModuleType | None = None
        self.__spec__ = importlib.util.find_spec(name)
        self.__path__ = list((self.__spec__.submodule_search_locations if self.__spec__ else None) or ())

    def __getattr__(self, attribute: str) -> Any:
        """Something of the real module."""
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if attribute in self._later:
            return DeferredObject(self, attribute)
        return getattr(self.real(), attribute)

    def real(self) -> ModuleType:
        """The module itself, which takes this one's place, and its parts theirs."""
        if self._real is None:
            for name, module in list(sys.modules.items()):
                if isinstance(module, DeferredModule) and f"{name}.".startswith(f"{self.__name__}."):
                    del sys.modules[name]
            self._real = importlib.import_module(self.__name__)
        return self._real


class DeferredObject:
    """Stands in for a function or a distribution, which is called or asked for a method."""

    def __init__(self, module: DeferredModule, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return getattr(self._module.real(), self._name)(*arguments, **named)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(self._module.real(), self._name), attribute)


class _Submodules(MetaPathFinder, Loader):
    """Who imports a part of a deferred module gets the real one first, because its parts need each other."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec whose module is the one that the real parent's import has left behind, if it has."""
        parent = sys.modules.get(fullname.rpartition(".")[0])
        if not isinstance(parent, DeferredModule):
            return None
        parent.real()
        there = sys.modules.get(fullname)
        if there is None:
            return None
        kept, there.__spec__ = there.__spec__, None  # importlib would take that one, and run the module again
        return ModuleSpec(fullname, self, loader_state=kept)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module that is there."""
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """It has run already."""
        assert module.__spec__ is not None  # noqa: S101 - the import system has just set it
        module.__spec__ = module.__spec__.loader_state


class _NoPandas(MetaPathFinder):
    """Says that there is no pandas."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)
        return None


def _without_pandas() -> None:
    """Make Arrow's first array while there seems to be no pandas: it looks once, and imported it, 0.25 s.

    Whoever asks for a conversion to pandas makes it look again (pyarrow 26: pandas-shim.pxi, `_check_import`).
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(finder)


class _BeforeCore(MetaPathFinder):
    """Puts imports off at the moment at which the core is first imported: a verb without a model needs no scipy."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "stream_ml.core":
            sys.meta_path.remove(self)
            defer_imports()
        return None


def defer_imports_of_core() -> None:
    """Call `defer_imports` as soon as the core is imported. For a process that is ours: `stream_ml.__main__`."""
    sys.meta_path.insert(0, _BeforeCore())


def defer_imports() -> None:
    """Put off what BY_NAME names, and pandas, where it is not imported already."""
    _without_pandas()
    for name, later in BY_NAME.items():
        if name not in sys.modules:
            sys.modules[name] = DeferredModule(name, later)
            setattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2], sys.modules[name])
    if not any(isinstance(finder, _Submodules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Submodules())
