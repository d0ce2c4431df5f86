"""What became of a label: ``GET /v1/labels/{receipt}``."""

from collections import OrderedDict
from typing import Any, Protocol

from stream_ml.core.api.problems import Problem
from stream_ml.kafka.reading.labels import Where
from stream_ml.serve.handlers.aside import Aside
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
        self._aside = Aside(AT_ONCE, f"{AT_ONCE} labels are being looked up, each in three topics; come again")

    async def label(self, request: Request) -> Answer:
        """Where the label of a receipt is: waiting, an example at a position, or ended otherwise."""
        receipt = request.params["receipt"]
        where = Where(*parse_receipt(receipt))
        found = self._known.get(where) or await self._looked(where)
        learned = found["state"] == "example" and self._live.answering().of.position >= found["position"]
        return json_answer({"receipt": receipt, **found, "learned_here": learned})

    async def _looked(self, where: Where) -> dict[str, Any]:
        assert self._reader is not None  # noqa: S101 - there is no such route without
        found = await self._aside.ask(self._reader.look, where)
        if found is None:
            raise Problem("not-found", "there is no label with this receipt, or Kafka keeps it no more")
        if found["state"] != "waiting":
            self._known[where] = found
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return found
