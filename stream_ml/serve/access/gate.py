"""What every request passes, by HTTP or gRPC: who asks, how often, how many at once; and how a refusal is told."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from stream_ml.config import Config
from stream_ml.config.serve import SCOPES
from stream_ml.core.api.problems import Problem
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.traces import Traces
from stream_ml.serve.access.guard import ANYBODY, Certificate, Guard, Principal, Scope
from stream_ml.serve.access.limits import Rates
from stream_ml.serve.access.refusals import Refusals, known_id


class Gate:
    """Admits and counts the requests of one process; one event loop only.

    Attributes
    ----------
    in_flight
        Requests that are being answered.
    draining
        Whether the process is about to end: connections are closed after their answer.
    traces
        What is traced of the requests.
    """

    def __init__(self, config: Config, guard: Guard, metrics: Metrics, traces: Traces | None = None) -> None:
        self.settings, self.guard, self._metrics = config.serve, guard, metrics
        self.traces = traces or Traces(config, None)
        self._rates, self._refusals = Rates(), Refusals()
        self._counted: dict[tuple[str, int], tuple[Any, Any]] = {}  # what counts answers, by route and status
        self.in_flight, self.draining = 0, False

    def is_free(self, scope: Scope) -> bool:
        """Whether nobody has to say who asks."""
        return not scope or (scope == "schema" and self.settings.public_schema)

    async def admitted(
        self,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        address: str,
        certificate: Certificate | None = None,
        *,
        counts: bool = True,
    ) -> Principal:
        """Who asks; Problem where that one may not, or asks too often.

        Parameters
        ----------
        counts
            Whether it is a request; not the beginning of a stream of them.
        """
        if self.is_free(scope):
            return ANYBODY
        principal = await self.guard.admit(headers, address, "predict" if scope == "schema" else scope, certificate)
        if scope in SCOPES and counts:  # questions for the schema alone are counted against no rate
            rate = principal.rate or self.settings.rate
            if rate is not None:
                self._rates.take(principal.id or address, rate)
        return principal

    def entered(self, scope: Scope) -> "Gate":
        """Count a request as long as it is answered (``with``); Problem where there are too many.

        Not by a generator: that costs a microsecond a request.
        """
        if scope and self.in_flight >= self.settings.in_flight_max:
            words = f"{self.in_flight} requests are being answered; come again"
            raise Problem("overloaded", words, headers={"Retry-After": "1"})
        self.in_flight += 1
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1

    def refused(self, problem: Problem, headers: Mapping[bytes, bytes], where: str) -> str:
        """Log and count a refusal; the id of its request."""
        request_id = known_id(headers) or secrets.token_hex(8)
        self._refusals.note(problem, where, request_id)
        self._metrics.count("http_refusals", kind=problem.kind)
        return request_id

    def refused_unread(self, status: int, kind: str) -> None:
        """Count what was refused before there was a request."""
        self._metrics.count("http_refusals", kind=kind)
        self._metrics.count("http_requests", route="none", status=str(status))

    def answered(self, route: str, status: int, began_s: float) -> None:
        """Count an answer.

        Parameters
        ----------
        route
            Its pattern, never a path: those are anybody's.
        began_s
            Of `time.perf_counter`.
        """
        counted = self._counted.get((route, status))
        if counted is None:
            requests = self._metrics.child("http_requests", route=route, status=str(status))
            counted = self._counted[route, status] = (requests, self._metrics.child("http_seconds", route=route))
        counted[0].inc()
        counted[1].observe(time.perf_counter() - began_s)
