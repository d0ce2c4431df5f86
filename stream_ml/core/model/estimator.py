"""A River estimator behind the four things that the service asks of it: score, learn, both by task."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from stream_ml.core.avro.fields import MAGNITUDE_MAX
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.linear_batch import Column, Matrix, linear_runs
from stream_ml.records import Target


class Scored(NamedTuple):
    """What a model says about one event; all None from a cold model.

    `score` is a probability from 0 to 1: binary, of the positive label; multiclass, of `class_name`.
    """

    class_name: str | None
    score: float | None
    scores: dict[str, float] | None
    value: float | None

    @property
    def cold(self) -> bool:
        """Whether the model had nothing usable to say."""
        return self.class_name is None and self.value is None


class ModelFailed(Exception):
    """The estimator raised; the message says what. Scoring: the event becomes a dead letter. Learning: it halts."""


COLD = Scored(None, None, None, None)


class Learner:
    """Scores and learns features of d values, in schema order. Not safe for threads: River's trees break."""

    def __init__(self, estimator: Any, domain: LabelDomain) -> None:
        self.estimator = estimator
        self.domain = domain
        self._runs = linear_runs(estimator)
        self._score = {
            "binary": self._binary,
            "multiclass": self._multiclass,
            "regression": self._regression,
        }[domain.task]

    @property
    def fallback_reason(self) -> str:
        """Why a model whose runs could be learned as a matrix no longer is; empty where it is, or never was."""
        return self._runs.fallback_reason if self._runs is not None else ""

    def score_one(self, features: dict[str, Any]) -> Scored:
        """Score one event; ModelFailed where the estimator raises."""
        try:
            return self._score(features)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # what native parts of a model raise is no Exception
            raise ModelFailed(f"{type(error).__name__}: {error}") from error

    def score_columns(self, names: Sequence[str], columns: Sequence[Column]) -> list[Scored] | None:
        """Score n events, given as columns of finite numbers; None where that has to be done one by one.

        Fast path of `score_one`, with the same bits: tests/equivalence/test_linear_batch.py. Each time the first event
        is scored by `score_one`, too: a model that answers differently is asked one by one from then on.
        """
        runs = self._runs
        if runs is None or self.domain.task == "multiclass":
            return None
        make = self._of_value if self.domain.task == "regression" else self._of_probability
        first = {name: column[0].item() for name, column in zip(names, columns, strict=True)}
        try:
            found = runs.answers(names, columns)
            if found is None:
                return None
            scores = list(map(make, found))
            expected = self.score_one(first)
        except (ArithmeticError, TypeError, ValueError, ModelFailed):  # `score_one` tells for which of them
            return None
        if bits(expected) != bits(scores[0]):
            runs.fallback_reason = "columns and score_one give different answers"
            return None
        return scores

    def learn(self, features: dict[str, Any], target: Target) -> None:
        """Learn one example; ModelFailed where the estimator raises, which may have learned half of it by then."""
        self.learn_y(features, self.domain.y(target))

    def learn_y(self, features: dict[str, Any], y: Any) -> None:
        """Learn one example, its label as the model takes it; ModelFailed where the estimator raises."""
        try:
            self.estimator.learn_one(features, y)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # what native parts of a model raise is no Exception
            raise ModelFailed(f"{type(error).__name__}: {error}") from error

    def learn_in_order(self, names: Sequence[str], rows: Matrix, ys: Sequence[Any]) -> tuple[int, ModelFailed | None]:
        """Learn n examples, one after the other; how many were learned before the estimator raised, if it did.

        Fast path of `learn_y`, with the same bits: tests/equivalence/test_linear_batch.py.
        """
        if self._runs is not None and self._runs.learn(names, rows, ys):
            return len(rows), None
        learn_one, count = self.estimator.learn_one, 0
        try:
            for row, y in zip(rows, ys, strict=True):
                learn_one(dict(zip(names, row, strict=True)), y)
                count += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # what native parts of a model raise is no Exception
            failed = ModelFailed(f"{type(error).__name__}: {error}")
            failed.__cause__ = error
            return count, failed
        return count, None

    def sound(self, probes: Sequence[dict[str, Any]]) -> bool:
        """Whether the model still answers to all of these features, with finite numbers (or nothing, while cold)."""
        if self._runs is not None and probes and self._runs.surely_sound(probes):
            return True
        return all(map(self._sound, probes))

    def _sound(self, features: dict[str, Any]) -> bool:
        try:
            if self.domain.task == "regression":
                value = self.estimator.predict_one(features)
                return value is None or math.isfinite(value)
            return all(math.isfinite(p) for p in self.estimator.predict_proba_one(features).values())
        except (NotImplementedError, AttributeError):  # River's word for a model without probabilities
            return True
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            return False

    def _probabilities(self, features: dict[str, Any]) -> dict[Any, float] | None:
        try:
            found: dict[Any, float] = self.estimator.predict_proba_one(features)
        except (NotImplementedError, AttributeError):  # the same
            return None
        return found if all(math.isfinite(p) for p in found.values()) else {}

    def _binary(self, features: dict[str, Any]) -> Scored:
        domain, probabilities = self.domain, self._probabilities(features)
        if probabilities is None:
            said = self.estimator.predict_one(features)
            return COLD if said is None else Scored(domain.positive if said else domain.negative, None, None, None)
        if not probabilities:
            return COLD
        return self._of_probability(float(probabilities.get(True, 0.0)))

    def _of_probability(self, score: float) -> Scored:
        """What a probability of the positive label comes to."""
        if not is_probability(score):
            return COLD
        domain = self.domain
        return Scored(domain.positive if score >= domain.threshold else domain.negative, score, None, None)

    def _multiclass(self, features: dict[str, Any]) -> Scored:
        probabilities = self._probabilities(features)
        if probabilities is None:
            said = self.estimator.predict_one(features)
            return COLD if said is None else Scored(str(said), None, None, None)
        if not probabilities:
            return COLD
        scores = {str(name): float(probabilities[name]) for name in sorted(probabilities)}
        if not all(is_probability(score) for score in scores.values()):
            return COLD
        best = max(scores, key=lambda name: scores[name])
        return Scored(best, scores[best], scores, None)

    def _regression(self, features: dict[str, Any]) -> Scored:
        return self._of_value(self.estimator.predict_one(features))

    def _of_value(self, value: Any) -> Scored:
        """What the value of a regression comes to."""
        if value is None or not abs(value) <= MAGNITUDE_MAX:
            return COLD
        return Scored(None, None, None, float(value))


def is_probability(score: float) -> bool:
    """Whether a score can be published as one."""
    return 0.0 <= score <= 1.0


def bits(scored: Scored) -> tuple[str, ...]:
    """The scored values down to the last bit, for comparing replicas (float.hex)."""
    numbers = [scored.score, scored.value, *(scored.scores or {}).values()]
    return (str(scored.class_name), *("" if n is None else n.hex() for n in numbers))
