"""Tokens of an issuer (JWT, RFC 7519), verified with the keys that it publishes (JWKS, RFC 7517).

1. The algorithm is looked at first, and only the configuration says which ones there are: none that shares a secret.
2. A token that was right is remembered by its digest, until it expires or for a few minutes: verifying costs more than
   the rest of a request.
3. The last good keys serve through an outage of the issuer. A key id that nobody knows asks it once in a while.
"""

import asyncio
import hashlib
import json
import logging
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jwt

from stream_ml.config.serve import SCOPES, Jwt
from stream_ml.core.api.problems import Problem
from stream_ml.serve.access.guard import Principal

REMEMBERED_MAX, REMEMBERED_S = 10_000, 300.0
FRESH_S = 600.0  # of the issuer's keys; then they are asked for again, beside requests
AGAIN_S = 10.0  # between two questions to the issuer
TIMEOUT_S = 5.0
ANSWER_MAX = 2**20  # bytes of an issuer's answer
KEYS_MAX = 100
TOKEN_MAX = 8_192  # characters
_KINDS = ("RSA", "EC", "OKP")

log = logging.getLogger(__name__)

Fetch = Callable[[str], bytes]


def fetched(url: str) -> bytes:
    """What an issuer answers, read to its limit; OSError or ValueError where it does not."""
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the configuration allows https only
        found: bytes = answer.read(ANSWER_MAX + 1)
    if len(found) > ANSWER_MAX:
        raise ValueError(f"it has more than {ANSWER_MAX:,} bytes")
    return found


def keys_of(text: bytes) -> dict[str, jwt.PyJWK]:
    """The public keys of an issuer's answer, by their id; ValueError where there is none that can be used."""
    said = json.loads(text)
    listed = said.get("keys") if isinstance(said, dict) else None
    found = {}
    for one in listed[:KEYS_MAX] if isinstance(listed, list) else ():
        is_public = isinstance(one, dict) and one.get("kty") in _KINDS and one.get("use", "sig") == "sig"
        if not is_public or not isinstance(one.get("kid", ""), str):
            continue
        try:
            found[one.get("kid", "")] = jwt.PyJWK(one)
        except (jwt.PyJWTError, ValueError, KeyError, TypeError):  # of a kind that nobody knows here
            continue
    if not found:
        raise ValueError("it holds no public key that can be used")
    return found


class Tokens:
    """Verifies tokens of one issuer; one event loop only.

    Attributes
    ----------
    problem
        Why the keys of before are used; empty where nothing is wrong.
    """

    def __init__(self, settings: Jwt, fetch: Fetch = fetched) -> None:
        self._settings, self._fetch = settings, fetch
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_s = self._asked_s = -FRESH_S
        self._asking: asyncio.Task[None] | None = None
        self._remembered: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self.problem = ""

    async def principal(self, token: str) -> Principal | None:
        """Whom a token names; None where it is not right, Problem where the issuer has never answered."""
        digest, now_s = hashlib.sha256(token.encode()).digest(), time.time()
        known = self._remembered.get(digest)
        if known is not None:
            if known[1] > now_s:
                return known[0]
            del self._remembered[digest]
        key = await self._key_of(token)
        found = None if key is None else self._verified(token, key)
        if found is None:
            return None
        principal, expires_s = found
        self._remembered[digest] = principal, min(expires_s, now_s + REMEMBERED_S)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return principal

    async def _key_of(self, token: str) -> jwt.PyJWK | None:
        """The key that a token says it is signed with."""
        if len(token) > TOKEN_MAX or token.count(".") != 2:
            return None
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        if header.get("alg") not in self._settings.algorithms:
            return None
        key_id = header.get("kid", "")
        if not isinstance(key_id, str):
            return None
        if key_id not in self._keys:
            await self._ask()
        elif time.monotonic() - self._fetched_s > FRESH_S:
            self._begin()
        if not self._keys:
            raise Problem(
                "no-keys", f"the issuer's keys cannot be fetched: {self.problem}", headers={"Retry-After": "10"}
            )
        return self._keys.get(key_id)

    def _verified(self, token: str, key: jwt.PyJWK) -> tuple[Principal, float] | None:
        settings = self._settings
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(settings.algorithms),
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway / 1000,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            name, expires_s = str(claims["sub"])[:64], float(claims["exp"]) + settings.leeway / 1000
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        return Principal(name, _scopes(claims.get(settings.scope_claim)), None, f"token:{claims['sub']}"), expires_s

    # --- the issuer's keys ---

    def _begin(self) -> None:
        """Ask the issuer, unless that is being done, or was just now."""
        if self._asking is None and time.monotonic() - self._asked_s >= AGAIN_S:
            self._asked_s = time.monotonic()
            self._asking = asyncio.create_task(self._refresh())

    async def _ask(self) -> None:
        """The same, waited for: all who ask at once share one question."""
        self._begin()
        if self._asking is not None:
            await asyncio.shield(self._asking)

    async def _refresh(self) -> None:
        try:
            self._keys = keys_of(await asyncio.to_thread(self._fetch, self._settings.jwks_url))
            self._fetched_s, self.problem = time.monotonic(), ""
        except (OSError, ValueError, RecursionError) as error:
            words = f"{self._settings.jwks_url}: {getattr(error, 'reason', None) or error}"[:300]
            if words != self.problem:
                log.error("the issuer's keys could not be read, those of before stay: %s", words)
            self.problem = words
        finally:
            self._asking = None


def _scopes(said: Any) -> frozenset[str]:
    """What a claim allows: words, or a list of them."""
    words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
    return frozenset(word for word in words if word in SCOPES)
