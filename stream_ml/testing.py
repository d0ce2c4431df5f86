"""For the tests of those who write a model: does it hold what the service asks of it?"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from stream_ml.config import Features, Model
from stream_ml.core.avro.fields import find_field
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.avro.from_json import from_json
from stream_ml.core.avro.schema import Schema, load_schema
from stream_ml.core.inputs import made_up
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.inputs.label_domain import LABEL_TYPES, LabelDomain
from stream_ml.core.model.checks import EXAMPLES
from stream_ml.core.model.checks import check_model as problems_of
from stream_ml.errors import ConfigError
from stream_ml.records import Scalar
from stream_ml.storage.pickling import through


def check_model(
    factory: Callable[[], Any],
    schema: Path | str | Mapping[str, Any],
    *,
    task: Literal["binary", "multiclass", "regression"] = "binary",
    labels: list[Scalar] | None = None,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    checkpoint_types: list[str] | None = None,
    samples: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Run the contract check that a worker runs at its start.

    Parameters
    ----------
    factory
        Gives a new estimator each time.
    schema
        The Avro record schema of events: a file, or as Python values.
    task, labels, include, exclude, checkpoint_types
        As model.task, model.labels, features.include, features.exclude and model.checkpoint_types say; a multiclass
        task needs its labels.
    samples
        Events to try the model with, as JSON would have them; none: made-up ones of the schema.

    Raises
    ------
    AssertionError
        The model cannot be used; the message lists why.
    ConfigError
        The schema, the features or a sample are wrong.

    Examples
    --------
    >>> from river import linear_model
    >>> event = {"type": "record", "name": "Event", "fields": [{"name": "x", "type": "double"}]}
    >>> check_model(linear_model.LogisticRegression, event)
    """
    text = json.dumps(schema) if isinstance(schema, Mapping) else Path(schema).read_text("utf-8")
    where = "schema" if isinstance(schema, Mapping) else str(schema)
    reader = load_schema(text, where=where)
    plan = FeaturePlan(reader, Features(include=include, exclude=exclude or []), set())
    label = {"type": "record", "name": "Label", "fields": [{"name": "label", "type": LABEL_TYPES[task]}]}
    label_schema = load_schema(json.dumps(label), where="label")
    field = find_field(label_schema, "label", where="label")
    model = Model(factory="tests:factory", task=task, labels=labels)
    domain = LabelDomain(model, field, label_schema)
    given = [_features(plan, reader, row) for row in samples]
    events = given or made_up.features(reader, plan, EXAMPLES)
    types = checkpoint_types or []
    wrong = problems_of(factory, plan.kinds, domain, partial(through, extra=types), events, plan.open_texts)
    if wrong:
        hint = "" if samples else "\n  made-up events were used; samples=[...] gives real ones"
        raise AssertionError("the model cannot be used:\n  " + "\n  ".join(wrong) + hint)


def _features(plan: FeaturePlan, reader: Schema, row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = plan.extract_one(from_json(reader, dict(row)))
    except ValueError as error:
        raise ConfigError(f"a sample is not of the schema: {error}") from None
    if isinstance(found, Rejected):
        raise ConfigError(f"a sample cannot be used: {found.message}")
    return found[0]
