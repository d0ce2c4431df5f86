"""From events to predictions, from labels to a model, on a real broker."""

from pathlib import Path

import pytest

from tests.support.service import T0, service

pytestmark = pytest.mark.kafka


def test_events_are_scored_labels_are_learned_and_sigterm_leaves_a_checkpoint(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        for number in range(2000):
            made.visit(number)
            if number >= 30:
                made.truth(number - 30)
            if number == 1000:
                made.wait_until_done()
        made.raw_visit(None, key=b"\x01\xff", headers=[("traceparent", b"00-ab-cd-01"), ("other", b"x")])
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        found = made.audit()
        assert (found.events, found.predictions, dict(found.dead_letters)) == (2001, 2000, {"empty": 1})
        assert (found.feedback, found.examples, dict(found.outcomes)) == (1970, 1970, {})
        assert not found.findings and not found.waiting and not found.unread, found.findings
        header = made.newest_checkpoint()
        assert header["examples_learned"] == 1970
        assert made.newest_quality()["auc"] > 0.7 > 0.6 > made.newest_quality()["auc_baseline"]
        predictions = made.predictions()
        assert [p["event_id"] for p in predictions] == [f"v{number}" for number in range(2000)]
        assert [p["event_offset"] for p in predictions] == list(range(2000))
        positions = [p["position"] for p in predictions]
        assert positions == sorted(positions) and positions[-1] > 0
        assert all(0.0 <= p["score"] <= 1.0 and p["class"] in ("true", "false") for p in predictions)
        assert {p["lineage"] for p in predictions} == {header["lineage"]}
        assert predictions[7]["event_time"].timestamp() * 1000 == T0 + 7000
        again = made.refold(header["position"])
        assert again["equal"] and again["quality_equal"] and again["examples"] == 1970 and again["probes"] >= 10


def test_events_of_a_backlog_do_not_run_ahead_of_the_labels_that_lie_there(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    """The first labels take 0.4 s to come: by then so many events were scored by a model that knew nothing yet."""
    with service(tmp_path, kafka, app_id, delivery={"batch_max_records": 200}) as made:
        for number in range(12_000):
            made.visit(number)
            made.truth(number)
        made.flush()
        made.start()
        made.wait_until_done()
        positions = [p["position"] for p in made.predictions()]
        before_the_first = sum(position == positions[0] for position in positions)
        assert len(positions) == 12_000
        assert before_the_first < 2_000, "a few batches of 200"


def test_key_partition_and_trace_headers_are_kept(kafka: str, app_id: str, tmp_path: Path) -> None:
    from stream_ml.core.avro.record import encode_record

    with service(tmp_path, kafka, app_id, partitions=3) as made:
        made.start()
        from tests.support import service as module

        value = encode_record(module.Service.VISIT_SCHEMA, {"id": "a", "at": T0, "x": 1.0, "kind": "k", "note": None})
        headers = [("traceparent", b"00-ab-cd-01"), ("tracestate", b"t=1"), ("other", b"x")]
        made.raw_visit(value, partition=2, key=b"\x00\xff", headers=headers)
        made.wait_until_done()
        (record,) = made.read(made.config.predictions.topic, 2)
        assert record.key == b"\x00\xff"
        assert list(record.headers) == headers[:2]
        assert made.read(made.config.predictions.topic, 0) == []
