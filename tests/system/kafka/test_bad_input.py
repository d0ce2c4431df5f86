"""Bad records end as a dead letter, an outcome or a flag; the loop goes on and nothing is lost."""

import io
import json
import time
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.core.avro.record import encode_record
from stream_ml.core.partition.outputs import decode_outcome
from tests.support import service as module
from tests.support.service import T0, Service, service

pytestmark = pytest.mark.kafka


def visit_bytes(**values: Any) -> bytes:
    return encode_record(
        module.Service.VISIT_SCHEMA, {"id": "e", "at": T0, "x": 1.0, "kind": "k", "note": None} | values
    )


def truth_bytes(**values: Any) -> bytes:
    return encode_record(module.Service.TRUTH_SCHEMA, {"id": "e", "at": T0 + 1000, "y": True} | values)


def finish(made: Service, number: int = 900) -> None:
    """A good pair at the end shows that the loop goes on; then everything must be accounted for."""
    made.visit(number)
    made.truth(number)
    made.wait_until_done()
    made.wait_for(lambda: made.audit().examples > 0, "the good pair's example")
    found = made.audit()
    assert not found.findings, found.findings
    assert f"v{number}" in [p["event_id"] for p in made.predictions()]


def test_unreadable_events_become_dead_letters_that_say_why(kafka: str, app_id: str, tmp_path: Path) -> None:
    whole = visit_bytes()
    wrong_type = io.BytesIO()
    fastavro.schemaless_writer(wrong_type, fastavro.parse_schema({"type": "array", "items": "double"}), [1.0, 2.0])
    cases = [
        (whole[:-4], "truncated", "the bytes end inside of x"),
        (b'{"id": "e", "x": 1.0}', None, "this is JSON"),
        (b"", "empty", "no bytes"),
        (None, "empty", "tombstone"),
        (whole + b"\x00\x00", "not_avro", "left after the record"),
        (wrong_type.getvalue(), None, ""),
        (visit_bytes(id=""), "missing_id", "null or empty"),
        (visit_bytes(x=float("nan")), "not_finite", "feature x: nan"),
        (visit_bytes(x=float("inf")), "not_finite", "feature x: inf"),
        (visit_bytes(x=1e308), "not_finite", "beyond 1e18"),
        (visit_bytes(at=int(time.time() * 1000) + 10 * 365 * 86_400_000), "out_of_range_time", "more than a day ahead"),
    ]
    with service(tmp_path, kafka, app_id) as made:
        made.start()
        for number, (value, _, _) in enumerate(cases):
            made.raw_visit(value, key=f"key{number}".encode(), headers=[("trace", b"abc")])
        finish(made)
        dead_letters = made.dead_letters()
        assert len(dead_letters) == len(cases)
        for (reason, record, message), (value, wanted, words), number in zip(
            dead_letters, cases, range(99), strict=False
        ):
            assert wanted is None or reason == wanted, (number, reason, message)
            assert words in message, (number, reason, message)
            assert record.value == (value or None if value is None else value)
            assert record.key == f"key{number}".encode()
            headers = dict(record.headers)
            assert headers["trace"] == b"abc"
            assert headers["__connect.errors.topic"].decode() == made.config.events.topic
            assert headers["__connect.errors.offset"] == str(number).encode()


def test_bad_feedback_ends_as_dead_letter_or_outcome(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, feedback={"ttl": "1h", "early_ttl": "10m"}) as made:
        made.start()
        made.visit(0)
        made.visit(0, x=99.0)  # the same id again: scored, flagged, never joined
        made.raw_truth(None)
        made.raw_truth(b'{"id": "v0"}')
        made.raw_truth(truth_bytes(id="v0", at=int(time.time() * 1000) + 10 * 365 * 86_400_000))
        made.truth(0)
        made.wait_until_done()
        made.truth(0)  # the same feedback twice
        made.truth(0, at=T0 + 7_200_000)  # after the event's time to live
        made.raw_truth(truth_bytes(id="nobody", at=T0 + 1000))
        made.wait_until_done()
        for number in (10_000, 10_001):  # time goes on by hours: what waits for nobody ends
            made.visit(number)
            made.truth(number)
            made.wait_until_done()  # else time could pass both by more than ttl before their labels are fetched
        finish(made, 20_000)
        made.wait_for(lambda: made.audit().outcomes["orphan"] > 0, "the orphan's end")
        found = made.audit()
        assert found.dead_letters["empty"] == 1
        assert found.dead_letters["out_of_range_time"] == 1
        assert sum(found.dead_letters.values()) == 3
        assert found.outcomes == {"duplicate": 1, "late": 1, "orphan": 1}
        assert not found.waiting
        outcomes = [decode_outcome(r.value or b"") for r in made.read(made.config.outcomes)]
        assert {o["outcome"]: o["event_id"] for o in outcomes} == {"duplicate": "v0", "late": "v0", "orphan": "nobody"}
        flags = [p["flags"] for p in made.predictions() if p["event_id"] == "v0"]
        assert ["duplicate_event" in flag for flag in flags] == [False, True]


def test_a_label_outside_the_domain_is_a_dead_letter(kafka: str, app_id: str, tmp_path: Path) -> None:
    label = {**module.LABEL, "fields": [*module.LABEL["fields"][:2], {"name": "y", "type": ["null", "string"]}]}
    with service(tmp_path, kafka, app_id, model={"labels": ["spam", "ham"], "positive": "spam"}) as made:
        (tmp_path / "truth.avsc").write_text(__import__("json").dumps(label), "utf-8")
        schema = fastavro.parse_schema(label)
        made.start()
        for number, y in enumerate(("spam", "ham", "eggs", None)):
            made.visit(number)
            payload = {"id": f"v{number}", "at": T0 + 5000, "y": y}
            made.raw_truth(encode_record(schema, payload), key=b"k")
        made.wait_until_done()
        found = made.audit()
        assert (found.examples, dict(found.dead_letters)) == (2, {"label_domain": 2})
        assert not found.findings and not found.waiting
        assert "'eggs' is none of ham, spam" in made.dead_letters()[0][2]


def test_unknown_schema_ids_and_null_keys_in_confluent_framing(kafka: str, app_id: str, tmp_path: Path) -> None:
    events = {"framing": "confluent", "schema_ids": {7: "visit.avsc"}, "id": "key"}
    with service(tmp_path, kafka, app_id, events=events) as made:
        made.start()
        good = b"\x00" + (7).to_bytes(4, "big") + visit_bytes()
        made.raw_visit(good, key=b"v1")
        made.raw_visit(b"\x00" + (8).to_bytes(4, "big") + visit_bytes(), key=b"v2")
        made.raw_visit(visit_bytes(), key=b"v3")
        made.raw_visit(good, key=None)
        made.raw_truth(truth_bytes(id="v1"))
        made.wait_until_done()
        found = made.audit()
        assert (found.predictions, found.examples) == (1, 1)
        messages = [message for _, _, message in made.dead_letters()]
        assert messages[0] == "schema id 8 is not in the configuration (schema_ids)"
        assert "begins with byte 00" in messages[1]
        assert messages[2] == "the record key is null or empty"
        assert not found.findings and not found.waiting


def test_a_record_of_the_largest_size_is_scored_and_its_label_is_a_dead_letter(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        made.start()
        big = visit_bytes(id="big", note="n" * 999_400)
        producer = Producer(
            {"bootstrap.servers": made.config.kafka.bootstrap_servers, "message.max.bytes": 1_048_000, "log_level": 0}
        )
        failed: list[Any] = []
        report = lambda error, message: failed.append(error) if error else None  # noqa: E731
        producer.produce(made.config.events.topic, big, b"k", 0, on_delivery=report)
        producer.produce(made.config.events.topic, b"\x07" * 1_040_000, b"k", 0, on_delivery=report)
        producer.flush()
        assert not failed
        made.raw_truth(truth_bytes(id="big"))
        finish(made)
        found = made.audit()
        assert found.dead_letters["too_large"] == 1 and sum(found.dead_letters.values()) == 2
        assert "big" in [p["event_id"] for p in made.predictions()]
        (_, dead_letter, _), (reason, record, _) = sorted(made.dead_letters(), key=lambda item: item[0] == "too_large")
        assert reason == "too_large" and record.value == truth_bytes(id="big")
        headers = dict(dead_letter.headers)
        assert len(dead_letter.value or b"") <= 900_000 and headers["stream_ml.value.bytes"] == b"1040000"
        assert len(headers["stream_ml.value.sha256"]) == 64


def test_a_topic_that_takes_only_small_records_is_respected(kafka: str, app_id: str, tmp_path: Path) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    client = AdminClient({"bootstrap.servers": kafka})
    small = NewTopic(f"{app_id}.dead-letters", 1, config={"max.message.bytes": "20000"})
    client.create_topics([small])[small.topic].result()
    with service(tmp_path, kafka, app_id) as made:
        made.start()
        made.raw_visit(b"{" + b"j" * 60_000)
        made.visit(1, note="n" * 30_000)  # scored; its example would be larger than the smallest limit
        made.truth(1)
        finish(made)
        found = made.audit()
        assert found.dead_letters["too_large"] == 1 and sum(found.dead_letters.values()) == 2


def test_dead_letters_are_told_once_and_shown_with_their_reasons(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        for _ in range(30):
            made.raw_visit(b'{"id": "a"}')
        made.raw_visit(None)
        made.wait_until_done()
        assert worker.stop() == 0
        told = [json.loads(line) for line in worker.log.splitlines() if "became a dead letter" in line]
        assert len(told) == 2, "one line a reason and minute"
        assert (told[0]["topic"], told[0]["offset"]) == (made.config.events.topic, 0)
        assert "this is JSON" in told[0]["message"] and told[0]["hint"] == "stream-ml dead-letters ls CONFIG"
        shown = (
            CliRunner().invoke(app, ["dead-letters", "ls", str(tmp_path / "w1.yaml"), "--each", "--last", "5"]).output
        )
        dead_letters = [json.loads(line) for line in shown.splitlines()]
        assert [dead_letter["offset"] for dead_letter in dead_letters] == ["26", "27", "28", "29", "30"]
        assert dead_letters[-1]["reason"] == "empty" and "this is JSON" in dead_letters[0]["message"]
        assert bytes.fromhex(dead_letters[0]["value_hex"]) == b'{"id": "a"}'
