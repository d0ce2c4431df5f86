"""What became of a label: ``GET /v1/labels/{receipt}``."""

import asyncio
from collections import OrderedDict
from typing import Any, Protocol

from stream_ml.core.api.problems import Problem
from stream_ml.errors import StreamMLError
from stream_ml.kafka.reading.labels import Where
from stream_ml.serve.handlers.demands import parse_receipt
from stream_ml.serve.http.messages import Answer, Request, json_answer
from stream_ml.serve.live import Live

AT_ONCE = 2  # lookups: each reads a part of three topics
KNOWN_MAX = 10_000  # labels whose end is remembered: it never changes


class Reader(Protocol):
    """Looks a label up, in a thread that is not the loop's."""

    def look(self, label: Where) -> dict[str, Any] | None:
        """What became of it; None where there is no such label."""


class Labels:
    """The handler."""

    def __init__(self, live: Live, reader: Reader | None) -> None:
        self._live, self._reader = live, reader
        self._known: OrderedDict[Where, dict[str, Any]] = OrderedDict()
        self._looking = 0

    async def label(self, request: Request) -> Answer:
        """Where the label of a receipt is: waiting, an example at a position, or ended otherwise."""
        receipt = request.params["receipt"]
        where = Where(*parse_receipt(receipt))
        found = self._known.get(where) or await self._looked(where)
        learned = found["state"] == "example" and self._live.answering().of.position >= found["position"]
        return json_answer({"receipt": receipt, **found, "learned_here": learned})

    async def _looked(self, where: Where) -> dict[str, Any]:
        assert self._reader is not None  # noqa: S101 - there is no such route without
        if self._looking >= AT_ONCE:
            words = f"{AT_ONCE} labels are being looked up, each in three topics; come again"
            raise Problem("overloaded", words, headers={"Retry-After": "1"})
        self._looking += 1
        try:
            found = await asyncio.to_thread(self._reader.look, where)
        except StreamMLError as error:
            raise Problem("not-looked-up", error.message, headers={"Retry-After": "2"}) from error
        finally:
            self._looking -= 1
        if found is None:
            raise Problem("not-found", "there is no label with this receipt, or Kafka keeps it no more")
        if found["state"] != "waiting":
            self._known[where] = found
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return found
