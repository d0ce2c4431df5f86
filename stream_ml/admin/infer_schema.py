"""What the records of a topic look like: their framing, and of JSON ones a schema that would hold them."""

import datetime
from typing import Any, NamedTuple

from stream_ml.config import Config
from stream_ml.core.avro.json_text import read_json
from stream_ml.errors import ConfigError
from stream_ml.kafka.clients import admin, topics_there
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.ranges import read_ranges

SAMPLE = 500  # records looked at


class Proposal(NamedTuple):
    """What was seen: how many records, their framing in words, and an Avro schema where they are JSON."""

    records: int
    looks: str
    schema: dict[str, Any] | None


def propose(config: Config, topic: str) -> Proposal:
    """Look at the newest records of a topic; ConfigError where it does not exist or is empty."""
    with reaching(config):
        client = admin(config)
        there = topics_there(client).topics
        if topic not in there:
            raise ConfigError(f"there is no topic {topic}", f"there are: {', '.join(sorted(there)[:20])}")
        held = ends(client, [(topic, partition) for partition in there[topic].partitions])
        values = _newest(config, held)
    if not values:
        raise ConfigError(f"{topic} holds no records to look at")
    rows = [_row(value) for value in values]
    if all(row is not None for row in rows):
        return Proposal(len(values), "JSON objects", schema_of(topic, [row for row in rows if row is not None]))
    return Proposal(len(values), _looks(values), None)


def _newest(config: Config, held: dict[tuple[str, int], tuple[int, int]]) -> list[bytes]:
    each = max(1, SAMPLE // len(held))
    ranges = {where: (max(first, end - each), end) for where, (first, end) in held.items()}
    batches = read_ranges(config, ranges, keep_alive=lambda: None)
    return [message.value() for batch in batches for message in batch if message.value()]


def _row(value: bytes) -> dict[str, Any] | None:
    try:
        row = read_json(value)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _looks(values: list[bytes]) -> str:
    if all(value[:2] == b"\xc3\x01" for value in values):
        return "Avro, single-object encoding (framing: single-object)"
    if all(value[:1] == b"\x00" and len(value) > 5 for value in values):
        ids = sorted({int.from_bytes(value[1:5], "big") for value in values})
        return f"Confluent framing (framing: confluent), schema ids {', '.join(map(str, ids[:10]))}"
    return "no JSON and no framing that is known: perhaps bare Avro (framing: bare)"


def schema_of(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """An Avro record schema that holds all rows; fields that are missing or null somewhere are nullable."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    fields = [{"name": field, **_type(f"{name}_{field}", [row.get(field) for row in rows])} for field in names]
    plain = "".join(part.capitalize() for part in name.replace("-", "_").replace(".", "_").split("_")) or "Record"
    return {"type": "record", "name": plain if plain[0].isalpha() else f"R{plain}", "fields": fields}


def _type(name: str, values: list[Any]) -> dict[str, Any]:
    given = [value for value in values if value is not None]
    type_: Any = _common(name, given)
    if len(given) < len(values):
        return {"type": ["null", type_], "default": None}
    return {"type": type_}


def _common(name: str, values: list[Any]) -> Any:
    if values and all(isinstance(value, bool) for value in values):
        return "boolean"
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return "long"
    if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "double"
    if values and all(isinstance(value, str) and _is_time(value) for value in values):
        return {"type": "long", "logicalType": "timestamp-millis"}
    if values and all(isinstance(value, dict) for value in values):
        return schema_of(name, values)
    return "string"


def _is_time(text: str) -> bool:
    try:
        return len(text) >= len("2026-01-31T12:30") and bool(datetime.datetime.fromisoformat(text))
    except ValueError:
        return False
