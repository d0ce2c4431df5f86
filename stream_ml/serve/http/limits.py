"""How much is done for whom: requests a second of a credential, refused credentials of an address, requests at once."""

import time
from collections import OrderedDict

from stream_ml.core.api.problems import Problem

KNOWN_MAX = 10_000  # credentials and addresses that are remembered
FAILURES, FAILURES_S = 20, 60.0  # wrong credentials of an address in such a time; beyond it it waits


class Bucket:
    """Tokens that come back at a rate, at most a second's worth and one."""

    __slots__ = ("_left", "_rate", "_seen_s")

    def __init__(self, rate: float, now_s: float) -> None:
        self._rate, self._left, self._seen_s = rate, max(1.0, rate), now_s

    def wait_s(self, now_s: float) -> float:
        """Take one; else the seconds until there is one."""
        self._left = min(max(1.0, self._rate), self._left + (now_s - self._seen_s) * self._rate)
        self._seen_s = now_s
        if self._left >= 1.0:
            self._left -= 1.0
            return 0.0
        return (1.0 - self._left) / self._rate

    @property
    def left(self) -> int:
        """How many there are."""
        return int(self._left)


class Rates:
    """Token buckets by name; of too many the oldest is forgotten."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, name: str, rate: float) -> None:
        """Take one of a credential's; Problem where there is none."""
        now_s = time.monotonic()
        bucket = self._of(name, rate, now_s)
        wait_s = bucket.wait_s(now_s)
        if wait_s > 0:
            raise Problem(
                "rate-limited",
                f"at most {rate:g} requests a second of one credential, in each process",
                headers={
                    "Retry-After": str(max(1, round(wait_s + 0.5))),
                    "RateLimit-Policy": f'"default";q={max(1, int(rate))};w=1',
                    "RateLimit": f'"default";r={bucket.left};t={max(1, round(wait_s + 0.5))}',
                },
            )

    def _of(self, name: str, rate: float, now_s: float) -> Bucket:
        found = self._buckets.get(name)
        if found is None:
            found = self._buckets[name] = Bucket(rate, now_s)
            if len(self._buckets) > KNOWN_MAX:
                self._buckets.popitem(last=False)
        return found


class Failures:
    """Wrong credentials by address."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def check(self, address: str) -> None:
        """Note a wrong one; Problem where there were too many."""
        now_s = time.monotonic()
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = Bucket(FAILURES / FAILURES_S, now_s)
            bucket._left = float(FAILURES)  # noqa: SLF001
            if len(self._buckets) > KNOWN_MAX:
                self._buckets.popitem(last=False)
        if bucket.wait_s(now_s) > 0:
            raise Problem(
                "rate-limited",
                f"more than {FAILURES} wrong credentials a minute from this address",
                headers={"Retry-After": str(int(FAILURES_S / FAILURES))},
            )
