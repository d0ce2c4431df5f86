"""The model tried before it may learn: with sample events, or with made-up ones."""

from functools import partial
from typing import Any

from stream_ml.app.parts import Parts
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.avro.from_json import from_json
from stream_ml.core.avro.json_text import read_json
from stream_ml.core.inputs import made_up
from stream_ml.core.model.checks import EXAMPLES, check_model
from stream_ml.errors import ConfigError
from stream_ml.storage.pickling import through


def checked(parts: Parts) -> Parts:
    """The parts, once the model has passed its contract; ConfigError lists everything that is wrong with it."""
    types = parts.config.model.checkpoint_types
    events = tried_events(parts)
    plan, domain = parts.plan, parts.domain
    wrong = check_model(parts.build, plan.kinds, domain, partial(through, extra=types), events, plan.open_texts)
    if wrong:
        hint = "" if parts.config.model.samples else "made-up events were used; model.samples names a file of real ones"
        raise ConfigError(f"model {parts.config.model.factory} cannot be used:\n  " + "\n  ".join(wrong), hint)
    return parts


def tried_events(parts: Parts) -> list[dict[str, Any]]:
    """Features of the events that a model is tried with: the sample records, or made-up ones of the schema.

    Raises
    ------
    ConfigError
        A sample is not of the schema, or would be a dead letter; it names file and line.
    """
    file, schema = parts.config.model.samples, parts.reader.payloads.reader
    if file is None:
        return made_up.features(schema, parts.plan, EXAMPLES)
    path = parts.config.path(file)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"model.samples {path} cannot be read: {error}") from error
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ConfigError(f"model.samples {path} holds no record", "write an event as a JSON object a line")
    return [_sample(parts, f"model.samples {path}, line {number}", line) for number, line in rows]


def _sample(parts: Parts, where: str, line: str) -> dict[str, Any]:
    try:
        row = read_json(line)
        if parts.config.events.id == "key" and isinstance(row, dict):
            row.pop("key", None)
        found = parts.plan.extract_one(from_json(parts.reader.payloads.reader, row))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    if isinstance(found, Rejected):
        raise ConfigError(f"{where}: {found.message}")
    return found[0]
