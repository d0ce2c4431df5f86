"""The fast path gives what the reference gives, row by row: values, dead letters, predictions, log entries."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_ml.config import Events as EventSettings
from stream_ml.config import Features as FeatureSettings
from stream_ml.config import Feedback
from stream_ml.core.avro.columnar import ROWS_MIN, avro_columns
from stream_ml.core.avro.framing import PIECE_BYTES, Payloads, Rejected
from stream_ml.core.avro.record import avro_long, encode_record
from stream_ml.core.avro.scan import scan_of
from stream_ml.core.avro.schema import Schema, load_schema, single_object_header
from stream_ml.core.avro.texts import scores_text
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.inputs.readers import EventReader, FeedbackReader
from stream_ml.core.join.join import Joined
from stream_ml.core.join.pending import Rows
from stream_ml.core.log.entry import decode_entry, encode_example
from stream_ml.core.log.entry_columns import decode_entries
from stream_ml.core.partition.examples import Examples, encode_examples
from stream_ml.records import BY_LABEL, DeadLetter, Record, Records, Served, Target
from tests.support.inputs import NOW_MS, domain_of
from tests.support.partition import T0, event_record, example, label, parts, pending

LAW = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
TIME = {"type": "long", "logicalType": "timestamp-millis"}

# --- any schema, any values ---

_INTS = st.one_of(st.integers(-(2**31), 2**31 - 1), st.sampled_from([0, -1, 2**31 - 1, -(2**31)]))
_LONGS = st.one_of(_INTS, st.integers(-(2**63), 2**63 - 1), st.sampled_from([10**18, 10**18 + 1, -(10**18)]))
_DOUBLES = st.one_of(st.floats(width=64), st.sampled_from([0.1, -0.0, 1e18, 1.1e18, math.nan, math.inf]))
_TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["", "a", "ü", "\x00", "é" * 40]))
_ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}
_TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("double", _DOUBLES),
    ("float", st.floats(width=32)),
    ("int", _INTS),
    ("long", _LONGS),
    ("boolean", st.booleans()),
    ("string", _TEXTS),
    ({"type": "long", "logicalType": "timestamp-millis"}, _LONGS),
    ({"type": "long", "logicalType": "timestamp-micros"}, _LONGS),
    ({"type": "int", "logicalType": "date"}, _INTS),
    ({"type": "int", "logicalType": "time-millis"}, _INTS),
    ({"type": "string", "logicalType": "uuid"}, st.one_of(st.uuids().map(str), _TEXTS)),
    (_ENUM, st.sampled_from(["A", "B", "C"])),
    ({"type": "array", "items": "long"}, st.lists(_LONGS, max_size=3)),
    ({"type": "map", "values": "double"}, st.dictionaries(_TEXTS, _DOUBLES, max_size=3)),
    ("bytes", st.binary(max_size=5)),
    (["null", "int", "string"], st.one_of(st.none(), _INTS, _TEXTS)),
]


@st.composite
def fields(draw: st.DrawFn, names: str) -> tuple[list[dict[str, Any]], dict[str, st.SearchStrategy[Any]]]:
    """Some fields, nullable or not, and values of each; at most one enum, for its name."""
    found, values = [], {}
    for number, kind in enumerate(draw(st.lists(st.sampled_from(range(len(_TYPES))), min_size=1, max_size=5))):
        type_, of = _TYPES[kind]
        if type_ is _ENUM:
            type_ = {**_ENUM, "name": f"E_{names}{number}"}
        if not isinstance(type_, list) and draw(st.booleans()):
            type_, of = ["null", type_], st.one_of(st.none(), of)
        found.append({"name": f"{names}{number}", "type": type_})
        values[f"{names}{number}"] = of
    return found, values


@st.composite
def topics(draw: st.DrawFn) -> tuple[Schema, list[dict[str, Any]]]:
    """A schema with an id, a time and a nested record, and rows of it, of which a batch is made."""
    flat, of = draw(fields("f"))
    inner, of_inner = draw(fields("g"))
    record: Any = {"type": "record", "name": "Inner", "fields": inner}
    nullable = draw(st.booleans())
    id_type, ids = draw(
        st.sampled_from(
            [
                ("string", _TEXTS),
                (["null", "string"], st.one_of(st.none(), _TEXTS)),
                ("long", _LONGS),
                ({"type": "string", "logicalType": "uuid"}, st.one_of(st.uuids().map(str), _TEXTS)),
            ]
        )
    )
    times = st.one_of(st.integers(NOW_MS - 10**9, NOW_MS + 2 * 86_400_000), _LONGS)
    raw = {
        "type": "record",
        "name": "Any",
        "fields": [
            {"name": "id", "type": id_type},
            {"name": "t", "type": TIME},
            *flat,
            {"name": "inner", "type": ["null", record] if nullable else record},
        ],
    }
    nested = st.fixed_dictionaries(of_inner)
    row = st.fixed_dictionaries(
        {"id": ids, "t": times, **of, "inner": st.one_of(st.none(), nested) if nullable else nested}
    )
    rows = draw(st.lists(row, min_size=1, max_size=5))
    return load_schema(json.dumps(raw), where="any.avsc"), rows


DAMAGE: list[Callable[[bytes], bytes | None]] = [
    lambda value: value,
    lambda value: value,
    lambda value: value[:-1],
    lambda value: value + b"\x00",
    lambda value: bytes([value[0] ^ 0x81]) + value[1:],
    lambda value: value[: len(value) // 2] + b"\xff" + value[len(value) // 2 + 1 :],
    lambda value: value[:-1] + b"\x02",
    lambda _: b"",
    lambda _: None,
    lambda _: b'{"id": 1}',
]


def batch_of(values: list[bytes | None]) -> Records:
    """Records with these values."""
    return Records.of("t", 3, [Record("t", 3, 7 + row, NOW_MS, b"k%d" % row, v) for row, v in enumerate(values)])


def same(one: Any, other: Any) -> bool:
    """Equal, with not a number equal to itself, and values of the same type."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return type(one) is type(other) and (one == other or (one != one and other != other))


def assert_same_events(reader: EventReader, records: Records) -> None:
    """`decode` gives for each row what `decode_one` does."""
    found = reader.decode_many(records, NOW_MS)
    table = dict(zip(found.features.rows, found.features.dicts(), strict=True))
    for row, record in enumerate(records):
        expected = reader.decode_one(record, NOW_MS)
        if isinstance(expected, DeadLetter):
            assert found.dead_letters[row] == expected
            continue
        assert row not in found.dead_letters
        features = table.get(row) or found.features.others.get(row)
        carried = None if found.carried is None else found.carried[row]
        head = (found.ids[row], found.times_ms[row], found.schemas[row], row in found.imputed)
        assert head == (expected.event_id, expected.time_ms, expected.schema, expected.imputed)
        assert same(features or {}, expected.features)
        assert same(carried, expected.carried)


MISSING: list[dict[str, Any]] = [{}, {"default": "drop"}, {"default": {"impute": 1.5}}, {"default": {"impute": 3}}]


@LAW
@given(topic=topics(), damage=st.lists(st.sampled_from(DAMAGE), min_size=5, max_size=5), data=st.data())
def test_events_are_the_same_from_either_lane(
    topic: tuple[Schema, list[dict[str, Any]]], damage: list[Callable[[bytes], bytes | None]], data: st.DataObject
) -> None:
    schema, rows = topic
    values = [damage[number](encode_record(schema.parsed, row)) for number, row in enumerate(rows)]
    missing = data.draw(st.sampled_from(MISSING))
    try:
        plan = FeaturePlan(schema, FeatureSettings(missing=missing), {"id", "t"})
    except Exception:  # nothing is left that a model could take
        return
    scalars = [name for name in plan.names if "." not in name]
    carry = data.draw(st.lists(st.sampled_from(scalars), unique=True, max_size=2)) if scalars else []
    settings_ = EventSettings(topic="t", schema="any.avsc", id="id", time="t")
    reader = EventReader(settings_, Payloads("bare", schema, {}), plan, carry)
    assert_same_events(reader, batch_of(values * ROWS_MIN))


# --- framings and writers ---

WRITER = {
    "type": "record",
    "name": "Visit",
    "fields": [
        {"name": "more", "type": "string"},
        {"name": "id", "type": "string"},
        {"name": "x", "type": "double"},
        {"name": "t", "type": TIME},
    ],
}
READER = {**WRITER, "fields": WRITER["fields"][1:]}


@pytest.mark.parametrize("framing", ["confluent", "single-object"])
def test_records_of_two_writers_in_one_batch_keep_their_rows(framing: Any) -> None:
    reader, writer = (load_schema(json.dumps(raw), where="visit.avsc") for raw in (READER, WRITER))
    headers = {
        "confluent": {1: b"\x00\x00\x00\x00\x01", 2: b"\x00\x00\x00\x00\x02"},
        "single-object": {1: single_object_header(reader.fingerprint), 2: single_object_header(writer.fingerprint)},
    }[framing]
    values: list[bytes | None] = []
    for number in range(600):
        row = {"id": f"e{number}", "x": number / 7, "t": NOW_MS, "more": "m"}
        which = 1 if number % 3 else 2
        values.append(encode_record((reader if which == 1 else writer).parsed, row, headers[which]))
    values[10], values[20] = b"\x00\x00\x00\x00\x09" + b"unknown", b"\x07"
    payloads = Payloads(framing, reader, {1: reader, 2: writer} if framing == "confluent" else {}, [writer])
    plan = FeaturePlan(reader, FeatureSettings(), {"id", "t"})
    events = EventReader(EventSettings(topic="t", schema="v.avsc", id="id", time="t"), payloads, plan, ["x"])
    lanes = payloads.decode_many(values)
    assert sorted(len(lane.rows) for lane in lanes) == [200, 398], "both writers are decoded as columns"
    assert_same_events(events, batch_of(values))


@pytest.mark.parametrize("size", [100, 20_000, 200_000])
def test_large_records_are_decoded_a_megabyte_at_a_time_or_64_of_them(size: int) -> None:
    """Of 500 records of 12,000 bytes the copies that decoding makes took 30 MB."""
    reader = load_schema(json.dumps(READER), where="visit.avsc")
    payloads = Payloads("bare", reader, {})
    row = {"x": 1.0, "t": NOW_MS}
    values: list[bytes | None] = [encode_record(reader.parsed, {"id": f"{n:0{size}}", **row}) for n in range(400)]
    lanes = payloads.decode_many(values)
    assert [row for lane in lanes for row in lane.rows] == list(range(400))
    assert all(len(lane.rows) >= ROWS_MIN for lane in lanes)
    most = max(2 * ROWS_MIN, PIECE_BYTES // size + ROWS_MIN)
    assert all(len(lane.rows) <= most for lane in lanes)
    assert len(lanes) == {100: 1, 20_000: 6, 200_000: 6}[size]


def test_large_records_behind_small_ones_are_decoded_a_megabyte_at_a_time() -> None:
    reader = load_schema(json.dumps(READER), where="visit.avsc")
    sizes = [100] * 9_000 + [100_000] * 192
    values: list[bytes | None] = [
        encode_record(reader.parsed, {"id": "i" * size, "x": 1.0, "t": NOW_MS}) for size in sizes
    ]
    found = [sum(sizes[row] for row in lane.rows) for lane in Payloads("bare", reader, {}).decode_many(values)]
    assert sum(found) == sum(sizes)
    assert max(found) < 2 * ROWS_MIN * 100_000 + PIECE_BYTES
    assert len(found) == 4


def test_an_id_out_of_the_key_and_a_time_of_the_record_are_the_same_from_either_lane() -> None:
    schema = load_schema(json.dumps(READER), where="visit.avsc")
    plan = FeaturePlan(schema, FeatureSettings(include=["x"]), set())
    reader = EventReader(EventSettings(topic="t", schema="v.avsc", id="key"), Payloads("bare", schema, {}), plan, [])
    value = encode_record(schema.parsed, {"id": "e", "x": 1.0, "t": 0})
    records = batch_of([value] * 20)
    records.keys[3:7] = [None, b"", b"\xff", b"k" * 2_000]
    records.timestamps_ms[9] = NOW_MS + 10**9
    assert_same_events(reader, records)
    assert len(reader.decode_many(records, NOW_MS).dead_letters) == 5


@pytest.mark.parametrize(("task", "type_"), [("binary", "boolean"), ("binary", "int"), ("regression", "double")])
@LAW
@given(data=st.data())
def test_labels_are_the_same_from_either_lane(task: str, type_: str, data: st.DataObject) -> None:
    of = {"boolean": st.booleans(), "int": st.integers(-1, 2), "double": _DOUBLES}[type_]
    raw = {
        "type": "record",
        "name": "Truth",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "t", "type": TIME},
            {"name": "late", "type": ["null", type_]},
        ],
    }
    schema = load_schema(json.dumps(raw), where="truth.avsc")
    row = st.fixed_dictionaries({"id": _TEXTS, "t": _LONGS, "late": st.one_of(st.none(), of)})
    values = [encode_record(schema.parsed, one) for one in data.draw(st.lists(row, min_size=2, max_size=5))]
    settings_ = Feedback(topic="t", schema="t.avsc", id="id", time="t", label="late", ttl="2d")
    positive = {"positive": 1} if type_ == "int" else {}
    reader = FeedbackReader(settings_, Payloads("bare", schema, {}), domain_of(task, ["null", type_], **positive))
    records = batch_of([*values, b"\x01"] * ROWS_MIN)
    assert list(reader.decode_many(records, NOW_MS)) == [reader.decode_one(record, NOW_MS) for record in records]


def test_zeros_of_either_sign_keep_it_in_a_batch_of_labels() -> None:
    raw = {
        "type": "record",
        "name": "Truth",
        "fields": [{"name": "id", "type": "string"}, {"name": "y", "type": "double"}],
    }
    schema = load_schema(json.dumps(raw), where="truth.avsc")
    settings_ = Feedback(topic="t", schema="t.avsc", id="id", label="y", ttl="2d")
    reader = FeedbackReader(settings_, Payloads("bare", schema, {}), domain_of("regression", "double"))
    values = [encode_record(schema.parsed, {"id": "a", "y": -0.0 if n % 2 else 0.0}) for n in range(2 * ROWS_MIN)]
    signs = [
        math.copysign(1, target.value)
        for target in reader.decode_many(batch_of(values), NOW_MS).targets
        if target.value is not None
    ]
    assert signs == [1.0, -1.0] * ROWS_MIN


# --- what is broken ---


def test_one_broken_record_in_a_hundred_sends_itself_only_to_the_reference() -> None:
    codec = avro_columns(parts().reader.payloads.reader.parsed)
    assert codec is not None
    values = [event_record(n, f"e{n}", T0, n / 3).value or b"" for n in range(1_000)]
    broken = {n: DAMAGE[(2, 3, 7, 9)[n // 100 % 4]](values[n]) or b"" for n in range(50, 1_000, 100)}
    for number, value in broken.items():
        values[number] = value
    values[7] = b"\x06\xff\xfe\xfd" + values[7][6:]  # an id that is no UTF-8
    assert set(range(1_000)) - set(codec.decode(values).rows) == {7, *broken}


@LAW
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=30))
def test_the_scan_passes_over_every_row_that_is_no_record(noise: list[bytes]) -> None:
    schema = parts().reader.payloads.reader
    good = event_record(0, "e", T0).value or b""
    scan = scan_of({"type": "record", "fields": [{"type": "string"}, {"type": "long"}, {"type": "double"}]})
    assert scan is not None
    values = [value for one in noise for value in (one, good)]
    payloads = Payloads("bare", schema, {})
    read = [row for row, value in enumerate(values) if not isinstance(payloads.decode_one(value), Rejected)]
    assert set(read) <= set(scan(values, whole=True)), "what the reference reads is never passed over"
    assert set(range(1, len(values), 2)) <= set(scan(values, whole=True))


def test_types_that_the_library_panics_at_are_never_given_to_it() -> None:
    for type_ in ("bytes", {"type": "fixed", "name": "F", "size": 2}, ["null", "int", "string"], ["null"]):
        raw = {"type": "record", "name": "R", "fields": [{"name": "x", "type": type_}]}
        assert avro_columns(raw) is None
        assert avro_columns({**raw, "fields": [{"name": "a", "type": {"type": "array", "items": type_}}]}) is None


# --- the training log ---


def served(number: int) -> Served:
    """Something else each time."""
    flags = (("cold",), (), ("stale", "imputed"))[number % 3]
    scores = scores_text({"b": 0.25, "a": number / 100}) if number % 4 == 0 else None
    return Served(
        class_name=("x", None)[number % 2],
        score=(None, 0.5)[number % 2],
        scores=scores,
        value=(None, 1e17)[number % 5 == 0],
        lineage="l",
        position=9,
        flags=flags,
        log_partition=number % 3,
        epoch=number * 1_000 % 7_000,
        arm=("", "0123456789abcdef")[number % 2],
    )


@pytest.mark.parametrize("framing", ["bare", "single-object"])
def test_log_entries_are_the_same_bytes_from_either_lane(framing: Any) -> None:
    rows = Rows()
    pairs = []
    for number in range(20):
        waited = pending(number, f"é{number}", T0 + number)._replace(served=served(number))
        target = Target(None, number / 7) if number % 3 else Target("true", None)
        truth = label(number + 5, f"é{number}", T0)._replace(target=target)
        row = rows.append(waited)
        trigger = truth.record if number % 2 else event_record(number, "e", T0)
        pairs.append(Joined(rows, row, waited.value, truth).pair(BY_LABEL, trigger.offset))
    examples = Examples(3, 40, framing, pairs)
    many = encode_examples(examples, written_at_ms=NOW_MS, writer="w")
    assert many == [encode_example(examples.example(n), written_at_ms=NOW_MS, writer="w") for n in range(20)]
    assert decode_entries(many) == [decode_entry(value) for value in many]
    assert [entry.sequence for entry in map(decode_entry, many)] == list(range(40, 60))


@LAW
@given(edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3), cut=st.integers(0, 40))
def test_damaged_log_entries_are_judged_alike_by_either_lane(edits: list[tuple[int, int]], cut: int) -> None:
    good = example(3, served=served(1))
    damaged = bytearray(good[: len(good) - cut] if cut % 2 else good + b"\x00" * cut)
    for place, byte in edits:
        damaged[place % len(damaged)] = byte
    values = [good] * ROWS_MIN + [bytes(damaged)]
    found = decode_entries(values)[-1]
    try:
        assert found == decode_entry(bytes(damaged))
    except ValueError as error:
        assert (type(found), str(found)) == (type(error), str(error))


@pytest.mark.parametrize("number", [0, 1, -1, 63, 64, -64, -65, 2**31, 2**62, -(2**63)])
def test_a_long_is_written_as_fastavro_writes_it(number: int) -> None:
    schema = load_schema('{"type": "record", "name": "L", "fields": [{"name": "n", "type": "long"}]}', where="l")
    assert avro_long(number) == encode_record(schema.parsed, {"n": number})
