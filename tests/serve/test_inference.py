"""The Open Inference Protocol over HTTP and gRPC: the same scores as /v1/predict, tensors in every form, refusals."""

import asyncio
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from stream_ml.config.serve import SCOPES
from stream_ml.core.api.problems import Problem
from stream_ml.core.api.tensors import TENSORS_MAX
from stream_ml.formats import FOLDER, open_inference
from stream_ml.serve.access.keys import new_key, write_keys
from stream_ml.serve.rpc.messages import MESSAGES, SERVICE, methods
from stream_ml.serve.rpc.server import RpcServer
from tests.support.api import Answered, Api
from tests.support.follower_on_a_list import LINEAR, App, Log

INFER = "/v2/models/app/infer"


def tensor(name: str = "x", data: Any = None, *, datatype: str = "FP64", shape: Any = None) -> dict[str, Any]:
    data = [1.0, -2.0] if data is None else data
    return {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}


def infer(api: Api, *inputs: dict[str, Any], **more: Any) -> Answered:
    return api.post(INFER, {"inputs": [*inputs], **more})


def outputs(answer: Answered) -> dict[str, list[Any]]:
    return {one["name"]: one["data"] for one in answer.json["outputs"]}


def scores(api: Api, *values: float) -> list[float]:
    answer = api.post("/v1/predict", {"instances": [{"x": value} for value in values]})
    return [one["score"] for one in answer.json["predictions"]]


# --- over HTTP ---


def test_tensors_are_scored_as_instances_are(api: Api) -> None:
    answer = infer(api, tensor(), id="r1")
    assert answer.status == 200, answer
    said, expected = answer.json, scores(api, 1.0, -2.0)
    assert (said["id"], said["model_name"]) == ("r1", "app")
    assert outputs(answer)["score"] == expected and outputs(answer)["class"] == [one > 0.5 for one in expected]
    of = api.live.answering().of
    assert (said["model_version"], said["parameters"]["position"]) == (of.lineage, of.position)
    assert json.loads(said["parameters"]["flags"]) == [[], []]
    assert answer.headers["stream-ml-position"] == f"{of.lineage}/{of.position}"


@pytest.mark.parametrize(
    "given",
    [
        tensor(data=[[1.0], [-2.0]], shape=[2, 1]),
        tensor(data=[1.0, -2.0], shape=[2, 1]),
        tensor(data=[1, -2], datatype="INT64"),
        tensor(data=[1, -2], datatype="INT8"),
        tensor(data=[1, -2], datatype="FP32"),
        tensor("features", [[1.0], [-2.0]], shape=[2, 1]),
        tensor("features", [1.0, -2.0], shape=[2, 1]),
        {**tensor(), "parameters": {"content_type": "np"}},
    ],
)
def test_a_column_may_come_in_any_form_that_holds_its_values(api: Api, given: dict[str, Any]) -> None:
    assert outputs(infer(api, given))["score"] == scores(api, 1.0, -2.0)


def test_a_narrow_float_is_what_its_bits_are(api: Api) -> None:
    narrow = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert outputs(infer(api, tensor(data=[0.1], datatype="FP32")))["score"] == scores(api, narrow)
    assert outputs(infer(api, tensor(data=[0.1])))["score"] == scores(api, 0.1)


@pytest.mark.parametrize(
    ("inputs", "status", "words"),
    [
        ([], 400, "no inputs"),
        ([tensor(shape=[3])], 400, "is of 3 values, and its data has 2"),
        ([tensor(shape=[])], 400, "axes"),
        ([tensor(shape=[-2])], 400, "none of them negative"),
        ([tensor(shape=[1, 2])], 400, "its shape is [1, 2]"),
        ([tensor(data=[], shape=[0])], 400, "no rows"),
        ([tensor(data=[[[1.0]], 2.0], shape=[2])], 400, "nests more deeply"),
        ([tensor(data=[None, 1.0])], 400, "input x[0]: None is no FP64"),
        ([tensor(data=[True, 1.0])], 400, "input x[0]: True is no FP64"),
        ([tensor(data=["a", "b"])], 400, "input x[0]: 'a' is no FP64"),
        ([tensor(data=[1.5], datatype="INT32")], 400, "1.5 is no INT32"),
        ([tensor(data=[300], datatype="UINT8")], 400, "300 is no UINT8"),
        ([tensor(data=[1e300], datatype="FP32")], 400, "1e+300 is beyond FP32"),
        ([tensor(data=[10**30], datatype="FP16")], 400, "is beyond FP16"),
        ([tensor(datatype="FP128")], 400, "no datatype 'FP128'"),
        ([tensor(), tensor()], 400, "the same name"),
        ([tensor(), tensor("id", ["a"], datatype="BYTES")], 400, "input id: its shape is [1]"),
        ([tensor("nope")], 422, "input nope: it is no field"),
        ([tensor("x.y")], 422, "no field"),
        ([tensor("features", [1.0, 2.0], shape=[1, 2])], 400, "the model has 1 features"),
        ([tensor(data=["a"], datatype="BYTES")], 422, "input x[0]"),
        ([tensor(data=[True], datatype="BOOL")], 422, "input x[0]"),
        ([tensor(data=[1e19])], 422, "input x[0]"),
        ([tensor("id", ["a"], datatype="BYTES")], 422, "input x[0]"),
        ([tensor(data=[1.0] * 1_001)], 413, "1,001"),
        ([tensor(shape=[2**62, 2**62])], 413, "at most"),
        ([{"name": "x", "datatype": "FP64", "shape": [1]}], 400, "data is a list"),
        ([{"name": "x"}], 400, "shape"),
    ],
)
def test_what_is_wrong_is_said_in_the_protocols_own_form(api: Api, inputs: Any, status: int, words: str) -> None:
    answer = infer(api, *inputs)
    assert (answer.status, list(answer.json), answer.headers["content-type"]) == (status, ["error"], "application/json")
    assert words in answer.json["error"], answer


def test_a_refusal_repeats_no_value_where_the_operator_wants_that(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"verbose_errors": False})
    app.serving(config)
    api = Api(app, config)
    for datatype in ("FP64", "INT32", "BOOL", "BYTES"):
        for value in ("secret", 4711.5):
            answer = infer(api, tensor(data=[value], datatype=datatype))
            if (datatype, value) != ("FP64", 4711.5):
                assert answer.status in (400, 422) and answer.json == {"error": "input x[0]: schema_mismatch"}, answer
    answer = api.post("/v1/predict", {"instances": [{"x": "secret"}], "on_error": "partial"})
    assert answer.json["predictions"] == [{"error": {"code": "schema_mismatch", "pointer": "/instances/0/x"}}]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"[" * 100_000, 400),
        (b'{"inputs": NaN}', 400),
        (b'{"inputs": [], "output": []}', 400),
    ],
)
def test_a_body_that_is_no_request_is_refused(api: Api, body: bytes, status: int) -> None:
    answer = asyncio.run(api.ask("POST", INFER, body))
    assert (answer.status, list(answer.json)) == (status, ["error"])


def test_outputs_are_selected_and_an_unknown_one_is_refused(api: Api) -> None:
    assert list(outputs(infer(api, tensor(), outputs=[{"name": "score"}]))) == ["score"]
    wrong = infer(api, tensor(), outputs=[{"name": "logits"}])
    assert wrong.status == 400 and "class, score" in wrong.json["error"]


def test_an_output_is_answered_once(api: Api) -> None:
    """A megabyte of names would come back as a gigabyte."""
    wrong = infer(api, tensor(), outputs=[{"name": "score"}] * 2)
    assert wrong.status == 400 and "twice" in wrong.json["error"]


def test_names_that_are_no_fields_leave_no_trace(api: Api) -> None:
    for number in range(1_100):
        assert infer(api, tensor(f"nope{number}")).status == 422
    assert infer(api, tensor(), tensor("id", ["a", "b"], datatype="BYTES")).status == 200


def test_ids_come_back(api: Api) -> None:
    answer = infer(api, tensor(), tensor("id", ["a", "b"], datatype="BYTES"))
    assert outputs(answer)["id"] == ["a", "b"]


def test_bytes_behind_the_json_are_tensors_and_answers_may_come_so(api: Api) -> None:
    raw = struct.pack("<2d", 1.0, -2.0)
    one = {"name": "x", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "content-type": "application/octet-stream"}
    answer = asyncio.run(api.ask("POST", INFER, head + raw, headers))
    assert answer.status == 200, answer
    length = int(answer.headers["inference-header-content-length"])
    said, behind = json.loads(answer.body[:length]), answer.body[length:]
    sizes = {one["name"]: one["parameters"]["binary_data_size"] for one in said["outputs"]}
    assert sizes == {"class": 2, "score": 16} and [*struct.unpack("<2d", behind[2:])] == scores(api, 1.0, -2.0)
    for wrong in ("0", "999999", "x", "-1"):
        assert (
            asyncio.run(api.ask("POST", INFER, head + raw, headers | {"Inference-Header-Content-Length": wrong})).status
            == 400
        )
    assert asyncio.run(api.ask("POST", INFER, head + raw + b"x", headers)).status == 400
    plain = {"content-type": "application/octet-stream"}
    assert asyncio.run(api.ask("POST", "/v1/predict", head, plain)).status == 415, "a page elsewhere could send it"


def test_metadata_names_what_the_model_takes_and_gives(api: Api) -> None:
    lineage = api.live.answering().of.lineage
    said = api.get("/v2/models/app").json
    assert said["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1]}] and said["versions"] == [lineage]
    assert [one["name"] for one in said["outputs"]] == ["class", "score"]
    assert api.get(f"/v2/models/app/versions/{lineage}").json == said
    assert api.get("/v2").json["extensions"] == ["binary_tensor_data"]
    assert [api.get(f"/v2/health/{what}").status for what in ("live", "ready")] == [200, 200]
    assert api.get("/v2/models/app/ready").json == {"name": "app", "ready": True}
    for path in ("/v2/models/other", "/v2/models/app/versions/0", "/v2/nothing", "/v2/models/app/versions/0/ready"):
        assert (api.get(path).status, list(api.get(path).json)) == (404, ["error"]), path


def test_before_there_is_a_model_nothing_is_ready(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    app.serving(config)
    api = Api(app, config, started=False)
    assert api.get("/v2/health/ready").status == 503 == infer(api, tensor()).status
    assert api.get("/v2/models/app/ready").status == 503 and api.get("/v2/health/live").status == 200


def test_a_row_without_an_answer_is_no_number_that_somebody_could_believe(app: App, log: Log) -> None:
    config = app.config({"factory": "river.naive_bayes:GaussianNB"})
    app.serving(config)
    api = Api(app, config)
    assert api.post("/v1/predict", {"instances": [{"x": 1.0}]}).json["predictions"][0]["score"] is None
    answer = infer(api, tensor())
    assert answer.status == 503 and "no answer for row 0" in answer.json["error"]


def test_a_model_without_probabilities_answers_with_classes(api: Api) -> None:
    """It will never have any: to come again is no advice."""
    inference = api.inferences.of(api.live.answering())
    told = [{"class": True, "score": None, "flags": []}, {"class": False, "score": None, "flags": []}]
    assert [(one.name, one.values) for one in inference.answered(told, [])] == [("class", [True, False])]
    with pytest.raises(Problem, match="without probabilities") as caught:
        inference.answered(told, ["score"])
    assert caught.value.status == 400


# --- over gRPC ---


class Caller:
    """Calls the methods of a server on a channel, with classes of the test's own."""

    def __init__(self, server: RpcServer, channel: Any, key: str = "") -> None:
        self.server, self.channel = server, channel
        self.metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._methods = {method.name: method for method in methods()}

    async def __call__(self, method_name: str, /, *metadata: tuple[str, str], **fields: Any) -> Any:
        method = self._methods[method_name]
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method_name}", request_serializer=_bytes, response_deserializer=method.answer.FromString
        )
        return await call(method.request(**fields), metadata=(*self.metadata, *metadata), timeout=20)

    async def refused(self, method_name: str, /, *metadata: tuple[str, str], **fields: Any) -> tuple[str, str]:
        """Code and words of a call that is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self(method_name, *metadata, **fields)
        return caught.value.code().name, caught.value.details() or ""

    def stream(self) -> Any:
        method = self._methods["ModelStreamInfer"]
        call = self.channel.stream_stream(
            f"/{SERVICE}/{method.name}", request_serializer=_bytes, response_deserializer=method.answer.FromString
        )
        return call(metadata=self.metadata, timeout=20)


def _bytes(message: Any) -> bytes:
    found: bytes = message.SerializeToString()
    return found


def on_grpc(api: Api, ask: Callable[[Caller], Any], key: str = "", **options: int) -> None:
    """Run what asks against a server of its own."""

    async def run() -> None:
        server = RpcServer(api.config, api.gate, api.inferences, None)
        await server.start()
        said = [(f"grpc.{name}", value) for name, value in options.items()]
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=said) as channel:
                await ask(Caller(server, channel, key))
        finally:
            await server.stop(0)

    asyncio.run(run())


def request(*values: float, raw: bool = False, **more: Any) -> dict[str, Any]:
    one: dict[str, Any] = {"name": "x", "datatype": "FP64", "shape": [len(values)]}
    if raw:
        return {
            "model_name": "app",
            "inputs": [one],
            "raw_input_contents": [struct.pack(f"<{len(values)}d", *values)],
            **more,
        }
    return {"model_name": "app", "inputs": [{**one, "contents": {"fp64_contents": values}}], **more}


def test_grpc_gives_the_same_scores_typed_and_raw(api: Api) -> None:
    expected = scores(api, 1.0, -2.0)

    async def ask(call: Caller) -> None:
        typed = await call("ModelInfer", **request(1.0, -2.0, id="r1"))
        assert typed.id == "r1" and typed.model_version == api.live.answering().of.lineage
        found = {one.name: one for one in typed.outputs}
        assert [*found["score"].contents.fp64_contents] == expected and not typed.raw_output_contents
        assert [*found["class"].contents.bool_contents] == [one > 0.5 for one in expected]
        assert typed.parameters["position"].int64_param == api.live.answering().of.position
        raw = await call("ModelInfer", **request(1.0, -2.0, raw=True))
        names = [one.name for one in raw.outputs]
        assert [*struct.unpack("<2d", raw.raw_output_contents[names.index("score")])] == expected
        assert not raw.outputs[0].HasField("contents")

    on_grpc(api, ask)


def test_grpc_answers_what_http_does_of_server_and_model(api: Api) -> None:
    async def ask(call: Caller) -> None:
        assert (await call("ServerLive")).live and (await call("ServerReady")).ready
        assert (await call("ModelReady", name="app")).ready and not (await call("ModelReady", name="other")).ready
        assert not (await call("ModelReady", name="app", version="0")).ready
        assert (await call("ServerMetadata")).name == "stream-ml"
        told = await call("ModelMetadata", name="app")
        assert [(one.name, one.datatype, [*one.shape]) for one in told.inputs] == [("x", "FP64", [-1])]
        assert [one.name for one in told.outputs] == ["class", "score"]

    on_grpc(api, ask)


def test_grpc_refuses_with_the_code_that_fits(api: Api) -> None:
    async def ask(call: Caller) -> None:
        code, words = await call.refused("ModelInfer", model_name="app")
        assert code == "INVALID_ARGUMENT" and "no inputs" in words
        code, words = await call.refused("ModelInfer", **request(1e19))
        assert code == "INVALID_ARGUMENT" and words.startswith("input x[0]")
        assert (await call.refused("ModelInfer", **(request(1.0) | {"model_name": "other"})))[0] == "NOT_FOUND"
        assert (await call.refused("ModelInfer", model_version="0", **request(1.0)))[0] == "NOT_FOUND"
        late = ("stream-ml-min-position", "999999"), ("prefer", "wait=0.01")
        assert (await call.refused("ModelInfer", *late, **request(1.0)))[0] == "FAILED_PRECONDITION"
        both = request(1.0, raw=True)
        both["inputs"][0]["contents"] = {"fp64_contents": [1.0]}
        assert (await call.refused("ModelInfer", **both))[0] == "INVALID_ARGUMENT"
        short = request(1.0, raw=True) | {"raw_input_contents": [b"1234567"]}
        code, words = await call.refused("ModelInfer", **short)
        assert code == "INVALID_ARGUMENT" and "are 8 bytes, and its raw contents have 7" in words
        large = request(*[1.0] * 200_000, raw=True)
        assert (await call.refused("ModelInfer", **large))[0] == "RESOURCE_EXHAUSTED"
        texts = {"name": "x", "datatype": "BYTES", "shape": [1]}
        for raw in (b"", b"\xff\xff\xff\xff", b"\x01\x00\x00\x00a\x00", b"\x01\x00\x00\x00\xff"):
            code, _ = await call.refused("ModelInfer", model_name="app", inputs=[texts], raw_input_contents=[raw])
            assert code == "INVALID_ARGUMENT"

    on_grpc(api, ask)


def test_a_request_has_so_many_inputs_by_whatever_it_comes(api: Api) -> None:
    """Of names that are compared with each other 8,000 would hold the loop for half a minute."""
    one = {"datatype": "FP64", "shape": [1], "contents": {"fp64_contents": [1.0]}}
    assert infer(api, *(tensor(str(number)) for number in range(TENSORS_MAX + 1))).status == 413
    assert infer(api, *(tensor(str(number)) for number in range(TENSORS_MAX))).status == 422

    async def ask(call: Caller) -> None:
        many = [{"name": str(number), **one} for number in range(TENSORS_MAX + 1)]
        assert (await call.refused("ModelInfer", model_name="app", inputs=many))[0] == "RESOURCE_EXHAUSTED"

    on_grpc(api, ask)


def test_a_stream_is_answered_one_by_one_and_a_wrong_request_in_its_place(api: Api) -> None:
    expected = scores(api, 1.0, -2.0)

    async def ask(call: Caller) -> None:
        stream, made = call.stream(), MESSAGES["ModelInferRequest"]
        found = []
        for number, fields in enumerate((request(1.0), {"model_name": "app"}, request(-2.0))):
            await stream.write(made(**fields, id=str(number)))
            found.append(await stream.read())
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert [one.infer_response.id for one in found] == ["0", "1", "2"]
        assert "no inputs" in found[1].error_message and not found[0].error_message
        scored = [next(o for o in found[n].infer_response.outputs if o.name == "score") for n in (0, 2)]
        assert [one.contents.fp64_contents[0] for one in scored] == expected

    on_grpc(api, ask)


def test_a_stream_that_is_not_read_is_answered_no_further(api: Api) -> None:
    """Back-pressure: the next request is read once the answer before it is taken, so nothing heaps up here."""

    async def ask(call: Caller) -> None:
        stream, made = call.stream(), MESSAGES["ModelInferRequest"]
        many, scored = made(**request(*[1.0] * 1_000, raw=True)), api.metrics
        written = 0
        try:
            async with asyncio.timeout(60):
                while True:
                    await asyncio.wait_for(stream.write(many), 1.0)
                    written += 1
        except TimeoutError:
            pass
        text = scored.registry.get_sample_value(
            "stream_ml_http_requests_total", {"route": f"/{SERVICE}/ModelStreamInfer", "status": "200"}
        )
        assert text is not None and text < written, "what was not read was not scored"
        assert written < 5_000, "40 MB: windows of the connection, and what gRPC itself keeps"
        stream.cancel()

    on_grpc(api, ask)


def test_health_and_reflection_are_there_for_tools(api: Api) -> None:
    async def ask(call: Caller) -> None:
        health = health_pb2_grpc.HealthStub(call.channel)
        for name in ("", SERVICE):
            assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == 1
        await call.server.say(is_ready=False)
        assert (await health.Check(health_pb2.HealthCheckRequest(service=""))).status == 2
        stub = reflection_pb2_grpc.ServerReflectionStub(call.channel)
        asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)]
        answers = [one async for one in stub.ServerReflectionInfo(iter(asked))]
        assert b"ModelStreamInfer" in answers[0].file_descriptor_response.file_descriptor_proto[0]

    on_grpc(api, ask)


def test_strangers_who_watch_take_no_place_of_those_who_ask(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"in_flight_max": 8, "read_timeout": "60s"})
    app.serving(config)
    log.usual(100)
    api = Api(app, config)

    async def ask(call: Caller) -> None:
        alone = [("grpc.use_local_subchannel_pool", 1)]
        address, taken = f"127.0.0.1:{call.server.port}", 0
        async with grpc.aio.insecure_channel(address, alone) as one, grpc.aio.insecure_channel(address, alone) as two:
            held = [one.stream_unary(f"/{SERVICE}/ServerLive")() for _ in range(6)]
            held += [one.stream_unary("/grpc.health.v1.Health/Check")() for _ in range(2)]
            for channel in (two, two, two, two):
                watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
                try:
                    taken += await watching.read() is not grpc.aio.EOF
                except grpc.aio.AioRpcError as error:
                    assert error.code().name == "UNAVAILABLE" and "without a credential" in (error.details() or "")
            assert taken <= 2 and await call("ModelInfer", **request(1.0))
            assert all(not one.done() for one in held[:1])

    on_grpc(api, ask)


def test_connections_have_a_number_here_too(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"connections_max": 8})
    app.serving(config)
    api = Api(app, config)

    async def ask(call: Caller) -> None:
        options, made, admitted = [("grpc.use_local_subchannel_pool", 1)], list[Any](), 0
        for _ in range(10):
            made.append(grpc.aio.insecure_channel(f"127.0.0.1:{call.server.port}", options))
            try:
                admitted += (await Caller(call.server, made[-1])("ServerLive")).live
            except grpc.aio.AioRpcError as error:
                assert error.code().name == "UNAVAILABLE"
        assert admitted == 8
        for one in made:
            await one.close()

    on_grpc(api, ask)


def test_a_mistake_of_ours_in_a_stream_ends_it_without_its_words(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def raises(*_: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(api.inferences, "infer", raises)

    async def ask(call: Caller) -> None:
        stream = call.stream()
        await stream.write(MESSAGES["ModelInferRequest"](**request(1.0)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code().name == "INTERNAL" and "secret" not in (caught.value.details() or "")

    on_grpc(api, ask)


def test_every_method_needs_a_right_credential_of_its_scope(app: App, log: Log) -> None:
    """Made from the service's own description: a method without a rule would not even start."""
    (text, key), (other, key2) = new_key("a", ["predict"]), new_key("b", ["feedback"])
    write_keys(app.folder / "keys.json", [key, key2])
    config = app.config(LINEAR, serve={"auth": {"keys_file": "keys.json"}})
    app.serving(config)
    log.usual(100)
    api = Api(app, config)
    on_grpc(api, _matrix, text)

    async def wrong_scope(call: Caller) -> None:
        assert (await call.refused("ModelInfer", **request(1.0)))[0] == "PERMISSION_DENIED"

    on_grpc(api, wrong_scope, other)


async def _matrix(call: Caller) -> None:
    key, call.metadata = call.metadata, ()
    assert {method.name for method in methods()} == {*call.server.rules}
    for name, rule in call.server.rules.items():
        assert rule.scope in ("", *SCOPES)
        fields = request(1.0) if name == "ModelInfer" else {"name": "app"} if "Model" in name and rule.scope else {}
        if name == "ModelStreamInfer":
            stream = call.stream()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert caught.value.code().name == "UNAUTHENTICATED"
        elif rule.scope:
            assert (await call.refused(name, **fields))[0] == "UNAUTHENTICATED"
            assert (await call.refused(name, ("authorization", "Bearer x"), **fields))[0] == "UNAUTHENTICATED"
            assert await call(name, *key, **fields)
        else:
            assert await call(name, **fields)


def test_a_call_whose_message_does_not_come_ends(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"read_timeout": "200ms"})
    app.serving(config)
    api = Api(app, config)

    async def ask(call: Caller) -> None:
        held = call.channel.stream_unary(f"/{SERVICE}/ModelInfer")()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await held
        assert caught.value.code().name == "DEADLINE_EXCEEDED" and "no message came" in str(caught.value.details())

    on_grpc(api, ask)


def test_the_description_of_the_messages_is_the_one_of_the_file_that_people_read(tmp_path: Path) -> None:
    from grpc_tools import protoc

    made = tmp_path / "made.binpb"
    arguments = ["", f"-I{FOLDER}", f"--descriptor_set_out={made}", str(FOLDER / "open_inference.proto")]
    assert protoc.main(arguments) == 0 and made.read_bytes() == open_inference()
