"""A Kafka with logins and an authorizer: refusals in words, and the rights that the README lists are enough."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from service import Service, service
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.kafka.broker import EmbeddedKafka, free_port
from stream_ml.kafka.topics import create_topics

pytestmark = pytest.mark.kafka

USER, PASSWORD = "scorer", "correct-horse-battery"
SETTINGS = """\
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},LOGIN://127.0.0.1:{login}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.login.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
README = (Path(__file__).parent.parent.parent / "README.md").read_text("utf-8")


class Guarded(NamedTuple):
    """Addresses of one Kafka: for everybody with all rights, and for those who log in."""

    everybody: str
    login: str


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A Kafka of this file's own."""
    login = free_port()
    settings = SETTINGS.format(login=login, user=USER, password=PASSWORD)
    with EmbeddedKafka(tmp_path_factory.mktemp("guarded"), settings=settings) as kafka:
        yield Guarded(kafka.bootstrap_servers, f"127.0.0.1:{login}")


def login(made: Service, guarded: Guarded, password: str = PASSWORD) -> None:
    """Let the app's workers log in."""
    made.settings["kafka"] = {
        "bootstrap_servers": guarded.login,
        "properties": {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": USER,
            "sasl.password": password,
        },
    }
    made.write()


def check(made: Service) -> tuple[int, str]:
    """Exit code and words of the check."""
    found = CliRunner().invoke(app, ["check", str(made.folder / "w1.yaml"), "--online"])
    return found.exit_code, found.output


def rights(config: Any) -> list[AclBinding]:
    """The README's table of rights, row by row."""
    section = README.partition("Rights that a worker's user needs")[2].partition("| metric")[0]
    rows = [re.findall(r"[^|]+", line) for line in section.splitlines() if line.startswith("| ")][1:]
    literal, prefix = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
    own = (config.predictions.topic, config.training_log, config.outcomes, config.dead_letters)
    of = {
        "topics of events and feedback": [
            (ResourceType.TOPIC, name, literal) for name in (config.events.topic, config.feedback.topic)
        ],
        "predictions, training log, outcomes, dead letters": [(ResourceType.TOPIC, name, literal) for name in own],
        "signals": [(ResourceType.TOPIC, config.signals, literal)],
        "group `<app.id>`": [(ResourceType.GROUP, config.app.id, literal)],
        "transactional ids with prefix `<app.id>-`": [(ResourceType.TRANSACTIONAL_ID, f"{config.app.id}-", prefix)],
    }
    found = []
    for on, operations, *_ in rows:
        for kind, name, pattern in of.get(on.strip(), []):
            for operation in re.findall(r"Read|Write|DescribeConfigs|Describe\\b|Describe", operations):
                plain = {"DescribeConfigs": AclOperation.DESCRIBE_CONFIGS}.get(operation) or AclOperation[
                    operation.upper()
                ]
                found.append(AclBinding(kind, name, pattern, f"User:{USER}", "*", plain, AclPermissionType.ALLOW))
    return found


def test_a_wrong_password_is_said_and_not_shown(guarded: Guarded, app_id: str, tmp_path: Path) -> None:
    made = Service(tmp_path, guarded.everybody, app_id)
    login(made, guarded, "wrong-battery")
    worker = made.start()
    assert worker.wait() == 78, worker.log
    assert "refuses the connection" in worker.log and "uthentication" in worker.log
    assert "wrong-battery" not in worker.log


def test_the_rights_that_the_readme_lists_are_needed_and_enough(guarded: Guarded, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, guarded.everybody, app_id, partitions=2) as made:
        create_topics(made.config, 2, dry_run=False)
        plain = made.config
        login(made, guarded)
        code, said = check(made)
        assert code == 78 and "do not exist" in said and "or grant Describe" in said
        client = AdminClient({"bootstrap.servers": guarded.everybody})
        bindings = rights(plain)
        assert len(bindings) > 15
        readable = [b for b in bindings if b.operation is AclOperation.DESCRIBE and b.restype is ResourceType.TOPIC]
        for future in client.create_acls(readable).values():
            future.result()
        code, said = check(made)
        assert code == 78
        assert f"this user may not READ {plain.events.topic}" in said
        assert f"this user may not WRITE {plain.signals}" in said
        assert "kafka-acls.sh --add --allow-principal User:NAME --operation Read" in said
        for future in client.create_acls(bindings).values():
            future.result()
        code, said = check(made)
        assert code == 0, said
        worker = made.start()
        made.pairs(range(40))
        made.flush()
        made.wait_for(lambda: made.progress() == (80, 80), "everything")
        assert worker.stop() == 0, worker.log
        assert PASSWORD not in worker.log
        made.settings["kafka"] = {"bootstrap_servers": guarded.everybody}
        made.write()
        audited = made.audited()
        assert audited["counts"] == {} and audited["examples"] == 40
