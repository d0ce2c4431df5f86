"""Unpickling through an allow-list: River's and numpy's own types, a few of Python's, and what the user names.

A pickle is a program. This one may only build values of listed classes; a name is judged before its module is
imported, and functions are refused but for the few that River's and numpy's own pickles need.
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
    "copy": {"deepcopy"},
    "copyreg": {"_reconstructor"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "functools": {"partial"},
    "random": {"Random"},
    "uuid": {"UUID"},
    "stream_ml.core.quality": {"BinnedRocAuc", "Confusion", "Hits", "MeanLogLoss"},
}
_NUMPY_SCALARS = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_NUMPY_SCALARS |= {"float16", "float32", "float64", "bool", "bool_", "str_", "bytes_", "datetime64", "timedelta64"}
_NUMPY = {
    "numpy": {"ndarray", "dtype"} | _NUMPY_SCALARS,
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.random._generator": {"Generator"},
    "numpy.random._mt19937": {"MT19937"},
    "numpy.random._pcg64": {"PCG64", "PCG64DXSM"},
    "numpy.random._philox": {"Philox"},
    "numpy.random._pickle": {"__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"},
    "numpy.random._sfc64": {"SFC64"},
    "numpy.random.bit_generator": {"SeedSequence", "__pyx_unpickle_SeedSequence"},
    "numpy.random.mtrand": {"RandomState"},
}
_RIVER_FUNCTIONS = {
    "river.naive_bayes.gaussian": {"GaussianNB._make_gaussian"},
    "river.tree.splitter.ebst_splitter": {
        "EBSTNode._update_estimator_univariate",
        "EBSTNode._update_estimator_multivariate",
    },
}
_NAMED = {**_PYTHON, **_NUMPY, **_RIVER_FUNCTIONS}
# River's packages of estimators and what these are made of. Not datasets, stream, evaluate: they read files and the
# network.
_RIVER_PACKAGES = {
    "_river_rust",
    "active",
    "anomaly",
    "bandit",
    "base",
    "cluster",
    "compose",
    "conf",
    "covariance",
    "drift",
    "dummy",
    "ensemble",
    "facto",
    "feature_extraction",
    "feature_selection",
    "forest",
    "imblearn",
    "linear_model",
    "metrics",
    "misc",
    "model_selection",
    "multiclass",
    "multioutput",
    "naive_bayes",
    "neighbors",
    "neural_net",
    "optim",
    "preprocessing",
    "proba",
    "rules",
    "sketch",
    "stats",
    "time_series",
    "tree",
    "utils",
}

_BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    pickle.UnpicklingError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)


class _Loader(pickle.Unpickler):
    def __init__(self, payload: bytes, extra: frozenset[str]) -> None:
        super().__init__(io.BytesIO(payload))
        self._extra = extra

    def find_class(self, module: str, name: str) -> Any:
        if name in _NAMED.get(module, ()) or f"{module}.{name}" in self._extra:
            return _attribute(module, name)
        path = module.split(".")
        if path[0] == "river" and len(path) > 1 and path[1] in _RIVER_PACKAGES and "__" not in f"{module}.{name}":
            found = _attribute(module, name)
            if isinstance(found, type) and found.__module__.split(".")[:2] == path[:2]:
                return found
        raise CheckpointError(
            f"the checkpoint holds {module}.{name}, which is not allowed",
            f"if it is yours, list it in model.checkpoint_types: [{module}.{name}]",
        )


def _attribute(module: str, name: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def loads(payload: bytes, extra: Iterable[str] = ()) -> Any:
    """The value in a pickle whose digest was checked before.

    Parameters
    ----------
    extra
        Names, as ``module.Class`` or ``module.function``, that are allowed beside River's and numpy's types.

    Raises
    ------
    CheckpointError
        It names something that is not allowed, or is no pickle; the loader passes over to an older checkpoint.
    """
    try:
        return _Loader(payload, frozenset(extra)).load()
    except _BROKEN as error:
        raise CheckpointError(f"the payload cannot be unpickled: {type(error).__name__}: {error}") from error
