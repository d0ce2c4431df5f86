"""The watch over what was served: its quality and the drift of its loss, whichever models served and learn."""

import math
from typing import Any, cast

from stream_ml.core.drift.concept import Finding
from stream_ml.core.drift.signals import Kind, Severity, Signal
from stream_ml.core.evaluation.progressive import Quality
from stream_ml.core.fold.batches import FoldSettings, Run, Single
from stream_ml.core.fold.book import Judged
from stream_ml.core.fold.facts import backlog_end_of, start_of
from stream_ml.core.fold.halt import Halt
from stream_ml.core.fold.roles import Verdict
from stream_ml.core.fold.way_out import halt_signal
from stream_ml.core.log.entry import Entry


class Watch:
    """Quality, drift, and what was found, by the labelled predictions in the log; it follows a book.

    What it finds is the same in every replica, and its signals have the position in the log. Once the log says who
    serves (the `champion`), drift is of the losses of that one alone; and events of the first backlog, whose
    predictions nobody waited for, count in the quality and not in the drift.
    """

    def __init__(self, settings: FoldSettings) -> None:
        self._domain, self.origin = settings.domain, settings.watch
        self.quality = Quality(settings.domain)
        self.concept = settings.concept()
        self.champion = ""
        self.backlog_ends: dict[int, int] = {}  # by partition that has started; 0: it has no first backlog

    def take(self, judged: list[Judged]) -> None:
        """Take what the book has judged, each once."""
        for one in judged:
            if isinstance(one.item, Run):
                self._take_run(one.item)
            else:
                self._take_single(one, one.item)

    def _take_run(self, run: Run) -> None:
        of = run.first, run.first + run.size
        known, rows = self.quality.update_many(run.labelled, *of)
        ends = {partition: end for partition, end in self.backlog_ends.items() if end}
        if self.champion or ends:
            by = run.labelled.since(ends, *of)
            if self.champion:
                by &= run.labelled.served_by(self.champion, *of)
            rows = rows[by[known]]
            known = [number for number in known if by[number]]
        offsets = [run.records[number].offset for number in known]
        taken = 0
        while taken < len(known):
            taken += self.concept.update_many(rows[taken:], self.origin, offsets[taken:])

    def _take_single(self, one: Judged, single: Single) -> None:
        entry, offset = single.entry, single.record.offset
        at_ms = 0 if entry is None else entry.written_at_ms
        if one.ended is not None:
            self.concept.signals.append(halt_signal(self.origin, one.ended, at_ms))
        if one.verdict is not None:
            self._tell(one.verdict, offset, at_ms)
        if entry is not None and one.learns and self._fits(entry):
            row = self.quality.update(entry.target, entry.served, entry.label_time_ms, entry.event_time_ms)
            # The position of an example whose halt was ended stands for that halt.
            drifts = not self.champion or entry.served.lineage == self.champion
            drifts = drifts and entry.event_offset >= self.backlog_ends.get(entry.source_partition, 0)
            if row is not None and one.ended is None and drifts:
                self.concept.update(row, self.origin, offset)
        elif entry is not None and entry.kind == "start":
            self.backlog_ends.setdefault(entry.source_partition, backlog_end_of(start_of(entry)))
        elif entry is not None and one.obeyed and entry.command == "rebase":
            self._rebased(entry)
        elif entry is not None and one.takes_effect:
            self.concept.command(entry.command, self.origin, offset, at_ms)

    def _rebased(self, entry: Entry) -> None:
        """Offsets of a partition begin anew: what they said of a first backlog is over."""
        said = entry.parsed_arguments()
        if said.get("back", True) and int(said["partition"]) in self.backlog_ends:
            self.backlog_ends[int(said["partition"])] = 0

    def _tell(self, verdict: Verdict, offset: int, at_ms: int) -> None:
        """Tell what became of a command about models; the drift of another model's loss begins anew."""
        if verdict.kind == "serving" and verdict.lineage != self.champion:
            self.champion = verdict.lineage
            self.concept.begin()
        severity: Severity = "warning" if verdict.kind == "refused" else "info"
        finding = Finding(
            cast("Kind", verdict.kind), "models", severity, {}, verdict.words, "stream-ml models ls CONFIG"
        )
        self.concept.signals.append(finding.signal(self.origin, offset, at_ms)._replace(lineage=verdict.lineage))

    def _fits(self, entry: Entry) -> bool:
        """Whether the label is one of this task."""
        if self._domain.task == "regression":
            return entry.target.value is not None and math.isfinite(entry.target.value)
        return entry.target.class_name in self._domain.classes

    def signals_after(self, position: int, halt: Halt | None, at_ms: int) -> list[Signal]:
        """What was found after this position, in its order, with the halt of the book."""
        found = [signal for signal in self.concept.signals if signal.position > position]
        if halt is not None and halt.position > position:
            found.append(halt_signal(self.origin, halt, at_ms))
        return found

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "quality": self.quality.state(),
            "concept": self.concept.state(),
            "champion": self.champion,
            "backlog_ends": self.backlog_ends,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.quality.restore(state["quality"])
        self.concept.restore(state["concept"])
        self.champion, self.backlog_ends = state["champion"], dict(state["backlog_ends"])
