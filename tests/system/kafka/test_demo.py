"""The demo, shortened: its last line is JSON, and what it says was counted in the topics."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kafka


def test_the_demo_loses_nothing_and_prints_json_last(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stream_ml", "demo", "--limit", "1500", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["events"], found["lost"], found["duplicated"]) == (1500, 0, 0)
    assert found["predictions"] + sum(found["dead_letters"].values()) == 1500
    assert found["labels"] == found["labels_joined"] == found["examples_learned"] > 1400
    assert {"outcomes", "auc", "auc_baseline", "log_loss", "seconds"} <= set(found)
