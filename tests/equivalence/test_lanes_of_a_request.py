"""A request is read the same in either lane, and as the worker would read the event; no body whatever is a surprise."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from stream_ml import config
from stream_ml.core.api import problems
from stream_ml.core.api.bodies import document
from stream_ml.core.api.door import Door, Instance
from stream_ml.core.avro.framing import Payloads
from stream_ml.core.avro.schema import load_schema
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.inputs.readers import EventReader
from stream_ml.core.inputs.rows import RowEncoder
from stream_ml.core.partition.outputs import REASONS
from stream_ml.records import DeadLetter, Record
from tests.equivalence.edges import DAY_MS, UUID, logical
from tests.support.inputs import NOW_MS

MOST = 3  # instances in one request
LAW = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
RARELY, SOMETIMES = st.sampled_from([False] * 15 + [True]), st.sampled_from([False, False, True])
Values = st.SearchStrategy[Any]

# --- JSON as text, for what no value of Python's says ---


class Raw(str):
    """JSON that is written as it stands."""


def text_of(value: Any) -> str:
    """A value as JSON; half of a character becomes an escape."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{text_of(one)}" for name, one in value.items()) + "}"
    return f"[{','.join(map(text_of, value))}]" if isinstance(value, list) else json.dumps(value)


def body_of(value: Any) -> bytes:
    return text_of(value).encode()


def _some(*values: Any) -> Values:
    return st.sampled_from(values)


ODD = st.one_of(
    _some(None, True, 0, 1.0, -1.0, 1.5, 1e39, 2**31, 2**63, -(2**63) - 1, 2**53 + 1, 10**18 + 1, [], {}, [1]),
    _some("1", "1.0", "nan", "inf", "-inf", "NaN", "", "A", "true", "null", "\x00", "x" * 1_025, UUID, "AA==", "ü"),
    _some("\ud800", "a\udc00b", {"\ud800": 1}, ["\udfff"], {"key": "\ud800"}, {"": 0}, {"int": 3}, {"a": {}}),
    _some(Raw("1e400"), Raw("-1e999999999"), Raw("NaN"), Raw("-Infinity"), Raw("-0"), Raw("9" * 400), Raw("9" * 5_000)),
    _some(Raw("[" * 70 + "]" * 70), Raw("[" * 3_000), Raw('{"a":1,"a":2}'), Raw("1E2"), Raw("9007199254740993.0")),
    _some("2026-01-31", "2026-01-31T12:30:00Z", "12:30:00", "9999-12-31T23:59:59Z", "2026-13-01", "24:00", "\u0663"),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
        max_leaves=4,
    ),
)

# --- fields, and values of them ---


class Kind(NamedTuple):
    """A type, values of it as JSON, and one as a default; a type that needs a name has an empty one."""

    type_: Any
    values: Values
    default: Any

    def named(self, name: str) -> Any:
        return self.type_ | {"name": f"T_{name}"} if "name" in self.type_ else self.type_


_MOMENTS = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat()),
    _some("2026-01-31", "2026-01-31T12:30:00Z", "20260131T123000.5+0530", "2026-W05-6", "0001-01-01T00:00+23:59"),
    _some("2023-11-15T22:13:20.000999Z", "1969-12-31T23:59:59.9999995", "2023-11-14 22:13:20,123456", "9999-12-31"),
)
_CLOCKS = st.one_of(st.times().map(lambda time: time.isoformat()), _some("12:30", "T23:59:59.9999Z", "000000+01:00"))
_INTS = st.one_of(st.integers(-(2**31), 2**31 - 1), _some(0, -1, 2**31 - 1, -(2**31)))
_LONGS = st.one_of(_INTS, st.integers(-(10**18), 10**18), _some(10**18, 10**18 + 1, 2**53 + 1, 2**63 - 1, -(2**63)))
_FLOATS = st.one_of(
    st.floats(-1e18, 1e18),
    st.decimals(-(10**18), 10**18).map(lambda number: Raw(f"{number:e}")),
    _some(0.1, 1, -0.0, Raw("-0"), Raw("-0e5"), Raw("1E+2"), 1e18, 3.4028235e38, 5e-324, 16_777_217, 2**53 + 1, 1e-7),
    _some(Raw("0." + "0" * 400 + "1e400"), Raw("1.00000000000000011102230246251565404236316680908203126")),
)
_DOUBLES = st.one_of(_FLOATS, st.integers(-(2**70), 2**70), st.floats(-1e308, 1e308))
_TEXTS = st.one_of(st.text(max_size=8), _some("", "a", "\x00", "x" * 1_025, Raw('"\\u00fc\\/\\ud835\\udcb3\\b"')))
_UUIDS = st.uuids().map(str)
_UUID_TEXTS = st.one_of(_UUIDS, _some(UUID, UUID.upper(), "{" + UUID + "}", "urn:uuid:" + UUID, "x"))
_DECIMALS = _some("1.50", "-0", 3, 0.25, Raw("1e6"), "1234567.89", "1e400", "sNaN")
_MAPS = st.dictionaries(st.text(max_size=3), st.one_of(st.none(), _FLOATS), max_size=3)
_MANY = ["null", "float", "long", {"type": "array", "items": "string"}]


def _times(unit: int) -> Values:
    edges = [NOW_MS + DAY_MS, NOW_MS + DAY_MS + 1, -62_135_596_800_000, -62_135_596_800_001]
    near = _some(NOW_MS * unit, 0, -1, unit, "2023-11-14T22:13:20Z")
    return st.one_of(near, near, _some(*(ms * unit for ms in edges if abs(ms * unit) < 2**63)), _LONGS, _MOMENTS)


PLAIN = {
    "boolean": Kind("boolean", st.booleans(), True),
    "int": Kind("int", _INTS, 3),
    "long": Kind("long", _LONGS, -4),
    "float": Kind("float", _FLOATS, 0.1),
    "double": Kind("double", _DOUBLES, 1),
    "string": Kind("string", _TEXTS, "d"),
    "enum": Kind({"type": "enum", "name": "", "symbols": ["A", "B", "x"]}, _some("A", "B"), "x"),
    "uuid": Kind(logical("string", "uuid"), _UUID_TEXTS, UUID),
    "date": Kind(logical("int", "date"), st.one_of(_some(0, "2023-11-14"), st.dates().map(str), _INTS), 7),
    "time-millis": Kind(logical("int", "time-millis"), st.one_of(_INTS, _CLOCKS), 0),
    "time-micros": Kind(logical("long", "time-micros"), st.one_of(_LONGS, _CLOCKS), 0),
    "millis": Kind(logical("long", "timestamp-millis"), _times(1), 1_000),
    "micros": Kind(logical("long", "timestamp-micros"), _times(1_000), 0),
    "nanos": Kind(logical("long", "timestamp-nanos"), _times(1_000_000), 0),
}
ALL = PLAIN | {
    "decimal": Kind(logical("bytes", "decimal") | {"precision": 9, "scale": 2}, _DECIMALS, "\x01"),
    "bytes": Kind("bytes", _some("", "AA==", "AAE=", "?"), "\xff"),
    "fixed": Kind({"type": "fixed", "name": "", "size": 2}, _some("AAE=", "AAA="), "ab"),
    "array": Kind({"type": "array", "items": "long"}, st.lists(_LONGS, max_size=3), []),
    "map": Kind({"type": "map", "values": ["null", "double"]}, _MAPS, {}),
    "union": Kind(["int", "string", "null"], st.one_of(_INTS, _TEXTS, st.none()), 5),
    "many": Kind(_MANY, st.one_of(_LONGS, _FLOATS, _some(["A"], {"long": 3}, {"float": 0.1}, {"array": ["A"]})), None),
    "date on a long": Kind(logical("long", "date"), _LONGS, 0),
}
PLACED = {
    "id": ("string", "string", "uuid", "enum", "int", "long"),
    "t": ("millis", "micros", "nanos", "date"),
}
GOOD_IDS = {"string": st.one_of(_UUIDS, _some("e", "ü", "x" * 1_024)), "uuid": _UUIDS}
NAMES = ("a", "ab", "f0", "f1", "class", "key", "record", "instances", "__dict__", "None")


class Spec(NamedTuple):
    """A field, and values of it: wild ones are often wrong."""

    name: str
    field: dict[str, Any]
    values: Callable[[bool], Values]


@st.composite
def specs(draw: st.DrawFn, name: str, kind: str) -> Spec:
    """A field of this kind; nullable or not, with a default or without."""
    made, form, default = ALL[kind].named(name), draw(_some("plain", "plain", "null", "null last")), ALL[kind].default
    values = GOOD_IDS.get(kind, ALL[kind].values) if name == "id" else ALL[kind].values
    if not isinstance(made, list) and form != "plain":
        values = st.one_of(*[values] * 7, st.none())
        made, default = (["null", made], None) if form == "null" else ([made, "null"], default)
    extra = {"default": default} if draw(SOMETIMES) else {}
    return Spec(name, {"name": name, "type": made, **extra}, lambda _: values)


@st.composite
def rows(draw: st.DrawFn, fields: Sequence[Spec], wild: bool, may_miss: Sequence[str] = ()) -> Any:
    """A record of these fields; a wild one is often wrong somewhere."""
    found = {}
    gone = draw(st.lists(st.sampled_from(may_miss), unique=True)) if may_miss and draw(SOMETIMES) else []
    for spec in fields:
        if spec.name not in gone and not (wild and draw(RARELY) and draw(SOMETIMES)):
            found[spec.name] = draw(ODD if wild and draw(RARELY) else spec.values(wild))
    if wild and draw(RARELY):
        found[draw(_some("nope", "a.b", "a[1]", "a/b", "", "\ud800", *NAMES))] = draw(ODD)
    if found and wild and draw(RARELY):
        twice = draw(st.sampled_from(list(found)))
        return Raw("{" + f"{json.dumps(twice)}:{text_of(draw(ODD))}," + text_of(found)[1:])
    return found


class Topic(NamedTuple):
    """Who reads a topic, and what its events look like: all fields by path, and those that are in none."""

    reader: EventReader
    source: config.Events
    door: Door
    specs: dict[str, Spec]
    fields: Sequence[Spec]

    def __repr__(self) -> str:
        return f"{self.source}, {self.reader.plan.resolved}, {self.reader.payloads.reader.text}"

    def rows(self, *, wild: bool, whole: bool = False) -> Values:
        """Instances, which may leave out some fields unless they are whole; wild ones are often wrong."""
        may_miss = {*self.door.may_miss, *(spec.name for spec in self.fields if "default" in spec.field)}
        keys = _some("k", "ü", *(["", "k" * 1_025, "\ud800", 1, None] if wild else []))
        key = [] if "key" in self.specs or self.source.id != "key" else [Spec("key", {}, lambda _: keys)]
        return rows([*self.fields, *key], wild, () if whole else sorted(may_miss))


def topic_of(fields: Sequence[Spec], inner: list[Spec], source: dict[str, Any], features: dict[str, Any]) -> Topic:
    """A topic of these fields; `inner` are those of one that is called meta."""
    raw = {"type": "record", "name": "R", "fields": [spec.field for spec in fields]}
    schema = load_schema(json.dumps(raw), where="r.avsc")
    ids = {5: schema} if source.get("framing") == "confluent" else {}
    events = config.Events(topic="t", schema="r.avsc", schema_ids=dict.fromkeys(ids, "r.avsc"), **source)
    plan = FeaturePlan(schema, config.Features(**features), {events.id, events.time})
    reader = EventReader(events, Payloads(events.framing, schema, ids), plan, [])
    paths = {spec.name: spec for spec in fields} | {f"meta.{spec.name}": spec for spec in inner}
    return Topic(reader, events, Door(reader, events, MOST, rows_min=1), paths, fields)


@st.composite
def topics(draw: st.DrawFn) -> Topic:
    """Any topic; most have a fast lane."""
    kinds = [*PLAIN, *(PLAIN if draw(st.booleans()) else ALL)]
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 5))]
    fields = [draw(specs(name, draw(st.sampled_from(kinds)))) for name in names]
    inner = [draw(specs(f"b{n}", draw(st.sampled_from(kinds)))) for n in range(draw(st.integers(0, 2)))]
    source = {"framing": draw(_some("bare", "confluent", "single-object")), "id": "key", "time": "record"}
    for member, name in (("id", "id"), ("time", "t")):
        where = draw(_some("", name, name, f"meta.{name}"))
        if where:
            source[member] = where
            (fields if where == name else inner).append(draw(specs(name, draw(_some(*PLACED[name])))))
    fields.append(draw(specs("x", "double")))
    if inner:
        record: Any = {"type": "record", "name": "Meta", "fields": [spec.field for spec in inner]}
        may_be_null, default = draw(_some((False, {}), (True, {}), (True, {"default": None})))
        field = {"name": "meta", "type": ["null", record] if may_be_null else record, **default}
        null = [st.none()] * may_be_null
        fields.append(Spec("meta", field, lambda wild: st.one_of(*[rows(inner, wild)] * 4, *null)))
    bounds = draw(_some({}, {}, {"default": {"min": -(2.0**60), "max": 2.0**53, "length": 1_024}}))
    features = {"missing": draw(_some({}, {"default": "drop"}, {"default": {"impute": 1.5}})), "bounds": bounds}
    features["exclude"] = draw(st.lists(st.sampled_from(names), unique=True, max_size=3))
    return topic_of(draw(st.permutations(fields)), inner, source, features)


# --- what is compared ---


def told(one: Instance | Sequence[problems.Fault]) -> Any:
    """An instance to the bit, or where and why it cannot be used."""
    if not isinstance(one, Instance):
        assert all(fault.code in REASONS and fault.pointer[:1] in ("", "/") for fault in one), one
        return [(fault.pointer, fault.code) for fault in one]
    features = [(name, type(v), v.hex() if isinstance(v, float) else v) for name, v in one.features.items()]
    return features, one.imputed, one.event_id, one.time_ms


def outcome(ask: Callable[[], Any]) -> Any:
    """What is asked for; or the problem, which can be sent back."""
    try:
        asked = ask()
    except problems.Problem as problem:
        assert msgspec.json.encode(problem.document("r")) and problem.kind in problems.KINDS
        return problem.kind, told(problem.faults)
    return [told(one) for one in asked.instances], asked.partial, asked.record, asked.by_place


def is_json(body: bytes) -> bool:
    """Whether it can be read as JSON, its numbers are no words, and its texts no halves of characters."""
    try:
        document(body)
        value = json.loads(body, object_pairs_hook=list, parse_constant=lambda word: word + "\ud800")
        return bool(json.dumps(value, ensure_ascii=False).encode())
    except (ValueError, problems.Problem):
        return False


def assert_same(door: Door, body: bytes) -> Any:
    """Either lane says the same of a body; what is called no JSON is none."""
    found = outcome(lambda: door.read(body, NOW_MS))
    if found[0] == "not-json":
        assert not is_json(body)
    else:
        said = document(body)
        assert found == outcome(lambda: door.judge(said, NOW_MS))
        if isinstance(said, dict) and isinstance(said.get("instances"), list):
            rows = said["instances"]
            assert outcome(lambda: door.of_values(rows, NOW_MS)) == outcome(lambda: door.asked(rows, NOW_MS))
    return found


@st.composite
def bodies(draw: st.DrawFn, topic: Topic) -> bytes:
    """Mostly requests; now and then of another form."""
    said: Any = {"instances": draw(st.lists(topic.rows(wild=draw(st.booleans())), min_size=1, max_size=2))}
    if draw(SOMETIMES):
        on_error, record = _some("fail", "partial", "partial", "partial", "x", None, []), _some(True, None, False, 1)
        said |= {"on_error": draw(on_error), "record": draw(record)}
    if draw(RARELY):
        said[draw(st.one_of(_some("features", "a.b", "", "\ud800"), st.text(max_size=3)))] = draw(ODD)
    if draw(RARELY):
        said["instances"] = draw(st.one_of(_some([], said["instances"] * (MOST + 1)), ODD))
        said["on_error"] = draw(_some("partial", "x"))
    return body_of(said)


@settings(LAW, max_examples=550)
@given(data=st.data())
def test_a_request_is_read_as_the_reference_judges_it(data: st.DataObject) -> None:
    topic = data.draw(topics())
    assert_same(topic.door, data.draw(bodies(topic)))


HARD: list[tuple[dict[str, Any], dict[str, str], dict[str, Any]]] = [
    ({"name": "y", "type": "string", "default": "d"}, {"id": "y"}, {}),
    ({"name": "y", "type": PLAIN["date"].type_}, {"time": "y"}, {}),
    ({"name": "y", "type": PLAIN["nanos"].type_}, {}, {"y": "9999-12-31"}),
    ({"name": "y", "type": "bytes"}, {}, {"y": "", "key": "\ud800"}),
    ({"name": "y", "type": "bytes"}, {}, {"y": "", "\ud800": 1}),
]


@pytest.mark.parametrize(("field", "source", "row"), HARD)
def test_what_is_hard_to_hit_is_read_as_the_reference_judges_it(field: Any, source: Any, row: dict[str, Any]) -> None:
    fields = [Spec(one["name"], one, lambda _: st.none()) for one in ({"name": "x", "type": "double"}, field)]
    topic = topic_of(fields, [], {"id": "key", "time": "record"} | source, {"include": ["x"]})
    for more in ({}, {"on_error": "x"}, {"on_error": "x", "instances": []}):
        assert_same(topic.door, body_of({"instances": [{"x": 1} | row]} | more))


class Alone(Door):
    """A door whose reference is not to be asked."""

    def judge(self, said: Any, now_ms: int) -> Any:
        raise LookupError(said)


@settings(LAW, max_examples=250)
@given(data=st.data())
def test_an_instance_is_read_as_the_worker_reads_the_event(data: st.DataObject) -> None:
    """One of plain fields without the reference: so there are two lanes where they are compared."""
    topic = data.draw(topics())
    assume(topic.source.id != "key" or "key" not in topic.specs)
    body = body_of({"instances": [data.draw(topic.rows(wild=False, whole=True))]})
    found = outcome(lambda: topic.door.read(body, NOW_MS))
    (row,) = json.loads(body)["instances"]
    try:
        key, value = RowEncoder(topic.source, topic.reader.payloads, "events").encode(row)
    except ValueError:
        assert (found[0], {code for _, code in found[1]}) == ("not-of-schema", {"schema_mismatch"})
        return
    event = topic.reader.decode_one(Record("t", 0, 0, NOW_MS, key, value), NOW_MS)
    if isinstance(event, DeadLetter):
        assert (found[0], [code for _, code in found[1]]) == ("not-of-schema", [event.reason])
    else:
        expected = told(Instance(event.features, event.imputed, event.event_id, event.time_ms))
        assert found == ([expected], False, None, False)
        if topic.door.has_fast_lane:
            assert found == outcome(lambda: Alone(topic.reader, topic.source, MOST).read(body, NOW_MS))


@settings(LAW, max_examples=250)
@given(data=st.data())
def test_features_by_place_are_read_as_those_with_names(data: st.DataObject) -> None:
    topic = data.draw(topics())
    names = topic.reader.plan.names
    values = [data.draw(ODD if data.draw(RARELY) else topic.specs[name].values(False)) for name in names]
    named: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        outer, _, last = name.rpartition(".")
        (named.setdefault(outer, {}) if outer else named)[last] = value
    body = body_of({"instances": [named]})
    one = outcome(lambda: topic.door.read(body, NOW_MS))
    for form in [[values], values] if text_of(values[0])[0] != "[" else [[values]]:
        other = outcome(lambda form=form: topic.door.read(body_of({"features": form}), NOW_MS))
        if one[0] == "not-json":
            assert not is_json(body)
        elif one[0] == "not-of-schema":
            assert (other[0], [code for _, code in other[1]]) == (one[0], [code for _, code in one[1]])
        else:
            assert other == (*one[:3], True)


TOKENS = [*'{}[],:"\\ \n', '{"instances":[{', "}]}", '"instances":', '"features":', *(f'"{name}":' for name in NAMES)]
TOKENS += ['"x":1', '"key":"k"', '"\\ud800"', "\\u00", "\x00", "\ufeff", "null", "[]", "0", "-", "1e999", ".5", "NaN"]


def _damaged(body: bytes, where: float, other: bytes, length: int) -> bytes:
    at = int(len(body) * where)
    return body[:at] + other + body[at + length :]


@settings(LAW, max_examples=400)
@given(data=st.data())
def test_any_bytes_are_an_answer_or_a_problem(data: st.DataObject) -> None:
    topic = data.draw(topics())
    tokens = st.lists(st.sampled_from(TOKENS), max_size=25).map(lambda some: "".join(some).encode())
    members = st.dictionaries(_some("instances", "features", "on_error"), st.one_of(ODD, st.lists(ODD, max_size=3)))
    damaged = st.builds(_damaged, bodies(topic), st.floats(0, 1), st.binary(max_size=3), st.integers(0, 3))
    any_body = st.one_of(st.binary(max_size=60), tokens, st.one_of(ODD, members).map(body_of), damaged)
    assert_same(topic.door, data.draw(any_body))
