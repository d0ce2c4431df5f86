"""How the brokers answer, out of librdkafka's own statistics: round trips and throttling, every few seconds."""

import json
from typing import Any, NamedTuple

INTERVAL_MS = 15_000  # librdkafka writes and this parses some 10 kB then


class Answers(NamedTuple):
    """Of the slowest broker, in seconds; `up` counts the brokers that are connected."""

    mean_s: float
    p99_s: float
    throttle_s: float
    up: int


class BrokerStatistics:
    """What one client last said of its brokers."""

    def __init__(self) -> None:
        self.last: Answers | None = None

    def settings(self) -> dict[str, Any]:
        """Keys that make a client report here, out of its own poll or flush."""
        return {"statistics.interval.ms": INTERVAL_MS, "stats_cb": self.take}

    def take(self, text: str) -> None:
        """Take a report of librdkafka's (STATISTICS.md: rtt and throttle are windows in microseconds and ms)."""
        brokers = [of for of in json.loads(text)["brokers"].values() if of["nodeid"] >= 0 and of["state"] == "UP"]
        self.last = Answers(
            max((of["rtt"]["avg"] for of in brokers), default=0) / 1e6,
            max((of["rtt"]["p99"] for of in brokers), default=0) / 1e6,
            max((of["throttle"]["avg"] for of in brokers), default=0) / 1e3,
            len(brokers),
        )
