"""Messages of the Open Inference Protocol, made from the description that belongs to schemas/open_inference.proto.

They live in a pool of their own, so that a client library with the same messages may be in the same process, and need
no code that is bound to one version of protobuf.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from stream_ml.formats import open_inference

SERVICE = "inference.GRPCInferenceService"


class Method(NamedTuple):
    """A method of the service: of its request and answer the classes."""

    name: str
    request: Any
    answer: Any
    streams: bool


def _made() -> tuple[descriptor_pool.DescriptorPool, dict[str, Any]]:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(open_inference()).file:
        pool.Add(file)
    service = pool.FindServiceByName(SERVICE)
    named = [one for method in service.methods for one in (method.input_type, method.output_type)]
    return pool, {one.name: message_factory.GetMessageClass(one) for one in named}


POOL, MESSAGES = _made()


def methods() -> Iterator[Method]:
    """Those of the service."""
    for method in POOL.FindServiceByName(SERVICE).methods:
        request, answer = MESSAGES[method.input_type.name], MESSAGES[method.output_type.name]
        yield Method(method.name, request, answer, method.server_streaming)
