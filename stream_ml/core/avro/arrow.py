"""One field of a record schema as a column: what `fields` does with a value, done with k at once.

A column is Arrow's. A row that is marked as wrong may be anything: the reference path judges it, and words why.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stream_ml.core.avro.fields import MAGNITUDE_MAX, Field, divisor_of, time_scale, uuid_text

Mask = NDArray[np.bool_]
FeatureColumn = Callable[[pa.Array], tuple[pa.Array, Mask | None]]


def column_of(batch: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    """A field's column; null where the field or a record around it is."""
    array = batch.column(path[0])
    for part in path[1:]:
        array = pc.struct_field(array, part)
    return array


def nulls_of(array: pa.Array) -> Mask:
    """Which rows are null."""
    if not array.null_count:
        return np.zeros(len(array), np.bool_)
    found: Mask = array.is_null().to_numpy(zero_copy_only=False)
    return found


def feature_column(field: Field) -> FeatureColumn:
    """What `fields.converter` gives, for a column: numbers as double or whole numbers, times in seconds, text."""
    if field.kind == "text":
        return _uuids if field.logical == "uuid" else lambda array: (array, None)
    if field.kind == "boolean":
        return lambda array: (array, None)
    divisor = divisor_of(field)
    return _numbers if divisor is None else lambda array: _numbers(_scaled(array, divisor))


def _scaled(array: pa.Array, divisor: float) -> pa.Array:
    return pa.array(_numpy(array) / divisor, mask=nulls_of(array))


def _numbers(array: pa.Array) -> tuple[pa.Array, Mask | None]:
    if not pa.types.is_float64(array.type):  # River computes with as many bits as a column has, Python with 64
        array = array.cast(pa.float64() if pa.types.is_floating(array.type) else pa.int64())
    numbers = _numpy(array)
    most = int(MAGNITUDE_MAX) if numbers.dtype.kind == "i" else MAGNITUDE_MAX  # as a double, 10**18 + 64 equals 10**18
    right = (numbers >= -most) & (numbers <= most)
    return array, None if right.all() else ~right


def _numpy(array: pa.Array) -> NDArray[np.int64] | NDArray[np.float64]:
    """Numbers of a column, 0 where it is null."""
    if array.null_count:
        array = pc.fill_null(array, 0)
    found: NDArray[np.int64] | NDArray[np.float64] = array.to_numpy(zero_copy_only=False)
    return found


def outside_of(array: pa.Array, low: float | None, high: float | None) -> Mask:
    """Which numbers are below `low` or above `high`; a null is not."""
    found = np.zeros(len(array), np.bool_)
    numbers = _numpy(array)
    whole = numbers.dtype.kind == "i"  # compared with a double, 2**53 + 1 equals 2**53
    if low is not None:
        found |= numbers < (math.ceil(low) if whole else low)
    if high is not None:
        found |= numbers > (math.floor(high) if whole else high)
    return found & ~nulls_of(array)


def longer_than(array: pa.Array, most: int) -> Mask:
    """Which texts have more characters; a null has none."""
    found: Mask = _numpy(pc.utf8_length(array)) > most
    return found


def _uuids(array: pa.Array) -> tuple[pa.Array, Mask | None]:
    texts, wrong = uuid_texts(array)
    nulls = nulls_of(array)
    return pa.array(texts, pa.string(), mask=nulls), wrong & ~nulls


def uuid_texts(array: pa.Array) -> tuple[list[str], Mask]:
    """Canonical texts of uuids."""
    wrong, texts = np.zeros(len(array), np.bool_), []
    for row, text in enumerate(array.to_pylist()):
        try:
            texts.append(uuid_text(text))
        except (ValueError, TypeError, AttributeError):
            wrong[row] = True
            texts.append("")
    return texts, wrong


def id_column(field: Field, longest: int) -> Callable[[pa.Array], tuple[list[str], Mask]]:
    """What `fields.id_text_of` gives, for a column of ids; wrong where there is none, or one too long."""

    def texts_of(array: pa.Array) -> tuple[list[str], Mask]:
        if field.logical == "uuid":
            return uuid_texts(array)
        if field.base in ("int", "long"):
            return list(map(str, array.to_pylist())), nulls_of(array)
        sizes = _numpy(pc.utf8_length(array))
        return array.to_pylist(), (sizes == 0) | (sizes > longest)

    return texts_of


def time_column(field: Field, *, where: str) -> Callable[[pa.Array], tuple[NDArray[np.int64], Mask]]:
    """What `fields.time_ms_of` gives, for a column; wrong where it is null."""
    factor, divisor = time_scale(field, where=where)
    return lambda array: (_numpy(array).astype(np.int64) * factor // divisor, nulls_of(array))


# --- columns out of values, to be encoded ---


def same_values(value: object, count: int, type_: pa.DataType) -> pa.Array:
    """A column of one value."""
    return pa.repeat(pa.scalar(value, type_), count)


def doubles_column(values: Sequence[float | None] | None, count: int) -> pa.Array:
    """A column of doubles; all null where there are none."""
    return pa.nulls(count, pa.float64()) if values is None else pa.array(values, pa.float64())


def texts_column(texts: Sequence[str | None] | None, count: int) -> pa.Array:
    """A column of texts; all null where there are none."""
    return pa.nulls(count, pa.string()) if texts is None else pa.array(texts, pa.string())
