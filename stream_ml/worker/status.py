"""What a worker says of itself: gauges and one status, made anew every second; other threads read the last one.

The loop alone writes. A status is a plain dict that is replaced as a whole and never changed, so reading needs no lock.
"""

import functools
import logging
import math
import platform
import time
from collections import Counter
from importlib.metadata import version
from typing import Any, cast

from stream_ml.app.parts import Parts
from stream_ml.core.join.join import Join
from stream_ml.core.log.logged_schemas import WrittenSchema
from stream_ml.core.partition.partition import Batch, Outputs
from stream_ml.follower.follower import Follower
from stream_ml.kafka.consumers import FeedbackInput, Group
from stream_ml.kafka.topic_watch import TopicWatch
from stream_ml.observe.gauges import set_gauges
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.problems import problems, share_words, starting
from stream_ml.observe.status import (
    FORMAT,
    NO_POINT,
    AnyStatus,
    ConceptStatus,
    Lag,
    ModelStatus,
    PartitionStatus,
    Point,
    QualityWindow,
    Rates,
    Share,
    Starting,
    Status,
)
from stream_ml.observe.terminal import line, point
from stream_ml.records import DeadLetter
from stream_ml.worker.assignment import Ownership
from stream_ml.worker.monitor import Monitor
from stream_ml.worker.shares import Shares

INTERVAL_S = 1.0
HELD_S = 5.0  # of an open transaction before it is reported: ours take milliseconds
LINE_S = 60.0  # between two lines of the log that say how it goes
ALIVE_S = 60.0  # a turn takes milliseconds, a rebuild polls; after so long without either the loop hangs
RATE_OVER_S = 5.0
WINDOWS_S = 5.0  # between two computations of the windows' quality
HISTORY = 900  # points, one a second, for charts
SIGNALS_SHOWN = 30
SILENT_S = 3.0  # without an answer of Kafka, which is asked several times a second
LATE_S = 1.0  # an answer: then it is why the group is on its move
HANGS_S = 20.0  # the loop stands still for as long in no transaction but one that will fail
COUNTED_BY = {  # metric -> its label
    "labels": "outcome",
    "labels_passed": "outcome",
    "dead_letters": "reason",
    "flags": "flag",
    "signals": "kind",
}
PACKAGES = ("stream-ml", "river", "numpy", "confluent-kafka", "fastavro")

log = logging.getLogger(__name__)


class Report:
    """Status and gauges of one worker."""

    def __init__(
        self,
        parts: Parts,
        metrics: Metrics,
        follower: Follower,
        ownership: Ownership,
        inputs: tuple[Group, FeedbackInput],
        monitor: Monitor,
        topics: TopicWatch,
    ) -> None:
        self._parts, self._config, self._metrics = parts, parts.config, metrics
        self._follower, self._ownership = follower, ownership
        self._group, self._feedback = inputs
        self._monitor, self._shares = monitor, Shares(parts.config)
        self._above: set[str] = set()
        self._started_s = self._alive_s = time.monotonic()
        self._due_s, self._line_s = 0.0, self._started_s
        self._latest_ms: dict[tuple[str, int], int] = {}
        self._totals: Counter[str] = Counter()
        self._dead_letters: dict[str, tuple[float, str]] = {}
        self._quality_then: tuple[int, dict[str, float]] = (0, {})
        self._windows_then: tuple[float, int, dict[str, QualityWindow]] = (-WINDOWS_S, -1, {})
        self._seen_lately: list[tuple[float, int, int]] = []
        self.history: list[Point] = []
        metrics.set("start_timestamp_seconds", time.time())
        metrics.set("checkpoint_timestamp_seconds", time.time())  # until there is one: how old it can be at most
        self._versions = _versions()
        metrics.set("brokers_up", math.nan)  # until the client's first statistics: unknown is not none
        self.warnings: dict[str, str] = {}
        self._topics = topics
        self._brokers: Any = None  # the client's statistics that the gauges were set from
        self._told_down = False  # that no broker answers, by whoever asked meanwhile
        self._judged: tuple[Status, list[str], Status] | None = None
        self._status: AnyStatus = self._not_yet(["starting: reading the training log"])

    # --- read by other threads ---

    @property
    def status(self) -> AnyStatus:
        """What the loop has said last; where that is no longer true, judged anew by whoever asks.

        The loop may stand in a call of a client's for half a minute, while Kafka is away or a topic is gone.
        """
        status, reasons = self._status, self._wrong_now()
        if "model" not in status:
            return self._starting(status)
        if not reasons:
            return status
        judged = self._judged
        if judged is None or judged[0] is not status or judged[1] != reasons:
            now: Status = {**status, "ready": False, "reasons": reasons}
            if self.silent_s > SILENT_S:
                now["per_second"] = {"events": 0.0, "labels": 0.0}
                self._metrics.set("brokers_up", 0)
                self._told_down = True
            now["problems"] = problems(now)
            self._metrics.set("ready", False)
            self._judged = judged = (status, reasons, now)
        return judged[2]

    def _starting(self, status: Starting) -> Starting:
        """How far the fold is that comes before everything else."""
        folding = self._follower.folding
        if folding is None:
            return status
        reason = f"starting: folded {folding['position']:,} of {folding['end']:,} entries of the training log"
        return {**self._not_yet([reason]), "folding": {"position": folding["position"], "end": folding["end"]}}

    def _not_yet(self, reasons: list[str]) -> Starting:
        return starting(self._config.app.id, self._config.instance, reasons)

    def _wrong_now(self) -> list[str]:
        """Why this worker is not ready, as far as that can be seen from outside of its loop."""
        if self.silent_s > SILENT_S:
            return [self._silence()]
        found = self._topics.verdict.reasons
        if not found and self.hangs_s > HANGS_S:
            found = [f"the loop has not turned for {self.hangs_s:.0f} s"]
        return found

    def _silence(self) -> str:
        return f"Kafka at {self._config.kafka.bootstrap_servers} has not answered for {self.silent_s:.0f} s"

    @property
    def schemas(self) -> list[WrittenSchema]:
        """The schemas that records of the app have, as far as the log was read."""
        return self._parts.written_schemas(self._follower.replica.facts.logged_schemas)

    @property
    def silent_s(self) -> float:
        """How long Kafka has not answered anything."""
        return time.monotonic() - self._topics.verdict.answered_s

    # --- called by the loop ---

    def alive(self) -> None:
        """The loop turns, or reads while it rebuilds."""
        self._alive_s = time.monotonic()

    @property
    def hangs_s(self) -> float:
        """How long the loop has given no sign of life."""
        return time.monotonic() - self._alive_s

    def committed(self, number: int, batch: Batch, outputs: Outputs) -> None:
        """Count a batch that was committed, in the metrics too, and remember the time of what was read last.

        The first dead letter of a reason within a minute gets a line.
        """
        config = self._config
        if len(batch.events):
            self._latest_ms[config.events.topic, number] = batch.events.records.timestamps_ms[-1]
        if len(batch.feedback):
            self._latest_ms[config.feedback.topic, number] = batch.feedback.records.timestamps_ms[-1]
        self._totals["events"] += len(batch.events)
        self._totals["labels"] += len(batch.feedback)
        for (name, value), amount in outputs.counts.items():
            self._totals[f"{name}.{value}" if value else name] += amount
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
        told = dict(zip(("topic", "partition", "offset"), where, strict=True))
        hint = {"hint": "stream-ml dead-letters ls CONFIG"}
        log.warning("%s (%d so far)", text, self._totals[f"dead_letters.{reason}"], extra=told | hint)

    def renew(self, *, at_once: bool = False) -> None:
        """Make status and gauges anew, where they are older than INTERVAL_S, or at once."""
        now_s = time.monotonic()
        self._alive_s = now_s
        if now_s < self._due_s and not at_once:
            return
        self._due_s = now_s + INTERVAL_S
        lately = [seen for seen in self._seen_lately if now_s - seen[0] <= RATE_OVER_S]
        self._seen_lately = [*lately, self._seen(now_s)]
        self._monitor.follow(self._follower.replica, self._joins())
        status = self._made(now_s)
        status["point"] = point(status)
        status["problems"] = problems(status)
        self._log_shares(status["watch"])
        self._status = status
        self.history = [*self.history[1 - HISTORY :], status["point"]]
        self._gauges(status)
        if now_s - self._line_s >= LINE_S:
            self._line_s = now_s
            log.info("%s", line(status))

    def _log_shares(self, watch: dict[str, Share]) -> None:
        """A line when a share has become too large, once."""
        above = {name for name, of in watch.items() if of["share"] is not None and of["share"] > of["max"]}
        for name in sorted(above - self._above):
            text, suggestion = share_words(name, watch[name])
            log.warning("%s", text, extra={"hint": suggestion})
        self._above = above

    def _seen(self, now_s: float) -> tuple[float, int, int]:
        return now_s, self._totals["events"], self._totals["labels"]

    # --- the status ---

    def _made(self, now_s: float) -> Status:
        reasons = self._reasons()
        joins = self._joins()
        pending = self._config.pending
        return {
            "format": FORMAT,
            "app": self._config.app.id,
            "instance": self._config.instance,
            "uptime_seconds": round(now_s - self._started_s, 1),
            "ready": not reasons,
            "reasons": reasons,
            "warnings": self._warnings(),
            "problems": [],
            "partitions": {
                "owned": {str(number): self._partition(number) for number in sorted(joins)},
                "suspended": {str(number): why for number, why in sorted(self._ownership.suspended.items())},
            },
            "model": self._model(),
            "quality": self._quality(),
            "quality_windows": self._windows(now_s),
            "concept": self._concept(),
            **self._monitor.status(joins),
            "point": NO_POINT,
            "signals": self._signals(),
            "checkpoint": self._follower.checkpoints.written(),
            "pending": {
                "events": sum(len(join.store) for join in joins.values()),
                "labels": sum(len(join.waiting) for join in joins.values()),
                "bytes": sum(join.bytes for join in joins.values()),
                "shed": self._totals["events_shed"],
                "max_per_partition": {
                    "events": pending.events_max,
                    "labels": pending.early_labels_max,
                    "bytes": pending.bytes_max,
                },
            },
            "watch": self._shares.status(sum(len(join.waiting) for join in joins.values())),
            "since_start": dict(sorted(self._totals.items())),
            "per_second": self._rates(),
            "versions": self._versions,
        }

    def _joins(self) -> dict[int, Join]:
        return {number: partition.join for number, partition in self._ownership.owned.items()}

    def _windows(self, now_s: float) -> dict[str, QualityWindow]:
        """Quality of the two windows; made anew only now and then: it takes some milliseconds."""
        then_s, count, _ = self._windows_then
        quality, settings = self._follower.replica.quality, self._config.quality
        if quality.count != count and now_s - then_s >= WINDOWS_S:
            found = quality.windows(settings.window, settings.window_time)
            self._windows_then = (now_s, quality.count, cast("dict[str, QualityWindow]", found))
        return self._windows_then[2]

    def _concept(self) -> ConceptStatus:
        concept = self._follower.replica.concept
        return {
            "loss": round(concept.losses.mean(), 4),
            "drifted": concept.drifted is not None,
            "below_baseline": concept.below,
        }

    def _signals(self) -> list[dict[str, Any]]:
        """The newest of the fold's and of this worker's own; each part in its order."""
        fold = self._follower.replica.signals_after(-1)[-SIGNALS_SHOWN:]
        return [signal.plain() for signal in [*fold, *list(self._monitor.signals)[-SIGNALS_SHOWN:]]]

    def _reasons(self) -> list[str]:
        """Why this worker is not ready; none where it holds what the group gave it, be that nothing."""
        wrong = self._wrong_now()
        if wrong:
            return wrong
        if not self._group.settled or self._group.moved():
            if self.silent_s > LATE_S:
                return [self._silence()]
            return ["the group has given no partitions yet, or is moving them"]
        return [*self._taking_up(), *self._suspended()]

    def _taking_up(self) -> list[str]:
        wanted = len(self._ownership.wanted)
        if not wanted:
            return []
        what = f"{wanted} partition{'s are' if wanted > 1 else ' is'} being taken up"
        return [f"{what}; {len(self._ownership.owned)} served meanwhile"]

    def _suspended(self) -> list[str]:
        return [
            f"partition {number} is suspended: {why}; stream-ml offsets set mends it"
            for number, why in sorted(self._ownership.suspended.items())
        ]

    def _warnings(self) -> list[str]:
        replica, config = self._follower.replica, self._config
        found = [text for text in self.warnings.values() if text]
        recent = [text for at_s, text in self._dead_letters.values() if time.monotonic() - at_s < LINE_S]
        found += [f"{text} -> stream-ml dead-letters ls CONFIG" for text in recent]
        found += [*self._topics.verdict.warnings, *self._held()]
        if self._follower.checkpoints.problem:
            text = "a start folds from the last one that was, or the log's beginning"
            why = self._follower.checkpoints.problem
            found.append(f"checkpoints cannot be written, {text}: {why} -> stream-ml config show CONFIG")
        if replica.facts.frozen:
            found.append("learning is frozen -> stream-ml resume CONFIG")
        elif self._follower.lag_s > config.learning.lag_max / 1000:
            found.append(
                f"learning lags {self._follower.lag_s:.0f} s behind: predictions are flagged stale "
                "-> stream-ml top CONFIG"
            )
        far = replica.model.far
        if far.is_recent(replica.model.limits.seen):
            what = "left out" if config.learning.quarantine == "divert" else "learned"
            found.append(
                f"examples far from all others: {far.count}, {what}, the last at {far.last} of the training log "
                "-> stream-ml tail CONFIG signals"
            )
        found += [*self._follower.cost.words(), *self._follower.checkpoints.size.words()]
        if replica.model.learner.fallback_reason:
            found.append(f"the model learns right, but slower than it could: {replica.model.learner.fallback_reason}")
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

    def _partition(self, number: int) -> PartitionStatus:
        partition, config = self._ownership.owned[number], self._config
        return {
            "events": self._lag(self._group, config.events.topic, number, partition.events_position),
            "feedback": self._lag(self._feedback, config.feedback.topic, number, partition.feedback_position),
            "watermark_ms": partition.join.times.watermark_ms if partition.join.times.watermark_ms > 0 else None,
            "next_sequence": partition.next_sequence,
        }

    def _lag(self, of: Group | FeedbackInput, topic: str, number: int, position: int) -> Lag:
        """Records that are there and not committed, and how old the last one was.

        Transaction markers among them count, until the end itself is met: an idle topic that ends in one is no lag.
        Where an open transaction holds back what is behind it, `held_seconds` says so.
        """
        end = of.end(number)
        held = of.ends.held(number)
        behind = None if end is None else 0 if of.ends.reached(number) else max(0, end - position)
        latest_ms = self._latest_ms.get((topic, number))
        seconds = 0.0 if not behind or latest_ms is None else max(0.0, round(time.time() - latest_ms / 1000, 1))
        found: Lag = {"position": position, "end": end, "lag_records": behind, "lag_seconds": seconds}
        return found if held is None else {**found, "held_at": held[0], "held_seconds": round(held[2], 1)}

    def _model(self) -> ModelStatus:
        replica, halt = self._follower.replica, self._follower.replica.halt
        return {
            "lineage": replica.version.lineage,
            "position": replica.position,
            "examples_learned": replica.examples_learned,
            "examples_dropped": replica.passed_over.dropped,
            "examples_far": replica.model.far.count,
            "lag_seconds": round(self._follower.lag_s, 1),
            "cost": self._follower.cost.report(),
            "bytes": self._follower.checkpoints.size.bytes,
            "bytes_max": self._follower.checkpoints.size.most,
            "halted": None if halt is None else {"position": halt.position, "reason": halt.reason, "why": halt.message},
            "frozen": replica.facts.frozen,
            "checkpoints_sealed": self._follower.checkpoints.sealed,
            "cold_below": self._config.quality.cold_below,
        }

    def _quality(self) -> dict[str, float]:
        quality = self._follower.replica.quality
        if quality.count != self._quality_then[0]:
            self._quality_then = (quality.count, quality.report())
        return self._quality_then[1]

    def _rates(self) -> Rates:
        first, last = self._seen_lately[0], self._seen_lately[-1]
        seconds = max(last[0] - first[0], INTERVAL_S)
        return {
            "events": round((last[1] - first[1]) / seconds, 1),
            "labels": round((last[2] - first[2]) / seconds, 1),
        }

    # --- gauges ---

    def _gauges(self, status: Status) -> None:
        """All gauges: those that the status says, and what the broker's statistics say beside it."""
        metrics = self._metrics
        above = self._above if status["partitions"]["owned"] else set()
        set_gauges(metrics, status, above=above, learning_lag_s=self._follower.lag_s)
        metrics.set("checkpoint_failing", bool(self._follower.checkpoints.problem))
        brokers = self._ownership.brokers.last
        if brokers is not None and brokers is not self._brokers:  # those of before an outage say nothing after it
            self._brokers = brokers
            metrics.set("broker_round_trip_seconds", brokers.mean_s, of="mean")
            metrics.set("broker_round_trip_seconds", brokers.p99_s, of="p99")
            metrics.set("broker_throttle_seconds", brokers.throttle_s)
            metrics.set("brokers_up", brokers.up)
        elif self._told_down and self.silent_s <= SILENT_S:
            metrics.set("brokers_up", math.nan)  # until the client counts again
            self._told_down = False


def _held_words(where: str, what: str, seconds: float) -> str:
    return (
        f"{where}: {what} held by an open transaction for {seconds:.0f} s, of a producer that died or works slowly; "
        "find it and abort it -> kafka-transactions.sh find-hanging"
    )


@functools.cache
def _versions() -> dict[str, str]:
    """Looked up once: each reads a file."""
    return {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
