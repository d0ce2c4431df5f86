"""Tokens of an issuer (JWT, RFC 7519), verified with the keys that it publishes (JWKS, RFC 7517).

1. The algorithm is looked at first, and only the configuration says which ones there are: none that shares a secret.
2. A token that was right is remembered by its digest, until it expires, for a few minutes, or until the issuer's keys
   are others: verifying costs more than the rest of a request.
3. The last good keys serve through an outage of the issuer. A key id that nobody knows asks it once in a while, and
   keys that are old are asked for before one is believed: it may have been withdrawn.
"""

import asyncio
import hashlib
import http.client
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
OLD_S = 2 * FRESH_S  # beyond it they are waited for
AGAIN_S = 10.0  # between two questions to the issuer
TIMEOUT_S = 5.0
ANSWER_MAX = 2**20  # bytes of an issuer's answer
FETCH_S = 10.0  # all of it: a timeout is of each piece
KEYS_MAX = 100
UNNAMED_MAX = 4  # keys that a token without a key id is tried with
SUBJECT_MAX = 255  # characters (OpenID Connect Core, section 2)
TOKEN_MAX = 8_192  # characters
_KINDS = ("RSA", "EC", "OKP")

log = logging.getLogger(__name__)

Fetch = Callable[[str], bytes]


class _Secure(urllib.request.HTTPRedirectHandler):
    """Follows to https only: who can change what is fetched by anything else makes tokens of his own."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.lower().startswith("https://"):
            raise ValueError(f"it leads to {newurl[:200]}, which is no https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetched(url: str) -> bytes:
    """What an issuer answers, read to its limits; OSError, ValueError or HTTPException where it does not."""
    until_s, found = time.monotonic() + FETCH_S, bytearray()
    with urllib.request.build_opener(_Secure).open(url, timeout=TIMEOUT_S) as answer:
        while piece := answer.read1(65_536):
            found += piece
            if len(found) > ANSWER_MAX:
                raise ValueError(f"it has more than {ANSWER_MAX:,} bytes")
            if time.monotonic() > until_s:
                raise TimeoutError(f"it is not all here after {FETCH_S:.0f} s")
    return bytes(found)


def keys_of(text: bytes) -> dict[str, list[jwt.PyJWK]]:
    """The public keys of an issuer's answer, by their id; ValueError where there is none that can be used."""
    said = json.loads(text)
    listed = said.get("keys") if isinstance(said, dict) else None
    found = dict[str, list[jwt.PyJWK]]()
    for one in listed[:KEYS_MAX] if isinstance(listed, list) else ():
        is_public = isinstance(one, dict) and one.get("kty") in _KINDS and one.get("use", "sig") == "sig"
        if not is_public or not isinstance(one.get("kid", ""), str):
            continue
        try:
            key = jwt.PyJWK(one)
        except (jwt.PyJWTError, ValueError, KeyError, TypeError):  # of a kind that nobody knows here
            continue
        found.setdefault(one.get("kid", ""), []).append(key)
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
        self._keys: dict[str, list[jwt.PyJWK]] = {}
        self._text = b""  # that they were read from
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
        keys = await self._keys_of(token)
        found = next(filter(None, (self._verified(token, key) for key in keys)), None)
        if found is None:
            return None
        principal, expires_s = found
        self._remembered[digest] = principal, min(expires_s, now_s + REMEMBERED_S)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return principal

    async def _keys_of(self, token: str) -> list[jwt.PyJWK]:
        """The key that a token says it is signed with; of one that says none those of its algorithm."""
        if len(token) > TOKEN_MAX or token.count(".") != 2:
            return []
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            return []
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if algorithm not in self._settings.algorithms or not isinstance(key_id, str):
            return []
        age_s = time.monotonic() - self._fetched_s
        if age_s > OLD_S or (key_id and key_id not in self._keys):
            await self._ask()
        elif age_s > FRESH_S:
            self._begin()
        if not self._keys:
            raise Problem(
                "no-keys", f"the issuer's keys cannot be fetched: {self.problem}", headers={"Retry-After": "10"}
            )
        if key_id:
            return self._keys.get(key_id, [])[:UNNAMED_MAX]
        each = (key for keys in self._keys.values() for key in keys)
        return [key for key in each if key.algorithm_name == algorithm][:UNNAMED_MAX]

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
            name, expires_s = str(claims["sub"]), float(claims["exp"]) + settings.leeway / 1000
            is_name = 0 < len(name) <= SUBJECT_MAX and bool(name.encode())  # half of a character is none
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        if not is_name:
            return None
        return Principal(name[:64], _scopes(claims.get(settings.scope_claim)), None, f"token:{name}"), expires_s

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
            text = await asyncio.to_thread(self._fetch, self._settings.jwks_url)
            keys = keys_of(text)
            if text != self._text:  # one may be withdrawn
                self._remembered.clear()
            self._keys, self._text, self._fetched_s, self.problem = keys, text, time.monotonic(), ""
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
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
