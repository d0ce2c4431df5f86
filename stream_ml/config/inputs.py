"""Events, feedback, predictions and features: what goes in and what comes out."""

import math
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from stream_ml.config.section import Name, Section, key
from stream_ml.records import Framing, Scalar
from stream_ml.units import Duration, duration_ms


class Source(Section):
    """A topic of Avro records, and how its bytes name their schema."""

    topic: Name = key(..., "topic of the records")
    schema_: Path = key(..., "Avro record schema (.avsc) that they are read into", alias="schema")
    framing: Framing = key("bare", "`bare`, `confluent` or `single-object`; stated, never guessed")
    schema_ids: dict[int, Path] = key(
        {}, "writer schemas: `{id: file}`; confluent needs them, single-object may have more than one writer"
    )
    id: str = key(..., "field with the id of the event, dotted for nested ones, or `key`: the record key")
    time: str = key("record", "field with a timestamp or date type, or `record`: Kafka's timestamp")

    @model_validator(mode="after")
    def _ids(self) -> Self:
        if self.framing == "confluent" and not self.schema_ids:
            raise ValueError("framing confluent needs schema_ids: {id: file of the writer's schema}")
        if self.framing == "bare" and self.schema_ids:
            raise ValueError("framing bare has no schema_ids: its bytes name no schema; leave them out")
        return self


class Events(Source):
    """The events to be scored."""


class Feedback(Source):
    """The truth about events, which comes later."""

    label: str = key(..., "field with the label")
    ttl: Duration = key(..., "how long after its event a label joins")
    early_ttl: Duration = key(duration_ms("1h"), "how long before its event a label may be known")


class Predictions(Section):
    """Where predictions go and in which form."""

    topic: Name = key(..., "predictions")
    framing: Framing = key(
        "single-object", "how the bytes of a prediction name their schema: `bare`, `confluent` or `single-object`"
    )
    schema_id: int | None = key(None, "id for confluent framing, from 0 to 2^32-1", ge=0, lt=2**32)
    carry: list[str] = key([], "event fields passed through, each as a column carried_NAME; scalars alone")

    @model_validator(mode="after")
    def _id(self) -> Self:
        if (self.framing == "confluent") != (self.schema_id is not None):
            raise ValueError("framing confluent needs schema_id, and only it has one")
        return self


class Impute(Section):
    """Fill a missing feature with a value."""

    impute: Scalar


class Bounds(Section):
    """What a feature may be: outside is a dead letter; what is far from the rest, or one too many, is clipped."""

    min: float | None = None
    max: float | None = None
    sigma: float | None = Field(default=None, ge=1.0, le=1e6)
    length: int | None = Field(default=None, ge=1, le=10_000_000)
    distinct: int | None = Field(default=None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        given = [value for value in (self.min, self.max, self.sigma) if value is not None]
        if not given and self.length is None and self.distinct is None:
            raise ValueError("say min, max or sigma of a number, length or distinct of a text")
        if not all(map(math.isfinite, given)):
            raise ValueError("a bound is a finite number")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Features(Section):
    """Which fields the model sees, and what happens where one is missing."""

    include: list[str] | None = key(
        None, "fields that the model sees; null: every scalar field but id and time. Always in schema order"
    )
    exclude: list[str] = key([], "fields that it does not see")
    missing: dict[str, Literal["reject", "drop"] | Impute] = key(
        {"default": "reject"},
        "where a feature is null: `reject` (a dead letter), `drop`, or `{impute: value}`; by feature, or `default`",
    )
    bounds: dict[str, Bounds] = key(
        {},
        "by feature, or `default`. Of a number: `{min: value, max: value}`, outside a dead letter `out_of_bounds`; "
        "`{sigma: 8}`: clipped to so many spreads around the median of the examples learned last, and flagged. Of a "
        "text: `{length: 1000}` characters, else a dead letter; `{distinct: 1000}` values are learned, others are "
        "`(other)`",
    )
