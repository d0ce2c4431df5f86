"""The API keeps what its document says: schemathesis asks every operation of three apps, with all of its checks.

No failure is allowed. What a document cannot say is left out of what is asked: times of an event that are later than
now, which are refused by a clock.
"""

import datetime
import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import strategies as st
from river import compose, feature_extraction, naive_bayes
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from stream_ml.app.assemble import assemble
from stream_ml.config import Config, load_config
from stream_ml.core.inputs import made_up
from stream_ml.records import Target
from stream_ml.serve.access.keys import new_key, write_keys
from tests.support.api import Api, ListJobs, ListWriter
from tests.support.follower_on_a_list import App, Log, on_a_list
from tests.support.partition import EVENTS, FEEDBACK, PREDICTIONS, example
from tests.support.service import brothers

LEARNED = 160  # so that no model is cold
EXAMPLES = 15  # of each operation, where a phase has no end of its own
SEEDS = (1, 2, 3)
FIRST_MS, NOW_MS = -62_135_596_800_000, 1_735_689_600_000  # year 1, and a time that is no longer ahead of any clock
VERSIONS = "/v2/models/app/versions/{version}"
TWICE = (  # the handlers of other paths
    "POST /predict", "POST /v1/models/app:predict",
    f"GET {VERSIONS}", f"GET {VERSIONS}/ready", f"POST {VERSIONS}/infer",
)  # fmt: skip
CHECKS = {  # what HTTP has beside the usual: a well-formed request may come too early, one that is not be too large
    "positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "404", "412", "429"]},
    "negative_data_rejection": {
        "expected-statuses": ["400", "401", "403", "404", "405", "406", "412", "413", "415", "422", "429"]
    },
}

OF_TENSORS = {
    "positive_data_acceptance": {"expected-statuses": ["2xx", "400", "401", "403", "404", "412", "413", "422", "429"]}
}


# --- three apps ---


def text_model() -> compose.Pipeline:
    """Words of one field."""
    return feature_extraction.BagOfWords(on="text") | naive_bayes.MultinomialNB()


def logical(base: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": base, "logicalType": name, **more}


def fixed(name: str, size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, **more}


MILLIS = logical("long", "timestamp-millis")
COLOURS = {"type": "enum", "name": "Colour", "symbols": ["red", "green", "blue"]}
DECIMAL = logical("bytes", "decimal", precision=9, scale=2)
NUMBERS: dict[str, Any] = {
    "id": "string",
    "t": MILLIS,
    "x": "double",
    "count": "int",
    "total": "long",
    "share": "float",
}
TEXT: dict[str, Any] = {"text": "string", "source": "string"}
INNER = {
    "type": "record",
    "name": "Inner",
    "fields": [{"name": "deep", "type": "int"}, {"name": "is", "type": "boolean"}],
}
PLACE = [
    {"name": "lat", "type": "double"},
    {"name": "name", "type": ["null", "string"], "default": None},
    {"name": "inner", "type": INNER},
]
SCALARS: dict[str, Any] = {
    "boolean": "boolean",
    "int": "int",
    "long": "long",
    "float": "float",
    "double": "double",
    "string": "string",
    "enum": COLOURS,
    "uuid": logical("string", "uuid"),
    "uuid16": fixed("Uuid16", 16, logicalType="uuid"),
    "date": logical("int", "date"),
    "millis": logical("long", "timestamp-millis"),
    "micros": logical("long", "timestamp-micros"),
    "nanos": logical("long", "timestamp-nanos"),
    "local": logical("long", "local-timestamp-micros"),
    "time_ms": logical("int", "time-millis"),
    "time_us": logical("long", "time-micros"),
    "decimal": DECIMAL,
    "whole": logical("bytes", "decimal", precision=4),
    "decimal8": fixed("Decimal8", 8, logicalType="decimal", precision=12, scale=3),
}
EVERY: dict[str, Any] = {
    "id": "string",
    "t": logical("long", "timestamp-micros"),
    **SCALARS,
    "bytes": "bytes",
    "fixed": fixed("Two", 2),
    "array": {"type": "array", "items": "long"},
    "dates": {"type": "array", "items": ["null", logical("int", "date")]},
    "map": {"type": "map", "values": "double"},
    "maps": {"type": "map", "values": {"type": "map", "values": ["null", DECIMAL]}},
    "place": {"type": "record", "name": "Place", "fields": PLACE},
    "perhaps": ["null", "Place"],
    "places": {"type": "array", "items": "Place"},
    "union": ["int", "string", "null"],
    "records": ["null", {"type": "record", "name": "Other", "fields": [{"name": "o", "type": "long"}]}, "Inner"],
    **{
        f"{name}_or_null": ["null", SCALARS[name]]
        for name in ("boolean", "int", "double", "string", "date", "millis", "time_ms")
    },
    "enum_or_null": ["null", "Colour"],
    "uuid16_or_null": ["null", "Uuid16"],
    "decimal_or_null": [DECIMAL, "null"],
}
DEFAULTS: dict[str, Any] = {
    "d_int": ("int", 3),
    "d_string": ("string", "d"),
    "d_enum": ("Colour", "blue"),
    "d_bytes": ("bytes", "\xff"),
    "d_array": ({"type": "array", "items": "string"}, ["a"]),
    "d_null": (["null", "double"], None),
    "d_double": (["double", "null"], 1.5),
    "d_place": ("Place", {"lat": 1.0, "name": None, "inner": {"deep": 1, "is": True}}),
}


def record(name: str, fields: dict[str, Any], defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    plain = [{"name": field, "type": type_, "doc": f"the {field}"} for field, type_ in fields.items()]
    more = [{"name": field, "type": t, "default": default} for field, (t, default) in (defaults or {}).items()]
    return {"type": "record", "name": name, "fields": [*plain, *more]}


class Given(NamedTuple):
    """An app: its schemas, its model, and what else its configuration says."""

    event: dict[str, Any]
    label: dict[str, Any]
    model: dict[str, Any]
    targets: Sequence[Target]
    sections: Mapping[str, Any] = MappingProxyType({})
    event_id: str = "id"


APPS = {
    "numbers": Given(
        record("Visit", NUMBERS),
        record("Truth", {"id": "string", "t": MILLIS, "y": "double"}),
        {"task": "regression", "factory": "river.linear_model:LinearRegression"},
        [Target(None, 1.5), Target(None, -2.0)],
        {
            "features": {"bounds": {"x": {"min": -1000.5, "max": 1e6}, "count": {"min": 0.5, "max": 99.5}}},
            "serve": {"auth": {"keys_file": "keys.json"}, "jobs": {"rows_max": 4}},
        },
    ),
    "every type": Given(
        record("Visit", EVERY, DEFAULTS),
        record("Truth", {"id": "string", "t": logical("long", "timestamp-micros"), "y": COLOURS, "note": DECIMAL}),
        {"task": "multiclass", "factory": "river.tree:HoeffdingTreeClassifier", "labels": ["red", "green", "blue"]},
        [Target("red", None), Target("green", None), Target("blue", None)],
        {
            "features": {
                "missing": {
                    "default": "drop",
                    "int_or_null": {"impute": 7},
                    "enum_or_null": "reject",
                    "perhaps.lat": "reject",
                }
            }
        },
    ),
    "text": Given(
        record("Said", TEXT),
        record("Truth", {"id": logical("string", "uuid"), "y": "boolean"}),
        {"task": "binary", "factory": "tests.serve.test_document_is_kept:text_model"},
        [Target("true", None), Target("false", None)],
        {
            "features": {"bounds": {"text": {"length": 50}}},
            "serve": {
                "aliases": [
                    {
                        "path": "/v1/sentiment",
                        "in": {"text": "text"},
                        "set": {"source": "api"},
                        "out": {"label": "class", "confidence": "score", "id": "id", "flags": "flags"},
                        "max_chars": 40,
                    }
                ]
            },
        },
        "key",
    ),
}


class Apps(App):
    """An app of other schemas in a folder."""

    def __init__(self, folder: Path, log: Log, given: Given) -> None:
        self.folder, self.log, self._given = folder, log, given
        self._numbers = itertools.count()
        for name, schema in (("visit", given.event), ("truth", given.label)):
            (folder / f"{name}.avsc").write_text(json.dumps(schema), "utf-8")

    def whole(self) -> Config:
        """Its configuration."""
        given = self._given
        event_time = "t" if any(field["name"] == "t" for field in given.event["fields"]) else "record"
        content = {
            "app": {"id": "app"},
            "worker": {"instance": "w1"},
            "kafka": {"bootstrap_servers": "unused:9092"},
            "events": {"topic": EVENTS, "schema": "visit.avsc", "id": given.event_id, "time": event_time},
            "feedback": {
                "topic": FEEDBACK, "schema": "truth.avsc", "id": "id", "time": event_time, "label": "y", "ttl": "1h",
            },
            "predictions": {"topic": PREDICTIONS},
            "model": given.model,
            **given.sections,
            "serve": {"feedback": True, "instances_max": 5, "wait": 0, **given.sections.get("serve", {})},
        }  # fmt: skip
        file = self.folder / "app.yaml"
        file.write_text(json.dumps(content), "utf-8")
        return load_config(file)

    def learn(self, config: Config, count: int) -> None:
        """Append so many examples of made-up events."""
        reader = assemble(config).reader
        schema, targets = reader.payloads.reader, itertools.cycle(self._given.targets)
        for number, payload in enumerate(made_up.payloads(schema, reader.plan, count)):
            written = reader.payloads.encode(payload)
            self.log.add(example(number, y=next(targets), event=written, schema=schema.fingerprint))


def whole_api(app: Apps) -> Api:
    """An application that takes labels too."""
    config = app.whole()
    app.serving(config)
    app.learn(config, LEARNED)
    api = Api(app, config, writer=ListWriter())
    api.answer_with(ListWriter(), jobs=ListJobs())
    return api


# --- what is asked, and what comes of it ---


def moments() -> st.SearchStrategy[str]:
    """Times that every timestamp can hold and that no clock calls too late."""
    first, last = datetime.datetime(1700, 1, 1), datetime.datetime(2025, 1, 1)  # noqa: DTZ001
    return st.datetimes(first, last).map(lambda moment: f"{moment.isoformat()}Z")


def is_placed(row: Any, unit: int) -> bool:
    """Whether its time, as a number, is one that no clock calls too late."""
    time = row.get("t") if isinstance(row, dict) else None
    if isinstance(time, bool) or not isinstance(time, int | float):
        return True
    return FIRST_MS * unit <= time <= NOW_MS * unit


def rows_of(body: Any) -> list[Any]:
    """Instances and labels of a body, whatever it is."""
    if not isinstance(body, dict):
        return []
    return [row for name in ("instances", "labels") if isinstance(body.get(name), list) for row in body[name]]


def asking(api: Api, seed: int, key: str, unit: int) -> Any:
    """The document, and how it is tried."""
    config = {
        "seed": seed,
        "base-url": "http://localhost",  # a name that is always known
        "continue-on-failure": True,
        "checks": CHECKS,
        "generation": {"max-examples": EXAMPLES, "no-shrink": True},
        "operations": [{"include-path-regex": "/infer$", "checks": OF_TENSORS}],
        "phases": {"coverage": {"enabled": seed == SEEDS[0]}},  # it asks the same whatever the seed
        "headers": {"Authorization": f"Bearer {key}"} if api.config.serve.auth.keys_file is not None else {},
    }
    made = SchemathesisConfig.from_dict(config)
    found = schemathesis.openapi.from_asgi("/openapi.json", api.application, config=made)

    @found.hook
    def filter_case(context: Any, case: Any) -> bool:
        return all(is_placed(row, unit) for row in rows_of(case.body))

    keys = itertools.count()

    @found.hook
    def map_case(context: Any, case: Any) -> Any:
        """The coverage phase makes no header with a colon out of a pattern: it sends 0, and calls it valid. And that a
        key is one request's the document cannot say."""
        headers = case.headers or {}
        if headers.get("Stream-ML-After") == "0":
            headers["Stream-ML-After"] = "f:0:0"
        if re.fullmatch("[!-~]{1,255}", str(headers.get("Idempotency-Key", ""))):
            headers["Idempotency-Key"] = f"k{next(keys)}"
        return case

    return found


def told(check: Any, asked: Any) -> str:
    """A failure in a few lines."""
    answer = asked.response
    return "\n".join(
        (
            f"{check.name}: {check.failure_info.failure.message[:400]}",
            f"  {asked.request.method} {asked.request.uri} {str(asked.request.body)[:1_500]}",
            f"  {answer.status_code} {answer.content[:500]!r}" if answer is not None else "  no answer",
        )
    )


@pytest.mark.parametrize("values", [[{}, [1], 2, "3"], [None, {}, [[1]], []], [1.0, "2", 3, 4.0], ["x", 2, 3, 4.0]])
def test_one_event_by_place_that_begins_with_no_list_is_of_the_document_and_answered_in_its_place(
    values: list[Any], tmp_path: Path
) -> None:
    text, key = new_key("test", ["predict"])
    write_keys(tmp_path / "keys.json", [key])
    with on_a_list() as log:
        api = whole_api(Apps(tmp_path, log, APPS["numbers"]))
        document = api.get("/openapi.json").json
        asked = {"features": values, "on_error": "partial"}
        schema = {"$ref": "#/components/schemas/Asked", "components": document["components"]}
        jsonschema_rs.Draft202012Validator(schema).validate(asked)
        answer = api.post("/v1/predict", asked, Authorization=f"Bearer {text}")
    assert answer.status == 200 and len(answer.json["predictions"]) == 1, answer
    assert answer.json["predictions"][0]["error"]["code"] == "schema_mismatch" and answer.json["prediction"] == [None]


@pytest.mark.parametrize("seed", brothers(*SEEDS))
@pytest.mark.parametrize("name", brothers("every type", *(name for name in APPS if name != "every type")))
def test_every_operation_does_what_the_document_says(name: str, seed: int, tmp_path: Path) -> None:
    schemathesis.openapi.format("date-time", moments())
    text, key = new_key("test", ["predict", "feedback", "jobs"])
    write_keys(tmp_path / "keys.json", [key])
    failures: dict[tuple[str, ...], str] = {}
    counts, asked = Counter[str](), set[str]()
    with on_a_list() as log:
        api = whole_api(Apps(tmp_path, log, APPS[name]))
        document = asking(api, seed, text, unit=1_000 if name == "every type" else 1)
        if name == "every type":
            document = document.exclude(name=list(TWICE))
        for event in from_schema(document).execute():
            assert not isinstance(event, events.NonFatalError | events.FatalError), event
            if not isinstance(event, events.ScenarioFinished):
                continue
            counts[event.phase.value] += len(event.recorder.interactions)
            asked |= {node.value.operation.label for node in event.recorder.cases.values()}
            for case_id, checks in event.recorder.checks.items():
                for check in (one for one in checks if one.failure_info is not None):
                    label = event.recorder.cases[case_id].value.operation.label
                    failure = check.failure_info.failure
                    words = told(check, event.recorder.interactions[case_id])
                    failures.setdefault((label, check.name, failure.title, failure.message[:150]), words)
    routes = {f"{route.method} {route.path}" for route in api.table} - {"GET /openapi.json"}
    assert asked == routes - (set(TWICE) if name == "every type" else set())
    assert counts["examples"] and counts["fuzzing"] and (counts["coverage"] or seed != SEEDS[0])
    assert not failures, f"{len(failures)} kinds of failures\n\n" + "\n\n".join(failures.values())
