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
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import decode_source
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
        self.folder, self.sources = folder, dict(sources)
        self.roots = {path.partition("/")[0].removesuffix(".py") for path in sources}
        self.builtins = {**vars(builtins), "__import__": self._import}
        self._importlib = ModuleType("importlib")

    def place(self, name: str) -> tuple[str, bool] | None:
        """The path of a module, and whether it is a package; an empty path of a folder without ``__init__``."""
        path = name.replace(".", "/")
        if f"{path}/__init__.py" in self.sources:
            return f"{path}/__init__.py", True
        if f"{path}.py" in self.sources:
            return f"{path}.py", False
        return ("", True) if any(other.startswith(f"{path}/") for other in self.sources) else None

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
        found = builtins.__import__(name, names, local, tuple(fromlist or ()), level)
        if level == 0 and found is importlib:
            vars(self._importlib).update({**vars(importlib), "import_module": self._import_module})
            return self._importlib
        return found

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        """What `importlib.import_module` means in a private module.

        A module of the folder whose name was computed is refused: the lineage does not know it.
        """
        root = name.partition(".")[0]
        if root and root not in self.roots and beside(root, self.folder) is not None:
            raise ImportError(f"{name} is imported under a name that is computed: write import {name}", name=name)
        return importlib.import_module(f"{self.__name__}.{name}" if root in self.roots else name, package)


class _Finder(MetaPathFinder):
    """Finds private modules among the source of their package, and nowhere else."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """The place of a private module; None of every other one."""
        owner, _, rest = fullname.partition(".")
        home = sys.modules.get(owner)
        place = home.place(rest) if rest and isinstance(home, _Package) else None
        if place is None or not isinstance(home, _Package):
            return None
        file, is_package = place
        folder = str(home.folder / rest.replace(".", "/"))
        loader = _Loader(home, file) if file else None
        found = ModuleSpec(fullname, loader, origin=str(home.folder / file) if file else None, is_package=is_package)
        found.has_location = bool(file)
        if is_package:
            found.submodule_search_locations = [folder]
        return found


class _Loader(InspectLoader):
    """Runs the source that was digested, with imports of its own; nothing compiled is kept or taken."""

    def __init__(self, home: _Package, file: str) -> None:
        self._home, self._file = home, file

    def is_package(self, fullname: str) -> bool:
        """Whether it has modules below it."""
        return self._file.endswith("__init__.py")

    def get_source(self, fullname: str) -> str:
        """The text, for who shows it."""
        return decode_source(self._home.sources[self._file])

    def get_code(self, fullname: str) -> Any:
        """Compiled anew: a file of the same size and second may be another one."""
        return self.source_to_code(self._home.sources[self._file], str(self._home.folder / self._file))

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        vars(module)["__builtins__"] = self._home.builtins
        super().exec_module(module)
