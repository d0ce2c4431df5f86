"""What was promised (issue 6, "Reach"): each measure with its floor and its aim, and what a run says of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.cases import PENDING
from benchmarks.results import Results, Spread

SERVICE, EVERY = "service 10 %", "service 100 %"
MEGA = 1e6


class Measure(NamedTuple):
    """A promise. `more` is whether larger is better; `unit` is written behind the figures."""

    name: str
    floor: float
    aim: float
    unit: str
    more: bool
    of: Callable[[Results], Spread | None]

    def verdict(self, found: Spread | None) -> str:
        """In words; judged by the median."""
        if found is None:
            return "not measured"
        for text, bound in (("aim reached", self.aim), ("floor reached", self.floor)):
            if found.median >= bound if self.more else found.median <= bound:
                return text
        return "BELOW the floor" if self.more else "ABOVE the bound"


def _ratio(case: str, other: str, name: str = "rate") -> Callable[[Results], Spread | None]:
    return lambda results: results.ratio(case, other, name)


def _value(case: str, name: str) -> Callable[[Results], Spread | None]:
    return lambda results: results.spread(case, name)


def pending_bytes(results: Results) -> Spread | None:
    """Resident bytes per pending event: the slope between the largest and the smallest size that ran."""
    sizes = [(count, results.spread(f"pending {count}", "memory_mb")) for count in PENDING]
    found = [(count, memory) for count, memory in sizes if memory is not None]
    if len(found) < 2:
        return None
    (few, low), (many, high) = found[0], found[-1]
    grown = (high.median - low.median, high.least - low.most, high.most - low.least)
    return Spread(*(mega * MEGA / (many - few) for mega in grown), runs=high.runs)


MEASURES = (
    Measure("10 % labelled / transactional echo", 0.4, 0.65, "", True, _ratio(SERVICE, "limit: transactions")),
    Measure("10 % labelled / loop by hand", 1.5, 2.5, "x", True, _ratio(SERVICE, "by hand 10 %")),
    Measure("10 % labelled / Quix exactly once", 3.0, 5.0, "x", True, _ratio(SERVICE, "quix exactly-once 10 %")),
    Measure(
        "all labelled and learned / loop by hand", 1.0, 1.25, "x", True, _ratio(EVERY, "by hand 100 %", "learned_rate")
    ),
    Measure("latency at 1,000/s, p50", 20, 10, " ms", False, _value("latency 1000/s", "p50_ms")),
    Measure("latency at 1,000/s, p99", 80, 40, " ms", False, _value("latency 1000/s", "p99_ms")),
    Measure("label to a prediction that knows it, p50", 60, 25, " ms", False, _value("latency 1000/s", "label_p50_ms")),
    Measure("memory per pending event", 500, 250, " bytes", False, pending_bytes),
    Measure("start to first poll", 2.0, 1.5, " s", False, _value("start", "start_s")),
    Measure("the same, started again", 2.0, 1.5, " s", False, _value("start", "restart_s")),
)

RATIOS = (
    ("10 % labelled, learning included / transactional echo", SERVICE, "limit: transactions", "learned_rate"),
    ("10 % labelled, learning included / loop by hand", SERVICE, "by hand 10 %", "learned_rate"),
    ("10 % labelled / loop by hand, commit each batch", SERVICE, "by hand, batch 10 %", "rate"),
    ("all learned / loop by hand, commit each batch", EVERY, "by hand, batch 100 %", "learned_rate"),
    ("all learned / Quix exactly once", EVERY, "quix exactly-once 100 %", "learned_rate"),
    ("10 % labelled / Quix at least once", SERVICE, "quix at-least-once 10 %", "rate"),
    ("all learned / Quix at least once", EVERY, "quix at-least-once 100 %", "learned_rate"),
    ("10 % labelled / Bytewax", SERVICE, "bytewax 10 %", "rate"),
    ("all learned / Bytewax", EVERY, "bytewax 100 %", "learned_rate"),
    ("10 % labelled / Faust", SERVICE, "faust 10 %", "rate"),
    ("all learned / Faust", EVERY, "faust 100 %", "learned_rate"),
    ("1 % of records bad / none bad, nothing labelled", "service 1 % bad", "service 0 %", "rate"),
    ("4 partitions / 1, 10 % labelled", "service 10 % 4 partitions", SERVICE, "rate"),
    ("64 partitions / 1, 10 % labelled", "partitions 64", SERVICE, "rate"),
)


def reached(results: Results) -> list[dict[str, Any]]:
    """Each measure with what was found."""
    found = []
    for measure in MEASURES:
        value = measure.of(results)
        told = {"measure": measure.name, "floor": measure.floor, "aim": measure.aim, "unit": measure.unit.strip()}
        found.append({**told, **_said(value), "verdict": measure.verdict(value)})
    return found


def ratios(results: Results) -> list[dict[str, Any]]:
    """The other ratios of this run."""
    found = [(name, results.ratio(case, other, value)) for name, case, other, value in RATIOS]
    return [{"ratio": name, **_said(value)} for name, value in found if value is not None]


def _said(value: Spread | None) -> dict[str, Any]:
    return value._asdict() if value else dict.fromkeys(Spread._fields)
