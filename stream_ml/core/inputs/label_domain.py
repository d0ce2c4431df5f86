"""Labels made canonical once, where they enter: to River 1, True and "1" are different classes, or equal ones."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from stream_ml.core.avro.fields import Field, InvalidValue, finite
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.avro.schema import Schema
from stream_ml.core.inputs.settings import LabelSettings
from stream_ml.errors import ConfigError
from stream_ml.records import Scalar, Target

LABEL_TYPES = {"binary": "boolean", "multiclass": "string", "regression": "double"}  # the plainest Avro type by task
CLASSES_MAX = 1_000  # of a multiclass label


def class_text(value: object) -> str:
    """Canonical text of a class: true, false, an integer's digits, or the text itself."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class LabelDomain:
    """The labels of a task: which there are, and what each is to the model.

    `classes` are canonical texts, sorted, empty for regression. `positive` is the class that a binary score is about.
    """

    def __init__(self, model: LabelSettings, field: Field, schema: Schema) -> None:
        self.task = model.task
        self.threshold = model.threshold
        self.positive = ""
        self.classes: list[str] = []
        if self.task == "regression":
            if field.kind != "number":
                raise ConfigError(f"feedback.label: {field.name} is {field.base}; regression needs a number")
            return
        self.classes = sorted({class_text(value) for value in _possible(model, field, schema)})
        if self.task == "multiclass" and len(self.classes) < 2:
            raise ConfigError("model.labels: a class is told from another, so there are two at least", "list them")
        if len(self.classes) > CLASSES_MAX:
            raise ConfigError(f"model.labels: {len(self.classes)} classes; at most {CLASSES_MAX}")
        if self.task == "binary":
            if model.positive == "TODO":
                raise ConfigError(f"model.positive is TODO: name one of {', '.join(self.classes)}")
            self.positive = _positive(model, field)
            if len(self.classes) != 2 or self.positive not in self.classes:
                raise ConfigError(
                    f"model: task binary needs two labels, one of them model.positive; the labels are "
                    f"{', '.join(self.classes)} and positive is {self.positive}",
                    "set model.positive, or model.labels to the two",
                )

    @cached_property
    def negative(self) -> str:
        """The other class of a binary task."""
        return next(name for name in self.classes if name != self.positive)

    def canonical(self, value: Any) -> Target | Rejected:
        """The label as a Target; Rejected (label_domain or not_finite) where it is none."""
        if value is None:
            return Rejected("label_domain", "the label is null")
        if self.task == "regression":
            try:
                return Target(None, finite(float(value)))
            except (InvalidValue, OverflowError) as error:
                return Rejected("not_finite", f"the label: {error}")
        name = class_text(value)
        if name not in self.classes:
            return Rejected("label_domain", f"the label {name!r} is none of {', '.join(self.classes)}")
        return Target(name, None)

    def fits(self, target: Target) -> bool:
        """Whether it is a label of this task."""
        if self.task == "regression":
            return target.value is not None and math.isfinite(target.value)
        return target.class_name in self.classes

    def y(self, target: Target) -> bool | str | float:
        """What the model learns: True or False for binary, the class's text for multiclass, the value."""
        if self.task == "regression":
            assert target.value is not None  # noqa: S101 - the constructor of Targets is `canonical`
            return target.value
        assert target.class_name is not None  # noqa: S101
        return target.class_name == self.positive if self.task == "binary" else target.class_name


def _possible(model: LabelSettings, field: Field, schema: Schema) -> Sequence[Scalar]:
    if model.labels is not None:
        wrong = [str(label) for label in model.labels if not _can_be(label, field, schema)]
        if wrong:
            raise ConfigError(
                f"model.labels: {field.name} is {field.base} and can never be {', '.join(wrong)}",
                "quote texts, in YAML they are numbers or booleans otherwise"
                if field.base in ("string", "enum")
                else "",
            )
        return model.labels
    if field.base == "boolean":
        return [True, False]
    if field.base == "enum":
        return _symbols(field, schema)
    if field.base in ("int", "long") and model.task == "binary":
        return [0, 1]
    raise ConfigError(
        f"feedback.label: {field.name} is {field.base}, whose values are not a closed list",
        "list them in model.labels",
    )


def _can_be(label: Scalar, field: Field, schema: Schema) -> bool:
    if field.base == "boolean":
        return isinstance(label, bool)
    if field.base in ("int", "long"):
        return class_text(label).removeprefix("-").isdecimal()
    if field.base == "enum":
        return label in _symbols(field, schema)
    return field.base == "string" and isinstance(label, str | int) and not isinstance(label, bool)


def _symbols(field: Field, schema: Schema) -> list[Scalar]:
    return list(schema.resolve(field.type_)["symbols"])


def _positive(model: LabelSettings, field: Field) -> str:
    if isinstance(model.positive, bool) and field.base in ("int", "long"):
        return str(int(model.positive))
    return class_text(model.positive)
