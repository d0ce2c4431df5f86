"""The files of a new app, as text: configuration, model, schemas, sample records, and what to type."""

import datetime
import json
from typing import Any, Literal, NamedTuple

import yaml

from stream_ml.core.fields import scalar_fields
from stream_ml.core.labels import LABEL_TYPES
from stream_ml.core.schema import Schema
from stream_ml.errors import ConfigError

Task = Literal["binary", "multiclass", "regression"]
SAMPLES = 200
CLASSES = ("small", "medium", "large")
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}

_MODEL = '''"""The model: what `build` gives learns from every label. Change it freely: that begins another lineage."""

from river import compose, {module}, preprocessing


def build():
    """A new, untrained River estimator; it must be the same each time (give every random part a seed)."""
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | {estimator}
'''
_ESTIMATORS = {
    "binary": ("linear_model", "linear_model.LogisticRegression()"),
    "multiclass": ("linear_model, multiclass", "multiclass.OneVsRestClassifier(linear_model.LogisticRegression())"),
    "regression": ("linear_model", "linear_model.LinearRegression()"),
}


class Answers(NamedTuple):
    """What a new app is to be."""

    app: str
    servers: str
    events: str
    feedback: str
    predictions: str
    task: Task
    ttl: str


class Side(NamedTuple):
    """A topic's schema and the roles of its fields; `time` may be record, `label` is empty for events."""

    text: str
    id: str
    time: str
    label: str
    framing: str = "bare"
    nullable: tuple[str, ...] = ()  # features that may be null


def sample_side(task: Task, *, label: bool) -> Side:
    """The schema of an app that has none yet."""
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": "string", "doc": "Id of the event; its label has the same."},
        {"name": "time", "type": MILLIS, "doc": "When the truth became known." if label else "When it happened."},
    ]
    if label:
        fields.append({"name": "label", "type": LABEL_TYPES[task], "doc": "The truth."})
    else:
        fields += [
            {"name": "amount", "type": "double", "doc": "A number that the model sees."},
            {"name": "kind", "type": "string", "doc": "A word that the model sees."},
        ]
    schema = {"type": "record", "name": "Label" if label else "Event", "fields": fields}
    return Side(json.dumps(schema, indent=2) + "\n", "id", "time", "label" if label else "")


def side_of(schema: Schema, text: str, framing: str, *, label: bool) -> Side:
    """Roles of the fields of a schema that exists, guessed from names and types; to be looked over.

    Raises
    ------
    ConfigError
        No field can be the label.
    """
    fields = scalar_fields(schema)
    names = [field.name for field in fields if field.base in ("string", "int", "long") or field.logical == "uuid"]
    times = [f.name for f in fields if f.logical.startswith("timestamp")]
    ids = [name for name in names if name.lower() == "id"] or [
        name for name in names if name.lower().endswith("id") and name not in times
    ]
    chosen_id, chosen_time = (ids[0] if ids else "key"), (times[0] if times else "record")
    if not label:
        nullable = tuple(f.name for f in fields if f.nullable and f.name not in (chosen_id, chosen_time))
        return Side(text, chosen_id, chosen_time, "", framing, nullable)
    left = [field.name for field in fields if field.name not in (chosen_id, *times)]
    named = [name for name in left if name.lower() in ("label", "truth", "y", "target", "outcome", "class")]
    if not left:
        raise ConfigError(f"{schema.name} has no field that could be the label", "name another schema")
    return Side(text, chosen_id, chosen_time, (named or left)[0], framing)


def files(answers: Answers, events: Side, feedback: Side, *, samples: bool) -> dict[str, str]:
    """Names and contents of all files."""
    module, estimator = _ESTIMATORS[answers.task]
    found = {
        "stream_ml.yaml": _configuration(answers, events, feedback, samples=samples),
        "model.py": _MODEL.format(module=module, estimator=estimator),
        "event.avsc": events.text,
        "label.avsc": feedback.text,
        "README.md": _readme(answers, samples=samples),
    }
    if samples:
        found["events.jsonl"], found["labels.jsonl"] = _samples(answers.task)
    return found


def _configuration(answers: Answers, events: Side, feedback: Side, *, samples: bool) -> str:
    classes = ", ".join(CLASSES) if samples else ""
    labels = f"\n  labels: [{classes}]{'' if classes else '  # list them'}" if answers.task == "multiclass" else ""
    return f"""\
# All keys with their meaning: stream-ml config reference
app: {{id: {_quoted(answers.app)}}}
kafka: {{bootstrap_servers: "{answers.servers}"}}
events:
  topic: {_quoted(answers.events)}
  schema: event.avsc
  framing: {events.framing}
  id: {events.id}
  time: {events.time}
feedback:
  topic: {_quoted(answers.feedback)}
  schema: label.avsc
  framing: {feedback.framing}
  id: {feedback.id}
  time: {feedback.time}
  label: {feedback.label}
  ttl: {answers.ttl}                    # how long after its event a label may come
predictions: {{topic: {_quoted(answers.predictions)}}}
{_features(events)}model:
  factory: "model:build"
  task: {answers.task}{labels}
"""


def _features(events: Side) -> str:
    if not events.nullable:
        return ""
    lines = "".join(f"    {name}: drop\n" for name in events.nullable)
    return (
        "features:\n  missing:                    # of a null: drop it, {impute: VALUE}, or reject the event\n"
        f"    default: reject\n{lines}"
    )


def _quoted(name: str) -> str:
    """A name as YAML keeps it a name: 2024 would be a number."""
    return name if isinstance(yaml.safe_load(name), str) else json.dumps(name)


def _readme(answers: Answers, *, samples: bool) -> str:
    events, labels = ("events.jsonl", "labels.jsonl") if samples else ("YOUR_EVENTS.jsonl", "YOUR_LABELS.jsonl")
    return f"""\
# {answers.app}

No Kafka yet? `stream-ml broker kafka{_port(answers.servers)}` in a terminal of its own runs one on this machine.

    stream-ml check stream_ml.yaml
    stream-ml topics create stream_ml.yaml
    stream-ml produce stream_ml.yaml events {events}
    stream-ml produce stream_ml.yaml feedback {labels}
    stream-ml run stream_ml.yaml        # Ctrl-C ends it; http://127.0.0.1:8080/v1/status says how it goes
    stream-ml audit stream_ml.yaml      # reads every topic: nothing lost, nothing twice
"""


def _port(servers: str) -> str:
    port = servers.rpartition(":")[2]
    return f" --port {port}" if port.isdecimal() and port != "9092" else ""


def _samples(task: Task) -> tuple[str, str]:
    """Events, and their labels a minute later, with something in them to be learned."""
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    events, labels = [], []
    for number in range(SAMPLES):
        amount, kind = (number * 37 % 100) / 10, "ab"[number % 2]
        time = start + datetime.timedelta(minutes=number)
        size = amount + 2 * (kind == "b")
        truths = {"binary": size > 6, "multiclass": CLASSES[min(2, int(size // 4))], "regression": round(3 * size, 1)}
        events.append({"id": f"e{number}", "time": time.isoformat(), "amount": amount, "kind": kind})
        later = time + datetime.timedelta(minutes=1)
        labels.append({"id": f"e{number}", "time": later.isoformat(), "label": truths[task]})
    return tuple("".join(json.dumps(row) + "\n" for row in rows) for rows in (events, labels))  # type: ignore[return-value]
