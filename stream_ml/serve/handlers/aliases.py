"""Paths with field names of their own: one object in, one out."""

import copy
import time
from typing import Any

from stream_ml.config.serve import Alias
from stream_ml.core.api.bodies import document
from stream_ml.core.api.places import put_at
from stream_ml.core.api.problems import Fault, Problem, step_of
from stream_ml.serve.handlers.demands import Demands
from stream_ml.serve.handlers.predict import Predict
from stream_ml.serve.http.messages import Answer, Request, json_answer
from stream_ml.serve.live import Live


class AliasHandler:
    """Answers at one alias."""

    def __init__(self, alias: Alias, live: Live, predict: Predict, demands: Demands) -> None:
        self._alias, self._live, self._predict, self._demands = alias, live, predict, demands
        self._names = {f"/instances/0/{field.replace('.', '/')}": step_of(name) for name, field in alias.in_.items()}

    async def answer(self, request: Request) -> Answer:
        """Its own names to the event's, and the prediction's back to its own."""
        instance = self._instance(document(request.body))
        moment, now_ms = await self._demands.met(request.headers), time.time_ns() // 1_000_000
        try:
            (prediction,) = await self._predict.scored(moment, [instance], now_ms)
        except Problem as problem:
            raise self._renamed(problem) from problem.__cause__
        told = {name: prediction.get(what) for name, what in self._alias.out.items()}
        return json_answer(told, headers=self._predict.headers(moment))

    def _instance(self, said: Any) -> dict[str, Any]:
        if not isinstance(said, dict):
            raise _unusable([Fault("", "schema_mismatch", "the body is one object")])
        faults = [
            Fault(step_of(name), "schema_mismatch", f"{name!r} is no field; there are {', '.join(self._alias.in_)}")
            for name in said
            if name not in self._alias.in_
        ]
        most = self._alias.max_chars
        faults += [
            Fault(step_of(name), "out_of_bounds", f"{name} has {len(value):,} characters; at most {most:,}")
            for name, value in said.items()
            if isinstance(value, str) and len(value) > most
        ]
        if faults:
            raise _unusable(faults)
        found: dict[str, Any] = copy.deepcopy(self._alias.set)
        for name, value in said.items():
            put_at(found, self._alias.in_[name].split("."), value)
        return found

    def _renamed(self, problem: Problem) -> Problem:
        """The problem with the caller's own names."""
        faults = [fault._replace(pointer=self._names.get(fault.pointer, "")) for fault in problem.faults]
        if not faults:
            return problem
        return Problem(problem.kind, f"{faults[0].pointer}: {faults[0].detail}"[:300], faults=faults)


def _unusable(faults: list[Fault]) -> Problem:
    return Problem("not-of-schema", faults[0].detail, faults=faults)
