"""Debian's Prometheus for tests: promtool, and a server that scrapes processes of ours."""

import contextlib
import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_ml.embedded.broker import free_port
from tests.support.paths import ROOT

RULES = ROOT / "deploy/prometheus/rules.yml"
PROMTOOL, SERVER = shutil.which("promtool"), shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(
    PROMTOOL is None or SERVER is None, reason="promtool and prometheus are not there: apt-get install prometheus"
)


def promtool(*arguments: str | Path) -> None:
    """Run promtool; what it prints is the failure's text."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """A running server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What an instant query gives; empty while the server starts."""
        return self._get(f"/query?{urllib.parse.urlencode({'query': query})}").get("result", [])  # type: ignore[no-any-return]

    def unhealthy_rules(self) -> list[str]:
        """Rules that could not be evaluated."""
        groups = self._get("/rules").get("groups", [])
        rules = [rule for group in groups for rule in group["rules"]]
        return [rule["name"] for rule in rules if rule["health"] == "err"]

    def _get(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(self._url + path, timeout=10) as answer:
                return json.load(answer)["data"]  # type: ignore[no-any-return]
        except OSError:
            return {}


@contextlib.contextmanager
def prometheus(folder: Path, *targets: str) -> Iterator[Prometheus]:
    """Debian's server with our rules, scraping processes of ours each second."""
    assert SERVER is not None
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "visits", "static_configs": [{"targets": [*targets]}]}],
    }
    folder.mkdir()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    port = free_port()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                SERVER,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield Prometheus(port)
    finally:
        server.terminate()
        server.wait(30)
