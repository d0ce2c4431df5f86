"""JSON out of anybody's hands: it nests as deeply as a number says, whatever the depth of who asks."""

import json
import re
from typing import Any

NESTING_MAX = 100  # brackets around brackets; a record of 32 nested types has fewer

_HALVES = re.compile(r"\\u[dD][89a-fA-F]")
_TEXTS = re.compile(r'"(?:[^"\\]|\\.)*"')
_OTHERS, _SQUARE = bytes(set(range(256)) - set(b"[]{}")), bytes.maketrans(b"{}", b"[]")


def read_json(text: str | bytes, nesting_max: int = NESTING_MAX, *, is_strict: bool = False) -> Any:
    """What a text says; ValueError where it is no JSON or nests more deeply: never RecursionError.

    Parameters
    ----------
    is_strict
        Whether what Python takes and RFC 8259 has not is refused: NaN, infinities, halves of characters.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if text.count("[") + text.count("{") > nesting_max and _nests(text, nesting_max):
            raise ValueError(f"nests more than {nesting_max} brackets")
        if not is_strict:
            return json.loads(text)
        found = json.loads(text, parse_constant=_refused)
    except json.JSONDecodeError:
        raise ValueError("is no JSON") from None
    if _HALVES.search(text):
        _check_whole(found)
    return found


def _nests(text: str, most: int) -> bool:
    """Whether more than so many brackets stand around something.

    Each turn takes the innermost pairs away, of 32 MB in 20 ms; to look at each bracket took 15 s (measured).
    """
    marks = _TEXTS.sub("", text).encode("utf-8", "replace").translate(_SQUARE, _OTHERS)
    for turn in range(most + 1):
        fewer = marks.replace(b"[]", b"")
        if len(fewer) == len(marks):
            return turn + marks.count(b"[") > most  # those that are left belong to no pair: it is no JSON
        marks = fewer
    return True


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _check_whole(value: Any) -> None:
    """ValueError where a text has half of a character, which UTF-8 cannot write."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a character (a lone surrogate)") from None
