"""The flights played to a Kafka and workers that somebody else runs: composed containers, a cluster."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from stream_ml.admin.play import Played, play_all
from stream_ml.app.assemble import assemble
from stream_ml.audit.audit import Audit, audit
from stream_ml.config import Config
from stream_ml.core.inputs.rows import RowEncoder
from stream_ml.demo.flights import flights
from stream_ml.errors import FatalError
from stream_ml.follower.identity import identified
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.topics import inspect_topics

STEP = 250  # flights that are scored with one model at most
SAID_S = 5.0  # between two lines
TAKEN_S = 180.0  # for workers to take a step: one may be started anew meanwhile, on another machine


def play_elsewhere(config: Config, limit: int | None) -> None:
    """Play flights in the order of their times and count what is in the topics; the last line is JSON.

    Raises
    ------
    TransientError
        No worker takes what was written.
    FatalError
        Something was lost, or is there twice.
    """
    began_s, console = time.monotonic(), Console(stderr=not sys.stdout.isatty())
    items = flights(limit)

    def say(words: str) -> None:
        console.print(words, soft_wrap=True)

    say(f"playing {len(items):,} records to Kafka at {config.kafka.bootstrap_servers}")
    parts = assemble(config)
    encoders = {
        "event": (config.events.topic, RowEncoder(config.events, parts.reader.payloads, "events")),
        "label": (config.feedback.topic, RowEncoder(config.feedback, parts.feedback.payloads, "feedback")),
    }

    def played(kind: str) -> list[Played]:
        topic, rows = encoders[kind]
        pairs = ((item.time_ms, rows.encode(item.values)) for item in items if item.kind == kind)
        return [Played(time_ms, topic, key, value) for time_ms, (key, value) in pairs]

    events, labels, told = played("event"), played("label"), Told(say)
    play_all(config, events, labels, STEP, taken_s=TAKEN_S, told=told)
    say("all is taken; reading every topic from its beginning to count what is there")
    with reaching(config):
        found = audit(parts, identified(config, inspect_topics(config), make=False), sample=100)
    result = counted(found) | {
        "longest_pause_s": round(told.longest_s, 1),
        "seconds": round(time.monotonic() - began_s, 1),
    }
    if found.rescored is not None:
        result["rescored"] = found.rescored.checked
    print(json.dumps(result), flush=True)  # noqa: T201 - the demo's result
    if found.counts:
        raise FatalError(f"the topics do not hold what they should: {dict(found.counts)}", "stream-ml audit CONFIG")


class Told:
    """Says now and then how far the playing is, and keeps the longest step: how long flights waited at most."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._said_s, self._step_s, self.longest_s = say, time.monotonic(), time.monotonic(), 0.0

    def __call__(self, done: int) -> None:
        """So many records are played."""
        now_s = time.monotonic()
        self.longest_s, self._step_s = max(self.longest_s, now_s - self._step_s), now_s
        if now_s - self._said_s >= SAID_S:
            self._said_s = now_s
            self._say(f"{done:,} records played")


def counted(found: Audit) -> dict[str, Any]:
    """What became of all records, as an audit has found it."""
    return {
        "events": found.events,
        "predictions": found.predictions,
        "labels": found.feedback,
        "labels_joined": found.examples,
        "outcomes": dict(found.outcomes),
        "dead_letters": dict(found.dead_letters),
        "lost": found.counts["lost"] + found.unread + len(found.waiting),
        "duplicated": found.counts["repeated"] + found.counts["foreign"] + found.counts["sequence"],
    }
