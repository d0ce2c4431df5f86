"""The Open Inference Protocol (version 2): what it asks is scored as everything else; and its form over HTTP."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from stream_ml.app.parts import Parts
from stream_ml.core.api.inference import EXTENSIONS, Inference
from stream_ml.core.api.problems import Problem
from stream_ml.core.api.scoring import Moment
from stream_ml.core.api.tensors import Tensor, check_count, of_json, of_raw, raw_of
from stream_ml.serve.handlers.demands import Demands
from stream_ml.serve.handlers.predict import Predict
from stream_ml.serve.http.messages import BINARY, Answer, Request, json_answer
from stream_ml.serve.live import Live

PLATFORM = "river"
_BINARY_LENGTH = b"inference-header-content-length"


class Inferred(NamedTuple):
    """What was answered, by which version, and the headers that say so."""

    version: str
    outputs: list[Tensor]
    parameters: dict[str, Any]
    headers: list[tuple[bytes, bytes]]


class Inferences:
    """Answers of the protocol, whatever they come by; one event loop only."""

    def __init__(
        self, parts: Parts, live: Live, predict: Predict, demands: Demands, reasons: Callable[[], list[str]]
    ) -> None:
        self._parts, self._live, self._predict, self._demands = parts, live, predict, demands
        self._schema, self.name = parts.reader.payloads.reader, model_name(parts)
        self._by_plan: dict[int, Inference] = {}
        self.reasons = reasons

    @property
    def values_max(self) -> int:
        """Of one tensor."""
        return self._live.instances_max * max(1, len(self._parts.plan.names))

    def of(self, moment: Moment) -> Inference:
        """How the model of a moment is asked."""
        plan = moment.model.settings.plan
        if id(plan) not in self._by_plan:
            self._by_plan[id(plan)] = Inference(self._schema, plan, self._predict.answers)
        return self._by_plan[id(plan)]

    def found(self, name: str, version_: str) -> Moment:
        """Who answers under a name and a version; Problem where there is no such model."""
        moment = self._live.answering()
        self._check(moment, name, version_)
        return moment

    def is_ready(self, name: str, version_: str) -> bool:
        """Whether that model answers."""
        if self.reasons() or name != self.name:
            return False
        return version_ in ("", self._live.answering().of.lineage)

    def _check(self, moment: Moment, name: str, version_: str) -> None:
        if name != self.name:
            raise Problem("not-found", f"there is no model {name[:100]!r}; there is {self.name}")
        if version_ not in ("", moment.of.lineage):
            raise Problem(
                "not-found", f"model {self.name} has no version {version_[:100]!r}: {moment.of.lineage} answers"
            )

    async def infer(
        self,
        name: str,
        version_: str,
        tensors: Callable[[], Sequence[Tensor]],
        wanted: Sequence[str],
        headers: Mapping[bytes, bytes],
        *,
        record: bool | None = None,
    ) -> Inferred:
        """Score n rows.

        Parameters
        ----------
        tensors
            Makes them of the request.
        wanted
            Names of outputs; empty: all.
        record
            False: its caller does not want it recorded.

        Raises
        ------
        Problem
            It cannot be read, a row is wrong, there is no such model, or it is not as fresh as the headers demand.
        """
        self.found(name, version_)
        moment, now_ms = await self._demands.met(headers), time.time_ns() // 1_000_000
        self._check(moment, name, version_)
        inference = self.of(moment)
        instances = inference.instances(tensors())
        if len(instances) > self._live.instances_max:
            raise Problem("too-large", f"{len(instances):,} rows; at most {self._live.instances_max:,} in one request")
        predictions = await self._predict.scored(moment, instances, now_ms, record=record)
        outputs = inference.answered(predictions, wanted)
        told = {key: value for key, value in self._predict.model(moment).items() if value is not None}
        told["flags"] = json.dumps([one["flags"] for one in predictions])
        return Inferred(moment.of.lineage, outputs, told, self._predict.headers(moment))

    def server(self) -> dict[str, Any]:
        """What the server says of itself."""
        return {"name": "stream-ml", "version": version("stream-ml"), "extensions": [*EXTENSIONS]}

    def model(self, name: str, version_: str) -> dict[str, Any]:
        """What the model takes and gives."""
        moment = self.found(name, version_)
        inference = self.of(moment)
        return {
            "name": self.name,
            "versions": [moment.of.lineage],
            "platform": PLATFORM,
            "inputs": [one._asdict() for one in inference.inputs],
            "outputs": [one._asdict() for one in inference.outputs],
        }


def model_name(parts: Parts) -> str:
    """The one model's name in the protocol."""
    return parts.config.serve.model_name or parts.config.app.id


# --- over HTTP ---


class _Input(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: dict[str, Any] | None = None


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Input]
    id: str | None = None
    model_name: str | None = None  # KServe's client repeats that of the path, which counts
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_DECODER = msgspec.json.Decoder(_Asked)


class InferenceHandlers:
    """The protocol over HTTP."""

    def __init__(self, inferences: Inferences) -> None:
        self._inferences = inferences

    async def server(self, request: Request) -> Answer:
        """Name and version of the server."""
        return json_answer(self._inferences.server())

    async def live(self, request: Request) -> Answer:
        """Whether the process lives."""
        return json_answer({"live": True})

    async def ready(self, request: Request) -> Answer:
        """Whether a model answers."""
        is_ready = not self._inferences.reasons()
        return json_answer({"ready": is_ready}, 200 if is_ready else 503)

    async def model_ready(self, request: Request) -> Answer:
        """Whether this model answers."""
        inferences, version_ = self._inferences, request.params.get("version", "")
        if version_ and not inferences.reasons():
            inferences.found(inferences.name, version_)
        is_ready = inferences.is_ready(inferences.name, version_)
        return json_answer({"name": inferences.name, "ready": is_ready}, 200 if is_ready else 503)

    async def model(self, request: Request) -> Answer:
        """What the model takes and gives."""
        return json_answer(self._inferences.model(self._inferences.name, request.params.get("version", "")))

    async def infer(self, request: Request) -> Answer:
        """Tensors to tensors; JSON, with raw bytes behind it where a header says so."""
        asked, raw = _read(request)
        inferences = self._inferences
        most = inferences.values_max
        outputs = asked.outputs or []
        inferred = await inferences.infer(
            inferences.name,
            request.params.get("version", ""),
            lambda: _tensors(asked.inputs, raw, most),
            [one.name for one in outputs],
            request.headers,
            record=_record_of((asked.parameters or {}).get("record")),
        )
        told: dict[str, Any] = {
            "model_name": inferences.name,
            "model_version": inferred.version,
            "parameters": inferred.parameters,
            "outputs": [],
        }
        if asked.id is not None:
            told["id"] = asked.id
        all_raw = (asked.parameters or {}).get("binary_data_output") is True
        raw_names = {one.name: (one.parameters or {}).get("binary_data", all_raw) is True for one in outputs}
        behind = []
        for tensor in inferred.outputs:
            one: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
            if raw_names.get(tensor.name, all_raw):
                behind.append(raw_of(tensor))
                one["parameters"] = {"binary_data_size": len(behind[-1])}
            else:
                one["data"] = tensor.values
            told["outputs"].append(one)
        if not behind:
            return json_answer(told, headers=inferred.headers)
        head = msgspec.json.encode(told)
        headers = [*inferred.headers, (_BINARY_LENGTH, str(len(head)).encode())]
        return Answer(200, head + b"".join(behind), headers, BINARY.encode())


def _record_of(said: Any) -> bool | None:
    """What a request says of recording, in its parameters."""
    if said is not None and not isinstance(said, bool):
        raise Problem("not-readable", "parameters: record is true or false")
    return said


def _read(request: Request) -> tuple[_Asked, bytes]:
    """The JSON of a request, and the bytes behind it."""
    body, length = request.body, request.headers.get(_BINARY_LENGTH, b"")
    if length:
        if not length.isdigit() or len(length) > 12 or int(length) > len(body):
            words = f"the body has {len(body):,} bytes"
            raise Problem("not-readable", f"Inference-Header-Content-Length is no length of JSON in it: {words}")
        body, raw = body[: int(length)], body[int(length) :]
    else:
        raw = b""
    try:
        return _DECODER.decode(body), raw
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        what = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise Problem("not-readable", f"the body is no request of the protocol: {what[:300]}") from None


def _tensors(inputs: Sequence[_Input], raw: bytes, most: int) -> list[Tensor]:
    check_count(len(inputs))
    found, at = [], 0
    for one in inputs:
        size = (one.parameters or {}).get("binary_data_size")
        if size is None:
            found.append(of_json(one.name, one.datatype, one.shape, one.data, most))
            continue
        if one.data is not None or type(size) is not int or not 0 <= size <= len(raw) - at:
            words = "binary_data_size is no number of bytes behind the JSON, or there is data, too"
            raise Problem("not-readable", f"input {one.name[:100]}: {words}")
        found.append(of_raw(one.name, one.datatype, one.shape, raw[at : at + size], most))
        at += size
    if at != len(raw):
        raise Problem("not-readable", f"{len(raw) - at:,} bytes behind the JSON belong to no input")
    return found
