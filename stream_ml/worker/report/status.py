"""The status of a worker that turns, gathered from its parts."""

import functools
import platform
import time
from importlib.metadata import version
from typing import Any, cast

from stream_ml.app.parts import Parts
from stream_ml.core.join.join import Join
from stream_ml.follower.follower import Follower
from stream_ml.kafka.consumers import FeedbackInput, Group
from stream_ml.kafka.topic_watch import TopicWatch
from stream_ml.observe.problems import problems
from stream_ml.observe.status import (
    FORMAT,
    NO_POINT,
    ConceptStatus,
    FirstBacklog,
    Lag,
    ModelsStatus,
    PartitionStatus,
    PendingStatus,
    QualityWindow,
    Status,
)
from stream_ml.observe.terminal import point
from stream_ml.worker.partitions.assignment import Ownership
from stream_ml.worker.partitions.owned import OwnedPartition
from stream_ml.worker.report.health import Health
from stream_ml.worker.report.models import ModelsOfNow
from stream_ml.worker.report.monitor import Monitor
from stream_ml.worker.report.totals import Totals
from stream_ml.worker.state import WorkerState, state_of

HELD_S = 5.0  # of an open transaction before it is reported: ours take milliseconds
LATE_S = 1.0  # an answer of Kafka's: then it is why the group is on its move
WINDOWS_S = 5.0  # between two computations of the windows' quality
SIGNALS_SHOWN = 30
PACKAGES = ("stream-ml", "river", "numpy", "confluent-kafka", "fastavro")


class StatusMaker:
    """Makes the status of now; the loop alone calls it. `warnings` are set by name, by whoever finds one.

    So many attributes: they are the parts of a worker that a status is gathered from.
    """

    def __init__(
        self,
        parts: Parts,
        follower: Follower,
        ownership: Ownership,
        inputs: tuple[Group, FeedbackInput],
        topics: TopicWatch,
        monitor: Monitor,
        health: Health,
        totals: Totals,
    ) -> None:
        self._config, self._follower, self._ownership = parts.config, follower, ownership
        self._group, self._feedback = inputs
        self._topics, self._monitor, self._health, self._totals = topics, monitor, health, totals
        self._quality, self._models = QualityOfNow(parts, follower), ModelsOfNow(parts.config, follower)
        self._started_s = time.monotonic()
        self.warnings: dict[str, str] = {}

    def make(self, now_s: float) -> Status:
        """Everything, at this second of the monotonic clock."""
        self._monitor.follow(self._follower.serving)
        reasons = self._reasons()
        joins = {number: of.core.join for number, of in self._ownership.owned.items()}
        waiting, models = sum(len(join.waiting) for join in joins.values()), self._models.models()
        status: Status = {
            "format": FORMAT,
            "app": self._config.app.id,
            "instance": self._config.instance,
            "uptime_seconds": round(now_s - self._started_s, 1),
            "state": self._state().value,
            "ready": not reasons,
            "reasons": reasons,
            "warnings": self._warnings(models),
            "problems": [],
            "partitions": {
                "owned": {str(number): self._partition(of) for number, of in sorted(self._ownership.owned.items())},
                "suspended": {str(number): why for number, why in sorted(self._ownership.suspended.items())},
            },
            "model": self._models.model(),
            "models": models,
            "quality": self._quality.life(),
            "quality_windows": self._quality.windows(now_s),
            "concept": self._concept(),
            "first_backlog": self._first_backlog(),
            **self._monitor.status(self._ownership.owned),
            "point": NO_POINT,
            "signals": self._signals(),
            "checkpoint": self._follower.checkpoints.written(self._follower.lineup.answers),
            "pending": self._pending(joins),
            "watch": self._totals.watch(waiting),
            "since_start": dict(sorted(self._totals.counts.items())),
            "per_second": self._totals.rates(),
            "versions": _versions(),
        }
        status["point"] = point(status)
        status["problems"] = problems(status)
        return status

    def _pending(self, joins: dict[int, Join]) -> PendingStatus:
        most = self._config.pending
        return {
            "events": sum(len(join.store) for join in joins.values()),
            "labels": sum(len(join.waiting) for join in joins.values()),
            "bytes": sum(join.bytes for join in joins.values()),
            "shed": self._totals.counts["events_shed"],
            "max_per_partition": {
                "events": most.events_max,
                "labels": most.early_labels_max,
                "bytes": most.bytes_max,
            },
        }

    def _concept(self) -> ConceptStatus:
        concept = self._follower.watch.concept
        return {
            "loss": round(concept.losses.mean(), 4),
            "drifted": concept.drifted is not None,
            "below_baseline": concept.below,
        }

    def _first_backlog(self) -> FirstBacklog:
        started, owned = self._follower.book.facts.started, self._ownership.owned
        lay = [max(0, of.backlog_end - started[number]["events"]) for number, of in owned.items() if of.backlog_end]
        return {"left": sum(of.backlog_left for of in owned.values()), "events": sum(lay)}

    def _signals(self) -> list[dict[str, Any]]:
        """The newest of the fold's and of this worker's own; each part in its order."""
        fold = self._follower.replica.signals_after(-1)[-SIGNALS_SHOWN:]
        own = list(self._monitor.signals.written)[-SIGNALS_SHOWN:]
        return [signal.plain() for signal in [*fold, *own]]

    # --- why it is not ready, and what else is wrong ---

    def _state(self) -> WorkerState:
        return state_of(self._topics.verdict, self._group, self._ownership)

    def _reasons(self) -> list[str]:
        """Why this worker is not ready; none where it holds what the group gave it, be that nothing for good."""
        wrong = self._health.wrong()
        if wrong:
            return wrong
        if self._state() is WorkerState.REBALANCING or self._group.may_come:
            if self._health.silent_s > LATE_S:
                return [self._health.silence]
            return ["the group has given no partitions yet, or is moving them"]
        return [*self._taking_up(), *self._suspended()]

    def _taking_up(self) -> list[str]:
        wanted = len(self._ownership.wanted)
        if not wanted:
            return []
        what = f"{wanted} partition{'s are' if wanted > 1 else ' is'} being taken up"
        return [f"{what}; {len(self._ownership.owned)} served meanwhile"]

    def _suspended(self) -> list[str]:
        return [f"partition {number} is suspended: {why}" for number, why in sorted(self._ownership.suspended.items())]

    def _warnings(self, models: ModelsStatus) -> list[str]:
        follower, config = self._follower, self._config
        facts, model = follower.book.facts, follower.serving.model
        found = [text for text in self.warnings.values() if text]
        found += [f"{text} -> stream-ml dead-letters ls CONFIG" for text in self._totals.recent_dead_letters()]
        found += [*self._topics.verdict.warnings, *self._held()]
        if self._follower.checkpoints.problem:
            text = "a start folds from the last one that was, or the log's beginning"
            why = self._follower.checkpoints.problem
            found.append(f"checkpoints cannot be written, {text}: {why} -> stream-ml config show CONFIG")
        if self._follower.checkpoints.away:
            text = "a worker on another machine would fold from the last one that is there"
            why = self._follower.checkpoints.away
            found.append(f"checkpoints do not reach the bucket, {text}: {why} -> stream-ml config show CONFIG")
        if facts.genesis_again:
            again = f"{facts.genesis_again} entries of {config.training_log_topic} claim that the log begins there"
            found.append(
                f"{again}: somebody else writes into it; they are passed over -> stream-ml tail CONFIG training-log"
            )
        if model.frozen:
            found.append("learning is frozen -> stream-ml resume CONFIG")
        elif follower.lag_s > config.learning.lag_max / 1000:
            found.append(
                f"learning lags {follower.lag_s:.0f} s behind: predictions are flagged stale -> stream-ml top CONFIG"
            )
        far = model.model.far
        if far.is_recent(model.model.limits.seen):
            what = "left out" if config.learning.quarantine == "divert" else "learned"
            found.append(
                f"examples far from all others: {far.count}, {what}, the last at {far.last} of the training log "
                "-> stream-ml tail CONFIG signals"
            )
        found += [
            *follower.cost.words(),
            *follower.checkpoints.size(model.settings.lineage).words(),
            *self._models.warnings(models),
        ]
        if model.model.learner.fallback_reason:
            found.append(f"the model learns right, but slower than it could: {model.model.learner.fallback_reason}")
        return found

    def _held(self) -> list[str]:
        """Partitions, and the training log, behind which a transaction is open for longer than one of ours may be."""
        config, found = self._config, []
        for number in self._ownership.owned:
            for topic, of in ((config.events.topic, self._group), (config.feedback.topic, self._feedback)):
                held = of.ends.held(number)
                if held is not None and held[2] > HELD_S:
                    at, end, seconds = held
                    found.append(_held_words(f"{topic} [{number}] {at}", f"{end - at:,} records", seconds))
        held_s = self._follower.held_s
        if held_s is not None and held_s > HELD_S:
            found.append(_held_words(config.training_log_topic, "what was to be learned", held_s))
        return found

    # --- partitions and model ---

    def _partition(self, of: OwnedPartition) -> PartitionStatus:
        core = of.core
        watermark_ms = core.join.times.watermark_ms
        return {
            "events": _lag(self._group, of.number, core.events_position, of.event_ms),
            "feedback": _lag(self._feedback, of.number, core.feedback_position, of.label_ms),
            "watermark_ms": watermark_ms if watermark_ms > 0 else None,
            "next_sequence": core.next_sequence,
        }


class QualityOfNow:
    """The model's quality, computed anew only where something was learned since, and the windows' not more often."""

    def __init__(self, parts: Parts, follower: Follower) -> None:
        self._settings, self._follower = parts.config.quality, follower
        self._life: tuple[int, dict[str, float]] = (0, {})
        self._windows: tuple[float, int, dict[str, QualityWindow]] = (-WINDOWS_S, -1, {})

    def life(self) -> dict[str, float]:
        """Over all labelled predictions."""
        quality = self._follower.watch.quality
        if quality.count != self._life[0]:
            self._life = (quality.count, quality.report())
        return self._life[1]

    def windows(self, now_s: float) -> dict[str, QualityWindow]:
        """Of the two windows: it takes some milliseconds."""
        then_s, count, _ = self._windows
        quality, settings = self._follower.watch.quality, self._settings
        if quality.count != count and now_s - then_s >= WINDOWS_S:
            found = quality.windows(settings.window, settings.window_time)
            self._windows = (now_s, quality.count, cast("dict[str, QualityWindow]", found))
        return self._windows[2]


def _lag(of: Group | FeedbackInput, number: int, position: int, latest_ms: int | None) -> Lag:
    """Records that are there and not committed, and how old the last one was.

    Transaction markers among them count, until the end itself is met: an idle topic that ends in one is no lag.
    Where an open transaction holds back what is behind it, `held_seconds` says so.
    """
    end = of.end(number)
    held = of.ends.held(number)
    behind = None if end is None else 0 if of.ends.reached(number) else max(0, end - position)
    seconds = 0.0 if not behind or latest_ms is None else max(0.0, round(time.time() - latest_ms / 1000, 1))
    found: Lag = {"position": position, "end": end, "lag_records": behind, "lag_seconds": seconds}
    return found if held is None else {**found, "held_at": held[0], "held_seconds": round(held[2], 1)}


def _held_words(where: str, what: str, seconds: float) -> str:
    return (
        f"{where}: {what} held by an open transaction for {seconds:.0f} s, of a producer that died or works slowly; "
        "find it and abort it -> kafka-transactions.sh find-hanging"
    )


@functools.cache
def _versions() -> dict[str, str]:
    """Looked up once: each reads a file."""
    return {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
