"""What the API says of itself: its model, whether it is ready, its document and schemas."""

import json
from importlib.metadata import version
from typing import Any

from stream_ml.app.parts import Parts
from stream_ml.config.serve import Alias
from stream_ml.core.api.answers import Answers
from stream_ml.core.api.document.described import alias_schemas, event_schema, label_schema
from stream_ml.core.api.document.openapi import SCHEMAS, Described, Operation, openapi, prediction_schema
from stream_ml.core.api.door import Door
from stream_ml.core.api.problems import Problem
from stream_ml.serve.handlers.predict import Predict
from stream_ml.serve.http.messages import Answer, Request, Route, json_answer
from stream_ml.serve.live import Live


def described(parts: Parts, answers: Answers, door: Door) -> Described:
    """What the document tells of an app."""
    config = parts.config
    return Described(
        title=f"{config.app.id}: predictions",
        version=version("stream-ml"),
        event=event_schema(parts.reader, config.events, door.may_miss, door.example),
        label=label_schema(parts.feedback, config.feedback),
        places=parts.plan.names,
        answers=answers,
        instances_max=config.serve.instances_max,
        secured=not config.serve.auth.is_open,
        open_scopes=("", "schema") if config.serve.public_schema else ("",),
        jobs_max=0 if config.serve.jobs is None else config.serve.jobs.rows_max,
        repeatable=("/v1/feedback", "/v1/jobs", *(("/v1/predict", "/predict") if config.serve.record == "ack" else ())),
    )


def document_of(parts: Parts, table: list[Route]) -> dict[str, Any]:
    """The API's document, without Kafka."""
    config = parts.config
    door, answers = Door(parts.reader, config.events, config.serve.instances_max), answers_of(parts)
    app = described(parts, answers, door)
    operations = [Operation(route.method, route.path, route.scope, route.summary) for route in table]
    return openapi(app, operations, [_alias(alias, app, answers) for alias in config.serve.aliases])


def answers_of(parts: Parts) -> Answers:
    """What makes answers of the app's task."""
    return Answers(parts.domain, parts.feedback.label_field)


def _alias(alias: Alias, app: Described, answers: Answers) -> dict[str, Any]:
    prediction = prediction_schema(answers)["properties"]
    request, answer = alias_schemas(app.event, prediction, alias.in_, alias.out, alias.max_chars)
    return {"path": alias.path, "request": request, "answer": answer}


class Info:
    """The handlers that score nothing."""

    def __init__(self, parts: Parts, live: Live, predict: Predict) -> None:
        self._parts, self._live, self._predict = parts, live, predict
        self._classes = answers_of(parts).classes
        self._document = b"{}"
        self.draining = False

    def say(self, document: dict[str, Any]) -> None:
        """Answer with this document from now on."""
        self._document = json.dumps(document).encode()

    async def model(self, request: Request) -> Answer:
        """Who answers, what it takes, how good it is."""
        moment = self._live.answering()
        plan, domain, watch = moment.model.settings.plan, moment.model.settings.domain, self._live.follower.watch
        told = self._predict.model(moment) | {
            "app": self._parts.config.app.id,
            "task": domain.task,
            "classes": self._classes,
            "positive": domain.positive or None,
            "threshold": domain.threshold if domain.task == "binary" else None,
            "features": [{k: one[k] for k in ("name", "kind", "type", "logical")} for one in plan.resolved],
            "flags": [*moment.of.flags, *(["stale"] if self._live.is_stale else [])],
            "quality": watch.quality.report(),
        }
        tag = f'W/"{moment.of.lineage}/{moment.of.position}"'.encode()
        if request.headers.get(b"if-none-match") == tag:
            return Answer(304, b"", [(b"etag", tag)])
        return json_answer(told, headers=[(b"etag", tag), *self._predict.headers(moment)])

    async def livez(self, request: Request) -> Answer:
        """The loop turns, or nobody would answer."""
        return json_answer({"alive": True})

    async def readyz(self, request: Request) -> Answer:
        """Whether a model answers; that it is old is no reason: all replicas would leave at once."""
        reasons = self.reasons()
        return json_answer({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    def reasons(self) -> list[str]:
        """Why this process is not ready."""
        if self.draining:
            return ["about to end"]
        return [self._live.start_words] if self._live.moment is None else []

    async def openapi(self, request: Request) -> Answer:
        """The API's document."""
        return Answer(200, self._document)

    async def schema(self, request: Request) -> Answer:
        """An Avro schema: event.avsc, label.avsc or prediction.avsc."""
        parts = self._parts
        found = (parts.reader.payloads.reader.text, parts.feedback.payloads.reader.text, parts.predictions.text)
        texts = dict(zip(SCHEMAS, found, strict=True))
        name = request.params["name"]
        if name not in texts:
            raise Problem("not-found", f"there are {', '.join(texts)}")
        return json_answer(json.loads(texts[name]))
