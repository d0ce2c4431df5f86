"""Makes dashboard.json, to be imported into Grafana: ``python deploy/grafana/make_dashboard.py``.

One row for each question of an operator, in the order in which they are asked. A test holds that the file is what this
script makes, that each query parses, that each metric exists, and that each gives data on a real run.
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OF = '{job=~"$app",instance=~"$instance"}'
API = '{job=~"$app"}'  # its processes are no workers
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 8, 7

# row: (title, unit, [(legend, query)])
PANELS: dict[str, list[tuple[str, str, list[tuple[str, str]]]]] = {
    "Is it well?": [
        ("Ready workers", "short", [("ready", f"sum(stream_ml_ready{OF})")]),
        ("Partitions", "short", [("{{state}}", f"sum by (state) (stream_ml_partitions{OF})")]),
        (
            "What is wrong",
            "short",
            [
                ("learning halted", f"max(stream_ml_learning_halted{OF})"),
                ("below the baseline", f"max(stream_ml_below_baseline{OF})"),
                ("loss has risen", f"max(stream_ml_concept_drifted{OF})"),
                ("inputs drift", f"sum(stream_ml_drifted{OF})"),
                ("labels stay away", f"sum(stream_ml_label_starvation{OF})"),
                ("exactly once broken", f"max(stream_ml_exactly_once_broken{OF})"),
                ("learning frozen", f"max(stream_ml_learning_frozen{OF})"),
                ("superseded", f"max(stream_ml_superseded{OF})"),
                ("partitioners differ", f"max(stream_ml_partitioners_differ{OF})"),
            ],
        ),
    ],
    "Does it keep up?": [
        (
            "Throughput",
            "reqps",
            [
                ("predictions", f"sum(rate(stream_ml_predictions_total{OF}[$__rate_interval]))"),
                ("labels", f"sum(rate(stream_ml_labels_total{OF}[$__rate_interval]))"),
            ],
        ),
        ("Lag in seconds", "s", [("{{topic}}", f"max by (topic) (stream_ml_consumer_lag_seconds{OF})")]),
        (
            "Lag in records",
            "short",
            [
                ("{{topic}}", f"sum by (topic) (stream_ml_consumer_lag_records{OF})"),
                ("first backlog", f"sum(stream_ml_first_backlog_events{OF})"),
            ],
        ),
        (
            "From event to prediction",
            "s",
            [
                (f"p{quantile * 100:g}", _quantile)
                for quantile, _quantile in (
                    (
                        of,
                        f"histogram_quantile({of}, sum by (le) "
                        f"(rate(stream_ml_event_to_prediction_seconds_bucket{OF}[$__rate_interval])))",
                    )
                    for of in (0.5, 0.9, 0.99)
                )
            ],
        ),
        (
            "A batch's stages, mean",
            "s",
            [
                (
                    "{{stage}}",
                    f"sum by (stage) (rate(stream_ml_stage_seconds_sum{OF}[$__rate_interval])) / "
                    f"sum by (stage) (rate(stream_ml_stage_seconds_count{OF}[$__rate_interval]))",
                )
            ],
        ),
        ("Models that are wanted", "short", [("{{state}}", f"sum by (state) (stream_ml_models{OF})")]),
        ("Epoch of who serves", "short", [("{{instance}}", f"stream_ml_model_epoch{OF}")]),
        ("Learning behind the log", "s", [("{{instance}}", f"stream_ml_learning_lag_seconds{OF}")]),
    ],
    "How good is it?": [
        (
            "Quality of the last n labels",
            "short",
            [("{{metric}}, {{of}}", f'avg by (metric, of) (stream_ml_quality{{window="last",{OF[1:]})')],
        ),
        (
            "Quality over its life",
            "short",
            [("{{metric}}, {{of}}", f'avg by (metric, of) (stream_ml_quality{{window="life",{OF[1:]})')],
        ),
        (
            "Maturity: events that have their label",
            "percentunit",
            [("{{instance}}", f"stream_ml_labelled_ratio{OF}")],
        ),
        ("Delay of labels", "s", [("{{quantile}}", f"max by (quantile) (stream_ml_label_delay_seconds{OF})")]),
        ("Loss", "short", [("loss", f"avg(stream_ml_loss{OF})")]),
        ("Labels in the windows", "short", [("{{window}}", f"max by (window) (stream_ml_quality_examples{OF})")]),
    ],
    "Does the world change?": [
        ("Drift by feature", "short", [("{{subject}}", f"max by (subject) (stream_ml_drift_index{OF})")]),
        (
            "Scores",
            "reqps",
            [("up to {{upto}}", f"sum by (upto) (rate(stream_ml_scores_total{OF}[$__rate_interval]))")],
        ),
        ("Features missing", "percentunit", [
            ("{{subject}}", f"max by (subject) (stream_ml_feature_missing_ratio{OF})")
        ]),
        ("Signals", "short", [("{{kind}}", f"sum by (kind) (increase(stream_ml_signals_total{OF}[1h]))")]),
        ("Labels by what became of them", "reqps", [
            ("{{outcome}}", f"sum by (outcome) (rate(stream_ml_labels_total{OF}[$__rate_interval]))")
        ]),
        ("Records whose ids or times do not fit", "percentunit", [
            ("{{of}}", f"max by (of) (stream_ml_watched_ratio{OF})"),
            ("1: too many {{of}}", f"max by (of) (stream_ml_watched_above{OF})"),
        ]),
        ("Too late by the partition's time", "reqps", [
            ("events", f"sum(rate(stream_ml_events_too_old_total{OF}[$__rate_interval]))"),
            ("labels, {{outcome}}", f"sum by (outcome) (rate(stream_ml_labels_passed_total{OF}[$__rate_interval]))"),
        ]),
        ("Dead letters", "reqps", [
            ("{{reason}}", f"sum by (reason) (rate(stream_ml_dead_letters_total{OF}[$__rate_interval]))")
        ]),
    ],
    "Does it last?": [
        ("Pending events and labels", "short", [
            ("events", f"sum(stream_ml_pending_events{OF})"),
            ("labels", f"sum(stream_ml_pending_labels{OF})"),
        ]),
        ("Memory of pending", "bytes", [("{{instance}}", f"stream_ml_pending_bytes{OF}")]),
        ("Checkpoint: age", "s", [("{{instance}}", f"time() - stream_ml_checkpoint_timestamp_seconds{OF}")]),
        ("Checkpoint: size", "bytes", [("{{instance}}", f"stream_ml_checkpoint_bytes{OF}")]),
        ("Checkpoint: 1 cannot be written", "short", [
            ("{{instance}}", f"stream_ml_checkpoint_failing{OF}"),
            ("{{instance}}, to the bucket", f"stream_ml_checkpoint_away{OF}"),
        ]),
        ("Checkpoint: time", "s", [("{{instance}}", f"stream_ml_checkpoint_seconds{OF}")]),
        ("Model", "short", [
            ("examples learned", f"max(stream_ml_examples_learned{OF})"),
            ("far from all others", f"max(stream_ml_examples_far{OF})"),
            ("position", f"max(stream_ml_model_position{OF})"),
        ]),
        ("Model: size", "bytes", [
            ("{{instance}}", f"stream_ml_model_bytes{OF}"),
            ("limit", f"min(stream_ml_model_bytes_max{OF})"),
        ]),
        ("Time of one record", "s", [("{{of}}", f"max by (of) (stream_ml_cost_seconds{OF})")]),
        ("Times as slow as at first", "short", [("{{of}}", f"max by (of) (stream_ml_cost_growth{OF})")]),
    ],
    "And Kafka?": [
        ("Transactions", "reqps", [
            ("{{ending}}", f"sum by (ending) (rate(stream_ml_transactions_total{OF}[$__rate_interval]))")
        ]),
        ("Round trip to the slowest broker", "s", [
            ("{{of}}", f"max by (of) (stream_ml_broker_round_trip_seconds{OF})")
        ]),
        ("Throttled", "s", [("{{instance}}", f"stream_ml_broker_throttle_seconds{OF}")]),
        ("Brokers connected", "short", [("{{instance}}", f"stream_ml_brokers_up{OF}")]),
        ("Rebalances", "short", [("{{instance}}", f"increase(stream_ml_rebalances_total{OF}[1h])")]),
        ("Up for", "s", [("{{instance}}", f"time() - stream_ml_start_timestamp_seconds{OF}")]),
    ],
    "Does the API answer?": [
        ("Requests", "reqps", [
            ("{{status}}", f"sum by (status) (rate(stream_ml_http_requests_total{API}[$__rate_interval]))")
        ]),
        ("Time of a request", "s", [
            (
                f"p{quantile * 100:g}",
                f"histogram_quantile({quantile}, sum by (le) "
                f"(rate(stream_ml_http_seconds_bucket{API}[$__rate_interval])))",
            )
            for quantile in (0.5, 0.9, 0.99)
        ]),
        ("Refusals", "reqps", [
            ("{{kind}}", f"sum by (kind) (rate(stream_ml_http_refusals_total{API}[$__rate_interval]))")
        ]),
        ("Age of the model", "s", [("{{instance}} {{child}}", f"stream_ml_serve_age_seconds{API}")]),
        ("Processes", "short", [
            ("answer", f"sum(stream_ml_serve_processes_ready{API})"),
            ("are wanted", f"sum(stream_ml_serve_processes_wanted{API})"),
            ("replaced in an hour", f"sum(increase(stream_ml_serve_restarts_total{API}[1h]))"),
        ]),
        ("At once", "short", [
            ("requests", f"sum(stream_ml_serve_in_flight{API})"),
            ("connections", f"sum(stream_ml_serve_connections{API})"),
        ]),
        ("Folded beside requests", "ops", [
            ("{{instance}} {{child}}", f"rate(stream_ml_serve_folded_total{API}[$__rate_interval])")
        ]),
    ],
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana's JSON model, schema 39."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row, of in PANELS.items():
        panels.append(
            {
                "type": "row",
                "title": row,
                "id": len(panels) + 1,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
                "panels": [],
                "collapsed": False,
            }
        )
        y += 1
        for number, (title, unit, queries) in enumerate(of):
            place = {"h": HEIGHT, "w": WIDTH, "x": WIDTH * (number % 3), "y": y + HEIGHT * (number // 3)}
            panels.append(_panel(len(panels) + 1, title, unit, queries, place))
        y += HEIGHT * -(-len(of) // 3)
    return {
        "title": "stream_ml",
        "uid": "stream-ml",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "tags": ["stream_ml"],
        "templating": {"list": _variables()},
        "annotations": {"list": [_signals()]},
        "panels": panels,
    }


def _panel(number: int, title: str, unit: str, queries: list[tuple[str, str]], place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(65 + at), "expr": query, "legendFormat": legend, "datasource": SOURCE}
        for at, (legend, query) in enumerate(queries)
    ]
    return {
        "type": "timeseries",
        "id": number,
        "title": title,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit, "min": None}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    found = [source]
    for name, label, query in (
        ("app", "Application", "label_values(stream_ml_ready, job)"),
        ("instance", "Worker", 'label_values(stream_ml_ready{job=~"$app"}, instance)'),
    ):
        found.append(
            {
                "name": name,
                "label": label,
                "type": "query",
                "datasource": SOURCE,
                "query": query,
                "refresh": 2,
                "includeAll": True,
                "multi": True,
                "current": {"text": "All", "value": "$__all"},
            }  # type: ignore[dict-item]
        )
    return found


def _signals() -> dict[str, Any]:
    return {
        "name": "Signals",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "orange",
        "expr": f"sum by (kind) (increase(stream_ml_signals_total{OF}[1m])) > 0",
        "titleFormat": "{{kind}}",
        "step": "60s",
    }


def text() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    (HERE / "dashboard.json").write_text(text(), "utf-8")
