"""What every peer does with a record, the same for all: score an event, join its label, learn.

Pending events stand in a dict by id. A label that comes before its event waits in another one and is learned right
after its event was scored. Nothing of it survives a crash: peers keep their model and their dicts in memory.
"""

import argparse
import io
import json
import sys
import time
from typing import Any, NamedTuple

import fastavro
from river import linear_model, preprocessing

from benchmarks.load import FEATURES, LABEL_SCHEMA, event_schema

PREDICTION_SCHEMA = {
    "type": "record",
    "name": "Prediction",
    "fields": [
        {"name": "event_id", "type": "string"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "class", "type": "boolean"},
        {"name": "score", "type": "double"},
        {"name": "examples_learned", "type": "long"},
    ],
}
_EVENT = fastavro.parse_schema(event_schema(FEATURES))
_LABEL = fastavro.parse_schema(LABEL_SCHEMA)
_PREDICTION = fastavro.parse_schema(PREDICTION_SCHEMA)


class Arguments(NamedTuple):
    """What the harness tells a peer."""

    servers: str
    events: str
    labels: str
    predictions: str
    labels_expected: int
    variant: str


def arguments() -> Arguments:
    """From the command line."""
    parser = argparse.ArgumentParser()
    for name in ("servers", "events", "labels", "predictions"):
        parser.add_argument(name)
    parser.add_argument("labels_expected", type=int)
    parser.add_argument("variant", nargs="?", default="")
    return Arguments(**vars(parser.parse_args()))


class Join:
    """Model, pending events, early labels, and counts of what happened."""

    def __init__(self, labels_expected: int) -> None:
        self._model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
        self._pending: dict[str, dict[str, Any]] = {}
        self._early: dict[str, bool] = {}
        self._marks = [round(labels_expected * share) for share in (0.1, 0.9)] if labels_expected else []
        self._learned_at: list[float] = []
        self.events = self.labels = self.early = self.learned = 0

    def event(self, value: bytes) -> bytes:
        """The encoded prediction of an encoded event."""
        features = fastavro.schemaless_reader(io.BytesIO(value), _EVENT)
        event_id, at = features.pop("id"), features.pop("at")
        score = self._model.predict_proba_one(features)[True]
        out = io.BytesIO()
        fastavro.schemaless_writer(
            out,
            _PREDICTION,
            {
                "event_id": event_id,
                "event_time": at,
                "class": score >= 0.5,
                "score": score,
                "examples_learned": self.learned,
            },
        )
        self.events += 1
        label = self._early.pop(event_id, None)
        if label is None:
            self._pending[event_id] = features
        else:
            self._learn(features, label)
        return out.getvalue()

    def label(self, value: bytes) -> None:
        """Learn from an encoded label, now or when its event comes."""
        said = fastavro.schemaless_reader(io.BytesIO(value), _LABEL)
        self.labels += 1
        features = self._pending.pop(said["id"], None)
        if features is None:
            self.early += 1
            self._early[said["id"]] = said["label"]
        else:
            self._learn(features, said["label"])

    def _learn(self, features: dict[str, Any], label: bool) -> None:
        self._model.learn_one(features, label)
        self.learned += 1
        if self.learned in self._marks:
            self._learned_at.append(time.time())

    def report(self) -> None:
        """Print what happened, as one JSON line."""
        counts = {name: getattr(self, name) for name in ("events", "labels", "early", "learned")}
        sys.stdout.write(
            "\n" + json.dumps({**counts, "learned_at": self._learned_at}) + "\n"
        )  # Faust leaves escapes before it
        sys.stdout.flush()
