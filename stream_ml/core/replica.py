"""The fold: a model, its quality and its ledger as a pure function of a prefix of the training log.

1. Entries are folded in log order, one example at a time, so every replica has the same bits.
2. Nothing here knows who produced an entry: what is folded is what a read_committed consumer returned.
3. A halted replica keeps its version, reads on without learning, and folds again from the halt when its command
   (skip or accept-gap) stands in the log.
4. `learn_one` that raised may have changed half of the model: the replica is *tainted*, and its driver makes a new
   one from a checkpoint, told to halt just before that example.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from stream_ml.core.drift import TOLD_COMMANDS, ConceptMonitor
from stream_ml.core.events import Features, dicts_of
from stream_ml.core.features import FeaturePlan
from stream_ml.core.labels import LabelDomain
from stream_ml.core.learner import Learner, ModelFailed, Scored, bits
from stream_ml.core.ledger import Account, Ledger
from stream_ml.core.log_entry import Entry, decode_entries
from stream_ml.core.payloads import Payloads, Refused
from stream_ml.core.quality import Quality
from stream_ml.core.schema import load_schema
from stream_ml.core.scoring import Scorer, Scores
from stream_ml.core.signals import Signal
from stream_ml.errors import StreamMLError
from stream_ml.records import LogRecord, Version

PROBES_MAX = 16  # features of the examples numbered 1, 2, 4, 8 ...: the last so many of them
SOUND_EVERY = 64  # examples; probing costs 16 predictions, so about 1 us an example for a linear model


_NOT_FINITE = "the model's answers to its probes are no longer finite numbers"
_NO_SENSE = (LookupError, TypeError, ValueError, OverflowError, StreamMLError)


class Halt(NamedTuple):
    """Where learning stopped and why. `tainted`: the model may have learned half of the example at `position`."""

    position: int
    reason: str
    message: str
    tainted: bool = False
    exact: bool = True


class Prepared(NamedTuple):
    """A record of the log, decoded as far as that goes without the replica's state."""

    record: LogRecord
    entry: Entry | None
    problem: ValueError | None
    features: dict[str, Any] | Refused | Halt | None


class FoldSettings(NamedTuple):
    """What the fold depends on beside the log; all of it is in the lineage's digest."""

    lineage: str
    payloads: Payloads
    plan: FeaturePlan
    domain: LabelDomain
    build: Callable[[], Any]
    concept: Callable[[], ConceptMonitor]


class Replica:
    """One model as a fold of the training log; one thread only."""

    def __init__(self, settings: FoldSettings) -> None:
        self._settings = settings
        self._take(settings.build())
        self.quality = Quality(settings.domain)
        self.concept = settings.concept()
        self.ledger = Ledger()
        self.seen = self.ledger
        self.position = 0
        self.read_position = 0
        self.examples_learned = 0
        self.dropped = 0
        self.unusable = 0
        self.frozen = False
        self.rebaselined_at = -1
        self.started: dict[int, dict[str, Any]] = {}
        self.schemas: dict[int, str] = {}
        self.probes: list[dict[str, Any]] = []
        self._last: str | bytes = ""  # the digest of the entry folded last, or the entry itself
        self.last_written_at_ms = 0
        self.halt: Halt | None = None
        self.refold_from: int | None = None
        self.pardons: dict[int, str] = {}
        self.stop_at: Halt | None = None
        self.check_each_after: int | None = None
        self.sound_examples = 0

    def _take(self, estimator: Any) -> None:
        self.learner = Learner(estimator, self._settings.domain)
        self.scorer = Scorer(self.learner)

    @property
    def version(self) -> Version:
        """Version of the model: every prediction carries it."""
        return Version(self._settings.lineage, self.position)

    def score(self, features: dict[str, Any]) -> Scored:
        """Score one event with the model as it stands."""
        return self.learner.score(features)

    def score_many(self, features: Features, count: int) -> Scores:
        """Scores of a batch of `count` events with the model as it stands."""
        return self.scorer.score(features, count)

    def prepare(self, records: Sequence[LogRecord]) -> list[Prepared]:
        """Decode records of the log, as far as that goes without the model; many at once are cheaper."""
        entries = decode_entries([record.value for record in records])
        features = self._many_features(entries)
        found: list[Prepared] = []
        for row, (record, entry) in enumerate(zip(records, entries, strict=True)):
            if isinstance(entry, ValueError):
                found.append(Prepared(record, None, entry, None))
            else:
                known = features.get(row)
                is_left = known is None and entry.kind == "example"
                found.append(Prepared(record, entry, None, self._features_of(entry) if is_left else known))
        return found

    def fold(self, records: Sequence[LogRecord]) -> None:
        """Fold committed records of the log, in order, each once."""
        self.fold_prepared(self.prepare(records))

    def fold_prepared(self, entries: Sequence[Prepared]) -> None:
        """Fold what was prepared.

        Stops early when a command lifts the halt: `refold_from` then says where its reader must go back to.
        """
        for prepared in entries:
            if self.refold_from is not None:
                return
            record, entry = prepared.record, prepared.entry
            if entry is None:
                self._foreign(record.offset, prepared.problem)
            else:
                self.last_written_at_ms = entry.written_at_ms
                if self.halt is None and entry.kind == "example":
                    self._fold_example(prepared, entry)
                elif self.halt is None:
                    self._fold_other(prepared, entry)
                if self.halt is not None:
                    if self.seen is self.ledger:
                        self.seen = self.ledger.copy()
                    self._read_on(entry)
            if self.halt is None:
                self.position = record.offset + 1
                self._last = record.value
            self.read_position = record.offset + 1

    @property
    def last_digest(self) -> str:
        """SHA-256 of the last entry that was folded; empty before the first."""
        if isinstance(self._last, bytes):
            self._last = hashlib.sha256(self._last).hexdigest()
        return self._last

    def _many_features(self, entries: Sequence[Entry | ValueError]) -> dict[int, dict[str, Any]]:
        """Features of the examples in which there is nothing to say, by row; `_features_of` judges the others."""
        examples = [(row, e) for row, e in enumerate(entries) if not isinstance(e, ValueError) and e.kind == "example"]
        found: dict[int, dict[str, Any]] = {}
        for fingerprint, framing in {(entry.event_schema, entry.event_framing) for _, entry in examples}:
            own = [(r, e) for r, e in examples if e.event_schema == fingerprint and e.event_framing == framing]
            lane = self._settings.payloads.lane_logged(fingerprint, framing, [entry.event for _, entry in own])  # type: ignore[arg-type]
            if lane is not None:
                table = self._settings.plan.extract_many(lane.batch)
                rows = [own[number][0] for number in lane.rows]
                found.update(zip(rows, dicts_of(table.columns), strict=True))
                for number in np.flatnonzero(table.wrong).tolist():
                    del found[rows[number]]
        return found

    def _features_of(self, entry: Entry) -> "dict[str, Any] | Refused | Halt":
        """Features of an example's event; Refused by the plan; a Halt (of no position yet) at bytes that are none."""
        settings = self._settings
        payload = settings.payloads.decode_logged(entry.event_schema, entry.event_framing, entry.event)  # type: ignore[arg-type]
        if isinstance(payload, Refused):
            return Halt(-1, payload.reason, f"the event of the example cannot be read: {payload.message}")
        extracted = settings.plan.extract(payload)
        return extracted if isinstance(extracted, Refused) else extracted[0]

    def lift(self) -> None:
        """Forget the halt whose command was met; fold again from its position."""
        assert self.refold_from is not None  # noqa: S101 - drivers ask `refold_from` first
        if self.halt is not None:
            self.concept.signals.append(self._halted(self.halt))  # for who has not told it yet
        self.halt, self.read_position, self.refold_from = None, self.refold_from, None
        self.stop_at = None
        self.seen = self.ledger

    def heir(self, restored: "Replica") -> "Replica":
        """The replica to take the place of this one, which is spoilt; fold it from its position on.

        A failed probe is found at a later example than the one that spoilt the model: the heir then probes after every
        example, so that all replicas halt at the same one.

        Parameters
        ----------
        restored
            From a checkpoint at or before the halt; a new one is made where it is later than the last sound example.
        """
        halt = self.halt
        assert halt is not None and halt.tainted  # noqa: S101
        if not halt.exact and restored.examples_learned > self.sound_examples:
            restored = Replica(self._settings)
        restored.pardons = dict(self.pardons)
        restored.stop_at = halt if halt.exact else None
        restored.check_each_after = None if halt.exact else self.sound_examples
        return restored

    def probe_bits(self) -> list[tuple[str, ...]]:
        """What the model says of its probes, to the last bit: the identity of a replica."""
        return [bits(self.learner.score(features)) for features in self.probes]

    def sound(self) -> bool:
        """Whether the model answers to its probes with finite numbers; a checkpoint of one that does not is useless."""
        return all(self.learner.sound(features) for features in self.probes)

    def signals_after(self, position: int) -> list[Signal]:
        """What the fold has found after this position, in its order, a halt included."""
        halt = self.halt
        if halt is not None and halt.tainted:
            return []  # its heir finds them, those of the examples since the model was spoilt left out
        found = [signal for signal in self.concept.signals if signal.position > position]
        if halt is not None and halt.position > position:
            found.append(self._halted(halt))
        return found

    def _halted(self, halt: Halt) -> Signal:
        words = f"learning is halted at {halt.position}, {halt.reason}: {halt.message}"
        of = (self._settings.lineage, "halted", "learning", halt.position, "critical", self.last_written_at_ms)
        return Signal._make((*of, {}, words, f"stream-ml skip CONFIG {halt.position}"))

    def knows_schema(self, fingerprint: int) -> bool:
        """Whether the log holds this writer schema up to where it was read."""
        return fingerprint in self.schemas

    # --- one entry ---

    def _foreign(self, offset: int, error: Exception | None) -> None:
        """Halt at bytes that are no entry: somebody else wrote into the log."""
        if self.halt is None and self.pardons.get(offset) != "skip":
            self.halt = Halt(offset, "not_an_entry", f"the training log holds something else at {offset}: {error}")

    def _fold_other(self, prepared: Prepared, entry: Entry) -> None:
        try:
            self._note(entry)
        except _NO_SENSE as error:
            self._foreign(prepared.record.offset, error)
        else:
            if entry.command in ("freeze", "resume"):
                self.frozen = entry.command == "freeze"
            if entry.command in TOLD_COMMANDS:
                at = prepared.record.offset
                self.concept.command(entry.command, self._settings.lineage, at, entry.written_at_ms)
                self._may_tell(at)
            if entry.command == "rebaseline":
                self.rebaselined_at = prepared.record.offset

    def _note(self, entry: Entry) -> None:
        """Facts that hold whether learning is halted or not."""
        if entry.kind == "schema":
            schema = load_schema(entry.arguments or "", where="a schema entry of the training log")
            self.schemas[entry.event_schema] = entry.arguments or ""
            self._settings.payloads.add(schema._replace(fingerprint=entry.event_schema))
        elif entry.kind == "start":
            self.started[entry.source_partition] = entry.parsed_arguments()
        elif entry.command == "rebase":
            self.seen.rebase(int(entry.parsed_arguments()["partition"]))

    def _fold_example(self, prepared: Prepared, entry: Entry) -> None:
        _, partition, sequence, topic, trigger = entry[:5]
        account = self.ledger.accounts.get(partition)
        usual = not self.pardons and self.stop_at is None
        if not usual or account is None or account.judge(sequence, topic, trigger) != "learn":
            self._judge_example(prepared, entry, (partition, sequence, topic, trigger))
        elif self._learn(prepared, entry):
            account.saw(sequence, topic, trigger)

    def _judge_example(self, prepared: Prepared, entry: Entry, place: tuple[int, int, str, int]) -> None:
        """Fold an example about which there is something to say."""
        offset = prepared.record.offset
        pardon = self.pardons.get(offset)
        verdict = self.ledger.judge(*place)
        if self.stop_at is not None and offset == self.stop_at.position and pardon != "skip":
            self.halt = self.stop_at._replace(tainted=False)
            return
        if pardon == "skip":
            self.ledger.saw(*place)
        elif verdict == "drop" and pardon is None:
            self.dropped += 1
        elif verdict != "learn" and pardon is None:
            self.halt = Halt(offset, verdict, _sequence_words(entry, self.ledger, verdict))
        elif self._learn(prepared, entry):
            if pardon == "accept-gap":
                self.ledger.take(*place)
            else:
                self.ledger.saw(*place)

    def _learn(self, prepared: Prepared, entry: Entry) -> bool:
        """Learn the example, unless frozen; False where that halted learning."""
        features = prepared.features
        if isinstance(features, Halt):
            features = self._features_of(entry)  # its schema may stand in the log just before it
        if isinstance(features, Halt):
            self.halt = features._replace(position=prepared.record.offset)
            return False
        if features is None or isinstance(features, Refused) or not self._fits(entry):
            self.unusable += 1  # written under other settings, which is another lineage: nothing to learn here
            return True
        offset = prepared.record.offset
        row = self.quality.update(entry.target, entry.served, entry.label_time_ms, entry.event_time_ms)
        if row is not None and offset not in self.pardons:  # whose position stands for the halt that was told
            self.concept.update(row, self._settings.lineage, offset)
            if not self._may_tell(offset):
                return False
        return True if self.frozen else self._learn_features(prepared.record.offset, features, entry)

    def _may_tell(self, offset: int) -> bool:
        """Probe a model that has just found a signal: one that is spoilt halts before it, in every replica alike."""
        signals = self.concept.signals
        if not signals or signals[-1].position != offset or self.sound():
            return True
        self.halt = Halt(offset, "not_finite", _NOT_FINITE, tainted=True, exact=False)
        return False

    def _fits(self, entry: Entry) -> bool:
        domain, target = self._settings.domain, entry.target
        if domain.task == "regression":
            return target.value is not None
        return target.class_name in domain.classes

    def _learn_features(self, offset: int, features: dict[str, Any], entry: Entry) -> bool:
        try:
            self.learner.learn(features, entry.target)
        except ModelFailed as error:
            self.halt = Halt(offset, "model_raised", f"learn_one raised {error}", tainted=True)
            return False
        self.examples_learned += 1
        number = self.examples_learned
        if number & (number - 1) == 0:
            self.probes = [*self.probes, features][-PROBES_MAX:]
        singly = self.check_each_after is not None and number > self.check_each_after
        if (singly or number % SOUND_EVERY == 0) and not self.sound():
            self.halt = Halt(offset, "not_finite", _NOT_FINITE, tainted=True, exact=singly)
            return False
        if number % SOUND_EVERY == 0:
            self.sound_examples = number
        return True

    def _read_on(self, entry: Entry) -> None:
        """Pass an entry while halted: nothing is learned, but what was seen counts."""
        assert self.halt is not None  # noqa: S101
        with contextlib.suppress(*_NO_SENSE):  # it is met again, and halts then, once this halt is lifted
            self._note(entry)
            self._look_for_command(entry, self.halt.position)
        if entry.kind == "example":
            self.seen.saw(entry.source_partition, entry.sequence, entry.trigger_topic, entry.trigger_offset)

    def _look_for_command(self, entry: Entry, halted_at: int) -> None:
        if entry.command in ("skip", "accept-gap"):
            position = int(entry.parsed_arguments()["position"])
            if position == halted_at and self.pardons.get(position) != entry.command:
                self.pardons[position] = entry.command
                self.refold_from = position

    # --- a checkpoint's content ---

    def state(self) -> dict[str, Any]:
        """Everything that the fold has accumulated; only while not halted."""
        assert self.halt is None  # noqa: S101 - a halted replica's position is not its model's
        return {
            "estimator": self.learner.estimator,
            "quality": self.quality.state(),
            "concept": self.concept.state(),
            "accounts": self.ledger.plain(),
            "position": self.position,
            "examples_learned": self.examples_learned,
            "sound_examples": self.sound_examples,
            "dropped": self.dropped,
            "unusable": self.unusable,
            "frozen": self.frozen,
            "rebaselined_at": self.rebaselined_at,
            "started": self.started,
            "schemas": self.schemas,
            "probes": self.probes,
            "last_digest": self.last_digest,
            "last_written_at_ms": self.last_written_at_ms,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self._take(state["estimator"])
        self.quality.restore(state["quality"])
        self.concept.restore(state["concept"])
        self.ledger = Ledger({p: Account(*account) for p, account in state["accounts"].items()})
        self.seen = self.ledger
        self.read_position = state["position"]
        for name in ("position", "examples_learned", "sound_examples", "dropped", "unusable", "frozen"):
            setattr(self, name, state[name])
        for name in ("started", "probes", "last_written_at_ms", "rebaselined_at"):
            setattr(self, name, state[name])
        self._last = state["last_digest"]
        for fingerprint, text in state["schemas"].items():
            self.schemas[fingerprint] = text
            schema = load_schema(text, where="a checkpoint")
            self._settings.payloads.add(schema._replace(fingerprint=fingerprint))


def _sequence_words(entry: Entry, ledger: Ledger, verdict: str) -> str:
    partition = entry.source_partition
    last = ledger.last_trigger(partition, entry.trigger_topic)
    return (
        f"partition {partition}: sequence {entry.sequence} where {ledger.next_sequence(partition)} is next, trigger "
        f"{entry.trigger_topic}:{entry.trigger_offset} after {last}: "
        + ("examples are missing" if verdict == "gap" else "sequence and trigger disagree")
    )
