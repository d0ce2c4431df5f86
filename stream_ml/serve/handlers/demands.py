"""How fresh a caller wants its answer: at least a position, after a label, at most so old; waited for a while."""

import re
from collections.abc import Mapping

from stream_ml.config import Config
from stream_ml.core.api.problems import Problem
from stream_ml.serve.live import Live

WAIT_MAX_S = 30.0
_POSITION = re.compile(r"(?:([0-9a-f]{16})/)?(\d{1,18})")
_RECEIPT = re.compile(r"f:(\d{1,9}):(\d{1,18})")
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,4}(?:\.\d{1,3})?)(?:$|[,;\s])")


def parse_receipt(text: str) -> tuple[int, int]:
    """Partition and offset of a label; Problem where the text is no receipt."""
    match = _RECEIPT.fullmatch(text)
    if match is None:
        raise Problem("not-readable", "a receipt of a label is f:PARTITION:OFFSET, as POST /v1/feedback gives it")
    return int(match[1]), int(match[2])


class Demands:
    """Judges the headers Stream-ML-Min-Position, Stream-ML-After, Stream-ML-Max-Age and Prefer: wait."""

    def __init__(self, config: Config, live: Live) -> None:
        self._settings, self._live = config.serve, live

    async def met(self, headers: Mapping[bytes, bytes]) -> None:
        """Wait until the model is as fresh as the caller wants it; Problem where that does not come in time."""
        position, after = headers.get(b"stream-ml-min-position"), headers.get(b"stream-ml-after")
        if position is not None or after is not None:
            self._live.answering()
            wait_s = self._wait_s(headers)
            if position is not None:
                await self._position(position.decode("latin-1"), wait_s)
            if after is not None:
                await self._after(after.decode("latin-1"), wait_s)
        self._young_enough(headers.get(b"stream-ml-max-age"))

    def _wait_s(self, headers: Mapping[bytes, bytes]) -> float:
        match = _PREFER_WAIT.search(headers.get(b"prefer", b"").decode("latin-1"))
        return self._settings.wait / 1000 if match is None else min(WAIT_MAX_S, float(match[1]))

    async def _position(self, text: str, wait_s: float) -> None:
        match = _POSITION.fullmatch(text.strip())
        if match is None:
            raise Problem(
                "not-readable", "Stream-ML-Min-Position is POSITION or LINEAGE/POSITION, as an answer says it"
            )
        lineage, least = match[1], int(match[2])
        of = self._live.answering().of
        if lineage is not None and lineage != of.lineage:
            raise Problem("lineage", f"model {of.lineage} answers here, not {lineage}", lineage=of.lineage)
        if not await self._live.wait(lambda: self._live.answering().of.position >= least, wait_s):
            has = self._live.answering().of.position
            words = f"position {least:,} is not here yet: this replica is at {has:,}"
            raise Problem("behind", words, headers={"Retry-After": "1"}, position=has)

    async def _after(self, text: str, wait_s: float) -> None:
        partition, offset = parse_receipt(text.strip())
        if not await self._live.wait(lambda: self._live.has_learned(partition, offset), wait_s):
            has = self._live.answering().of.position
            words = f"label {text.strip()} is not learned here: GET /v1/labels/{text.strip()} says what became of it"
            raise Problem("behind", words, headers={"Retry-After": "1"}, position=has)

    def _young_enough(self, text: bytes | None) -> None:
        most_ms = self._settings.age_max
        if text is not None:
            if not text.isdigit() or len(text) > 12:
                raise Problem("not-readable", "Stream-ML-Max-Age is a number of milliseconds")
            most_ms = min(int(text), most_ms) if most_ms is not None else int(text)
        if most_ms is not None and self._live.age_s * 1000 > most_ms:
            words = f"the model is {self._live.age_s:.1f} s old, and at most {most_ms / 1000:g} s were asked for"
            raise Problem("stale", words, headers={"Retry-After": "1"})
