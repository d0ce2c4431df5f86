"""What one core will hold in a backlog: the cost of each step for one event, with made-up events of the real schema."""

import statistics
import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any, NamedTuple

import pyarrow as pa

from stream_ml.app.parts import Parts
from stream_ml.app.trial import tried_events
from stream_ml.core.avro.framing import Payloads
from stream_ml.core.inputs import made_up
from stream_ml.core.inputs.events import Events, Features, Taken
from stream_ml.core.model.checks import labelled
from stream_ml.core.model.estimator import Learner
from stream_ml.core.model.scoring import Scorer
from stream_ml.core.partition.predictions import Said
from stream_ml.records import Clock, Record, Records, Version

ROUNDS = 5
EVENTS = 1_000  # a batch, as there is one under load
HOLD_US = 3.0  # remembering an event (benchmarks/core.py); the rest is measured here
JOIN_US, READ_US = 26.0, 4.0  # joining its label and writing the example; reading it again


class Speed(NamedTuple):
    """Microseconds for one event of a batch; learning counts its decoding and its log entry."""

    decode: float
    score: float
    publish: float
    learn: float

    @property
    def scored_per_s(self) -> int:
        """Events a second that one core scores, Kafka's part not counted."""
        return int(1e6 / (self.decode + self.score + self.publish + HOLD_US))

    @property
    def learned_per_s(self) -> int:
        """Events a second, each with its label learned."""
        return int(1e6 / (2 * self.decode + self.score + self.publish + self.learn + HOLD_US + JOIN_US + READ_US))


def speed(parts: Parts) -> Speed:
    """Measure decoding, scoring, publishing and learning; medians of ROUNDS."""
    bare = Payloads("bare", parts.reader.payloads.reader, {})
    payloads: list[Any] = list(made_up.payloads(bare.reader, parts.plan, EVENTS))
    values: list[bytes | None] = [bare.encode(payload) for payload in payloads]
    examples = list(labelled(tried_events(parts), parts.domain))
    learner = Learner(parts.build(), parts.domain)
    for features, target in examples:
        learner.learn(dict(features), target)
    asked = Features(pa.Table.from_pylist([f for f, _ in islice(cycle(examples), EVENTS)]), range(EVENTS), {})
    scorer = Scorer(learner)
    scores = scorer.score_many(asked, EVENTS)
    records = Records.of("t", 0, [Record("t", 0, n, 0, b"key", value) for n, value in enumerate(values)])
    carried = [parts.reader.carried(payload) or {} for payload in payloads] if parts.config.predictions.carry else None
    assert asked.table is not None  # noqa: S101 - made above
    taken = Taken(range(EVENTS), [f"event-{n}" for n in range(EVENTS)], [0] * EVENTS, 0, asked.table, set(), carried)
    events, said = Events(records, [taken], {}), Said(Version("0" * 16, 1), 1, Clock(0, 0))

    def decode() -> None:
        lanes = bare.decode_many(values)
        for lane in lanes:
            parts.plan.extract_many(lane.batch)
        left = set(range(EVENTS)).difference(*(lane.rows for lane in lanes))
        for row in left:
            bare.decode_one(values[row])

    def learn() -> None:
        for features, target in examples:
            learner.learn(features, target)

    return Speed(
        _us(decode, EVENTS),
        _us(lambda: scorer.score_many(asked, EVENTS), EVENTS),
        _us(lambda: parts.predictions.encode_many(events, range(EVENTS), scores, [()] * EVENTS, said), EVENTS),
        _us(learn, len(examples)),
    )


def _us(work: Callable[[], object], count: int) -> float:
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return statistics.median(took) / count * 1e6
