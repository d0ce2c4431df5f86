"""What a case gives in one round, and what several rounds give together."""

import statistics
from typing import Any, NamedTuple


class Result(NamedTuple):
    """Measured values of one run by name (the unit is the name's end), what was wrong, and counts beside them."""

    values: dict[str, float]
    problems: list[str] = []  # noqa: RUF012 - never changed
    counts: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Spread(NamedTuple):
    """Median of some runs and its range."""

    median: float
    least: float
    most: float
    runs: int


def spread(values: list[float]) -> Spread | None:
    """None of no values."""
    return Spread(statistics.median(values), min(values), max(values), len(values)) if values else None


class Results:
    """Results of all cases, by round. A case that failed in a round has a problem there, and no values."""

    def __init__(self) -> None:
        self.rounds: dict[str, dict[int, Result]] = {}
        self.failed: dict[str, list[str]] = {}

    def add(self, case: str, number: int, result: Result) -> None:
        self.rounds.setdefault(case, {})[number] = result

    def fail(self, case: str, why: str) -> None:
        self.failed.setdefault(case, []).append(why)

    def values(self, case: str, name: str) -> dict[int, float]:
        """A value of a case, by round."""
        found = self.rounds.get(case, {})
        return {number: result.values[name] for number, result in found.items() if name in result.values}

    def spread(self, case: str, name: str) -> Spread | None:
        return spread(list(self.values(case, name).values()))

    def ratio(self, case: str, other: str, name: str) -> Spread | None:
        """One case over another, round by round: both ran within minutes, so a machine that slows down cancels out."""
        mine, theirs = self.values(case, name), self.values(other, name)
        return spread([mine[number] / theirs[number] for number in mine if theirs.get(number)])

    def names(self, case: str) -> list[str]:
        """Names of the values of a case, in the order in which it gave them."""
        return list(dict.fromkeys(name for result in self.rounds.get(case, {}).values() for name in result.values))

    def problems(self, case: str) -> list[str]:
        """Everything that was wrong in a case, each once."""
        found = [problem for result in self.rounds.get(case, {}).values() for problem in result.problems]
        return list(dict.fromkeys(found + self.failed.get(case, [])))
