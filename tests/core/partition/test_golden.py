"""The bytes of every record of ours, as they stand in topics for years: golden.json. A change needs another format."""

import json
from pathlib import Path
from typing import Any

import pytest

from stream_ml import formats
from stream_ml.core.avro.schema import load_schema
from stream_ml.core.drift.signals import Signal, decode_signal, encode_signal
from stream_ml.core.join.join import Resolved
from stream_ml.core.log.entry import Example, decode_entry, encode_command, encode_example, encode_schema, encode_start
from stream_ml.core.model.estimator import COLD, Scored
from stream_ml.core.partition.outputs import decode_outcome, encode_dead_letter, encode_outcome
from stream_ml.core.partition.predictions import PredictionCodec, prediction_schema, served_of
from stream_ml.records import (
    BY_EVENT,
    BY_LABEL,
    NOT_SERVED,
    Clock,
    DeadLetter,
    Event,
    Label,
    Record,
    Target,
    Version,
)

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text("utf-8"))
AT = {"written_at_ms": 1_700_000_000_000, "writer": "shop-w1"}
CLOCK = Clock(1_700_000_000_000, 0)
EVENT = load_schema(
    json.dumps(
        {
            "type": "record",
            "name": "Visit",
            "fields": [
                {"name": "id", "type": "string"},
                {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
                {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["a", "b"]}},
                {"name": "amount", "type": ["null", "double"]},
            ],
        }
    ),
    where="golden",
)
RECORD = Record("shop-events", 3, 41, 1_700_000_000_000, b"key", b"value", [("own", b"1")])
SERVED = served_of(
    Scored("b", 0.75, {"a": 0.25, "b": 0.75}, None), Version("0123456789abcdef", 77), ("stale", "imputed")
)
EXAMPLE = Example(
    source_partition=3,
    sequence=12,
    trigger=BY_LABEL,
    trigger_offset=9,
    event_id="v1",
    event_time_ms=1_600_000_000_000,
    event_offset=41,
    event_schema=EVENT.fingerprint,
    event_framing="single-object",
    event=b"event",
    label_time_ms=1_600_000_001_000,
    target=Target("b", None),
    feedback_offset=9,
    served=SERVED._replace(log_partition=2, epoch=5, arm="fedcba9876543210"),
)
LEAST = Example(0, 0, BY_EVENT, 0, "", 0, 0, 0, "bare", b"", 0, Target(None, -0.5), 0, NOT_SERVED)
SIGNAL = Signal("0123456789abcdef", "drift", "loss", 99, "warning", 1_600_000_000_000, {"mean": 0.5}, "rose", "top")


def codec(carry: list[str]) -> PredictionCodec:
    """Of predictions that carry these fields."""
    return PredictionCodec("shop-predictions", "single-object", None, prediction_schema(EVENT, carry))


def event(carried: dict[str, Any] | None) -> Event:
    """An event."""
    return Event(RECORD, "v1", 1_600_000_000_000, {}, False, carried, EVENT.fingerprint)


def records() -> dict[str, bytes]:
    """One of each kind, and what is small or empty in it where that matters."""
    label = Label(RECORD._replace(topic="shop-labels"), "v1", 5, Target("a", None))
    cold = served_of(COLD, Version("0123456789abcdef", 0), ("cold",))
    carried = {"kind": "b", "amount": None, "at": 1_600_000_000_000}
    dead = encode_dead_letter("shop.dead-letters", DeadLetter(RECORD, "not_avro", "why", "decode"), CLOCK, 1_000_000)
    found = {
        "example": encode_example(EXAMPLE, **AT),  # type: ignore[arg-type]
        "least example": encode_example(LEAST, written_at_ms=0, writer=""),
        "command": encode_command("skip", {"position": 7, "by": "ann", "why": ""}, **AT),  # type: ignore[arg-type]
        "schema of events": encode_schema(EVENT.fingerprint, EVENT.text, **AT),  # type: ignore[arg-type]
        "schema of predictions": encode_schema(5, '"string"', "shop-predictions", **AT),  # type: ignore[arg-type]
        "start": encode_start(3, 100, 50, 4, **AT),  # type: ignore[arg-type]
        "prediction": codec([]).encode(event(None), SERVED, 76, CLOCK).value,
        "cold prediction": codec([]).encode(event(None), cold, 0, CLOCK).value,
        "prediction that carries": codec(["kind", "amount", "at"]).encode(event(carried), SERVED, 76, CLOCK).value,
        "outcome": encode_outcome("shop.outcomes", 3, Resolved(label, "late", 41), CLOCK).value,
        "outcome without an event": encode_outcome("shop.outcomes", 3, Resolved(label, "orphan", None), CLOCK).value,
        "signal": encode_signal(SIGNAL, CLOCK),
        "headers of a dead letter": repr([*dead.headers]).encode(),
    }
    return {name: value or b"" for name, value in found.items()}


@pytest.mark.parametrize("name", sorted(records()))
def test_a_record_has_the_bytes_that_it_ever_had(name: str) -> None:
    value = records()[name]
    text = value.decode() if name.startswith("headers") else value.hex()
    assert text == GOLDEN["records"][name]


def test_every_golden_record_is_made() -> None:
    assert records().keys() == GOLDEN["records"].keys()


def test_what_stands_there_reads_back() -> None:
    golden = {name: bytes.fromhex(text) for name, text in GOLDEN["records"].items() if not name.startswith("headers")}
    entry = decode_entry(golden["example"])
    assert (entry.kind, entry.served, entry.target) == ("example", EXAMPLE.served, EXAMPLE.target)
    assert entry.event == b"event"
    assert decode_entry(golden["least example"]).target == LEAST.target
    assert decode_entry(golden["command"]).parsed_arguments()["position"] == 7
    assert decode_entry(golden["start"]).parsed_arguments()["partitions"] == 4
    for carry, name in (([], "prediction"), (["kind", "amount", "at"], "prediction that carries")):
        published = codec(carry).decode(golden[name])
        assert (published.topic, published.partition, published.offset) == ("shop-events", 3, 41)
        assert published.served == SERVED
    assert decode_outcome(golden["outcome"])["event_offset"] == 41
    assert decode_signal(golden["signal"]) == SIGNAL


def test_the_schemas_have_the_fingerprints_of_their_formats() -> None:
    """A field that was added, moved or retyped is another format: its number must grow, and this line with it."""
    names = ("log_entry", "prediction", "outcome", "signal")
    found = {name: load_schema(formats.text(name), where=name).fingerprint for name in names}
    assert found == GOLDEN["fingerprints"]
