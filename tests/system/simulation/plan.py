"""What a schedule does, drawn from its seed: settings, records, faults. Fewer records or faults can be asked for."""

import random
from typing import NamedTuple

from tests.system.simulation.app import EARLY_TTL_MS, EVENTS, FEEDBACK, PARTITIONS, PREDICTIONS, T0, TTL_MS, encoded

SAFE = (
    "kill",
    "kill",
    "freeze",
    "freeze",
    "replace",
    "add",
    "remove",
    "transport",
    "flush",
    "offsets",
    "end lost",
    "end unanswered",
    "end delayed",
    "end slow",
    "end repeated",
)
LATE = "end repeated late"  # lands in whatever transaction is open by then
TOO_LARGE = b"too-large"


class Input(NamedTuple):
    """A record of the world outside. `event_id` is None where its bytes are none."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    event_id: str | None
    time_ms: int
    x: float = 0.0


class Plan(NamedTuple):
    """A schedule before it runs. `faults` stand beside the number of records that come before them."""

    seed: int
    membership: str
    batch: int
    pending_max: int | None
    inputs: list[Input]
    faults: list[tuple[int, str]]
    haste: float  # chance of a record at each step


def plan_of(seed: int, *, records: int | None = None, faults: int | None = None, late: bool = False) -> Plan:
    """The schedule of a seed.

    Parameters
    ----------
    records, faults
        At most so many of both, the first ones.
    late
        Whether an EndTxn may be repeated so late that it meets the next transaction.
    """
    rng = random.Random(f"plan {seed}")
    inputs = _inputs(rng)
    kinds = (*SAFE, LATE, LATE, LATE, LATE) if late else SAFE
    when = sorted(rng.randrange(len(inputs)) for _ in range(rng.choice((0, 1, 2, 3, 4, 6, 8))))
    found = [(count, rng.choice(kinds)) for count in when]
    return Plan(
        seed,
        rng.choice(("static", "static", "dynamic")),
        rng.choice((1, 2, 3, 5, 8, 50)),
        rng.choice((None, None, None, 2, 5)),
        inputs[:records],
        found[:faults],
        rng.choice((0.08, 0.15, 0.4)),
    )


def _inputs(rng: random.Random) -> list[Input]:
    """Records in the order in which they are produced; `at` is that order, in ms after T0."""
    found: list[tuple[float, Input]] = []
    ids: list[tuple[str, int, int]] = []
    for number in range(rng.randint(10, 24)):
        at = number * 90_000
        partition, event_id = rng.randrange(PARTITIONS), f"e{number}"
        if ids and rng.random() < 0.1:
            event_id, partition, _ = rng.choice(ids)
        time_ms = T0 + at - (rng.randrange(1_800_000) if rng.random() < 0.15 else rng.randrange(60_000))
        found.append((at, _event(rng, partition, event_id, time_ms)))
        ids.append((event_id, partition, time_ms))
        if rng.random() < 0.85:
            found += _labels(rng, at, partition, event_id, time_ms)
    for number in range(rng.randint(0, 2)):
        at = rng.uniform(0, len(ids) * 90_000)
        found.append((at, _label(rng, rng.randrange(PARTITIONS), f"nobody{number}", T0 + int(at))))
    return [record for _, record in sorted(found, key=lambda pair: pair[0])]


def _labels(rng: random.Random, at: float, partition: int, event_id: str, time_ms: int) -> list[tuple[float, Input]]:
    delay_ms = rng.choice((rng.randrange(600_000), rng.randrange(600_000), rng.randrange(TTL_MS)))
    if rng.random() < 0.15:
        delay_ms = -rng.randrange(EARLY_TTL_MS)
    if rng.random() < 0.06:
        delay_ms = rng.choice((TTL_MS + 1_000_000, -EARLY_TTL_MS - 1_000))
    seen = at + max(-1, min(delay_ms, 900_000)) + rng.choice((0, -100_000, 300_000))
    found = [(seen, _label(rng, partition, event_id, time_ms + delay_ms))]
    if rng.random() < 0.15:
        found.append((seen + rng.randrange(1_000_000), _label(rng, partition, event_id, time_ms + delay_ms + 1)))
    return found


def _event(rng: random.Random, partition: int, event_id: str, time_ms: int) -> Input:
    x = round(rng.uniform(-2, 2), 3)
    if rng.random() < 0.04:
        return Input(EVENTS, partition, b"broken", b"\x02", None, time_ms)
    key = TOO_LARGE if rng.random() < 0.03 else event_id.encode()
    return Input(EVENTS, partition, key, encoded(EVENTS, id=event_id, t=time_ms, x=x), event_id, time_ms, x)


def _label(rng: random.Random, partition: int, event_id: str, time_ms: int) -> Input:
    if rng.random() < 0.03:
        return Input(FEEDBACK, partition, b"broken", b"\x02", None, time_ms)
    value = encoded(FEEDBACK, id=event_id, t=time_ms, y=rng.random() < 0.5)
    return Input(FEEDBACK, partition, event_id.encode(), value, event_id, time_ms)


REFUSED_BY_KAFKA = {(PREDICTIONS, TOO_LARGE)}
