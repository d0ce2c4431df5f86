"""The model of a replica: an estimator that is asked and taught within the limits of what is usual."""

from collections.abc import Sequence
from typing import Any

from stream_ml.core.fold.batches import FoldSettings, Run
from stream_ml.core.fold.far_examples import Far
from stream_ml.core.inputs.events import Features
from stream_ml.core.model.estimator import Learner, Scored
from stream_ml.core.model.linear_batch import Column
from stream_ml.core.model.scoring import Scorer, Scores


class Model:
    """One estimator, what is usual of its features, and how many examples it has learned.

    Attributes
    ----------
    limits
        What is usual of each number, by the examples learned last; they are clipped to it.
    far
        Examples that were far from all others.
    """

    def __init__(self, settings: FoldSettings) -> None:
        self._domain = settings.domain
        self.limits = settings.ranges()
        self.far = Far()
        self.examples_learned = 0
        self.begin(settings.build())

    def begin(self, estimator: Any) -> None:
        """Take this estimator instead of the one before."""
        self.learner = Learner(estimator, self._domain)
        self.scorer = Scorer(self.learner)

    def score_one(self, features: dict[str, Any]) -> Scored:
        """What it says of one event."""
        return self.learner.score_one(self.limits.clip_one(features))

    def score_many(self, features: Features, count: int) -> Scores:
        """What it says of a batch of `count` events; equal to `score_one` row by row (tests/equivalence)."""
        within, clipped = self.limits.clip_many(features)
        scores = self.scorer.score_many(within, count)
        return scores._replace(clipped=clipped) if clipped else scores

    def score_columns(self, names: Sequence[str], columns: Sequence[Column]) -> list[Scored] | None:
        """What it says of n events given as columns of numbers, none of which is brought within its limits; None: ask
        `score_one`, which has the same bits."""
        if not self.limits.admits_columns(names, columns):
            return None
        return self.learner.score_columns(names, columns)

    def learned_many(self, run: Run, first: int, rows: Sequence[Sequence[Any]]) -> None:
        """Note what was learned of a run from this row on, as the estimator got it."""
        self.limits.saw_many(run.names, rows, run.ys[first : first + len(rows)])
