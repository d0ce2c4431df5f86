"""Certificates of Kafka's clients that expire and are replaced while the service works: told before, taken up alone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from stream_ml.embedded.broker import EmbeddedKafka, free_port
from stream_ml.kafka.topics import create_topics
from tests.support.api_process import ApiProcess
from tests.support.brokers import START_S
from tests.support.certificates import Authority, Pair
from tests.support.service import Service, service, under_load, until

pytestmark = pytest.mark.kafka

SETTINGS = """\
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},TLS://localhost:{tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL
inter.broker.listener.name=PLAINTEXT
listener.name.tls.ssl.client.auth=required
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location={broker}
listener.name.tls.ssl.truststore.type=PEM
listener.name.tls.ssl.truststore.location={authority}
"""
SECOND = 1 / 86_400  # of a day


class Tls(NamedTuple):
    """A broker that asks for certificates, and who signs them."""

    kafka: EmbeddedKafka
    address: str
    authority: Authority
    folder: Path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """One of this file's own."""
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    authority = Authority(folder)
    pair = authority.signs("broker")
    broker = folder / "broker.pem"
    broker.write_bytes(pair.key.read_bytes() + pair.cert.read_bytes())
    settings = SETTINGS.format(tls=port, broker=broker, authority=authority.file)
    kafka = EmbeddedKafka(folder / "kafka", settings=settings)
    kafka.start(timeout_s=START_S)
    with kafka:
        yield Tls(kafka, f"localhost:{port}", authority, folder)


def using(made: Service, tls: Tls, pair: Pair) -> None:
    """Let the processes of the app show this certificate, out of files of their own."""
    for path, name in zip(pair, ("client.crt", "client.key"), strict=True):
        shutil.copy(path, made.folder / name)
    made.settings["kafka"] = {
        "bootstrap_servers": tls.address,
        "properties": {
            "security.protocol": "SSL",
            "ssl.ca.location": str(tls.authority.file),
            "ssl.certificate.location": "client.crt",
            "ssl.key.location": "client.key",
            "broker.address.family": "v4",
        },
    }
    made.write()


def checked(made: Service) -> tuple[int, str]:
    code, said = made.ended("check", "CONFIG", "--online")
    return code, " ".join(said.split())


@pytest.mark.long
def test_a_certificate_that_is_replaced_under_load_is_taken_up_by_worker_and_api(
    tls: Tls, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, tls.kafka.bootstrap_servers, app_id, http={"port": free_port()}) as made:
        create_topics(made.config, 1, dry_run=False)
        using(made, tls, tls.authority.signs("first", days=30 * SECOND))
        worker = made.start()
        with under_load(made) as produced, ApiProcess(made) as api:
            api.wait_ready()
            made.wait_for(lambda: "client.crt" in made.problems(), "saying that it expires")
            assert until(lambda: any("client.crt" in one for one in api.status()["problems"]), 20)
            expires = 'stream_ml_certificate_expires_timestamp_seconds{of="client"}'
            assert expires in made.asked("/metrics")[1]
            pids = api.pids
            made.wait_for(lambda: "expired" in made.problems(), "having expired", 60)
            assert made.ready, "connections that are open stay"
            code, said = checked(made)
            assert code == 78 and "refuses the certificate of this client" in said and "client.crt expired" in said, (
                said
            )
            using(made, tls, tls.authority.signs("second", days=30))
            made.wait_for(
                lambda: "begins anew" in worker.log and made.ready and not made.problems(), "beginning anew", 90
            )
            assert until(lambda: api.pids and not set(api.pids) & set(pids) and not api.status()["problems"], 90), (
                api.log
            )
            done = made.learned
            made.wait_for(lambda: made.learned > done, "going on")
            assert api.stop() == 0
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        made.settings["kafka"] = {"bootstrap_servers": tls.kafka.bootstrap_servers}
        made.write()
        found = made.audited()
        assert found["counts"] == {} and found["examples"] == produced[0], found


@pytest.mark.long
def test_what_cannot_be_used_is_said_and_not_taken_up(tls: Tls, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, tls.kafka.bootstrap_servers, app_id, http={"port": free_port()}) as made:
        create_topics(made.config, 1, dry_run=False)
        using(made, tls, tls.authority.signs("whole", days=30))
        worker = made.start()
        made.wait_for(lambda: made.ready, "being ready")
        other = tls.authority.signs("other", days=30)
        shutil.copy(other.cert, made.folder / "client.crt")  # its key does not come
        made.wait_for(lambda: "cannot be used" in made.problems(), "saying so", 60)
        said = made.problems()
        assert "client.crt changed, and this process still uses what was there before" in said
        assert made.ready and worker.process.poll() is None
        shutil.copy(other.key, made.folder / "client.key")
        made.wait_for(lambda: "begins anew" in worker.log and made.ready, "taking both up", 90)
        assert worker.stop() == 0


@pytest.mark.long
def test_the_cause_of_a_refused_certificate_is_said(tls: Tls, app_id: str, tmp_path: Path) -> None:
    """Of the client, of the broker, of the files: each in its own words."""
    made = Service(tmp_path, tls.kafka.bootstrap_servers, app_id)
    create_topics(made.config, 1, dry_run=False)
    stranger = Authority(tmp_path, "stranger")
    using(made, tls, tls.authority.signs("late", days=-1))
    assert "client.crt expired" in checked(made)[1]
    using(made, tls, stranger.signs("unknown"))
    code, said = checked(made)
    assert code == 78 and "refuses the certificate of this client" in said and "is valid until" in said, said
    using(made, tls, tls.authority.signs("right"))
    made.settings["kafka"]["properties"]["ssl.ca.location"] = str(stranger.file)
    made.write()
    code, said = checked(made)
    assert (
        code == 78 and "cannot be believed: its certificate cannot be verified: unable to get local issuer" in said
    ), said
    made.settings["kafka"]["properties"]["ssl.ca.location"] = str(tls.authority.file)
    made.settings["kafka"]["bootstrap_servers"] = tls.address.replace("localhost", "127.0.0.1")
    made.write()
    code, said = checked(made)
    assert code == 78 and "IP address mismatch" in said, said
    made.settings["kafka"]["properties"]["ssl.key.location"] = "nowhere.key"
    made.write()
    code, said = checked(made)
    assert code == 78 and "ssl.key.location is" in said and "nowhere.key, and there is no such file" in said, said


def test_check_says_that_a_certificate_expires_soon_or_has(tls: Tls, app_id: str, tmp_path: Path) -> None:
    made = Service(tmp_path, tls.kafka.bootstrap_servers, app_id)
    create_topics(made.config, 1, dry_run=False)
    using(made, tls, tls.authority.signs("soon", days=3))
    code, said = checked(made)
    assert code == 0 and "note" in said and "client.crt is valid until" in said, said
    using(made, tls, tls.authority.signs("late", days=-1))
    code, said = made.ended("check", "CONFIG")
    assert code == 78 and "client.crt expired" in " ".join(said.split()), said
