"""How often drift is reported where there is none, and how late where there is some.

Run it as ``python benchmarks/drift.py [LABELS]``. Concept drift: River's generators and models, each prediction made
before its label is learned, as the service does; a stream without a change for the false alarms, then planted changes:
sudden, gradual over 2,000 labels, and back again. Input drift: normal numbers and texts, then shifted ones.
"""

import random
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from river import linear_model, preprocessing
from river.datasets import synth

from stream_ml.core.drift.concept import ConceptMonitor
from stream_ml.core.drift.detectors import DETECTORS, detector_of
from stream_ml.core.drift.inputs import InputDrift
from stream_ml.core.evaluation.window import Row

SEEDS = 5
BEFORE = 10_000  # labels before a planted change
AFTER = 10_000
STREAMS: dict[str, Callable[[int, int], Any]] = {  # seed, concept
    "SEA, 10 % noise": lambda seed, concept: synth.SEA(variant=(0, 3)[concept], noise=0.1, seed=seed),
    "hyperplane": lambda seed, concept: synth.Hyperplane(seed=seed + 100 * concept, n_features=6),
    "sine": lambda seed, concept: synth.Sine(classification_function=concept, seed=seed),
}


def model() -> Any:
    """A cheap model that can learn the streams."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def numbers(stream: Iterator[tuple[dict[str, Any], Any]]) -> Iterator[tuple[dict[str, float], bool]]:
    for x, y in stream:
        yield {name: float(value) for name, value in x.items()}, bool(y)


def alarms(monitor: ConceptMonitor, stream: Any) -> list[int]:
    """Numbers of the labels at which a rise of the loss was reported."""
    learner, seen = model(), [1, 2]
    for number, (x, y) in enumerate(numbers(stream)):
        p = learner.predict_proba_one(x).get(True, 0.5)
        base = seen[0] / seen[1]
        monitor.update(Row(0, 0, float(y), float(p >= 0.5), p, float(base >= 0.5), base), "benchmark", number)
        learner.learn_one(x, y)
        seen = [seen[0] + y, seen[1] + 1]
    return [signal.position for signal in monitor.signals if signal.kind == "drift"]


def made(detector: str) -> ConceptMonitor:
    binary = ".binary:" in DETECTORS[detector]
    return ConceptMonitor("binary", 1_000, partial(detector_of, detector, {}), watch="loss", binary=binary)


def gradual(one: Any, other: Any, width: int, seed: int) -> Iterator[Any]:
    """One, then the other, the share rising over `width` labels."""
    source, first, second = random.Random(seed), iter(one), iter(other)
    for number in range(width):
        yield next(second if source.random() < number / width else first)
    yield from second


def planted(kind: str, name: str, seed: int) -> Iterator[Any]:
    one, other = STREAMS[name](seed, 0), STREAMS[name](seed, 1)
    if kind == "sudden":
        after: Iterator[Any] = islice(other, AFTER)
    elif kind == "gradual":
        after = islice(gradual(one, other, 2_000, seed), AFTER)
    else:
        after = chain(islice(other, AFTER), islice(one, AFTER))
    return chain(islice(one, BEFORE), after)


def concept(labels: int) -> None:
    say(f"{'detector':14}{'stream':18}{'false alarms':>14}   labels from the change to the signal, median (found)")
    for detector in DETECTORS:
        count = labels if detector != "kswin" else labels // 10  # which takes 0.3 ms a label
        for name, stream in STREAMS.items():
            quiet = (islice(stream(seed, 0), count // SEEDS) for seed in range(SEEDS))
            wrong = sum(len(alarms(made(detector), one)) for one in quiet)
            told = ", ".join(delay(detector, name, kind) for kind in ("sudden", "gradual", "recurring"))
            say(f"{detector:14}{name:18}{wrong:>6} of {count // 1000:>3}k   {told}")


def delay(detector: str, name: str, kind: str) -> str:
    """Median over the seeds of the labels from the change to the first signal after it."""
    runs = (alarms(made(detector), planted(kind, name, seed)) for seed in range(SEEDS))
    late = [next((at - BEFORE for at in run if at >= BEFORE), None) for run in runs]
    found = [one for one in late if one is not None]
    return f"{kind} {statistics.median(found):,.0f} ({len(found)}/{SEEDS})" if found else f"{kind} - (0/{SEEDS})"


def inputs(events: int) -> None:
    source = random.Random(1)

    def some(count: int, mean: float, kinds: str) -> list[dict[str, Any]]:
        return [{"amount": source.gauss(mean, 1), "kind": source.choice(kinds)} for _ in range(count)]

    def told(found: InputDrift, batch: list[dict[str, Any]]) -> bool:
        return any(watched.drifted for _, watched, _ in found.take(None, batch, [source.random() for _ in batch], 0))

    wrong = 0
    for _ in range(SEEDS):
        quiet = InputDrift(("amount", "kind"), reference=5_000, window=1_000, threshold=0.2)
        wrong += sum(told(quiet, some(100, 0, "aabc")) for _ in range(events // SEEDS // 100))
    say(f"\ninputs: {wrong} false alarms in {events:,} events of two features and a score")
    for what, mean, kinds in (
        ("mean + 0.5 sd", 0.5, "aabc"),
        ("mean + 1 sd", 1.0, "aabc"),
        ("a new value", 0.0, "abcd"),
    ):
        late = []
        for _ in range(SEEDS):
            found = InputDrift(("amount", "kind"), reference=5_000, window=1_000, threshold=0.2)
            for _ in range(100):
                told(found, some(100, 0, "aabc"))
            late.append(next((100 * n for n in range(1, 101) if told(found, some(100, mean, kinds))), None))
        found_ = [one for one in late if one is not None]
        say(
            f"{what:16} told after {statistics.median(found_):,.0f} events ({len(found_)}/{SEEDS})"
            if found_
            else f"{what}: -"
        )


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asked = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    concept(asked)
    inputs(asked)
