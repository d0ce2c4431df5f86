"""Whether a model grows with what it learns: it learns until that can be told, from samples or made-up events.

Samples are drawn again and again. So that this is no mere repetition, numbers move a little each time, and a text of
which there may be any number is a new one wherever almost each sample has its own. Labels follow from the numbers: a
tree that is given noise does not grow.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.checks import walked
from stream_ml.core.model.estimator import Learner
from stream_ml.records import Target

FIRST, LEARNED_MAX = 250, 8_000  # examples; from one measurement to the next they double
SECONDS = 3.0  # of the processor: a slow model learns fewer
STEADY = 0.7  # an example adds so much of what it added before: no end is in sight
BYTES_LEAST = 8.0  # that an example adds; numbers that get more digits add less
SLOWER = 3.0  # times
MEASURED_LEAST = 3  # sizes, which make two differences
DAY_S = 86_400
OWN_TEXT = 0.9  # of the samples have a text that no other has
LIMITS = ("max_size", "memory_estimate_period", "max_depth", "max_nodes", "drop_zeros", "window_size", "n_reservoirs")
"""River's own, as constructors name them."""


class Size(NamedTuple):
    """After so many examples: bytes of the pickled model, and microseconds to learn one of the last."""

    examples: int
    bytes: int
    learn_us: float


class Growth(NamedTuple):
    """Measurements of one model, from few examples to many, and the limits that its parts have."""

    sizes: list[Size]
    limits: list[str]
    seconds: float = SECONDS  # of the processor, in all

    @property
    def bytes_each(self) -> float:
        """What an example adds for ever, as far as can be told; 0.0 where the model comes to an end of growing."""
        if len(self.sizes) < MEASURED_LEAST:
            return 0.0
        before, last = (
            (b.bytes - a.bytes) / (b.examples - a.examples)
            for a, b in zip(self.sizes[-3:], self.sizes[-2:], strict=False)
        )
        return last if last >= BYTES_LEAST and last >= STEADY * before else 0.0

    @property
    def slower(self) -> float:
        """How many times as long as at first an example takes in the end."""
        first = min(size.learn_us for size in self.sizes)
        return self.sizes[-1].learn_us / first if first else 1.0


def growth_lines(found: Growth, most: int, labels: float | None, of: str, but: str = "") -> list[str]:
    """What `check` says of it.

    Parameters
    ----------
    most
        Bytes that the model may have.
    labels
        A second, where it is known.
    of
        What it has learned: the samples, or made-up events.
    but
        What that did not show.
    """
    last, hint = found.sizes[-1], _hint(found.limits)
    after = f"after {last.examples:,} examples of {of}"
    if len(found.sizes) < MEASURED_LEAST:
        learned = f"it learned {last.examples:,} examples in {found.seconds:.0f} s"
        return [f"note  whether the model grows cannot be told: {learned}"]
    lines = []
    if found.bytes_each:
        left = max(0.0, most - last.bytes) / found.bytes_each
        days = f", {left / labels / DAY_S:,.1f} days at {labels:,.0f} labels/s" if labels else ""
        lines.append(
            f"note  the model grows with what it learns: {last.bytes / 1e6:,.1f} MB {after}, {found.bytes_each:,.0f} "
            f"bytes more with each; model.memory_max, {most / 1e9:,.1f} GB, holds about {left / 1e6:,.1f} million"
            f"{days} -> {hint}"
        )
    if found.slower >= SLOWER:
        first_us = min(size.learn_us for size in found.sizes)
        lines.append(
            f"note  learning gets slower with what is learned: {first_us:,.0f} us an example at first, "
            f"{last.learn_us:,.0f} {after} -> {hint}"
        )
    return lines or [f"ok    the model comes to an end of growing: {last.bytes / 1e6:,.2f} MB {after}{but}"]


def _hint(limits: list[str]) -> str:
    if not limits:
        return "nothing in this model bounds that; features.bounds bounds texts (distinct), or take another model"
    return f"what River bounds it by: {', '.join(limits)}"


def growth(
    build: Callable[[], Any],
    domain: LabelDomain,
    events: list[dict[str, Any]],
    size_of: Callable[[Any], int],
    new_texts: dict[str, int | None],
) -> Growth:
    """Let a new model learn until LEARNED_MAX examples or SECONDS are over.

    Parameters
    ----------
    events
        Features of samples or made-up events.
    size_of
        Bytes of the model as a checkpoint holds it.
    new_texts
        Texts of which there may be any number, and how many different ones configured bounds let pass (None: all).
    """
    learner = Learner(build(), domain)
    examples = _examples(events, domain, new_texts)
    sizes: list[Size] = []
    began_s, learned, until = time.process_time(), 0, FIRST
    next_s = 0.0  # what the examples to the next size will take at least
    while until <= LEARNED_MAX and time.process_time() - began_s + next_s < SECONDS:
        batch = [next(examples) for _ in range(until - learned)]
        started_s = time.process_time()
        for features, target in batch:
            learner.learn(features, target)
        took_s, learned = time.process_time() - started_s, until
        sizes.append(Size(learned, size_of(learner.estimator), 1e6 * took_s / len(batch)))
        next_s, until = learned * took_s / len(batch), 2 * until
    return Growth(sizes, limits_of(learner.estimator), time.process_time() - began_s)


def limits_of(estimator: Any) -> list[str]:
    """What the parts of a model have that bounds them, each with its value: ``AMFClassifier.max_nodes=None``."""
    parts = dict(walked(estimator))
    found: dict[str, None] = {}
    for path, part in parts.items():
        owner, _, name = path.rpartition(".")
        if name in LIMITS:
            found[f"{type(parts[owner]).__name__}.{name}={part!r}"] = None
    return list(found)


def _examples(
    events: list[dict[str, Any]], domain: LabelDomain, new_texts: dict[str, int | None]
) -> Iterator[tuple[dict[str, Any], Target]]:
    """Without end; the same ones each time."""
    chance, number = random.Random(1), 0
    spread, reach = _spread(events), _reach(events)
    weights = {name: chance.gauss(0, 1) / width for name, width in _spread(events, whole=True).items()}
    new = {name: most for name, most in new_texts.items() if _is_own(events, name)}
    middle = statistics.median(_truth(event, weights) for event in events)
    while True:
        features = dict(chance.choice(events))
        for name, value in features.items():
            if name in new:
                features[name] = f"{name}-{number % (new[name] or LEARNED_MAX)}"
            elif name in spread:
                low, high = reach[name]
                features[name] = min(high, max(low, value + chance.gauss(0, 0.3 * spread[name])))
        yield features, _target(domain, _truth(features, weights) - middle + chance.gauss(0, 0.3))
        number += 1


def _spread(events: list[dict[str, Any]], *, whole: bool = False) -> dict[str, float]:
    """Standard deviation of each feature that is a fraction: one that is not is another kind if it moves a little."""
    return {name: statistics.pstdev(values) or 1.0 for name, values in _columns(events, whole=whole).items()}


def _reach(events: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Least and largest value: a model may fail beyond them, the logarithm of a price below 0 for example."""
    return {name: (min(values), max(values)) for name, values in _columns(events, whole=False).items()}


def _columns(events: list[dict[str, Any]], *, whole: bool) -> dict[str, list[float]]:
    """Fractions by feature; `whole`: whole numbers too."""
    columns: dict[str, list[float]] = {}
    for event in events:
        for name, value in event.items():
            if isinstance(value, float) or (whole and isinstance(value, int) and not isinstance(value, bool)):
                columns.setdefault(name, []).append(value)
    return columns


def _is_own(events: list[dict[str, Any]], name: str) -> bool:
    """Whether almost each event has a text of its own there, as an id has."""
    texts = [event[name] for event in events if isinstance(event.get(name), str)]
    return bool(texts) and len(set(texts)) >= OWN_TEXT * len(texts)


def _truth(features: dict[str, Any], weights: dict[str, float]) -> float:
    return sum((weight * float(features.get(name, 0.0)) for name, weight in weights.items()), 0.0)


def _target(domain: LabelDomain, truth: float) -> Target:
    if domain.task == "regression":
        return Target(None, max(0.0, min(9.9, truth + 5)))  # as large as those that a model is tried with
    place = int(max(0.0, min(0.999, (truth + 2) / 4)) * len(domain.classes))
    return Target(domain.classes[place], None)
