"""Every case: what runs, in which order in each round, and whether the quick run has it.

Cases whose ratio is asked for stand beside each other, so that the machine changes little between them.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.backlog import limit, peer, service
from benchmarks.latency import latency
from benchmarks.results import Result
from benchmarks.soak import soak
from benchmarks.stand import Stand
from benchmarks.start import start

PENDING = (10_000, 100_000, 1_000_000)
FEATURES = {10: 100_000, 100: 40_000, 300: 30_000}  # and events of so many: six batches of 5,000 at least
PARTITIONS = (16, 64)
RATES = (100, 1_000, 10_000)
LONG_TTL = {"ttl": "30d", "early_ttl": "1h"}
UNWATCHED = {"inputs": {"reference": 0}, "concept": {"detector": "none"}}
LONGER = 2.0  # the service learns a label one or two batches after its event: 8,000 of 200,000 events
ROOM = {"events_max": 2_000_000, "bytes_max": "8GiB"}


class Case(NamedTuple):
    """`rounds` is how often it runs at most."""

    name: str
    run: Callable[[Stand], Result]
    quick: bool = False
    rounds: int = 99


def _case(name: str, call: Callable[..., Result], *told: object, quick: bool = False, **more: object) -> Case:
    rounds = more.pop("rounds", 99)
    assert isinstance(rounds, int)
    return Case(name, functools.partial(_call, call, told, more), quick, rounds)


def _call(call: Callable[..., Result], told: tuple[object, ...], more: dict[str, object], stand: Stand) -> Result:
    return call(stand, *told, **more)


CASES = (
    _case("limit: consume", limit, "consume"),
    _case("limit: produce", limit, "produce"),
    _case("limit: transactions", limit, "transactions", quick=True),
    _case("service 10 %", service, 0.1, quick=True),
    _case("by hand 10 %", peer, "by_hand", 0.1, "second", quick=True),
    _case("quix exactly-once 10 %", peer, "quix", 0.1, "exactly-once", quick=True),
    _case("service 100 %", service, 1.0, scale=LONGER, quick=True),
    _case("by hand 100 %", peer, "by_hand", 1.0, "second", scale=LONGER, quick=True),
    _case("quix exactly-once 100 %", peer, "quix", 1.0, "exactly-once", scale=LONGER),
    _case("latency 1000/s", latency, 1_000.0, quick=True),
    _case("start", start, quick=True),
    _case("service 100 % watched", service, 1.0),
    _case("service 100 % unwatched", service, 1.0, drift=UNWATCHED),
    _case("service 100 % scraped 50/s", service, 1.0, scrapes=50.0),
    _case("service 0 %", service, 0.0),
    _case("service 1 % bad", service, 0.0, bad=True),
    _case("service 10 % 4 partitions", service, 0.1, partitions=4),
    _case("service 100 % 4 partitions", service, 1.0, partitions=4),
    _case("by hand, batch 10 %", peer, "by_hand", 0.1, "batch"),
    _case("by hand, batch 100 %", peer, "by_hand", 1.0, "batch"),
    _case("quix at-least-once 10 %", peer, "quix", 0.1, "at-least-once"),
    _case("quix at-least-once 100 %", peer, "quix", 1.0, "at-least-once"),
    _case("bytewax 10 %", peer, "bytewax", 0.1),
    _case("bytewax 100 %", peer, "bytewax", 1.0),
    _case("faust 10 %", peer, "faust", 0.1, scale=0.1),
    _case("faust 100 %", peer, "faust", 1.0, scale=0.1),
    *(_case(f"latency {rate}/s", latency, float(rate), rounds=2) for rate in RATES if rate != 1_000),
    *(_case(f"latency 1000/s {n} partitions", latency, 1_000.0, partitions=n, rounds=2) for n in (*PARTITIONS, 200)),
    *(_case(f"pending {count}", service, 0.0, count=count, feedback=LONG_TTL, pending=ROOM) for count in PENDING[:2]),
    _case(f"pending {PENDING[2]}", service, 0.0, count=PENDING[2], feedback=LONG_TTL, pending=ROOM, rounds=1),
    *(_case(f"features {n}", service, 0.1, features=n, count=count, rounds=2) for n, count in FEATURES.items()),
    *(_case(f"partitions {n}", service, 0.1, partitions=n, rounds=2) for n in PARTITIONS),
    _case("soak", soak, rounds=1),
)
