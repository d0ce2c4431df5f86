"""What a model says, as an answer says it: classes as the label's JSON has them, so that they can be sent back."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from stream_ml.core.avro.fields import Field
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.estimator import Scored


class Of(NamedTuple):
    """Who answers: what every answer says of its model.

    Parameters
    ----------
    lineage, position
        Version: so many entries of the log are in it.
    epoch
        Of the table of who serves.
    learned_at_ms
        When the newest entry of the log that is in it was written; 0: none is.
    flags
        Of all predictions of this moment.
    cold
        Whether it has learned less than quality.cold_below.
    frozen
        Whether a command has frozen learning.
    """

    lineage: str
    position: int
    epoch: int
    examples_learned: int
    learned_at_ms: int
    flags: tuple[str, ...]
    cold: bool
    frozen: bool


class Answers:
    """Makes the predictions of one task."""

    def __init__(self, domain: LabelDomain, label: Field) -> None:
        self.task = domain.task
        self.names = list(domain.classes)  # as `scores` has them
        self.classes: list[Any] = [_typed(label, name) for name in domain.classes]
        self._classes = dict(zip(domain.classes, self.classes, strict=True))

    def one(self, scored: Scored, of: Of, *, imputed: bool, clipped: bool, event_id: str | None) -> dict[str, Any]:
        """One prediction."""
        flags = list(of.flags)
        said = scored.value if self.task == "regression" else scored.class_name
        if of.cold or said is None:
            flags.append("cold")
        if imputed:
            flags.append("imputed")
        if clipped:
            flags.append("clipped")
        if of.frozen:
            flags.append("frozen")
        found: dict[str, Any] = {}
        if self.task == "regression":
            found["value"] = scored.value
        else:
            found["class"] = None if scored.class_name is None else self._class_of(scored.class_name)
            found["score"] = scored.score
            if self.task == "multiclass":
                found["scores"] = scored.scores
        if event_id is not None:
            found["id"] = event_id
        found["flags"] = flags
        return found

    def many(self, scores: Sequence[Scored], of: Of) -> list[dict[str, Any]]:
        """What `one` gives for each of n events that have nothing of their own: no id, nothing imputed or clipped."""
        flags = self.one(scores[0], of, imputed=False, clipped=False, event_id=None)["flags"]
        is_usual = self.task != "multiclass" and all(not one.cold for one in scores)
        if not is_usual:
            return [self.one(one, of, imputed=False, clipped=False, event_id=None) for one in scores]
        if self.task == "regression":
            return [{"value": one.value, "flags": flags} for one in scores]
        classes = self._classes
        return [{"class": classes[str(one.class_name)], "score": one.score, "flags": flags} for one in scores]

    def _class_of(self, name: str) -> Any:
        return self._classes.get(name, name)

    def by_place(self, predictions: Sequence[dict[str, Any]]) -> list[Any]:
        """The bare answers of instances given without names: the class, or the value."""
        name = "value" if self.task == "regression" else "class"
        return [one.get(name) if "error" not in one else None for one in predictions]


def _typed(label: Field, name: str) -> Any:
    if label.base == "boolean":
        return name == "true"
    return int(name) if label.base in ("int", "long") else name
