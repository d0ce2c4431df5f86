"""Whom Kafka lets in: the end of a certificate is read as cryptography reads it, and each refusal has its own words."""

import datetime
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from stream_ml.errors import ConfigError
from stream_ml.kafka.access import certificates, refusals
from stream_ml.kafka.access.certificates import FileWatch, check_files, client_certificates, expiries, not_after
from stream_ml.kafka.access.refusals import RECENT_S, Refusals, words_of
from stream_ml.kafka.clients import authorities_of_issuer
from tests.support.certificates import Authority
from tests.support.inputs import small_config

URL = "https://issuer.example.org/token"


def config(**properties: str) -> Any:
    named = {name.replace("_", "."): value for name, value in properties.items()}
    return small_config(kafka={"bootstrap_servers": "localhost:1", "properties": named})


# --- certificates ---


@pytest.mark.parametrize("days", [-1, 0.5, 30, 365 * 20, 365 * 60])
def test_the_end_of_a_certificate_is_read(tmp_path: Path, days: float) -> None:
    """Up to 2049 it is written in one way, and then in another."""
    pair = Authority(tmp_path).signs("one", days=days)
    theirs = x509.load_pem_x509_certificate(pair.cert.read_bytes()).not_valid_after_utc
    assert expiries(pair.cert) == [theirs.timestamp()]


def test_of_a_client_the_first_end_counts_and_of_authorities_the_last(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pairs = [authority.signs(name, days=days) for name, days in (("a", 3), ("b", 40))]
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(pair.cert.read_bytes() for pair in pairs))
    found = client_certificates(config(ssl_certificate_location=str(both), ssl_ca_location=str(both)))
    left = [round(one.left_s / 86_400) for one in found]
    assert left == [3, 40] and "is valid until" in certificates.expiring(found)
    assert str(both) in certificates.expiring(found) and certificates.expiring(found).count("both.pem") == 1


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_none(tmp_path_factory: pytest.TempPathFactory, der: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        not_after(der)


def test_files_that_hold_none_name_no_end(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
    assert expiries(tmp_path / "x") == [] == expiries(tmp_path / "missing") == expiries(tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ssl\.key\.location is /nowhere/key, and there is no such file"):
        check_files({"ssl.key.location": "/nowhere/key"})
    check_files({"ssl.ca.location": "probe", "ssl.key.location": str(tmp_path)})


def test_files_count_as_replaced_once_they_are_still_and_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    one, other = (authority.signs(name, days=30) for name in ("one", "other"))
    own = {"ssl_certificate_location": tmp_path / "c", "ssl_key_location": tmp_path / "k"}
    for path, source in zip(own.values(), one, strict=True):
        path.write_bytes(source.read_bytes())
    now = [1_000.0]
    monkeypatch.setattr(certificates.time, "monotonic", lambda: now[0])
    watch = FileWatch(config(**{name: str(path) for name, path in own.items()}))

    def later(seconds: float) -> str:
        now[0] += seconds
        return watch.replaced()

    assert later(60) == ""
    (tmp_path / "c").write_bytes(other.cert.read_bytes())
    assert later(6) == "" and watch.problem == "", "its key may be on its way"
    assert later(11) == "" and "c changed" in watch.problem and "cannot be used" in watch.problem
    (tmp_path / "k").write_bytes(other.key.read_bytes())
    assert later(6) == ""
    assert later(11) == later(0) == f"{tmp_path}/c, {tmp_path}/k" and watch.problem == "", "what was found stays found"
    watch = FileWatch(config(**{name: str(path) for name, path in own.items()}))
    for path, source in zip(own.values(), authority.signs("late", days=-1), strict=True):
        path.write_bytes(source.read_bytes())
    assert later(6) == later(11) == "" and "the new one has expired" in watch.problem
    (tmp_path / "k").unlink()
    assert later(6) == later(11) == "" and "cannot be read" in watch.problem
    for path, source in zip(own.values(), other, strict=True):
        path.write_bytes(source.read_bytes())
    assert later(6) == later(11) == "" and watch.problem == "", "as it was"


def test_a_key_with_a_password_is_tried_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, now = Authority(tmp_path), [1_000.0]
    monkeypatch.setattr(certificates.time, "monotonic", lambda: now[0])

    def put(name: str) -> None:
        pair = authority.signs(name)
        key: Any = serialization.load_pem_private_key(pair.key.read_bytes(), None)
        locked = serialization.BestAvailableEncryption(b"word")
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
        (tmp_path / "k").write_bytes(key.private_bytes(*form))
        (tmp_path / "c").write_bytes(pair.cert.read_bytes())

    put("one")
    own = {"ssl_certificate_location": f"{tmp_path}/c", "ssl_key_location": f"{tmp_path}/k"}
    watch = FileWatch(config(**own, ssl_key_password="word"))
    wrong = FileWatch(config(**own, ssl_key_password="another"))
    put("other")
    for _ in range(2):
        now[0] += 11
        found = watch.replaced(), wrong.replaced()
    assert found == (f"{tmp_path}/c, {tmp_path}/k", "") and "cannot be used" in wrong.problem
    now[0] += 1
    assert watch.replaced(), "what was found stays found"


def test_without_files_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = FileWatch(config())
    monkeypatch.setattr(certificates.time, "monotonic", lambda: 1e12)
    assert watch.replaced() == ""


def test_an_issuer_is_believed_with_the_systems_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle").touch()
    monkeypatch.setattr("stream_ml.kafka.clients.AUTHORITIES", (str(tmp_path / "none"), str(tmp_path / "bundle")))
    method = {"sasl.oauthbearer.method": "oidc"}

    def of(**more: str) -> dict[str, Any]:
        properties = {**method, **{name.replace("_", "."): value for name, value in more.items()}}
        return authorities_of_issuer(small_config(kafka={"bootstrap_servers": "x", "properties": properties}))

    assert of() == {"https.ca.location": str(tmp_path / "bundle")}
    assert of(https_ca_location="own.pem") == of(https_ca_pem="x") == {}
    assert authorities_of_issuer(config()) == {}


# --- refusals ---

AUTHENTICATION, SSL, TRANSPORT = KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._TRANSPORT
SAID = {  # as librdkafka 2.16 says it (tried)
    "Failed to acquire SASL OAUTHBEARER token: Failed to connect to 127.0.0.1:1 Could not connect to server": "issuer",
    'Failed to acquire SASL OAUTHBEARER token: {"error":"invalid_client"}': "issuer refuses",
    "SASL OAUTHBEARER mechanism handshake failed: Broker: Request not valid": "login",
    'SASL authentication error: {"status":"invalid_token"}': "login",
}


SAID |= {
    'Failed to acquire SASL OAUTHBEARER token: "https://i:400/token" Timeout was reached': "issuer",
    "Failed to acquire SASL OAUTHBEARER token: HTTP 429": "issuer",
}


@pytest.mark.parametrize(("text", "who"), SAID.items())
def test_who_refuses_is_told_from_what_the_client_says(text: str, who: str) -> None:
    found = Refusals()
    found.note(KafkaError(AUTHENTICATION, text))
    assert found.recent is not None and found.recent.who == who


def test_an_alert_about_a_certificate_is_no_lost_connection() -> None:
    found = Refusals()
    found.note(KafkaError(TRANSPORT, "Disconnected"))
    assert found.recent is None
    found.note(
        KafkaError(TRANSPORT, "Receive failed: ssl/tls alert certificate unknown: SSL alert number 46 (in state)")
    )
    assert found.recent is not None and found.recent.who == "own certificate" and not found.recent.passes
    found.note(KafkaError(SSL, "SSL handshake failed: broker certificate could not be verified, verify that ssl.ca"))
    assert found.recent.who == "broker certificate"


def test_who_has_no_token_is_refused_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Refusals()
    found.note(KafkaError(AUTHENTICATION, next(iter(SAID))))
    found.note(KafkaError(AUTHENTICATION, "SASL OAUTHBEARER mechanism handshake failed: x"))
    assert found.recent is not None and found.recent.who == "issuer" and found.recent.passes
    later = time.monotonic() + RECENT_S + 1
    monkeypatch.setattr(refusals.time, "monotonic", lambda: later)
    assert found.recent is None, "it explains nothing any more"


def test_each_refusal_has_its_own_words(tmp_path: Path) -> None:
    pair = Authority(tmp_path).signs("one", days=-1)
    named = config(ssl_certificate_location=str(pair.cert))
    found = Refusals()
    found.note(KafkaError(TRANSPORT, "alert certificate expired: SSL alert number 45"))
    assert found.recent is not None
    message, hint = words_of(found.recent, named)
    when = x509.load_pem_x509_certificate(pair.cert.read_bytes()).not_valid_after_utc
    assert f"{pair.cert} expired {when.astimezone(datetime.UTC):%Y-%m-%d}" in message and "truststore" in hint
    message, _ = words_of(found.recent, config())
    assert "none is named (ssl.certificate.location)" in message
    found.note(KafkaError(AUTHENTICATION, next(iter(SAID))))
    with_secret = URL.replace("https://", "https://svc:hunter2@") + "?api_key=s3cret"
    message, hint = words_of(found.recent, config(sasl_oauthbearer_token_endpoint_url=with_secret))
    assert "hunter2" not in message and "s3cret" not in message
    assert f"the issuer at {URL} does not answer" in message and "https.ca.location" in hint
