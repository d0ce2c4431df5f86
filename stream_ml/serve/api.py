"""The table of routes: every path of the API, who may ask there, and what answers."""

from stream_ml.app.parts import Parts
from stream_ml.serve.handlers.aliases import AliasHandler
from stream_ml.serve.handlers.demands import Demands
from stream_ml.serve.handlers.feedback import Feedback
from stream_ml.serve.handlers.inference import InferenceHandlers, Inferences, model_name
from stream_ml.serve.handlers.info import Info, answers_of, document_of
from stream_ml.serve.handlers.jobs import JobHandlers, Jobs
from stream_ml.serve.handlers.labels import Labels, Reader
from stream_ml.serve.handlers.page import page
from stream_ml.serve.handlers.predict import Predict
from stream_ml.serve.handlers.record import Recorder
from stream_ml.serve.handlers.repeats import Repeats
from stream_ml.serve.http.messages import BINARY, NDJSON, Answer, Handler, Request, Route
from stream_ml.serve.live import Live
from stream_ml.serve.producer import Writer
from stream_ml.storage.keys import answer_seal


async def _nobody(request: Request) -> Answer:
    raise NotImplementedError


def table(
    parts: Parts,
    *,
    predict: Handler = _nobody,
    feedback: Handler = _nobody,
    label: Handler = _nobody,
    jobs: JobHandlers | None = None,
    info: Info | None = None,
    inference: InferenceHandlers | None = None,
    aliases: list[Handler] | None = None,
) -> list[Route]:
    """All routes of an app; without handlers, for its document, nobody answers at them."""
    config = parts.config

    def said(name: str) -> Handler:
        return getattr(info, name) if info is not None else _nobody

    def inferred(name: str) -> Handler:
        return getattr(inference, name) if inference is not None else _nobody

    model = f"/v2/models/{model_name(parts)}"
    kinds = ("application/json", BINARY)

    found = [
        Route("POST", "/v1/predict", "predict", predict, "Predictions for instances"),
        Route("POST", "/predict", "predict", predict, "Predictions for instances: the same as /v1/predict"),
        Route("POST", f"/v1/models/{config.app.id}:predict", "predict", predict, "Predictions, as KServe's V1 asks"),
    ]
    for number, alias in enumerate(config.serve.aliases):
        handler = aliases[number] if aliases is not None else _nobody
        found.append(Route("POST", alias.path, "predict", handler, "One prediction, under names of its own"))
    if config.serve.feedback:
        found.append(Route("POST", "/v1/feedback", "feedback", feedback, "Labels, to be learned"))
        found.append(Route("GET", "/v1/labels/{receipt}", "feedback", label, "What became of a label"))
    if config.serve.jobs is not None:
        found += _of_jobs(config.serve.jobs.body_max, jobs)
    return [
        *found,
        Route("GET", "/v1/model", "predict", said("model"), "The model that answers, its features and its quality"),
        Route("GET", "/v1/schema/{name}", "schema", said("schema"), "An Avro schema: event.avsc, label.avsc, ..."),
        Route("GET", "/openapi.json", "schema", said("openapi"), "This document"),
        Route("GET", "/docs", "schema", page, "A page to try the API in a browser"),
        Route("GET", "/livez", "", said("livez"), "Whether this process lives"),
        Route("GET", "/readyz", "", said("readyz"), "Whether a model answers"),
        Route("GET", "/v2", "", inferred("server"), "Open Inference Protocol: the server"),
        Route("GET", "/v2/health/live", "", inferred("live"), "Open Inference Protocol: whether it lives"),
        Route("GET", "/v2/health/ready", "", inferred("ready"), "Open Inference Protocol: whether it is ready"),
        *(
            route
            for path in (model, f"{model}/versions/{{version}}")
            for route in (
                Route("GET", path, "predict", inferred("model"), "Open Inference Protocol: inputs and outputs"),
                Route(
                    "GET", f"{path}/ready", "", inferred("model_ready"), "Open Inference Protocol: whether it answers"
                ),
                Route(
                    "POST", f"{path}/infer", "predict", inferred("infer"), "Open Inference Protocol: predictions", kinds
                ),
            )
        ),
    ]


def hints_of(parts: Parts) -> dict[str, str]:
    """Why there is nothing at paths that people expect."""
    name = model_name(parts)
    return {
        "/v1/feedback": "no labels are taken here: serve.feedback is false",
        "/v1/labels": "no labels are taken here: serve.feedback is false",
        "/v1/jobs": "no jobs are taken here: serve.jobs is not set",
        "/v2/models": f"there is no such model; there is {name} (serve.model_name): /ready, /infer, /versions/LINEAGE",
        "/v1/models": f"there is no such model, or no such verb: POST /v1/models/{parts.config.app.id}:predict",
    }


def _of_jobs(body_max: int, jobs: JobHandlers | None) -> list[Route]:
    def said(name: str) -> Handler:
        return getattr(jobs, name) if jobs is not None else _nobody

    kinds = ("application/json", NDJSON)
    return [
        Route("POST", "/v1/jobs", "jobs", said("submit"), "Many instances, scored aside", kinds, body_max),
        Route("GET", "/v1/jobs", "jobs", said("listed"), "The caller's jobs, the newest first"),
        Route("GET", "/v1/jobs/{job}", "jobs", said("status"), "How far a job is"),
        Route("DELETE", "/v1/jobs/{job}", "jobs", said("cancel"), "End a job before its time"),
        Route("GET", "/v1/jobs/{job}/results", "jobs", said("results"), "A page of a job's predictions"),
    ]


def routes_of(
    parts: Parts, live: Live, writer: Writer | None, labels: Reader | None = None, jobs: Jobs | None = None
) -> tuple[list[Route], Info, Inferences]:
    """The routes with what answers at them, and what gRPC shares with them."""
    demands, seal = Demands(parts.config, live), answer_seal(parts.config, parts.domain)
    records = parts.config.serve.record == "ack" and seal is not None and writer is not None
    recorder = Recorder(parts.config, seal, writer) if records else None  # type: ignore[arg-type]
    predict = Predict(live, answers_of(parts), demands, recorder, verbose_errors=parts.config.serve.verbose_errors)
    info = Info(parts, live, predict)
    handlers = [AliasHandler(alias, live, predict, demands).answer for alias in parts.config.serve.aliases]
    feedback, repeats = Feedback(parts, live, writer), Repeats()
    inferences = Inferences(parts, live, predict, demands, info.reasons)
    found = table(
        parts,
        predict=repeats.once(predict.named) if records else predict.named,
        feedback=repeats.once(feedback.take),
        label=Labels(live, labels).label,
        jobs=JobHandlers(parts.config, live, writer, jobs),
        info=info,
        inference=InferenceHandlers(inferences),
        aliases=[*handlers],
    )
    info.say(document_of(parts, found))
    return found, info, inferences
