"""Schemas of what is published stand in the log for its readers; the fold keeps them, and learns as without them."""

import json
from typing import Any

import pytest

from stream_ml.core.avro.schema import DEPTH_MAX, NESTING_MAX, fingerprint_of_text, single_object_header
from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.entry import begins_as_schema, decode_entry, encode_schema
from stream_ml.core.log.logged_schemas import LoggedSchema, written_schemas
from tests.core.fold.test_fold import examples, features, fold
from tests.core.fold.test_foreign_entries import MICROS, READER, WIDER, XS, both_ways, entry, halted, start
from tests.support.partition import EVENT, NOW_MS, command, example, fold_settings, parts

TOPIC = "shop-predictions"


def published(schema: dict[str, Any], topic: str = TOPIC) -> bytes:
    """An entry with the schema of a topic that the service writes."""
    text = json.dumps(schema)
    return encode_schema(fingerprint_of_text(text), text, topic, written_at_ms=NOW_MS, writer="w")


def deep(levels: int) -> dict[str, Any]:
    """A record in a record, so many times."""
    found: Any = "int"
    for number in range(levels):
        found = {"type": "record", "name": f"R{number}", "fields": [{"name": "f", "type": found}]}
    return {"type": "record", "name": "Prediction", "fields": [{"name": "carried", "type": found}]}


@pytest.mark.parametrize("schema", [WIDER, MICROS, deep(DEPTH_MAX + 5)], ids=["wider", "other meaning", "deep"])
@pytest.mark.parametrize("at", [0, 70, 140])
def test_a_schema_of_predictions_is_kept_and_nothing_is_learned_otherwise(schema: dict[str, Any], at: int) -> None:
    values = examples(*XS)
    values.insert(at, published(schema))
    replica = both_ways(*values)
    assert (replica.halt, replica.only.examples_learned, replica.only.unusable) == (None, 140, 0)
    assert features(replica) == features(fold(*examples(*XS)))
    assert [(one.topic, one.text) for one in replica.book.facts.logged_schemas] == [(TOPIC, json.dumps(schema))]
    assert fingerprint_of_text(json.dumps(schema)) not in replica.book.facts.schemas


NESTED = ["[" * levels + '"int"' + "]" * levels for levels in (NESTING_MAX + 1, 950, 100_000)]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"type": "record"}', json.dumps({**EVENT, "name": "Other"}), *NESTED]
)
def test_a_text_that_is_no_schema_of_its_fingerprint_halts(text: str) -> None:
    false = encode_schema(READER, text, TOPIC, written_at_ms=NOW_MS, writer="w")
    replica = both_ways(*examples(*XS[:70]), false, *examples(*XS[70:], first=70))
    assert halted(replica) == (70, "not_an_entry")
    assert replica.book.facts.logged_schemas == []


@pytest.mark.parametrize("frames", [0, 300, 700])
def test_how_deep_a_schema_may_nest_does_not_depend_on_who_asks(frames: int) -> None:
    def asked(left: int) -> int:
        return asked(left - 1) if left else fingerprint_of_text.__wrapped__("[" * 200 + '"int"' + "]" * 200)

    assert asked(frames)


@pytest.mark.parametrize("topic", ["\x1b[2Jevil", "two\nlines", "a" * 250, "größe"])
def test_a_topic_that_kafka_does_not_allow_halts(topic: str) -> None:
    text = json.dumps(EVENT)
    false = encode_schema(fingerprint_of_text(text), text, topic, written_at_ms=NOW_MS, writer="w")
    assert halted(both_ways(false, *examples(*XS[:5]))) == (0, "not_an_entry")


def test_a_halted_replica_notes_schemas_of_predictions_too() -> None:
    replica = both_ways(example(5, 1.0), published(EVENT))
    assert replica.halt is not None
    assert [one.topic for one in replica.book.facts.logged_schemas] == [TOPIC]


def test_a_checkpoint_keeps_them() -> None:
    again = Replica(fold_settings())
    again.restore(fold(published(EVENT), *examples(*XS)).state())
    assert [one.topic for one in again.book.facts.logged_schemas] == [TOPIC]


def test_entries_of_kind_schema_are_known_by_their_first_bytes() -> None:
    entries = [published(EVENT), entry(READER, EVENT), example(1), start(0), command("freeze"), b"", b"\x02"]
    assert [begins_as_schema(value) for value in entries] == [True, True, False, False, False, False, False]


def test_written_schemas_are_listed_by_topic_in_the_order_of_the_log_and_say_which_are_current() -> None:
    old, new = LoggedSchema(TOPIC, -1, "old"), LoggedSchema(TOPIC, 2, "new")
    other_docs = new._replace(text="new, with other docs")  # which no fingerprint knows
    events, gone = LoggedSchema("", 3, "event"), LoggedSchema("formerly", 4, "else")
    found = written_schemas("shop", [events, new], [gone, old, other_docs, old])
    assert [(one.topic, one.text, one.current) for one in found] == [
        ("shop", "event", True),
        (TOPIC, "old", False),
        (TOPIC, "new", True),
        ("formerly", "else", False),
    ]
    assert [one.fingerprint for one in found[:3]] == ["0300000000000000", "ffffffffffffffff", "0200000000000000"]


def test_every_topic_with_a_schema_of_its_own_has_one_of_now() -> None:
    made = parts()
    found = made.written_schemas([LoggedSchema.of(decode_entry(published(WIDER)))])
    config = made.config
    topics = [config.events.topic, config.feedback.topic, config.predictions.topic]
    topics += [config.outcomes, config.training_log_topic, config.signals]
    assert [one.topic for one in found if one.current] == topics
    shown = next(one for one in found if one.topic == config.predictions.topic and one.current)
    assert made.predictions.header == single_object_header(made.predictions.fingerprint)
    assert made.predictions.header[2:].hex() == shown.fingerprint
