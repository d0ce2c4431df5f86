"""Unpickling through an allow-list: River's and numpy's own types, a few of Python's, and what the user names.

A pickle is a program. This one may only build values of listed classes; a name is judged before its module is
imported, and functions are refused but for the few that River's and numpy's own pickles need.
"""

import importlib
import io
import pickle
import sys
from collections.abc import Iterable
from types import FunctionType, MethodType
from typing import Any, Protocol

import numpy as np
from numpy._core.multiarray import _reconstruct as _numpy_reconstruct
from numpy._core.multiarray import scalar as _numpy_scalar
from numpy._core.numeric import _frombuffer as _numpy_frombuffer  # type: ignore[attr-defined]

from stream_ml.core.model.lineage import plain_module
from stream_ml.errors import CheckpointError
from stream_ml.storage.allowed import CLASS_METHODS, METHODS, NAMED, RIVER_CLASSES, TEXT_METHODS
from stream_ml.storage.deep_copy import DeepCopy, Loading


class Reads(Protocol):
    """Where a pickle comes from."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most so many."""
        ...

    def readline(self) -> bytes:
        """The rest of a line."""
        ...


class _Loader(pickle.Unpickler):
    """Builds values of listed names only, and leaves every class and function as it was."""

    def __init__(self, file: Reads, extra: frozenset[str]) -> None:
        super().__init__(file)
        self._extra = extra
        self._given: dict[int, tuple[Any, dict[str, Any]]] = {}

    def find_class(self, module: str, name: str) -> Any:
        found = _found(module, name, self._extra)
        if found is None:
            raise CheckpointError(f"the checkpoint holds {plain_module(module)}.{name}, which is not allowed")
        if isinstance(found, type | FunctionType):
            self._given.setdefault(id(found), (found, _attributes(found)))
        return found

    def built(self) -> Any:
        """The value. Setting a state may set attributes of what a name stands for: that is undone, and refused."""
        try:
            with Loading():
                return self.load()
        finally:
            changed = [thing for thing, before in self._given.values() if _put_back(thing, before)]
            if changed:
                name = f"{plain_module(changed[0].__module__)}.{changed[0].__qualname__}"
                raise CheckpointError(f"the checkpoint changes {name} itself, which is not allowed")


def _found(module: str, name: str, extra: frozenset[str]) -> Any:
    """What a name in a checkpoint stands for; None where it is not allowed, and then nothing is imported."""
    if (module, name) in _REPLACED:
        return _REPLACED[module, name]
    if name in NAMED.get(module, ()) or f"{plain_module(module)}.{name}" in extra:
        return _attribute(module, name)
    return _attribute(module, name) if name in RIVER_CLASSES.get(module, ()) else None


def _attribute(module: str, name: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def method_of(owner: Any, name: str) -> Any:
    """Takes the place of getattr: a method that is listed, as its class defines it, whatever an instance calls so."""
    if owner is str and name in TEXT_METHODS:
        return getattr(str, name)
    if isinstance(owner, type):
        full = f"{owner.__module__}.{owner.__qualname__}"
        if f"{full}.{name}" in CLASS_METHODS and _at(full) is owner:
            return getattr(owner, name)
    for class_ in type(owner).__mro__:
        found = vars(class_).get(name)
        holder = type(owner) if name == "clone" else class_
        full = f"{holder.__module__}.{holder.__qualname__}"  # which may be forged: the class is looked up by it
        if isinstance(found, FunctionType) and f"{full}.{name}" in METHODS and _at(full) is holder:
            return MethodType(found, owner)
        if found is not None:
            break
    raise CheckpointError(f"the checkpoint holds {name} of {type(owner).__qualname__}, which is not allowed", _OWN)


def _at(full: str) -> Any:
    """The class of this name."""
    module, _, name = full.rpartition(".")
    return vars(sys.modules[module]).get(name) if module in sys.modules else None


def _iterator(values: Any) -> Any:
    """Takes the place of iter."""
    if type(values) not in (list, tuple, range):
        raise CheckpointError(f"the checkpoint iterates over {type(values).__qualname__}, which is not allowed")
    return iter(values)


class _Array:
    """Takes the place of numpy's ndarray, which a pickle only names for `_reconstruct`, and must not call."""


def _empty_array(kind: Any, shape: Any, typecode: Any) -> Any:
    """Takes the place of numpy's `_reconstruct`: an empty array, whose state numpy itself checks against its dtype."""
    if kind is not _ARRAY or shape != (0,):
        raise CheckpointError("the checkpoint makes an array in another way than numpy, which is not allowed")
    return _numpy_reconstruct(np.ndarray, (0,), typecode)


def _dtype(code: Any, *_: Any) -> Any:
    """Takes the place of numpy's dtype: one of those that numpy itself has, of which no state can change anything.

    A dtype of the pickle's own may claim fields outside of its item, or objects where there are bytes.
    """
    found = np.dtype(code) if isinstance(code, str) and len(code) <= DTYPE_CHARS else None
    if found is None or found.kind not in "biufcO" or not found.isbuiltin:
        raise CheckpointError(f"the checkpoint holds the dtype {code!r}, which is not allowed")
    return found


def _array_of(buffer: Any, dtype: Any, *shape_and_order: Any) -> Any:
    """Takes the place of numpy's `_frombuffer`: an array of numbers over bytes."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise CheckpointError("the checkpoint makes objects of bytes, which is not allowed")
    return _numpy_frombuffer(buffer, dtype, *shape_and_order)


def _scalar(dtype: Any, *value: Any) -> Any:
    """Takes the place of numpy's `scalar`: one number."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise CheckpointError("the checkpoint makes an object of bytes, which is not allowed")
    return _numpy_scalar(dtype, *value)


def _range(*bounds: Any) -> range:
    """Takes the place of range, of which a list may be made that is as long as it."""
    found = range(*bounds)
    if len(found) > RANGE_MAX:
        raise CheckpointError(f"the checkpoint holds a range of {len(found)} numbers, which is not allowed")
    return found


RANGE_MAX = 1_000_000
DTYPE_CHARS = 4  # of a dtype's code: c16 has three
_ARRAY = _Array()
_REPLACED: dict[tuple[str, str], Any] = {
    ("builtins", "getattr"): method_of,
    ("builtins", "iter"): _iterator,
    ("builtins", "range"): _range,
    ("copy", "deepcopy"): DeepCopy(),
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _dtype,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _array_of,
}
_OWN = "write a function of your own instead, in a module, and list it in model.checkpoint_types"


def _attributes(thing: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict(vars(thing))
    if not isinstance(thing, type):
        found |= {name: getattr(thing, name) for name in ("__code__", "__defaults__", "__kwdefaults__")}
    return found


def _put_back(thing: Any, before: dict[str, Any]) -> bool:
    """Give a class or function the attributes that it had; whether any was another one."""
    now = _attributes(thing)
    others = [name for name in now.keys() | before.keys() if now.get(name) is not before.get(name)]
    others = [name for name in others if name not in _BY_ITSELF]
    for name in others:
        if name in before:
            setattr(thing, name, before[name])
        else:
            delattr(thing, name)
    return bool(others)


_BY_ITSELF = {"__abstractmethods__", "_abc_impl", "__dict__", "__weakref__", "__doc__", "__annotations__"}


def refusal(names: Iterable[tuple[str, str]], extra: Iterable[str] = ()) -> CheckpointError | None:
    """All that is asked for by module and name and may not be held, with what to do; None where there is no such."""
    known = frozenset(extra)
    refused = [named for named in names if _refuses(*named, known)]
    if not refused:
        return None
    refused = [(plain_module(module), name) for module, name in refused]
    own = [f"{module}.{name}" for module, name in refused if module.partition(".")[0] not in _NOBODYS]
    hints = [f"if it is yours, list it: model.checkpoint_types: [{', '.join(own)}]"] if own else []
    if any(module.partition(".")[0] not in ("river", "") and _is_nobodys(module) for module, _ in refused):
        hints.insert(0, _OWN)
    if any(module.partition(".")[0] == "river" for module, _ in refused):
        hints.insert(0, "River's part of it holds what no checkpoint can: take another one")
    held = ", ".join(f"{module}.{name}" for module, name in refused)
    return CheckpointError(f"the checkpoint holds {held}, which is not allowed", "; ".join(hints))


def _refuses(module: str, name: str, extra: frozenset[str]) -> bool:
    try:
        return _found(module, name, extra) is None
    except (ImportError, AttributeError):
        return True


_NOBODYS = {"river", "numpy", "builtins", *sys.stdlib_module_names}


def _is_nobodys(module: str) -> bool:
    return module.partition(".")[0] in _NOBODYS


def load(file: Reads, extra: Iterable[str] = ()) -> Any:
    """The value in a pickle whose digest was checked before.

    Parameters
    ----------
    extra
        Names, as ``module.Class`` or ``module.function``, that are allowed beside River's and numpy's types.

    Raises
    ------
    CheckpointError
        It names something that is not allowed, or is no pickle; the loader passes over to an older checkpoint. It
        never says how to allow more: the pickle may be from elsewhere.
    """
    try:
        return _Loader(file, frozenset(extra)).built()
    except CheckpointError as error:
        raise CheckpointError(error.message) from None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # what native classes raise is no Exception
        raise CheckpointError(f"the payload cannot be unpickled: {type(error).__name__}: {str(error)[:300]}") from error


def loads(payload: bytes, extra: Iterable[str] = ()) -> Any:
    """The value in a pickle of bytes; allowed names and errors as of `load`."""
    return load(io.BytesIO(payload), extra)
