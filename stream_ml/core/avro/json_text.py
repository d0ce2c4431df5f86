"""JSON out of anybody's hands: it nests as deeply as a number says, whatever the depth of who asks."""

import itertools
import json
import re
from typing import Any

NESTING_MAX = 100  # brackets around brackets; a record of 32 nested types has fewer

_TEXTS, _MARKS = re.compile(r'"(?:[^"\\]|\\.)*"'), re.compile(r"[\[\]{}]")


def read_json(text: str | bytes, nesting_max: int = NESTING_MAX) -> Any:
    """What a text says; ValueError where it is no JSON or nests more deeply: never RecursionError."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if text.count("[") + text.count("{") > nesting_max:
            depths = itertools.accumulate(1 if mark in "[{" else -1 for mark in _MARKS.findall(_TEXTS.sub("", text)))
            if max(depths, default=0) > nesting_max:
                raise ValueError(f"nests more than {nesting_max} brackets")
        return json.loads(text)
    except json.JSONDecodeError:
        raise ValueError("is no JSON") from None
