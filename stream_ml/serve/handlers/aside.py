"""Questions to Kafka that block: asked in threads beside the loop, so many at once."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from stream_ml.core.api.problems import Problem
from stream_ml.errors import StreamMLError

P = ParamSpec("P")
Found = TypeVar("Found")


class Aside:
    """Asks in threads; one event loop only.

    Parameters
    ----------
    most
        Questions at once.
    words
        What one more is told.

    Attributes
    ----------
    running
        Questions that have no answer yet.
    """

    def __init__(self, most: int, words: str) -> None:
        self._most, self._words = most, words
        self.running = 0

    async def ask(self, question: Callable[P, Found], *args: P.args, **kwargs: P.kwargs) -> Found:
        """What the question finds.

        Raises
        ------
        Problem
            overloaded: too many are asked; not-looked-up: Kafka does not answer. The caller comes again.
        """
        if self.running >= self._most:
            raise Problem("overloaded", self._words, headers={"Retry-After": "1"})
        self.running += 1
        try:
            return await asyncio.to_thread(question, *args, **kwargs)
        except StreamMLError as error:
            raise Problem("not-looked-up", error.message, headers={"Retry-After": "2"}) from error
        finally:
            self.running -= 1
