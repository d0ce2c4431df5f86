"""``stream-ml demo``: a real Kafka, one worker, a year of flights; then the topics are read and counted."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from stream_ml import formats
from stream_ml.app.assemble import assemble
from stream_ml.audit.audit import audit
from stream_ml.config import Config, load_config
from stream_ml.demo.asked import Asker, api_process, checked, held_back, words
from stream_ml.demo.display import Display
from stream_ml.demo.drift import drift_report, planted
from stream_ml.demo.elsewhere import counted
from stream_ml.demo.flights import Item, flights
from stream_ml.demo.past import RolledBack, past_report, past_words, poisoned
from stream_ml.demo.player import play
from stream_ml.demo.upgrade import FACTORY, Restarted, upgrade_report, write_model
from stream_ml.embedded.broker import EmbeddedKafka, free_port
from stream_ml.errors import FatalError
from stream_ml.follower.identity import identified
from stream_ml.follower.restore import BOOK
from stream_ml.kafka.topics import create_topics, inspect_topics

PARTITIONS = 1
STOP_S = 30.0  # for the worker to finish its turn and write a checkpoint

_CONFIG = """\
app: {{id: flights}}
worker: {{instance: demo}}
kafka: {{bootstrap_servers: "{servers}"}}
events:
  topic: flights
  schema: {schemas}/flight.avsc
  id: flight_id
  time: scheduled_departure
feedback:
  topic: arrivals
  schema: {schemas}/arrival.avsc
  id: flight_id
  label: late
  time: landed_at
  ttl: 2d
  early_ttl: 6h
predictions:
  topic: flight-delays
  carry: [carrier, origin]
model:
  factory: {factory}
  task: binary
http: {{port: {port}}}
serve: {{port: {api_port}, admin_port: 0, feedback: true, drain: 0s}}
learning: {{budget_per_turn: 500ms}}
quality: {{window: 5000}}
drift:
  concept: {{watch: advantage, params: {{delta: 0.0001}}}}
  inputs: {{exclude: [month, weekday]}}
checkpoints: {{directory: checkpoints}}
"""


def run_demo(
    limit: int | None,
    directory: Path | None,
    *,
    drift: bool,
    upgrade: bool = False,
    serve: bool = False,
    replay: bool = False,
) -> None:
    """Run the demo and print what happened; the last line of standard output is JSON.

    Parameters
    ----------
    drift
        From a day on a feature means something else.
    upgrade
        In the middle the model is another one.
    serve
        Flights are asked for over HTTP meanwhile, and the last landings told over HTTP.
    replay
        A day's labels are wrong; it is left out by a rollback, and models are compared on what has been.
    """
    started = time.monotonic()
    console = Console(stderr=not sys.stdout.isatty())
    with contextlib.ExitStack() as stack:
        folder = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stream-ml-demo-")))
        console.print("starting Apache Kafka (the first time its jars are downloaded, 43 MB)", soft_wrap=True)
        kafka = stack.enter_context(EmbeddedKafka(folder / "kafka"))
        file = folder / "stream_ml.yaml"
        of = {"servers": kafka.bootstrap_servers, "schemas": formats.FOLDER, "port": free_port()}
        of["api_port"] = free_port()
        file.write_text(_CONFIG.format(**of, factory=FACTORY if upgrade else "stream_ml.demo.model:build"), "utf-8")
        write_model(folder, after=False)
        config = load_config(file)
        create_topics(config, PARTITIONS, dry_run=False)
        with worker_process(file, folder / "worker.log", upgrade=upgrade) as worker:
            items = planted(flights(limit)) if drift else flights(limit)  # read while the worker starts
            items = poisoned(items) if replay else items
            rolled_back = RolledBack(file, items) if replay else None
            where = f"Kafka answers at {kafka.bootstrap_servers}, the worker at http://127.0.0.1:{config.http.port}/"
            console.print(f"{where}; {len(items):,} records to play, faster than real time", soft_wrap=True)
            told = list[Item]()
            if serve:
                items, told = held_back(items)
            with _asked(config, file, folder, items, wanted=serve) as asker:
                with Display(config.http.port, len(items), console) as display:
                    play(config, items, worker, partial(_progress, worker, display, len(items), rolled_back))
                if rolled_back is not None:
                    rolled_back.wait()
                if asker is not None:
                    asker.end()
                    asker.tell(told, {item.flight_id: item for item in items if item.kind == "event"})
        console.print("reading every topic from its beginning to count what is there", soft_wrap=True)
        result = _result(config, folder) | (drift_report(config) if drift else {})
        result |= upgrade_report(config, assemble(config).predictions) if upgrade else {}
        result |= checked(config, file, asker, folder) if asker is not None else {}
        result |= past_report(config, file, Path("replay-report")) if replay else {}
    result["seconds"] = round(time.monotonic() - started, 1)
    console.print(_words(result), soft_wrap=True)
    if drift:
        console.print(_drift_words(result), soft_wrap=True)
    if upgrade:
        console.print(_upgrade_words(result), soft_wrap=True)
    if serve:
        console.print(words(result), soft_wrap=True)
    if replay:
        console.print(past_words(result), soft_wrap=True)
        console.print("the report: replay-report/report.html", soft_wrap=True)
    print(json.dumps(result))  # noqa: T201 - the demo's result
    if result["lost"] or result["duplicated"]:
        raise FatalError(f"{result['lost']} events were lost and {result['duplicated']} came twice")


@contextlib.contextmanager
def _asked(config: Config, file: Path, folder: Path, items: list[Item], *, wanted: bool) -> Iterator[Asker | None]:
    """Whoever asks over HTTP meanwhile, where that is wanted."""
    if not wanted:
        yield None
        return
    process = api_process(file, folder / "api.log", config.serve.port)
    asker = Asker(config.serve.port, items)
    try:
        asker.start()
        yield asker
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S)


def _progress(
    worker: "Restarted | subprocess.Popen[bytes]",
    display: Display,
    total: int,
    rolled_back: RolledBack | None,
    done: int,
) -> None:
    display.progress(done)
    if rolled_back is not None:
        rolled_back.progress(done)
    if isinstance(worker, Restarted):
        worker.progress(done, total)


@contextlib.contextmanager
def worker_process(
    config_file: Path, log_file: Path, *, upgrade: bool = False
) -> Iterator["Restarted | subprocess.Popen[bytes]"]:
    """A worker in a process of its own; stopped with SIGTERM at the end. `upgrade`: restarted on the way."""
    worker: Any = Restarted(config_file, partial(_started, config_file, log_file)) if upgrade else None
    first = worker.process if upgrade else _started(config_file, log_file)
    try:
        yield worker or first
        process = worker.process if upgrade else first
        process.send_signal(signal.SIGTERM)
        if process.wait(STOP_S) != 0:
            raise _ended(process, log_file)
    except FatalError:
        process = worker.process if upgrade else first
        if process.poll() in (None, 0):
            raise
        raise _ended(process, log_file) from None  # whoever noticed it: why stands in the worker's log
    finally:
        process = worker.process if upgrade else first
        if process.poll() is None:
            process.kill()
            process.wait()


def _started(config_file: Path, log_file: Path) -> "subprocess.Popen[bytes]":
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "stream_ml", "run", str(config_file)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"},
        )


def _ended(process: "subprocess.Popen[bytes]", log_file: Path) -> FatalError:
    last_words = "\n".join(log_file.read_text("utf-8", "replace").splitlines()[-15:])
    return FatalError(f"the worker ended with {process.returncode}:\n{last_words}")


def _result(config: Config, folder: Path) -> dict[str, Any]:
    parts, facts = assemble(config), identified(config, inspect_topics(config), make=False)
    found = audit(parts, facts, sample=None)
    header = _newest(folder / "checkpoints", f"{parts.lineage(facts.log.log_id)}/*.ckpt")
    quality = _newest(folder / "checkpoints", f"{BOOK}/*/*.ckpt")["quality"]
    return {
        **counted(found),
        "examples_learned": header["examples_learned"],
        "auc": round(quality["auc"], 4),
        "auc_baseline": round(quality["auc_baseline"], 4),
        "log_loss": round(quality["log_loss"], 4),
        "log_loss_baseline": round(quality["log_loss_baseline"], 4),
        "version": f"{header['lineage']}/{header['position']}",
    }


def _newest(folder: Path, pattern: str) -> dict[str, Any]:
    """What the newest checkpoint says of itself."""
    with max(folder.glob(pattern)).open("rb") as file:
        header: dict[str, Any] = json.loads(file.readline())
    return header


def _words(result: dict[str, Any]) -> str:
    return (
        f"{result['events']:,} flights scored, {result['examples_learned']:,} landings learned, "
        f"{result['lost']} lost, {result['duplicated']} twice (counted in the topics)\n"
        f"ROC AUC {result['auc']:.3f}, knowing only the labels {result['auc_baseline']:.3f}; "
        f"log loss {result['log_loss']:.3f} against {result['log_loss_baseline']:.3f}; model {result['version']}"
    )


def _upgrade_words(result: dict[str, Any]) -> str:
    by = ", then ".join(f"{one['predictions']:,} by {one['lineage']}" for one in result["epochs"])
    return (
        f"the model was changed in the middle: {by}; flights waited {result['longest_pause_s']:.1f} s at most while "
        f"nothing was predicted, {result['superseded']:,} predictions were by a superseded model, "
        f"{result['role_findings']} by one that did not serve"
    )


def _drift_words(result: dict[str, Any]) -> str:
    told = f"told {result['labels_until_detected']:,} labels later" if result["drift_detected"] else "not noticed"
    auc = " ".join(f"{name} {result[f'quality_{name}']}" for name in ("before", "at_worst", "after"))
    return f"from {result['drift_from']} on `hour` meant something else: {told}; ROC AUC {auc.replace('_', ' ')}"
