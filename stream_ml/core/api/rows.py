"""Instances of a large request as columns: all of them plain numbers, without ids and times of their own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from stream_ml.core.api.typed import NotPlain
from stream_ml.core.avro.fields import MAGNITUDE_MAX
from stream_ml.core.inputs.features import FeaturePlan

ROWS_MIN = 16  # fewer are read one by one
EXACT_MAX = 2.0**53  # whole numbers up to it are themselves as a double
_FLOATS, _WHOLE = ("float", "double"), ("int", "long")


class Instance(NamedTuple):
    """A usable instance.

    Parameters
    ----------
    event_id
        None where it was left out.
    """

    features: dict[str, Any]
    imputed: bool
    event_id: str | None
    time_ms: int


class Rows(Sequence[Instance]):
    """n instances without an id, of one time; each is made when it is asked for.

    Attributes
    ----------
    columns
        Of each feature n finite numbers.
    """

    def __init__(self, names: Sequence[str], columns: Sequence[npt.NDArray[Any]], time_ms: int) -> None:
        self.names, self.columns, self._time_ms = names, columns, time_ms

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, row: int) -> Instance: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Instance]: ...
    def __getitem__(self, row: int | slice) -> Instance | Sequence[Instance]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        features = {name: column[row].item() for name, column in zip(self.names, self.columns, strict=True)}
        return Instance(features, False, None, self._time_ms)

    def __iter__(self) -> Iterator[Instance]:
        for values in zip(*(column.tolist() for column in self.columns), strict=True):
            yield Instance(dict(zip(self.names, values, strict=True)), False, None, self._time_ms)


class _Feature(NamedTuple):
    name: str
    base: str
    low: float
    high: float


class RowPlan:
    """Takes the features out of columns of a request, as `FeaturePlan.extract_one` does out of each row of it.

    Raises
    ------
    NotPlain
        A feature is no plain number at the top of the record.
    """

    def __init__(self, plan: FeaturePlan) -> None:
        self._names = plan.names
        self._features = list(map(_feature, plan.resolved))
        if not self._features:
            raise NotPlain

    def rows(self, given: Mapping[str, Sequence[Any]], time_ms: int) -> Rows:
        """n instances of columns by name; NotPlain where one of the values is to be judged by itself."""
        return Rows(self._names, [_column(one, given.get(one.name)) for one in self._features], time_ms)


def _feature(resolved: Mapping[str, Any]) -> _Feature:
    if resolved["logical"] or "." in resolved["name"] or resolved["type"] not in (*_FLOATS, *_WHOLE):
        raise NotPlain
    bounds = resolved["bounds"] or {}
    low, high = bounds.get("min"), bounds.get("max")
    most = MAGNITUDE_MAX if resolved["type"] in _FLOATS else EXACT_MAX
    low = -most if low is None else max(low, -most)
    return _Feature(resolved["name"], resolved["type"], low, most if high is None else min(high, most))


def _column(feature: _Feature, values: Sequence[Any] | None) -> npt.NDArray[Any]:
    kind = float if feature.base in _FLOATS else int
    if values is None or type(values[0]) is not kind:  # the types of the request have seen to it that all are alike
        raise NotPlain
    try:
        found = np.array(values, np.float64 if kind is float else np.int64)
    except OverflowError:
        raise NotPlain from None
    if feature.base == "float":
        with np.errstate(over="ignore"):
            found = found.astype(np.float32).astype(np.float64)
    if not (feature.low <= found.min() and found.max() <= feature.high):
        raise NotPlain
    return found
