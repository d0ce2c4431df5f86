"""The dashboard: made by its script, every query parses, and gives data on a real run behind a real Prometheus."""

import contextlib
import importlib.util
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from stream_ml.embedded.broker import free_port
from stream_ml.kafka.writing.commands import write_command
from stream_ml.observe.metrics import SERVE_TABLE, TABLE
from tests.deploy.prometheus import ROOT, needs_prometheus, prometheus, promtool
from tests.support.api_process import ApiProcess
from tests.support.service import service, until

FOLDER = ROOT / "deploy/grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
QUERIES = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
WAIT_S = 120.0


def plain(query: str) -> str:
    """A query as Prometheus gets it from Grafana."""
    for variable, value in (("$app", ".+"), ("$instance", ".+"), ("$__rate_interval", "30s")):
        query = query.replace(variable, value)
    return query


def test_the_file_is_what_its_script_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_dashboard", FOLDER / "make_dashboard.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.text() == (FOLDER / "dashboard.json").read_text("utf-8"), "python deploy/grafana/make_dashboard.py"


def test_every_metric_but_flags_and_failures_is_on_the_dashboard() -> None:
    shown = set(re.findall(r"stream_ml_[a-z0-9_]+", json.dumps(DASHBOARD)))
    missing = {metric.name for metric in (*TABLE, *SERVE_TABLE) if not shown & set(metric.exposed)}
    assert missing <= {
        "stream_ml_flags",
        "stream_ml_events_shed",
        "stream_ml_examples_dropped",
        "stream_ml_checkpoint_failures",
        "stream_ml_served_headers",
        "stream_ml_auth_failures",
        "stream_ml_serve_ready",
        "stream_ml_serve_position",
        "stream_ml_serve_evicted",
        "stream_ml_spans",
        "stream_ml_certificate_expires_timestamp_seconds",
    }


@needs_prometheus
def test_every_query_parses(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": plain(query)} for number, (_, query) in enumerate(QUERIES)]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    promtool("check", "rules", tmp_path / "panels.yml")


@needs_prometheus
@pytest.mark.kafka
def test_every_panel_has_data_on_a_real_run(kafka: str, app_id: str, tmp_path: Path) -> None:
    port = free_port()
    drift = {"inputs": {"reference": 1000, "window": 200}}
    settings = {"http": {"port": port}, "drift": drift, "checkpoints": {"interval": "1s"}}
    with service(tmp_path, kafka, app_id, **settings) as made, contextlib.ExitStack() as stack:
        made.start()
        api = stack.enter_context(ApiProcess(made))
        targets = (f"127.0.0.1:{port}", f"127.0.0.1:{api.admin_port}")
        server = stack.enter_context(prometheus(tmp_path / "p", *targets))
        numbers = itertools.count()

        def more() -> None:
            made.raw_visit(b"\xff")
            with contextlib.suppress(OSError):  # while it starts
                for asked in ({"x": 1.0, "kind": "k1", "note": None}, {"x": "much"}):
                    api.ask("POST", "/v1/predict", {"instances": [asked]})
            for number in itertools.islice(numbers, 100):
                made.pairs([number])
            made.producer.flush()

        left = [(title, plain(query)) for title, query in QUERIES]

        def shown() -> bool:
            more()
            left[:] = [(title, query) for title, query in left if not server.ask(query)]
            waiting = [title for title, _ in left if title != "Signals"]
            if not waiting and left:
                write_command(made.config, "freeze", {})
            return not left

        assert until(shown, WAIT_S), left
        assert server.unhealthy_rules() == []
