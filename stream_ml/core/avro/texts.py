"""Several values in one text: words joined by commas, and scores by class as JSON. Records of ours are flat."""

import json
from collections.abc import Sequence
from functools import lru_cache

from stream_ml.core.avro.json_text import read_json

WORDS_KEPT = 1_000  # texts whose words are remembered: there are as many as sets of flags
KEPT_CHARS = 200  # and no longer ones: whoever may write a topic fills no memory with them


@lru_cache(WORDS_KEPT)
def joined(words: tuple[str, ...]) -> str:
    """Words as one text, in their order; empty for none."""
    return ",".join(words)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, each once or more, known or not."""
    return _words_of(text) if len(text) <= KEPT_CHARS else tuple(text.split(","))


@lru_cache(WORDS_KEPT)
def _words_of(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def scores_text(scores: dict[str, float]) -> str:
    """A probability by class, in the order given; each number is the shortest that reads back to the same double."""
    return _template(tuple(scores)) % tuple(scores.values())


@lru_cache(WORDS_KEPT)
def _template(names: tuple[str, ...]) -> str:
    """JSON with a place for each number: a third of the time that an encoder takes."""
    return "{" + ",".join(f"{json.dumps(name).replace('%', '%%')}:%r" for name in names) + "}"


def scores_of(text: str) -> dict[str, float]:
    """Probabilities by class out of their text; ValueError where it is something else."""
    found = read_json(text, 1)
    if not isinstance(found, dict) or not all(type(score) is float or type(score) is int for score in found.values()):
        raise ValueError(f"no scores by class: {text[:50]!r}")
    try:
        return {name: float(score) for name, score in found.items()}
    except OverflowError:
        raise ValueError("a score that no double holds") from None


def scores_texts(maps: Sequence[dict[str, float] | None]) -> list[str | None]:
    """Scores of n predictions, as texts."""
    return [None if scores is None else scores_text(scores) for scores in maps]
