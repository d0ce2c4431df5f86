"""The alerts: a healthy worker raises none, each fault raises its own and no other; promtool decides."""

import re
from pathlib import Path

import pytest
import yaml

from stream_ml.observe.metrics import SERVE_TABLE, TABLE
from tests.deploy.prometheus import ROOT, RULES, needs_prometheus, promtool

OF = 'job="stream_ml", instance="w1:8080"'
JOB, WORKER = 'job="stream_ml"', OF


def series(name: str, labels: str = "") -> str:
    return f"stream_ml_{name}{{{OF}{', ' if labels else ''}{labels}}}"


EVENTS, BUCKET = 'topic="events"', "event_to_prediction_seconds_bucket"
UP, READY = f"up{{{OF}}}", series("ready")
LAG, LAG_S = series("consumer_lag_records", EVENTS), series("consumer_lag_seconds", EVENTS)
PREDICTIONS, DEAD_LETTERS = series("predictions_total"), series("dead_letters_total", 'reason="empty"')
FAST, WRITTEN = series(BUCKET, 'le="0.1"'), series("checkpoint_timestamp_seconds")
ABORTED = series("transactions_total", 'ending="aborted"')
HEALTHY = {  # a value every 15 s, sixty times: promtool's notation
    UP: "1x60",
    READY: "1x60",
    LAG: "0x60",
    LAG_S: "0x60",
    PREDICTIONS: "0+15000x60",
    DEAD_LETTERS: "0+1x60",
    FAST: "0+100x60",
    series(BUCKET, 'le="10"'): "0+100x60",
    series(BUCKET, 'le="+Inf"'): "0+100x60",
    series("learning_lag_seconds"): "0.2x60",
    WRITTEN: "0+15x60",
    series("examples_learned"): "0+100x60",
    series("start_timestamp_seconds"): "1x60",
    series("certificate_expires_timestamp_seconds", 'of="client"'): "9999999999x60",
    series("transactions_total", 'ending="committed"'): "0+100x60",
    ABORTED: "0x60",
    series("partitions", 'state="suspended"'): "0x60",
    series("drifted", 'subject="feature:x"'): "0x60",
    series("events_shed_total"): "0x60",
    **{series(name): "0x60" for name in ("label_starvation", "below_baseline", "concept_drifted", "learning_halted")},
    series("watched_above", 'of="orphans"'): "0x60",
    series("checkpoint_failing"): "0x20 1x8 0x32",
    series("checkpoint_away"): "0x20 1x20 0x20",
    **{series(name): "0x60" for name in ("exactly_once_broken", "partitioners_differ", "superseded")},
    series("serve_processes_ready"): "2x60",
    series("serve_processes_wanted"): "2x60",
    series("serve_age_seconds", 'child="1"'): "0.5x60",
    series("served_headers_total", 'outcome="honoured"'): "0+100x60",
    series("served_headers_total", 'outcome="seal"'): "0x60",
    **{series("models", f'state="{state}"'): "0x60" for state in ("missing", "halted")},
}
FAULTS = {  # alert: what is different, and the labels under which it fires
    "StreamMLDown": ({UP: "0x60"}, WORKER),
    "StreamMLNotReady": ({READY: "0x60"}, WORKER),
    "StreamMLStalled": ({LAG: "500x60", PREDICTIONS: "7x60", DEAD_LETTERS: "0x60"}, JOB),
    "StreamMLLagGrowing": ({LAG: "0+1000x60", LAG_S: "31+2x60"}, JOB),
    "StreamMLSlow": ({FAST: "0+10x60"}, JOB),
    "StreamMLRejects": ({DEAD_LETTERS: "0+500x60"}, JOB),
    "StreamMLLabelStarvation": ({series("label_starvation"): "1x60"}, JOB),
    "StreamMLStrangeRecords": ({series("watched_above", 'of="orphans"'): "1x60"}, f'{JOB}, of="orphans"'),
    "StreamMLFarExamples": ({series("examples_far"): "0x30 1x30"}, JOB),
    "StreamMLCostGrown": ({series("cost_growth", 'of="learn"'): "10x60"}, f'{JOB}, of="learn"'),
    "StreamMLModelLarge": ({series("model_bytes"): "81x60", series("model_bytes_max"): "100x60"}, WORKER),
    "StreamMLBelowBaseline": ({series("below_baseline"): "1x60"}, JOB),
    "StreamMLConceptDrift": ({series("concept_drifted"): "1x60"}, JOB),
    "StreamMLInputDrift": ({series("drifted", 'subject="feature:x"'): "1x60"}, f'{JOB}, subject="feature:x"'),
    "StreamMLLearningBehind": ({series("learning_lag_seconds"): "61+1x60"}, JOB),
    "StreamMLLearningHalted": ({series("learning_halted"): "1x60"}, JOB),
    "StreamMLExactlyOnceBroken": ({series("exactly_once_broken"): "1x60"}, JOB),
    "StreamMLPartitionSuspended": ({series("partitions", 'state="suspended"'): "2x60"}, JOB),
    "StreamMLCheckpointStale": ({WRITTEN: "-600x60"}, WORKER),
    "StreamMLCheckpointsAway": ({series("checkpoint_away"): "1x120"}, WORKER),
    "StreamMLCheckpointsFail": ({series("checkpoint_failing"): "1x60"}, WORKER),
    "StreamMLCertificateExpires": (
        {series("certificate_expires_timestamp_seconds", 'of="client"'): "1200000x60"},
        f'{WORKER}, of="client"',
    ),
    "StreamMLRestartLoop": ({series("start_timestamp_seconds"): "0+15x60"}, WORKER),
    "StreamMLAborts": ({ABORTED: "0+20x60"}, JOB),
    "StreamMLShedding": ({series("events_shed_total"): "0+10x60"}, JOB),
    "StreamMLSuperseded": ({series("superseded"): "1x60"}, JOB),
    "StreamMLModelMissing": ({series("models", 'state="missing"'): "1x60"}, WORKER),
    "StreamMLServeDown": ({series("serve_processes_ready"): "1x60"}, WORKER),
    "StreamMLServeOld": ({series("serve_age_seconds", 'child="1"'): "61x60"}, WORKER),
    "StreamMLAnswersNotPublished": ({series("served_headers_total", 'outcome="seal"'): "0+1x60"}, JOB),
    "StreamMLPartitionersDiffer": ({series("partitioners_differ"): "1x60"}, JOB),
}
OF_SUPERVISOR = {
    "stream_ml_serve_processes_ready",
    "stream_ml_serve_processes_wanted",
    "stream_ml_serve_restarts_total",
}
LOADED = yaml.safe_load(RULES.read_text("utf-8"))
ALERTS = {rule["alert"]: rule for group in LOADED["groups"] for rule in group["rules"] if "alert" in rule}


@needs_prometheus
def test_a_healthy_worker_raises_nothing_and_each_fault_its_own_alert(tmp_path: Path) -> None:
    fired: dict[str, list[str]] = {"healthy": []}
    for name, (_, labels) in FAULTS.items():
        of = f'alertname="{name}", alertstate="firing", severity="{ALERTS[name]["labels"]["severity"]}", {labels}'
        fired[name] = [f"ALERTS{{{of}}}"]
    tests = [
        {
            "name": name,
            "interval": "15s",
            "input_series": [
                {"series": one, "values": values} for one, values in (HEALTHY | FAULTS.get(name, ({}, ""))[0]).items()
            ],
            "promql_expr_test": [
                {
                    "expr": 'ALERTS{alertstate="firing"}',
                    "eval_time": "14m",
                    "exp_samples": [{"labels": labels, "value": 1} for labels in samples],
                }
            ],
        }
        for name, samples in fired.items()
    ]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": tests}), "utf-8")
    promtool("check", "rules", RULES)
    promtool("test", "rules", file)


def test_every_alert_has_a_test_a_page_and_something_to_type() -> None:
    pages = (ROOT / "docs/operate/runbook.md").read_text("utf-8")
    assert ALERTS.keys() == FAULTS.keys()
    for name, rule in ALERTS.items():
        said = rule["annotations"]
        assert said["summary"] and said["do"] and said["runbook"] == f"docs/operate/runbook.md#{name.lower()}"
        page = pages.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for part in ("**What it means.**", "**Look at.**", "**Type.**"):
            assert part in page, f"{name}: {part}"


@pytest.mark.parametrize(
    "file", ["deploy/prometheus/rules.yml", "deploy/grafana/dashboard.json", "docs/operate/runbook.md"]
)
def test_no_metric_is_named_that_does_not_exist(file: str) -> None:
    named = set(re.findall(r"\bstream_ml_[a-z0-9_]+", (ROOT / file).read_text("utf-8")))
    assert named
    assert named - {one for metric in (*TABLE, *SERVE_TABLE) for one in metric.exposed} - OF_SUPERVISOR == set()
