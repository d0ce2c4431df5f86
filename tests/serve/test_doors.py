"""Who is let in, and how much: keys and scopes by the table of routes, sizes, kinds of bodies, limits."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_ml.config.serve import SCOPES
from stream_ml.core.api.problems import KINDS
from stream_ml.errors import ConfigError
from stream_ml.serve.access.keys import Keys, new_key, read_keys, write_keys
from tests.support.api import Api, ListJobs, ListWriter
from tests.support.follower_on_a_list import LINEAR, App, Log
from tests.support.partition import EVENT

INSTANCES = {"instances": [{"x": 1.0}]}
SELDOM = 1e-4  # requests a second: one, and then none for as long as a test takes


def secured(app: App, log: Log, **serve: Any) -> tuple[Api, dict[str, str]]:
    """An API that needs keys, and a key for each scope."""
    keys, texts = [], {}
    for scope in (*SCOPES, "expired"):
        scopes = ["predict"] if scope == "expired" else [scope]
        text, key = new_key(scope, scopes, 1.0 if scope == "expired" else None)
        keys.append(key)
        texts[scope] = text
    write_keys(app.folder / "keys.json", keys)
    more = {"auth": {"keys_file": "keys.json"}, "feedback": True, "jobs": {}, "public_schema": False, **serve}
    config = app.config(LINEAR, serve=more)
    app.serving(config)
    log.usual(100)
    api = Api(app, config)
    api.answer_with(ListWriter(), jobs=ListJobs())
    return api, texts


def path_of(api: Api, pattern: str) -> str:
    return pattern.format(name="event.avsc", version=api.live.answering().of.lineage, receipt="f:0:1", job="j")


def test_every_route_needs_a_right_credential_of_its_scope(app: App, log: Log) -> None:
    """Made from the table of routes: a new one without a rule would fail here."""
    api, keys = secured(app, log, rate=1_000_000)
    for route in api.table:
        path, needed = path_of(api, route.path), {"schema": "predict"}.get(route.scope, route.scope)

        def status(key: str = "", route: Any = route, path: str = path) -> int:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return asyncio.run(
                api.ask(route.method, path, INSTANCES if route.method == "POST" else None, headers)
            ).status

        if not route.scope:
            assert re.fullmatch(r"/livez|/readyz|/v2(/health/(live|ready)|/models/.*/ready)?", route.path)
            assert status() == 200
            continue
        assert needed in SCOPES, f"{route.path} names no scope that a key can have"
        assert status() == 401, route.path
        for scope, key in keys.items():
            expected = 401 if scope == "expired" else None if scope == needed else 403
            assert status(key) == expected if expected else status(key) not in (401, 403), (route.path, scope)
        api.gate.guard.failures.buckets.clear()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer smk_AAAAAAAA_" + "A" * 43},
        {"authorization": "Basic dTpw"},
        {"authorization": "Bearer " + "x" * 5_000},
        {"x-api-key": "\x80\xff"},
        {"x-api-key": ""},
    ],
)
def test_wrong_credentials_are_refused_and_never_repeated(app: App, log: Log, headers: dict[str, str]) -> None:
    api, _ = secured(app, log)
    answer = asyncio.run(
        api.ask("POST", "/v1/predict", INSTANCES, {k: v.encode().decode("latin-1") for k, v in headers.items()})
    )
    assert (answer.status, answer.problem) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "smk_" not in answer.body.decode() and "xxxx" not in answer.body.decode()


def test_a_wrong_secret_with_a_known_id_is_refused(app: App, log: Log) -> None:
    api, keys = secured(app, log)
    near = keys["predict"][:-1] + ("A" if keys["predict"][-1] != "A" else "B")
    assert api.post("/v1/predict", INSTANCES, X_API_Key=near).status == 401
    assert api.post("/v1/predict", INSTANCES, X_API_Key=keys["predict"]).status == 200


def test_an_address_that_guesses_keys_has_to_wait_and_right_keys_do_not(app: App, log: Log) -> None:
    api, keys = secured(app, log)
    statuses = [api.post("/v1/predict", INSTANCES, X_API_Key="wrong").status for _ in range(30)]
    assert statuses[:20] == [401] * 20 and statuses[-1] == 429
    assert api.post("/v1/predict", INSTANCES, X_API_Key=keys["predict"]).status == 200


def test_the_rate_of_a_key_is_held_and_says_when_to_come_again(app: App, log: Log) -> None:
    api, keys = secured(app, log, rate=3)
    answers = [api.post("/v1/predict", INSTANCES, X_API_Key=keys["predict"]) for _ in range(8)]
    assert [one.status for one in answers].count(429) >= 4
    refused = next(one for one in answers if one.status == 429)
    assert refused.problem == "rate-limited" and int(refused.headers["retry-after"]) >= 1
    assert "ratelimit" in refused.headers


def test_who_has_no_right_key_takes_nothing_of_the_rate_of_who_has_one(app: App, log: Log) -> None:
    api, keys = secured(app, log, rate=SELDOM)
    for _ in range(10):
        assert api.post("/v1/predict", INSTANCES, X_API_Key="wrong").status == 401
        assert api.post("/v1/predict", INSTANCES, X_API_Key=keys["feedback"]).status == 403
    assert api.post("/v1/predict", INSTANCES, X_API_Key=keys["predict"]).status == 200


def test_a_key_has_one_rate_whatever_headers_it_comes_with(app: App, log: Log) -> None:
    api, keys = secured(app, log, rate=SELDOM)
    key = keys["predict"]
    ways = [{"x-api-key": key}, {"authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key}"}]
    ways += [{"x-api-key": key, "x-forwarded-for": f"10.0.0.{number}"} for number in range(3)]
    statuses = [asyncio.run(api.ask("POST", "/v1/predict", INSTANCES, one)).status for one in ways]
    assert statuses == [200, *[429] * 5]


def test_without_keys_an_address_has_one_rate_whatever_headers_it_sends(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"rate": SELDOM})
    app.serving(config)
    log.usual(30)
    api = Api(app, config)
    ways = [{"X_Forwarded_For": f"10.0.0.{number}", "X_API_Key": str(number)} for number in range(5)]
    assert [api.post("/v1/predict", INSTANCES, **one).status for one in ways] == [200, *[429] * 4]


def test_keys_are_read_again_when_their_file_changes_and_a_broken_file_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.json"
    (_, first), (_, second) = new_key("a", ["predict"]), new_key("b", ["predict"])
    write_keys(file, [first])
    monkeypatch.setattr("stream_ml.serve.access.keys.LOOK_S", 0.0)
    keys = Keys(file)
    write_keys(file, [second])
    assert keys.find(first.id) is None and keys.find(second.id) == second
    file.write_text("[{]")
    with caplog.at_level(logging.ERROR):
        assert keys.find(second.id) == second
    assert "the keys that were known stay" in caplog.text and keys.problem
    file.unlink()
    assert keys.find(second.id) == second and keys.problem
    assert oct(tmp_path.stat().st_mode)


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"id": "AAAAAAAA"}]', "", "nothing"])
def test_a_file_that_holds_no_keys_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(ConfigError, match="keys_file"):
        read_keys(tmp_path / "keys.json")


def test_the_file_of_keys_holds_no_secret_and_is_its_owners_alone(tmp_path: Path) -> None:
    text, key = new_key("a", ["predict"])
    write_keys(tmp_path / "keys.json", [key])
    assert text.rpartition("_")[2] not in (tmp_path / "keys.json").read_text()
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0


# --- bodies ---


@pytest.mark.parametrize(
    ("headers", "status", "problem"),
    [
        ({"content-type": "text/plain"}, 415, "unsupported-media-type"),
        ({"content-type": "-"}, 415, "unsupported-media-type"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        ({"content-encoding": "gzip"}, 415, "unsupported-media-type"),
        ({"content-length": "99999999"}, 413, "too-large"),
    ],
)
def test_bodies_of_other_kinds_and_sizes_are_not_read(
    api: Api, headers: dict[str, str], status: int, problem: str
) -> None:
    answer = asyncio.run(api.ask("POST", "/v1/predict", INSTANCES, headers))
    assert (answer.status, answer.problem) == (status, problem)


def test_a_body_without_a_length_is_read_up_to_the_limit_and_no_further(api: Api) -> None:
    large = b'{"instances": [' + b'{"x": 1.0},' * 200_000 + b'{"x": 1.0}]}'
    answer = asyncio.run(api.ask("POST", "/v1/predict", large, {"content-length": "-"}, pieces=64))
    assert (answer.status, answer.problem, answer.headers["connection"]) == (413, "too-large", "close")


def test_no_more_of_a_body_is_kept_than_the_limit_before_it_is_refused(api: Api) -> None:
    """What is read once the refusal is on its way is thrown away."""
    piece, read, at_refusal = b" " * 65_536, 0, 0

    async def receive() -> Any:
        nonlocal read
        read += len(piece)
        return {"type": "http.request", "body": piece, "more_body": read < 64 * len(piece)}

    async def send(said: Any) -> None:
        nonlocal at_refusal
        if said["type"] == "http.response.start":
            assert said["status"] == 413
            at_refusal = read

    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "client": ("127.0.0.1", 1)}
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    asyncio.run(api.application(scope | {"headers": headers}, receive, send))
    assert 0 < at_refusal <= api.config.serve.body_max + len(piece)


def test_more_instances_than_allowed_are_too_large(api: Api) -> None:
    answer = api.post("/v1/predict", {"instances": [{"x": 1.0}] * 1_001})
    assert (answer.status, answer.problem) == (413, "too-large")


def test_unknown_paths_and_methods_say_what_there_is(api: Api) -> None:
    assert api.get("/v1/nothing").problem == "not-found"
    wrong = api.get("/v1/predict")
    assert (wrong.status, wrong.problem, wrong.headers["allow"]) == (405, "method-not-allowed", "POST")
    head = asyncio.run(api.ask("HEAD", "/livez"))
    assert (head.status, head.body) == (200, b"")


def test_a_page_of_another_site_cannot_ask_under_a_name_of_its_own(api: Api) -> None:
    """A browser on this machine would send it, and without keys nothing else tells it from a caller."""
    for _ in range(2):
        assert api.post("/v1/predict", INSTANCES, Host="evil.example:8000").problem == "forbidden"
    assert api.post("/v1/predict", INSTANCES, Host="localhost:8000").status == 200


def test_what_nobody_foresaw_is_our_mistake_and_its_words_stand_in_the_log_alone(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(api.live, "answering", broken)
    answer = api.post("/v1/predict", INSTANCES, X_Request_Id="abc")
    assert (answer.status, answer.problem, answer.json["instance"]) == (500, "bug", "abc")
    assert "secret" not in answer.body.decode() and "request abc failed" in caplog.text


def test_refusals_are_logged_once_a_minute_for_each_kind_and_never_a_body(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            api.post("/v1/predict", {"instances": [{"x": "very private"}]})
    lines = [record.message for record in caplog.records if "/v1/predict" in record.message]
    assert len(lines) == 1 and "422 not-of-schema (schema_mismatch)" in lines[0]
    assert "private" not in caplog.text


def test_too_many_requests_at_once_are_told_to_come_again(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"in_flight_max": 2})
    app.serving(config)
    log.usual(30)
    api = Api(app, config)
    api.gate.in_flight = 2
    answer = api.post("/v1/predict", INSTANCES)
    assert (answer.status, answer.problem, answer.headers["retry-after"]) == (503, "overloaded", "1")
    assert api.get("/readyz").status == 200


def test_a_request_that_failed_leaves_its_place_to_others(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"in_flight_max": 2})
    app.serving(config)
    log.usual(30)
    api = Api(app, config)
    for _ in range(5):
        assert api.post("/v1/predict", {"instances": [{"x": "much"}]}).status == 422
        assert api.post("/v1/predict", b"{").status == 400
    assert api.post("/v1/predict", INSTANCES).status == 200 and api.gate.in_flight == 0


def test_requests_whose_bodies_have_not_come_take_nobodys_place(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"in_flight_max": 2})
    app.serving(config)
    log.usual(30)
    api = Api(app, config)
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": headers}

    async def asked() -> int:
        gone = asyncio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            raise AssertionError("who went away is answered")

        held = [asyncio.create_task(api.application(scope, receive, send)) for _ in range(5)]
        await asyncio.sleep(0)
        status = (await api.ask("POST", "/v1/predict", INSTANCES)).status
        gone.set()
        await asyncio.gather(*held)
        return status

    assert asyncio.run(asked()) == 200


def test_a_process_that_is_about_to_end_says_so_and_has_its_connections_closed(api: Api) -> None:
    assert "connection" not in api.post("/v1/predict", INSTANCES).headers
    api.info.draining = api.gate.draining = True
    answer, ready = api.post("/v1/predict", INSTANCES), api.get("/readyz")
    assert (answer.status, answer.headers["connection"]) == (200, "close"), "what it has it answers"
    assert (ready.status, ready.json["reasons"], ready.headers["connection"]) == (503, ["about to end"], "close")


def test_every_kind_of_problem_has_a_status_that_fits() -> None:
    for name, kind in KINDS.items():
        assert 400 <= kind.status < 600 and kind.title, name
        assert kind.again is (kind.status in (408, 409, 412, 429, 503)), name


def test_labels_are_not_taken_where_the_operator_has_not_said_so(api: Api) -> None:
    assert api.post("/v1/feedback", {"labels": [{"id": "a", "y": True}]}).problem == "not-found"


# --- the document ---


def test_the_document_names_every_route_and_its_example_scores(app: App, log: Log) -> None:
    config = app.config(LINEAR, serve={"feedback": True})
    app.serving(config)
    log.usual(30)
    api = Api(app, config)
    document = api.get("/openapi.json").json
    assert {(m.upper(), path) for path, methods in document["paths"].items() for m in methods} == {
        (route.method, route.path) for route in api.table
    }
    (example,) = document["components"]["schemas"]["Event"]["examples"]
    assert api.post("/v1/predict", {"instances": [example]}).status == 200
    assert document["components"]["schemas"]["Event"]["required"] == ["x"]


def test_what_the_document_has_objects_for_has_a_name_and_answers_may_have_more(app: App, log: Log) -> None:
    """Generators of clients make a class of each object, and call those without a name TypeTwoItemTypeSix.

    openapi-python-client 0.29.1 made a client that could not be imported of alternatives inside of prefixItems.
    """
    config = app.config(LINEAR, serve={"feedback": True})
    app.serving(config)
    document = Api(app, config).get("/openapi.json").json

    def objects(node: Any, where: str) -> Iterator[str]:
        if isinstance(node, dict) and node.get("type") == "object" and "properties" in node:
            yield where
        if isinstance(node, dict | list):
            for name, inner in node.items() if isinstance(node, dict) else enumerate(node):
                yield from objects(inner, f"{where}/{name}")

    schemas = document["components"]["schemas"]
    found = set(objects(document["paths"], "/paths")) | set(objects(schemas, ""))
    assert found <= {f"/{name}" for name in schemas}, "events and labels of this app have no records inside"
    assert "enum" not in schemas["Problem"]["properties"]["type"], "a new kind would be no value of the class"
    row = schemas["AskedByPlacePartial"]["properties"]["features"]["anyOf"][0]
    assert row["prefixItems"] and "anyOf" not in json.dumps(row["prefixItems"])


def test_the_page_runs_nothing_but_its_own_script(api: Api) -> None:
    answer = api.get("/docs")
    policy = answer.headers["content-security-policy"]
    assert answer.status == 200 and "default-src 'none'" in policy and "sha256-" in policy
    assert b"http://" not in answer.body and b"https://" not in answer.body


def test_schemas_are_given_as_avro(api: Api) -> None:
    assert api.get("/v1/schema/event.avsc").json["name"] == "Visit"
    assert api.get("/v1/schema/label.avsc").json["name"] == "Truth"
    assert api.get("/v1/schema/prediction.avsc").json["type"] == "record"
    assert api.get("/v1/schema/else.avsc").problem == "not-found"


def test_one_request_of_an_alias_leaves_nothing_to_the_next(app: App, log: Log) -> None:
    """Records inside of `set` too."""
    meta = {"name": "Meta", "type": "record", "fields": [{"name": n, "type": "double"} for n in ("source", "note")]}
    fields = [*EVENT["fields"], {"name": "meta", "type": meta}]
    (app.folder / "visit.avsc").write_text(json.dumps(EVENT | {"fields": fields}), "utf-8")
    alias = {
        "path": "/v1/sign",
        "in": {"number": "x", "id": "id", "note": "meta.note"},
        "set": {"t": 0, "meta": {"source": 1.0}},
        "out": {"label": "class", "id": "id"},
    }
    config = app.config(LINEAR, serve={"aliases": [alias]})
    app.serving(config)
    api = Api(app, config)
    first = api.post("/v1/sign", {"number": 1.0, "id": "mine", "note": 2.0})
    assert (first.status, first.json["id"]) == (200, "mine")
    assert api.post("/v1/sign", {"number": 1.0, "note": 2.0}).json["id"] is None
    missing = api.post("/v1/sign", {"number": 1.0})
    assert (missing.status, [one["pointer"] for one in missing.json["errors"]]) == (422, ["/note"])


def test_an_alias_has_names_of_its_own_in_requests_answers_and_refusals(app: App, log: Log) -> None:
    alias = {"path": "/v1/sign", "in": {"number": "x"}, "out": {"label": "class", "confidence": "score"}}
    config = app.config(LINEAR, serve={"aliases": [alias]})
    app.serving(config)
    log.usual(300)
    api = Api(app, config)
    answer, same = api.post("/v1/sign", {"number": 2.0}), api.post("/v1/predict", {"instances": [{"x": 2.0}]}).json
    assert answer.json == {"label": same["predictions"][0]["class"], "confidence": same["predictions"][0]["score"]}
    wrong = api.post("/v1/sign", {"number": "two"})
    assert (wrong.status, wrong.json["errors"][0]["pointer"]) == (422, "/number")
    assert api.post("/v1/sign", {"x": 2.0}).status == 422
    schema = api.get("/openapi.json").json["paths"]["/v1/sign"]["post"]["requestBody"]["content"]["application/json"]
    assert list(schema["schema"]["properties"]) == ["number"]
    assert json.dumps(schema) and time.time()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/feedback", "serve.feedback is false"),
        ("/v1/labels/f:0:1", "serve.feedback is false"),
        ("/v1/jobs", "serve.jobs is not set"),
        ("/v2/models/else/infer", "there is app (serve.model_name)"),
        ("/v1/models/else:predict", "POST /v1/models/app:predict"),
    ],
)
def test_a_door_that_is_not_there_says_what_opens_it(api: Api, path: str, words: str) -> None:
    answer = api.post(path, INSTANCES)
    assert answer.status == 404 and words in answer.body.decode()
