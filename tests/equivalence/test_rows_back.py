"""What `tail --json` shows of a record is what `produce`, `try` and LocalApp take: the same bytes come of it."""

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest
import yaml
from typer.testing import CliRunner

from stream_ml import LocalApp
from stream_ml.admin.decode import look_at
from stream_ml.app.assemble import assemble
from stream_ml.app.parts import Parts
from stream_ml.cli.app import app as command_line
from stream_ml.config import load_config
from stream_ml.core.inputs.rows import RowEncoder
from stream_ml.records import Record

NOW_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
WIDE = {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 2}
DECIMAL_FIXED = {"type": "fixed", "name": "D", "size": 8, "logicalType": "decimal", "precision": 9, "scale": 2}
UUID_FIXED = {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}
LONG = "9f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0"
ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
COIN = {"type": "record", "name": "Coin", "fields": [{"name": "x", "type": "double"}]}
DICE = {"type": "record", "name": "Dice", "fields": [{"name": "x", "type": "double"}]}


def number(logical: str, base: str = "long") -> dict[str, str]:
    """A whole number with a logical type."""
    return {"type": base, "logicalType": logical}


def parts_of(folder: Path, *fields: tuple[str, Any], id_: str = "key", time: str = "record") -> Parts:
    """An app whose events have these fields and a number x."""
    made = CliRunner().invoke(command_line, ["init", str(folder), "--app", "shop"])
    assert made.exit_code == 0, made.output
    every = [{"name": name, "type": type_} for name, type_ in (("x", "double"), *fields)]
    (folder / "event.avsc").write_text(json.dumps({"type": "record", "name": "R", "fields": every}), "utf-8")
    config = yaml.safe_load((folder / "stream_ml.yaml").read_text("utf-8"))
    config["events"] |= {"id": id_, "time": time}
    config["features"] = {"include": ["x"]}
    (folder / "stream_ml.yaml").write_text(yaml.safe_dump(config), "utf-8")
    return assemble(load_config(folder / "stream_ml.yaml"))


def written(parts: Parts, values: dict[str, Any], key: bytes = b"k1") -> Record:
    """An event as a producer of its own writes it."""
    schema = fastavro.parse_schema(json.loads(parts.reader.payloads.reader.text))
    value = io.BytesIO()
    fastavro.schemaless_writer(value, schema, {"x": 0.5} | values)
    return Record("shop-events", 0, 17, NOW_MS, key, value.getvalue())


def shown(parts: Parts, record: Record) -> dict[str, Any]:
    """The fields of a record, as a line of `tail --json` has them."""
    plain: dict[str, Any] = json.loads(json.dumps(look_at(parts, "events")[1](record), allow_nan=False))
    assert "unreadable" not in plain, plain
    return plain


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        pytest.param(DECIMAL, Decimal("-12.30"), id="decimal"),
        pytest.param(DECIMAL_FIXED, Decimal("12.30"), id="decimal-fixed"),
        pytest.param(["null", DECIMAL], Decimal("0.00"), id="decimal-nullable"),
        pytest.param(WIDE, Decimal("-123456789012345678901234567890.12"), id="decimal-wide"),
        pytest.param({"type": "array", "items": DECIMAL}, [Decimal("1.00"), Decimal("-1.01")], id="decimals"),
        pytest.param({"type": "map", "values": DECIMAL_FIXED}, {"a": Decimal("7.00")}, id="decimal-map"),
        pytest.param(UUID_FIXED, UUID(LONG).bytes, id="uuid-fixed"),
        pytest.param({"type": "string", "logicalType": "uuid"}, LONG, id="uuid"),
        pytest.param("double", float("inf"), id="infinite"),
        pytest.param("float", float("nan"), id="not-a-number"),
        pytest.param("double", 1e22, id="double-without-a-dot"),
        pytest.param("float", 0.1, id="float"),
        pytest.param("bytes", b"\x00\xff", id="bytes"),
        pytest.param(["null", "bytes"], b"", id="bytes-empty"),
        pytest.param(["null", "string", "bytes"], b"hi", id="bytes-or-string"),
        pytest.param(["null", "bytes", "string"], "aGk=", id="string-or-bytes"),
        pytest.param(["string", ENUM], ("E", "A"), id="enum-or-string"),
        pytest.param(["int", "double"], 1.0, id="double-or-int"),
        pytest.param(["null", COIN, DICE], ("Dice", {"x": 1.0}), id="one-of-two-records"),
        pytest.param({"type": "fixed", "name": "F", "size": 3}, b"\x00\x01\x02", id="fixed"),
        pytest.param(ENUM, "B", id="enum"),
        pytest.param(["null", "string"], None, id="null"),
        pytest.param(number("date", "int"), -1, id="date"),
        pytest.param(number("time-millis", "int"), 45_000_001, id="time-millis"),
        pytest.param(number("time-micros"), 45_000_000_001, id="time-micros"),
        pytest.param(number("timestamp-millis"), -1, id="timestamp-millis"),
        pytest.param(number("timestamp-micros"), 1_767_268_800_000_001, id="timestamp-micros"),
        pytest.param(number("timestamp-millis"), 2**62, id="beyond-a-calendar"),
        pytest.param(number("local-timestamp-millis"), 1_767_268_800_001, id="local-timestamp"),
        pytest.param("long", 2**63 - 1, id="long"),
        pytest.param("string", "line\nå\u0000\u2028", id="text"),
    ],
)
def test_a_value_that_is_shown_comes_back_as_the_same_bytes(tmp_path: Path, type_: Any, value: Any) -> None:
    parts = parts_of(tmp_path, ("f", type_))
    record = written(parts, {"f": value})
    rows = RowEncoder(parts.config.events, parts.reader.payloads, "events")
    assert rows.encode({"key": "k1", **shown(parts, record)}) == (record.key, record.value)


def test_a_decimal_is_shown_as_its_number(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, ("price", DECIMAL), ("trace", UUID_FIXED))
    plain = shown(parts, written(parts, {"price": Decimal("12.30"), "trace": UUID(LONG).bytes}))
    assert (plain["price"], plain["trace"]) == ("12.30", LONG)


def test_a_shown_line_is_taken_whole_and_its_key_and_time_are_the_records(tmp_path: Path) -> None:
    parts_of(tmp_path)
    place = {"partition": 0, "offset": 17, "timestamp_ms": NOW_MS, "key": "k1"}
    said = LocalApp(tmp_path / "stream_ml.yaml").predict_many([{"record": place, "x": 0.5}])[0]
    assert (said["event_id"], said["event_time"].isoformat()) == ("k1", "2026-01-01T12:00:00+00:00")


def test_a_key_beside_the_id_is_kept(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, ("order", "string"), id_="order")
    record = written(parts, {"order": "o1"}, key=b"customer-7")
    rows = RowEncoder(parts.config.events, parts.reader.payloads, "events")
    place = {"partition": 0, "offset": 17, "timestamp_ms": NOW_MS, "key": "customer-7"}
    assert rows.encode({"record": place, **shown(parts, record)})[:2] == (b"customer-7", record.value)


@pytest.mark.parametrize("name", ["record", "key"])
def test_a_field_that_is_named_like_the_place_stays_a_field(tmp_path: Path, name: str) -> None:
    parts = parts_of(tmp_path, (name, "string"), ("order", "string"), id_="order")
    record = written(parts, {name: "mine", "order": "o1"}, key=b"o1")
    rows = RowEncoder(parts.config.events, parts.reader.payloads, "events")
    assert rows.encode(shown(parts, record))[:2] == (b"o1", record.value)
