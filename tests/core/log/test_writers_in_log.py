"""Writer schemas that stand in the training log: what they say of a value holds, whatever the reader says today."""

from typing import Any

import pytest

from stream_ml.core.avro.columnar import ROWS_MIN
from stream_ml.core.avro.framing import Payloads
from stream_ml.core.avro.record import encode_record
from stream_ml.core.avro.schema import Schema
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.entry import Example, decode_entry, encode_example, encode_schema
from tests.support.inputs import NOW_MS, plan_of, schema_of
from tests.support.partition import example, fold_settings, log_of

MILLIS, MICROS = ({"type": "long", "logicalType": f"timestamp-{unit}"} for unit in ("millis", "micros"))


def _decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def _settings(reader: Schema) -> FoldSettings:
    return fold_settings()._replace(payloads=Payloads("bare", reader, {}), plan=plan_of(reader))


def _log(writer: Schema, value: Any, count: int) -> list[bytes]:
    """The writer's schema, then examples of it."""
    event = encode_record(writer.parsed, {"price": value})
    return [
        encode_schema(writer.fingerprint, writer.text, written_at_ms=NOW_MS, writer="w"),
        *(_of_schema(example(sequence, event=event), writer) for sequence in range(count)),
    ]


def _of_schema(value: bytes, writer: Schema) -> bytes:
    entry = decode_entry(value)
    given = {name: getattr(entry, name) for name in Example._fields} | {"event_schema": writer.fingerprint}
    return encode_example(Example(**given), written_at_ms=NOW_MS, writer="w")


@pytest.mark.parametrize("batch", [1, 10, 200])
@pytest.mark.parametrize(
    ("written", "read", "value", "words"),
    [
        (_decimal(9, 2), _decimal(12, 4), b"\x01\x3a", ("decimal(9,2)", "decimal(12,4)")),
        (MILLIS, MICROS, NOW_MS, ("timestamp-millis", "timestamp-micros")),
    ],
    ids=["decimal", "timestamp"],
)
def test_learning_halts_at_an_example_whose_writer_means_something_else(
    written: Any, read: Any, value: Any, words: tuple[str, str], batch: int
) -> None:
    """The two have one fingerprint, which leaves logical types out: 3.14 of the log was learned as 0.0314."""
    writer, reader = schema_of(("price", written)), schema_of(("price", read))
    assert writer.fingerprint == reader.fingerprint
    replica = Replica(_settings(reader))
    log = log_of(_log(writer, value, ROWS_MIN + 6))
    for first in range(0, len(log), batch):
        replica.fold(log[first : first + batch])
    assert replica.only.examples_learned == 0
    assert replica.halt is not None
    assert (replica.halt.position, replica.halt.reason) == (1, "schema_mismatch")
    for told in ("price", *words):
        assert told in replica.halt.message


def test_examples_of_a_writer_that_means_the_same_are_learned() -> None:
    writer = schema_of(("price", _decimal(9, 2)), doc="as it was then")
    reader = schema_of(("price", _decimal(9, 2)))
    replica = Replica(_settings(reader))
    replica.fold(log_of(_log(writer, b"\x01\x3a", ROWS_MIN)))
    assert (replica.halt, replica.only.examples_learned) == (None, ROWS_MIN)
    assert replica.only.health.probes[0] == {"price": 3.14}
