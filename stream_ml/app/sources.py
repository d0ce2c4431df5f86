"""What a model's factory is made of: the source of every module that it imports from beside the configuration.

Imports are read from the text and not from what happens to be loaded, so every process finds the same modules, whatever
it imported before. What a name that is computed at run time stands for cannot be read so: such a module is found only
where a part of the estimator comes from it.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import MappingProxyType

from stream_ml.app.private_modules import beside

NOTHING: Mapping[str, bytes] = MappingProxyType({})
_SELF = __name__.partition(".")[0]
_OWN_ROOTS = {"river", "numpy", "builtins", "__main__", *sys.stdlib_module_names}  # in the lineage by their versions


def texts_below(module: str, folder: Path) -> dict[str, bytes]:
    """The source of a module of this folder and of all that it imports from there, by path; empty of any other one."""
    root = module.partition(".")[0]
    if root in _OWN_ROOTS or root == _SELF or beside(module, folder) is None:
        return {}
    found, _ = _followed({module}, folder)
    return {place: text for place, text in found.items() if text is not None and place.endswith(".py")}


def texts_of(places: Iterable[str], folder: Path, loaded: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files below the folder among these places; a place that is a module's name is none.

    Parameters
    ----------
    loaded
        Those that are known already, as they run; others are read.
    """
    files = [place for place in places if place.endswith(".py")]
    return {place: loaded[place] if place in loaded else (folder / place).read_bytes() for place in files}


def closure(
    modules: set[str], folder: Path, loaded: Mapping[str, bytes] = NOTHING
) -> tuple[dict[str, str], dict[str, str]]:
    """Digest of the source of these modules and of all that they import, the standard library, River and numpy aside.

    Parameters
    ----------
    modules
        Full names: the factory's, and those that the estimator's parts come from.
    folder
        The configuration's: modules beside it are followed, as are others that no distribution brought.
    loaded
        Source by path below the folder, as it was loaded: that is what runs, whatever the files hold by now.

    Returns
    -------
    sources : dict of str
        A file below the folder, or else a module's name, to the SHA-256 of its source.
    distributions : dict of str
        A distribution's name to its version.
    """
    texts, distributions = _followed(modules, folder, loaded)
    found = {place: "no source" if text is None else hashlib.sha256(text).hexdigest() for place, text in texts.items()}
    return dict(sorted(found.items())), dict(sorted(distributions.items()))


def _followed(
    modules: set[str], folder: Path, loaded: Mapping[str, bytes] = NOTHING
) -> tuple[dict[str, bytes | None], dict[str, str]]:
    """The sources that `closure` digests, None where there is none, and the distributions."""
    found: dict[str, bytes | None] = {}
    distributions: dict[str, str] = {}
    done: set[str] = set()
    left = sorted(modules)
    while left:
        name = left.pop()
        root = name.partition(".")[0]
        if name in done or root in _OWN_ROOTS:
            continue
        brought = _brought(root, folder)
        distributions |= {distribution: _version(distribution) for distribution in brought}
        followed = not brought and root != _SELF  # whose fold has a format of its own in the lineage
        if not followed and name not in modules:
            continue
        file = _file(_spec(name, folder))
        if file is not None:
            place = _place(name, file, folder)
            source = found[place] = loaded[place] if place in loaded else file.read_bytes()
            done.add(name)
            if followed:
                left += _parents(name)
                left += _imported(source, name, is_package=file.name == "__init__.py")
        elif name in modules:
            found[name] = None
    return found, distributions


def _brought(root: str, folder: Path) -> list[str]:
    """Distributions that brought a top-level module; none of one that lies beside the configuration."""
    spec = _spec(root, folder)
    places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
    inside = any(folder.resolve() in Path(place).resolve().parents for place in places if place)
    return [] if inside or root == _SELF else _distributions().get(root, [])


def _place(name: str, file: Path, folder: Path) -> str:
    """A path below the folder, which is the same wherever the folder lies; else the module's name.

    Links are not followed as long as that goes: Kubernetes mounts files as links into a folder with another name each
    time, and they are the same files.
    """
    for of, below in ((file.absolute(), folder.absolute()), (file.resolve(), folder.resolve())):
        if below in of.parents:
            return of.relative_to(below).as_posix()
    return name


def _parents(name: str) -> list[str]:
    """Packages whose ``__init__`` runs before a module."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _imported(source: bytes, module: str, *, is_package: bool) -> Iterator[str]:
    """Names that a module's text may import, functions' bodies included; not all of them are modules."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Call) and _named(node.func) in ("import_module", "__import__"):
            texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            if texts:
                level = len(texts[0]) - len(texts[0].lstrip("."))
                yield _absolute(texts[0][level:], level, package)


def _named(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _absolute(name: str, level: int, package: str) -> str:
    if not level:
        return name
    parts = package.split(".") if package else []
    return ".".join([*parts[: len(parts) - level + 1], *([name] if name else [])])


def _spec(name: str, folder: Path) -> ModuleSpec | None:
    """Where a module is found, as an import would; of others than the folder's what is loaded says so itself."""
    if beside(name.partition(".")[0], folder) is not None:
        return beside(name, folder)  # nothing is imported to find it
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__spec__", None) is not None:
        return loaded.__spec__
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None  # an attribute and no module, or a package that is not there


def _file(spec: ModuleSpec | None) -> Path | None:
    origin = spec.origin if spec is not None and spec.has_location else None
    return Path(origin) if origin and origin.endswith(".py") else None


@cache
def _distributions() -> dict[str, list[str]]:
    """Top-level name -> distributions that brought it."""
    return {name: sorted(set(found)) for name, found in packages_distributions().items()}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
