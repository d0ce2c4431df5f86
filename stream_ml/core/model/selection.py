"""Which examples of the log a lineage learns: all but ranges that are left out, and from where commands freeze it.

It is part of the specification, so a model that leaves something out is another lineage, and `(lineage, position)`
stays a function of the log: nothing is ever unlearned.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

RANGES_MAX = 10_000  # of one lineage; an example alone is a range of length 1

Range = tuple[int, int]  # offsets of the log, the second one exclusive


class Selection(NamedTuple):
    """Which examples a lineage learns.

    Parameters
    ----------
    exclude
        Ranges of offsets whose examples are seen and not learned: sorted, disjoint.
    commands_from
        `freeze` and `resume` before this offset are not obeyed, so that what came while another model was frozen can
        be learned.
    hold_from
        From this offset on it is frozen from birth, until a `resume` that names it; None: from nowhere.
    """

    exclude: tuple[Range, ...] = ()
    commands_from: int = 0
    hold_from: int | None = None

    @classmethod
    def of(cls, plain: Any) -> "Selection":
        """Out of JSON values, as `plain` gives them; None: everything.

        Raises
        ------
        ValueError
            It is none, or its ranges are not sorted and disjoint: whoever wrote it made it up.
        """
        if plain is None:
            return EVERYTHING
        if not isinstance(plain, Mapping) or set(plain) - set(cls._fields):
            raise ValueError("what a model learns has the keys " + ", ".join(cls._fields))
        exclude, first, hold = plain.get("exclude") or [], plain.get("commands_from", 0), plain.get("hold_from")
        if not isinstance(exclude, list) or len(exclude) > RANGES_MAX:
            raise ValueError(f"what is left out is a list of at most {RANGES_MAX:,} ranges")
        ranges = []
        for one in exclude:
            if not isinstance(one, list) or len(one) != 2 or not all(map(_is_offset, one)) or one[0] >= one[1]:
                raise ValueError(f"{str(one)[:60]} is no range of offsets")
            ranges.append((one[0], one[1]))
        if any(one[1] > other[0] for one, other in pairwise(ranges)):
            raise ValueError("the ranges that are left out are not sorted, or overlap")
        if not _is_offset(first) or not (hold is None or _is_offset(hold)):
            raise ValueError("commands_from and hold_from are offsets")
        return cls(tuple(ranges), first, hold)

    def plain(self) -> dict[str, Any] | None:
        """As JSON values; None of one that leaves out nothing: it is in no specification."""
        if self == EVERYTHING:
            return None
        return {
            "exclude": [list(one) for one in self.exclude],
            "commands_from": self.commands_from,
            "hold_from": self.hold_from,
        }

    def excludes(self, offset: int) -> bool:
        """Whether the example at this offset is left out."""
        number = bisect_right(self.exclude, offset, key=lambda one: one[0]) - 1
        return number >= 0 and offset < self.exclude[number][1]

    def next_bound(self, offset: int) -> int | None:
        """The first offset behind this one at which something else holds; None where nothing changes any more."""
        first = self._first(offset)
        bounds = [bound for one in self.exclude[first : first + 2] for bound in one]
        if self.hold_from is not None:
            bounds.append(self.hold_from)
        return min((bound for bound in bounds if bound > offset), default=None)

    def _first(self, offset: int) -> int:
        """The first range that does not end before this offset."""
        return max(0, bisect_right(self.exclude, offset, key=lambda one: one[0]) - 1)

    def without(self, ranges: Iterable[Range]) -> "Selection":
        """The same, with more ranges left out."""
        return self._replace(exclude=united([*self.exclude, *ranges]))

    @property
    def left_out(self) -> int:
        """How many offsets are left out."""
        return sum(stop - first for first, stop in self.exclude)

    def differs_at(self, other: "Selection") -> int | None:
        """The first offset at which two have learned differently, commands aside; None where they never do."""
        found = [self.hold_from, other.hold_from] if self.hold_from != other.hold_from else []
        bounds = sorted({bound for of in (self, other) for one in of.exclude for bound in one})
        found += [bound for bound in bounds if self.excludes(bound) is not other.excludes(bound)][:1]
        return min((bound for bound in found if bound is not None), default=None)


EVERYTHING = Selection()


def united(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Ranges as sorted ones of which no two touch."""
    found: list[Range] = []
    for first, stop in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((first, stop))
    return tuple(found)


class Commanded(NamedTuple):
    """Where the first commands about learning stood that a model has met; None where it has met none.

    Parameters
    ----------
    any
        Offset of the first `freeze` or `resume`, obeyed or not.
    own
        Offset from which a command for this lineage alone has changed what it learned.
    others
        Offset of the first one for another lineage alone.
    """

    any: int | None = None
    own: int | None = None
    others: int | None = None

    def met(self, offset: int, *, own: bool) -> "Commanded":
        """With one more."""
        return self.and_of(Commanded(offset, offset if own else None))

    def and_of(self, other: "Commanded") -> "Commanded":
        """The first ones of both."""
        both = (sorted(one for one in pair if one is not None) for pair in zip(self, other, strict=True))
        return Commanded(*(one[0] if one else None for one in both))


def may_seed(parent: Selection, child: Selection, position: int, commanded: Commanded) -> bool:
    """Whether what a model has learned up to this position is what one with another selection would have learned.

    Parameters
    ----------
    commanded
        The commands that the parent has met up to that position.
    """
    differs = parent.differs_at(child)
    by_name = commanded.own is not None or commanded.others is not None
    if (differs is not None and differs < position) or by_name:
        return False
    if parent.commands_from == child.commands_from or commanded.any is None:
        return True
    return commanded.any >= max(parent.commands_from, child.commands_from)


def _is_offset(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63
