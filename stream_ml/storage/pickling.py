"""Pickling what can be loaded again: every name is judged while it is written, as `unpickle` will judge it.

So a large model is known to be loadable without a second one in memory.
"""

import io
import pickle
import random
import types
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import numpy as np

from stream_ml.errors import CheckpointError
from stream_ml.storage.random_state import packed, set_packed
from stream_ml.storage.unpickle import loads, method_of, refusal

_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, np.ufunc)
_METHODS = (
    types.MethodType,
    types.BuiltinMethodType,
    types.MethodDescriptorType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)
_ITERATED: tuple[Iterable[Any], ...] = ([], (), "", b"", range(0), {}, set())
_SMALL: tuple[type, ...] = (range, np.dtype, *(type(iter(values)) for values in _ITERATED))
LOOK_EVERY = 64  # objects: 0.1 ms of pickling


class Writes(Protocol):
    """Where a pickle goes."""

    def write(self, data: Any, /) -> object:
        """Take so many bytes more."""
        ...


class _Pickler(pickle.Pickler):
    """Notes every name that it writes, tries what is judged by its value, and lets others work in between."""

    def __init__(self, file: Writes, extra: frozenset[str], passing: Callable[[], None]) -> None:
        super().__init__(file, protocol=5)
        self._extra, self._passing, self._count = extra, passing, 0
        self.names: dict[tuple[str, str], None] = {}

    def reducer_override(self, value: Any) -> Any:
        self._count += 1
        if self._count % LOOK_EVERY == 0:
            self._passing()
        kind = type(value)
        if kind is random.Random:
            state = packed(value)
            return NotImplemented if state is None else (random.Random, (), state, None, None, set_packed)
        if isinstance(value, _METHODS) and not _is_of_module(value):
            owner = value.__self__ if hasattr(value, "__self__") else value.__objclass__
            method_of(owner, value.__name__)
        elif isinstance(value, _NAMED):
            module = getattr(value, "__module__", None) or "numpy"  # of a ufunc
            self.names[module, getattr(value, "__qualname__", value.__name__)] = None
        elif isinstance(value, _SMALL):
            loads(pickle.dumps(value, protocol=5), self._extra)
        return NotImplemented


def _is_of_module(value: Any) -> bool:
    """Whether it is a function of a module, whose type is that of a list's methods too."""
    owner = getattr(value, "__self__", None)
    return isinstance(value, types.BuiltinFunctionType) and (owner is None or isinstance(owner, types.ModuleType))


def dump(value: Any, file: Writes, extra: Iterable[str] = (), passing: Callable[[], None] = lambda: None) -> None:
    """Pickle a value, if what comes of it can be loaded with the same names allowed.

    Parameters
    ----------
    extra
        As of `unpickle.load`.
    passing
        Called between two objects, again and again.

    Raises
    ------
    CheckpointError
        It cannot be pickled, or holds what is not allowed; all names of it are reported at once.
    """
    known = frozenset(extra)
    pickler = _Pickler(file, known, passing)
    try:
        pickler.dump(value)
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise CheckpointError(f"the model cannot be pickled: {error}") from error
    refused = refusal(pickler.names, known)
    if refused is not None:
        raise refused


def dumps(value: Any, extra: Iterable[str] = ()) -> bytes:
    """Pickle a value to bytes, if it can be loaded again; errors as of `dump`."""
    file = io.BytesIO()
    dump(value, file, extra)
    return file.getvalue()


def through(value: Any, extra: Iterable[str] = ()) -> Callable[[], Any]:
    """Pickle a value; what loads its copy."""
    return partial(loads, dumps(value, extra), extra)
