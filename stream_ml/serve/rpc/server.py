"""The Open Inference Protocol over gRPC, in the loop of a child: the same gate, the same scoring, the same refusals.

1. Who asks is asked before a message is read; a message that does not come in time ends its call.
2. A stream is answered one by one, in order: the next request is read once the answer before it is taken.
3. Calls that need no credential have places of their own: else strangers who watch its health would take all.
4. Every child listens on the same port by SO_REUSEPORT, once its model is ready. What waits at one that is killed is
   lost, so clients retry UNAVAILABLE.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from stream_ml.config import Config
from stream_ml.core.api.inference import words_of
from stream_ml.core.api.problems import Problem
from stream_ml.errors import FatalError
from stream_ml.serve.access.certificates import Certificates
from stream_ml.serve.access.gate import Gate
from stream_ml.serve.access.guard import Certificate, Scope
from stream_ml.serve.handlers.inference import Inferences
from stream_ml.serve.rpc.messages import MESSAGES, POOL, SERVICE, Method, methods
from stream_ml.serve.rpc.tensors import fill_outputs, fill_parameters, tensors_of

METADATA_MAX = 16_384
WRITE_S = 10.0  # for a client to take an answer of a stream
SERVER_ERROR = 500
AGE_MAX_MS = 3_600_000  # of a connection: who was admitted by a certificate shows it again
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}

log = logging.getLogger(__name__)

Headers = Mapping[bytes, bytes]
Answerer = Callable[[Any, Headers, Any], Awaitable[Any]]


class Rule(NamedTuple):
    """What a method needs, and what answers it."""

    scope: Scope
    answer: Answerer


class RpcServer:
    """The server of one process; one event loop only."""

    def __init__(self, config: Config, gate: Gate, inferences: Inferences, certificates: Certificates | None) -> None:
        self._settings, self._gate, self._inferences = config.serve, gate, inferences
        self._certificates = certificates
        self.rules: dict[str, Rule] = {
            "ServerLive": Rule("", self._server_live),
            "ServerReady": Rule("", self._server_ready),
            "ModelReady": Rule("", self._model_ready),
            "ServerMetadata": Rule("", self._server_metadata),
            "ModelMetadata": Rule("predict", self._model_metadata),
            "ModelInfer": Rule("predict", self._infer),
            "ModelStreamInfer": Rule("predict", self._infer),
        }
        self._health = health.aio.HealthServicer()
        self._free, self._lasting = 0, 0  # calls without a credential, and those of them that last
        self._server: Any = None
        self.port = 0

    async def start(self) -> None:
        """Listen; FatalError where the port cannot be had."""
        settings = self._settings
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=2 * settings.in_flight_max,
            options=[
                ("grpc.max_receive_message_length", settings.body_max),
                ("grpc.max_metadata_size", METADATA_MAX),
                ("grpc.max_concurrent_streams", settings.in_flight_max),
                ("grpc.max_connection_idle_ms", settings.idle_timeout),
                ("grpc.max_connection_age_ms", AGE_MAX_MS),
                ("grpc.max_connection_age_grace_ms", settings.drain or 1),
                ("grpc.max_allowed_incoming_connections", settings.connections_max),
                ("grpc.server_handshake_timeout_ms", settings.read_timeout),
                ("grpc.so_reuseport", 1),
            ],
        )
        handlers = {method.name: self._handler(method) for method in methods()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        tools = _Tools()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, tools)
        reflecting = reflection.aio.ReflectionServicer(names, POOL)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflecting, tools)
        for service, theirs in tools.handlers.items():
            made = {name: self._of_a_tool(f"/{service}/{name}", one) for name, one in theirs.items()}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, made),))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.grpc_port or 0}"
        try:
            if self._certificates is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, self._certificates.of_grpc())
        except RuntimeError as error:
            raise FatalError(f"serve.grpc_port {address} cannot be listened on", "another process has it?") from error
        await self._server.start()
        await self.say(is_ready=True)

    async def say(self, *, is_ready: bool) -> None:
        """Tell those who watch its health."""
        status = health_pb2.HealthCheckResponse.SERVING if is_ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Let calls end for a while, then end them."""
        if self._server is not None:
            await self._server.stop(grace_s)

    # --- calls ---

    def _handler(self, method: Method) -> Any:
        rule = self.rules[method.name]
        name = f"/{SERVICE}/{method.name}"
        made: Any
        if method.streams:

            async def stream(requests: Any, context: Any) -> None:
                await self._streamed(name, rule, context)

            made = grpc.stream_stream_rpc_method_handler(
                stream, request_deserializer=method.request.FromString, response_serializer=_serialized
            )
        else:
            # As one that takes a stream: so who asks can be asked first, and the message has a deadline.
            async def one(requests: Any, context: Any) -> Any:
                return await self._called(name, rule, context)

            made = grpc.stream_unary_rpc_method_handler(
                one, request_deserializer=method.request.FromString, response_serializer=_serialized
            )
        return made

    async def _called(self, name: str, rule: Rule, context: Any) -> Any:
        began_s, headers = time.perf_counter(), _headers(context)
        async with self._told(name, headers, began_s, context), self._traced(name, rule, headers, context):
            await self._gate.admitted(rule.scope, headers, _address(context), _certificate(context))
            with contextlib.nullcontext() if rule.scope else self._place():
                request = await self._first(context)
            with self._gate.entered(rule.scope):
                answer = await rule.answer(request, headers, context)
            self._gate.answered(name, 200, began_s)
            return answer

    async def _streamed(self, name: str, rule: Rule, context: Any) -> None:
        headers = _headers(context)
        while True:
            began_s = time.perf_counter()
            async with self._told(name, headers, began_s, context):
                who = headers, _address(context), _certificate(context)
                await self._gate.admitted(rule.scope, *who, counts=False)
                request = await self._next(context, self._settings.idle_timeout / 1000)
            if request is None:
                return
            began_s, answer = time.perf_counter(), MESSAGES["ModelStreamInferResponse"]()
            async with self._told(name, headers, began_s, context):
                try:
                    async with self._traced(name, rule, headers, context):
                        await self._gate.admitted(rule.scope, *who)
                        with self._gate.entered(rule.scope):
                            answer.infer_response.CopyFrom(await rule.answer(request, headers, None))
                    self._gate.answered(name, 200, began_s)
                except Problem as problem:
                    self._refused(problem, headers, name, began_s)
                    answer.error_message = words_of(problem, verbose=self._settings.verbose_errors)
                    answer.infer_response.id = request.id
                await _in_time(context.write(answer), WRITE_S, "the answer was not taken")

    def _of_a_tool(self, name: str, theirs: Any) -> Any:
        """A handler of health or reflection, whose message has a deadline, and whose calls have places of their own."""
        codecs = {key: getattr(theirs, key) for key in ("request_deserializer", "response_serializer")}

        async def one(requests: Any, context: Any) -> Any:
            async with self._told(name, _headers(context), time.perf_counter(), context):
                with self._place():
                    return await theirs.unary_unary(await self._first(context), context)

        async def stream(requests: Any, context: Any) -> None:
            async with self._told(name, _headers(context), time.perf_counter(), context):
                with self._place(lasts=True):
                    if theirs.unary_stream is not None:
                        await theirs.unary_stream(await self._first(context), context)
                        return
                    async for answer in theirs.stream_stream(self._each(context), context):
                        await _in_time(context.write(answer), WRITE_S, "the answer was not taken")

        if theirs.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(one, **codecs)
        return grpc.stream_stream_rpc_method_handler(stream, **codecs)

    @contextlib.contextmanager
    def _place(self, *, lasts: bool = False) -> Iterator[None]:
        """Count a call without a credential; Problem where there are too many."""
        most = self._settings.in_flight_max
        if self._free >= most or (lasts and self._lasting >= max(1, most // 4)):
            raise Problem("overloaded", "too many calls without a credential at once; come again")
        self._free, self._lasting = self._free + 1, self._lasting + lasts
        try:
            yield
        finally:
            self._free, self._lasting = self._free - 1, self._lasting - lasts

    async def _each(self, context: Any) -> AsyncIterator[Any]:
        """Messages of a stream, as long as they come."""
        while (request := await self._next(context, self._settings.read_timeout / 1000)) is not None:
            yield request

    async def _first(self, context: Any) -> Any:
        """The one message of a call."""
        request = await self._next(context, self._settings.read_timeout / 1000)
        if request is None:
            raise Problem("not-readable", "the call has no message")
        return request

    async def _next(self, context: Any, wait_s: float) -> Any:
        """The next message; None where there is none any more."""
        found = await _in_time(context.read(), wait_s, "no message came")
        return None if found is grpc.aio.EOF else found

    @contextlib.asynccontextmanager
    async def _told(self, name: str, headers: Headers, began_s: float, context: Any) -> AsyncIterator[None]:
        """Whatever goes wrong inside ends the call, in words."""
        try:
            yield
        except Problem as problem:
            request_id = self._refused(problem, headers, name, began_s)
            told = [(one.lower(), value) for one, value in problem.headers.items()]
            words = words_of(problem, verbose=self._settings.verbose_errors)
            await context.abort(CODES[problem.status], words, (*told, ("x-request-id", request_id)))
        except (grpc.aio.AbortError, grpc.aio.BaseError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("a call of %s failed", name)
            self._gate.answered(name, 500, began_s)
            await context.abort(grpc.StatusCode.INTERNAL, "this is our mistake; the log has it")

    @contextlib.asynccontextmanager
    async def _traced(self, name: str, rule: Rule, headers: Headers, context: Any) -> AsyncIterator[None]:
        """The span of one message. Source of its names: OpenTelemetry's semantic conventions for RPC, 1.45."""
        traced = self._gate.traces.request(headers) if rule.scope else None
        status, error = "OK", ""
        try:
            yield
        except Problem as problem:
            status = CODES[problem.status].name
            error = status if problem.status >= SERVER_ERROR else ""
            raise
        except BaseException as problem:
            status, error = "INTERNAL", type(problem).__name__
            raise
        finally:
            if traced is not None:
                told = {"rpc.system.name": "grpc", "rpc.method": name[1:], "rpc.status_code": status}
                self._gate.traces.answered(traced, name[1:], told | {"client.address": _address(context)}, error)

    def _refused(self, problem: Problem, headers: Headers, name: str, began_s: float) -> str:
        self._gate.answered(name, problem.status, began_s)
        return self._gate.refused(problem, headers, name)

    # --- what they answer ---

    async def _server_live(self, request: Any, headers: Headers, context: Any) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _server_ready(self, request: Any, headers: Headers, context: Any) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=not self._inferences.reasons())

    async def _model_ready(self, request: Any, headers: Headers, context: Any) -> Any:
        return MESSAGES["ModelReadyResponse"](ready=self._inferences.is_ready(request.name, request.version))

    async def _server_metadata(self, request: Any, headers: Headers, context: Any) -> Any:
        return MESSAGES["ServerMetadataResponse"](**self._inferences.server())

    async def _model_metadata(self, request: Any, headers: Headers, context: Any) -> Any:
        return MESSAGES["ModelMetadataResponse"](**self._inferences.model(request.name, request.version))

    async def _infer(self, request: Any, headers: Headers, context: Any) -> Any:
        """Score; `context` None: in a stream, whose metadata have been sent."""
        inferences = self._inferences
        inferred = await inferences.infer(
            request.model_name,
            request.model_version,
            lambda: tensors_of(request, inferences.values_max),
            [one.name for one in request.outputs],
            headers,
            record=request.parameters["record"].bool_param if "record" in request.parameters else None,
        )
        answer = MESSAGES["ModelInferResponse"](
            model_name=inferences.name, model_version=inferred.version, id=request.id
        )
        fill_outputs(answer, inferred.outputs, is_raw=bool(request.raw_input_contents))
        fill_parameters(answer, inferred.parameters)
        if context is not None:
            told = [(name.decode(), value.decode()) for name, value in inferred.headers]
            await context.send_initial_metadata(told)
        return answer


class _Tools:
    """Takes the handlers that a library's function adds to a server, by service."""

    def __init__(self) -> None:
        self.handlers: dict[str, dict[str, Any]] = {}

    def add_generic_rpc_handlers(self, _: Any) -> None:
        """The same handlers, in the form of before."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Handlers by their names."""
        self.handlers[service] = handlers


def _serialized(message: Any) -> bytes:
    found: bytes = message.SerializeToString()
    return found


async def _in_time(waiting: Awaitable[Any], wait_s: float, words: str) -> Any:
    try:
        return await asyncio.wait_for(waiting, wait_s)
    except TimeoutError:
        raise Problem("too-slow", f"{words} in {wait_s:g} s") from None


def _headers(context: Any) -> dict[bytes, bytes]:
    """Metadata of a call, as headers of HTTP are."""
    return {
        name.encode(): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
        for name, value in context.invocation_metadata() or ()
    }


def _address(context: Any) -> str:
    """The peer's, without its port."""
    return str(context.peer()).rpartition(":")[0].partition(":")[2]


def _certificate(context: Any) -> Certificate | None:
    """The client's, whom gRPC has verified; None without TLS of both sides."""
    names = context.auth_context().get("x509_common_name", [])
    return {"subject": tuple((("commonName", name.decode("utf-8", "replace")),) for name in names)} if names else None
