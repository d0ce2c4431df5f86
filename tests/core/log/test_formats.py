"""Formats and versions: what stands in front never changes, what this version does not know halts, words pass."""

import json
from typing import Any

import fastavro
import pytest

from stream_ml import formats
from stream_ml.core.avro.record import FORMATS_MAX, LaterFormat, avro_long, encode_record
from stream_ml.core.fold.way_out import OF_LATER_VERSIONS, way_out
from stream_ml.core.log.entry import FORMAT, KINDS, READER, LaterEntry, _encode, decode_entry, encode_command
from stream_ml.core.log.entry_columns import decode_columns, decode_entries
from stream_ml.core.log.heads import Pair, decode_pair, decode_pairs, decode_place
from tests.core.fold.test_foreign_entries import XS, both_ways, changed, examples, halted
from tests.support.partition import NOW_MS, command, example

HEADS = {"log_entry": 11, "prediction": 6, "outcome": 5}
FROZEN = {
    "log_entry": "format int, kind int, source_partition int, sequence long, trigger int, trigger_offset long, "
    "event_id string, event_time long, label_time long, event_offset long, feedback_offset long",
    "prediction": "format int, event_id string, event_time long, event_topic string, event_partition int, "
    "event_offset long",
    "outcome": "format int, feedback_topic string, feedback_partition int, feedback_offset long, event_id string",
}


@pytest.mark.parametrize("name", HEADS)
def test_the_fields_in_front_are_what_they_ever_were(name: str) -> None:
    fields = formats.load(name)["fields"][: HEADS[name]]
    types = [field["type"]["type"] if isinstance(field["type"], dict) else field["type"] for field in fields]
    found = ", ".join(f"{field['name']} {type_}" for field, type_ in zip(fields, types, strict=True))
    assert found == FROZEN[name]


@pytest.mark.parametrize("name", ["log_entry", "prediction", "outcome", "signal"])
def test_a_record_of_ours_is_flat_and_what_names_nothing_has_a_default(name: str) -> None:
    raw = formats.load(name)
    named = HEADS.get(name, 0)
    required = {"lineage", "position", "outcome", "id", "origin", "kind", "subject", "severity", "format"}
    for number, field in enumerate(raw["fields"]):
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
        plain = {one["type"] if isinstance(one, dict) else one for one in branches}
        assert plain <= {"null", "int", "long", "double", "string", "bytes"} and plain != {"null"}, field
        assert "default" in field or number < named or field["name"] in required, field


# --- later formats and kinds ---


def later(value: bytes, *, format_: int = FORMAT + 1) -> bytes:
    """An example of a later format: what stands in front is the same, what comes behind is anything."""
    raw = formats.load("log_entry")
    head = {**raw, "name": "Later", "fields": [*raw["fields"][:11], {"name": "more", "type": "bytes"}]}
    entry = decode_entry(value)
    fields = {field["name"]: 0 for field in raw["fields"][:11]}
    fields |= {"format": format_, "event_id": entry.event_id, "more": b"anything"}  # type: ignore[dict-item]
    fields |= {"sequence": entry.sequence, "trigger": entry.trigger, "trigger_offset": entry.trigger_offset}
    return encode_record(fastavro.parse_schema(head), fields | {"event_offset": 7, "feedback_offset": 8})


@pytest.mark.parametrize("format_", [FORMAT + 1, 7, FORMATS_MAX])
@pytest.mark.parametrize("at", [3, 130])
def test_learning_halts_at_an_entry_of_a_later_format_and_goes_on_counting(at: int, format_: int) -> None:
    values = examples(*XS)
    values[at] = later(values[at], format_=format_)
    replica = both_ways(*values)
    assert halted(replica) == (at, "later_format")
    assert replica.book.seen.next_sequence(0) == len(XS), "what is not learned is seen: the owner's sequence follows"
    assert replica.book.sequences.next_sequence(0) == at


@pytest.mark.parametrize("format_", [0, 1, -1, FORMATS_MAX + 1, 2**31 - 1])
def test_a_number_that_is_no_later_format_is_somebody_elses(format_: int) -> None:
    values = examples(*XS[:5])
    values[3] = later(values[3], format_=format_)
    assert halted(both_ways(*values)) == (3, "not_an_entry")


def test_bytes_that_only_begin_like_a_later_format_are_somebody_elses() -> None:
    assert halted(both_ways(*examples(*XS[:5]), b"\x06hello")) == (5, "not_an_entry")


def test_the_pair_behind_an_example_of_a_later_format_is_read() -> None:
    values = [later(example(number)) for number in range(100)]
    assert decode_pair(values[3]) == Pair(0, 3, 7, 8)
    assert decode_place(values[3]) == (0, 3, 1, 3)
    assert decode_pairs(values) == [Pair(0, number, 7, 8) for number in range(100)]


@pytest.mark.parametrize("kind", [len(KINDS), 77, FORMATS_MAX])
def test_learning_halts_at_a_kind_that_this_version_does_not_know(kind: int) -> None:
    values = examples(*XS)
    values[70] = changed(values[70], kind=kind)
    assert halted(both_ways(*values)) == (70, "unknown_kind")


# --- commands ---


@pytest.mark.parametrize(
    "unknown",
    [
        command("promote"),
        command(""),
        command("freeze", v=2),
        command("freeze", v="1"),
        command("require", reader=READER + 1),
        command("erase", subject="x", offsets=[1]),
    ],
)
def test_a_command_that_nobody_knows_halts(unknown: bytes) -> None:
    values = [*examples(*XS[:70]), unknown, *examples(*XS[70:], first=70)]
    replica = both_ways(*values)
    assert halted(replica) == (70, "unknown_command")
    assert replica.halt is not None and "a later version" in replica.halt.message


def test_a_command_may_say_more_than_this_version_knows() -> None:
    replica = both_ways(*examples(*XS[:3]), command("freeze", by="ann", why="holiday", more={"a": 1}))
    assert (replica.halt, replica.book.facts.frozen) == (None, True)


@pytest.mark.parametrize("reader", [0, 1, READER, "3", None])
def test_a_reader_that_this_version_is_passes(reader: Any) -> None:
    replica = both_ways(*examples(*XS[:70]), command("require", reader=reader), *examples(*XS[70:], first=70))
    assert (replica.halt, replica.only.examples_learned) == (None, len(XS))
    assert not replica.signals_after(-1)


@pytest.mark.parametrize("what", ["kind", "format", "command"])
def test_skip_does_not_pass_what_a_later_version_wrote_but_for_who_says_that_none_did(what: str) -> None:
    values = examples(*XS[:100])
    strange = {"kind": changed(values[70], kind=9), "format": later(values[70]), "command": command("promote")}[what]
    log = [*values[:70], strange, *(values[71:] if what != "command" else values[70:])]
    assert halted(both_ways(*log, command("skip", position=70)))[1] in OF_LATER_VERSIONS
    replica = both_ways(*log, command("skip", position=70), command("skip", position=70, later=True))
    ended = (70, "gap") if what != "command" else None
    assert halted(replica) in (ended, (71, "gap")) if ended else replica.halt is None


def test_who_halts_there_is_told_what_helps() -> None:
    replica = both_ways(*examples(*XS[:5]), command("promote"))
    (signal,) = [one for one in replica.signals_after(-1) if one.kind == "halted"]
    assert signal.suggestion == way_out("unknown_command", 5) and "install the version" in signal.suggestion


# --- many at once ---


def test_what_this_version_does_not_write_is_left_to_the_reference() -> None:
    values = examples(*XS)
    values[5], values[6], values[7] = later(values[5]), changed(values[6], kind=9), changed(values[7], weight=2.0)
    many = decode_columns(values)
    assert sorted(set(range(len(values))).difference(many.rows)) == [5, 6, 7]
    errors = {row: type(found) for row, found in enumerate(decode_entries(values)) if isinstance(found, ValueError)}
    assert errors == {5: LaterEntry, 6: LaterEntry, 7: LaterEntry}
    assert issubclass(LaterEntry, LaterFormat)


@pytest.mark.parametrize("derived", [b"", b"\x00", b"d" * 300])
@pytest.mark.parametrize("event", [b"", b"e", b"e" * 200])
def test_the_tails_are_cut_from_the_end(derived: bytes, event: bytes) -> None:
    of = {"kind": 0, "source_partition": 0, "trigger": 1, "event_id": "e", "written_at": NOW_MS, "writer": "w"}
    tails = {"derived_size": len(derived), "derived": derived, "event_size": len(event), "event": event}
    values = [_encode(**of, sequence=number, **tails) for number in range(70)]
    many = decode_columns(values)
    assert (list(many.rows), set(many.derived), set(many.events)) == (list(range(70)), {derived}, {event})
    assert decode_entries(values) == [decode_entry(value) for value in values]


@pytest.mark.parametrize("wrong", [{"event_size": 4}, {"event_size": 6}, {"derived_size": 1}, {"derived_size": -1}])
def test_a_tail_of_another_size_than_it_says_is_left_to_the_reference(wrong: dict[str, int]) -> None:
    of = {"kind": 0, "source_partition": 0, "trigger": 1, "event_id": "e", "written_at": NOW_MS, "writer": "w"}
    tails = {"derived_size": 0, "derived": b"", "event_size": 5, "event": b"event"}
    values = [_encode(**of, sequence=number, **tails) for number in range(70)]
    values[9] = _encode(**of, sequence=9, **(tails | wrong))
    assert 9 not in decode_columns(values).rows


def test_arguments_are_canonical_json_with_their_version() -> None:
    entry = decode_entry(encode_command("skip", {"why": "ü", "position": 3}, written_at_ms=NOW_MS, writer="ann"))
    assert entry.arguments == '{"position":3,"v":1,"why":"\\u00fc"}'
    assert json.loads(entry.arguments) == entry.parsed_arguments()


def forged(event_size: int, tail: bytes) -> bytes:
    """An example whose last bytes are these, whatever it says of them."""
    value = example(100)
    event = decode_entry(value).event
    begin = len(value) - len(event) - len(avro_long(len(event)))
    prefix = value[: begin - 1 - len(avro_long(len(event)))]  # up to the size of the event
    return prefix + avro_long(event_size) + tail


def test_a_size_that_no_entry_can_have_is_refused_by_the_fast_path_as_by_the_reference() -> None:
    """Python counts a negative place from the end: with the right size the bytes in between are the right ones."""
    found = []
    for size in (*range(-3, 3), *range(100, 1_200)):
        spelt = b"\0" + avro_long(size)
        found += [forged(size, tail) for tail in (spelt, b"\0\1", spelt + b"xx", spelt + b"x" * 60)]
    for first in range(0, len(found), 63):
        values = [*(example(number) for number in range(70)), *found[first : first + 63]]
        entries = decode_entries(values)
        for value, entry in zip(values, entries, strict=True):
            try:
                assert entry == decode_entry(value)
            except ValueError:
                assert isinstance(entry, ValueError)


@pytest.mark.parametrize("name", ["weight", "key_id"])
def test_a_reserved_field_that_is_used_is_a_later_versions(name: str) -> None:
    values = examples(*XS)
    values[70] = changed(values[70], **{name: {"weight": 2.0, "key_id": "k"}[name]})
    assert halted(both_ways(*values)) == (70, "later_format")


@pytest.mark.parametrize("kind", ["start", "genesis", "schema"])
@pytest.mark.parametrize("version", [2, 10**30, "1", None])
def test_arguments_of_a_later_version_halt_whatever_the_kind(kind: str, version: Any) -> None:
    arguments = {"v": version, "log_id": "1" * 32, "hash_key": "2" * 32, "events": 0, "feedback": 0}
    arguments |= {"topic": "t", "fingerprint": 1, "schema": '"string"'}
    entry = _encode(
        kind=KINDS.index(kind), source_partition=1, arguments=json.dumps(arguments), written_at=NOW_MS, writer="w"
    )
    replica = both_ways(*examples(*XS[:5]), entry)
    assert halted(replica) == (5, "unknown_command")
    assert replica.halt is not None and len(replica.halt.message) < 400


def test_what_a_halt_says_of_a_command_has_a_bound() -> None:
    replica = both_ways(*examples(*XS[:5]), command("freeze", v="x" * 100_000))
    assert replica.halt is not None and len(replica.halt.message) < 400


def test_an_example_without_a_trigger_is_none() -> None:
    values = examples(*XS)
    values[70] = changed(values[70], trigger=-1)
    assert halted(both_ways(*values)) == (70, "not_an_entry")


@pytest.mark.parametrize("time", [2**62, -(2**63)])
def test_the_pair_of_a_later_entry_is_read_whatever_its_time(time: int) -> None:
    raw = formats.load("log_entry")
    plain = [{**field, "type": "long"} if "time" in field["name"] else field for field in raw["fields"][:11]]
    head = {**raw, "name": "Later", "fields": [*plain, {"name": "more", "type": "bytes"}]}
    values = {field["name"]: 0 for field in raw["fields"][:11]}
    values |= {"format": FORMAT + 1, "event_id": "e", "more": b"", "event_time": time}  # type: ignore[dict-item]
    value = encode_record(fastavro.parse_schema(head), values)
    assert decode_pair(value) == Pair(0, 0, 0, 0)
    assert decode_pairs([value] * 100) == [Pair(0, 0, 0, 0)] * 100
