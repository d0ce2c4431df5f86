"""The scoring API and runners of jobs, each a user of its own by SCRAM: the rights in the documents are enough."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from stream_ml.embedded.broker import free_port
from stream_ml.kafka.topics import create_topics
from tests.support.api_process import ApiProcess
from tests.support.brokers import GUARDED, embedded
from tests.support.service import T0, Service, service, until
from tests.system.kafka.test_jobs import RunnerProcess
from tests.system.kafka.test_security import RIGHTS, Guarded, bound, operations_of
from tests.system.kafka.test_security import rights as rights_of_worker

pytestmark = pytest.mark.kafka

PASSWORD = "correct-horse-battery"
USERS = ("scorer", "api", "runner")
MECHANISM = "SCRAM-SHA-512"
SETTINGS = """\
listener.name.login.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A Kafka of this file's own, with its users."""
    login = free_port()
    with embedded(
        tmp_path_factory.mktemp("scram"), GUARDED.format(login=login, mechanism=MECHANISM) + SETTINGS
    ) as kafka:
        client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4_096)
        wanted = [UserScramCredentialUpsertion(name, info, PASSWORD.encode()) for name in USERS]
        for future in client.alter_user_scram_credentials(wanted).values():
            future.result()
        yield Guarded(kafka.bootstrap_servers, f"127.0.0.1:{login}")


def kafka_of(guarded: Guarded, user: str) -> dict[str, Any]:
    """The section of a process that logs in."""
    properties = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": PASSWORD,
    }
    return {"bootstrap_servers": guarded.login, "properties": properties}


def rights(config: Any) -> list[AclBinding]:
    """Those of the API and of runners, as the documents list them; `the same` is who stood above."""
    section = RIGHTS.partition("Rights of the scoring API")[2].partition("\n## ")[0]
    literal, prefix = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
    topics = {
        "training log": config.training_log_topic,
        "topic of feedback": config.feedback.topic,
        "topic of events": config.events.topic,
        "outcomes": config.outcomes,
        "dead letters": config.dead_letters,
        "`<app>.jobs`": config.jobs,
        "`<app>.job-requests`": config.job_requests,
        "`<app>.job-results`": config.job_results,
    }
    of = {name: (ResourceType.TOPIC, topic, literal) for name, topic in topics.items()}
    every = [
        *of.values(),
        *((ResourceType.TOPIC, name, literal) for name in (config.predictions.topic, config.signals)),
    ]
    of["group `<app.id>`"] = (ResourceType.GROUP, config.app.id, literal)
    of["group `<app>.jobs`"] = (ResourceType.GROUP, f"{config.app.id}.jobs", literal)
    of["transactional ids with prefix `<app>.jobs-`"] = (
        ResourceType.TRANSACTIONAL_ID,
        f"{config.app.id}.jobs-",
        prefix,
    )
    found, user = list[AclBinding](), ""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    for who, on, operations in rows[1:]:
        user = user if who.startswith("the same") else "runner" if who.startswith("runner") else "api"
        if on.startswith("all topics of the app"):
            both = [(one, operation) for one in every for operation in operations_of(operations)]
            found += [bound(*one, who_has_it) for one in both for who_has_it in ("api", "runner")]
            continue
        for one in re.split(r", (?!for)", on):
            found += [bound(of[one], operation, user) for operation in operations_of(operations)]
    return found


def event(number: int) -> dict[str, Any]:
    return {"id": f"s{number}", "at": T0 + 1000 * number, "x": 3.0, "kind": "k1", "note": None}


def test_api_and_runners_have_enough_of_what_the_documents_list(guarded: Guarded, app_id: str, tmp_path: Path) -> None:
    (tmp_path / "answers.key").write_text("k" * 40)
    serve = {"jobs": {}, "provenance_key_file": "answers.key"}
    with service(tmp_path, guarded.everybody, app_id, serve=serve) as made:
        create_topics(made.config, 1, dry_run=False)
        plain = dict(made.settings["kafka"])
        client = AdminClient({"bootstrap.servers": guarded.everybody})
        scorer = rights_of_worker(made.config)
        bindings = list(dict.fromkeys([*scorer, *rights(made.config)]))
        assert len(bindings) - len(scorer) > 20
        for future in client.create_acls(bindings).values():
            future.result()
        made.settings["kafka"] = kafka_of(guarded, "scorer")
        worker = made.start()
        made.pairs(range(30))
        made.wait_until_done()
        others = {"kafka": kafka_of(guarded, "api")}
        runner = RunnerProcess(made, kafka=kafka_of(guarded, "runner"), worker={"instance": "r1"})
        with runner, ApiProcess(made, others=others, record="ack", **serve) as api:
            api.wait_ready()
            assert "recorded" in api.predict(event(1))["predictions"][0]["flags"]
            label = {"id": "s1", "at": T0 + 40_000, "y": True}
            status, _, said = api.ask("POST", "/v1/feedback", {"labels": [label]})
            assert status == 202, said
            asked = f"/v1/labels/{said['receipts'][0]}"
            assert until(lambda: api.ask("GET", asked)[2].get("state") == "example", 30), api.ask("GET", asked)
            instances = [{name: value for name, value in event(n).items() if name in ("x", "kind")} for n in range(5)]
            status, _, job = api.ask("POST", "/v1/jobs", {"instances": instances})
            assert status in (201, 202), job
            assert until(lambda: api.ask("GET", f"/v1/jobs/{job['id']}")[2].get("status") == "done", 60), runner.log
            assert api.stop() == 0, api.log
            assert runner.stop() == 0, runner.log
            assert "uthorization failed" not in api.log + runner.log + worker.log
        assert worker.stop() == 0, worker.log
        assert PASSWORD not in api.log + runner.log + worker.log
        made.settings["kafka"] = plain
        made.write()
        found = made.audited()
        assert found["counts"] == {} and found["examples"] == 31, found


def test_a_wrong_password_is_said_and_not_shown(guarded: Guarded, app_id: str, tmp_path: Path) -> None:
    made = Service(tmp_path, guarded.everybody, app_id)
    made.settings["kafka"] = kafka_of(guarded, "scorer")
    made.settings["kafka"]["properties"]["sasl.password"] = "wrong-battery"
    made.write()
    code, said = made.ended("check", "CONFIG", "--online")
    assert code == 78 and "refuses the connection" in said and "wrong-battery" not in said, said
