"""Whether the model still answers with finite numbers: it is asked for a few of its own examples again and again."""

from typing import Any

from stream_ml.core.model.estimator import Learner, bits

PROBES_MAX = 16  # features of the examples numbered 1, 2, 4, 8 ...: the last so many of them
CHECK_EVERY = 64  # examples; it costs up to 16 predictions, 1 us an example for a linear model
NOT_FINITE = "the model's answers to its probe examples are no longer finite numbers"


class HealthCheck:
    """The probe examples of one model.

    Attributes
    ----------
    probes
        Features of examples that it has learned.
    healthy_examples
        After so many examples the last regular check found it healthy.
    each_after
        Check after each example from this number on: a successor looks for the one that corrupted its predecessor.
    """

    def __init__(self) -> None:
        self.probes: list[dict[str, Any]] = []
        self.healthy_examples = 0
        self.each_after: int | None = None
        self._verdict: tuple[Learner, int, bool] | None = None

    def is_healthy(self, learner: Learner, learned: int) -> bool:
        """Whether its answers are finite, after so many examples; asked once for each state of a model."""
        known = self._verdict
        if known is None or known[0] is not learner or known[1] != learned:
            known = self._verdict = (learner, learned, learner.sound(self.probes))
        return known[2]

    def learned(self, learner: Learner, number: int, features: dict[str, Any]) -> bool:
        """Take the example with this number, counted from 1, as one that was learned; whether the model is healthy.

        It is checked where a check is due, and taken for healthy else.
        """
        if number & (number - 1) == 0:
            self.probes = [*self.probes, features][-PROBES_MAX:]
        regular = number % CHECK_EVERY == 0
        if (regular or self.each(number)) and not self.is_healthy(learner, number):
            return False
        if regular:
            self.healthy_examples = number
        return True

    def each(self, number: int) -> bool:
        """Whether the example with this number is checked alone."""
        return self.each_after is not None and number > self.each_after

    def bits(self, learner: Learner) -> list[tuple[str, ...]]:
        """What the model says of its probe examples, to the last bit: the identity of a replica."""
        return [bits(learner.score_one(features)) for features in self.probes]
