"""Unpickling through an allow-list: River's and numpy's own types, a few of Python's, and those that the user names.

A pickle is a program. This one may only build values of listed classes: functions are refused, River's and numpy's
too, except the few that numpy's own pickles call.
"""

import importlib
import io
import pickle
from collections.abc import Iterable
from typing import Any

from stream_ml.errors import CheckpointError

_PYTHON = {
    "builtins": {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set"}
    | {"slice", "str", "tuple", "range"},
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "functools": {"partial"},
    "random": {"Random"},
    "uuid": {"UUID"},
    "copyreg": {"_reconstructor"},
    "stream_ml.core.quality": {"BinnedRocAuc"},
}
_NUMPY_FUNCTIONS = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.random._pickle", "__randomstate_ctor"),
    ("numpy.random._pickle", "__generator_ctor"),
    ("numpy.random._pickle", "__bit_generator_ctor"),
}


class _Loader(pickle.Unpickler):
    def __init__(self, payload: bytes, extra: frozenset[str]) -> None:
        super().__init__(io.BytesIO(payload))
        self._extra = extra

    def find_class(self, module: str, name: str) -> Any:
        if name in _PYTHON.get(module, ()) or (module, name) in _NUMPY_FUNCTIONS:
            return super().find_class(module, name)
        root = module.partition(".")[0]
        if f"{module}.{name}" in self._extra or root in ("river", "numpy"):
            found = _attribute(module, name)
            if isinstance(found, type) and (
                root not in ("river", "numpy") or found.__module__.partition(".")[0] == root
            ):
                return found
        raise CheckpointError(
            f"the checkpoint holds {module}.{name}, which is not allowed",
            f"if it is yours, list it in model.checkpoint_types: [{module}.{name}]",
        )


def _attribute(module: str, name: str) -> Any:
    if any(part.startswith("__") for part in name.split(".")):
        return None
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found


def loads(payload: bytes, extra: Iterable[str] = ()) -> Any:
    """The value in a pickle whose digest was checked before.

    Raises
    ------
    CheckpointError
        It names a type that is not allowed, or is no pickle; the loader passes over to an older checkpoint.
    """
    try:
        return _Loader(payload, frozenset(extra)).load()
    except CheckpointError:
        raise
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"the payload cannot be unpickled: {type(error).__name__}: {error}") from error
