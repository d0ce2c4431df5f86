"""Answers that are given again: requests that write may bring an Idempotency-Key (draft-ietf-httpapi-idempotency-key).

1. The key belongs to who asks, and to the body that it came with first.
2. What was written and confirmed is answered again as it was; what failed is done again.
3. One process remembers them. Another one does not know the key, and the ids in the body make the repeat harmless.
"""

import hashlib
import re
import time
from collections import OrderedDict
from typing import NamedTuple

from stream_ml.core.api.problems import Problem
from stream_ml.serve.http.messages import Answer, Handler, Request

KEPT_S, KEPT_MAX = 600.0, 10_000
KEPT_BYTES = 64 * 2**20  # of all answers
HEADER = b"idempotency-key"
_KEY = re.compile(rb"[!-~]{1,255}")
_REPLAYED = (b"idempotency-replayed", b"true")


class _Kept(NamedTuple):
    digest: bytes
    until_s: float
    answer: Answer | None  # None: it is still being answered


class Repeats:
    """Remembers answers of one process; one event loop only."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, bytes], _Kept] = OrderedDict()
        self._bytes = 0

    def once(self, handler: Handler) -> Handler:
        """A handler that answers a repeated request as it did the first time.

        Raises
        ------
        Problem
            in-progress: the first one is still answered; key-reused: the body is another one.
        """

        async def answer(request: Request) -> Answer:
            key = request.headers.get(HEADER)
            if key is None:
                return await handler(request)
            checked_key(key)
            return await self._once(handler, request, (request.principal, request.path, key))

        return answer

    async def _once(self, handler: Handler, request: Request, name: tuple[str, str, bytes]) -> Answer:
        digest = hashlib.sha256(request.query + b"\n" + request.body).digest()
        known = self._kept.get(name)
        if known is not None and known.until_s > time.monotonic():
            if known.digest != digest:
                raise Problem("key-reused", "this Idempotency-Key came with another body before")
            if known.answer is None:
                words = "the first request with this Idempotency-Key is still answered"
                raise Problem("in-progress", words, headers={"Retry-After": "1"})
            return known.answer._replace(headers=[*known.answer.headers, _REPLAYED])
        self._forget(name)
        self._kept[name] = _Kept(digest, time.monotonic() + KEPT_S, None)
        try:
            found = await handler(request)
        except BaseException:
            self._forget(name)
            raise
        self._kept[name] = _Kept(digest, time.monotonic() + KEPT_S, found)
        self._bytes += len(found.body)
        while len(self._kept) > KEPT_MAX or self._bytes > KEPT_BYTES:
            self._forget(next(iter(self._kept)))
        return found

    def _forget(self, name: tuple[str, str, bytes]) -> None:
        known = self._kept.pop(name, None)
        if known is not None and known.answer is not None:
            self._bytes -= len(known.answer.body)


def checked_key(key: bytes) -> str:
    """An Idempotency-Key as text; Problem where it is none."""
    if not _KEY.fullmatch(key):
        raise Problem("not-readable", "Idempotency-Key has 1 to 255 characters of ASCII, none of them a space")
    return key.decode()
