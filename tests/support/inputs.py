"""Small givens that the unit tests share: schemas, settings and records from literals."""

import json
import os
import subprocess
import sys
from typing import Any

from stream_ml.config import Config, Events, Features, Feedback, Model
from stream_ml.core.avro.fields import find_field
from stream_ml.core.avro.record import encode_record
from stream_ml.core.avro.schema import Schema, load_schema
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.records import Record
from tests.support.paths import ROOT

NOW_MS = 1_700_000_000_000  # 2023-11-14, the host's clock in all tests


def record_type(name: str, *fields: tuple[str, Any], **rest: Any) -> dict[str, Any]:
    """An Avro record type as JSON values."""
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields], **rest}


def schema_of(*fields: tuple[str, Any], **rest: Any) -> Schema:
    """A loaded record schema named R."""
    return load_schema(json.dumps(record_type("R", *fields, **rest)), where="r.avsc")


def encoded(schema: Schema, values: dict[str, Any], header: bytes = b"") -> bytes:
    """A record's bytes; values as the core has them (times are integers)."""
    return encode_record(schema.parsed, values, header)


def record(value: bytes | None, *, key: bytes | None = b"k", timestamp_ms: int = NOW_MS) -> Record:
    """A record as a consumer returns it."""
    return Record("events", 0, 7, timestamp_ms, key, value)


def events_of(**values: Any) -> Events:
    """Settings of the events topic; the file is never read."""
    return Events(**{"topic": "events", "schema": "event.avsc", "id": "key"} | values)


def feedback_of(**values: Any) -> Feedback:
    """Settings of the feedback topic; the file is never read."""
    given = {"topic": "feedback", "schema": "label.avsc", "id": "key", "label": "late", "ttl": "2d"}
    return Feedback(**given | values)


def small_config(**sections: Any) -> Config:
    """A whole configuration whose files are never read."""
    given = {
        "app": {"id": "small"},
        "kafka": {"bootstrap_servers": "127.0.0.1:1"},
        "events": events_of().model_dump(by_alias=True),
        "feedback": feedback_of().model_dump(by_alias=True),
        "predictions": {"topic": "predictions"},
        "model": {"factory": "module:build", "task": "binary"},
    }
    return Config(**given | sections)


def plan_of(schema: Schema, left_out: set[str] | None = None, **settings: Any) -> FeaturePlan:
    """A feature plan from settings as the file has them."""
    return FeaturePlan(schema, Features(**settings), left_out or set())


def domain_of(task: str, label_type: Any = None, **model: Any) -> LabelDomain:
    """The label domain of a task; the label's type defaults to the task's usual one."""
    usual = {"binary": "boolean", "multiclass": "string", "regression": "double"}
    schema = schema_of(("late", usual[task] if label_type is None else label_type))
    settings = Model(factory="module:build", task=task, **model)  # type: ignore[arg-type]
    return LabelDomain(settings, find_field(schema, "late", where="feedback.label"), schema)


def run_python(
    code: str, *arguments: str, hash_seed: int = 0, timeout_s: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run code in a new process that finds the package and these tests, with a hash seed of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        text=True,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
