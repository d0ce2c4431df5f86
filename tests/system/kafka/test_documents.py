"""The programs of the documents run as they stand there, but for the address of Kafka."""

import functools
import json
import re
import shlex
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_ml.admin.observer import Observer
from stream_ml.cli.app import app
from stream_ml.config import load_config
from tests.support.paths import ROOT
from tests.support.service import until
from tests.system.kafka.test_init import all_read, finished, stream_ml

pytestmark = pytest.mark.kafka

PAGES = ("docs/start/producer-consumer.md", "docs/start/notebook.md", "README.md")
PROGRAMS = [re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.S) for page in PAGES]
(PRODUCER, CONSUMER), (NOTEBOOK,), (FACE,) = PROGRAMS


def run(folder: Path, program: str) -> subprocess.Popen[str]:
    """A program, in the folder of the app."""
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def typed(*arguments: str) -> str:
    """What a verb prints."""
    found = CliRunner().invoke(app, list(arguments))
    assert found.exit_code == 0, f"{found.output}{found.exception}"
    return found.output


def test_producer_consumer_and_notebook_of_the_readme(kafka: str, app_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    topics = [flag for name in ("events", "feedback", "predictions") for flag in (f"--{name}", f"{app_id}-{name}")]
    typed("init", str(folder), "--app", app_id, "--kafka", kafka, *topics)
    config = str(folder / "stream_ml.yaml")
    typed("topics", "create", config)
    (folder / "prediction.avsc").write_text(typed("schema", "show", config, "predictions"), "utf-8")
    names = {"localhost:9092": kafka, "shop-events": f"{app_id}-events", "shop-labels": f"{app_id}-feedback"}
    names |= {"shop-predictions": f"{app_id}-predictions", '"reader"': f'"{app_id}-reader"'}

    def adapted(program: str) -> str:
        for name, other in names.items():
            program = program.replace(name, other)
        return program

    _, errors = (producing := run(folder, adapted(PRODUCER))).communicate(timeout=60)
    assert producing.returncode == 0, errors
    worker = subprocess.Popen([sys.executable, "-m", "stream_ml", "run", config, "--set", "http.port=0"])
    consuming = run(folder, adapted(CONSUMER))
    try:
        assert consuming.stdout is not None
        assert re.match(r"order-1 (True|False|true|false) 0\.5 by [0-9a-f]{16}/\d+", consuming.stdout.readline())
        assert until(lambda: "1 predictions, 1 examples" in typed("audit", config, "--sample", "0"), 60)
    finally:
        consuming.kill()
        consuming.communicate()
        worker.terminate()
        assert worker.wait(60) == 0
    said, errors = (notebook := run(folder, NOTEBOOK)).communicate(timeout=60)
    assert notebook.returncode == 0, errors
    assert "'event_id': 'order-1'" in said and "[{'outcome': 'joined'}]" in said
    said, errors = (face := run(folder, FACE)).communicate(timeout=60)
    assert face.returncode == 0, errors
    assert "'event_id': 'order-1'" in said


def test_a_first_run_as_the_readme_types_it_shows_a_model_that_learns(kafka: str, app_id: str, tmp_path: Path) -> None:
    folder = tmp_path / app_id
    typed("init", str(folder), "--kafka", kafka)
    lines = [line.strip() for line in (folder / "README.md").read_text("utf-8").splitlines() if line.startswith("    ")]
    commands = [shlex.split(line, comments=True)[1:] for line in lines]
    for command in commands[: [verb for verb, *_ in commands].index("audit")]:
        process = stream_ml(folder, *(word for word in command if word != "&"))
        if command[0] == "run":
            running = process  # in a terminal of its own: what stands below is typed meanwhile
            continue
        code, said = finished(process)
        assert code == 0, said
    observer = Observer(load_config(folder / "stream_ml.yaml"), 4)
    assert until(functools.partial(all_read, observer, 400), 60)
    observer.close()
    running.send_signal(signal.SIGINT)
    assert finished(running)[0] == 130
    said = typed("tail", str(folder / "stream_ml.yaml"), "predictions", "--last", "200", "--json")
    scores = {row["event_id"]: row["score"] for row in map(json.loads, said.splitlines())}
    labels = {
        row["id"]: row["label"] for row in map(json.loads, (folder / "labels.jsonl").read_text("utf-8").splitlines())
    }
    true, false = ([scores[name] for name in labels if labels[name] is truth] for truth in (True, False))
    above = sum((t > f) + (t == f) / 2 for t, f in product(true, false))
    assert len(scores) == 200 and above / (len(true) * len(false)) > 0.9
