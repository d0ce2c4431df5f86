"""A Kafka that wants tokens of an issuer, with the service itself: renewed under load, refused in words, back alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives.asymmetric import rsa

from stream_ml.embedded.broker import free_port
from stream_ml.kafka.topics import create_topics
from tests.support.brokers import GUARDED, embedded
from tests.support.issuer import SECRET, Issuer, issuer
from tests.support.service import Service, service, under_load, until
from tests.system.kafka.test_security import USER, rights

pytestmark = pytest.mark.kafka

MECHANISM = "OAUTHBEARER"
SETTINGS = """\
listener.name.login.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required ;
listener.name.login.oauthbearer.sasl.server.callback.handler.class=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
listener.name.login.oauthbearer.sasl.oauthbearer.jwks.endpoint.url={issuer}/keys
listener.name.login.oauthbearer.connections.max.reauth.ms=5000
sasl.oauthbearer.expected.audience=kafka
sasl.oauthbearer.jwt.validator.class=org.apache.kafka.common.security.oauthbearer.BrokerJwtValidator
"""
"""Without the validator, and without the prefix of a listener, this Kafka believes any token (tried with a forged)."""


class Guarded(NamedTuple):
    """Addresses of one Kafka, for everybody and for those who log in, and who gives the tokens."""

    everybody: str
    login: str
    issuer: Issuer


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A Kafka of this file's own."""
    login = free_port()
    with issuer() as tokens, pytest.MonkeyPatch.context() as patch:
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={tokens.url}/keys"
        patch.setenv("JAVA_TOOL_OPTIONS", allowed)
        settings = GUARDED.format(login=login, mechanism=MECHANISM) + SETTINGS.format(issuer=tokens.url)
        with embedded(tmp_path_factory.mktemp("tokens"), settings) as kafka:
            yield Guarded(kafka.bootstrap_servers, f"127.0.0.1:{login}", tokens)


@pytest.fixture(autouse=True)
def issuer_is_well(guarded: Guarded) -> Iterator[None]:
    yield
    guarded.issuer.fails, guarded.issuer.audience = "", "kafka"


def granted(made: Service, guarded: Guarded) -> None:
    """The worker's rights for its subject; its processes log in from now on."""
    create_topics(made.config, made.partitions, dry_run=False)
    client = AdminClient({"bootstrap.servers": guarded.everybody})
    for future in client.create_acls(rights(made.config)).values():
        future.result()
    made.settings["kafka"] = {"bootstrap_servers": guarded.login, "properties": guarded.issuer.properties(USER)}
    made.write()


def test_a_forged_token_is_refused_by_this_broker(guarded: Guarded) -> None:
    """Else nothing that these tests see would prove anything."""
    forged = guarded.issuer.token(USER, rsa.generate_private_key(65_537, 2_048))
    said: list[str] = []
    consumer = Consumer(
        {
            "bootstrap.servers": guarded.login,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "OAUTHBEARER",
            "oauth_cb": lambda _: (forged, 4_000_000_000.0, "x", {}),
            "error_cb": lambda error: said.append(error.str()),
            "group.id": "x",
            "log_level": 0,
        }
    )
    try:
        assert until(lambda: consumer.poll(0.2) is None and any("invalid_token" in one for one in said), 20), said
    finally:
        consumer.close()


def is_back(made: Service) -> bool:
    """Whether the worker is ready; one that has waited for too long has ended, as of a broker, and is started again."""
    if made.workers[-1].process.poll() is not None:
        assert made.workers[-1].process.returncode == 69, made.workers[-1].log
        made.start()
    return made.ready


@pytest.mark.long
def test_tokens_are_renewed_under_load_and_an_outage_of_the_issuer_ends_by_itself(
    guarded: Guarded, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, guarded.everybody, app_id, http={"port": free_port()}) as made:
        granted(made, guarded)
        guarded.issuer.lives_s = 6
        assert "nothing is wrong" in made.typed("check", "CONFIG", "--online")
        worker = made.start()
        with under_load(made) as produced:
            asked = guarded.issuer.asked
            made.wait_for(lambda: guarded.issuer.asked > asked + 15 and made.learned > 100, "tokens anew", 90)
            assert made.ready
            guarded.issuer.fails = "away"
            made.wait_for(
                lambda: "does not answer" in made.problems() and "issuer" in made.problems(), "being said", 90
            )
            assert f"{guarded.issuer.url}/token" in made.problems() and not made.ready
            guarded.issuer.fails = ""
            made.wait_for(lambda: is_back(made), "being back", 90)
        made.wait_until_done()
        assert made.workers[-1].stop() == 0, made.workers[-1].log
        log = worker.log
        assert SECRET not in log and "eyJ" not in log
        made.settings["kafka"] = {"bootstrap_servers": guarded.everybody}
        made.write()
        found = made.audited()
        assert found["counts"] == {} and found["examples"] == produced[0], found


@pytest.mark.parametrize(
    ("fails", "code", "words"),
    [
        ("away", 69, "the issuer at {url}/token does not answer"),
        ("secret", 78, "the issuer at {url}/token refuses"),
        pytest.param("hangs", 69, "Does the issuer of tokens at {url}/token answer?", marks=pytest.mark.long),
        pytest.param("broken", 69, "{url}/token", marks=pytest.mark.long),
    ],
)
def test_at_a_start_an_issuer_that_passes_is_69_and_one_that_refuses_78(
    guarded: Guarded, app_id: str, tmp_path: Path, fails: str, code: int, words: str
) -> None:
    made = Service(tmp_path, guarded.everybody, app_id)
    made.settings["kafka"] = {"bootstrap_servers": guarded.login, "properties": guarded.issuer.properties(USER)}
    made.write()
    guarded.issuer.fails = fails
    found, said = made.ended("check", "CONFIG", "--online")
    said = " ".join(said.split())
    assert found == code, said
    assert words.format(url=guarded.issuer.url) in said, said
    assert SECRET not in said


@pytest.mark.long
def test_another_audience_is_refused_and_a_user_without_rights_told_what_to_grant(
    guarded: Guarded, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, guarded.everybody, app_id) as made:
        made.settings["kafka"] = {"bootstrap_servers": guarded.login, "properties": guarded.issuer.properties("other")}
        made.write()
        code, said = made.ended("check", "CONFIG", "--online")
        assert code == 78 and "or grant Describe" in said, said
        guarded.issuer.audience = "somebody-else"
        code, said = made.ended("check", "CONFIG", "--online")
        assert code == 78 and "invalid_token" in said, said


def test_the_secret_may_be_a_file_and_is_not_shown_while_the_rest_is(
    guarded: Guarded, app_id: str, tmp_path: Path
) -> None:
    made = Service(tmp_path, guarded.everybody, app_id)
    properties = guarded.issuer.properties(USER)
    (tmp_path / "secrets").mkdir()
    name = "sasl.oauthbearer.client.secret"
    (tmp_path / "secrets" / f"kafka.properties.{name}").write_text(properties.pop(name))
    made.settings["kafka"] = {"bootstrap_servers": guarded.login, "properties": properties}
    made.write()
    said = made.typed("config", "show", "CONFIG", "--secrets", str(tmp_path / "secrets"))
    assert SECRET not in said and f"{guarded.issuer.url}/token" in said and USER in said, said


def test_rights_that_are_taken_from_a_worker_end_it_with_1(guarded: Guarded, app_id: str, tmp_path: Path) -> None:
    """78 says that nothing was consumed, and that a restart is in vain."""
    with service(tmp_path, guarded.everybody, app_id) as made:
        granted(made, guarded)
        worker = made.start()
        made.pairs(range(5))
        made.wait_until_done()
        client = AdminClient({"bootstrap.servers": guarded.everybody})
        mine = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            f"User:{USER}",
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for future in client.delete_acls([mine]).values():
            future.result()
        made.pairs(range(5, 10))
        assert until(lambda: worker.process.poll() is not None, 90), worker.log
        assert worker.process.returncode == 1, worker.log
        assert "KafkaError{" not in worker.log, "told in words"
