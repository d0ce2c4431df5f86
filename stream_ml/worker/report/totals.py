"""What one worker has committed since it started: counts, rates, dead letters, shares that are too large."""

import logging
import time
from collections import Counter

from stream_ml.config import Config
from stream_ml.core.partition.batch import Batch, Outputs
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.problems import share_words
from stream_ml.observe.status import Rates, Share
from stream_ml.records import DeadLetter
from stream_ml.worker.report.shares import Shares

INTERVAL_S = 1.0  # between two samples of the totals
RATE_OVER_S = 5.0
LINE_S = 60.0  # between two lines about dead letters of one reason
COUNTED_BY = {
    "served_headers": "outcome",  # metric -> its label
    "labels": "outcome",
    "labels_passed": "outcome",
    "dead_letters": "reason",
    "flags": "flag",
    "signals": "kind",
}

log = logging.getLogger(__name__)


class Totals:
    """Fed once per committed batch; one thread only."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self._metrics, self._shares = metrics, Shares(config)
        self.counts: Counter[str] = Counter()
        self.above: set[str] = set()  # names of the shares that are too large
        self._dead_letters: dict[str, tuple[float, str]] = {}  # by reason: when one was logged, and the line
        self._samples: list[tuple[float, int, int]] = []  # when, events and labels by then

    def committed(self, batch: Batch, outputs: Outputs) -> None:
        """Count a batch that was committed, in the metrics too.

        The first dead letter of a reason within a minute gets a line.
        """
        self.counts["events"] += len(batch.events)
        self.counts["labels"] += len(batch.feedback)
        for (name, value), amount in outputs.counts.items():
            self.counts[f"{name}.{value}" if value else name] += amount
            self._metrics.count(name, amount, **({COUNTED_BY[name]: value} if value else {}))
        for reason, dead_letter in outputs.dead_letters.items():
            self._log_dead_letter(reason, dead_letter)
        self._shares.committed(outputs)

    def _log_dead_letter(self, reason: str, dead_letter: DeadLetter) -> None:
        now_s, where = time.monotonic(), dead_letter.record[:3]
        if now_s - self._dead_letters.get(reason, (-LINE_S, ""))[0] < LINE_S:
            return
        text = f"{where[0]} [{where[1]}] {where[2]} became a dead letter, {reason}: {dead_letter.message}"
        self._dead_letters[reason] = (now_s, text)
        fields = dict(zip(("topic", "partition", "offset"), where, strict=True))
        hint = {"hint": "stream-ml dead-letters ls CONFIG"}
        log.warning("%s (%d so far)", text, self.counts[f"dead_letters.{reason}"], extra=fields | hint)

    def recent_dead_letters(self) -> list[str]:
        """The lines of the last minute."""
        return [text for at_s, text in self._dead_letters.values() if time.monotonic() - at_s < LINE_S]

    def sample(self, now_s: float) -> None:
        """Remember the totals of now, for the rates."""
        lately = [sample for sample in self._samples if now_s - sample[0] <= RATE_OVER_S]
        self._samples = [*lately, (now_s, self.counts["events"], self.counts["labels"])]

    def rates(self) -> Rates:
        """Records a second, over the last seconds."""
        first, last = self._samples[0], self._samples[-1]
        seconds = max(last[0] - first[0], INTERVAL_S)
        return {
            "events": round((last[1] - first[1]) / seconds, 1),
            "labels": round((last[2] - first[2]) / seconds, 1),
        }

    def watch(self, labels_waiting: int) -> dict[str, Share]:
        """The shares of the last records; one that has become too large gets a line, once."""
        watch = self._shares.status(labels_waiting)
        above = {name for name, of in watch.items() if of["share"] is not None and of["share"] > of["max"]}
        for name in sorted(above - self.above):
            text, suggestion = share_words(name, watch[name])
            log.warning("%s", text, extra={"hint": suggestion})
        self.above = above
        return watch
