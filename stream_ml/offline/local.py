"""A whole app in one process without Kafka: the same schemas, features, join and fold, for notebooks and trials.

What is kept is in memory, and in a journal where one is named; there are no transactions and no checkpoints. A model
learned here is not a version of the service's: its log exists nowhere else. Its events and labels can be merged there.
"""

import io
import itertools
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro

from stream_ml.app.assemble import assemble
from stream_ml.app.parts import Parts
from stream_ml.app.trial import checked
from stream_ml.config import Config, load_config
from stream_ml.core.avro.from_json import SchemaMismatch
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.fold.replica import Replica
from stream_ml.core.fold.watch import Watch
from stream_ml.core.inputs.events import Events
from stream_ml.core.inputs.labels import Labels
from stream_ml.core.inputs.rows import RowEncoder
from stream_ml.core.join.join import Join
from stream_ml.core.model.estimator import ModelFailed
from stream_ml.core.partition.batch import Batch, Outputs
from stream_ml.core.partition.commit_metadata import OutputEnds
from stream_ml.core.partition.outputs import dead_letter_origin, dead_letter_words, decode_outcome
from stream_ml.core.partition.partition import Partition
from stream_ml.core.partition.serving import Serving
from stream_ml.errors import ConfigError, FatalError
from stream_ml.offline.exported import Exported, read_export
from stream_ml.offline.journal import RECORD_BYTES_MAX, Journal, Kind, Taken, read_journal
from stream_ml.records import Clock, LogRecord, Produce, Record, Records, Version

if TYPE_CHECKING:
    from stream_ml.core.model.contributions import Contributions

_START = OutputEnds(0, 0, 0, 0)


class LocalApp:
    """An app as its configuration describes it, with one partition.

    Parameters
    ----------
    config
        The configuration, or its file; or a model that was exported (`LocalApp.load`).
    journal
        File that keeps what is taken, durably, before it is answered or learned. What it holds already is taken first.
    at
        Begin with a model of the service's log, which Kafka has to give: ``now`` for what serves, as the log ends;
        ``NAME`` or ``NAME/POSITION`` for any other, and any past of it. Nothing is written there. To the last bit it
        is the service's in a process whose PYTHONHASHSEED is `hash_seed`.

    Attributes
    ----------
    base
        Version of the service's model with which it began; None: with an untrained one.
    hash_seed
        The PYTHONHASHSEED of every process whose bits are to be the service's; None: there is no service behind it.
    mark
        The last that labels were given with.

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

    def __init__(
        self, config: Config | Path | str | Exported, *, journal: Path | str | None = None, at: str | None = None
    ) -> None:
        exported = config if isinstance(config, Exported) else None
        if isinstance(config, Exported):
            self.config, self.parts = config.config, config.parts
        else:
            self.config = config if isinstance(config, Config) else load_config(Path(config))
            self.parts = checked(assemble(self.config))
        self.base = None if exported is None else exported.base
        self.hash_seed = None if exported is None else exported.hash_seed
        if at is not None:
            self.base, self.parts, model, self.hash_seed = _of_the_log(self.parts, at)
            self._replica = _begun(self.parts, model)
        else:
            self._replica = _begun(self.parts, exported and exported.model(_settings(self.parts)))
        settings = self.parts.partition_settings(RECORD_BYTES_MAX)
        self._partition = Partition(settings, 0, Join(self.parts.join_settings()), (0, 0), 0, _START, (0, 0))
        self._log_end = self._replica.position
        self._rows = {
            self.config.events.topic: RowEncoder(self.config.events, self.parts.reader.payloads, "events"),
            self.config.feedback.topic: RowEncoder(self.config.feedback, self.parts.feedback.payloads, "feedback"),
        }
        self._predictions = fastavro.parse_schema(self.parts.predictions.schema)
        self.mark = ""
        self._journal: Journal | None = None
        self._hint = "make a new LocalApp"
        if journal is not None:
            kept = Journal(Path(journal), self._named(exported))
            self._hint = f"merge the journal ({kept.path}), and begin another with a newer export"
            try:
                self._take_again(kept.path)
            except BaseException:
                kept.close()
                raise
            self._journal = kept

    @classmethod
    def load(cls, directory: Path | str, key_file: Path | str, *, journal: Path | str | None = None) -> "LocalApp":
        """An app that begins with a model that `stream-ml models export` wrote.

        Parameters
        ----------
        key_file
            With the key that the export was given; without it nothing is unpacked.

        Raises
        ------
        ConfigError, CheckpointError
            It is no export, or cannot be built here; it is not sealed with this key, or damaged.
        """
        return cls(read_export(Path(directory), Path(key_file)), journal=journal)

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
        topic, now_ms = self.config.events.topic, _now_ms()
        records = self._records(topic, self._partition.events_position, events, now_ms)
        self._keep("events", records, now_ms, "")
        return self._ends(self._take_events(records, now_ms), topic, list(records))

    def learn_many(self, labels: Iterable[Mapping[str, Any]], *, mark: str = "") -> list[dict[str, Any]]:
        """Take labels, given as JSON would have them, in order; those whose event is known are learned at once.

        Parameters
        ----------
        mark
            How far their source is read with them, such as a place in a file; the journal keeps it with them, so that
            `LocalApp.mark` of the next process says where to go on.

        Returns
        -------
        list of dict
            For each label ``{"outcome": "joined"}``, another outcome, ``{"outcome": "waiting"}``, or as above.
        """
        topic, now_ms = self.config.feedback.topic, _now_ms()
        records = self._records(topic, self._partition.feedback_position, labels, now_ms)
        self._keep("feedback", records, now_ms, mark)
        self.mark = mark or self.mark
        found = self._ends(self._take_labels(records, now_ms), topic, list(records))
        for record, end in zip(records, found, strict=True):
            if not end:
                end["outcome"] = "waiting" if record.offset in self._partition.join.waiting else "joined"
        return found

    def close(self) -> None:
        """Let another process have the journal; nothing can be taken any more."""
        if self._journal is not None:
            self._journal.close()

    # --- what comes out ---

    @property
    def model(self) -> Any:
        """The River estimator as it has learned so far."""
        return self._replica.only.model.learner.estimator

    def score_features(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """What the model says of features as it gets them; nothing waits for a label.

        Returns
        -------
        dict
            `class` and `score`, or `value`; None where it has no answer.

        Raises
        ------
        FatalError
            The model raises for them.
        """
        try:
            found = self._replica.only.model.score_one(dict(features))
        except ModelFailed as error:
            raise FatalError(f"the model raises: {error}") from error
        if self.config.model.task == "regression":
            return {"value": found.value}
        return {"class": found.class_name, "score": found.score}

    def explain(self, features: Mapping[str, Any]) -> "Contributions":
        """What each feature adds to what the model says of these, as it gets them.

        Raises
        ------
        FatalError
            The model has no answer yet.
        """
        from stream_ml.core.model.contributions import NothingToSay, contributions

        model = self._replica.only.model
        try:
            within = model.limits.clip_one(dict(features))
            return contributions(model.learner.estimator, within, self.parts.domain)
        except NothingToSay:
            raise FatalError("the model has no answer yet", "let it learn some examples first") from None

    @property
    def examples_learned(self) -> int:
        """How many."""
        return self._replica.only.examples_learned

    @property
    def quality(self) -> dict[str, float]:
        """Metrics of what was predicted, each with the baseline that knows only the labels."""
        return self._replica.watch.quality.report()

    # --- inside ---

    def _records(self, topic: str, first: int, rows: Iterable[Mapping[str, Any]], now_ms: int) -> Records:
        encoder = self._rows[topic]
        found = []
        for offset, row in enumerate(map(dict, rows), first):
            timestamp_ms = encoder.timestamp_ms(row)
            when_ms = now_ms if timestamp_ms is None else timestamp_ms
            key, value = encoder.encode(row)
            found.append(Record(topic, 0, offset, when_ms, key, value))
        return Records.of(topic, 0, found)

    def _named(self, exported: Exported | None) -> str:
        """With what a journal is begun: it is of no use to another model, nor to another app."""
        if exported is None and self.base is None:
            return f"{self.config.app.id}: an untrained model"
        if exported is None:
            return f"{self.config.app.id}: {'/'.join(map(str, self.base or ()))}"
        return f"{self.config.app.id}: {exported.base.lineage}/{exported.base.position} of log {exported.log_id}"

    def _keep(self, kind: Kind, records: Records, now_ms: int, mark: str) -> None:
        if self._journal is not None:
            for record in records:
                size = len(record.key or b"") + len(record.value or b"")
                if size > RECORD_BYTES_MAX:
                    raise SchemaMismatch(
                        f"a record of {size:,} bytes could never be merged: {RECORD_BYTES_MAX:,} at most"
                    )
            self._journal.append(
                [Taken(kind, now_ms, one.timestamp_ms, mark, one.key or b"", one.value or b"") for one in records]
            )

    def _take_again(self, journal: Path) -> None:
        """Take what a journal holds, as it was taken."""
        for (kind, now_ms), group in itertools.groupby(read_journal(journal), key=lambda one: (one.kind, one.now_ms)):
            topic, first = self.config.events.topic, self._partition.events_position
            if kind == "feedback":
                topic, first = self.config.feedback.topic, self._partition.feedback_position
            kept = list(group)
            self.mark = next((one.mark for one in reversed(kept) if one.mark), self.mark)
            taken = [Record(topic, 0, first + n, one.timestamp_ms, one.key, one.value) for n, one in enumerate(kept)]
            records = Records.of(topic, 0, taken)
            _ = self._take_events(records, now_ms) if kind == "events" else self._take_labels(records, now_ms)

    def _take_events(self, records: Records, now_ms: int) -> Outputs:
        decoded = self.parts.reader.decode_many(records, now_ms)
        return self._turn(Batch(decoded, Labels.joined([]), False, False), now_ms)

    def _take_labels(self, records: Records, now_ms: int) -> Outputs:
        decoded = self.parts.feedback.decode_many(records, now_ms)
        nothing = Events(Records.of(self.config.events.topic, 0, []), [], {})
        return self._turn(Batch(nothing, decoded, False, False), now_ms)

    def _turn(self, batch: Batch, now_ms: int) -> Outputs:
        clock = Clock(now_ms, time.monotonic_ns() // 1_000_000)
        outputs = self._partition.process(batch, Serving.of(self._replica), clock, stale=False, token="")
        self._partition.apply(outputs)
        log = [produce.value or b"" for produce in outputs.records if produce.topic == self.config.training_log_topic]
        self._replica.fold([LogRecord(self._log_end + number, value) for number, value in enumerate(log)])
        self._log_end += len(log)
        if self._replica.halt is not None:
            raise FatalError(f"the model cannot learn on: {self._replica.halt.message}", self._hint)
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


def _settings(parts: Parts) -> FoldSettings:
    """Of a fold that no log is behind."""
    return parts.fold_settings("local")._replace(started=(0,))


def _begun(parts: Parts, model: LineageModel | None) -> Replica:
    """A replica that no log is behind: with an untrained model, or one that goes on from a version of its service."""
    settings = _settings(parts)
    if model is None:
        return Replica(settings)
    book = Book(settings)
    book.position = book.read_position = model.position
    return Replica(settings, book, Watch(settings), model)


def _of_the_log(parts: Parts, at: str) -> tuple[Version, Parts, LineageModel, int]:
    """A version of a model of the service's log, as one that goes on here; and the log's hash seed.

    Raises
    ------
    ConfigError
        There is no such model or version, or it cannot be built or derived here; or learning is halted there.
    """
    from stream_ml.follower.past.derive import model_at
    from stream_ml.follower.past.logged_models import LoggedModels, version_of
    from stream_ml.follower.recipes import Recipes, built

    name, position = ("now", None) if at == "now" else version_of(at)
    log = LoggedModels(parts.config)
    recipes, serving = Recipes(parts, log.facts, log.seal), log.roles.table.lineage
    recipe = recipes.own
    if name != "now" or serving:
        recipe = built(recipes, log.named(serving if name == "now" else name))
    found = model_at(recipe, recipes.fresh(recipe), log.facts, position, log.seal).model
    if found.halt is not None:
        raise ConfigError(
            f"learning is halted at {found.halt.position:,}: {found.halt.message}", "name a position before"
        )
    model = LineageModel(_settings(recipe.parts))
    model.restore(found.state())
    return found.version, recipe.parts, model, log.facts.log.hash_seed


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
