"""The load: events of 14 fields and 126 bytes, and labels that a logistic function of their features draws.

1. Everything follows from the seed and the number of a record: the same load in every run, on every machine.
2. The label of an event is 60 s of record time later than its event, as in life. Events are 20 ms apart, in a small
   load farther, so that the delay is at most 2 % of a load: what is learned lags by no more than that.
3. Features come from a pool of rows that are encoded once. A record is put together from its id, its time and a
   row's bytes, because Avro has no framing between fields; a million take two seconds.
"""

import functools
import io
import math
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import fastavro

T0_MS = 1_700_000_000_000
SPACING_MS = 20
LABEL_DELAY_MS = 60_000
DELAY_SHARE = 0.02
ROWS = 10_007  # of the pool; prime, so that every share of labels meets every row
SEED = 7
FEATURES = 12  # ten doubles, an int, a boolean
ID_PREFIX = "0b5e55ed-0000-4000-8000-"  # with 12 digits 36 characters, as a UUID has
_AT = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
_ID = {"name": "id", "type": "string"}
LABEL_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Truth",
    "fields": [_ID, _AT, {"name": "label", "type": "boolean"}],
}

Pair = tuple[bytes, bytes]
"""Key and value of a record."""


def event_schema(features: int = FEATURES) -> dict[str, Any]:
    """Avro schema of an event: id, time, ``features - 2`` doubles, an int, a boolean."""
    return {"type": "record", "name": "Payment", "fields": [_ID, _AT, *_feature_fields(features)]}


def _feature_fields(features: int) -> list[dict[str, Any]]:
    doubles = [{"name": f"x{number}", "type": "double"} for number in range(features - 2)]
    return [*doubles, {"name": "count", "type": "int"}, {"name": "known", "type": "boolean"}]


class Load(NamedTuple):
    """Records of both topics, in the order of their times."""

    events: list[Pair]
    labels: list[Pair]


class Row(NamedTuple):
    """Encoded features, and the label that belongs to them."""

    body: bytes
    label: bytes


def key_of(number: int) -> bytes:
    """Id of an event, which is also its key."""
    return f"{ID_PREFIX}{number:012d}".encode()


def number_of(key: bytes) -> int:
    """The event that a key names."""
    return int(key[-12:])


class Source:
    """Any event and any label, by number and time."""

    def __init__(self, features: int = FEATURES, seed: int = SEED) -> None:
        self._rows = rows(features, seed)

    def event(self, number: int, at_ms: int) -> Pair:
        """Event of this number."""
        key = key_of(number)
        return key, _string(key) + _long(at_ms) + self._rows[number % ROWS].body

    def label(self, number: int, at_ms: int) -> Pair:
        """Label of the event of this number."""
        key = key_of(number)
        return key, _string(key) + _long(at_ms) + self._rows[number % ROWS].label


@functools.lru_cache(maxsize=4)
def load(count: int, labelled: float, features: int = FEATURES, seed: int = SEED) -> Load:
    """So many events, and labels of a share of them (0, 0.1 or 1)."""
    source = Source(features, seed)
    step = round(1 / labelled) if labelled else 0
    spacing_ms = max(SPACING_MS, round(LABEL_DELAY_MS / DELAY_SHARE / count))
    times = range(T0_MS, T0_MS + count * spacing_ms, spacing_ms)
    events = [source.event(number, at_ms) for number, at_ms in enumerate(times)]
    labelled_numbers = range(0, count, step) if step else range(0)
    labels = [source.label(number, times[number] + LABEL_DELAY_MS) for number in labelled_numbers]
    return Load(events, labels)


def spoiled(events: list[Pair], every: int = 100) -> Iterator[Pair]:
    """The events, each so-manieth one cut short: bytes that no decoder can read."""
    for number, (key, value) in enumerate(events):
        yield key, value[:40] if number % every == every - 1 else value


@functools.lru_cache(maxsize=8)
def rows(features: int, seed: int) -> list[Row]:
    """The pool. Weights, features and labels are drawn from the seed."""
    chance = random.Random(seed)
    weights = [chance.gauss(0, 1) / math.sqrt(features) for _ in range(features)]
    schema = fastavro.parse_schema({"type": "record", "name": "Body", "fields": _feature_fields(features)})
    names = [field["name"] for field in _feature_fields(features)]
    found = []
    for _ in range(ROWS):
        values: list[Any] = [chance.gauss(0, 1) for _ in range(features - 2)]
        values += [chance.randrange(64, 512), chance.random() < 0.5]
        centred = [*values[:-2], (values[-2] - 288) / 130, values[-1] - 0.5]
        score = sum(weight * 3 * value for weight, value in zip(weights, centred, strict=True))
        body = io.BytesIO()
        fastavro.schemaless_writer(body, schema, dict(zip(names, values, strict=True)))
        found.append(Row(body.getvalue(), b"\x01" if chance.random() < 1 / (1 + math.exp(-score)) else b"\x00"))
    return found


def _long(value: int) -> bytes:
    """Avro's long: zigzag, seven bits a byte (Avro specification, binary encoding)."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _string(value: bytes) -> bytes:
    return _long(len(value)) + value
