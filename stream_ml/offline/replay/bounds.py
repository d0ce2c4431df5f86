"""Bounds on the outcome of a replay, as whoever automates it types them: ``--fail-if 'trees.auc < 0.7'``."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from stream_ml.core.evaluation.blocks import Verdict
from stream_ml.errors import ConfigError

_METRIC = re.compile(r"\s*(\S+)\.([a-z0-9_]+)\s*(<=|>=|<|>)\s*(\S+)\s*")
_WORSE = re.compile(r"\s*(\S+)\s+worse\s+than\s+(\S+?)(?:\s+by\s+(\S+))?\s*")
_NOT_BETTER = re.compile(r"\s*(\S+)\s+not\s+better\s+than\s+(\S+)\s*")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FORMS = "SPEC.METRIC < NUMBER, SPEC worse than SPEC by NUMBER, or SPEC not better than SPEC"


class Bound(NamedTuple):
    """One bound; `first` and `second` name models, the second one of comparisons alone."""

    text: str
    first: str
    second: str
    metric: str
    compare: str
    number: float


def bound_of(text: str) -> Bound:
    """One out of what was typed; ConfigError where it is none."""
    found = _NOT_BETTER.fullmatch(text)
    if found is not None:
        return Bound(text, found[1], found[2], "", "not better", 0.0)
    found = _WORSE.fullmatch(text)
    if found is not None:
        return Bound(text, found[1], found[2], "", "worse", _number(text, found[3] or "0"))
    found = _METRIC.fullmatch(text)
    if found is not None:
        return Bound(text, found[1], "", found[2], found[3], _number(text, found[4]))
    raise ConfigError(f"--fail-if: {text!r} is no bound", f"write {FORMS}")


def _number(text: str, given: str) -> float:
    try:
        return float(given)
    except ValueError:
        raise ConfigError(f"--fail-if: in {text!r} {given} is no number", f"write {FORMS}") from None


def check_names(bounds: Sequence[Bound], names: Sequence[str], metrics: Sequence[str]) -> None:
    """See that each bound is about something; ConfigError where it names nothing: it would never fail."""
    for bound in bounds:
        for name in filter(None, (bound.first, bound.second)):
            if name not in names:
                raise ConfigError(
                    f"--fail-if: in {bound.text!r} there is no model {name}", f"there are {', '.join(names)}"
                )
        if bound.metric and bound.metric not in metrics:
            raise ConfigError(
                f"--fail-if: in {bound.text!r} there is no measure {bound.metric}", f"there are {', '.join(metrics)}"
            )


def failed(bound: Bound, measures: Mapping[str, Mapping[str, float]], verdict_of: Callable[[str, str], Verdict]) -> str:
    """Why a bound fails, in words; empty where it holds."""
    if bound.metric:
        value = measures[bound.first].get(bound.metric)
        if value is None:
            return f"{bound.text}: {bound.first}.{bound.metric} could not be computed"
        return f"{bound.text}: it is {value:.6g}" if _COMPARE[bound.compare](value, bound.number) else ""
    verdict = verdict_of(bound.first, bound.second)
    interval = f"[{verdict.low:+.5f}, {verdict.high:+.5f}]"
    if bound.compare == "worse":
        return f"{bound.text}: it is worse by {interval}" if verdict.low > bound.number else ""
    return "" if verdict.decision == "better" else f"{bound.text}: {verdict.decision}, {interval}"
