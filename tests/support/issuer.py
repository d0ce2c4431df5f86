"""An issuer of tokens (OAuth 2.0 client credentials, RFC 6749 section 4.4, keys by RFC 7517) that can fail."""

import base64
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.local_server import Quiet, served

SECRET = "the-secret-of-the-client"


class Issuer:
    """What it says from now on.

    Attributes
    ----------
    lives_s
        Of a token.
    fails
        away: the connection is closed; hangs; broken: 500; secret: it believes another one; "" none of it.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.audience, self.lives_s, self.fails, self.asked = "kafka", 20, "", 0
        self._key = rsa.generate_private_key(65_537, 2_048)
        self.ended = threading.Event()

    @property
    def keys(self) -> dict[str, Any]:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": "one", "use": "sig", "alg": "RS256"}]}

    def token(self, subject: str, key: Any = None) -> str:
        """One for a subject; with another key: forged."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": self.audience, "sub": subject, "iat": now, "exp": now + self.lives_s}
        return jwt.encode(claims, key or self._key, "RS256", headers={"kid": "one"})

    def properties(self, subject: str) -> dict[str, Any]:
        """librdkafka's settings of a client that logs in so."""
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": subject,
            "sasl.oauthbearer.client.secret": SECRET,
            "sasl.oauthbearer.token.endpoint.url": f"{self.url}/token",
        }


@contextmanager
def issuer() -> Iterator[Issuer]:
    """One on a free port of this machine."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            self._say(200, made.keys)

        def do_POST(self) -> None:
            form = self.sent()
            made.asked += 1
            if made.fails == "away":
                self.close_connection = True
                return
            if made.fails == "hangs":
                made.ended.wait(30)
                return
            if made.fails == "broken":
                self._say(500, {"error": "server_error"})
                return
            client, _, secret = _credentials(self.headers.get("Authorization", ""))
            assert b"grant_type=client_credentials" in form
            if secret != SECRET or made.fails == "secret":
                self._say(401, {"error": "invalid_client", "error_description": "who is that?"})
                return
            self._say(200, {"access_token": made.token(client), "token_type": "Bearer", "expires_in": made.lives_s})

        def _say(self, status: int, value: Any) -> None:
            self.answer(status, json.dumps(value).encode(), "application/json")

    with served(Handler) as port:
        made = Issuer(port)
        try:
            yield made
        finally:
            made.ended.set()


def _credentials(header: str) -> tuple[str, str, str]:
    """Of HTTP's basic scheme; RFC 6749 wants both parts encoded as in a form."""
    text = base64.b64decode(header.removeprefix("Basic ")).decode()
    client, colon, secret = text.partition(":")
    return urllib.parse.unquote_plus(client), colon, urllib.parse.unquote_plus(secret)
