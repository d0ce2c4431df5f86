"""Scoring: from the instances of a request to its predictions, all of one version."""

import time
from collections.abc import Sequence
from typing import Any

from stream_ml.core.api.answers import Answers, Of
from stream_ml.core.api.bodies import document, unusable
from stream_ml.core.api.door import Asked, Recorded
from stream_ml.core.api.places import is_by_place
from stream_ml.core.api.problems import Problem
from stream_ml.core.api.scoring import Moment, score_asked, score_one, told_one
from stream_ml.serve.handlers.demands import Demands
from stream_ml.serve.handlers.record import Recorder, own_id, wanted
from stream_ml.serve.http.messages import Answer, Request, json_answer
from stream_ml.serve.live import Live


class Predict:
    """The handlers that score."""

    def __init__(
        self,
        live: Live,
        answers: Answers,
        demands: Demands,
        recorder: Recorder | None = None,
        *,
        verbose_errors: bool = True,
    ) -> None:
        self._live, self.answers, self._demands, self._recorder = live, answers, demands, recorder
        self._verbose_errors = verbose_errors
        self._most = live.instances_max

    async def named(self, request: Request) -> Answer:
        """``{"instances": [{...}]}`` to ``{"predictions": [...], "model": {...}}``, or ``features`` by place."""
        moment, now_ms = await self._demands.met(request.headers), time.time_ns() // 1_000_000
        if self._recorder is not None:
            said = document(request.body)
            whole = wanted(said, self._most, moment.door.places)
            if whole is not None:
                return await self._recorded(moment, said, whole, now_ms)
        asked = moment.door.read(request.body, now_ms)
        predictions = self._scored(moment, asked)
        answered: dict[str, Any] = {"predictions": predictions}
        if asked.by_place:
            answered["prediction"] = self.answers.by_place(predictions)
        return self._told(moment, answered)

    async def _recorded(self, moment: Moment, said: Any, whole: list[Any], now_ms: int) -> Answer:
        """The answer to a document whose instances are to be recorded."""
        places, by_place = moment.door.places, is_by_place(said)
        try:
            answered: dict[str, Any] = {"predictions": await self.recorded(moment, whole, now_ms)}
        except Problem as problem:
            if not by_place or not problem.faults:
                raise
            is_one = places.named(said).is_one
            faults = [places.fault(fault, is_one=is_one) for fault in problem.faults]
            raise unusable(faults, len(whole)) from problem.__cause__
        if by_place:
            answered["prediction"] = self.answers.by_place(answered["predictions"])
        return self._told(moment, answered)

    async def scored(
        self, moment: Moment, instances: Sequence[Any], now_ms: int, *, record: bool | None = None
    ) -> list[dict[str, Any]]:
        """Predictions of instances that are JSON values already; Problem where one is wrong.

        Parameters
        ----------
        record
            False: its caller does not want it recorded.
        """
        if self._recorder is not None and record is not False:
            return await self.recorded(moment, instances, now_ms)
        return self._scored(moment, moment.door.of_values(instances, now_ms))

    async def recorded(self, moment: Moment, instances: Sequence[Any], now_ms: int) -> list[dict[str, Any]]:
        """Predictions of events that are written with them; Problem where one is wrong, or Kafka does not confirm."""
        assert self._recorder is not None  # noqa: S101 - callers have looked
        judged = [moment.door.whole(row, one, now_ms, own_id(now_ms)) for row, one in enumerate(instances)]
        faults = [fault for item in judged if isinstance(item, list) for fault in item]
        if faults:
            raise unusable(faults, len(instances))
        whole = [item for item in judged if isinstance(item, Recorded)]
        scores = [score_one(moment, row, item.instance) for row, item in enumerate(whole)]
        of = self._of(moment)
        found = [
            told_one(self.answers, of, item.instance, scored, clipped=clipped)
            for item, (scored, clipped) in zip(whole, scores, strict=True)
        ]
        await self._recorder.write(moment, whole, [scored for scored, _ in scores], found, now_ms)
        for one in found:
            one["flags"] = [*one["flags"], "recorded"]
        return found

    def _of(self, moment: Moment) -> Of:
        """What all predictions of a request say of their model."""
        return moment.of._replace(flags=("stale", *moment.of.flags)) if self._live.is_stale else moment.of

    def _scored(self, moment: Moment, asked: Asked) -> list[dict[str, Any]]:
        return score_asked(moment, self._of(moment), self.answers, asked, verbose=self._verbose_errors)

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
        age_s, found = self._live.age_s, [(b"stream-ml-position", moment.version)]
        if age_s != float("inf"):
            found.append((b"stream-ml-age", b"%d" % int(age_s * 1000)))
        return found
