"""Jobs over a list: what is taken, what is known of them, whose they are; their records, and the book of them."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from stream_ml.core.api import jobs as core
from stream_ml.core.api.jobs import Cancelled, Chunk, Done, JobBook, Result, Submitted, chunks_of, decode, encode
from stream_ml.core.avro.record import LaterFormat
from stream_ml.errors import TransientError
from stream_ml.kafka.reading.jobs import JobWatch, rounds
from stream_ml.serve.access.keys import new_key, write_keys
from tests.support.api import Answered, Api, ListJobs, ListWriter
from tests.support.follower_on_a_list import LINEAR, App, Log
from tests.support.partition import EVENT

JOBS = "/v1/jobs"


class Made:
    """An API that takes jobs."""

    def __init__(self, app: App, log: Log, *, features: dict[str, Any] | None = None, **serve: Any) -> None:
        config = app.config(LINEAR, serve={"jobs": {}, "wait": 0, **serve}, features=features)
        app.serving(config)
        log.usual(100)
        self.api, self.writer, self.jobs = Api(app, config), ListWriter(), ListJobs()
        self.api.answer_with(self.writer, jobs=self.jobs)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answered:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.run(self.api.ask(method, path, body, given))

    def submit(self, body: Any, **headers: str) -> Answered:
        found = self.ask("POST", JOBS, body, **headers)
        self.jobs.note(self.writer)
        return found


@pytest.fixture(name="made")
def _made(app: App, log: Log) -> Made:
    return Made(app, log)


def rows(count: int) -> dict[str, Any]:
    return {"instances": [{"x": float(number)} for number in range(count)]}


def test_a_job_is_cut_into_chunks_and_known_once_all_of_them_are_written(made: Made) -> None:
    answer = made.submit(rows(2_500))
    assert answer.status == 202 and answer.headers["location"] == f"{JOBS}/{answer.json['id']}"
    topics = [topic for topic, *_ in made.writer.records]
    assert topics == ["app.job-requests"] * 3 + ["app.jobs"]
    chunks = [decode(value, Chunk) for topic, _, value, _ in made.writer.records if topic == "app.job-requests"]
    told = [(one.number, one.first, len(one.rows())) for one in chunks]
    assert told == [(0, 0, 1000), (1, 1000, 1000), (2, 2000, 500)]
    assert [key for _, key, _, _ in made.writer.records][:2] == [f"{answer.json['id']}/{n}".encode() for n in (0, 1)]
    assert made.ask("GET", answer.headers["location"]).json["status"] == "queued"


def test_lines_of_json_are_a_job_too(made: Made) -> None:
    body = b'{"x": 1.0}\n\n{"x": 2.0}\r\n'
    answer = made.submit(body, Content_Type="application/x-ndjson")
    assert (answer.status, answer.json["rows"]) == (202, 2)
    wrong = made.submit(b'{"x": 1.0}\n{"x": \n', Content_Type="application/x-ndjson")
    assert wrong.problem == "not-json" and wrong.json["detail"].startswith("line 2")


@pytest.mark.parametrize(
    ("body", "problem", "pointer"),
    [
        ({"instances": []}, "not-of-schema", "/instances"),
        ({"instances": {}}, "not-of-schema", "/instances"),
        ({"rows": [1]}, "not-of-schema", "/instances"),
        ([], "not-of-schema", "/instances"),
        (b"{", "not-json", None),
        ({"instances": [{"x": 1.0}] * 300 + [{"x": "much"}]}, "not-of-schema", "/instances/300/x"),
        (rows(11_000), "too-large", None),
        (b'{"instances": ' + b"[" * 2_000_000, "not-json", None),
        (b'{"instances": [' + b"[" * 100 + b"]" * 100 + b"]}", "not-json", None),
        ({"instances": [{"x": 1.0, "id": "i" * 3_000_000}]}, "too-large", None),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_written(
    app: App, log: Log, body: Any, problem: str, pointer: str | None
) -> None:
    made = Made(app, log, jobs={"rows_max": 10_000})
    answer = made.submit(body)
    assert answer.problem == problem and not made.writer.records, answer
    assert pointer is None or answer.json["errors"][0]["pointer"] == pointer


def with_one_field_more(app: App, log: Log, type_: str) -> Made:
    fields = [*EVENT["fields"], {"name": "more", "type": ["null", type_], "default": None}]
    (app.folder / "visit.avsc").write_text(json.dumps({**EVENT, "fields": fields}), "utf-8")
    return Made(app, log, features={"include": ["x"]})


def test_an_instance_that_no_record_of_kafkas_holds_is_refused(app: App, log: Log) -> None:
    made = with_one_field_more(app, log, "string")
    answer = made.submit({"instances": [{"x": 1.0, "more": "i" * 500_000}]})
    assert answer.problem == "too-large" and "instance 0" in answer.json["detail"] and not made.writer.records
    assert made.submit({"instances": [{"x": 1.0, "more": "ü" * 190_000}]}).status == 202


def test_lines_without_anything_are_counted_too(app: App, log: Log) -> None:
    made = Made(app, log, jobs={"rows_max": 10})
    assert made.submit(b"\n" * 21, Content_Type="application/x-ndjson").problem == "too-large"


def test_a_number_that_json_cannot_say_is_refused_for_no_runner_could_read_its_chunk(app: App, log: Log) -> None:
    """Infinite by its exponent, in a field that is no feature: everything else takes it."""
    made = with_one_field_more(app, log, "double")
    answer = made.submit(b'{"instances": [{"x": 1.0}, {"x": 1.0, "more": 1e999}]}')
    assert answer.problem == "not-of-schema" and not made.writer.records, answer
    assert answer.json["errors"][0]["pointer"] == "/instances/1"


def test_results_come_in_pages_as_far_as_they_are_there(made: Made) -> None:
    path = made.submit(rows(2_500)).headers["location"]
    empty = made.ask("GET", f"{path}/results")
    assert (empty.status, empty.body) == (200, b"") and f"{path}/results?after=0" in empty.headers["link"]
    made.jobs.score(made.writer, only=1)
    assert made.ask("GET", f"{path}/results").body == b"", "not before the ones before it"
    assert made.ask("GET", path).json["status"] == "running"
    made.jobs.score(made.writer, only=0)
    page = made.ask("GET", f"{path}/results")
    lines = [json.loads(line) for line in page.body.splitlines()]
    assert [one["row"] for one in lines] == list(range(2_000)) and lines[0]["version"] == f"{'a' * 16}/7"
    assert "after=2" in page.headers["link"] and page.headers["stream-ml-job-status"] == "running"
    made.jobs.score(made.writer)
    last = made.ask("GET", f"{path}/results?after=2")
    assert [json.loads(line)["row"] for line in last.body.splitlines()] == list(range(2_000, 2_500))
    assert "link" not in last.headers and made.ask("GET", path).json["done"] == 2_500
    for wrong in ("x", "-1", "4", "1&after=2"):
        assert made.ask("GET", f"{path}/results?after={wrong}").problem == "not-readable"


def test_a_key_is_one_job_wherever_it_is_sent_again(made: Made) -> None:
    first, again = made.submit(rows(3), Idempotency_Key="k"), made.submit(rows(3), Idempotency_Key="k")
    assert first.json["id"] == again.json["id"] and len(made.writer.records) == 2
    assert made.submit(rows(4), Idempotency_Key="k").problem == "key-reused"
    other = Made.__new__(Made)
    other.api, other.writer, other.jobs = made.api, ListWriter(), ListJobs()
    other.api.answer_with(other.writer, jobs=other.jobs)  # another process, which does not know of it yet
    assert other.submit(rows(3), Idempotency_Key="k").json["id"] == first.json["id"]


def test_a_job_is_its_callers_alone(app: App, log: Log) -> None:
    (mine, one), (yours, two) = new_key("a", ["jobs"]), new_key("b", ["jobs"])
    write_keys(app.folder / "keys.json", [one, two])
    made = Made(app, log, auth={"keys_file": "keys.json"})
    path = made.submit(rows(3), X_API_Key=mine).headers["location"]
    assert made.ask("GET", path, X_API_Key=mine).status == 200
    for method, tail in (("GET", ""), ("GET", "/results"), ("DELETE", "")):
        assert made.ask(method, path + tail, X_API_Key=yours).problem == "not-found"
    assert len(made.ask("GET", JOBS, X_API_Key=mine).json["jobs"]) == 1
    assert made.ask("GET", JOBS, X_API_Key=yours).json["jobs"] == []
    same = made.submit(rows(3), X_API_Key=mine, Idempotency_Key="k").json["id"]
    assert made.submit(rows(3), X_API_Key=yours, Idempotency_Key="k").json["id"] != same


def test_a_cancelled_job_keeps_what_is_scored_and_asks_for_no_more(made: Made) -> None:
    path = made.submit(rows(1_500)).headers["location"]
    made.jobs.score(made.writer, only=0)
    assert made.ask("DELETE", path).json["status"] == "cancelled"
    assert made.jobs.book.is_over(path.rpartition("/")[2], made.ask("GET", path).json["created_ms"])
    page = made.ask("GET", f"{path}/results")
    assert len(page.body.splitlines()) == 1_000 and "link" not in page.headers
    written = len(made.writer.records)
    assert made.ask("DELETE", path).json["status"] == "cancelled" and len(made.writer.records) == written


def test_a_job_whose_time_is_over_is_expired(made: Made) -> None:
    made.jobs.book.state(Submitted("old", "", 5, 1, 1, 2, "d"))
    assert made.ask("GET", f"{JOBS}/old").json["status"] == "expired"
    assert "link" not in made.ask("GET", f"{JOBS}/old/results").headers


def test_a_key_is_taken_again_once_its_jobs_time_is_over(made: Made) -> None:
    first = made.submit(rows(3), Idempotency_Key="k").json
    before = made.jobs.book.jobs.pop(first["id"]).submitted
    made.writer.records.clear()
    made.jobs.book.state(msgspec.structs.replace(before, created_ms=1, expires_ms=2))
    again = made.submit(rows(4), Idempotency_Key="k")
    assert (again.status, again.json["id"], again.json["status"]) == (202, first["id"], "queued")
    assert made.ask("GET", again.headers["location"]).json["rows"] == 4


def test_before_all_is_read_nobody_is_told_that_there_is_no_such_job(made: Made) -> None:
    path = made.submit(rows(3), Idempotency_Key="k").headers["location"]
    made.jobs.caught_up.clear()
    for method, where in (("GET", path), ("GET", f"{JOBS}/nothing"), ("GET", JOBS), ("DELETE", path)):
        assert made.ask(method, where).problem == "not-looked-up", where
    assert made.submit(rows(3), Idempotency_Key="k").problem == "not-looked-up", "it may be there already"
    made.jobs.caught_up.set()
    assert made.ask("GET", f"{JOBS}/nothing").problem == "not-found"


def test_a_job_that_can_no_longer_be_waited_for_is_no_end_of_the_fold(app: App, log: Log) -> None:
    made = Made(app, log, wait="20s")

    async def ask() -> Answered:
        asking = asyncio.create_task(made.api.ask("GET", f"{JOBS}/nothing"))
        while not made.api.live._waiting:
            await asyncio.sleep(0)
        made.jobs.problem = "a later version wrote it"
        made.api.live._wake()
        return await asking

    assert asyncio.run(ask()).problem == "not-looked-up"


def test_a_caller_has_so_many_jobs_at_once(app: App, log: Log) -> None:
    made = Made(app, log, jobs={"active_max": 2})
    first = made.submit(rows(1)).headers["location"]
    made.submit(rows(1))
    assert made.submit(rows(1)).problem == "rate-limited"
    made.ask("DELETE", first)
    assert made.submit(rows(1)).status == 202


@pytest.mark.parametrize(("active_max", "problem"), [(2, "rate-limited"), (100, "overloaded")])
def test_jobs_that_are_being_taken_count_too(app: App, log: Log, active_max: int, problem: str) -> None:
    made = Made(app, log, jobs={"active_max": active_max})
    made.writer.open.clear()

    async def ask() -> list[Answered]:
        tasks = [asyncio.create_task(made.api.ask("POST", JOBS, rows(1))) for _ in range(6)]
        refused, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert refused and len(made.writer.records) <= 4
        made.writer.open.set()
        return await asyncio.gather(*tasks)

    found = asyncio.run(ask())
    assert [one.status for one in found].count(202) == min(active_max, 4)
    assert {one.problem for one in found if one.status != 202} == {problem}
    assert made.submit(rows(1)).status in (202, 429), "places are given back"


def test_where_kafka_does_not_answer_nobody_is_told_that_there_is_a_job(made: Made) -> None:
    made.writer.refuses = True
    assert made.submit(rows(3)).problem == "not-recorded"
    made.writer.refuses = False
    path = made.submit(rows(3)).headers["location"]
    made.jobs.score(made.writer)
    made.jobs.error = TransientError("Kafka does not answer", "look at it")
    assert made.ask("GET", f"{path}/results").problem == "not-looked-up"
    made.jobs.problem = "a later version wrote it"
    assert made.ask("GET", path).problem == "not-looked-up"


def test_a_thread_that_fails_for_no_reason_of_kafkas_says_so(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def follow(_: JobWatch) -> None:
        raise KeyError("app.job-results")

    monkeypatch.setattr(JobWatch, "_follow", follow)
    watch = JobWatch(made.api.config)
    watch._run()
    assert watch.problem.startswith("jobs are not followed any more") and "KeyError" in watch.problem


def test_results_that_stand_far_apart_are_not_read_with_all_between_them() -> None:
    far = 10_000_000
    wanted = [(0, 5), (0, 7), (0, far), (1, 3), (0, 2 * far)]
    assert rounds("r", wanted) == [
        {("r", 0): (5, 8), ("r", 1): (3, 4)},
        {("r", 0): (far, far + 1)},
        {("r", 0): (2 * far, 2 * far + 1)},
    ]
    assert rounds("r", []) == []


# --- records and the book ---


def submitted(job: str = "j", chunks: int = 2) -> Submitted:
    return Submitted(job, "p", 10, chunks, 100, 1_000, "d")


def test_records_come_back_as_they_were_and_numbers_of_any_size_stay() -> None:
    (chunk,) = chunks_of("j", [{"x": 10**30, "y": "ü"}], 1, 2)
    assert decode(encode(chunk), Chunk).rows() == [{"x": 10**30, "y": "ü"}]
    for record in (submitted(), Cancelled("j", 100), Result("j", 0, 0, 100, 1, 0, "l", 1, 2, [{"class": None}])):
        assert decode(encode(record), type(record)) == record
        assert not isinstance(record, Submitted | Cancelled) or core.decode_state(encode(record)) == record


def test_chunks_are_no_larger_than_a_record_of_kafkas() -> None:
    texts = [{"t": "x" * 50_000} for _ in range(30)]
    found = list(chunks_of("j", texts, 1, 2))
    assert [len(one.rows()) for one in found] == [7, 7, 7, 7, 2] and [one.first for one in found] == [0, 7, 14, 21, 28]
    assert all(len(encode(one)) < 500_000 for one in found)


def test_chunks_of_many_classes_are_no_larger_when_they_are_answered() -> None:
    """A result that no record holds would be scored again for ever, and all chunks of its partition with it."""
    assert core.rows_of([]) == 1_000 and core.rows_of(["a", "b"]) == 1_000 and core.rows_of(["x" * 500_000]) == 1
    classes = [f"class {number}" for number in range(100)]
    scores = dict.fromkeys(classes, 0.12345678901234567)
    count = core.rows_of(classes)
    told: list[dict[str, Any]] = [{"class": classes[0], "score": 0.1, "scores": scores, "flags": []}] * count
    assert 300_000 < len(encode(Result("j", 0, 0, 1, count, 0, "l", 1, 0, told))) < 500_000
    chunks = list(chunks_of("j", [{"x": 1.0}] * 1_000, 1, 2, count))
    assert [len(one.rows()) for one in chunks] == [count] * (1_000 // count) + [1_000 % count] * (1_000 % count > 0)


def test_a_result_that_no_record_holds_says_so_row_by_row() -> None:
    result = Result("j", 0, 0, 1, 3, 0, "l", 1, 0, [{"scores": {"a": 0.5}, "id": "i" * 1_000}] * 3)
    assert core.encode_within(result, 1_000_000) == encode(result)
    told = decode(core.encode_within(result, 3_000), Result)
    assert (told.rows, told.failed, len(told.predictions)) == (3, 3, 3)
    assert told.predictions[0]["error"]["code"] == "too_large" and len(encode(told)) < 3_000


@pytest.mark.parametrize("value", [None, b"", b"[]", b'{"format": 1}', b'{"format": true}', b"\xff", b"[" * 9_000])
@pytest.mark.parametrize("kind", [Chunk, Result, Submitted, Cancelled])
def test_what_is_no_record_is_told_and_no_surprise(value: bytes | None, kind: Any) -> None:
    with pytest.raises(ValueError):
        decode(value, kind)
    with pytest.raises(ValueError):
        core.decode_state(value)


def test_a_record_of_a_later_version_is_not_guessed_at() -> None:
    later = json.loads(encode(submitted())) | {"format": 2}
    with pytest.raises(LaterFormat):
        core.decode_state(json.dumps(later).encode())


@pytest.mark.parametrize("instances", [b"[]", b"{}", b"1", b"[NaN" + b",1" * 5_000 + b"]", b'["\\ud800"]'])
def test_a_chunk_without_instances_is_none(instances: bytes) -> None:
    with pytest.raises(ValueError):
        Chunk("j", 0, 0, 1, 2, msgspec.Raw(instances)).rows()


def test_half_of_a_character_is_a_fault_of_its_instance_in_either_lane(made: Made) -> None:
    door, given = made.api.live.answering().door, [{"x": 1.0}, {"x": "\ud800"}]
    found = door.of_values(given, 1, partial=True)
    assert found == door.asked(given, 1, partial=True) and isinstance(found.instances[1], list)


def test_the_book_is_the_same_in_whatever_order_its_records_come() -> None:
    done = [Done(0, offset, 100, 5, 0, "l", 1) for offset in range(4)]
    early, late = JobBook(), JobBook()
    early.state(submitted())
    early.result("j", 0, done[0])
    early.result("j", 0, done[1])
    early.result("j", 1, done[2])
    early.result("j", 2, done[3])
    for number, one in ((0, done[0]), (0, done[1]), (1, done[2])):
        late.result("j", number, one)
    late.state(submitted())
    late.state(submitted())
    for book in (early, late):
        assert book.jobs["j"].done == {0: done[0], 1: done[2]}, "the first result of a chunk counts"
        assert book.jobs["j"].status(500) == "done"
    before = JobBook()
    before.state(Cancelled("j", 100))
    before.state(submitted())
    assert before.jobs["j"].status(500) == "cancelled"


def test_answers_to_another_body_under_the_same_key_are_none_of_the_jobs() -> None:
    """An API that dies before it says `submitted` leaves chunks; the caller mends its rows, and sends the key again."""
    abandoned, mine = Done(0, 0, 90, 5, 0, "l", 1), Done(0, 1, 100, 5, 0, "l", 2)
    early, late = JobBook(), JobBook()
    for done in (abandoned, mine):
        early.result("j", 0, done)
    early.state(submitted())
    late.state(submitted())
    for done in (abandoned, mine):
        late.result("j", 0, done)
    assert early.jobs["j"].done == late.jobs["j"].done == {0: mine}


def test_a_key_whose_jobs_time_is_over_is_a_new_job() -> None:
    book = JobBook()
    book.state(submitted())
    book.state(Cancelled("j", 100))
    book.result("j", 0, Done(0, 0, 100, 5, 0, "l", 1))
    again = Submitted("j", "p", 10, 2, 1_000, 2_000, "other")
    book.state(again)
    assert book.jobs["j"].submitted == again and book.jobs["j"].status(1_500) == "queued"
    assert not book.is_over("j", 1_000)
    book.state(Submitted("k", "p", 10, 2, 2_000, 3_000, "d"))
    assert list(book.jobs) == ["k"], "what is over takes no room"


def test_the_book_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "JOBS_MAX", 3)
    monkeypatch.setattr(core, "STRAYS_MAX", 3)
    book = JobBook()
    for number in range(10):
        book.state(submitted(f"j{number}"))
        book.state(Cancelled(f"c{number}", 100))
        book.result(f"s{number}", 0, Done(0, 0, 100, 1, 0, "l", 1))
    assert list(book.jobs) == ["j7", "j8", "j9"] and len(book._strays) == len(book._cancelled) == 3
