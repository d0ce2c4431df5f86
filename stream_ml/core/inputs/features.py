"""From a decoded event to what the model sees: d typed, finite values in schema order."""

from collections.abc import Callable
from functools import partial
from sys import intern
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_ml.core.avro.arrow import FeatureColumn, Mask, column_of, feature_column, longer_than, nulls_of, outside_of
from stream_ml.core.avro.fields import Field, InvalidValue, converter, find_field, finite, getter, scalar_fields
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.avro.schema import Schema
from stream_ml.core.inputs.settings import Bounds, FeatureSettings
from stream_ml.errors import ConfigError, Problems


class _Step(NamedTuple):
    name: str
    get: Callable[[Any], Any]
    convert: Callable[[Any], Any]
    missing: Any  # "reject", "drop", or the value to impute as `impute`
    column: FeatureColumn
    bounds: Bounds | None


class Table(NamedTuple):
    """Features of k events as columns in schema order.

    `imputed` marks rows in which one was filled in, `wrong` those that only `FeaturePlan.extract_one` can judge.
    """

    columns: pa.Table
    imputed: Mask
    wrong: Mask


class FeaturePlan:
    """Takes features out of events of one reader schema.

    Parameters
    ----------
    schema
        The reader schema; its order is the order of the features.
    settings
        Which fields, and what happens where one is null.
    left_out
        Dotted names that are never features by default: id and time.
    """

    def __init__(self, schema: Schema, settings: FeatureSettings, left_out: set[str]) -> None:
        chosen = _chosen(schema, settings, left_out)
        self._paths = [field.path for field in chosen]
        self._steps = [
            _Step(
                name=field.name,
                get=getter(field),
                convert=converter(field),
                missing=_missing(field, settings),
                column=feature_column(field),
                bounds=_bounds(field, settings),
            )
            for field in chosen
        ]
        self.measured = [field.name for field in chosen if field.kind == "number" and not _is_time(field)]
        self.bounded = {s.name for s in self._steps if s.bounds is not None}
        self.distinct = {s.name: s.bounds.distinct for s in self._steps if s.bounds is not None and s.bounds.distinct}
        self.sigmas = {s.name: s.bounds.sigma for s in self._steps if s.bounds is not None and s.bounds.sigma}
        self.names = [intern(step.name) for step in self._steps]  # the model's own dicts find them by identity
        self.kinds = {field.name: field.kind for field in chosen}
        self.open_texts = [field.name for field in chosen if field.base == "string" and field.logical != "uuid"]
        self.refused_when_null = [
            field.name
            for field, step in zip(chosen, self._steps, strict=True)
            if field.nullable and step.missing == "reject"
        ]
        self.resolved = [
            {
                "name": f.name,
                "kind": f.kind,
                "type": f.base,
                "logical": f.logical,
                "missing": _plain(s.missing),
                "bounds": None if s.bounds is None else s.bounds._asdict(),
            }
            for f, s in zip(chosen, self._steps, strict=True)
        ]

    def may_be_null(self, path: tuple[str, ...]) -> bool:
        """Whether an event in which this field, or record, is null can be used: nothing in it is refused then."""
        inside = [s for p, s in zip(self._paths, self._steps, strict=True) if p[: len(path)] == path]
        return all(step.missing != "reject" for step in inside)

    def extract_one(self, payload: Any) -> tuple[dict[str, Any], bool] | Rejected:
        """Features by name in schema order and whether one was imputed; or why there are none."""
        features: dict[str, Any] = {}
        imputed = False
        for name, get, convert, missing, _, bounds in self._steps:
            value = get(payload)
            if value is not None:
                try:
                    features[name] = usable = convert(value)
                except InvalidValue as error:
                    return Rejected("not_finite", f"feature {name}: {error}")
                except (ValueError, TypeError, OverflowError) as error:
                    return Rejected("schema_mismatch", f"feature {name}: {error}")
                if bounds is not None and not bounds.admits(usable):
                    return Rejected("out_of_bounds", f"feature {name} {_bounds_words(usable, bounds)}")
            elif missing == "reject":
                return Rejected(
                    "missing_feature",
                    f"feature {name} is null; features.missing may say drop or {{impute: value}}",
                )
            elif missing != "drop":
                features[name] = missing.impute
                imputed = True
        return features, imputed

    def extract_many(self, batch: pa.RecordBatch) -> Table:
        """Features of decoded events as columns, but for rows that are marked as wrong.

        Fast path of `extract_one`, equal to it row by row: tests/equivalence/test_columnar_is_reference.py.
        """
        imputed, wrong = np.zeros(batch.num_rows, np.bool_), np.zeros(batch.num_rows, np.bool_)
        columns = []
        for path, step in zip(self._paths, self._steps, strict=True):
            array, outside = step.column(column_of(batch, path))
            if outside is not None:
                wrong |= outside
            if step.bounds is not None and step.bounds.of_number:
                wrong |= outside_of(array, step.bounds.min, step.bounds.max)
            elif step.bounds is not None and step.bounds.length is not None:
                wrong |= longer_than(array, step.bounds.length)
            if array.null_count:  # what is filled in is a value as the model gets it
                nulls = nulls_of(array)
                array = _filled(array, step.missing)
                if array.null_count:
                    wrong |= nulls
                else:
                    imputed |= nulls
            columns.append(array)
        return Table(pa.table(columns, self.names), imputed & ~wrong, wrong)


def _filled(array: pa.Array, missing: Any) -> pa.Array:
    """Nulls replaced where that gives what `extract_one` would: a value of the column's own type."""
    if _is_imputed(missing):
        value = pa.scalar(missing.impute)
        if value.type == array.type or (pa.types.is_floating(array.type) and pa.types.is_floating(value.type)):
            return pc.fill_null(array.cast(value.type), value)
        if pa.types.is_integer(array.type) and pa.types.is_integer(value.type):
            return pc.fill_null(array.cast(pa.int64()), value)
    return array


def _is_time(field: Field) -> bool:
    """Whether its values go on and on: no limit holds for them."""
    return "timestamp" in field.logical or field.logical == "date"


def _bounds(field: Field, settings: FeatureSettings) -> Bounds | None:
    """Those of a feature; those of `default` reach numbers that are no times."""
    bounds = {name: Bounds.of(given) for name, given in settings.bounds.items() if name in (field.name, "default")}
    own, text = bounds.get(field.name), field.base == "string" and field.logical != "uuid"
    if own is not None and field.kind != "number" and not text:
        raise ConfigError(f"features.bounds: {field.name} is {field.base}, which has no bounds: numbers and texts have")
    if own is not None and (own.of_number if text else own.of_text):
        has = "length and distinct" if text else "min, max and sigma"
        raise ConfigError(f"features.bounds: {field.name} is {field.base}, which has {has}")
    if own is not None and own.sigma is not None and _is_time(field):
        raise ConfigError(
            f"features.bounds: {field.name} is a time, which has no usual values", "say min and max, without sigma"
        )
    default = bounds.get("default")
    if own is not None or default is None or _is_time(field):
        return own
    if text:
        return Bounds(length=default.length, distinct=default.distinct) if default.of_text else None
    if field.kind != "number" or not default.of_number:
        return None
    return Bounds(min=default.min, max=default.max, sigma=default.sigma)


def _bounds_words(value: Any, bounds: Bounds) -> str:
    if isinstance(value, str):
        return f"has {len(value):,} characters, more than features.bounds allows ({bounds.length:,})"
    words = [f"below {bounds.min!r}"] if bounds.min is not None else []
    words += [f"above {bounds.max!r}"] if bounds.max is not None else []
    return f"is {value!r}, outside of features.bounds ({' or '.join(words)})"


def _is_imputed(missing: Any) -> bool:
    """Whether a missing value is filled in."""
    return missing not in ("reject", "drop")


def _plain(missing: Any) -> Any:
    return {"impute": missing.impute} if _is_imputed(missing) else missing


def _chosen(schema: Schema, settings: FeatureSettings, left_out: set[str]) -> list[Field]:
    problems = Problems()
    for name in [*(settings.include or []), *settings.exclude]:
        field = problems.of(partial(find_field, schema, name, where="features"))
        if field is not None and name in (settings.include or []) and not field.kind:
            what = f"a {field.base}" if field.base != "array" else "an array"
            problems.add(
                f"features.include: {name} is {what}, which no model can take",
                "a feature is a number, a boolean, a string, an enum, a time, a decimal or a uuid",
            )
    scalars = scalar_fields(schema)
    wanted = set(settings.include) if settings.include is not None else {f.name for f in scalars} - left_out
    chosen = [field for field in scalars if field.name in wanted and field.name not in settings.exclude]
    names = [field.name for field in chosen]
    if not chosen and not problems.found:
        problems.add("features: none is left", "name some fields in features.include")
    for key in ("missing", "bounds"):
        for name in getattr(settings, key):
            if name != "default" and name not in names and not problems.found:
                problems.add(f"features.{key}: {name} is not a feature", f"the features are: {', '.join(names)}")
    if problems.found:
        raise problems.error()
    return chosen


def _missing(field: Field, settings: FeatureSettings) -> Any:
    missing = settings.missing.get(field.name, settings.missing.get("default", "reject"))
    if _is_imputed(missing):
        value = missing.impute
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = {"number": is_number, "boolean": isinstance(value, bool), "text": isinstance(value, str)}[field.kind]
        if not fits or (field.kind == "number" and _not_finite(value)):
            if field.name not in settings.missing:
                return "reject"  # a default of another type does not reach this field
            raise ConfigError(f"features.missing.{field.name}: {value!r} is not a usable {field.kind}")
    return missing


def _not_finite(value: Any) -> bool:
    try:
        finite(value)
    except InvalidValue:
        return True
    return False
