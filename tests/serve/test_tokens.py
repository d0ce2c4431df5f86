"""Tokens of an issuer: which are believed, how often it is asked, and what an outage of it does."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import http.client
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from stream_ml.config.serve import Jwt
from stream_ml.core.api.problems import Problem
from stream_ml.serve.access import tokens
from stream_ml.serve.access.guard import Principal
from stream_ml.serve.access.tokens import Tokens, keys_of
from tests.support.api import Api
from tests.support.follower_on_a_list import LINEAR, App, Log

ISSUER, AUDIENCE, URL = "https://issuer.test", "scores", "https://issuer.test/keys"
SETTINGS = Jwt(issuer=ISSUER, audience=AUDIENCE, jwks_url=URL)
RSA = rsa.generate_private_key(65_537, 2_048)
OTHER = rsa.generate_private_key(65_537, 2_048)
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
ALGORITHMS: dict[str, tuple[Any, Any]] = {
    "RS256": (RSA, jwt.algorithms.RSAAlgorithm),
    "ES256": (EC, jwt.algorithms.ECAlgorithm),
    "EdDSA": (ED, jwt.algorithms.OKPAlgorithm),
}


def public(name: str, kid: str, **more: Any) -> dict[str, Any]:
    key, algorithm = ALGORITHMS[name]
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


KEYS = [public("RS256", "r"), public("ES256", "e"), public("EdDSA", "d")]


def token(algorithm: str = "RS256", kid: str = "r", key: Any = None, **claims: Any) -> str:
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": now + 600, "scope": "predict other", **claims}
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, key or ALGORITHMS[algorithm][0], algorithm, headers={"kid": kid})


class Issuer:
    """Answers with keys, and counts how often it was asked."""

    def __init__(self, keys: list[dict[str, Any]] | None = None) -> None:
        self.keys, self.asked, self.is_away = KEYS if keys is None else keys, 0, False

    def __call__(self, url: str) -> bytes:
        assert url == URL
        self.asked += 1
        if self.is_away:
            raise OSError("it is away")
        return json.dumps({"keys": self.keys}).encode()


def believed(text: str, issuer: Issuer | None = None, settings: Jwt = SETTINGS) -> Principal | None:
    return asyncio.run(Tokens(settings, issuer or Issuer()).principal(text))


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "r"), ("ES256", "e"), ("EdDSA", "d")])
def test_a_right_token_names_who_asks_and_what_that_one_may(algorithm: str, kid: str) -> None:
    found = believed(token(algorithm, kid))
    assert found is not None and (found.name, found.scopes) == ("shop", frozenset({"predict"}))


def test_scopes_may_be_a_list_under_another_claim() -> None:
    settings = SETTINGS.model_copy(update={"scope_claim": "roles"})
    found = believed(token(roles=["feedback", "jobs", 3]), settings=settings)
    assert found is not None and found.scopes == {"feedback", "jobs"}


def _unsigned() -> str:
    parts = [
        {"alg": "none", "kid": "r"},
        {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": 2**33, "scope": "predict"},
    ]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def _with_public_key_as_secret() -> str:
    """HS256 whose secret is the public key that everybody has: as the algorithm of the header would have it."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body = token().split(".")[:2]
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"r"}').rstrip(b"=").decode()
    signature = hmac.new(pem, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _changed() -> str:
    head, body, signature = token().split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = base64.urlsafe_b64encode(json.dumps(said | {"sub": "boss"}).encode()).rstrip(b"=").decode()
    return f"{head}.{changed}.{signature}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(_unsigned(), id="alg none"),
        pytest.param(_with_public_key_as_secret(), id="HS256 with the public key"),
        pytest.param(_changed(), id="changed"),
        pytest.param(token(key=OTHER), id="another key under a known id"),
        pytest.param(token("ES256", "r"), id="another algorithm than the key's"),
        pytest.param(token(iss="https://else.test"), id="another issuer"),
        pytest.param(token(aud="else"), id="another audience"),
        pytest.param(token(exp=int(time.time()) - 3_600), id="expired"),
        pytest.param(token(nbf=int(time.time()) + 3_600), id="not yet"),
        pytest.param(token(exp=None), id="without exp"),
        pytest.param(token(aud=None), id="without aud"),
        pytest.param(token(iss=None), id="without iss"),
        pytest.param(token(sub=None), id="without sub"),
        pytest.param(token(sub=""), id="an empty sub"),
        pytest.param(token(sub="\ud800"), id="half of a character"),
        pytest.param(token(sub="x" * 256), id="a long sub"),
        pytest.param("a.b.c", id="no token"),
        pytest.param("..", id="empty"),
        pytest.param("x" * 10_000, id="long"),
        pytest.param(token(pad="x" * 9_000), id="a right one that is too long"),
    ],
)
def test_what_is_not_right_is_not_believed(text: str) -> None:
    assert believed(text) is None


def test_a_token_that_has_expired_by_the_other_clock_is_taken_within_the_leeway() -> None:
    assert believed(token(exp=int(time.time()) - 20)) is not None


def test_the_issuer_is_asked_once_by_all_who_come_at_once_and_for_unknown_keys_now_and_then() -> None:
    issuer = Issuer()

    async def ask() -> None:
        known = Tokens(SETTINGS, issuer)
        found = await asyncio.gather(*(known.principal(token(sub=f"s{n}")) for n in range(20)))
        assert all(found) and issuer.asked == 1
        for number in range(50):
            assert await known.principal(token(kid=f"unknown{number}")) is None
        assert issuer.asked == 1, "a flood of unknown ids is no flood at the issuer"
        issuer.keys = [*KEYS, public("RS256", "new")]
        known._asked_s -= tokens.AGAIN_S
        assert await known.principal(token(kid="new")) is not None and issuer.asked == 2

    asyncio.run(ask())


def test_a_key_that_is_withdrawn_admits_nobody_once_the_keys_are_read_again() -> None:
    issuer = Issuer()

    async def ask() -> None:
        known = Tokens(SETTINGS, issuer)
        assert await known.principal(token()) and await known.principal(token("ES256", "e"))
        issuer.keys = [public("ES256", "e")]
        known._fetched_s -= tokens.OLD_S + 1
        known._asked_s -= tokens.AGAIN_S
        assert await known.principal(token(sub="second")) is None, "keys that are old are asked for first"
        assert await known.principal(token()) is None, "what was remembered is forgotten"
        assert await known.principal(token("ES256", "e")) is not None

    asyncio.run(ask())


def test_keys_and_tokens_need_no_id() -> None:
    without = [{name: value for name, value in one.items() if name != "kid"} for one in KEYS]
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": now + 600, "scope": "predict"}
    for algorithm, (key, _) in ALGORITHMS.items():
        text = jwt.encode(claims, key, algorithm)
        assert believed(text, Issuer(without)) and believed(text, Issuer()), algorithm
    assert believed(jwt.encode(claims, OTHER, "RS256"), Issuer(without)) is None
    assert believed(token(kid="r"), Issuer(without)) is None


def test_an_issuer_that_breaks_off_is_away() -> None:
    def fetch(_: str) -> bytes:
        raise http.client.IncompleteRead(b"")

    with pytest.raises(Problem) as caught:
        asyncio.run(Tokens(SETTINGS, fetch).principal(token()))
    assert caught.value.kind == "no-keys"


def test_through_an_outage_the_last_keys_serve_and_without_any_nobody_is_called_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    issuer = Issuer()

    async def ask() -> None:
        known = Tokens(SETTINGS, issuer)
        assert await known.principal(token())
        issuer.is_away = True
        known._fetched_s -= tokens.FRESH_S + 1
        known._asked_s -= tokens.AGAIN_S
        assert await known.principal(token(sub="second")) is not None
        await asyncio.sleep(0.05)
        assert issuer.asked == 2 and "it is away" in known.problem
        assert await known.principal(token(sub="third")) is not None, "the last good keys serve on"
        with pytest.raises(Problem) as caught:
            await Tokens(SETTINGS, issuer).principal(token())
        assert (caught.value.kind, caught.value.status) == ("no-keys", 503)

    asyncio.run(ask())


def test_a_token_is_verified_once_and_forgotten_when_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    known, verified = Tokens(SETTINGS, Issuer()), list[str]()
    right = known._verified
    monkeypatch.setattr(known, "_verified", lambda text, key: verified.append(text) or right(text, key))

    async def ask() -> None:
        text = token()
        for _ in range(5):
            assert await known.principal(text)
        assert len(verified) == 1
        (digest,) = known._remembered
        known._remembered[digest] = known._remembered[digest][0], time.time() - 1
        assert await known.principal(text) and len(verified) == 2
        assert await known.principal(text[:-4] + "AAAA") is None, "only the very token is remembered"

    asyncio.run(ask())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b'{"keys": []}',
        b'{"keys": {}}',
        b'{"keys": [1, null, {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}]}',
        json.dumps({"keys": [{"kty": "RSA", "kid": "r", "n": "!", "e": "AQAB"}]}).encode(),
        json.dumps({"keys": [public("RS256", "r", use="enc")]}).encode(),
    ],
)
def test_an_answer_without_public_keys_to_verify_with_is_none(answer: bytes) -> None:
    with pytest.raises(ValueError):
        keys_of(answer)


@pytest.fixture(name="url")
def _url() -> Iterator[str]:
    """An issuer on this machine."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("location", self.path.removeprefix("/to/"))
                self.end_headers()
                return
            if self.path == "/endless":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(b" ")
                return
            body = json.dumps({"keys": KEYS}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/keys"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("to", ["http://127.0.0.1:1/keys", "file:///etc/passwd", "ftp://127.0.0.1/keys"])
def test_keys_are_not_fetched_from_where_everybody_may_write_on_the_way(url: str, to: str) -> None:
    with pytest.raises((ValueError, OSError), match=r"no https|not allowed"):
        tokens.fetched(url.removesuffix("/keys") + f"/to/{to}")


def test_an_answer_that_does_not_end_is_left_in_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece of it comes in time."""
    monkeypatch.setattr(tokens, "FETCH_S", 0.0)
    with pytest.raises(TimeoutError):
        tokens.fetched(url.removesuffix("/keys") + "/endless")


def test_the_api_admits_tokens_of_a_real_issuer(app: App, log: Log, url: str) -> None:
    settings = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": url}
    config = app.config(LINEAR, serve={"auth": {"jwt": settings}})
    app.serving(config)
    log.usual(50)
    api = Api(app, config)

    async def ask(text: str) -> int:
        body, headers = {"instances": [{"x": 1.0}]}, {"authorization": f"Bearer {text}"}
        return (await api.ask("POST", "/v1/predict", body, headers)).status

    async def all_of_them() -> list[int]:
        return [await ask(text) for text in (token(), token(scope="feedback"), _unsigned(), token(key=OTHER))]

    assert asyncio.run(all_of_them()) == [200, 403, 401, 401]
    without = asyncio.run(api.ask("POST", "/v1/predict", {"instances": [{"x": 1.0}]}))
    assert without.status == 401 and "TOKEN of the issuer" in without.json["detail"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"jwks_url": "http://issuer.test/keys"}, "https"),
        ({"jwks_url": "file:///etc/passwd"}, "https"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"issuer": ""}, "issuer"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Jwt.model_validate({"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": URL} | change)
