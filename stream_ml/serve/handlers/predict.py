"""Scoring: from the instances of a request to its predictions, all of one version."""

import time
from collections.abc import Sequence
from typing import Any

from stream_ml.core.api.answers import Answers
from stream_ml.core.api.door import Asked, Instance
from stream_ml.core.api.problems import Fault, Problem
from stream_ml.core.model.estimator import ModelFailed
from stream_ml.serve.handlers.demands import Demands
from stream_ml.serve.http.messages import Answer, Request, json_answer
from stream_ml.serve.live import Live, Moment


class Predict:
    """The handlers that score."""

    def __init__(self, live: Live, answers: Answers, demands: Demands) -> None:
        self._live, self._answers, self._demands = live, answers, demands

    async def named(self, request: Request) -> Answer:
        """``{"instances": [{...}]}`` to ``{"predictions": [...], "model": {...}}``, or ``features`` by place."""
        await self._demands.met(request.headers)
        moment, now_ms = self._live.answering(), time.time_ns() // 1_000_000
        asked = moment.door.read(request.body, now_ms)
        predictions = self._scored(moment, asked)
        answered: dict[str, Any] = {"predictions": predictions}
        if asked.by_place:
            answered["prediction"] = self._answers.by_place(predictions)
        return self._told(moment, answered)

    def scored(self, moment: Moment, instances: Sequence[Any], now_ms: int) -> list[dict[str, Any]]:
        """Predictions of instances that are JSON values already; Problem where one is wrong."""
        return self._scored(moment, moment.door.asked(instances, now_ms))

    def _scored(self, moment: Moment, asked: Asked) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        of = moment.of._replace(flags=("stale", *moment.of.flags)) if self._live.is_stale else moment.of
        model, one = moment.model.model, self._answers.one
        for row, instance in enumerate(asked.instances):
            if not isinstance(instance, Instance):
                found.append({"error": _told_fault(instance)})
                continue
            within = model.limits.clip_one(instance.features)
            try:
                scored = model.learner.score_one(within)
            except ModelFailed as error:
                if not asked.partial:
                    raise _model_failed(row) from error
                found.append({"error": {"code": "model_refused", "pointer": f"/instances/{row}"}})
                continue
            clipped = within is not instance.features
            found.append(one(scored, of, imputed=instance.imputed, clipped=clipped, event_id=instance.event_id))
        return found

    def _told(self, moment: Moment, answered: dict[str, Any]) -> Answer:
        answered["model"] = self.model(moment)
        return json_answer(answered, headers=self.headers(moment))

    def model(self, moment: Moment) -> dict[str, Any]:
        """What each answer says of its model."""
        of, age_s = moment.of, self._live.age_s
        return {
            "lineage": of.lineage,
            "position": of.position,
            "epoch": of.epoch,
            "age_ms": None if age_s == float("inf") else int(age_s * 1000),
            "examples_learned": of.examples_learned,
            "learned_at_ms": of.learned_at_ms or None,
        }

    def headers(self, moment: Moment) -> list[tuple[bytes, bytes]]:
        """The same for those who do not read bodies."""
        of, age_s = moment.of, self._live.age_s
        found = [(b"stream-ml-position", f"{of.lineage}/{of.position}".encode())]
        if age_s != float("inf"):
            found.append((b"stream-ml-age", b"%d" % int(age_s * 1000)))
        return found


def _told_fault(faults: list[Fault]) -> dict[str, Any]:
    first = faults[0]
    return {"code": first.code, "detail": first.detail[:300], "pointer": first.pointer}


def _model_failed(row: int) -> Problem:
    """The problem of a usable event for which the model raised; what it raised stands in the log alone."""
    fault = Fault(f"/instances/{row}", "model_refused", "the model raised")
    words = "the model raised for a usable event; nothing is wrong with the request"
    return Problem("model-refused", words, faults=[fault])
