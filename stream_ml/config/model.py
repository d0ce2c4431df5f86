"""The model, how it learns, and what is watched: quality, drift, shares of records."""

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from stream_ml.config.section import Section, key
from stream_ml.records import Scalar, Task
from stream_ml.units import Duration, Size, duration_ms


class Model(Section):
    """What is learned. `factory` is ``module:attribute``."""

    factory: str = key(
        ...,
        "`module:attribute`: a function that gives a River estimator, or an estimator; beside the file, or installed",
        pattern=r"^[\w.]+:[\w.]+$",
    )
    name: str | None = key(
        None,
        "what people call it; null: the attribute of the factory. Another model of the log with this name gets ~2",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=50,
    )
    params: dict[str, Any] = key(
        {}, "arguments of the function; one named `seed` gets model.seed, the only place for it"
    )
    task: Task = key(..., "`binary`, `multiclass` or `regression`")
    positive: Scalar = key(True, "binary: the label that the score is about")
    labels: list[Scalar] | None = key(None, "the closed list of labels, where the type of the label does not say it")

    @field_validator("labels")
    @classmethod
    def _finite(cls, given: list[Scalar] | None) -> list[Scalar] | None:
        if any(isinstance(label, float) and not math.isfinite(label) for label in given or ()):
            raise ValueError("a label that is no number is none: quote it, where it is a text")
        return given

    threshold: float = key(0.5, "binary: score from which the positive class is predicted, 0 to 1", ge=0.0, le=1.0)
    seed: int = key(7, "seed of everything random", ge=0, lt=2**31)
    memory_max: Size | None = key(
        None, "how large the model may be, as its checkpoint unpacked; null: a quarter of the memory that there is"
    )
    memory_policy: Literal["tell", "freeze", "exit"] = key(
        "tell",
        "what is done beyond it: `tell`; `freeze`: learning stops for all workers by a command in the log, until "
        "`resume`; `exit`: the worker ends",
    )
    samples: Path | None = key(
        None, "file with sample events, a JSON object a line, that the model is tried with at start; null: made-up ones"
    )
    checkpoint_types: list[str] = key(
        [], "`module.Class` or `module.function` beyond River's and numpy's that a checkpoint may hold"
    )


class Learning(Section):
    """How long a turn may fold, and how far learning may lag."""

    budget_per_turn: Duration = key(duration_ms("50ms"), "longest time that a turn folds")
    lag_max: Duration = key(
        duration_ms("60s"), "learning further behind than this: a backlog waits, live predictions are flagged `stale`"
    )
    guard: float = key(
        100.0,
        "an example is far from all others where a number, or a regression's label, is so many spreads from the "
        "median of those learned last; 0: off",
        ge=0.0,
        le=1e9,
    )
    quarantine: Literal["halt", "divert", "tell"] = key(
        "tell", "what becomes of a far example: `halt` learning before it, `divert`: leave it out, or only `tell`"
    )

    @field_validator("guard")
    @classmethod
    def _far_enough(cls, given: float) -> float:
        if 0 < given < 10:
            raise ValueError("below 10 spreads an honest example is far; 0 is off")
        return given


class Quality(Section):
    """Windows over which the quality of what was served is reported, beside its whole life."""

    window: int = key(1000, "labelled predictions of the rolling window", ge=50, le=10_000)
    window_time: Duration = key(
        duration_ms("1d"), "the window by time: labels not older than this before the newest; of 10,000 at most"
    )
    cold_below: int = key(
        1,
        "examples that a model must have learned; before, predictions are flagged cold, outside of quality",
        ge=1,
    )


MISS_DETECTORS = ("ddm", "eddm", "hddm-a", "hddm-w")  # they see misses of a classification, no losses
Detector = Literal["adwin", "page-hinkley", "kswin", "ddm", "eddm", "hddm-a", "hddm-w", "none"]


class ConceptDrift(Section):
    """What watches the loss, inside of the fold."""

    detector: Detector = key(
        "adwin", "River's detector of a change in the loss; ddm, eddm and hddm see only misses of a classification"
    )
    params: dict[str, Scalar] = key({}, "arguments of the detector, as River names them")
    watch: Literal["loss", "advantage"] = key(
        "loss", "`loss`, or `advantage`: the loss beside the baseline's, which a new share of labels moves less"
    )


class InputDrift(Section):
    """What watches features and scores, in each worker."""

    reference: int = key(
        5000, "events of a worker that make the reference, at most 500 of each batch; 0: off", ge=0, le=100_000
    )
    window: int = key(1000, "events of a window that is compared with it", ge=200, le=100_000)
    psi: float = key(0.2, "population stability index from which two windows in a row are drift", gt=0)
    exclude: list[str] = key([], "features that are not watched, like the hour or the month")


class Drift(Section):
    """What counts as drift."""

    concept: ConceptDrift = ConceptDrift()
    inputs: InputDrift = InputDrift()
    label_starvation: Duration | None = key(
        None, "so much record time of events without one label is reported; null: feedback.ttl"
    )


class Watch(Section):
    """Shares of the last records from which on something is wrong: a problem in words on every surface."""

    window: int = key(1000, "records over which the shares are taken", ge=100, le=1_000_000)
    least: int = key(100, "records from which on a share is reported", ge=1)
    duplicates_max: float = key(0.2, "events whose id came before", ge=0.0, le=1.0)
    too_old_max: float = key(0.2, "events older than feedback.ttl when they come", ge=0.0, le=1.0)
    orphans_max: float = key(0.2, "labels that found no event", ge=0.0, le=1.0)
    late_max: float = key(0.2, "labels that came later than feedback.ttl", ge=0.0, le=1.0)
    waiting_max: float = key(0.5, "labels that wait, of these and those that have joined", ge=0.0, le=1.0)
