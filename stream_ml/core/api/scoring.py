"""From what is asked to predictions, all of one version: what the API's processes and the runners of jobs share."""

from typing import Any, NamedTuple

from stream_ml.core.api.answers import Answers, Of
from stream_ml.core.api.door import Asked, Door
from stream_ml.core.api.problems import Fault, Problem
from stream_ml.core.api.rows import Instance, Rows
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.model.estimator import ModelFailed, Scored


class Moment(NamedTuple):
    """Who answers from now until the next fold.

    Parameters
    ----------
    door
        Reads instances for this model.
    version
        ``LINEAGE/POSITION``.
    """

    model: LineageModel
    of: Of
    door: Door
    version: bytes

    @classmethod
    def made(cls, model: LineageModel, of: Of, door: Door) -> "Moment":
        """One, with its version."""
        return cls(model, of, door, f"{of.lineage}/{of.position}".encode())


def score_one(moment: Moment, row: int, instance: Instance) -> tuple[Scored, bool]:
    """What the model says, and whether a feature was brought within its limits; Problem where it raises."""
    model = moment.model.model
    within = model.limits.clip_one(instance.features)
    try:
        return model.learner.score_one(within), within is not instance.features
    except ModelFailed as error:
        fault = Fault(f"/instances/{row}", "model_refused", "the model raised")
        words = "the model raised for a usable event; nothing is wrong with the request"
        raise Problem("model-refused", words, faults=[fault]) from error


def score_asked(
    moment: Moment, of: Of, answers: Answers, asked: Asked, *, verbose: bool = True
) -> list[dict[str, Any]]:
    """Predictions of n instances; what is wrong with one stands in its place where the request is partial.

    Parameters
    ----------
    of
        What all of them say of their model.
    verbose
        Whether values may be repeated in what is wrong with them.
    """
    if isinstance(asked.instances, Rows):
        scores = moment.model.model.score_columns(asked.instances.names, asked.instances.columns)
        if scores is not None:
            return answers.many(scores, of)
    found: list[dict[str, Any]] = []
    for row, instance in enumerate(asked.instances):
        if not isinstance(instance, Instance):
            found.append({"error": told_fault(instance, verbose=verbose)})
            continue
        try:
            scored, clipped = score_one(moment, row, instance)
        except Problem as problem:
            if not asked.partial:
                raise
            found.append({"error": told_fault(list(problem.faults), verbose=verbose)})
            continue
        found.append(told_one(answers, of, instance, scored, clipped=clipped))
    return found


def told_one(answers: Answers, of: Of, instance: Instance, scored: Scored, *, clipped: bool) -> dict[str, Any]:
    """One prediction as it is told."""
    return answers.one(scored, of, imputed=instance.imputed, clipped=clipped, event_id=instance.event_id)


def told_fault(faults: list[Fault], *, verbose: bool) -> dict[str, Any]:
    """What is wrong with one instance, in its place."""
    first = faults[0]
    detail = {"detail": first.detail[:300]} if verbose else {}
    return {"code": first.code, **detail, "pointer": first.pointer}
