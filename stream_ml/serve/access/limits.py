"""How much is done for whom: requests a second of a credential, refused credentials of an address, requests at once."""

import time
from collections import OrderedDict

from stream_ml.core.api.problems import Problem

KNOWN_MAX = 10_000  # credentials and addresses that are remembered
FAILURES, FAILURES_S = 20, 60.0  # wrong credentials of an address in such a time; beyond it it waits


class Bucket:
    """Tokens that come back at a rate, up to as many as it holds."""

    __slots__ = ("_holds", "_left", "_rate", "_seen_s")

    def __init__(self, rate: float, holds: float, now_s: float) -> None:
        self._rate, self._holds, self._left, self._seen_s = rate, holds, holds, now_s

    def wait_s(self, now_s: float) -> float:
        """Take one; else the seconds until there is one."""
        self._left = min(self._holds, self._left + (now_s - self._seen_s) * self._rate)
        self._seen_s = now_s
        if self._left >= 1.0:
            self._left -= 1.0
            return 0.0
        return (1.0 - self._left) / self._rate

    def holds_at(self, rate: float, holds: float) -> None:
        """Go on with this rate: a key's may have been changed."""
        self._rate, self._holds = rate, holds

    @property
    def left(self) -> int:
        """How many there are."""
        return int(self._left)


class Buckets:
    """Buckets by name; of too many the oldest is forgotten."""

    def __init__(self) -> None:
        self._by_name: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, name: str, rate: float, holds: float, now_s: float) -> Bucket:
        """The bucket of a name; a full one where there was none."""
        found = self._by_name.get(name)
        if found is None:
            found = self._by_name[name] = Bucket(rate, holds, now_s)
            if len(self._by_name) > KNOWN_MAX:
                self._by_name.popitem(last=False)
        found.holds_at(rate, holds)
        return found

    def clear(self) -> None:
        """Forget all."""
        self._by_name.clear()


class Rates:
    """Requests of each credential; of so many a second a second's worth may come at once."""

    def __init__(self) -> None:
        self._buckets = Buckets()

    def take(self, name: str, rate: float) -> None:
        """Take one of a credential's; Problem where there is none."""
        now_s = time.monotonic()
        bucket = self._buckets.of(name, rate, max(1.0, rate), now_s)
        wait_s = bucket.wait_s(now_s)
        if wait_s > 0:
            seconds = max(1, round(wait_s + 0.5))
            raise Problem(
                "rate-limited",
                f"at most {rate:g} requests a second of one credential, in each process",
                headers={
                    "Retry-After": str(seconds),
                    "RateLimit-Policy": f'"default";q={max(1, int(rate))};w=1',
                    "RateLimit": f'"default";r={bucket.left};t={seconds}',
                },
            )


class Failures:
    """Wrong credentials of each address."""

    def __init__(self) -> None:
        self.buckets = Buckets()

    def note(self, address: str) -> None:
        """Note a wrong one; Problem where there were too many."""
        now_s = time.monotonic()
        bucket = self.buckets.of(address, FAILURES / FAILURES_S, FAILURES, now_s)
        if bucket.wait_s(now_s) > 0:
            raise Problem(
                "rate-limited",
                f"more than {FAILURES} wrong credentials a minute from this address",
                headers={"Retry-After": str(int(FAILURES_S / FAILURES))},
            )
