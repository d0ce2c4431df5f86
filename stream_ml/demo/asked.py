"""The demo over HTTP: flights are asked for while the model learns, the last landings are told over HTTP, and each
answer is derived again from the log.
"""

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from stream_ml.config import Config
from stream_ml.demo.flights import Item
from stream_ml.errors import FatalError
from stream_ml.follower.identity import identified
from stream_ml.kafka.topics import inspect_topics

TOLD = 100  # landings that are told over HTTP, each waited for
PAUSE_S = 0.01  # between two questions: about a hundred a second
EACH = 5  # flights in a question
READY_S = 120.0
STOP_S = 30.0


class Asker(threading.Thread):
    """Asks for flights that have been, or will be, until told to end."""

    def __init__(self, port: int, items: list[Item]) -> None:
        super().__init__(daemon=True)
        self._where = ("127.0.0.1", port)
        self._connection: http.client.HTTPConnection | None = None
        self._flights = [item for item in items if item.kind == "event"]
        self._chance, self._ended = random.Random(1), threading.Event()
        self.requests, self.answers = 0, list[dict[str, Any]]()
        self.failed: Counter[str] = Counter()
        self.waited_ms: list[float] = []

    def run(self) -> None:
        while not self._ended.is_set():
            chosen = [self._chance.choice(self._flights) for _ in range(EACH)]
            self.ask([item.values for item in chosen], {})
            time.sleep(PAUSE_S)  # the rate of the questions

    def ask(self, instances: list[dict[str, Any]], headers: dict[str, str]) -> None:
        """One question; its answers are kept with what was asked."""
        self.requests += 1
        said = self._post("/v1/predict", {"instances": instances}, headers)
        if said is None:
            return
        model = said["model"]
        for instance, one in zip(instances, said["predictions"], strict=True):
            kept = {"instance": instance, "class": one["class"], "score": one["score"]}
            self.answers.append({**kept, "lineage": model["lineage"], "position": model["position"]})

    def tell(self, labels: list[Item], flights: dict[str, Item]) -> None:
        """Tell landings, one after the other, and ask for each flight of a model that has learned it."""
        for item in labels:
            began_s = time.monotonic()
            said = self._post("/v1/feedback", {"labels": [item.values]}, {})
            if said is None:
                continue
            self.ask([flights[item.flight_id].values], {"Stream-ML-After": said["after"], "Prefer": "wait=30"})
            self.waited_ms.append(1000 * (time.monotonic() - began_s))

    def _post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any] | None:
        try:
            connection = self._connection = self._connection or http.client.HTTPConnection(*self._where, timeout=60)
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            found: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException) as error:
            self._connection = None
            self.failed[str(error)[:100]] += 1
            return None
        if answer.status >= 300:
            self.failed[str(found.get("detail"))[:100]] += 1
            return None
        return found

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()
        self.join(STOP_S)


def held_back(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """The records to be played, and the last landings that flights have passed by then, which are told over HTTP.

    A label that is later than all events a worker holds for half a second: an event may still come before it.
    """
    end_ms = max(item.time_ms for item in items if item.kind == "event")
    labels = [number for number, item in enumerate(items) if item.kind == "label" and item.time_ms <= end_ms][-TOLD:]
    last = {*labels}
    return [item for number, item in enumerate(items) if number not in last], [items[number] for number in labels]


def api_process(config_file: Path, log_file: Path, port: int) -> "subprocess.Popen[bytes]":
    """``stream-ml serve``, once it answers."""
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stream_ml", "serve", str(config_file)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"},
        )
    deadline = time.monotonic() + READY_S
    while not _is_ready(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise FatalError(f"the API did not start:\n{log_file.read_text('utf-8', 'replace')[-2000:]}")
        time.sleep(0.1)  # between two looks
    return process


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def checked(config: Config, config_file: Path, asker: Asker, folder: Path) -> dict[str, Any]:
    """What asking came to; every answer derived again in a process that has the log's hash seed."""
    kept = folder / "answers.json"
    kept.write_text(json.dumps(asker.answers), "utf-8")
    facts = identified(config, inspect_topics(config), make=False)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "stream_ml.demo.derive", str(config_file), str(kept)],
        env={**os.environ, "PYTHONHASHSEED": str(facts.log.hash_seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FatalError(f"the answers cannot be derived again:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    waited = sorted(asker.waited_ms)
    return {
        "requests": asker.requests,
        "answers": len(asker.answers),
        "answers_checked": found["checked"],
        "answers_wrong": found["wrong"],
        "versions": found["versions"],
        "failed": sum(asker.failed.values()),
        "failures": dict(asker.failed),
        "labels_told": len(waited),
        "label_to_answer_ms": round(waited[len(waited) // 2], 1) if waited else None,
    }


def words(result: dict[str, Any]) -> str:
    """What a person reads of it."""
    return (
        f"{result['requests']:,} questions over HTTP, {result['failed']} failed; all {result['answers_checked']:,} "
        f"predictions of {result['versions']:,} versions derived again from the log, {result['answers_wrong']} of them "
        f"differ by a bit; from a landing told to an answer that knows it {result['label_to_answer_ms']} ms"
    )
