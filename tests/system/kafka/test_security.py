"""A Kafka with logins and an authorizer: refusals in words, and the rights that the documents list are enough."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.embedded.broker import free_port
from stream_ml.kafka.topics import create_topics
from tests.support.brokers import GUARDED, embedded
from tests.support.paths import ROOT
from tests.support.service import Service, service

pytestmark = pytest.mark.kafka

USER, PASSWORD = "scorer", "correct-horse-battery"
ROLES = ("producer", "consumer", "operator", "auditor", "redriver", "nobody")
MECHANISM = "PLAIN"
SETTINGS = """\
listener.name.login.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required {users};
"""
SECURITY = (ROOT / "SECURITY.md").read_text("utf-8")
RIGHTS = (ROOT / "docs/reference/topics-and-rights.md").read_text("utf-8")


class Guarded(NamedTuple):
    """Addresses of one Kafka: for everybody with all rights, and for those who log in."""

    everybody: str
    login: str


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A Kafka of this file's own."""
    login = free_port()
    settings = GUARDED.format(login=login, mechanism=MECHANISM)
    settings += SETTINGS.format(users=" ".join(f'user_{name}="{PASSWORD}"' for name in (USER, *ROLES)))
    with embedded(tmp_path_factory.mktemp("guarded"), settings) as kafka:
        yield Guarded(kafka.bootstrap_servers, f"127.0.0.1:{login}")


def login(made: Service, guarded: Guarded, password: str = PASSWORD, user: str = USER) -> None:
    """Let the app's processes log in."""
    made.settings["kafka"] = {
        "bootstrap_servers": guarded.login,
        "properties": {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": password,
        },
    }
    made.write()


def check(made: Service) -> tuple[int, str]:
    """Exit code and words of the check."""
    found = CliRunner().invoke(app, ["check", str(made.folder / "w1.yaml"), "--online"])
    return found.exit_code, found.output


def rights(config: Any) -> list[AclBinding]:
    """The table of rights in the documents, row by row."""
    section = RIGHTS.partition("Rights that a worker's user needs")[2]
    rows = [re.findall(r"[^|]+", line) for line in section.splitlines() if line.startswith("| ")][1:]
    literal, prefix = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
    own = (config.predictions.topic, config.training_log_topic, config.outcomes, config.dead_letters)
    of = {
        "topics of events and feedback": [
            (ResourceType.TOPIC, name, literal) for name in (config.events.topic, config.feedback.topic)
        ],
        "predictions, training log, outcomes, dead letters": [(ResourceType.TOPIC, name, literal) for name in own],
        "signals": [(ResourceType.TOPIC, config.signals, literal)],
        "topics of jobs, where `serve.jobs` is set: that they are there": [
            (ResourceType.TOPIC, name, literal)
            for name in ((config.jobs, config.job_requests, config.job_results) if config.serve.jobs else ())
        ],
        "group `<app.id>`": [(ResourceType.GROUP, config.app.id, literal)],
        "transactional ids with prefix `<app.id>-`": [(ResourceType.TRANSACTIONAL_ID, f"{config.app.id}-", prefix)],
    }
    return [
        bound(of_one, operation, USER)
        for on, operations, *_ in rows
        for of_one in of.get(on.strip(), [])
        for operation in operations_of(operations)
    ]


def operations_of(text: str) -> list[AclOperation]:
    """Those that a cell of a table names."""
    plain = {"DescribeConfigs": AclOperation.DESCRIBE_CONFIGS}
    names = re.findall(r"Read|Write|DescribeConfigs|Describe\b", text)
    return [plain.get(name) or AclOperation[name.upper()] for name in names]


def bound(of: tuple[ResourceType, str, ResourcePatternType], operation: AclOperation, user: str) -> AclBinding:
    """The right of a user to do this."""
    kind, name, pattern = of
    return AclBinding(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)


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
        assert "cannot be read" not in worker.log, "nothing is missing that it would like to know"
        made.settings["kafka"] = {"bootstrap_servers": guarded.everybody}
        made.write()
        audited = made.audited()
        assert audited["counts"] == {} and audited["examples"] == 40


# --- the other roles ---


def roles(config: Any) -> dict[str, list[AclBinding]]:
    """The rights of each role, as SECURITY.md lists them."""
    section = SECURITY.partition("## Rights in Kafka, by role")[2]
    literal, prefix = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
    names = {
        "events": config.events.topic,
        "feedback": config.feedback.topic,
        "predictions": config.predictions.topic,
        "training log": config.training_log_topic,
        "outcomes": config.outcomes,
        "dead letters": config.dead_letters,
        "signals": config.signals,
    }
    of = {name: (ResourceType.TOPIC, topic, literal) for name, topic in names.items()} | {
        "group `<app.id>`": (ResourceType.GROUP, config.app.id, literal),
        "a group of its own": (ResourceType.GROUP, "own", literal),
        "groups `<app.id>.redrive.`": (ResourceType.GROUP, f"{config.app.id}.redrive.", prefix),
        "transactional ids `<app.id>-`": (ResourceType.TRANSACTIONAL_ID, f"{config.app.id}-", prefix),
    }
    found: dict[str, list[AclBinding]] = {}
    role = ""
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[0] not in ("role", "---"):
            role = cells[0] or role
            for on in cells[1].split(", "):
                found.setdefault(role, [])
                found[role] += [bound(of[on], operation, role) for operation in operations_of(cells[2])]
    return found


def _group(name: str, user: str) -> tuple[Any, ...]:
    of = (ResourceType.GROUP, name, ResourcePatternType.LITERAL, f"User:{user}", "*")
    return (*of, AclOperation.DESCRIBE, AclPermissionType.ALLOW)


def client_of(guarded: Guarded, user: str, **more: Any) -> dict[str, Any]:
    return {
        "bootstrap.servers": guarded.login,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": PASSWORD,
        "log_level": 0,
    } | {name.replace("_", "."): value for name, value in more.items()}


def may_write(guarded: Guarded, user: str, topic: str) -> bool:
    """Whether a user's record is taken."""
    said: list[Any] = []
    producer = Producer(client_of(guarded, user, message_timeout_ms=20_000))
    producer.produce(topic, b"x", partition=0, on_delivery=lambda error, _: said.append(error))
    assert producer.flush(30) == 0
    return said[0] is None


def may_read(guarded: Guarded, user: str, topic: str, group: str) -> bool:
    """Whether a user is given records of a topic that has some, as a member of a group."""
    settings = {"group_id": group, "auto_offset_reset": "earliest", "enable_partition_eof": True}
    consumer = Consumer(client_of(guarded, user, **settings))
    consumer.subscribe([topic])
    try:
        for _ in range(30):
            message = consumer.poll(1.0)
            if message is not None:
                return message.error() is None or message.error().code() == KafkaError._PARTITION_EOF
    finally:
        consumer.close()
    raise AssertionError("neither a record nor an error")


def test_the_rights_of_each_role_are_enough_for_what_it_does_and_for_nothing_else(
    guarded: Guarded, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, guarded.everybody, app_id) as made:
        config = made.config
        client = AdminClient({"bootstrap.servers": guarded.everybody})
        granted = roles(config)
        assert set(granted) == set(ROLES) - {"nobody"}
        for future in client.create_acls([one for rights_of in granted.values() for one in rights_of]).values():
            future.result()
        made.start()
        made.pairs(range(10))
        made.raw_visit(b"no avro")
        made.wait_until_done()
        made.wait_for(lambda: len(made.dead_letters()) == 1, "a dead letter")

        outputs = (config.predictions.topic, config.training_log_topic, config.dead_letters, config.signals)
        assert not any(may_write(guarded, user, config.training_log_topic) for user in ROLES if user != "operator")
        assert not may_write(guarded, "nobody", config.events.topic)
        assert not any(may_write(guarded, "producer", topic) for topic in outputs)
        assert not any(may_write(guarded, "consumer", topic) for topic in (config.events.topic, *outputs))
        assert not any(may_write(guarded, "auditor", topic) for topic in (config.events.topic, *outputs))
        assert not may_read(guarded, "producer", config.predictions.topic, "own")
        assert not may_read(guarded, "consumer", config.events.topic, "own")
        assert not may_read(guarded, "consumer", config.predictions.topic, config.app.id)
        assert may_read(guarded, "consumer", config.predictions.topic, "own")
        assert may_write(guarded, "producer", config.feedback.topic)

        for user, *words in (
            ("operator", "freeze"),
            ("operator", "resume"),
            ("operator", "skip", "0", "--anyway"),
            ("operator", "skip", "0", "--anyway"),
            ("auditor", "dead-letters ls"),
            ("auditor", "audit", "--sample", "5"),
            ("auditor", "offsets show"),
            ("redriver", "dead-letters redrive", "--reason", "not_avro"),
        ):
            login(made, guarded, user=user)
            verb, *flags = words
            code, said = made.ended(*verb.split(), "CONFIG", *flags)
            assert code == 0, (user, words, said)
        login(made, guarded, user="consumer")
        code, said = made.ended("dead-letters", "ls", "CONFIG")
        assert code == 78 and "or grant Describe" in said, said
        for future in client.delete_acls([AclBindingFilter(*_group(config.app.id, "redriver"))]).values():
            future.result()
        login(made, guarded, user="redriver")
        code, said = made.ended("dead-letters", "ls", "CONFIG")
        assert code == 1 and f"--operation Describe --group {config.app.id}" in said, said
        login(made, guarded, user="auditor")
        code, said = made.ended("freeze", "CONFIG")
        assert code != 0 and "uthoriz" in said, said
