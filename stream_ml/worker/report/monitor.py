"""What one worker alone can see: drift of its inputs and scores, labels that stay away, latency, the last predictions.

Fed once per committed batch. What it finds are signals under the worker's name, written with the next transaction.
In a first backlog nothing is found: its events only make the reference, by which those that come after are judged.
"""

import logging
import math
import statistics
import time
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ml.app.parts import Parts
from stream_ml.core.drift.inputs import InputDrift, Watched
from stream_ml.core.drift.signals import Kind, Severity, Signal
from stream_ml.core.partition.batch import Batch, Outputs
from stream_ml.core.partition.serving import Serving
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.problems import watched as words_of
from stream_ml.observe.status import DriftStatus, Monitored
from stream_ml.storage.files import read_small, replaced, sealed, unsealed
from stream_ml.storage.keys import key_of
from stream_ml.worker.partitions.owned import OwnedPartition
from stream_ml.worker.report.signals import SignalOutbox

OVER_S = 60.0  # latency and scores are reported over the last so many seconds
BATCHES_MAX = 2_000  # of them in memory
LAST_MAX = 20  # predictions that are shown
SCORE_BINS = 10
FILE_BYTES_MAX = 16_000_000  # of the references of all features
MATURITY_S = 5.0  # between two counts of the labelled events

log = logging.getLogger(__name__)


class Monitor:
    """One worker's view of its inputs and outputs; one thread only.

    So many attributes: its settings, what it watches, and what it has seen last.
    """

    def __init__(self, parts: Parts, metrics: Metrics) -> None:
        config = parts.config
        self._config, self._metrics = config, metrics
        inputs = config.drift.inputs
        names = [name for name in parts.plan.kinds if name not in inputs.exclude]
        self.inputs = InputDrift(names, reference=inputs.reference, window=inputs.window, threshold=inputs.psi)
        self._starving_ms = config.drift.label_starvation or config.feedback.ttl
        self._rebaselined_at: int | None = None
        self._trained = False
        self._batches: deque[tuple[float, float, list[int]]] = deque(maxlen=BATCHES_MAX)
        self._maturity: tuple[float, dict[str, float]] = (-MATURITY_S, {})
        self.signals = SignalOutbox(config.signals, metrics)
        self.last: deque[dict[str, Any]] = deque(maxlen=LAST_MAX)
        self._file = config.path(config.checkpoints.directory) / f"inputs-{config.instance}.json"
        self._plan = parts.plan
        self._key = key_of(config, make=True)
        self._load()

    @property
    def _has_scores(self) -> bool:
        return self._config.model.task != "regression"

    # --- fed by the loop ---

    def committed(self, of: OwnedPartition, batch: Batch, outputs: Outputs) -> None:
        """Take a batch that was committed."""
        events = batch.events
        backlog = of.backlog_left > 0 or (len(events) > 0 and events.records.offsets[0] < of.backlog_end)
        self._starvation(of, batch, backlog=backlog)
        if not len(events):
            return
        rows = outputs.staged.rows
        scores = np.array(rows.numbers, np.float64)
        now_ms = time.time() * 1000
        latency_s = math.nan if backlog else max(0.0, (now_ms - events.records.timestamps_ms[0]) / 1000)
        if not backlog:  # nobody waited for those
            self._metrics.observe("event_to_prediction_seconds", latency_s)
        self._batches.append((time.monotonic(), latency_s, self._histogram(scores)))
        for row in range(max(0, len(rows) - 5), len(rows)):
            event = rows.event(row)
            said = event.served.class_name if event.served.value is None else event.served.value
            where = {"partition": of.number, "offset": event.offset, "event_id": event.event_id[:80]}
            self.last.append({**where, "said": said, "score": event.served.score, "at_ms": int(now_ms)})
        if events.plan is not self._plan:
            return  # another model answers, whose features are others
        if backlog and self.inputs.referenced:
            return
        features, known = events.features, scores.tolist() if self._trained and not backlog else []
        changed = self.inputs.take(features.table, [*features.others.values()], known, int(now_ms))
        for subject, watched, since_ms in changed:
            self._tell_input(subject, watched, since_ms)

    def _histogram(self, scores: NDArray[np.float64]) -> list[int]:
        counts = [0] * SCORE_BINS
        if self._has_scores:
            served = scores[~np.isnan(scores)]
            tenths = np.minimum((served * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
            counts = np.bincount(tenths, minlength=SCORE_BINS).tolist()
            for number, count in enumerate(counts):
                if count:
                    self._metrics.count("scores", count, upto=f"{(number + 1) / SCORE_BINS:g}")
        return counts

    def follow(self, serving: Serving) -> None:
        """Obey a `rebaseline` that the log holds."""
        self._trained = serving.model.examples_learned >= self.inputs.reference_size
        at = serving.book.facts.rebaselined_at
        if self._rebaselined_at is None:
            self._rebaselined_at = at
        elif at > self._rebaselined_at:
            self._rebaselined_at = at
            self._begin_anew()

    def _begin_anew(self) -> None:
        self.inputs.begin()
        try:
            self._file.unlink(missing_ok=True)  # else a restart would take back what was given up
        except OSError as error:
            log.warning("%s cannot be removed: %s", self._file, error)
        for subject in self.inputs.watched:
            for name in ("drifted", "drift_index", "feature_missing_ratio"):
                self._metrics.set(name, 0, subject=subject)

    # --- labels ---

    def _starvation(self, of: OwnedPartition, batch: Batch, *, backlog: bool) -> None:
        behind_ms = of.labels.take(batch)
        if backlog:
            of.labels.waiting_since_ms = 0  # nobody has waited for the labels of events that lay there
            return
        if (behind_ms > self._starving_ms) is of.labels.starving:
            return
        of.labels.starving = not of.labels.starving
        evidence = {"behind_seconds": behind_ms / 1000, "limit_seconds": self._starving_ms / 1000}
        subject, since_ms = f"labels:{of.number}", of.labels.waiting_since_ms
        if of.labels.starving:
            words = f"partition {of.number}: no label has come during {behind_ms / 3_600_000:.1f} h of events"
            self._found(
                "label_starvation", subject, since_ms, "warning", evidence, words, "stream-ml tail CONFIG feedback"
            )
        else:
            words = f"partition {of.number}: labels come again"
            labels_ms = batch.feedback.latest_ms(0)
            self._found("recovered", subject, labels_ms, "info", evidence, words, "stream-ml top CONFIG")

    # --- inputs ---

    def _tell_input(self, subject: str, watched: Watched, since_ms: int) -> None:
        compared = watched.compared
        assert compared is not None  # noqa: S101 - a window was compared
        evidence = {
            "psi": compared.psi,
            "distance": compared.distance,
            "psi_to_window_before": compared.psi_recent,
            "missing_share": compared.missing,
            "threshold": max(self.inputs.threshold, compared.noise),
        }
        what = words_of(subject)
        if watched.drifted:
            words = f"{what} has moved away from its reference: index {compared.psi:.2f}"
            self._found("drift", subject, since_ms, "warning", evidence, words, "stream-ml rebaseline CONFIG")
        else:
            words = f"{what} is like its reference again"
            self._found("recovered", subject, since_ms, "info", evidence, words, "stream-ml top CONFIG")

    def _found(
        self,
        kind: Kind,
        subject: str,
        since_ms: int,
        severity: Severity,
        evidence: dict[str, float],
        words: str,
        suggestion: str,
    ) -> None:
        signal = Signal(
            origin=self._config.instance,
            kind=kind,
            subject=subject,
            position=since_ms,  # what only a worker sees has no place in the log
            severity=severity,
            since_ms=since_ms,
            evidence=evidence,
            message=words,
            suggestion=suggestion,
        )
        self.signals.add(signal)

    # --- what is shown ---

    def status(self, owned: dict[int, OwnedPartition]) -> Monitored:
        """For the status: JSON values."""
        recent = [batch for batch in self._batches if time.monotonic() - batch[0] <= OVER_S]
        latencies = sorted(batch[1] for batch in recent if not math.isnan(batch[1]))
        return {
            "latency_seconds": {
                "p50": round(statistics.median(latencies), 4) if latencies else None,
                "p99": round(latencies[int(0.99 * (len(latencies) - 1))], 4) if latencies else None,
            },
            "scores": self._scores([batch[2] for batch in recent]),
            "drift": self._drift(),
            "maturity": self._labelled(owned),
            "starving": sorted(number for number, of in owned.items() if of.labels.starving),
            "last_predictions": list(self.last),
        }

    def _scores(self, histograms: list[list[int]]) -> list[int]:
        """Predictions by tenths of the score; empty for a regression."""
        return [sum(of) for of in zip([0] * SCORE_BINS, *histograms, strict=True)] if self._has_scores else []

    def _drift(self) -> DriftStatus:
        inputs = self.inputs
        found = {
            name: {**of.compared._asdict(), "drifted": of.drifted, "history": list(of.history)}
            for name, of in inputs.watched.items()
            if of.compared is not None
        }
        for values in found.values():
            values |= {name: round(value, 4) for name, value in values.items() if isinstance(value, float)}
        return {
            "on": inputs.reference_size > 0,
            "referenced": inputs.referenced,
            "seen": inputs.seen,
            "of": inputs.window_size if inputs.referenced else inputs.reference_size,
            "threshold": inputs.threshold,
            "subjects": found,
        }

    def _labelled(self, owned: dict[int, OwnedPartition]) -> dict[str, float]:
        """Which share of the events of the last window, in event time, has a label by now: how much to believe."""
        if time.monotonic() - self._maturity[0] < MATURITY_S:
            return self._maturity[1]
        labelled = events = 0
        for join in (of.core.join for of in owned.values()):
            some = join.store.labelled(join.inputs.events_ms - self._config.quality.window_time)
            labelled, events = labelled + some[0], events + some[1]
        found = {"events": events, "labelled_share": round(labelled / events, 4) if events else 0.0}
        self._maturity = (time.monotonic(), found)
        return found

    # --- kept beside the checkpoints ---

    def save(self) -> None:
        """Keep the reference for the next process of this name; a failure costs a reference, and is reported."""
        state = self.inputs.state()
        if state is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            unwritten = self.signals.state()
            kept = {"inputs": state, "rebaselined_at": self._rebaselined_at, "unwritten": unwritten}
            if self._key is not None:
                replaced(self._file, sealed(kept, self._key))
        except OSError as error:
            log.warning("the reference of input drift is not kept: %s", error)

    def _load(self) -> None:
        try:
            if self._key is None:
                return  # what is not sealed may be anybody's
            kept = unsealed(read_small(self._file, FILE_BYTES_MAX), self._key)
            known = self.inputs.restore(kept["inputs"])
            at = kept["rebaselined_at"]
            self._rebaselined_at = None if at is None else int(at)
            self.signals.restore(kept["unwritten"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            log.warning("%s cannot be used, input drift begins with a new reference: %s", self._file, error)
            self.inputs.begin()
            self.signals.restore([])
            return
        if not known:
            log.info("input drift begins with a new reference: features or windows were other ones")
