"""Which share of the last records came twice, too late or for nothing: signs of a wrong id, a wrong time, another key.

Counted over records and not over time, so that a quiet topic keeps what is wrong with it.
"""

from collections import Counter, deque

from stream_ml.config import Config
from stream_ml.core.partition.batch import Outputs
from stream_ml.observe.status import Share

_EVENTS = {"duplicates": ("flags", "duplicate_event"), "too_old": ("events_too_old", "")}
_LABELS = {
    "orphans": ("labels", "orphan"),
    "late": ("labels", "late"),
    "orphans passed": ("labels_passed", "orphan"),
    "late passed": ("labels_passed", "late"),
}
_ENDS = ("joined", "duplicate", "late", "orphan", "shed", "invalid")


class _Window:
    """The counts of the newest batches, of `size` records together or a batch more."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._batches: deque[tuple[int, Counter[str]]] = deque()
        self.records, self.counts = 0, Counter[str]()

    def add(self, records: int, counts: Counter[str]) -> None:
        if not records:
            return
        self._batches.append((records, counts))
        self.records += records
        self.counts.update(counts)
        while self.records - self._batches[0][0] >= self._size:
            gone, old = self._batches.popleft()
            self.records -= gone
            self.counts.subtract(old)


class Shares:
    """What one worker has committed lately; one thread only."""

    def __init__(self, config: Config) -> None:
        self._watch = config.watch
        self._events, self._labels = _Window(self._watch.window), _Window(self._watch.window)
        self._joined = 0  # since the start: labels that wait are a stock, and may be many where all of them join

    def committed(self, outputs: Outputs) -> None:
        """Count a batch."""
        counts = outputs.counts
        scored = counts["predictions", ""]
        self._events.add(scored, Counter({name: counts[key] for name, key in _EVENTS.items()}))
        ended = sum(counts["labels", end] for end in _ENDS)
        self._joined += counts["labels", "joined"]
        self._labels.add(ended, Counter({name: counts[key] for name, key in _LABELS.items()}))

    def status(self, waiting: int) -> dict[str, Share]:
        """By name how many, of how many, the share (None of too few) and the share from which on it is a problem.

        Parameters
        ----------
        waiting
            Labels that wait for their event now.
        """
        watch, events = self._watch, self._events
        return {
            "duplicates": self._share(events.counts["duplicates"], events.records, watch.duplicates_max),
            "too_old": self._share(events.counts["too_old"], events.records, watch.too_old_max),
            "orphans": self._of_labels("orphans", watch.orphans_max),
            "late": self._of_labels("late", watch.late_max),
            "waiting": self._share(waiting, waiting + self._joined, watch.waiting_max),
        }

    def _of_labels(self, name: str, most: float) -> Share:
        """`passed`: how many of them were in time by their own dates."""
        counts = self._labels.counts
        return {**self._share(counts[name], self._labels.records, most), "passed": counts[f"{name} passed"]}

    def _share(self, count: int, of: int, most: float) -> Share:
        share = round(count / of, 4) if of >= self._watch.least else None
        return {"count": count, "of": of, "share": share, "max": most}
