"""What one core will hold: the cost of each step for one event, measured with made-up events of the real schema."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from fastavro.utils import generate_many

from stream_ml.assembly import Parts
from stream_ml.core.binary import encode_record
from stream_ml.core.contract import synthetic
from stream_ml.core.learner import Learner
from stream_ml.core.outputs import served_of
from stream_ml.records import Clock, Event, Record, Version

ROUNDS = 5
EVENTS = 60
JOIN_US = 30.0  # remembering an event and joining its label (benchmarks/core.py); the rest is measured here


class Speed(NamedTuple):
    """Microseconds for one event; learning counts its decoding and its log entry."""

    decode: float
    score: float
    publish: float
    learn: float

    @property
    def scored_per_s(self) -> int:
        """Events a second that one core scores, Kafka's part not counted."""
        return int(1e6 / (self.decode + self.score + self.publish + JOIN_US))

    @property
    def learned_per_s(self) -> int:
        """Events a second, each with its label learned."""
        return int(1e6 / (2 * self.decode + self.score + 2 * self.publish + self.learn + 2 * JOIN_US))


def speed(parts: Parts) -> Speed:
    """Measure decoding, scoring, publishing and learning; medians of ROUNDS."""
    schema = parts.reader.payloads.reader
    payloads: list[Any] = list(generate_many(schema.parsed, EVENTS))
    values = [encode_record(schema.parsed, payload) for payload in payloads]
    examples = list(synthetic(parts.plan.kinds, parts.domain))
    learner = Learner(parts.build(), parts.domain)
    for features, target in examples:
        learner.learn(dict(features), target)
    version, clock = Version("0" * 16, 1), Clock(0, 0)
    scored = [learner.score(features) for features, _ in examples]
    record = Record("t", 0, 0, 0, b"key", values[0])
    carried = parts.reader.carried(payloads[0])
    events = [Event(record, "0123456789", 0, features, False, carried, 0) for features, _ in examples]

    def publish() -> None:
        for event, said in zip(events, scored, strict=True):
            parts.predictions.encode(event, said, served_of(said, version, ()), 1, clock)

    def learn() -> None:
        for features, target in examples:
            learner.learn(features, target)

    return Speed(
        _us(lambda: [parts.reader.payloads.read(schema, value, 0) for value in values], len(values)),
        _us(lambda: [learner.score(features) for features, _ in examples], len(examples)),
        _us(publish, len(events)),
        _us(learn, len(examples)),
    )


def _us(work: Callable[[], object], count: int) -> float:
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return statistics.median(took) / count * 1e6
