"""Caps hold under floods: memory stays bounded, what is shed is counted and ends as an outcome, nothing is lost."""

import json
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest

from stream_ml.core.avro.record import encode_record
from stream_ml.core.log.heads import decode_pair
from stream_ml.core.partition.outputs import decode_outcome
from tests.support.service import LABEL, T0, Service, Worker, service

pytestmark = [pytest.mark.kafka, pytest.mark.long]

MB = 1_000_000
READAHEAD_MB = 80  # both consumers' queues, a batch in Python's hands, the producer's queue; measured 22 to 50


def settled(made: Service) -> tuple[Worker, float]:
    """A worker that has learned a first pair, and its memory then."""
    worker = made.start()
    made.visit(0)
    made.truth(0)
    made.wait_until_done()
    return worker, worker.peak_mb


def owned(worker: Worker) -> bool:
    return "] owned" in worker.log


def grew(worker: Worker, before_mb: float, what: str) -> float:
    """By how much the peak has grown; printed, so that a failure shows all figures."""
    grown = worker.peak_mb - before_mb
    print(f"{what}: {before_mb:.0f} MB and {grown:.0f} MB more")
    return grown


def late_pair(made: Service) -> None:
    """A pair hours later: what waits for nobody ends by it."""
    made.visit(50_000)
    made.truth(50_000)
    made.wait_until_done()
    made.wait_for(lambda: not made.audit(None).waiting, "the end of every label")


def clean(made: Service) -> dict[str, Any]:
    """The audit, which must find nothing wrong."""
    found = made.audited()
    assert not found["findings"], (found["counts"], found["findings"][:5])
    return found


def outcomes(made: Service, kind: str) -> list[int]:
    """Feedback offsets of this outcome, in the order written."""
    found = [decode_outcome(record.value or b"") for record in made.read(made.config.outcomes)]
    return [outcome["feedback_offset"] for outcome in found if outcome["outcome"] == kind]


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def with_notes(made: Service) -> Callable[[str, int, int], bytes]:
    """Let labels have notes; the function makes one of an id, a time and the note's length."""
    note = {"name": "note", "type": "string", "default": ""}
    wide = {**LABEL, "fields": [*LABEL["fields"], note]}
    (made.folder / "truth.avsc").write_text(json.dumps(wide), "utf-8")
    made.TRUTH_SCHEMA = fastavro.parse_schema(wide)
    return lambda event_id, at, size: encode_record(
        made.TRUTH_SCHEMA, {"id": event_id, "at": at, "y": True, "note": "n" * size}
    )


def test_a_flood_of_orphan_labels_is_shed_oldest_first_and_memory_stays_bounded(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    cap = 1_000
    changes = {"pending": {"early_labels_max": cap}, "delivery": {"batch_max_records": 500}}
    with service(tmp_path, kafka, app_id, **changes) as made:
        truth = with_notes(made)
        worker, before_mb = settled(made)
        for number in range(10 * cap):
            made.raw_truth(truth(f"nobody{number}", T0, 12_000))
        made.wait_until_done()
        assert grew(worker, before_mb, "120 MB of orphans") < 12 + 48
        assert outcomes(made, "shed") == list(range(1, 9 * cap + 1))
        assert len(clean(made)["waiting"]) == cap
        late_pair(made)
        found = clean(made)
        assert found["outcomes"] == {"shed": 9 * cap, "orphan": cap}
        assert (found["examples"], found["waiting"]) == (2, [])


def test_a_flood_of_events_is_shed_oldest_first_and_their_labels_end_as_orphans(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    cap, count = 300, 2000
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    changes = {"pending": {"events_max": cap}, "feedback": {"ttl": "2h"}, "http": {"port": port}}
    with service(tmp_path, kafka, app_id, **changes) as made:
        worker, before_mb = settled(made)
        for number in range(1, count + 1):
            made.visit(number)
        made.wait_until_done()
        assert metric(port, "stream_ml_events_shed_total") == count - cap
        for number in range(1, count + 1):
            made.truth(number)
        made.wait_until_done()
        assert grew(worker, before_mb, "2,000 events") < 48
        pairs = [decode_pair(record.value or b"") for record in made.read(made.config.training_log_topic)]
        assert [pair.event_offset for pair in pairs if pair] == [0, *range(count - cap + 1, count + 1)]
        assert len(clean(made)["waiting"]) == count - cap  # each may still be an early one
        late_pair(made)
        found = clean(made)
        assert found["outcomes"] == {"orphan": count - cap}
        assert (found["predictions"], found["examples"], found["waiting"]) == (count + 2, cap + 2, [])
        assert outcomes(made, "orphan") == list(range(1, count - cap + 1))


def test_events_of_nearly_the_largest_size_are_held_up_to_the_cap_of_bytes(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, pending={"bytes_max": "20MB"}) as made:
        worker, before_mb = settled(made)
        for number in range(1, 251):
            made.visit(number, note="n" * 950_000)
        made.wait_until_done()
        assert grew(worker, before_mb, "237 MB of events") < 20 + READAHEAD_MB
        for number in range(1, 251):
            made.truth(number)
        made.wait_until_done()
        late_pair(made)
        found = clean(made)
        assert (found["predictions"], found["waiting"]) == (252, [])
        assert (found["examples"], found["outcomes"]) == (2 + 20, {"orphan": 250 - 20})


def test_labels_held_back_until_the_events_have_come_as_far_are_capped_in_bytes(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, delivery={"batch_max_records": 20}) as made:
        for number in range(2000):
            made.visit(number)
        truth = with_notes(made)
        for number in range(250):
            made.raw_truth(truth(f"v{number}", T0 + 1_900_000, 950_000))
        made.flush()
        worker = made.start()
        made.wait_for(lambda: owned(worker), "its start")
        before_mb = worker.peak_mb
        made.wait_until_done()
        assert grew(worker, before_mb, "237 MB of labels from ahead") < 16 + READAHEAD_MB
        assert len(clean(made)["waiting"]) == 0
