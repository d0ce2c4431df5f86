"""A trace goes from who asks by way of the API and the worker to the prediction; nothing waits for a collector."""

import json
from pathlib import Path
from typing import Any

import pytest

from stream_ml.embedded.broker import free_port
from tests.support.api_process import ApiProcess
from tests.support.collector import Collector, collector
from tests.support.service import T0, Service, service, until

pytestmark = pytest.mark.kafka

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"
SERVER, CONSUMER, INTERNAL = 2, 5, 1


def event(number: int) -> dict[str, Any]:
    """An event as it is recorded."""
    return {"id": f"t{number}", "at": T0 + 1000 * number, "x": 3.0, "kind": "k1", "note": None}


def recording(made: Service) -> dict[str, Any]:
    """The section that records answers; its key is there."""
    (made.folder / "answers.key").write_text("k" * 40)
    made.settings["serve"] = {"provenance_key_file": "answers.key"}
    return {"record": "ack", "provenance_key_file": "answers.key"}


def spans_of(there: Collector, trace_id: str) -> list[Any]:
    return [span for span in there.spans if span.trace_id == trace_id]


def test_a_trace_leads_from_who_asked_to_the_turn_that_published(kafka: str, app_id: str, tmp_path: Path) -> None:
    with collector() as there, service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.settings["traces"] = {"endpoint": there.endpoint, "ratio": 0}
        serve = recording(made)
        worker = made.start()
        made.wait_for(lambda: bool(worker.owned), "owning")
        with ApiProcess(made, **serve) as api:
            api.wait_ready()
            api.predict(event(1))  # by nobody who traces
            status, _, _ = api.ask("POST", "/v1/predict", {"instances": [event(2)]}, traceparent=PARENT)
            assert status == 200
            label = {"id": "t2", "at": T0 + 40_000, "y": True}
            assert api.ask("POST", "/v1/feedback", {"labels": [label]}, traceparent=PARENT)[0] == 202
            assert api.ask("POST", "/v1/predict", {"instances": [{}]}, traceparent=PARENT)[0] == 422
            made.raw_visit(b"no avro", headers=[("traceparent", PARENT.encode())])
            made.wait_until_done()
            assert api.stop() == 0
        assert worker.stop() == 0, worker.log
        asked, labelled, refused = sorted(
            (span for span in spans_of(there, TRACE) if span.kind == SERVER), key=lambda span: span.began_ns
        )
        assert {asked.name, refused.name, labelled.name} == {"POST /v1/predict", "POST /v1/feedback"}
        assert asked.parent_id == labelled.parent_id == refused.parent_id == CALLER
        assert asked.attributes["http.route"] == "/v1/predict" and not refused.error
        statuses = [span.attributes["http.response.status_code"] for span in (asked, labelled, refused)]
        assert statuses == [200, 202, 422]
        turns = there.named(f"process {made.config.events.topic}")
        links = [link for turn in turns for link in turn.links]
        assert {(TRACE, asked.span_id), (TRACE, labelled.span_id), (TRACE, CALLER)} == set(links)
        (turn,) = [turn for turn in turns if (TRACE, asked.span_id) in turn.links]
        below = {span.name for span in spans_of(there, turn.trace_id) if span.parent_id == turn.span_id}
        assert {"process", "commit"} <= below <= {"fold", "process", "commit"} and turn.kind == CONSUMER
        assert turn.attributes["stream_ml.lineage"] == made.predictions()[0]["lineage"]
        (record,) = [one for one in made.read(made.config.predictions.topic) if b"t2" in (one.value or b"")]
        assert dict(record.headers)["traceparent"].split(b"-")[1:3] == [TRACE.encode(), asked.span_id.encode()]
        lines = [json.loads(line) for line in worker.log.splitlines() if "dead letter" in line]
        assert {line.get("trace_id") for line in lines} <= {span.trace_id for span in turns} and lines
        assert {span.resource["service.name"] for span in there.spans} == {f"{app_id}-api", f"{app_id}-worker"}
        assert not made.audit().findings


def test_without_a_collector_what_a_caller_says_travels_all_the_same(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        serve = recording(made)
        with ApiProcess(made, **serve) as api:
            api.wait_ready()
            assert api.ask("POST", "/v1/predict", {"instances": [event(1)]}, traceparent=PARENT)[0] == 200
            assert api.stop() == 0
        (record,) = made.read(made.config.events.topic)
        assert dict(record.headers)["traceparent"] == PARENT.encode()


def test_a_collector_that_is_away_holds_nothing_up_and_is_said(kafka: str, app_id: str, tmp_path: Path) -> None:
    away = {"endpoint": f"http://127.0.0.1:{free_port()}", "ratio": 1}
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, traces=away) as made:
        worker = made.start()
        made.pairs(range(200))
        made.wait_until_done()
        failed = 'stream_ml_spans_total{outcome="failed"}'
        assert until(lambda: failed in made.asked("/metrics")[1], 30), made.asked("/metrics")[1]
        assert made.ready and made.learned == 200
        assert worker.stop() == 0, worker.log
        said = [line for line in worker.log.splitlines() if "opentelemetry" in line]
        assert 0 < len(said) < 10, "said, and not for each attempt"
        assert not made.audit().findings


def test_an_endpoint_without_its_package_is_refused_in_words(kafka: str, app_id: str, tmp_path: Path) -> None:
    traces = {"endpoint": "http://127.0.0.1:4318"}
    with service(tmp_path, kafka, app_id, traces=traces) as made:
        without = tmp_path / "without/opentelemetry"
        without.mkdir(parents=True)
        (without / "__init__.py").write_text("raise ImportError('not here', name='opentelemetry')\n")
        made.code = without.parent
        worker = made.start()
        assert worker.wait() == 78
        assert "traces.endpoint needs the package opentelemetry" in worker.log
        assert "pip install 'stream-ml[otel]'" in worker.log
