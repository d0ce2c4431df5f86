"""JSON out of anybody's hands: it nests as deeply as a number says, whatever the depth of who asks."""

import itertools
import json
import re
from typing import Any

NESTING_MAX = 100  # brackets around brackets; a record of 32 nested types has fewer

_HALVES = re.compile(r"\\u[dD][89a-fA-F]")
_TEXTS, _MARKS = re.compile(r'"(?:[^"\\]|\\.)*"'), re.compile(r"[\[\]{}]")


def read_json(text: str | bytes, nesting_max: int = NESTING_MAX, *, is_strict: bool = False) -> Any:
    """What a text says; ValueError where it is no JSON or nests more deeply: never RecursionError.

    Parameters
    ----------
    is_strict
        Whether what Python takes and RFC 8259 has not is refused: NaN, infinities, halves of characters.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if text.count("[") + text.count("{") > nesting_max:
            depths = itertools.accumulate(1 if mark in "[{" else -1 for mark in _MARKS.findall(_TEXTS.sub("", text)))
            if max(depths, default=0) > nesting_max:
                raise ValueError(f"nests more than {nesting_max} brackets")
        if not is_strict:
            return json.loads(text)
        found = json.loads(text, parse_constant=_refused)
    except json.JSONDecodeError:
        raise ValueError("is no JSON") from None
    if _HALVES.search(text):
        _check_whole(found)
    return found


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _check_whole(value: Any) -> None:
    """ValueError where a text has half of a character, which UTF-8 cannot write."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a character (a lone surrogate)") from None
