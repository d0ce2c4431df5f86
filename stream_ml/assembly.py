"""From a configuration to the parts of the core: schemas are read, the model's factory imported, everything checked."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from stream_ml import schemas
from stream_ml.config import Config, Source
from stream_ml.config.tree import MISS_DETECTORS
from stream_ml.core import made_up
from stream_ml.core.codec import EventReader, FeedbackReader
from stream_ml.core.contract import EXAMPLES, check_model
from stream_ml.core.drift import ConceptMonitor, detector_of
from stream_ml.core.features import FeaturePlan
from stream_ml.core.fields import find_field
from stream_ml.core.from_json import from_json
from stream_ml.core.json_text import read_json
from stream_ml.core.labels import LabelDomain
from stream_ml.core.lineage import Covered, lineage_of, parts_of, spec_of
from stream_ml.core.partition import PartitionSettings, Topics
from stream_ml.core.payloads import Payloads, Refused
from stream_ml.core.predictions import PredictionCodec, prediction_schema
from stream_ml.core.prepared import FoldSettings
from stream_ml.core.ranges import Ranges
from stream_ml.core.recent import Row
from stream_ml.core.resolution import check_meaning
from stream_ml.core.schema import Schema, fingerprint_of_text, load_schema
from stream_ml.core.times import JoinSettings
from stream_ml.core.written import LoggedSchema, WrittenSchema, written_schemas
from stream_ml.errors import ConfigError, Problems
from stream_ml.model_sources import closure
from stream_ml.storage.pickling import through

DETECTOR_TRIALS = 300  # numbers that a detector is tried with


class Parts(NamedTuple):
    """What the core is made of, for one configuration."""

    config: Config
    reader: EventReader
    feedback: FeedbackReader
    plan: FeaturePlan
    domain: LabelDomain
    predictions: PredictionCodec
    build: Callable[[], Any]

    def join_settings(self) -> JoinSettings:
        """Times and caps of the join."""
        feedback, pending = self.config.feedback, self.config.pending
        return JoinSettings(
            feedback.ttl, feedback.early_ttl, pending.events_max, pending.early_labels_max, pending.bytes_max
        )

    def partition_settings(self, record_bytes_max: int, inputs_id: tuple[str, str] = ("", "")) -> PartitionSettings:
        """What the cores of all partitions share."""
        config = self.config
        return PartitionSettings(
            self.reader,
            self.predictions,
            Topics(config.training_log_topic, config.outcomes, config.dead_letters, config.signals),
            config.transactional_id,
            record_bytes_max,
            config.quality.cold_below,
            inputs_id,
        )

    def spec(self, topic_id: str) -> dict[str, Any]:
        """Everything that the lineage covers, in words."""
        return spec_of(topic_id, self._covered())

    def lineage(self, topic_id: str) -> str:
        """Lineage of this model on the log with this topic id."""
        return lineage_of(topic_id, self._covered())

    def _covered(self) -> Covered:
        model = self.config.model
        settings = {
            "reader_schema": self.reader.payloads.reader.text,
            "features": self.plan.resolved,
            "task": model.task,
            "classes": self.domain.classes,
            "positive": self.domain.positive,
            "threshold": model.threshold,
            "seed": model.seed,
            "quality_window": self.config.quality.window,
            "concept_drift": self.config.drift.concept.model_dump(),
            "guard": self.config.learning.guard,
            "quarantine": self.config.learning.quarantine,
        }
        estimator = self.build()
        modules = {model.factory.partition(":")[0], *_modules(estimator)}
        sources = closure(modules, self.config.path(Path()))
        return Covered(model.factory, model.params, settings, estimator, sources)

    def fold_settings(self, lineage: str) -> FoldSettings:
        """What a replica needs. It knows no writer schema but the reader's: the others stand in the log."""
        payloads = Payloads(self.config.events.framing, self.reader.payloads.reader, {})
        settings = FoldSettings(lineage, payloads, self.plan, self.domain, self.build, self.concept_monitor)
        sealed = self.config.training_log
        return settings._replace(
            ranges=self.ranges,
            quarantine=self.config.learning.quarantine,
            sealed_from=None if sealed.key_file is None else sealed.sealed_from,
        )

    def written_schemas(self, logged: Iterable[LoggedSchema]) -> list[WrittenSchema]:
        """The schemas of both inputs and of all that is published: those of now, and those that the log holds."""
        config, codec = self.config, self.predictions
        own = {config.outcomes: "outcome", config.training_log_topic: "log_entry", config.signals: "signal"}
        texts = {topic: schemas.text(name) for topic, name in own.items()}
        now = [
            *(
                LoggedSchema(topic, one.fingerprint, one.text)
                for topic, side in ((config.events.topic, self.reader), (config.feedback.topic, self.feedback))
                for one in side.payloads.schemas.values()
            ),
            LoggedSchema(codec.topic, codec.fingerprint, codec.text),
            *(LoggedSchema(topic, fingerprint_of_text(text), text) for topic, text in texts.items()),
        ]
        return written_schemas(config.events.topic, now, logged)

    def ranges(self) -> Ranges:
        """What is usual of each number that the model learns; nothing is known yet."""
        guard, label = self.config.learning.guard, self.domain.task == "regression"
        return Ranges(self.plan.measured, self.plan.sigmas, guard, label=label, distinct=self.plan.distinct)

    def concept_monitor(self) -> ConceptMonitor:
        """What watches the loss; ConfigError where the detector does not take its parameters."""
        concept = self.config.drift.concept
        params = {"seed": self.config.model.seed} if concept.detector == "kswin" else {}
        make = partial(detector_of, concept.detector, params | concept.params)
        try:
            binary = concept.detector in MISS_DETECTORS
            window = self.config.quality.window
            return ConceptMonitor(self.config.model.task, window, make, watch=concept.watch, binary=binary)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"drift.concept.params: {concept.detector} does not take them: {error}") from error


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
    parts = Parts(config, reader, labels, plan, domain, codec, build)
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


def checked(parts: Parts) -> Parts:
    """The parts, once the model has passed its contract; ConfigError lists everything that is wrong with it."""
    types = parts.config.model.checkpoint_types
    events = tried_events(parts)
    plan, domain = parts.plan, parts.domain
    wrong = check_model(parts.build, plan.kinds, domain, partial(through, extra=types), events, plan.open_texts)
    if wrong:
        hint = "" if parts.config.model.samples else "made-up events were used; model.samples names a file of real ones"
        raise ConfigError(f"model {parts.config.model.factory} cannot be used:\n  " + "\n  ".join(wrong), hint)
    return parts


def tried_events(parts: Parts) -> list[dict[str, Any]]:
    """Features of the events that a model is tried with: the sample records, or made-up ones of the schema.

    Raises
    ------
    ConfigError
        A sample is not of the schema, or would be a dead letter; it names file and line.
    """
    file, schema = parts.config.model.samples, parts.reader.payloads.reader
    if file is None:
        return made_up.features(schema, parts.plan, EXAMPLES)
    path = parts.config.path(file)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"model.samples {path} cannot be read: {error}") from error
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ConfigError(f"model.samples {path} holds no record", "write an event as a JSON object a line")
    return [_sample(parts, f"model.samples {path}, line {number}", line) for number, line in rows]


def _sample(parts: Parts, where: str, line: str) -> dict[str, Any]:
    try:
        row = read_json(line)
        if parts.config.events.id == "key" and isinstance(row, dict):
            row.pop("key", None)
        found = parts.plan.extract(from_json(parts.reader.payloads.reader, row))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    if isinstance(found, Refused):
        raise ConfigError(f"{where}: {found.message}")
    return found[0]


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


def load_factory(config: Config) -> Callable[[], Any]:
    """A function that gives a new estimator each time, from ``module:attribute``.

    The configuration's folder is searched first. A factory that takes `seed` gets model.seed.
    """
    module_name, _, attribute = config.model.factory.partition(":")
    folder = str(config.path(Path()).resolve())
    if sys.path[0] != folder:
        sys.path.insert(0, folder)
    _forget_namesakes(Path(folder))
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        there = f"is {module_name}.py beside the configuration, or its package installed?"
        raise ConfigError(
            f"model.factory {config.model.factory} cannot be imported: {type(error).__name__}: {error}",
            there if missing else f"{module_name} was found; look into it",
        ) from error
    if not callable(found):
        if config.model.params or not hasattr(found, "clone"):
            raise ConfigError(f"model.factory {config.model.factory} is no function, so model.params cannot reach it")
        clone: Callable[[], Any] = found.clone
        return clone
    params = dict(config.model.params)
    if "seed" in _parameters(found):
        params["seed"] = config.model.seed
    return lambda: found(**params)


def _forget_namesakes(folder: Path) -> None:
    """Modules of another app in this process that have the names of this app's are not this app's."""
    for name in list(sys.modules):
        root = name.partition(".")[0]
        module = sys.modules.get(root)
        if module is None or root in sys.stdlib_module_names or root == __name__.partition(".")[0]:
            continue
        beside = [place for place in (folder / f"{root}.py", folder / root / "__init__.py") if place.exists()]
        if beside and Path(getattr(module, "__file__", None) or beside[0]) not in beside:
            for other in [other for other in sys.modules if other.partition(".")[0] == root]:
                del sys.modules[other]


def _parameters(factory: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return set()


def _modules(estimator: Any) -> set[str]:
    """Modules that the estimator's parts come from."""
    modules: set[str] = set()

    def walk(value: Any, depth: int) -> None:
        named = value if isinstance(value, type) or inspect.isfunction(value) else type(value)
        modules.add(str(getattr(named, "__module__", "builtins")))
        if depth > 12:
            return
        for part in parts_of(value):
            walk(part, depth + 1)

    walk(estimator, 0)
    return modules
