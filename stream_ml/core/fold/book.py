"""The book: what the training log says, entry by entry, and which of its examples are to be learned.

1. It knows no model: any number of models, and the watch over what was served, follow the same verdicts.
2. What it halts at stops all that follow it, at one position. It then reads on without giving anything to be learned,
   and goes back to the halt when its command (skip or accept-gap) stands in the log.
3. Nothing here knows who produced an entry: what is judged is what a read_committed consumer returned.

Read first: `Book.judge`, `_judge_run`, `_judge_single`.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from stream_ml.core.drift.concept import REPORTED_COMMANDS
from stream_ml.core.fold.batches import FoldSettings, Run, Single, features_of
from stream_ml.core.fold.facts import LogFacts
from stream_ml.core.fold.halt import ENDING_A_HALT, FoldResult, Halt, HaltControl, of_one_model
from stream_ml.core.fold.roles import Verdict
from stream_ml.core.log.entry import Entry, LaterEntry
from stream_ml.core.log.heads import decode_place
from stream_ml.core.log.sequences import Place, SequenceState, SequenceTracker
from stream_ml.errors import StreamMLError
from stream_ml.records import LogRecord

_NO_SENSE = (LookupError, TypeError, ValueError, OverflowError, StreamMLError)


class Judged(NamedTuple):
    """An entry, or a run of them, that was judged.

    Parameters
    ----------
    item
        In the order of the log.
    learns
        Whether it is to be learned; a run always is.
    obeyed
        Whether it is a command that holds: none that was skipped.
    takes_effect
        Whether it is a command for all models that changes something, and so is reported.
    verdict
        What became of a command about models.
    ended
        The halt of the book that stood here, and that a command has ended.
    """

    item: Run | Single
    learns: bool
    obeyed: bool = False
    takes_effect: bool = False
    verdict: Verdict | None = None
    ended: Halt | None = None


def under(settings: FoldSettings, judged: Sequence[Judged]) -> list[Judged]:
    """The same for a model with a plan of its own: features are made of events by the plan of each model."""
    found = []
    for one in judged:
        if isinstance(one.item, Run):
            found += [Judged(item, learns=True) for item in one.item.under(settings)]
        elif one.learns and one.item.entry is not None:
            own = one.item._replace(features=features_of(settings, one.item.entry))
            found.append(one._replace(item=own))
        else:
            found.append(one)
    return found


class Book:
    """Sequences, facts and halts of the log; one thread only.

    Attributes
    ----------
    position, read_position
        So many entries are judged, and read: more while it is halted.
    seen
        What was read, which while halted runs ahead of what is judged.
    dropped
        Examples that were repeats.
    written_at_ms
        Time of the last entry.

    So many attributes: they are what the log has said so far, and a checkpoint keeps each.
    """

    def __init__(self, settings: FoldSettings) -> None:
        self._settings = settings
        self.sequences = SequenceTracker()
        self.seen = self.sequences
        self.facts = LogFacts(settings)
        self.halts = HaltControl()
        self.position = self.read_position = self.written_at_ms = 0
        self.dropped = 0
        self._last: str | bytes = ""  # digest or bytes of the last entry that was judged
        self._judged: list[Judged] = []

    @property
    def halt(self) -> Halt | None:
        """Where the log cannot be followed any more; None while it can."""
        return self.halts.current

    @property
    def last_digest(self) -> str:
        """SHA-256 of the last entry that was judged; empty before the first."""
        if isinstance(self._last, bytes):
            self._last = hashlib.sha256(self._last).hexdigest()
        return self._last

    def judge(self, prepared: Sequence[Run | Single]) -> list[Judged]:
        """Judge what was prepared, in order, each once: what is to follow it, up to where it halts."""
        self._judged = []
        for item in prepared:
            if isinstance(item, Run):
                self._judge_run(item)
            elif self.halts.refold_from is None:
                self._judge_single(item)
        return self._judged

    def result(self, before: Halt | None) -> FoldResult:
        """What has come of judging, where it was halted by `before`."""
        return self.halts.result(before)

    def clear_halt(self) -> int:
        """Forget the halt that a command has ended; the offset from which the log is to be read again."""
        position = self.read_position = self.halts.clear()
        self.seen = self.sequences
        return position

    # --- a run ---

    def _judge_run(self, run: Run) -> None:
        """Judge a run at once, as far as there is nothing to say about it; the rest one by one."""
        while run.size and self._is_usual(run):
            count = self.sequences.record_new(run.places)
            if count:
                self._judged.append(Judged(run.some(0, count), learns=True))
                self._passed(run.records[count - 1], run.written_at_ms[count - 1])
            if count < run.size:  # the next one is to be judged alone
                self._judge_singles(run.some(count, count + 1))
            run = run.some(count + 1, run.size)
        self._judge_singles(run)

    def _is_usual(self, run: Run) -> bool:
        """Whether nothing is known of these examples that has to be said at one of them."""
        if self.halts.current is not None or self.halts.refold_from is not None or self.facts.unreadable:
            return False
        started = all(map(self.facts.has_started, {place[0] for place in run.places}))
        return started and not self.halts.noted_after(run.records[0].offset)

    def _judge_singles(self, run: Run) -> None:
        for single in run.singles():
            if self.halts.refold_from is None:
                self._judge_single(single)

    # --- one entry ---

    def _judge_single(self, single: Single) -> None:
        record, entry = single.record, single.entry
        if self.halts.current is None:
            judged = self._judge(single)
            if self.halts.current is None:
                self._judged.append(judged)
                self._passed(record, entry.written_at_ms if entry is not None else self.written_at_ms)
        if self.halts.current is not None:
            self._read_on(single)
        self.read_position = record.offset + 1

    def _judge(self, single: Single) -> Judged:
        """The verdict; where that halts the book it is void."""
        if single.entry is None:
            return self._foreign(single, single.problem)
        if single.entry.kind == "example":
            return self._example(single, single.entry)
        return self._other(single, single.entry)

    def _passed(self, record: LogRecord, written_at_ms: int) -> None:
        self.position = self.read_position = record.offset + 1
        self._last, self.written_at_ms = record.value, written_at_ms

    def _foreign(self, single: Single, error: Exception | None) -> Judged:
        """Halt at bytes that are no entry: somebody else wrote into the log."""
        offset = single.record.offset
        if self.halts.overrides.get(offset) == "skip":
            return Judged(single, learns=False, ended=self.halts.overrides.passed(offset))
        if isinstance(error, LaterEntry):
            self.halts.current = Halt(offset, error.reason, f"at {offset} the training log holds {error}")
        else:
            message = f"the training log holds something else at {offset}: {error}"
            self.halts.current = Halt(offset, "not_an_entry", message)
        return Judged(single, learns=False)

    def _other(self, single: Single, entry: Entry) -> Judged:
        offset = single.record.offset
        try:
            entry.check_known()
            self.facts.check_new(offset, entry)
            self.facts.note(entry, self.seen)
            effect, verdict = self._takes_effect(entry), self.facts.judge_roles(offset, entry)
        except _NO_SENSE as error:
            return self._foreign(single, error)
        self.facts.obey(offset, entry)
        return Judged(single, learns=False, obeyed=entry.kind == "command", takes_effect=effect, verdict=verdict)

    def _takes_effect(self, entry: Entry) -> bool:
        """Whether a command is to be reported: one that lifts no halt of the log, or freezes what is frozen, is not."""
        if entry.command in ENDING_A_HALT:
            return self.halts.overrides.ends(entry.command, entry.parsed_arguments().get("position"))
        if entry.command in ("freeze", "resume"):
            return not of_one_model(entry) and self.facts.frozen is not (entry.command == "freeze")
        return entry.command in REPORTED_COMMANDS

    def _example(self, single: Single, entry: Entry) -> Judged:
        place: Place = entry[1:5]
        offset, partition = single.record.offset, entry.source_partition
        override = self.halts.overrides.get(offset)
        passed = Judged(single, learns=False)
        if override == "skip":
            old = entry.sequence < self.sequences.next_sequence(partition)
            if self.facts.has_started(partition) and not old:
                self.sequences.record(*place)
            return passed._replace(ended=self.halts.overrides.passed(offset))
        self.halts.current = self._why_not(single, entry, accepted=override == "accept-gap")
        if self.halts.current is not None:
            return passed
        if override == "accept-gap":
            self.sequences.accept_gap(*place)
            return Judged(single, learns=True, ended=self.halts.overrides.passed(offset))
        if self.sequences.check(*place) == "drop":
            self.dropped += 1
            return passed
        self.sequences.record(*place)
        return Judged(single, learns=True)

    def _why_not(self, single: Single, entry: Entry, *, accepted: bool) -> Halt | None:
        """Where an example halts the book: why; None of one that is to be learned, or is a repeat."""
        offset, partition = single.record.offset, entry.source_partition
        if not self.facts.has_started(partition):
            message = f"an example of partition {partition}, which no worker has started: somebody else wrote it"
            return Halt(offset, "not_an_entry", message)
        verdict = self.sequences.check(*entry[1:5])
        if not accepted and verdict == "drop":
            return None
        if not accepted and verdict != "learn":
            return Halt(offset, verdict, _sequence_words(entry, self.sequences, verdict))
        if entry.event_schema in self.facts.unreadable:
            return Halt(offset, "schema_mismatch", self.facts.unreadable[entry.event_schema])
        features = single.features
        if isinstance(features, Halt):
            features = features_of(self._settings, entry)  # its schema may stand in the log just before it
        return features._replace(position=offset) if isinstance(features, Halt) else None

    # --- while halted ---

    def _read_on(self, single: Single) -> None:
        """Pass an entry while halted: nothing is learned, but what was seen counts."""
        if self.seen is self.sequences:
            self.seen = self.sequences.copy()
        entry = single.entry
        if entry is None:
            self._read_on_later(single)
            return
        self.written_at_ms = entry.written_at_ms
        with contextlib.suppress(*_NO_SENSE):  # it is met again, and halts then, once this halt is ended
            entry.check_known()
            self.facts.note(entry, self.seen)
            self.facts.read_roles(single.record.offset, entry)
            self.halts.obey(entry)
        if entry.kind == "example" and self.facts.has_started(entry.source_partition):
            self.seen.record(entry.source_partition, entry.sequence, entry.trigger, entry.trigger_offset)

    def _read_on_later(self, single: Single) -> None:
        """Pass an entry of a later version: which example it is stands in front, in every format."""
        if isinstance(single.problem, LaterEntry):
            with contextlib.suppress(ValueError):
                place = decode_place(single.record.value)
                if place is not None and self.facts.has_started(place[0]):
                    self.seen.record(*place)

    # --- a checkpoint's content ---

    def state(self) -> dict[str, Any]:
        """Plain values; only while not halted."""
        assert self.halts.current is None  # noqa: S101 - what was seen is then not what was judged
        return {
            "sequences": self.sequences.plain(),
            "position": self.position,
            "dropped": self.dropped,
            "facts": self.facts.state(),
            "open_halts": self.halts.overrides.state(),
            "last_digest": self.last_digest,
            "last_written_at_ms": self.written_at_ms,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.sequences = SequenceTracker({p: SequenceState(*known) for p, known in state["sequences"].items()})
        self.seen = self.sequences
        self.position = self.read_position = state["position"]
        self._last, self.written_at_ms = state["last_digest"], state["last_written_at_ms"]
        self.dropped = state["dropped"]
        self.halts.overrides.restore(state["open_halts"])
        self.facts.restore(state["facts"])


def _sequence_words(entry: Entry, sequences: SequenceTracker, verdict: str) -> str:
    partition = entry.source_partition
    last = sequences.last_trigger(partition, entry.trigger)
    of = ("events", "feedback")[entry.trigger]
    return (
        f"partition {partition}: sequence {entry.sequence} where {sequences.next_sequence(partition)} is next, trigger "
        f"{of}:{entry.trigger_offset} after {last}: "
        + ("examples are missing" if verdict == "gap" else "sequence and trigger disagree")
    )
