"""What clients that others wrote send, byte for byte, is answered: recorded_clients.json holds it, with their versions.

A server that kept what it was sent recorded them: of a POST body and headers (but host, connection and length), of a
call its messages. All ask for the same two rows, so what they ask is known by what is recorded of it as events.
"""

import asyncio
import base64
import io
import json
import struct
from pathlib import Path
from typing import Any

import fastavro
import grpc
import pytest

from stream_ml.app.assemble import assemble
from stream_ml.core.avro.record import encode_record
from stream_ml.serve.rpc.messages import SERVICE, methods
from tests.serve.test_inference import Caller, on_grpc
from tests.support.api import Answered, Api, ListWriter
from tests.support.follower_on_a_list import LINEAR, App, Log
from tests.support.partition import EVENT, T0, example

RECORDED = json.loads(Path(__file__).with_name("recorded_clients.json").read_text("utf-8"))
OVER_HTTP = [one for one in RECORDED if "path" in one]
OVER_GRPC = [one for one in RECORDED if "call" in one]
TYPES = {"kind": "string", "n": "int", "big": "long", "flag": "boolean", "f": "float"}
WIDE = {**EVENT, "fields": [*EVENT["fields"], *({"name": name, "type": kind} for name, kind in TYPES.items())]}
F = struct.unpack("<f", struct.pack("<f", 0.1))[0]
ROWS = [
    {"x": 1.0, "kind": "a", "n": 1, "big": 10**10, "flag": True, "f": F},
    {"x": -2.0, "kind": "é", "n": 2, "big": -3, "flag": False, "f": 0.25},
]


class Asked:
    """An API of an app with fields of many types, which records what it is asked."""

    def __init__(self, app: App, log: Log) -> None:
        (app.folder / "visit.avsc").write_text(json.dumps(WIDE), "utf-8")
        (app.folder / "answers.key").write_text("k" * 40)
        serve = {"record": "ack", "provenance_key_file": "answers.key"}
        config = app.config(LINEAR, serve=serve, features={"include": ["x", "n", "flag"]})
        app.serving(config)
        reader = assemble(config).reader.payloads.reader
        self._schema = fastavro.parse_schema(json.loads(json.dumps(WIDE)))
        for number in range(60):
            values = {**ROWS[number % 2], "id": f"e{number}", "t": T0, "x": float(number % 7 - 3), "n": number % 3}
            payload = encode_record(self._schema, values)
            log.add(example(number, y=values["x"] > 0, event=payload, schema=reader.fingerprint))
        self.writer = ListWriter()
        self.api = Api(app, config, writer=self.writer)
        rows = [{**row, "id": str(number), "t": T0} for number, row in enumerate(ROWS)]
        told = self.api.post("/v1/predict", {"instances": rows, "record": False}).json["predictions"]
        self.scores, self.classes = [one["score"] for one in told], [one["class"] for one in told]
        assert len({0.5, *self.scores}) == 3, "it has learned"

    def events(self) -> list[dict[str, Any]]:
        """What was asked, as events, without the id and the time that they were given; they are forgotten."""
        found = []
        for _, _, value, _ in self.writer.records:
            event: Any = fastavro.schemaless_reader(io.BytesIO(value), self._schema, None)
            found.append({name: event[name] for name in ROWS[0]})
        self.writer.records.clear()
        return found


@pytest.fixture(name="asked")
def _asked(app: App, log: Log) -> Asked:
    return Asked(app, log)


def name_of(one: dict[str, Any]) -> str:
    """Client, version and what it does."""
    return f"{one['client']} {one['version']}: {one['what']}"


def outputs_of(answer: Answered) -> dict[str, list[Any]]:
    """Values of an answer's outputs, which are JSON or behind it."""
    length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
    told, behind = json.loads(answer.body[:length]), answer.body[length:]
    found = {}
    for one in told["outputs"]:
        size = one.get("parameters", {}).get("binary_data_size", 0)
        layout = {"BOOL": "<2?", "FP64": "<2d"}.get(one["datatype"], f"{size}s")
        found[one["name"]] = one["data"] if "data" in one else [*struct.unpack(layout, behind[:size])]
        behind = behind[size:]
    assert not behind
    return found


def test_requests_of_other_clients_are_answered(asked: Asked) -> None:
    assert len(OVER_HTTP) >= 20
    for one in OVER_HTTP:
        headers = {"content-type": "-", **one["headers"]}
        answer = asyncio.run(asked.api.ask(one["method"], one["path"], base64.b64decode(one.get("body", "")), headers))
        assert answer.status == 200, (name_of(one), answer)
        if one["method"] == "GET":
            continue
        outputs = outputs_of(answer)
        assert outputs["score"] == asked.scores, name_of(one)
        assert outputs.get("class", asked.classes) == asked.classes, name_of(one)
        assert asked.events() == ROWS, name_of(one)


def test_calls_of_other_clients_are_answered(asked: Asked) -> None:
    assert len(OVER_GRPC) >= 15

    async def ask(call: Caller) -> None:
        answers = {method.name: method.answer for method in methods()}
        for one in OVER_GRPC:
            made = call.channel.stream_stream(f"/{SERVICE}/{one['call']}")(
                metadata=tuple((name, value) for name, value in one["metadata"]), timeout=20
            )
            for message in one["messages"]:
                await made.write(base64.b64decode(message))
            await made.done_writing()
            found = [answers[one["call"]].FromString(answer) async for answer in made]
            assert len(found) == len(one["messages"]) and await made.code() is grpc.StatusCode.OK, name_of(one)
            if "Infer" not in one["call"]:
                continue
            assert asked.events() == ROWS * len(found), name_of(one)
            if one["call"] == "ModelStreamInfer":
                assert not any(answer.error_message for answer in found), name_of(one)
                found = [answer.infer_response for answer in found]
            assert [scores_of(answer) for answer in found] == [asked.scores] * len(found), name_of(one)

    on_grpc(asked.api, ask)


def scores_of(answer: Any) -> list[float]:
    """Those of an answer whose outputs are typed or raw."""
    place = [one.name for one in answer.outputs].index("score")
    if answer.raw_output_contents:
        return [*struct.unpack("<2d", answer.raw_output_contents[place])]
    return [*answer.outputs[place].contents.fp64_contents]


def test_a_body_of_no_kind_is_not_taken_from_a_page(asked: Asked) -> None:
    """A page elsewhere can have a browser send bytes without a kind and without asking first; it adds Origin."""
    one = next(one for one in OVER_HTTP if one["what"] == "JSON" and one["client"] == "tritonclient.http")
    body = base64.b64decode(one["body"])
    for header in ({"origin": "http://elsewhere"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        answer = asyncio.run(asked.api.ask("POST", one["path"], body, {"content-type": "-", **header}))
        assert (answer.status, asked.events()) == (415, []), header
    plain = {"instances": [{**ROWS[0], "id": "1", "t": T0}]}
    assert asked.api.post("/v1/predict", plain, content_type="-").status == 415


@pytest.mark.parametrize(
    ("datatype", "value", "is_taken"),
    [
        ("INT32", 2.0, True),
        ("INT32", 2.5, False),
        ("INT32", 2.0**31, False),
        ("INT64", 2.0**53, True),
        ("INT64", 2.0**54, False),
        ("INT64", 1e300, False),
        ("INT32", True, False),
        ("BOOL", 1.0, True),
        ("BOOL", 0, True),
        ("BOOL", 2, False),
        ("BOOL", "true", False),
        ("BYTES", 1.0, False),
    ],
)
def test_a_number_of_json_is_taken_where_it_is_one_of_the_type(
    asked: Asked, datatype: str, value: Any, is_taken: bool
) -> None:
    """open-inference-openapi writes whole numbers and truths as 1.0."""
    field = {"INT32": "n", "INT64": "big", "BOOL": "flag", "BYTES": "kind"}[datatype]
    types = {"x": "FP64", "kind": "BYTES", "n": "INT32", "big": "INT64", "flag": "BOOL", "f": "FP32"}
    inputs = [
        {"name": name, "datatype": types[name], "shape": [1], "data": [value if name == field else ROWS[0][name]]}
        for name in types
    ]
    answer = asked.api.post("/v2/models/app/infer", {"inputs": inputs})
    assert answer.status == (200 if is_taken else 400), answer
    if is_taken:
        assert [one[field] for one in asked.events()] == [value]
