"""Sets that a model was born with, as its factory lays them out.

A set that comes out of a pickle holds the same and may go through it in another order: where two texts collide, the
order in which they were added decides, and a pickle has them in the order of the copy. River sums in the order in which
`compose.Select` goes through its keys, so a model from a checkpoint would differ in its last bits from one that was
never away. A new model of the same factory in a process of the same hash seed has the order of the first.
"""

from typing import Any

DEPTH_MAX = 40  # parts within parts


def keep_born_sets(estimator: Any, born: Any) -> Any:
    """The estimator, in which each set that is equal to one of `born`, at the same place, is that one.

    What a model learns into a set stays as the pickle has it. `born` is used up: its sets are the estimator's then.
    """
    _walk(estimator, born, set(), 0)
    return estimator


def _walk(found: Any, born: Any, seen: set[int], depth: int) -> None:
    if type(found) is not type(born) or id(found) in seen or depth > DEPTH_MAX:
        return
    seen.add(id(found))
    ours, theirs = _parts(found), _parts(born)
    for name, part in ours.items():
        other = theirs.get(name)
        if isinstance(part, set | frozenset):
            if type(part) is type(other) and part == other and list(part) != list(other):
                _put(found, name, other)
        elif other is not None:
            _walk(part, other, seen, depth + 1)


def _parts(value: Any) -> dict[Any, Any]:
    """What a container or an object written in Python is made of, by key, number or attribute."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    return getattr(value, "__dict__", {}) if not isinstance(value, type) else {}


def _put(owner: Any, name: Any, value: Any) -> None:
    if isinstance(owner, dict | list):
        owner[name] = value
    elif not isinstance(owner, tuple):
        owner.__dict__[name] = value
