"""What the core is told about inputs, features and labels; the classes of the configuration fit these shapes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from stream_ml.records import Scalar, Task


class Source(Protocol):
    """A topic of Avro records: `id` and `time` are dotted fields, or ``key`` and ``record`` for Kafka's own."""

    @property
    def topic(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def time(self) -> str: ...


class LabelSource(Source, Protocol):
    """A topic of labels: `label` is the dotted field that holds the truth."""

    @property
    def label(self) -> str: ...


class LabelSettings(Protocol):
    """The task, and which labels there are where the type of the field does not say it."""

    @property
    def task(self) -> Task: ...
    @property
    def positive(self) -> Scalar: ...
    @property
    def labels(self) -> Sequence[Scalar] | None: ...
    @property
    def threshold(self) -> float: ...


class FeatureSettings(Protocol):
    """Which fields are features. `missing` and `bounds` are by feature, or ``default``.

    A value of `missing` is ``reject``, ``drop``, or has `impute`. One of `bounds` has the fields of Bounds.
    """

    @property
    def include(self) -> Sequence[str] | None: ...
    @property
    def exclude(self) -> Sequence[str]: ...
    @property
    def missing(self) -> Mapping[str, Any]: ...
    @property
    def bounds(self) -> Mapping[str, Any]: ...


class Bounds(NamedTuple):
    """What a feature may be. None: no such bound.

    Parameters
    ----------
    min, max
        Of a number; outside is a dead letter.
    sigma
        Of a number: it is clipped to so many spreads around the median of the examples learned last.
    length
        Characters of a text; a longer one is a dead letter.
    distinct
        Values of a text that are learned; the others are one value.
    """

    min: float | None = None
    max: float | None = None
    sigma: float | None = None
    length: int | None = None
    distinct: int | None = None

    @classmethod
    def of(cls, settings: Any) -> "Bounds":
        """The bounds that the configuration names."""
        return cls(settings.min, settings.max, settings.sigma, settings.length, settings.distinct)

    @property
    def of_number(self) -> bool:
        """Whether it says something of a number."""
        return any(value is not None for value in (self.min, self.max, self.sigma))

    @property
    def of_text(self) -> bool:
        """Whether it says something of a text."""
        return self.length is not None or self.distinct is not None

    def admits(self, value: float | str) -> bool:
        """Whether a value is no dead letter."""
        if isinstance(value, str):
            return self.length is None or len(value) <= self.length
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)
