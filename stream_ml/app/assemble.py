"""From a configuration to the parts of the core: schemas are read, everything that does not fit is named at once."""

import difflib
from functools import partial
from pathlib import Path
from typing import Any

from stream_ml.app.factory import load_factory, loaded_texts
from stream_ml.app.parts import Parts
from stream_ml.config import Config, Source
from stream_ml.core.avro.fields import find_field
from stream_ml.core.avro.framing import Payloads
from stream_ml.core.avro.resolution import check_meaning
from stream_ml.core.avro.schema import Schema, load_schema
from stream_ml.core.evaluation.window import Row
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.inputs.readers import EventReader, FeedbackReader
from stream_ml.core.partition.predictions import PredictionCodec, prediction_schema
from stream_ml.errors import ConfigError, Problems

DETECTOR_TRIALS = 300  # numbers that a detector is tried with


def assemble(config: Config) -> Parts:
    """The parts of the core.

    Raises
    ------
    ConfigError
        Schemas, fields, features, labels or the model do not fit; it names all that does not. The operator mends it.
    """
    problems = Problems()
    events = problems.of(lambda: payloads_of(config, config.events))
    feedback = problems.of(lambda: payloads_of(config, config.feedback))
    build = problems.of(lambda: load_factory(config))
    plan: Any = None  # a reader without one is made only to learn what else is wrong
    reader = concrete = domain = labels = None
    if events is not None:
        left_out, carry = {config.events.id, config.events.time}, config.predictions.carry
        plan = problems.of(partial(FeaturePlan, events.reader, config.features, left_out))
        concrete = problems.of(partial(prediction_schema, events.reader, carry))
        reader = problems.of(partial(EventReader, config.events, events, plan, carry if concrete else ()))
    if feedback is not None:
        label = problems.of(partial(find_field, feedback.reader, config.feedback.label, where="feedback.label"))
        if label is not None:
            domain = problems.of(partial(LabelDomain, config.model, label, feedback.reader))
        labels = problems.of(partial(FeedbackReader, config.feedback, feedback, domain)) if domain else None
    if not (build and plan and reader and concrete and domain and labels):
        raise problems.error()
    out = config.predictions
    codec = PredictionCodec(out.topic, out.framing, out.schema_id, concrete)
    parts = Parts(config, reader, labels, plan, domain, codec, build, config.path(Path()), loaded_texts(config))
    _try_monitor(parts)
    unknown = [name for name in config.drift.inputs.exclude if name not in plan.kinds]
    if unknown:
        raise ConfigError(
            f"drift.inputs.exclude: no feature is named {', '.join(unknown)}", f"there are {', '.join(plan.kinds)}"
        )
    return parts


def _try_monitor(parts: Parts) -> None:
    """See that the detector takes its parameters, and numbers: River's judge them only where they are used."""
    monitor = parts.concept_monitor()
    try:
        for number in range(DETECTOR_TRIALS):
            hit = float(number % 3 > 0)
            monitor.update(Row(0, 0, 1.0, hit, 0.25 + 0.5 * hit, 1.0, 0.5), "trial", number)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # what River's Rust raises is no Exception
        concept = parts.config.drift.concept
        raise ConfigError(f"drift.concept: {concept.detector} does not work with {concept.params}: {error}") from error


def payloads_of(config: Config, source: Source) -> Payloads:
    """The codec of a topic's values; ConfigError where a schema file is wrong."""
    by_id = {number: _schema(config, path) for number, path in source.schema_ids.items()}
    reader = _schema(config, source.schema_)
    for number, writer in by_id.items():
        side = "events" if source is config.events else "feedback"
        check_meaning(writer, reader, where=f"{side}.schema_ids {number}")
    if source.framing == "confluent":
        return Payloads(source.framing, reader, by_id)
    return Payloads(source.framing, reader, {}, list(by_id.values()))


def _schema(config: Config, path: Path) -> Schema:
    file = config.path(path)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        near = difflib.get_close_matches(file.name, [other.name for other in file.parent.glob("*.avsc")], 1)
        what = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        hint = f"did you mean {near[0]}?" if near else "paths are relative to the configuration file"
        raise ConfigError(f"schema {file.absolute()} cannot be read: {what}", hint) from error
    return load_schema(text, where=str(file))
