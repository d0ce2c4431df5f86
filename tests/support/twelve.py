"""An app of twelve numbers with a scaled linear model: the shape of events that is measured."""

import json
from pathlib import Path

from stream_ml.app.assemble import assemble
from stream_ml.app.parts import Parts
from stream_ml.config import load_config

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MODEL = """
from river import linear_model, preprocessing


def build():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()
"""


def twelve(folder: Path) -> Parts:
    """The parts of such an app in this folder."""
    numbers = [{"name": f"x{number}", "type": "double"} for number in range(12)]
    event = [{"name": "id", "type": "string"}, {"name": "at", "type": MILLIS}, *numbers]
    label = [{"name": "id", "type": "string"}, {"name": "at", "type": MILLIS}, {"name": "y", "type": "boolean"}]
    (folder / "event.avsc").write_text(json.dumps({"type": "record", "name": "Event", "fields": event}))
    (folder / "label.avsc").write_text(json.dumps({"type": "record", "name": "Label", "fields": label}))
    (folder / "twelve_model.py").write_text(MODEL)
    said = {
        "app": {"id": "twelve"},
        "kafka": {"bootstrap_servers": "127.0.0.1:1"},
        "events": {"topic": "e", "schema": "event.avsc", "id": "id", "time": "at"},
        "feedback": {"topic": "f", "schema": "label.avsc", "id": "id", "time": "at", "label": "y", "ttl": "1d"},
        "predictions": {"topic": "p"},
        "model": {"factory": "twelve_model:build", "task": "binary", "positive": True},
    }
    (folder / "stream_ml.yaml").write_text(json.dumps(said))
    return assemble(load_config(folder / "stream_ml.yaml"))
