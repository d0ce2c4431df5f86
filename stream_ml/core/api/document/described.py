"""JSON Schemas of what callers send and get, with what the worker's rules add to the types of Avro."""

from collections.abc import Collection, Mapping
from typing import Any

from stream_ml.core.api.document.json_schema import record_schema
from stream_ml.core.avro.fields import MAGNITUDE_MAX, find_field, time_scale
from stream_ml.core.avro.schema import Schema
from stream_ml.core.inputs.readers import ID_MAX_CHARS, OLDEST_MS, EventReader, FeedbackReader
from stream_ml.core.inputs.settings import LabelSource, Source

NEWEST_MS = 253_402_300_799_999  # the end of the year 9999, the last that ISO 8601 has four digits for
_ID = {"minLength": 1, "maxLength": ID_MAX_CHARS}


def event_schema(reader: EventReader, source: Source, may_miss: Collection[str], example: Any) -> dict[str, Any]:
    """An instance."""
    found = record_schema(reader.payloads.reader, reader.plan, may_miss, example)
    return _placed(found, reader.payloads.reader, source, needs_key=False)


def label_schema(reader: FeedbackReader, source: LabelSource) -> dict[str, Any]:
    """A label; its time may be left out where it is a field."""
    left_out = [] if source.time == "record" or "." in source.time else [source.time]
    found = _placed(
        record_schema(reader.payloads.reader, None, left_out), reader.payloads.reader, source, needs_key=True
    )
    label = field_schema(found, source.label)
    if reader.domain.task == "regression" and label.get("type") == "number":
        label |= {"minimum": -MAGNITUDE_MAX, "maximum": MAGNITUDE_MAX}
    return found


def _placed(found: dict[str, Any], schema: Schema, source: Source, *, needs_key: bool) -> dict[str, Any]:
    """With what an id and a time have to be."""
    if source.id == "key" and "key" not in found["properties"]:
        found["properties"]["key"] = {"type": "string", **_ID, "description": "key of the record: the id of the event"}
        if needs_key:
            found.setdefault("required", []).append("key")
    elif source.id != "key":
        of_id = field_schema(found, source.id)
        if of_id.get("type") == "string" and "enum" not in of_id and "format" not in of_id:
            of_id |= _ID
    if source.time != "record":
        of_time = field_schema(found, source.time)
        factor, divisor = time_scale(find_field(schema, source.time, where="time"), where="time")
        for branch in of_time.get("anyOf", ()):
            if branch.get("type") == "integer":
                first, last = (ms * divisor // factor for ms in (OLDEST_MS, NEWEST_MS))
                branch["minimum"] = max(branch["minimum"], first)
                branch["maximum"] = min(branch["maximum"], last)
        of_time["description"] = "at most a day ahead of the clock of who answers"
    return found


def field_schema(record: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of a field inside of a record's."""
    found = record
    for part in name.split("."):
        inner = found if "properties" in found else next(one for one in found["anyOf"] if "properties" in one)
        found = inner["properties"][part]
    return found


def alias_schemas(
    event: dict[str, Any], prediction: Mapping[str, Any], fields: Mapping[str, str], out: Mapping[str, str], most: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Request and answer of an alias.

    Parameters
    ----------
    fields
        Names of the request, and the fields of the event they are; `out` the same of the answer and the prediction.
    most
        Characters of a text of the request.
    """
    required = [name for name, field in fields.items() if _must(event, field)]
    request: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _at_most(field_schema(event, field), most) for name, field in fields.items()},
    }
    if required:
        request["required"] = required
    told = {name: _or_null(prediction.get(what, {})) for name, what in out.items()}
    return request, {"type": "object", "properties": told}


def _must(event: dict[str, Any], field: str) -> bool:
    """Whether a field has to be given, and all records around it."""
    found = event
    for part in field.split("."):
        inner = found if "properties" in found else next(one for one in found["anyOf"] if "properties" in one)
        if part not in inner.get("required", ()):
            return False
        found = inner["properties"][part]
    return True


def _at_most(found: dict[str, Any], most: int) -> dict[str, Any]:
    if "anyOf" in found:
        return {**found, "anyOf": [_at_most(one, most) for one in found["anyOf"]]}
    kinds = found.get("type", ())
    is_text = "string" in ([kinds] if isinstance(kinds, str) else kinds)
    return {**found, "maxLength": min(most, found.get("maxLength", most))} if is_text and "enum" not in found else found


def _or_null(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "type": [found["type"], "null"]} if isinstance(found.get("type"), str) else found
