"""History into a running worker: both files at once are learned; events alone move time past their labels, and that is
said."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stream_ml.embedded.broker import free_port
from stream_ml.worker.housekeeping import SAMPLE_RECORDS
from tests.support.service import service
from tests.system.kafka.test_endpoints import get, status
from tests.system.kafka.test_trial import typed
from tests.system.kafka.test_wrong_id import texts

pytestmark = pytest.mark.kafka

DAYS, EACH, LATER = 20, timedelta(minutes=30), timedelta(minutes=10)
COUNT = DAYS * 48
BEGAN = datetime(2024, 2, 1, tzinfo=UTC)


def written(folder: Path) -> tuple[str, str]:
    """Files of events, half an hour apart, and of their labels, ten minutes later."""
    events, labels = folder / "visits.jsonl", folder / "truths.jsonl"
    with events.open("w") as visits, labels.open("w") as truths:
        for number in range(COUNT):
            at = BEGAN + number * EACH
            visits.write(json.dumps({"id": f"v{number}", "at": at.isoformat(), "x": number / 10, "kind": "a"}) + "\n")
            truths.write(json.dumps({"id": f"v{number}", "at": (at + LATER).isoformat(), "y": True}) + "\n")
    return str(events), str(labels)


def test_history_of_both_files_is_learned_by_a_running_worker(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        worker = made.start()
        events, labels = written(tmp_path)
        code, said = typed(made, "produce", "events", events, "--labels", labels)
        topics = f"{app_id}-visits and {app_id}-truths"
        assert (code, said) == (0, f"{2 * COUNT:,} records written to {topics}, in the order of their times\n")
        made.wait_until_done()
        assert worker.stop() == 0
        audited = made.audited()
        assert audited["counts"] == {} and (audited["predictions"], audited["examples"]) == (COUNT, COUNT)


@pytest.mark.long
def test_a_rebuild_right_after_a_backlog_need_not_read_all_of_it_again(kafka: str, app_id: str, tmp_path: Path) -> None:
    """Where outputs stood is noted by how many records were taken, too: 70,000 take less than its ten seconds."""
    count = 70_000
    with service(tmp_path, kafka, app_id) as made:
        made.pairs(range(count))
        made.flush()
        made.start()
        made.wait_until_done()
        (pair,) = made.observer.pairs()
        assert pair.metadata is not None
        assert count - SAMPLE_RECORDS < pair.metadata.ends.predictions <= pair.metadata.events_floor + count / 10


def test_labels_that_come_after_time_has_passed_them_by_say_so(kafka: str, app_id: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"http": {"port": free_port()}}
    with service(tmp_path, kafka, app_id, **changes) as made:
        worker = made.start()
        events, labels = written(tmp_path)
        assert typed(made, "produce", "events", events)[0] == 0
        made.wait_until_done()
        made.visit(5_000, at=int((BEGAN + timedelta(days=DAYS)).timestamp() * 1000))
        made.wait_until_done()
        made.wait_for(lambda: 0 < status(made)["pending"]["events"] < 10, "events that expired")
        assert typed(made, "produce", "feedback", labels)[0] == 0
        made.wait_until_done()
        made.wait_for(lambda: "the time of their partition had passed them by" in texts(made), "the problem")
        assert "stream_ml_labels_passed_total" in get(made, "/metrics")[1]
        made.wait_for(lambda: "Load both files at once" in worker.log, "the log")


def test_labels_go_with_events_only(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        events, labels = written(tmp_path)
        code, said = typed(made, "produce", "feedback", labels, "--labels", events)
        assert code != 0 and "--labels goes with events" in said
