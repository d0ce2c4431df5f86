"""``produce`` and ``try`` on a real Kafka: JSON lines become records that are scored and learned, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream_ml.cli.app import app
from tests.support.service import Service, service

pytestmark = pytest.mark.kafka


def typed(made: Service, *arguments: str, given: str | None = None) -> tuple[int, str]:
    """Exit code and output of a verb; an error's words where it raised one."""
    verb, *rest = arguments
    found = CliRunner().invoke(app, [verb, str(made.folder / "w1.yaml"), *rest], input=given)
    return found.exit_code, found.output + str(found.exception or "")


def visits(count: int) -> str:
    """Events as JSON lines."""
    return "".join(
        json.dumps({"id": f"v{n}", "at": "2020-09-13T12:26:40Z", "x": n / 10, "kind": "a"}) + "\n" for n in range(count)
    )


def truths(count: int) -> str:
    """Their labels."""
    return "".join(
        json.dumps({"id": f"v{n}", "at": "2020-09-13T12:27:40Z", "y": n % 2 == 0}) + "\n" for n in range(count)
    )


def test_json_lines_are_scored_learned_and_tried(kafka: str, app_id: str, tmp_path: Path, monkeypatch: Any) -> None:
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        monkeypatch.setattr("stream_ml.cli.run.fix_hash_seed", lambda *_: None)  # this process is the test's own
        event = json.dumps({"id": "v7", "at": "2020-09-13T12:26:40Z", "x": 0.5, "kind": "a"})
        assert '"scored_by": "an untrained model"' in typed(made, "try", event)[1]
        (tmp_path / "visits.jsonl").write_text(visits(60), "utf-8")
        code, said = typed(made, "produce", "events", str(tmp_path / "visits.jsonl"))
        assert (code, said) == (0, f"60 records written to {app_id}-visits\n")
        assert typed(made, "produce", "feedback", "-", "--rate", "2000", given=truths(40))[0] == 0
        worker = made.start()
        made.wait_for(
            lambda: made.progress() == (100, 100) and len(made.read(made.config.training_log_topic)) >= 40, "all"
        )
        assert worker.stop() == 0
        audited = made.audited()
        assert audited["counts"] == {} and (audited["predictions"], audited["examples"]) == (60, 40)
        tried = json.loads(typed(made, "try", event)[1])
        assert tried["becomes"] == "prediction" and tried["features"] == {"x": 0.5, "kind": "a"}
        assert tried["scored_by"].partition("/")[2] == str(made.newest_checkpoint()["position"])
        before = made.progress()
        assert json.loads(typed(made, "try", truths(1), "--feedback")[1])["label"] == "true"
        assert made.progress() == before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"id": "a", "at": "noon", "x": 1, "kind": "a"}', "line 1: at is 'noon', and it is timestamp-millis: write"),
        ('{"id": "a", "at": 0, "x": "1", "kind": "a"}', "line 1: x is '1', and it is double"),
        ("{", "line 1: is no JSON"),
    ],
)
def test_a_line_that_is_not_of_the_schema_is_refused_by_number_and_field(
    kafka: str, app_id: str, tmp_path: Path, line: str, told: str
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        code, said = typed(made, "produce", "events", "-", given=line + "\n")
        assert code != 0 and told in said
        assert made.progress() == (0, 0)


def test_what_stands_before_a_wrong_line_is_written_and_counted(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        code, said = typed(made, "produce", "events", "-", given=visits(30) + "{\n" + visits(5))
        assert code != 0 and f"line 31: is no JSON; 30 records before it were written to {app_id}-visits" in said
        assert made.progress() == (0, 30)
        code, said = typed(made, "produce", "events", "-", "--partitioner", "nonsense", given=visits(1))
        assert code != 0 and "kafka.producer" in said and "nonsense" in said


def test_bytes_that_are_no_text_are_refused_by_line_and_what_stood_before_is_counted(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        (tmp_path / "visits.jsonl").write_bytes(visits(9_000).encode() + b"\xff\n")
        code, said = typed(made, "produce", "events", str(tmp_path / "visits.jsonl"))
        assert code != 0
        assert f"line 9001: is no UTF-8; 9,000 records before it were written to {app_id}-visits" in said
