"""How fresh a caller wants its answer: at least a position, after a label, at most so old; waited for a while."""

import re
from collections.abc import Mapping
from itertools import starmap

from stream_ml.config import Config
from stream_ml.core.api.problems import Problem
from stream_ml.core.api.scoring import Moment
from stream_ml.serve.live import Live

WAIT_MAX_S = 30.0
RECEIPTS_MAX = 1_024  # that one request waits for: partitions
_POSITION = re.compile(r"(?:([0-9a-f]{16})/)?(\d{1,18})")
_RECEIPT = re.compile(r"f:(\d{1,9}):(\d{1,18})")
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,4}(?:\.\d{1,3})?)(?:$|[,;\s])")


def parse_receipt(text: str) -> tuple[int, int]:
    """Partition and offset of a label; Problem where the text is no receipt."""
    match = _RECEIPT.fullmatch(text)
    if match is None:
        raise Problem("not-readable", "a receipt of a label is f:PARTITION:OFFSET, as POST /v1/feedback gives it")
    return int(match[1]), int(match[2])


def _receipts(text: bytes) -> list[tuple[int, int]]:
    found = [parse_receipt(one.strip()) for one in text.decode("latin-1").split(",")[: RECEIPTS_MAX + 1]]
    if len(found) > RECEIPTS_MAX:
        raise Problem("not-readable", f"at most {RECEIPTS_MAX} receipts, one for each partition")
    return found


def _position(text: bytes) -> tuple[str, int]:
    """Lineage, perhaps empty, and position."""
    match = _POSITION.fullmatch(text.decode("latin-1").strip())
    if match is None:
        raise Problem("not-readable", "Stream-ML-Min-Position is POSITION or LINEAGE/POSITION, as an answer says it")
    return match[1] or "", int(match[2])


class Demands:
    """Judges the headers Stream-ML-Min-Position, Stream-ML-After, Stream-ML-Max-Age and Prefer: wait."""

    def __init__(self, config: Config, live: Live) -> None:
        self._settings, self._live = config.serve, live

    async def met(self, headers: Mapping[bytes, bytes]) -> Moment:
        """Wait until the model is as fresh as the caller wants it; who answers then.

        Raises
        ------
        Problem
            That does not come in time. Nothing is awaited between the last look and the return.
        """
        position, after = headers.get(b"stream-ml-min-position"), headers.get(b"stream-ml-after")
        if position is not None or after is not None:
            least = _position(position) if position is not None else ("", 0)
            receipts = _receipts(after) if after is not None else []
            self._live.answering()

            def is_here() -> bool:
                of = self._live.answering().of
                is_other = least[0] not in ("", of.lineage)
                return is_other or (of.position >= least[1] and all(starmap(self._live.has_learned, receipts)))

            await self._live.wait(is_here, self._wait_s(headers))
            self._judge(least, receipts)
        self._young_enough(headers.get(b"stream-ml-max-age"))
        return self._live.answering()

    def _judge(self, least: tuple[str, int], receipts: list[tuple[int, int]]) -> None:
        of = self._live.answering().of
        if least[0] not in ("", of.lineage):
            raise Problem("lineage", f"model {of.lineage} answers here, not {least[0]}", lineage=of.lineage)
        again = {"Retry-After": "1"}
        if of.position < least[1]:
            words = f"position {least[1]:,} is not here yet: this replica is at {of.position:,}"
            raise Problem("behind", words, headers=again, position=of.position)
        for partition, offset in receipts:
            if not self._live.has_learned(partition, offset):
                words = f"label f:{partition}:{offset} is not learned here, nor a later one of its partition"
                raise Problem("behind", words, headers=again, position=of.position)

    def _wait_s(self, headers: Mapping[bytes, bytes]) -> float:
        match = _PREFER_WAIT.search(headers.get(b"prefer", b"").decode("latin-1"))
        return self._settings.wait / 1000 if match is None else min(WAIT_MAX_S, float(match[1]))

    def _young_enough(self, text: bytes | None) -> None:
        """Problem where the model is older than the operator allows, or than the caller wants: that is no 503, for a
        balancer would take a healthy process away."""
        age_ms, allowed_ms = self._live.age_s * 1000, self._settings.age_max
        if text is not None and (not text.isdigit() or len(text) > 12):
            raise Problem("not-readable", "Stream-ML-Max-Age is a number of milliseconds")
        if allowed_ms is not None and age_ms > allowed_ms:
            raise _too_old("stale", age_ms, allowed_ms)
        if text is not None and age_ms > int(text):
            raise _too_old("older", age_ms, int(text))


def _too_old(kind: str, age_ms: float, most_ms: int) -> Problem:
    words = f"the model is {age_ms / 1000:.1f} s old; at most {most_ms / 1000:g} s"
    return Problem(kind, words, headers={"Retry-After": "1"})
