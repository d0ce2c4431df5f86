"""A whole app in one process without Kafka: the same schemas, features, join and fold, for notebooks and trials.

What is kept is in memory; there are no transactions and no checkpoints. A model learned here is not a version of the
service's: its log exists nowhere else.
"""

import io
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fastavro

from stream_ml.app.assemble import assemble
from stream_ml.app.parts import Parts
from stream_ml.app.trial import checked
from stream_ml.config import Config, load_config
from stream_ml.core.fold.replica import Replica
from stream_ml.core.inputs.events import Events
from stream_ml.core.inputs.labels import Labels
from stream_ml.core.inputs.rows import RowEncoder
from stream_ml.core.join.join import Join
from stream_ml.core.partition.batch import Batch, Outputs
from stream_ml.core.partition.commit_metadata import OutputEnds
from stream_ml.core.partition.outputs import dead_letter_origin, dead_letter_words, decode_outcome
from stream_ml.core.partition.partition import Partition
from stream_ml.core.partition.serving import Serving
from stream_ml.errors import FatalError
from stream_ml.records import Clock, LogRecord, Produce, Record, Records

RECORD_BYTES_MAX = 1_000_000
_START = OutputEnds(0, 0, 0, 0)


class LocalApp:
    """An app as its configuration describes it, with one partition.

    Parameters
    ----------
    config
        The configuration, or its file.

    Raises
    ------
    ConfigError
        As `stream-ml run` would refuse it, but for topics and Kafka.

    Examples
    --------
    >>> app = LocalApp("stream_ml.yaml")                                            # doctest: +SKIP
    >>> app.predict_many([{"id": "e1", "time": "2026-01-01T00:00:00Z", "amount": 3.0, "kind": "a"}])  # doctest: +SKIP
    >>> app.learn_many([{"id": "e1", "time": "2026-01-01T00:01:00Z", "label": True}])  # doctest: +SKIP
    """

    def __init__(self, config: Config | Path | str) -> None:
        self.config = config if isinstance(config, Config) else load_config(Path(config))
        self.parts: Parts = checked(assemble(self.config))
        self._replica = Replica(self.parts.fold_settings("local")._replace(started=(0,)))
        settings = self.parts.partition_settings(RECORD_BYTES_MAX)
        self._partition = Partition(settings, 0, Join(self.parts.join_settings()), (0, 0), 0, _START, (0, 0))
        self._log_end = 0
        self._rows = {
            self.config.events.topic: RowEncoder(self.config.events, self.parts.reader.payloads, "events"),
            self.config.feedback.topic: RowEncoder(self.config.feedback, self.parts.feedback.payloads, "feedback"),
        }
        self._predictions = fastavro.parse_schema(self.parts.predictions.schema)

    # --- what goes in ---

    def predict_many(self, events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Score events, given as JSON would have them, in order; they wait for their labels from then on.

        Returns
        -------
        list of dict
            For each event its prediction, as consumers would read it; or of one that cannot be used
            ``{"dead_letter": reason, "message": text}``. A label that waited for one of them is learned.

        Raises
        ------
        SchemaMismatch
            A row is not of the schema; nothing was taken.
        FatalError
            The model raised while it learned, or gives values that are not finite.
        """
        topic = self.config.events.topic
        records = self._records(topic, self._partition.events_position, events)
        decoded = self.parts.reader.decode_many(records, _now_ms())
        return self._ends(self._turn(Batch(decoded, Labels.joined([]), False, False)), topic, list(records))

    def learn_many(self, labels: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Take labels, given as JSON would have them, in order; those whose event is known are learned at once.

        Returns
        -------
        list of dict
            For each label ``{"outcome": "joined"}``, another outcome, ``{"outcome": "waiting"}``, or as above.
        """
        topic = self.config.feedback.topic
        records = self._records(topic, self._partition.feedback_position, labels)
        decoded = self.parts.feedback.decode_many(records, _now_ms())
        nothing = Events(Records.of(self.config.events.topic, 0, []), [], {})
        found = self._ends(self._turn(Batch(nothing, decoded, False, False)), topic, list(records))
        for record, end in zip(records, found, strict=True):
            if not end:
                end["outcome"] = "waiting" if record.offset in self._partition.join.waiting else "joined"
        return found

    # --- what comes out ---

    @property
    def model(self) -> Any:
        """The River estimator as it has learned so far."""
        return self._replica.only.model.learner.estimator

    @property
    def examples_learned(self) -> int:
        """How many."""
        return self._replica.only.examples_learned

    @property
    def quality(self) -> dict[str, float]:
        """Metrics of what was predicted, each with the baseline that knows only the labels."""
        return self._replica.watch.quality.report()

    # --- inside ---

    def _records(self, topic: str, first: int, rows: Iterable[Mapping[str, Any]]) -> Records:
        encoder, now_ms = self._rows[topic], _now_ms()
        found = []
        for offset, row in enumerate(map(dict, rows), first):
            timestamp_ms = encoder.timestamp_ms(row)
            when_ms = now_ms if timestamp_ms is None else timestamp_ms
            key, value = encoder.encode(row)
            found.append(Record(topic, 0, offset, when_ms, key, value))
        return Records.of(topic, 0, found)

    def _turn(self, batch: Batch) -> Outputs:
        clock = Clock(_now_ms(), time.monotonic_ns() // 1_000_000)
        outputs = self._partition.process(batch, Serving.of(self._replica), clock, stale=False, token="")
        self._partition.apply(outputs)
        log = [produce.value or b"" for produce in outputs.records if produce.topic == self.config.training_log_topic]
        self._replica.fold([LogRecord(self._log_end + number, value) for number, value in enumerate(log)])
        self._log_end += len(log)
        if self._replica.halt is not None:
            raise FatalError(f"the model cannot learn on: {self._replica.halt.message}", "make a new LocalApp")
        return outputs

    def _ends(self, outputs: Outputs, topic: str, records: list[Record]) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for produce in outputs.records:
            offset, end = self._end(produce, topic)
            if end:
                found[offset] = end
        return [found.get(record.offset, {}) for record in records]

    def _end(self, produce: Produce, topic: str) -> tuple[int, dict[str, Any]]:
        config, value = self.config, produce.value or b""
        if produce.topic == config.predictions.topic and topic == config.events.topic:
            payload = io.BytesIO(value[len(self.parts.predictions.header) :])
            said: Any = fastavro.schemaless_reader(payload, self._predictions, None)
            return said["event_offset"], said
        if produce.topic == config.outcomes and topic == config.feedback.topic:
            outcome = decode_outcome(value)
            return outcome["feedback_offset"], {"outcome": outcome["outcome"]}
        if produce.topic == config.dead_letters:
            dead_letter = Record(produce.topic, 0, 0, 0, produce.key, produce.value, produce.headers)
            origin = dead_letter_origin(dead_letter)
            if origin is not None and origin[0] == topic:
                reason, message = dead_letter_words(dead_letter)
                return origin[2], {"dead_letter": reason, "message": message}
        return -1, {}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
