"""Writer and reader schemas whose logical types would change what a value means are refused at start, in words."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream_ml.app.assemble import payloads_of
from stream_ml.cli.app import app
from stream_ml.config import Config
from stream_ml.errors import ConfigError
from tests.support.inputs import NOW_MS, encoded, plan_of, record_type, schema_of

UUID = "9f2c5d1e-0f3b-4a53-9d2e-0a1b2c3d4e5f"


def _of(base: str, logical: str, **more: Any) -> dict[str, Any]:
    return {"type": base, "logicalType": logical, **more}


def _decimal(precision: int, scale: int | None) -> dict[str, Any]:
    return _of("bytes", "decimal", precision=precision, **({} if scale is None else {"scale": scale}))


def _fixed(precision: int, scale: int) -> dict[str, Any]:
    return _of("fixed", "decimal", name="Money", size=8, precision=precision, scale=scale)


MILLIS, MICROS, NANOS = (_of("long", f"timestamp-{unit}") for unit in ("millis", "micros", "nanos"))
LOCAL, DATE = _of("long", "local-timestamp-millis"), _of("int", "date")
TIME_MILLIS, TIME_MICROS = _of("int", "time-millis"), _of("long", "time-micros")
CHANGED: dict[str, tuple[Any, Any, str, str]] = {
    "another scale": (_decimal(9, 2), _decimal(12, 4), "decimal(9,2)", "decimal(12,4)"),
    "a smaller scale": (_decimal(12, 4), _decimal(12, 2), "decimal(12,4)", "decimal(12,2)"),
    "no scale, which is 0": (_decimal(9, 2), _decimal(9, None), "decimal(9,2)", "decimal(9,0)"),
    "another scale of a fixed": (_fixed(9, 2), _fixed(12, 4), "decimal(9,2)", "decimal(12,4)"),
    "millis as micros": (MILLIS, MICROS, "timestamp-millis", "timestamp-micros"),
    "micros as millis": (MICROS, MILLIS, "timestamp-micros", "timestamp-millis"),
    "nanos as micros": (NANOS, MICROS, "timestamp-nanos", "timestamp-micros"),
    "local as of a zone": (LOCAL, MILLIS, "local-timestamp-millis", "timestamp-millis"),
    "of a zone as local": (MILLIS, LOCAL, "timestamp-millis", "local-timestamp-millis"),
    "a date as a timestamp": (DATE, MILLIS, "date", "timestamp-millis"),
    "a date as a time": (DATE, TIME_MILLIS, "date", "time-millis"),
    "a time as finer ones": (TIME_MILLIS, TIME_MICROS, "time-millis", "time-micros"),
    "a time as a timestamp": (TIME_MICROS, MICROS, "time-micros", "timestamp-micros"),
    "a date as finer ones": (DATE, MICROS, "date", "timestamp-micros"),
}
SAME: dict[str, tuple[Any, Any, Any, Any]] = {
    "a long that is a time": ("long", MILLIS, NOW_MS, NOW_MS / 1e3),
    "an int that is a date": ("int", DATE, 19_675, 19_675.0),
    "a time as a number": (MILLIS, "long", NOW_MS, NOW_MS),
    "a date as a number": (DATE, "double", 19_675, 19_675.0),
    "a text that is a uuid": ("string", _of("string", "uuid"), UUID.upper(), UUID),
    "a uuid as a text": (_of("string", "uuid"), "string", UUID.upper(), UUID.upper()),
    "bytes that are a decimal": ("bytes", _decimal(9, 2), b"\x01\x3a", 3.14),
    "an unknown logical type": (_of("double", "celsius"), _of("double", "kelvin"), 1.5, 1.5),
    "one that stands on a wrong base": (_of("long", "date"), MILLIS, NOW_MS, NOW_MS / 1e3),
}
# A field of this type as it stands in the writer's record and the reader's, and how the refusal names it.
SHAPES: dict[str, tuple[Any, Any, str]] = {
    "plain": (lambda t: t, lambda t: t, "price"),
    "nullable in both": (lambda t: ["null", t], lambda t: ["null", t], "price"),
    "nullable in the reader": (lambda t: t, lambda t: ["null", t], "price"),
    "nullable in the writer": (lambda t: [t, "null"], lambda t: t, "price"),
    "in a record": (lambda t: record_type("In", ("cost", t)), lambda t: record_type("In", ("cost", t)), "price.cost"),
    "in a record that may be null": (
        lambda t: ["null", record_type("In", ("cost", ["null", t]))],
        lambda t: record_type("In", ("cost", t)),
        "price.cost",
    ),
}


def _config(folder: Path, writer: Any, reader: Any, framing: str = "confluent", **more: Any) -> Config:
    """An app whose events (and labels) are read with one schema and written with another."""
    head: Any = (("id", "string"), ("late", "boolean"), ("x", "double"))
    for name, field in (("writer", writer), ("reader", reader)):
        (folder / f"{name}.avsc").write_text(json.dumps(record_type("R", *head, ("price", field), **more)), "utf-8")
    source = {"id": "id", "schema": folder / "reader.avsc", "framing": framing}
    return Config(
        app={"id": "a"},
        kafka={"bootstrap_servers": "none:9"},
        events={"topic": "events", **source, "schema_ids": {1: folder / "writer.avsc"}},
        feedback={
            "topic": "labels",
            **source,
            "schema_ids": {1: folder / "writer.avsc"},
            "label": "late",
            "ttl": "2d",
        },
        predictions={"topic": "predictions"},
        model={"factory": "river.linear_model:LogisticRegression", "task": "binary"},
    )


@pytest.mark.parametrize("side", ["events", "feedback"])
@pytest.mark.parametrize("pair", CHANGED)
def test_a_pair_that_would_change_what_a_value_means_is_refused_at_start(tmp_path: Path, pair: str, side: str) -> None:
    """Decimal(9,2) read as decimal(12,4) made 0.0314 of 3.14; millis read as micros made every label late."""
    writer, reader, written, read = CHANGED[pair]
    config = _config(tmp_path, writer, reader)
    with pytest.raises(ConfigError, match=re.escape(f"{side}.schema_ids")) as refused:
        payloads_of(config, getattr(config, side))
    for told in ("price", written, read):
        assert told in str(refused.value)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pair", ["another scale", "millis as micros", "a date as a timestamp"])
def test_a_pair_is_refused_wherever_the_field_stands(tmp_path: Path, pair: str, shape: str) -> None:
    (writer, reader, _, _), (of_writer, of_reader, name) = CHANGED[pair], SHAPES[shape]
    config = _config(tmp_path, of_writer(writer), of_reader(reader))
    with pytest.raises(ConfigError, match=re.escape(name)):
        payloads_of(config, config.events)


def test_a_pair_is_refused_for_a_field_that_is_found_by_its_alias(tmp_path: Path) -> None:
    config = _config(tmp_path, MILLIS, MICROS)
    text = (tmp_path / "reader.avsc").read_text("utf-8")
    (tmp_path / "reader.avsc").write_text(text.replace('"name": "price"', '"name": "cost", "aliases": ["price"]'))
    with pytest.raises(ConfigError, match=r"cost.*timestamp-millis.*timestamp-micros"):
        payloads_of(config, config.events)


def test_a_single_object_writer_that_has_the_readers_fingerprint_is_refused(tmp_path: Path) -> None:
    """A fingerprint leaves logical types out (Avro specification), so records do not tell which of the two they are."""
    config = _config(tmp_path, MILLIS, MICROS, framing="single-object")
    with pytest.raises(ConfigError, match=r"price.*timestamp-millis.*timestamp-micros"):
        payloads_of(config, config.events)


@pytest.mark.parametrize("pair", SAME)
def test_a_type_that_says_more_or_less_is_read(tmp_path: Path, pair: str) -> None:
    writer, reader, value, feature = SAME[pair]
    config = _config(tmp_path, writer, reader)
    payloads = payloads_of(config, config.events)
    written = schema_of(("id", "string"), ("late", "boolean"), ("x", "double"), ("price", writer))
    values = {"id": "a", "late": True, "x": 1.0, "price": value}
    found = payloads.decode_one(encoded(written, values, b"\x00\x00\x00\x00\x01"))
    assert isinstance(found, tuple)
    assert plan_of(payloads.reader, include=["price"]).extract_one(found[1]) == ({"price": feature}, False)


@pytest.mark.parametrize("order", [("x", "old"), ("old", "x")])
def test_a_writer_that_has_a_field_and_also_its_alias_is_refused(tmp_path: Path, order: tuple[str, str]) -> None:
    """Of the two fastavro takes the first, or raises KeyError; columns take the name."""
    config = _config(tmp_path, "int", "int")
    for name, text in (
        ("writer", record_type("R", *((one, "double") for one in order))),
        ("reader", record_type("R", fields=[{"name": "x", "type": "double", "aliases": ["old"]}])),
    ):
        (tmp_path / f"{name}.avsc").write_text(json.dumps(text), "utf-8")
    with pytest.raises(ConfigError, match=r"\bold\b"):
        payloads_of(config, config.events)


def test_check_refuses_the_pair_with_78_and_names_field_and_types(tmp_path: Path) -> None:
    _config(tmp_path, _decimal(9, 2), _decimal(12, 4))
    (tmp_path / "stream_ml.yaml").write_text(
        """
app: {id: a}
kafka: {bootstrap_servers: "none:9"}
events: {topic: e, schema: reader.avsc, framing: confluent, schema_ids: {1: writer.avsc}, id: id}
feedback: {topic: f, schema: reader.avsc, id: id, label: late, ttl: 2d}
predictions: {topic: p}
features: {include: [x, price]}
model: {factory: "river.linear_model:LogisticRegression", task: binary}
""",
        "utf-8",
    )
    found = CliRunner().invoke(app, ["check", str(tmp_path / "stream_ml.yaml")])
    assert found.exit_code == 78, found.output
    for told in ("events.schema_ids", "price", "decimal(9,2)", "decimal(12,4)"):
        assert told in found.output
