"""gRPC behind a real supervisor: all processes on one port, a rolling restart, a port that is taken."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stream_ml.embedded.broker import free_port
from stream_ml.serve.rpc.messages import MESSAGES, SERVICE
from tests.support.api_process import ApiProcess
from tests.support.service import service, until

pytestmark = pytest.mark.kafka

ASKED = MESSAGES["ModelInferRequest"]
ANSWERED = MESSAGES["ModelInferResponse"]


@contextlib.contextmanager
def channel(port: int) -> Iterator[Any]:
    """A connection of its own: of others' gRPC would share one with the same settings."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as found:
        yield found


def infer(made: Any, app_id: str) -> Any:
    """The answer for one event."""
    columns = (("x", "FP64", "fp64_contents", 3.0), ("kind", "BYTES", "bytes_contents", b"k1"))
    inputs = [
        {"name": name, "datatype": kind, "shape": [1], "contents": {field: [value]}}
        for name, kind, field, value in columns
    ]
    call = made.unary_unary(
        f"/{SERVICE}/ModelInfer",
        request_serializer=ASKED.SerializeToString,
        response_deserializer=ANSWERED.FromString,
    )
    return call(ASKED(model_name=app_id, inputs=inputs), timeout=20, wait_for_ready=True)


def test_all_processes_answer_on_one_port_through_a_rolling_restart(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        made.start()
        made.pairs(range(200))
        made.wait_until_done()
        port = free_port()
        with ApiProcess(made, processes=2, grpc_port=port) as api:
            api.wait_ready(2)
            asked = {"x": 3.0, "kind": "k1", "note": None}
            over_http = api.predict(asked)
            for _ in range(8):  # connections of their own, so that both processes are asked
                with channel(port) as one:
                    answer = infer(one, app_id)
                    score = next(o for o in answer.outputs if o.name == "score").contents.fp64_contents[0]
                    assert score.hex() == over_http["predictions"][0]["score"].hex()
                    assert answer.model_version == over_http["model"]["lineage"]
            with channel(port) as one:
                health = health_pb2_grpc.HealthStub(one)
                assert health.Check(health_pb2.HealthCheckRequest(), timeout=20).status == 1
            said = ""
            for number in range(2, 5):  # another test may have taken the free port that it found for itself
                with ApiProcess(made, name=f"api-{number}", grpc_port=port) as other:
                    assert other.process.wait(60) == 78
                    said = other.log
                if "serve.port" not in said:
                    break
            assert f"serve.grpc_port {port}" in said and "cannot be listened on" in said
            api.process.send_signal(signal.SIGHUP)
            assert until(lambda: "all processes are replaced" in api.log, 90), api.log
            with channel(port) as one:
                assert infer(one, app_id).outputs
            assert api.stop() == 0 and "Traceback" not in api.log, api.log
