"""What stands beside the package runs as it stands: the example configuration, the benchmarks."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.config import load_config
from tests.support.paths import ROOT


def test_the_configuration_to_copy_is_valid_and_has_no_secret() -> None:
    file = ROOT / "deploy" / "stream_ml.yaml"
    config = load_config(file)
    assert config.feedback.ttl == 2 * 86_400_000
    assert not any("password" in key for key in config.kafka.properties)
    assert "password" not in str(yaml.safe_load(file.read_text("utf-8"))).lower()


@pytest.mark.parametrize("script", ["core.py"])
def test_a_benchmark_runs_and_says_how_it_compares_with_river_alone(script: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / script), "300", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" us")[0].split() for line in done.stdout.splitlines()]
    assert [" ".join(row[:-1]) for row in rows][-1] == "core"
    assert all(float(row[-1]) > 0 for row in rows)


def test_the_example_without_kafka_shows_a_model_that_learns(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "shop", tmp_path / "shop")
    command = [sys.executable, "offline.py"]
    done = subprocess.run(command, cwd=tmp_path / "shop", capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    said = re.match(r"200 events scored and learned: \{'auc': ([\d.]+)", done.stdout)
    assert said is not None and float(said[1]) > 0.9, done.stdout


@pytest.mark.parametrize("name", ["stream_ml.yaml", "model.py", "event.avsc", "label.avsc", "README.md"])
def test_the_example_is_what_init_writes(name: str, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["init", str(tmp_path / "shop")])
    assert found.exit_code == 0, found.output
    assert (ROOT / "examples" / "shop" / name).read_text("utf-8") == (tmp_path / "shop" / name).read_text("utf-8")
