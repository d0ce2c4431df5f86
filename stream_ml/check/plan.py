"""Whether planned workers will hold a planned load, and how fast the training log grows: from figures of this machine.

Of N workers each scores and joins an Nth of the events, and each learns every label. So with E events and L labels a
second a worker is busy for E/N x (decode + score + publish) + L/N x join + L x (read + decode + learn).
"""

from itertools import cycle
from typing import NamedTuple

import pyarrow as pa

from stream_ml.app.parts import Parts
from stream_ml.check.speed import HOLD_US, JOIN_US, READ_US, Speed
from stream_ml.core.avro.framing import Payloads
from stream_ml.core.inputs import made_up
from stream_ml.core.log.entry import Example, encode_example
from stream_ml.core.model.checks import labelled
from stream_ml.kafka.clients import COMPRESSION
from stream_ml.records import BY_LABEL, NOT_SERVED

ENTRIES = 50  # of a transaction, packed together as the producer packs them
DAY_S, YEAR_DAYS = 86_400, 365
BUSY_MAX = 0.7  # of a core: what comes in bursts needs the rest
BASE, NOW_MS = 1_000_000_000, 1_700_000_000_000  # numbers as long as those of a year's log
UNITS = ("kB", "MB", "GB", "TB")
EXAMPLE_LABELS = 100.0  # a second, where none are stated


class Plan(NamedTuple):
    """What is to be held: workers, and how many events and labels come in a second."""

    workers: int
    events: float
    labels: float


class Busy(NamedTuple):
    """Shares of one core that each worker takes: for its part of the events, and for all labels."""

    scoring: float
    learning: float


def busy(speed: Speed, plan: Plan) -> Busy:
    """The formula of the module's text."""
    score_us = speed.decode + speed.score + speed.publish + HOLD_US
    learn_us = READ_US + speed.decode + speed.learn
    own_us = plan.events / plan.workers * score_us + plan.labels / plan.workers * JOIN_US
    return Busy(own_us / 1e6, plan.labels * learn_us / 1e6)


def load_lines(speed: Speed, plan: Plan) -> list[str]:
    """What `check` says of a planned load."""
    scoring, learning = busy(speed, plan)
    who = "one worker" if plan.workers == 1 else f"{plan.workers} workers"
    load = f"{plan.events:,.0f} events/s and {plan.labels:,.0f} labels/s on {who}"
    shares = f"each takes {scoring:.0%} of a core for its part of the events and {learning:.0%} to learn all labels"
    if scoring + learning <= BUSY_MAX:
        return [f"ok    {load}: {shares}"]
    most = int(BUSY_MAX * 1e6 / (READ_US + speed.decode + speed.learn))
    if learning >= BUSY_MAX:
        why = f"each worker learns every label, so more workers do not help; this model learns about {most:,}/s"
    else:
        needed = plan.workers
        while sum(busy(speed, plan._replace(workers=needed))) > BUSY_MAX:
            needed += 1
        why = f"with {needed} workers it is {BUSY_MAX:.0%} at most"
    return [f"note  {load}: {shares}. That is too much: {why} (a core is planned for {BUSY_MAX:.0%})"]


class EntryBytes(NamedTuple):
    """Of one example in the training log: by itself, and packed with others."""

    plain: float
    packed: float


def entry_bytes(parts: Parts) -> EntryBytes:
    """Measured with made-up events; real ones repeat themselves less or more."""
    bare = Payloads("bare", parts.reader.payloads.reader, {})
    targets = cycle([target for _, target in labelled([{}], parts.domain)])
    served = NOT_SERVED._replace(score=0.123456789, lineage="0" * 16)
    values = []
    for number, payload in enumerate(made_up.payloads(bare.reader, parts.plan, ENTRIES)):
        example = Example(
            source_partition=0,
            sequence=BASE + number,
            trigger=BY_LABEL,
            trigger_offset=BASE + number,
            event_id=f"{number * 7919:036d}",
            event_time_ms=NOW_MS + 1_000 * number,
            event_offset=BASE + number,
            event_schema=0,
            event_framing="bare",
            event=bare.encode(payload),
            label_time_ms=NOW_MS + 2_000 * number,
            target=next(targets),
            feedback_offset=BASE + number,
            served=served,
        )
        values.append(encode_example(example, written_at_ms=NOW_MS + number, writer=parts.config.transactional_id))
    together = b"".join(values)
    packed = pa.compress(together, codec=COMPRESSION, asbytes=True)
    return EntryBytes(len(together) / ENTRIES, len(packed) / ENTRIES)


def log_line(size: EntryBytes, labels: float, learn_us: float) -> str:
    """How fast the training log grows, and how long a fold of a year of it takes."""
    day = labels * DAY_S
    folded = _long(day * YEAR_DAYS * learn_us / 1e6)
    return (
        f"training log at {labels:,g} labels/s: at most {_bytes(day * size.plain)} a day and "
        f"{_bytes(day * YEAR_DAYS * size.plain)} a year ({size.plain:.0f} bytes an example; packed with others "
        f"{size.packed:.0f}), kept for ever; a year of it is folded from 0 in about {folded}"
    )


def _long(seconds: float) -> str:
    """A time that is planned with: two days differ from two hours, not from 47 hours."""
    for most, unit, size in ((120, "s", 1), (7_200, "min", 60), (172_800, "h", 3_600)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / DAY_S:.0f} days"


def _bytes(count: float) -> str:
    power = 1
    while count >= 1_000 ** (power + 1) and power < len(UNITS):
        power += 1
    shown = count / 1_000**power
    return f"{shown:.0f} {UNITS[power - 1]}" if shown >= 10 else f"{shown:.1f} {UNITS[power - 1]}"
