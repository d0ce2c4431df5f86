"""What the core is made of, for one configuration."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from stream_ml import formats
from stream_ml.app.factory import modules_of
from stream_ml.app.sources import NOTHING, closure
from stream_ml.config import Config
from stream_ml.config.model import MISS_DETECTORS
from stream_ml.core.avro.framing import Payloads
from stream_ml.core.avro.schema import fingerprint_of_text, meaning_of
from stream_ml.core.drift.concept import ConceptMonitor
from stream_ml.core.drift.detectors import detector_of
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.limits import Ranges
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.inputs.readers import EventReader, FeedbackReader
from stream_ml.core.join.watermark import JoinSettings
from stream_ml.core.log.logged_schemas import LoggedSchema, WrittenSchema, written_schemas
from stream_ml.core.model.lineage import LINEAGE_DIGITS, Covered, digest_of, lineage_of, spec_of, watch_spec_of
from stream_ml.core.model.selection import EVERYTHING, Selection
from stream_ml.core.partition.answered import AnswerSeal
from stream_ml.core.partition.batch import PartitionSettings
from stream_ml.core.partition.outputs import Topics
from stream_ml.core.partition.predictions import PredictionCodec
from stream_ml.errors import ConfigError


class Parts(NamedTuple):
    """What the core is made of, for one configuration."""

    config: Config
    reader: EventReader
    feedback: FeedbackReader
    plan: FeaturePlan
    domain: LabelDomain
    predictions: PredictionCodec
    build: Callable[[], Any]
    folder: Path = Path()  # where the model's source is
    loaded: Mapping[str, bytes] = NOTHING  # that source by path, as it runs
    selection: Selection = EVERYTHING  # which examples of the log the model learns

    def join_settings(self) -> JoinSettings:
        """Times and caps of the join."""
        feedback, pending = self.config.feedback, self.config.pending
        return JoinSettings(
            feedback.ttl, feedback.early_ttl, pending.events_max, pending.early_labels_max, pending.bytes_max
        )

    def partition_settings(
        self, record_bytes_max: int, inputs_id: tuple[str, str] = ("", ""), answers: AnswerSeal | None = None
    ) -> PartitionSettings:
        """What the cores of all partitions share; `answers` believes what the scoring API has answered."""
        config = self.config
        return PartitionSettings(
            self.reader,
            self.predictions,
            Topics(config.training_log_topic, config.outcomes, config.dead_letters, config.signals),
            config.transactional_id,
            record_bytes_max,
            config.quality.cold_below,
            inputs_id,
            answers,
        )

    def spec(self, log_id: str) -> dict[str, Any]:
        """Everything that the lineage covers, in words."""
        return spec_of(log_id, self._covered())

    def lineage(self, log_id: str) -> str:
        """Lineage of this model on the log with this id."""
        return lineage_of(log_id, self._covered())

    def watch(self, log_id: str) -> str:
        """Digest of what watches what is served on the log with this id: another one begins anew, and no model."""
        model, concept = self.config.model, self.config.drift.concept
        settings = {
            "reader_schema": meaning_of(self.reader.payloads.reader.text),
            "task": model.task,
            "classes": self.domain.classes,
            "positive": self.domain.positive,
            "threshold": model.threshold,
            "quality_window": self.config.quality.window,
            "concept": concept.model_dump(),
            "seed": model.seed if concept.detector == "kswin" else None,
        }
        return digest_of(watch_spec_of(log_id, settings))[:LINEAGE_DIGITS]

    def _covered(self) -> Covered:
        model = self.config.model
        settings = {
            "reader_schema": meaning_of(self.reader.payloads.reader.text),
            "features": self.plan.resolved,
            "task": model.task,
            "classes": self.domain.classes,
            "positive": self.domain.positive,
            "threshold": model.threshold,
            "seed": model.seed,
            "guard": self.config.learning.guard,
            "quarantine": self.config.learning.quarantine,
            "learn": self.selection.plain(),
        }
        estimator = self.build()
        modules = {model.factory.partition(":")[0], *modules_of(estimator)}
        sources, distributions = closure(modules, self.folder, self.loaded)
        return Covered(model.factory, model.params, settings, estimator, sources, distributions)

    def new_payloads(self) -> Payloads:
        """Payloads that know no writer schema but the reader's."""
        return Payloads(self.config.events.framing, self.reader.payloads.reader, {})

    def fold_settings(self, lineage: str, watch: str = "watch") -> FoldSettings:
        """What a replica needs. It knows no writer schema but the reader's: the others stand in the log."""
        settings = FoldSettings(lineage, self.new_payloads(), self.plan, self.domain, self.build, self.concept_monitor)
        sealed = self.config.training_log
        return settings._replace(
            ranges=self.ranges,
            quarantine=self.config.learning.quarantine,
            sealed_from=None if sealed.key_file is None else sealed.sealed_from,
            watch=watch,
            selection=self.selection,
        )

    def written_schemas(self, logged: Iterable[LoggedSchema]) -> list[WrittenSchema]:
        """The schemas of both inputs and of all that is published: those of now, and those that the log holds."""
        config, codec = self.config, self.predictions
        own = {config.outcomes: "outcome", config.training_log_topic: "log_entry", config.signals: "signal"}
        texts = {topic: formats.text(name) for topic, name in own.items()}
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
