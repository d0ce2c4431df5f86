"""Modules of one model under a name of their own, so that two versions of ``model.py`` can live in one process.

``model.py`` and what it imports from its folder are loaded as ``stream_ml_model_<digits>.model`` and so on: the digits
are of the factory, its parameters and all of their source. What a private module imports is looked for among its like
first, and else taken as every process has it. The source that runs is the one whose digest was taken.

In specifications, checkpoints' allow-lists and messages the private part of a name is left out.
"""

import builtins
import hashlib
import importlib
import json
import sys
from collections.abc import Iterable, Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from stream_ml.core.model.lineage import PRIVATE, describe

DIGITS = 16


def code_of(factory: str, params: Mapping[str, Any], seed: int, sources: Mapping[str, str]) -> str:
    """The digits of a model's code: modules are shared by models that are alike in all of this, and by no others.

    Parameters
    ----------
    sources
        Digest of each file below the folder.
    """
    said = [factory, describe(dict(params)), seed, dict(sorted(sources.items()))]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:DIGITS]


def package(code: str, folder: Path, sources: Mapping[str, bytes]) -> str:
    """The name of the package that holds the private modules with these digits; made where it is not there.

    Parameters
    ----------
    sources
        Text of each file, by its path below the folder: it is what runs, whatever the file holds by then.
    """
    name = f"{PRIVATE}{code}"
    if name not in sys.modules:
        if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        importlib.invalidate_caches()
        module = _Package(name, folder.resolve(), sources)
        sys.modules[name] = module
    return name


def beside(name: str, folder: Path) -> ModuleSpec | None:
    """Where a module of this folder is, without importing anything; None where there is none."""
    path, found = [str(folder)], None
    importlib.invalidate_caches()
    for part in name.split("."):
        found = PathFinder.find_spec(part, path)
        if found is None:
            return None
        path = list(found.submodule_search_locations or ())
    return found


class _Package(ModuleType):
    """The package around the modules of one model."""

    def __init__(self, name: str, folder: Path, sources: Mapping[str, bytes]) -> None:
        super().__init__(name)
        self.__path__ = [str(folder)]
        self.sources = {str(folder / path): text for path, text in sources.items()}
        self.roots = {path.partition("/")[0].removesuffix(".py") for path in sources}
        self.builtins = {**vars(builtins), "__import__": self._import}
        self._importlib = ModuleType("importlib")
        vars(self._importlib).update({**vars(importlib), "import_module": self._import_module})

    def _import(
        self,
        name: str,
        names: Mapping[str, Any] | None = None,
        local: Mapping[str, Any] | None = None,
        fromlist: Iterable[str] | None = (),
        level: int = 0,
    ) -> Any:
        """What an import statement of a private module means."""
        root = name.partition(".")[0]
        if level == 0 and root in self.roots:
            full = f"{self.__name__}.{name}"
            if fromlist:
                return builtins.__import__(full, names, local, tuple(fromlist), 0)
            importlib.import_module(full)
            return sys.modules[f"{self.__name__}.{root}"]
        if level == 0 and name == "importlib" and fromlist is not None:
            return self._importlib
        return builtins.__import__(name, names, local, tuple(fromlist or ()), level)

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        """What `importlib.import_module` means in a private module."""
        private = name.partition(".")[0] in self.roots
        return importlib.import_module(f"{self.__name__}.{name}" if private else name, package)


class _Finder(MetaPathFinder):
    """Finds private modules where their package says that they are."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """The place of a private module; None of every other one."""
        owner, _, rest = fullname.partition(".")
        home = sys.modules.get(owner)
        if not rest or not isinstance(home, _Package):
            return None
        found = PathFinder.find_spec(fullname, path)
        if found is None or not isinstance(found.loader, SourceFileLoader) or found.origin is None:
            return found
        return spec_from_file_location(
            fullname,
            found.origin,
            loader=_Loader(fullname, found.origin, home),
            submodule_search_locations=found.submodule_search_locations,
        )


class _Loader(SourceFileLoader):
    """Runs the source that was digested, with imports of its own; nothing compiled is kept or taken."""

    def __init__(self, fullname: str, path: str, home: _Package) -> None:
        super().__init__(fullname, path)
        self._home = home

    def get_code(self, fullname: str) -> Any:
        """Compiled anew: a file of the same size and second may be another one."""
        path = self.get_filename(fullname)
        text = self._home.sources.get(path)
        return self.source_to_code(self.get_data(path) if text is None else text, path)

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        vars(module)["__builtins__"] = self._home.builtins
        super().exec_module(module)
