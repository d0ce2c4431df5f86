"""The scoring API beside a worker on a real Kafka: the same answers, one's own label, kills, restarts, outages."""

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_ml.embedded.broker import EmbeddedKafka
from tests.support.api_process import ApiProcess, Asking
from tests.support.service import T0, Service, service, until

pytestmark = pytest.mark.kafka


def event(number: int) -> dict[str, Any]:
    """The fields of an event as the harness produces it, without id and time."""
    return {"x": float(number * 7919 % 100), "kind": f"k{number % 3}", "note": None}


def learned(made: Service, count: int) -> None:
    """A worker that has learned so many examples."""
    made.start()
    made.pairs(range(count))
    made.wait_until_done()


@pytest.fixture(name="made", scope="module")
def _made(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker that has learned, for tests that only ask it, each by an API of its own."""
    with service(tmp_path_factory.mktemp("made"), kafka, f"t{uuid.uuid4().hex[:8]}") as made:
        learned(made, 200)
        yield made


def test_answers_are_what_the_worker_publishes_and_a_label_is_known_to_who_asks_for_it(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": 0}) as made:
        learned(made, 400)
        with ApiProcess(made) as api:
            api.wait_ready()
            newest = made.predictions()[-1]["position"]
            assert api.predict(event(1))["model"]["position"] > newest, "it has learned what came after that"
            for number in range(400, 430):  # without labels: the version stays
                made.visit(number)
            made.wait_until_done()
            published = {one["event_id"]: one for one in made.predictions()[-30:]}
            answered = api.predict(*(event(number) | {"id": f"v{number}", "at": T0} for number in range(400, 430)))
            for one in answered["predictions"]:
                there = published[one["id"]]
                assert (one["score"].hex(), str(one["class"]).lower()) == (there["score"].hex(), there["class"])
                assert answered["model"]["position"] == there["position"]
                assert answered["model"]["lineage"] == there["lineage"]
            # A label is written, learned by the worker, and known to an answer that asks for it.
            before = answered["model"]
            for number in range(400, 410):
                label = {"id": f"v{number}", "at": T0 + 1000 * (number + 30), "y": True}
                status, _, said = api.ask("POST", "/v1/feedback", {"labels": [label]})
                assert (status, said["accepted"]) == (202, 1), said
                answer = api.predict(event(1), Stream_ML_After=said["after"], Prefer="wait=20")
                assert answer["model"]["position"] > before["position"]
                assert answer["model"]["examples_learned"] == before["examples_learned"] + 1
                before = answer["model"]
            # What became of a label, by its receipt; and one that is sent twice with a key is written once.
            status, _, fate = api.ask("GET", f"/v1/labels/{said['after']}")
            assert (status, fate["state"], fate["learned_here"]) == (200, "example", True), fate
            assert fate["position"] == before["position"] and fate["id"] == "v409"
            repeated = {"labels": [{"id": "v409", "at": T0 + 1000 * 440, "y": False}]}
            receipts = [
                api.ask("POST", "/v1/feedback", repeated, Idempotency_Key="again")[2]["receipts"] for _ in range(2)
            ]
            assert receipts[0] == receipts[1]
            lookup = f"/v1/labels/{receipts[0][0]}"
            assert until(lambda: api.ask("GET", lookup)[2]["state"] != "waiting", 20)
            assert api.ask("GET", lookup)[2]["outcome"] == "duplicate"
            early = {"labels": [{"id": "v9999", "at": T0, "y": True}]}
            waits = api.ask("POST", "/v1/feedback", early)[2]["after"]
            assert api.ask("GET", f"/v1/labels/{waits}")[2]["state"] == "waiting"
            assert api.ask("GET", "/v1/labels/f:0:999999")[0] == 404
            assert api.ask("POST", "/v1/feedback", {"labels": [{"id": "v1", "y": "maybe"}]})[0] == 422
            assert api.stop() == 0
        made.wait_until_done()
        found = made.audited()
        assert found["findings"] == [] and found["examples"] == 410
        assert "Traceback" not in api.log, api.log


def test_an_api_that_starts_before_any_worker_waits_for_it(kafka: str, app_id: str, tmp_path: Path) -> None:
    made = Service(tmp_path, kafka, app_id)
    made.create_topics(named=False)
    try:
        with ApiProcess(made) as api:
            made.wait_for(lambda: "no worker has started yet" in api.log, "waiting")
            learned(made, 20)
            api.wait_ready()
            made.wait_for(lambda: api.predict(event(1))["model"]["examples_learned"] == 20, "learning")
    finally:
        made.close()


@pytest.mark.long
def test_a_process_that_dies_is_replaced_and_one_that_hangs_is_killed(made: Service) -> None:
    with ApiProcess(made, processes=2) as api:
        api.wait_ready(2)
        first, second = api.pids
        asking = [Asking(api, event(1)) for _ in range(4)]
        for one in asking:
            one.start()
        os.kill(first, signal.SIGKILL)
        assert until(lambda: first not in api.pids and api.status()["processes"]["ready"] == 2, 40), api.log
        failed = [text for one in asking for text in one.stop().failed]
        assert len(failed) <= 4, "only what the dead process was answering"
        os.kill(second, signal.SIGSTOP)
        assert until(lambda: second not in api.pids, 40), api.log
        api.wait_ready(2)
        assert "has not turned for" in api.log and api.status()["processes"]["restarts"] == 2
        assert "stream_ml_serve_restarts_total 2.0" in api.admin("/metrics")[1]


def test_a_rolling_restart_fails_no_request_and_takes_a_new_configuration(made: Service) -> None:
    # A connection that says nothing for all of `drain` is closed; who is asked every 5 ms may be held up for 300 ms.
    with ApiProcess(made, processes=2, drain="5s") as api:
        api.wait_ready(2)
        before = api.pids
        asking = [Asking(api, event(1)) for _ in range(4)]
        for one in asking:
            one.start()
        text = json.loads(json.dumps((made.folder / "api.yaml").read_text()))
        (made.folder / "api.yaml").write_text(text + "\nquality:\n  cold_below: 100000\n")
        api.process.send_signal(signal.SIGHUP)
        assert until(lambda: "all processes are replaced" in api.log, 60), api.log
        assert until(lambda: not {*before} & {*api.pids}, 20)
        assert until(lambda: "cold" in asking[0].answers[-1]["predictions"][0]["flags"], 10)
        assert [text for one in asking for text in one.stop().failed] == []
        assert api.stop() == 0


def test_told_to_stop_it_answers_what_it_has_and_ends_with_its_children(made: Service) -> None:
    with ApiProcess(made, drain="1s") as api:
        api.wait_ready()
        (pid,) = api.pids
        asking = Asking(api, event(1))
        asking.start()
        assert until(lambda: len(asking.answers) > 10, 10)
        began_s = time.monotonic()
        api.process.send_signal(signal.SIGTERM)
        assert until(lambda: api.admin("/readyz")[0] in (0, 503), 5)
        assert api.process.wait(20) == 0 and time.monotonic() - began_s < 10
        # What was never accepted may be reset with the port; what was accepted is answered.
        assert all("Connection" in text for text in asking.stop().failed), asking.failed[:3]
        assert not Path(f"/proc/{pid}").exists()


def test_children_end_when_their_supervisor_is_killed(made: Service) -> None:
    with ApiProcess(made) as api:
        api.wait_ready()
        (pid,) = api.pids
        api.close()
        assert until(lambda: not Path(f"/proc/{pid}").exists(), 20), api.log


def test_a_port_that_is_taken_and_a_configuration_that_is_wrong_end_it_with_words(made: Service) -> None:
    with ApiProcess(made) as api:
        api.wait_ready()
        with ApiProcess(made, port=api.port) as other:
            assert other.process.wait(30) == 78
            assert "cannot be listened on" in other.log and "Traceback" not in other.log
        with ApiProcess(made, auth={"keys_file": "nothing.json"}) as wrong:
            assert wrong.process.wait(30) == 78 and "stream-ml keys new" in wrong.log


@pytest.mark.long
@pytest.mark.timeout(240)
def test_without_kafka_it_answers_on_grows_old_and_says_so(app_id: str, tmp_path: Path) -> None:
    """A consumer alone would say for ever that it is at the log's end."""
    folder = tmp_path / "app"
    folder.mkdir()
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        changes: dict[str, Any] = {"learning": {"lag_max": "2s"}}
        with service(folder, kafka.bootstrap_servers, app_id, **changes) as made:
            learned(made, 100)
            with ApiProcess(made, ack_timeout="500ms") as api:
                api.wait_ready()
                assert until(lambda: api.predict(event(1))["model"]["age_ms"] < 2_000, 10)
                assert "stale" not in api.predict(event(1))["predictions"][0]["flags"]
                kafka.kill()
                assert until(lambda: "stale" in api.predict(event(1))["predictions"][0]["flags"], 10)
                assert api.predict(event(1))["model"]["age_ms"] >= 2_000
                assert api.ask("GET", "/readyz")[0] == 200 == api.admin("/readyz")[0]
                label = {"labels": [{"id": "v1", "at": T0, "y": True}]}
                status, headers, said = api.ask("POST", "/v1/feedback", label)
                assert (status, said["type"]) == (503, "urn:stream-ml:problem:not-recorded") and headers["retry-after"]
                kafka.start()
                assert until(lambda: api.predict(event(1))["model"]["age_ms"] < 2_000, 40), api.log
                assert api.stop() == 0


@pytest.mark.long
def test_a_client_that_sends_slowly_or_too_much_is_let_go_and_harms_nobody(made: Service) -> None:
    with ApiProcess(made, read_timeout="500ms") as api:
        api.wait_ready()

        def sent(*pieces: bytes, pause_s: float = 0.0) -> bytes:
            """What comes back for these bytes."""
            with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
                for piece in pieces:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        break
                    time.sleep(pause_s)
                found = b""
                try:
                    while more := connection.recv(65536):
                        found += more
                except OSError:
                    pass
                return found

        head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        slow = [head[at : at + 1] for at in range(20)]
        assert sent(*slow, pause_s=0.1).startswith(b"HTTP/1.1 408")
        assert sent(head + b"Content-Length: 100\r\n\r\n{").startswith(b"HTTP/1.1 408")
        assert sent(head + b"X: " + b"y" * 20_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431")
        assert sent(head + b"a: b\r\n" * 200 + b"\r\n").startswith(b"HTTP/1.1 431")
        assert sent(b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 431")
        assert sent(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
        assert sent(head + b"Content-Length: 9999999\r\n\r\n").startswith(b"HTTP/1.1 413")
        chunks = b"".join(b"10000\r\n" + b" " * 65_536 + b"\r\n" for _ in range(40))
        assert sent(head + b"Transfer-Encoding: chunked\r\n\r\n", chunks).startswith(b"HTTP/1.1 413")
        threads = [threading.Thread(target=sent, args=(*slow,), kwargs={"pause_s": 0.05}) for _ in range(200)]
        for thread in threads:
            thread.start()
        assert api.predict(event(1))["predictions"]
        for thread in threads:
            thread.join()
        two = head + b"Content-Length: 52\r\n\r\n" + b'{"instances": [{"x": 1.0, "kind": "a", "note":null}]}'[:52]
        assert sent(two).startswith(b"HTTP/1.1 4"), "a body that is cut is no JSON"
        assert api.predict(event(1))["predictions"] and "Traceback" not in api.log, api.log


def test_the_second_request_of_a_connection_does_not_wait_for_an_acknowledgement(made: Service) -> None:
    """With Nagle's algorithm on, each answer would wait 40 ms: the socket option is what is looked at, not a time."""
    with ApiProcess(made) as api:
        api.wait_ready()
        took_s = []
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
            for _ in range(20):
                began_s = time.perf_counter()
                connection.request("GET", "/livez")
                connection.getresponse().read()
                took_s.append(time.perf_counter() - began_s)
        assert min(took_s) < 0.02, took_s
