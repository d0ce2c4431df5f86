"""Jobs on a real Kafka: every row answered once, by one version a chunk, through deaths of runners and of the API."""

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stream_ml.core.api.jobs import Chunk, Result, chunk_key, chunks_of, decode, encode
from stream_ml.embedded.broker import free_port
from tests.support.api_process import ApiProcess
from tests.support.service import Service, service, until

pytestmark = pytest.mark.kafka


class RunnerProcess:
    """One runner of jobs."""

    def __init__(self, made: Service, name: str = "r1", fail: str = "", **changes: Any) -> None:
        self.port = free_port()
        made.write(name, serve={"jobs": {"port": self.port}}, **changes)
        self._log_file = made.folder / f"{name}.log"
        env = made.environment() | ({"STREAM_ML_FAIL_POINTS": fail} if fail else {})
        with self._log_file.open("ab") as log:
            command = [sys.executable, "-m", "stream_ml", "jobs", str(made.folder / f"{name}.yaml")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env)

    @property
    def log(self) -> str:
        return self._log_file.read_text("utf-8")

    def page(self, path: str) -> tuple[int, str]:
        """Status and text of one of its pages."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(40)

    def __enter__(self) -> "RunnerProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.kill()
        self.process.wait()


def event(number: int) -> dict[str, Any]:
    return {"x": float(number * 7919 % 100), "kind": f"k{number % 3}", "note": None}


def body(count: int) -> dict[str, Any]:
    return {"instances": [event(number) for number in range(count)]}


def with_jobs(made: Service) -> None:
    """A worker that has learned, and the topics of jobs."""
    from stream_ml.kafka.topics import create_topics

    create_topics(made.write("topics", serve={"jobs": {}}), 2, dry_run=False)
    made.start()
    made.pairs(range(300))
    made.wait_until_done()


def all_rows(api: ApiProcess, job: str) -> list[dict[str, Any]]:
    """All results of a job, page by page."""
    found, path = list[dict[str, Any]](), f"/v1/jobs/{job}/results"
    while path:
        status, headers, text = api.lines("GET", path)
        assert status == 200, text
        found += [json.loads(line) for line in text.splitlines()]
        path = headers["link"].partition("<")[2].partition(">")[0] if "link" in headers else ""
    return found


def done(api: ApiProcess, job: str) -> bool:
    return bool(api.ask("GET", f"/v1/jobs/{job}")[2]["status"] == "done")


def test_every_row_is_answered_once_and_as_a_question_of_its_own_would_be(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        with_jobs(made)
        with ApiProcess(made, jobs={}) as api, RunnerProcess(made) as runner:
            api.wait_ready()
            status, headers, told = api.ask("POST", "/v1/jobs", body(2_500), Idempotency_Key="nightly")
            assert status == 202 and headers["location"].endswith(told["id"]) and told["rows"] == 2_500
            assert api.ask("POST", "/v1/jobs", body(2_500), Idempotency_Key="nightly")[2]["id"] == told["id"]
            assert until(lambda: done(api, told["id"]), 60), runner.log
            rows = all_rows(api, told["id"])
            assert [one["row"] for one in rows] == list(range(2_500))
            now = api.predict(*(event(number) for number in range(200)))
            version = f"{now['model']['lineage']}/{now['model']['position']}"
            for one, asked in zip(rows, now["predictions"], strict=False):
                assert one["version"] == version and one["score"].hex() == asked["score"].hex()
            assert [runner.page(path)[0] for path in ("/livez", "/readyz", "/nothing")] == [200, 200, 404]
            wanted = {f"stream_ml_jobs_{words}" for words in ("rows_total 2500.0", "ready 1.0", "waiting 0.0")}
            wanted.add("stream_ml_jobs_rows_failed_total 0.0")
            # counted behind the commit, which others may see before
            until(lambda: wanted <= set(runner.page("/metrics")[1].splitlines()), 60)
            shown = [line for line in runner.page("/metrics")[1].splitlines() if line.startswith("stream_ml_jobs_")]
            assert wanted <= set(shown), (shown, runner.log)
            assert api.ask("GET", "/v1/jobs/nothing")[0] == 404
            assert api.ask("POST", "/v1/jobs", {"instances": [{"x": "much"}]})[0] == 422
            assert runner.stop() == 0 and "Traceback" not in runner.log + api.log, runner.log
            # Nobody runs: a job waits, is cancelled, and is passed by when somebody comes.
            waits = api.ask("POST", "/v1/jobs", body(50))[2]["id"]
            assert api.ask("DELETE", f"/v1/jobs/{waits}")[2]["status"] == "cancelled"
            later = api.ask("POST", "/v1/jobs", body(20))[2]["id"]
            with RunnerProcess(made, "r2") as second:
                assert until(lambda: done(api, later), 60), second.log
                assert api.ask("GET", f"/v1/jobs/{waits}")[2]["done"] == 0
            assert {one["id"] for one in api.ask("GET", "/v1/jobs")[2]["jobs"]} == {told["id"], waits, later}
        with ApiProcess(made, jobs={}) as again:  # what is known of jobs is in the topics alone
            again.wait_ready()
            assert until(lambda: done(again, told["id"]), 20) and len(all_rows(again, told["id"])) == 2_500


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("jobs-taken", marks=pytest.mark.long),
        pytest.param("jobs-scored", marks=pytest.mark.long),
        pytest.param("after-produce", marks=pytest.mark.long),
        pytest.param("after-offsets", marks=pytest.mark.long),
        "before-commit",
        pytest.param("jobs-committed", marks=pytest.mark.long),
    ],
)
def test_a_runner_that_dies_anywhere_leaves_nothing_undone_and_nothing_twice(
    kafka: str, app_id: str, tmp_path: Path, place: str
) -> None:
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        with_jobs(made)
        with ApiProcess(made, jobs={}) as api:
            api.wait_ready()
            jobs = [api.ask("POST", "/v1/jobs", body(1_200))[2]["id"] for _ in range(4)]
            with RunnerProcess(made, fail=f"{place}:kill:1") as dies:
                assert dies.process.wait(60) == -9, dies.log
            with RunnerProcess(made) as first, RunnerProcess(made, "r2"):
                assert until(lambda: all(done(api, job) for job in jobs), 90), first.log
                for job in jobs:
                    assert [one["row"] for one in all_rows(api, job)] == list(range(1_200))
        keys = [record.key for partition in (0, 1) for record in made.read(made.config.job_results, partition)]
        assert sorted(keys) == sorted(chunk_key(job, number) for job in jobs for number in range(2))


def test_an_api_that_dies_before_a_job_is_whole_leaves_none_and_strangers_records_stop_nothing(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        with_jobs(made)
        requests, jobs = made.config.job_requests, made.config.jobs
        for value in (b"nonsense", b"", None, b'{"format": 1}', b"[" * 50_000):
            for topic in (requests, jobs, made.config.job_results):
                made._produce(topic, value, b"k", 0, None)
        chunk = next(iter(chunks_of("half", [event(1)], 1, int(time.time() * 1000) + 60_000)))
        made._produce(requests, encode(chunk), chunk_key("half", 0), 0, None)  # its job was never submitted
        late = next(iter(chunks_of("late", [event(1)], 1, 2)))
        made._produce(requests, encode(late), chunk_key("late", 0), 0, None)  # its time is over
        made.flush()
        with ApiProcess(made, jobs={}) as api, RunnerProcess(made) as runner:
            api.wait_ready()
            job = api.ask("POST", "/v1/jobs", body(10))[2]["id"]
            assert until(lambda: done(api, job), 60), runner.log
            assert api.ask("GET", "/v1/jobs/half")[0] == 404 == api.ask("GET", "/v1/jobs/late")[0]
            assert "is no chunk of a job" in runner.log and "Traceback" not in runner.log + api.log
            assert runner.stop() == 0
        results = [decode(one.value, Result) for one in made.read(made.config.job_results)[-2:]]
        assert {one.job for one in results} == {"half", job}
        assert decode(made.read(requests)[-1].value, Chunk).job == job


def test_jobs_without_their_topics_or_their_setting_are_refused_in_words(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        made.start()
        made.pairs(range(20))
        made.wait_until_done()
        with RunnerProcess(made) as runner:
            assert runner.process.wait(60) == 78 and "topics create" in runner.log
        with ApiProcess(made, jobs={}) as api:
            assert api.process.wait(60) == 78 and "topics create" in api.log
