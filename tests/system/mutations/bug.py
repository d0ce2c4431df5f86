"""A planted bug, as a patch."""

from typing import NamedTuple


class Bug(NamedTuple):
    """A planted bug: what is changed, and which tests must turn red."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
