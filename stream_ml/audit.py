"""What really stands in the topics, read read_committed from the first offset; no counter of the service is asked."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from stream_ml.assembly import Parts
from stream_ml.core.log_entry import decode_pair
from stream_ml.core.outputs import dead_letter_origin, decode_outcome
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading import ends, read_range
from stream_ml.records import Record

Origin = tuple[str, int, int]


class Audit(NamedTuple):
    """Counts of records, and inputs without or with more than one output.

    All are coordinates (topic, partition, offset). `duplicated` holds outputs of inputs that do not exist, too. A
    label without an end may still wait for its event: `waiting`.
    """

    events: int
    feedback: int
    predictions: int
    examples: int
    outcomes: Counter[str]
    dead_letters: Counter[str]
    lost: list[Origin]
    duplicated: list[Origin]
    waiting: list[Origin]
    broken_sequences: list[str]


def audit(parts: Parts, partitions: int) -> Audit:
    """Read everything and compare: each event has one prediction or dead letter, each label at most one end."""
    config = parts.config
    seen: Counter[Origin] = Counter()
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    predictions = examples = 0
    inputs: dict[str, list[Origin]] = {config.events.topic: [], config.feedback.topic: []}
    broken: list[str] = []
    for topic, found in inputs.items():
        for number in range(partitions):
            found += [(topic, number, record.offset) for record in _all(parts, topic, number)]
    for number in range(partitions):
        for record in _all(parts, config.predictions.topic, number):
            seen[config.events.topic, number, parts.predictions.decode(record.value or b"").offset] += 1
            predictions += 1
        for record in _all(parts, config.outcomes, number):
            outcome = decode_outcome(record.value or b"")
            seen[config.feedback.topic, number, outcome["feedback_offset"]] += 1
            outcomes[outcome["outcome"]] += 1
        for record in _all(parts, config.dead_letters, number):
            origin = dead_letter_origin(record)
            if origin is not None:
                seen[origin] += 1
                reasons[dict(record.headers)["__connect.errors.exception.class.name"].decode()] += 1
    expected = dict.fromkeys(range(partitions), 0)
    for record in _all(parts, config.training_log, 0):
        pair = decode_pair(record.value or b"")
        if pair is not None:
            examples += 1
            number = pair.source_partition
            seen[config.feedback.topic, number, pair.feedback_offset] += 1
            if pair.sequence != expected.get(number):
                broken.append(
                    f"log {record.offset}: partition {number} has {pair.sequence}, next is {expected.get(number)}"
                )
            expected[number] = pair.sequence + 1
    everything = {*inputs[config.events.topic], *inputs[config.feedback.topic]}
    return Audit(
        len(inputs[config.events.topic]),
        len(inputs[config.feedback.topic]),
        predictions,
        examples,
        outcomes,
        reasons,
        [origin for origin in inputs[config.events.topic] if not seen[origin]],
        [origin for origin, count in seen.items() if count > 1] + sorted(set(seen) - everything),
        [origin for origin in inputs[config.feedback.topic] if not seen[origin]],
        broken,
    )


def _all(parts: Parts, topic: str, number: int) -> Iterator[Record]:
    first, end = ends(admin(parts.config), [(topic, number)])[topic, number]
    for batch in read_range(parts.config, topic, number, first, end, keep_alive=lambda: None):
        yield from batch
