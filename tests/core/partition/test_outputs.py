"""What is written: predictions, outcomes, dead letters, commit metadata, and the schemas that say so."""

import contextlib
import hashlib
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml import formats
from stream_ml.core.avro.fields import find_field, getter
from stream_ml.core.avro.record import LaterFormat
from stream_ml.core.avro.schema import Schema
from stream_ml.core.avro.texts import scores_of
from stream_ml.core.join.join import Resolved
from stream_ml.core.join.watermark import Times
from stream_ml.core.model.estimator import COLD, Scored
from stream_ml.core.partition.commit_metadata import (
    READY_MAX,
    Metadata,
    OutputEnds,
    other_format,
    parse_feedback_mark,
    parse_metadata,
)
from stream_ml.core.partition.outputs import (
    dead_letter_origin,
    decode_outcome,
    encode_dead_letter,
    encode_outcome,
    record_bytes,
)
from stream_ml.core.partition.predictions import PredictionCodec, Published, prediction_schema, served_of
from stream_ml.errors import ConfigError, FatalError
from stream_ml.records import Clock, DeadLetter, Event, Label, Produce, Record, Served, Target, Version
from tests.support.inputs import NOW_MS, encoded, record_type, schema_of

CLOCK = Clock(NOW_MS, 5)
LIMIT = 1_000_000
KIND = {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}

AT = record_type("At", ("x", "double"))
PLACE = record_type("Place", ("kind", "space.Kind"), ("at", AT), namespace="geo")

EVENT = schema_of(
    ("id", "string"),
    ("kind", KIND),
    ("again", ["null", "space.Kind"]),
    ("price", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("micro", {"type": "long", "logicalType": "timestamp-micros"}),
    ("day", {"type": "int", "logicalType": "date"}),
    ("fix", {"type": "fixed", "name": "Fix", "size": 2}),
    ("tags", {"type": "array", "items": "Kind"}),
    ("counts", {"type": "map", "values": "long"}),
    ("wide", ["null", "string", "long"]),
    ("place", ["null", PLACE]),
    namespace="space",
)
VALUES: dict[str, Any] = {
    "id": "F-1",
    "kind": "B",
    "again": "A",
    "price": (1250).to_bytes(2, "big"),  # as decoded: two's complement, the scale is applied by plan
    "at": 1_500,
    "micro": 2_500_000,
    "day": 19_675,
    "fix": b"\x01\x02",
    "tags": ["A", "B"],
    "counts": {"k": 3},
    "wide": 7,
    "place": {"kind": "A", "at": {"x": 0.5}},
}


def _event(schema: Schema, values: dict[str, Any], carry: list[str], **record: Any) -> Event:
    kept = Record("events", 3, 41, NOW_MS, b"key", encoded(schema, values))._replace(**record)
    carried = {name.replace(".", "_"): getter(find_field(schema, name, where="carry"))(values) for name in carry}
    return Event(kept, "F-1", 1_500, {}, False, carried or None, schema.fingerprint)


def _codec(schema: Schema, carry: list[str], framing: Any = "bare", schema_id: int | None = None) -> PredictionCodec:
    return PredictionCodec("predictions", framing, schema_id, prediction_schema(schema, carry))


def _encoded(
    codec: PredictionCodec, event: Event, scored: Scored = COLD, flags: tuple[str, ...] = ()
) -> tuple[Produce, Served]:
    served = served_of(scored, Version("0123456789abcdef", 77), flags)
    return codec.encode(event, served, 76, CLOCK), served


def _read(codec: PredictionCodec, value: bytes | None, header: int = 0) -> dict[str, Any]:
    """Read as any other program would: from the printed schema, by the library alone."""
    stream = io.BytesIO(value or b"")
    stream.seek(header)
    found = fastavro.schemaless_reader(stream, fastavro.parse_schema(json.loads(json.dumps(codec.schema))), None)
    assert stream.read() == b""
    return found  # type: ignore[return-value]


# --- predictions ---


def test_prediction_without_carried_fields_is_read_by_others() -> None:
    codec = _codec(EVENT, [])
    scored = Scored("true", 0.75, None, None)
    produce, _ = _encoded(codec, _event(EVENT, VALUES, []), scored, ("stale", "imputed"))
    assert _read(codec, produce.value) == {
        "format": 2,
        "event_id": "F-1",
        "event_time": datetime.fromtimestamp(1.5, UTC),
        "event_topic": "events",
        "event_partition": 3,
        "event_offset": 41,
        "class": "true",
        "score": 0.75,
        "scores": None,
        "value": None,
        "lineage": "0123456789abcdef",
        "log_partition": 0,
        "position": 77,
        "epoch": 0,
        "arm": "",
        "examples_learned": 76,
        "unit_examples": -1,
        "scored_at": datetime.fromtimestamp(NOW_MS / 1000, UTC),
        "flags": "stale,imputed",
        "derived_schema": 0,
        "derived_size": 0,
    }


CARRY = ["kind", "again", "price", "at", "micro", "day", "fix", "place.kind", "place.at.x"]


def _carried(codec: PredictionCodec, value: bytes | None, header: int = 0) -> dict[str, Any]:
    found = _read(codec, value, header)
    return {name.removeprefix("carried_"): found[name] for name in found if name.startswith("carried_")}


def test_carried_fields_are_columns_and_keep_their_values() -> None:
    codec = _codec(EVENT, CARRY)
    produce, _ = _encoded(codec, _event(EVENT, VALUES, CARRY))
    assert _carried(codec, produce.value) == {
        "kind": "B",
        "again": "A",
        "price": Decimal("12.50"),
        "at": datetime.fromtimestamp(1.5, UTC),
        "micro": datetime.fromtimestamp(2.5, UTC),
        "day": date(2023, 11, 14),
        "fix": b"\x01\x02",
        "place_kind": "A",
        "place_at_x": 0.5,
    }


@pytest.mark.parametrize("name", CARRY)
def test_field_is_carried_alone(name: str) -> None:
    codec = _codec(EVENT, [name])
    produce, _ = _encoded(codec, _event(EVENT, VALUES, [name]))
    assert list(_carried(codec, produce.value)) == [name.replace(".", "_")]


def test_nulls_are_carried() -> None:
    carry = ["again", "place.at.x", "place.kind"]
    values = VALUES | {"again": None, "wide": None, "place": None}
    codec = _codec(EVENT, carry)
    produce, _ = _encoded(codec, _event(EVENT, values, carry))
    assert set(_carried(codec, produce.value).values()) == {None}


@pytest.mark.parametrize("carry", [[], CARRY], ids=["nothing", "carried"])
def test_every_field_of_a_prediction_is_a_scalar_or_an_optional_one(carry: list[str]) -> None:
    """Kafka Connect has no column for a record, a list or a map, and refuses a field of type null."""
    scalars = {"boolean", "int", "long", "float", "double", "string", "bytes"}
    for field in _codec(EVENT, carry).schema["fields"]:
        types = field["type"] if isinstance(field["type"], list) else [field["type"]]
        plain = [one["type"] if isinstance(one, dict) else one for one in types]
        assert set(plain) - {"null"} <= scalars and len(set(plain) - {"null"}) == 1, field
        assert plain[0] != "null" or field["default"] is None, field


@pytest.mark.parametrize("without", [[], ["kind"], CARRY])
@pytest.mark.parametrize("carry", [["at"], CARRY])
def test_another_set_of_carried_fields_is_read_by_the_schema_before_and_after(
    without: list[str], carry: list[str]
) -> None:
    """What a registry that demands full compatibility asks for."""
    before, after = _codec(EVENT, without), _codec(EVENT, carry)
    for writer, reader, named in ((before, after, without), (after, before, carry)):
        produce, served = _encoded(writer, _event(EVENT, VALUES, named), SCORED[2])
        schemas = (fastavro.parse_schema(writer.schema), fastavro.parse_schema(reader.schema))
        found: Any = fastavro.schemaless_reader(io.BytesIO(produce.value or b""), *schemas)
        assert (found["event_id"], found["scores"]) == ("F-1", served.scores)


@pytest.mark.parametrize("name", ["tags", "counts", "wide", "place", "place.at"])
def test_what_is_no_scalar_is_not_carried(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"predictions\.carry: {name} of R is a \w+, and a column holds one value"):
        prediction_schema(EVENT, [name])


def test_of_a_record_the_fields_in_it_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        prediction_schema(EVENT, ["place"])
    assert caught.value.hint == "name fields in it: place.kind, place.at.x"


def test_two_fields_with_types_of_one_name_are_carried() -> None:
    first = KIND | {"name": "b_Kind", "namespace": "a", "symbols": ["X"]}
    second = KIND | {"namespace": "a.b", "symbols": ["Y"]}
    schema = schema_of(("one", first), ("two", second))
    codec = _codec(schema, ["one", "two"])
    produce, _ = _encoded(codec, _event(schema, {"one": "X", "two": "Y"}, ["one", "two"]))
    assert _carried(codec, produce.value) == {"one": "X", "two": "Y"}


def test_scores_stand_as_one_text_that_reads_back_to_the_same_numbers() -> None:
    scores = {"a": 0.1 + 0.2, 'b\u00fc"': 5e-324, "c": 1.0}
    produce, served = _encoded(_codec(EVENT, []), _event(EVENT, VALUES, []), Scored("c", 1.0, scores, None))
    text = _read(_codec(EVENT, []), produce.value)["scores"]
    assert text == served.scores == '{"a":0.30000000000000004,"b\\u00fc\\"":5e-324,"c":1.0}'
    assert (scores_of(text), list(scores_of(text))) == (scores, list(scores))


@pytest.mark.parametrize("carry", [["place.x", "place_x"], ["place_x", "place_x"]])
def test_carried_names_that_coincide_are_refused(carry: list[str]) -> None:
    schema = schema_of(("place", record_type("Place", ("x", "double"))), ("place_x", "string"))
    with pytest.raises(ConfigError, match=r"predictions\.carry"):
        prediction_schema(schema, carry)


def test_unknown_carried_field_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"predictions\.carry: R has no field 'nope'"):
        prediction_schema(EVENT, ["nope"])


def test_uuid_and_times_of_day_are_carried() -> None:
    schema = schema_of(
        ("u", {"type": "string", "logicalType": "uuid"}),
        ("u16", {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}),
        ("t", {"type": "int", "logicalType": "time-millis"}),
        ("local", {"type": "long", "logicalType": "local-timestamp-millis"}),
    )
    values = {"u": "9f2c5d1e-0f3b-4a53-9d2e-0a1b2c3d4e5f", "u16": bytes(range(16)), "t": 500, "local": 1_500}
    for name in values:
        codec = _codec(schema, [name])
        produce, _ = _encoded(codec, _event(schema, values, [name]))
        assert _carried(codec, produce.value)[name] is not None


@pytest.mark.parametrize(
    ("framing", "schema_id", "header"),
    [("bare", None, b""), ("confluent", 258, b"\x00\x00\x00\x01\x02"), ("confluent", 0, b"\x00" * 5)],
)
def test_framing_goes_before_the_record(framing: str, schema_id: int | None, header: bytes) -> None:
    codec = _codec(EVENT, ["kind"], framing, schema_id)
    produce, _ = _encoded(codec, _event(EVENT, VALUES, ["kind"]))
    assert (produce.value or b"").startswith(header)
    assert _read(codec, produce.value, len(header))["event_id"] == "F-1"


def test_single_object_names_the_concrete_schema() -> None:
    codec = _codec(EVENT, ["kind"], "single-object")
    produce, _ = _encoded(codec, _event(EVENT, VALUES, ["kind"]))
    canonical = fastavro.schema.to_parsing_canonical_form(json.loads(json.dumps(codec.schema)))
    assert (produce.value or b"")[:10].hex() == "c301" + fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    assert _carried(codec, produce.value, 10) == {"kind": "B"}


SCORED = [
    COLD,
    Scored("true", 0.1, None, None),
    Scored("a", 0.5, {"a": 0.5, "b": 0.25, "c": 0.25}, None),
    Scored(None, None, None, -1e17),
    Scored("b", None, None, None),
]


@pytest.mark.parametrize("scored", SCORED)
@pytest.mark.parametrize("framing", ["bare", "confluent", "single-object"])
@pytest.mark.parametrize("carry", [[], CARRY], ids=["nothing", "carried"])
def test_head_of_a_prediction_reads_back(scored: Scored, framing: str, carry: list[str]) -> None:
    codec = _codec(EVENT, carry, framing, 9 if framing == "confluent" else None)
    produce, served = _encoded(codec, _event(EVENT, VALUES, carry), scored, ("cold", "duplicate_event"))
    assert codec.decode(produce.value or b"") == Published("events", 3, 41, "F-1", 1_500, served)


def test_head_reads_back_whatever_was_carried_before() -> None:
    before, now = _codec(EVENT, CARRY, "single-object"), _codec(EVENT, ["id"], "single-object")
    produce, served = _encoded(before, _event(EVENT, VALUES, CARRY), SCORED[1])
    assert now.decode(produce.value or b"").served == served


@pytest.mark.parametrize(
    "large",
    [
        {"lineage": "l" * 65},
        {"arm": "a" * 65},
        {"class_name": "c" * 20_001},
        {"flags": ("f" * 2_002,)},
        {"flags": ("",) * 3_000},
        {"scores": "s" * 4_000_001},
    ],
    ids=lambda large: next(iter(large)),
)
@pytest.mark.parametrize("count", [1, 100])
def test_a_prediction_larger_than_an_entry_can_hold_is_somebody_elses(large: dict[str, Any], count: int) -> None:
    codec = _codec(EVENT, [])
    _, served = _encoded(codec, _event(EVENT, VALUES, []), SCORED[1])
    value = codec.encode(_event(EVENT, VALUES, []), served._replace(**large), 76, CLOCK).value or b""
    with pytest.raises(ValueError, match="larger than any entry"):
        codec.decode(value)
    assert codec.decode_many([value] * count) == [None] * count


@given(value=st.binary(max_size=120))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_prediction_are_a_value_error(value: bytes) -> None:
    codec = CODECS[0]
    for given_ in (value, PREDICTION[: len(value)] + value):
        with contextlib.suppress(ValueError):
            codec.decode(given_)


def test_prediction_cut_anywhere_is_a_value_error() -> None:
    for end in range(len(PREDICTION)):
        with pytest.raises(ValueError):
            CODECS[0].decode(PREDICTION[:end])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_many_heads_read_back_as_each_does_by_itself(data: st.DataObject) -> None:
    framing = data.draw(st.sampled_from(["bare", "confluent", "single-object"]))
    codec = _codec(EVENT, CARRY, framing, 9 if framing == "confluent" else None)
    whole = [
        _encoded(codec, _event(EVENT, VALUES, CARRY, offset=row), SCORED[row % 5], ("cold",) * (row % 3 == 0))[0].value
        for row in range(100)
    ]
    values = [value or b"" for value in whole]
    for row in data.draw(st.sets(st.integers(0, 99), max_size=5)):
        value = values[row]
        broken = [value[: data.draw(st.integers(0, len(value)))], data.draw(st.binary(max_size=80)), b"", PREDICTION]
        values[row] = data.draw(st.sampled_from(broken))
    many = [one.where if isinstance(one, LaterFormat) else one for one in codec.decode_many(values)]
    assert many == [_decoded(codec, value) for value in values]


def _decoded(codec: PredictionCodec, value: bytes) -> Published | tuple[str, int, int] | None:
    try:
        return codec.decode(value)
    except LaterFormat as later:
        return later.where
    except ValueError:
        return None


CODECS = [_codec(EVENT, [])]
PREDICTION = _encoded(CODECS[0], _event(EVENT, VALUES, []), SCORED[2], ("cold",))[0].value or b""


def test_prediction_has_the_key_and_partition_of_its_event() -> None:
    produce, _ = _encoded(CODECS[0], _event(EVENT, VALUES, [], key=None))
    assert (produce.topic, produce.partition, produce.key) == ("predictions", 3, None)


def test_trace_headers_are_forwarded_and_no_others() -> None:
    headers = [("traceparent", b"00-1-2-01"), ("secret", b"x"), ("tracestate", b"a=b")]
    produce, _ = _encoded(CODECS[0], _event(EVENT, VALUES, [], headers=headers))
    assert list(produce.headers) == [("traceparent", b"00-1-2-01"), ("tracestate", b"a=b")]


# --- outcomes ---


@pytest.mark.parametrize("kind", ["duplicate", "late", "orphan", "shed", "invalid"])
@pytest.mark.parametrize("event_offset", [None, 0, 2**40])
def test_outcome_reads_back(kind: Any, event_offset: int | None) -> None:
    label = Label(Record("feedback", 3, 12, NOW_MS, b"key", b"v"), "Zürich", 5, Target("true", None))
    produce = encode_outcome("app.outcomes", 3, Resolved(label, kind, event_offset), CLOCK)
    assert (produce.topic, produce.partition, produce.key) == ("app.outcomes", 3, b"key")
    found = decode_outcome(produce.value or b"")
    assert (found["format"], found["event_id"]) == (2, "Zürich")
    assert (found["feedback_topic"], found["feedback_partition"], found["feedback_offset"]) == ("feedback", 3, 12)
    assert (found["outcome"], found["event_offset"]) == (kind, event_offset)
    assert found["decided_at"] == datetime.fromtimestamp(NOW_MS / 1000, UTC)


def test_outcome_is_single_object_encoded() -> None:
    label = Label(Record("feedback", 3, 12, NOW_MS, None, b"v"), "F", 5, Target("true", None))
    value = encode_outcome("o", 3, Resolved(label, "late", None), CLOCK).value or b""
    canonical = fastavro.schema.to_parsing_canonical_form(formats.load("outcome"))
    assert value[:10].hex() == "c301" + fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    stream = io.BytesIO(value[10:])
    found = fastavro.schemaless_reader(stream, fastavro.parse_schema(formats.load("outcome")), None)
    assert found["outcome"] == "late"  # type: ignore[index, call-overload]


# --- dead letters ---


def _dead_letter(message: str = "why", **record: Any) -> DeadLetter:
    kept = Record("events", 3, 41, NOW_MS, b"key", b"value", [("own", b"1")])._replace(**record)
    return DeadLetter(kept, "not_avro", message, "decode")


def _headers(produce: Produce) -> dict[str, bytes]:
    return dict(produce.headers)


def test_dead_letter_keeps_the_record_and_says_why() -> None:
    produce = encode_dead_letter("app.dead-letters", _dead_letter(), CLOCK, LIMIT)
    assert produce[:4] == ("app.dead-letters", 3, b"key", b"value")
    assert _headers(produce) == {
        "own": b"1",
        "stream_ml.format": b"2",
        "__connect.errors.topic": b"events",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": b"41",
        "__connect.errors.exception.class.name": b"not_avro",
        "__connect.errors.exception.message": b"why",
        "__connect.errors.stage": b"decode",
        "__connect.errors.timestamp": str(NOW_MS).encode(),
    }


def test_dead_letter_of_a_tombstone_has_no_value() -> None:
    produce = encode_dead_letter("d", _dead_letter(value=None, key=None, headers=()), CLOCK, LIMIT)
    assert (produce.key, produce.value) == (None, None)


@pytest.mark.parametrize("size", [900_001, 999_900, 5_000_000])
def test_long_value_is_cut_with_its_digest_and_size(size: int) -> None:
    value = b"\x07" * size
    produce = encode_dead_letter("d", _dead_letter(value=value), CLOCK, LIMIT)
    assert len(produce.value or b"") == 900_000
    assert _headers(produce)["stream_ml.value.sha256"] == hashlib.sha256(value).hexdigest().encode()
    assert _headers(produce)["stream_ml.value.bytes"] == str(size).encode()
    assert record_bytes(produce) <= LIMIT


def test_value_of_900_kb_is_whole() -> None:
    produce = encode_dead_letter("d", _dead_letter(value=b"\x07" * 900_000), CLOCK, LIMIT)
    assert len(produce.value or b"") == 900_000
    assert "stream_ml.value.sha256" not in _headers(produce)


HUGE = 2_000_000


@pytest.mark.parametrize(
    "record",
    [
        {"key": b"k" * HUGE},
        {"headers": [("h", b"x" * HUGE)]},
        {"headers": [(f"h{i}", b"x") for i in range(100_000)]},
        {"key": b"k" * HUGE, "value": b"v" * HUGE, "headers": [("h" * HUGE, b"x" * HUGE)]},
        {"key": b"k" * 240_000, "value": b"v" * HUGE, "headers": [("h", b"x" * 240_000)]},
        {"key": b"k" * HUGE, "value": None},
    ],
    ids=["key", "headers", "many headers", "all", "a quarter each", "key of a tombstone"],
)
@pytest.mark.parametrize("limit", [LIMIT, 100_000, 10_000])
def test_dead_letter_stays_under_the_limit_and_names_its_origin(record: dict[str, Any], limit: int) -> None:
    produce = encode_dead_letter("d", _dead_letter(**record), CLOCK, limit)
    assert record_bytes(produce) <= limit
    assert dead_letter_origin(Record("d", 3, 0, 0, produce.key, produce.value, produce.headers)) == ("events", 3, 41)


@pytest.mark.parametrize("message", ["x" * 1_000_000, "ü" * 1_000_000, "\U0001f600" * 1_000_000])
@pytest.mark.parametrize("limit", [LIMIT, 10_000])
def test_long_message_is_cut(message: str, limit: int) -> None:
    produce = encode_dead_letter("d", _dead_letter(message, value=b"v" * HUGE), CLOCK, limit)
    assert record_bytes(produce) <= limit
    text = _headers(produce)["__connect.errors.exception.message"].decode()
    assert message.startswith(text)
    assert len(text) >= 100


def test_record_without_our_headers_has_no_origin() -> None:
    for headers in ((), [("__connect.errors.topic", b"t")], [("__connect.errors.offset", b"x")]):
        assert dead_letter_origin(Record("d", 0, 0, 0, None, None, headers)) is None


@pytest.mark.parametrize("value", [b"\xff\xfe", None])
def test_origin_that_is_no_text_is_none(value: Any) -> None:
    names = ("topic", "partition", "offset")
    record = Record("d", 0, 0, 0, None, None, [(f"__connect.errors.{name}", value) for name in names])
    assert dead_letter_origin(record) is None


def test_origin_of_a_dead_letter_of_a_dead_letter_is_the_last() -> None:
    first = encode_dead_letter("d", _dead_letter(), CLOCK, LIMIT)
    again = _dead_letter(topic="d", partition=9, offset=8, headers=first.headers)
    produce = encode_dead_letter("e", again, CLOCK, LIMIT)
    assert dead_letter_origin(Record("e", 0, 0, 0, None, None, produce.headers)) == ("d", 9, 8)


# --- commit metadata ---

LONGEST = 2**63 - 1
METADATA = Metadata(
    12, Times(1_500, 1_400, -1), (1_500, 1_600), 7, 0, OutputEnds(1, 2, 3, 4), "token", "flights-w1", {"0a1b2c3d": 9}
)


@pytest.mark.parametrize(
    "metadata",
    [
        METADATA,
        METADATA._replace(signalled={}),
        METADATA._replace(writer="a" * 64 + "-" + "b" * 64),
        Metadata(
            LONGEST,
            Times(-LONGEST, -LONGEST, -LONGEST),
            (-LONGEST, -LONGEST),
            LONGEST,
            LONGEST,
            OutputEnds(LONGEST, LONGEST, LONGEST, LONGEST),
            "f" * 77,
            "a" * 64 + "-" + "b" * 64,
            {f"{number:08x}": LONGEST for number in range(4)},
            ("0" * 8, "0" * 8),
            ready=tuple((f"{number:016x}", LONGEST) for number in range(READY_MAX)),
        ),
    ],
    ids=["usual", "no signal", "longest names", "longest of all"],
)
def test_metadata_reads_back_and_has_at_most_1000_bytes(metadata: Metadata) -> None:
    text = metadata.text()
    assert len(text.encode()) <= 1_000
    assert parse_metadata(text) == metadata
    assert json.loads(text)["v"] == 2
    mark = metadata.feedback_text()
    assert parse_feedback_mark(mark) == (metadata.token, metadata.inputs_id)
    assert parse_metadata(mark) is None and parse_feedback_mark("{}") is None


def test_metadata_that_is_too_long_is_fatal() -> None:
    with pytest.raises(FatalError, match=r"app\.id or worker\.instance is too long"):
        METADATA._replace(writer="a" * 1_000).text()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        "null",
        "[]",
        "3",
        "NaN",
        "x",
        '{"v":2}',
        '{"v":1}',
        METADATA.text()[:-1],
        METADATA.text().replace('"v":2', '"v":3'),
        METADATA.text().replace('"p":1,', ""),
        METADATA.text().replace('"rd":2', '"rd":null'),
        METADATA.text().replace('"seq":12', '"seq":"x"'),
        METADATA.text().replace('"seq":12', '"seq":null'),
        pytest.param(METADATA.text().replace('"seq":12', '"seq":Infinity'), id="infinity"),
        pytest.param("[" * 100_000, id="nested"),
    ],
)
def test_text_that_is_no_metadata_of_ours_is_none(text: str | None) -> None:
    assert parse_metadata(text) is None


@pytest.mark.parametrize(
    ("text", "version"),
    [('{"v":1}', 1), ('{"v":3,"x":1}', 3), ('{"v":2}', None), ('{"v":"3"}', None), ('{"v":true}', None), (None, None)],
)
def test_a_state_of_another_version_is_known_as_one(text: str | None, version: int | None) -> None:
    assert other_format(text) == version


# --- the schemas ---

NAMES = ["arrival", "flight", "log_entry", "outcome", "prediction", "served", "signal"]


def _fields(node: Any) -> Any:
    if isinstance(node, list):
        for branch in node:
            yield from _fields(branch)
    elif isinstance(node, dict):
        for field in node.get("fields", []):
            yield field
            yield from _fields(field["type"])
        for key in ("items", "values", "type"):
            yield from _fields(node.get(key))


def test_every_schema_is_looked_at() -> None:
    assert sorted(path.stem for path in formats.FOLDER.glob("*.avsc")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_schema_parses_and_every_field_says_what_it_is(name: str) -> None:
    raw = formats.load(name)
    fastavro.parse_schema(formats.load(name))
    assert raw["doc"].strip()
    for field in _fields(raw):
        assert field.get("doc", "").strip(), field["name"]


MEANING = ["version", "millisecond", "unit", "probabilit", "from 0 to 1", "position", "offset", "sequence"]
MEANING += ["0 the event", "partition", "number", "bytes", "fingerprint", "miles", "hour", "month", "day"]


@pytest.mark.parametrize("name", NAMES)
def test_every_number_names_its_unit_or_meaning(name: str) -> None:
    numbers = {"int", "long", "float", "double"}
    for field in _fields(formats.load(name)):
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
        bases = {b.get("type") if isinstance(b, dict) else b for b in branches}
        bases |= {b.get("values") for b in branches if isinstance(b, dict)}
        if bases & numbers:
            assert any(word in field["doc"].lower() for word in MEANING), (field["name"], field["doc"])


@pytest.mark.parametrize("name", NAMES)
def test_every_time_names_its_unit_and_epoch(name: str) -> None:
    for field in _fields(formats.load(name)):
        if isinstance(field["type"], dict) and field["type"].get("logicalType") == "timestamp-millis":
            assert "milliseconds since 1970-01-01 UTC" in field["doc"], field["name"]
