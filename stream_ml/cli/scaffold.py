"""The files of a new app, as text: configuration, model, schemas, sample records, and what to type."""

import datetime
import json
from typing import Any, Literal, NamedTuple

import yaml

from stream_ml.core.avro.fields import scalar_fields
from stream_ml.core.avro.schema import Schema, load_schema
from stream_ml.core.inputs.label_domain import LABEL_TYPES

Task = Literal["binary", "multiclass", "regression"]
SAMPLES = 200
SIGMA = 8  # spreads from the median to which a new app's numbers are clipped
LENGTH = 1_000  # characters of its texts
DISTINCT = 1_000  # values of each of them that the model learns: each is a weight
TODO = "TODO"  # what only a person knows; the configuration is refused until it is named
CLASSES = ("small", "medium", "large")
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}

_MODEL = '''"""The model: what `build` gives learns from every label. Change it freely: that begins another lineage."""

from river import compose, {module}, preprocessing


def build():
    """A new, untrained River estimator; it must be the same each time (give every random part a seed)."""
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder(drop_zeros=True)
    return (numbers + texts) | {estimator}
'''
_ESTIMATORS = {
    "binary": ("linear_model", "linear_model.LogisticRegression()"),
    "multiclass": ("linear_model, multiclass", "multiclass.OneVsRestClassifier(linear_model.LogisticRegression())"),
    "regression": ("linear_model", "linear_model.LinearRegression()"),
}


class Answers(NamedTuple):
    """What a new app is to be; `schema_ids` of events and labels, for Confluent framing."""

    app: str
    servers: str
    events: str
    feedback: str
    predictions: str
    task: Task
    ttl: str
    schema_ids: tuple[int | None, int | None] = (None, None)


class Side(NamedTuple):
    """A topic's schema and the roles of its fields; `time` may be record, `label` is empty for events.

    `positive` is what the configuration says of it, where the label's type does not.
    """

    text: str
    id: str
    time: str
    label: str
    framing: str = "bare"
    nullable: tuple[str, ...] = ()  # features that may be null
    positive: str = ""


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


def sides_of(
    events: tuple[Schema, str] | None, feedback: tuple[Schema, str] | None, task: Task, framing: str
) -> tuple[Side, Side]:
    """Roles of the fields of schemas that exist, each with its text; `check` refuses the TODO of what they do not say.

    A guess that is wrong looks like an app that works: with a merchant's id nothing is ever learned, and nothing lost.
    """
    samples = [sample_side(task, label=label) for label in (False, True)]
    schemas = [load_schema(side.text, where="sample") for side in samples]
    both = [found[0] if found else sample for found, sample in zip((events, feedback), schemas, strict=True)]
    common = set(_ids(both[0])) & set(_ids(both[1]))
    made = []
    for number, found in enumerate((events, feedback)):
        if found is None:
            made.append(samples[number])
            continue
        schema, text = found
        known = common if events and feedback else set(_ids(schema))
        id_, time = _id(_ids(schema), known), _time(schema)
        label, positive = _label(schema, task, (id_, time)) if number else ("", "")
        fields = scalar_fields(schema)
        nullable = () if number else tuple(f.name for f in fields if f.nullable and f.name not in (id_, time))
        made.append(Side(text, id_, time, label, framing, nullable, positive))
    return made[0], made[1]


def _ids(schema: Schema) -> list[str]:
    """Fields that could be an id: of the record itself, for one of a part names the part."""
    fields = scalar_fields(schema)
    found = [f for f in fields if len(f.path) == 1 and (f.base in ("string", "int", "long") or f.logical == "uuid")]
    return [f.name for f in found if not f.logical or f.logical == "uuid"]


def _id(names: list[str], common: set[str]) -> str:
    exact = [name for name in names if name.lower() == "id"]
    return exact[0] if exact else next(iter(common)) if len(common) == 1 else TODO


def _time(schema: Schema) -> str:
    times = [f.name for f in scalar_fields(schema) if "timestamp" in f.logical]
    return "record" if not times else times[0] if len(times) == 1 else TODO


def _label(schema: Schema, task: Task, taken: tuple[str, ...]) -> tuple[str, str]:
    """The one field that can be the label, and what is said of the positive one."""
    left = [field for field in scalar_fields(schema) if field.name not in taken and "timestamp" not in field.logical]
    named = [field for field in left if field.name.lower() in ("label", "truth", "y", "target", "outcome", "class")]
    fits = {
        "binary": [f for f in left if f.base == "boolean" or (f.base == "enum" and len(f.type_["symbols"]) == 2)],
        "multiclass": [f for f in left if f.base == "enum"],
        "regression": [f for f in left if f.kind == "number"],
    }[task]
    found = named[0] if named else fits[0] if len(fits) == 1 else None
    if found is None:
        return TODO, ""
    return found.name, TODO if task == "binary" and found.base in ("enum", "string") else ""


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
    """The settings as YAML writes them: no name, whatever is in it, becomes a setting of its own."""
    ids = answers.schema_ids
    model: dict[str, Any] = {"factory": "model:build", "task": answers.task}
    if feedback.positive:
        model["positive"] = feedback.positive
    if answers.task == "multiclass" and samples:
        model["labels"] = list(CLASSES)
    settings: dict[str, Any] = {
        "app": {"id": answers.app},
        "kafka": {"bootstrap_servers": answers.servers},
        "events": _source(answers.events, "event.avsc", events, ids[0]),
        "feedback": {
            **_source(answers.feedback, "label.avsc", feedback, ids[1]),
            "label": feedback.label,
            "ttl": answers.ttl,
        },
        "predictions": {"topic": answers.predictions},
        "features": {
            **({"missing": {"default": "reject"} | dict.fromkeys(events.nullable, "drop")} if events.nullable else {}),
            "bounds": {"default": {"sigma": SIGMA, "length": LENGTH, "distinct": DISTINCT}},
        },
        "learning": {"quarantine": "tell" if answers.task == "regression" else "divert"},
        "model": model,
    }
    notes = "# All keys with their meaning: stream-ml config reference\n"
    notes += "# serve: {feedback: true}: labels over HTTP, too (stream-ml serve)\n"
    notes += "# feedback.ttl: how long after its event a label may come\n"
    if events.nullable:
        notes += "# features.missing, of a null: drop it, {impute: VALUE}, or reject the event\n"
    notes += "# features.bounds: numbers far from the rest are clipped; {min: ..., max: ...} refuses events instead;\n"
    notes += (
        "#   so many values of a text are learned (distinct), more are (other); a bag of words has none: leave it out\n"
    )
    notes += "# learning.quarantine, of an example far from all others: tell, divert (it is not learned) or halt\n"
    if answers.task == "multiclass" and not samples:
        notes += "# model.labels: list them, where the label is no enum\n"
    return notes + yaml.safe_dump(settings, sort_keys=False, allow_unicode=False)


def _source(topic: str, schema: str, side: Side, schema_id: int | None) -> dict[str, Any]:
    ids = {"schema_ids": {schema_id: schema}} if schema_id is not None and side.framing == "confluent" else {}
    return {"topic": topic, "schema": schema, "framing": side.framing, **ids, "id": side.id, "time": side.time}


def _readme(answers: Answers, *, samples: bool) -> str:
    events, labels = ("events.jsonl", "labels.jsonl") if samples else ("YOUR_EVENTS.jsonl", "YOUR_LABELS.jsonl")
    return f"""\
# {answers.app}

No Kafka yet? `stream-ml broker kafka{_port(answers.servers)}` in a terminal of its own runs one on this machine.

    stream-ml check stream_ml.yaml
    stream-ml topics create stream_ml.yaml
    stream-ml run stream_ml.yaml        # in a terminal of its own; http://127.0.0.1:8080 shows how it goes
    stream-ml play stream_ml.yaml {events} {labels}    # in the order of their times
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
