"""Entries that no worker of this app has written: false schemas, partitions that never started. Learning halts there.

Each log is folded at once and one by one: both must come to the same.
"""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from stream_ml import formats
from stream_ml.app.assemble import assemble
from stream_ml.app.parts import Parts
from stream_ml.config import Config
from stream_ml.core.avro.record import encode_record
from stream_ml.core.avro.schema import Schema, load_schema
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.entry import KINDS as KIND_NAMES
from stream_ml.core.log.entry import _encode, decode_entry, encode_schema, encode_start
from stream_ml.records import LogRecord
from tests.core.fold.test_fold import Driver, examples, facts, features, fold
from tests.support.partition import EVENT, FEEDBACK, LINEAGE, NOW_MS, T0, command, example, fold_settings, log_of, parts

_NAME, _TIME, _X = EVENT["fields"]
FALSE = {**EVENT, "fields": [_NAME, _TIME, {"name": "y", "type": "double"}]}  # the same bytes, x under another name
WIDER = {**EVENT, "fields": [_NAME, _TIME, _X, {"name": "z", "type": "double"}]}
MICROS = {**EVENT, "fields": [_NAME, {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}}, _X]}
XS = [float(number * 37 % 11 - 5) for number in range(140)]


def loaded(schema: dict[str, Any]) -> Schema:
    return load_schema(json.dumps(schema), where="test")


READER = parts().reader.payloads.reader.fingerprint


def entry(fingerprint: int, schema: dict[str, Any]) -> bytes:
    """An entry of kind schema, true or not."""
    return encode_schema(fingerprint, loaded(schema).text, written_at_ms=NOW_MS, writer="w")


def start(partition: int) -> bytes:
    """An entry of kind start."""
    return encode_start(partition, 0, 0, written_at_ms=NOW_MS, writer="w")


def wider_event(number: int) -> bytes:
    values = {"id": f"e{number}", "t": T0, "x": XS[number], "z": 1e6}
    return encode_record(fastavro.parse_schema(WIDER), values)


def both_ways(*values: bytes) -> Replica:
    """The replica that folded these at once; one that folded them one by one has the same bits."""
    log = log_of(values)
    at_once, singly = Driver(log, fold_settings).run(1_000), Driver(log, fold_settings).run(1)
    assert facts(at_once) == facts(singly)
    return at_once


def halted(replica: Replica) -> tuple[int, str] | None:
    return None if replica.halt is None else (replica.halt.position, replica.halt.reason)


# --- schemas ---


@pytest.mark.parametrize("at", [0, 1, 70, 139])
def test_a_schema_entry_whose_text_has_another_fingerprint_halts(at: int) -> None:
    values = examples(*XS)
    values.insert(at, entry(READER, FALSE))
    replica = both_ways(*values)
    assert halted(replica) == (at, "not_an_entry")
    assert features(replica) == features(fold(*values[:at]))


def test_a_false_text_for_a_fingerprint_that_nobody_knows_halts_too() -> None:
    replica = both_ways(entry(12345, FALSE), *examples(*XS))
    assert halted(replica) == (0, "not_an_entry")
    assert 12345 not in replica.book.facts.schemas


def test_skip_passes_a_false_schema_and_what_follows_is_read_as_if_it_were_not_there() -> None:
    values = examples(*XS)
    replica = both_ways(*values[:70], entry(READER, FALSE), *values[70:], command("skip", position=70))
    assert (replica.halt, replica.only.examples_learned, replica.only.unusable) == (None, 140, 0)
    assert features(replica) == features(fold(*values))


def test_a_false_schema_met_while_halted_changes_nothing() -> None:
    gap = example(5, 1.0, trigger=(FEEDBACK, 5))
    rest = [example(6 + number, x, x > 0) for number, x in enumerate(XS)]
    log = [gap, entry(READER, FALSE), entry(77, FALSE), *rest]
    replica = both_ways(*log, *(command(name, position=at) for name, at in (("accept-gap", 0), ("skip", 1))))
    assert halted(replica) == (2, "not_an_entry")
    replica = both_ways(
        *log, *(command(name, position=at) for name, at in (("accept-gap", 0), ("skip", 1), ("skip", 2)))
    )
    assert (replica.halt, replica.only.examples_learned, replica.only.unusable) == (None, 141, 0)
    assert 77 not in replica.book.facts.schemas


def test_of_two_texts_with_one_fingerprint_the_first_stays() -> None:
    assert loaded(MICROS).fingerprint == loaded(EVENT).fingerprint
    replica = both_ways(entry(READER, EVENT), *examples(*XS[:70]), entry(READER, MICROS))
    assert (replica.halt, replica.book.facts.schemas[READER]) == (None, loaded(EVENT).text)


def test_the_text_of_a_checkpoint_stays_too() -> None:
    first = fold(entry(READER, EVENT), *examples(*XS[:70]))
    again = Replica(fold_settings())
    again.restore(first.state())
    again.fold([LogRecord(71, entry(READER, MICROS))])
    assert again.book.facts.schemas[READER] == loaded(EVENT).text


# --- arguments ---


def said(arguments: str, **of: Any) -> bytes:
    """An entry with these arguments, whatever they are."""
    of["kind"] = KIND_NAMES.index(of["kind"])
    return _encode(**of, arguments=arguments, written_at=NOW_MS, writer="w")


DEEP = ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 900 + "1" + "}" * 900]
KINDS: list[dict[str, Any]] = [
    {"kind": "start", "source_partition": 3},
    {"kind": "command", "command": "rebase"},
    {"kind": "command", "command": "skip"},
    {"kind": "schema", "event_schema": 5},
    {"kind": "schema"},
]


@pytest.mark.parametrize("arguments", DEEP, ids=["open", "closed", "objects"])
@pytest.mark.parametrize("of", KINDS, ids=lambda of: "-".join(map(str, of.values())))
def test_arguments_that_nest_without_end_halt_and_do_not_end_the_worker(of: dict[str, Any], arguments: str) -> None:
    replica = both_ways(*examples(*XS[:70]), said(arguments, **of), *examples(*XS[70:], first=70))
    assert halted(replica) == (70, "not_an_entry")


@pytest.mark.parametrize("arguments", DEEP, ids=["open", "closed", "objects"])
def test_arguments_that_nest_without_end_pass_a_halted_replica(arguments: str) -> None:
    log = [example(5, 1.0, trigger=(FEEDBACK, 5)), *(said(arguments, **of) for of in KINDS)]
    assert halted(both_ways(*log)) == (0, "gap")


@pytest.mark.parametrize("offset", ["-1", "1.5", "true", '"3"', "[1]", str(2**63), "1e400"])
def test_a_start_at_what_is_no_offset_halts(offset: str) -> None:
    entry_ = said(f'{{"events": {offset}, "feedback": 0, "partitions": 4}}', kind="start", source_partition=3)
    replica = both_ways(*examples(*XS[:5]), entry_)
    assert (halted(replica), 3 in replica.book.facts.started) == ((5, "not_an_entry"), False)


def test_of_a_start_nothing_is_kept_but_where_it_is() -> None:
    text = json.dumps({"events": 1, "feedback": 2, "partitions": 4, "more": "x" * 10_000})
    replica = both_ways(said(text, kind="start", source_partition=3))
    assert replica.book.facts.started[3] == {"events": 1, "feedback": 2, "partitions": 4, "backlog_end": 0}


def _confluent(folder: Path, **writers: dict[str, Any]) -> Parts:
    """The app whose configuration lists these writer schemas, by id."""
    folder.mkdir()
    truth = {"id": "string", "t": _TIME["type"], "y": "boolean"}
    label = {"type": "record", "name": "T", "fields": [{"name": n, "type": t} for n, t in truth.items()]}
    files = {"visit": EVENT, "truth": label, **writers}
    for name, schema in files.items():
        (folder / f"{name}.avsc").write_text(json.dumps(schema), "utf-8")
    ids = {number: folder / f"{name}.avsc" for number, name in enumerate(["visit", *writers], 1)}
    time = {"id": "id", "time": "t"}
    return assemble(
        Config(
            app={"id": "app"},
            kafka={"bootstrap_servers": "unused:9092"},
            events={"topic": "v", "schema": folder / "visit.avsc", "framing": "confluent", "schema_ids": ids, **time},
            feedback={"topic": "f", "schema": folder / "truth.avsc", "label": "y", "ttl": "1h", **time},
            predictions={"topic": "p"},
            model={"factory": "river.linear_model:LogisticRegression", "task": "binary"},
        )
    )


def test_what_is_learned_depends_on_the_schemas_in_the_log_not_on_those_in_the_configuration(tmp_path: Path) -> None:
    one, other = _confluent(tmp_path / "one"), _confluent(tmp_path / "other", wider=WIDER)
    assert one.lineage("t") == other.lineage("t")
    wider = loaded(WIDER).fingerprint
    log = log_of([example(number, event=wider_event(number), schema=wider) for number in range(100)])

    def replica(using: FoldSettings) -> Replica:
        found = Replica(using)
        found.fold(log)
        return found

    assert facts(replica(other.fold_settings(LINEAGE))) == facts(replica(one.fold_settings(LINEAGE)))


# --- source partitions ---


@pytest.mark.parametrize("partition", [1, 7, -1, 2**31 - 1])
@pytest.mark.parametrize("at", [1, 70, 140])
def test_an_example_of_a_partition_that_never_started_halts(partition: int, at: int) -> None:
    values = [start(0), *examples(*XS)]
    values.insert(at, example(0, 5.0, partition=partition))
    replica = both_ways(*values)
    assert halted(replica) == (at, "not_an_entry")
    assert replica.only.examples_learned == at - 1


def test_skip_passes_one_of_them_and_the_next_halts_again() -> None:
    strange = [example(number, 5.0, partition=7) for number in range(100)]
    replica = both_ways(start(0), *examples(*XS[:70]), *strange, command("skip", position=71))
    assert halted(replica) == (72, "not_an_entry")
    assert replica.book.sequences.next_sequence(7) == 0


def test_a_partition_that_is_added_later_starts_and_its_examples_are_learned() -> None:
    added = [example(number, 5.0, partition=4) for number in range(100)]
    replica = both_ways(start(0), *examples(*XS[:70]), start(4), *added)
    assert (replica.halt, replica.only.examples_learned) == (None, 170)
    assert halted(both_ways(start(0), *added, start(4))) == (1, "not_an_entry")


def test_a_start_of_a_negative_partition_halts() -> None:
    assert halted(both_ways(start(0), start(-1), *examples(*XS))) == (1, "not_an_entry")


def test_a_rebase_starts_no_partition() -> None:
    """The sequences knows the partition by then, so the run takes its examples where one alone halts."""
    strange = [example(number, 5.0, partition=7) for number in range(100)]
    replica = both_ways(start(0), *examples(*XS), command("rebase", partition=7), *strange)
    assert halted(replica) == (142, "not_an_entry")


# --- sizes ---


LARGE: list[dict[str, Any]] = [
    {"source_partition": 1_000_000},
    {"source_partition": 2**31 - 1},
    {"source_partition": -2},
    {"event_id": "e" * 4_097},
    {"event_id": "ä" * 2_049},
    {"served_arm": "l" * 65},
    {"label_class": "c" * 20_001},
    {"served_class": "c" * 20_001},
    {"served_lineage": "l" * 65},
    {"writer": "w" * 2_001},
    {"command": "c" * 65},
    {"served_flags": "f" * 2_001},
    {"served_scores": "s" * 4_000_001},
    {"trigger": 2},
    {"trigger": -2},
    {"event_framing": 3},
    {"event_framing": -1},
]


def changed(value: bytes, **fields: Any) -> bytes:
    """An entry with other fields."""
    raw = fastavro.schemaless_reader(io.BytesIO(value), fastavro.parse_schema(formats.load("log_entry")), None)
    return _encode(**raw | fields)  # type: ignore[operator]


@pytest.mark.parametrize("fields", LARGE, ids=str)
def test_an_entry_with_something_larger_than_any_worker_writes_halts_and_is_named(fields: dict[str, Any]) -> None:
    values = examples(*XS)
    (name,) = fields
    large = changed(values[130], **fields)
    with pytest.raises(ValueError, match=r"partition|its " + name):
        decode_entry(large)
    replica = both_ways(*values[:130], large, *values[131:])
    assert replica.halt is not None
    assert (replica.halt.position, replica.halt.reason) == (130, "not_an_entry")


def test_entries_of_exactly_the_largest_size_are_read() -> None:
    large = changed(examples(1.0)[0], event_id="ä" * 2_048, writer="w" * 2_000, served_flags="f" * 2_000)
    assert both_ways(large).halt is None
