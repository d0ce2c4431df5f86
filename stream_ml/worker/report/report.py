"""What a worker says of itself: gauges and one status, made anew every second; other threads read the last one.

The loop alone writes. A status is a plain dict that is replaced as a whole and never changed, so reading needs no lock.
"""

import logging
import math
import time
from typing import Any

from stream_ml.app.parts import Parts
from stream_ml.config import Config
from stream_ml.core.log.logged_schemas import WrittenSchema
from stream_ml.core.partition.batch import Batch, Outputs
from stream_ml.follower.follower import Follower
from stream_ml.follower.said import folded_words
from stream_ml.kafka.access.certificates import client_certificates
from stream_ml.kafka.broker_statistics import BrokerStatistics
from stream_ml.kafka.consumers import FeedbackInput, Group
from stream_ml.kafka.topic_watch import TopicWatch
from stream_ml.observe.gauges import set_gauges
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.problems import backlog_words, problems, starting
from stream_ml.observe.status import AnyStatus, FirstBacklog, Point, Starting, Status
from stream_ml.observe.terminal import line
from stream_ml.worker.partitions.assignment import Ownership
from stream_ml.worker.report.health import Health
from stream_ml.worker.report.monitor import Monitor
from stream_ml.worker.report.status import StatusMaker
from stream_ml.worker.report.totals import INTERVAL_S, LINE_S, Totals
from stream_ml.worker.state import WorkerState

ALIVE_S = 60.0  # a turn takes milliseconds, a rebuild polls; after so long without either the loop hangs
HISTORY = 900  # points, one a second, for charts

log = logging.getLogger(__name__)


class Report:
    """Status and gauges of one worker.

    So many attributes: what it asks, and what it has said last, so that nothing is said twice.
    """

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
        self._parts, self._metrics, self._follower = parts, metrics, follower
        self.health, self._totals = Health(parts.config, topics), Totals(parts.config, metrics)
        self._maker = StatusMaker(parts, follower, ownership, inputs, topics, monitor, self.health, self._totals)
        self._brokers = BrokerGauges(metrics, ownership.brokers)
        self._due_s, self._line_s = 0.0, time.monotonic()
        self.history: list[Point] = []
        metrics.set("start_timestamp_seconds", time.time())
        set_expiries(parts.config, metrics)
        metrics.set("checkpoint_timestamp_seconds", time.time())  # until there is one: how old it can be at most
        self._in_backlog = False
        self._judged: tuple[Status, list[str], Status] | None = None
        self._status: AnyStatus = self._not_yet(["starting: reading the training log"])

    # --- read by other threads ---

    @property
    def status(self) -> AnyStatus:
        """What the loop has said last; where that is no longer true, judged anew by whoever asks.

        The loop may stand in a call of a client's for half a minute, while Kafka is away or a topic is gone.
        """
        status, reasons = self._status, self.health.wrong()
        if "model" not in status:
            return self._starting(status)
        if not reasons:
            return status
        judged = self._judged
        if judged is None or judged[0] is not status or judged[1] != reasons:
            now: Status = {**status, "ready": False, "reasons": reasons}
            if self.health.stopping:
                now["state"] = WorkerState.STOPPING.value
            if self.health.is_silent:
                now["per_second"] = {"events": 0.0, "labels": 0.0}
                self._brokers.none_answers()
            now["problems"] = problems(now)
            self._metrics.set("ready", False)
            self._judged = judged = (status, reasons, now)
        return judged[2]

    def _starting(self, status: Starting) -> Starting:
        """How far the fold is that comes before everything else."""
        folding = self._follower.folding
        if folding is None:
            return status
        return {**self._not_yet([f"starting: {folded_words(folding)}"]), "folding": folding}

    def _not_yet(self, reasons: list[str]) -> Starting:
        return starting(self._parts.config.app.id, self._parts.config.instance, reasons)

    @property
    def schemas(self) -> list[WrittenSchema]:
        """The schemas that records of the app have, as far as the log was read."""
        return self._parts.written_schemas(self._follower.book.facts.logged_schemas)

    @property
    def loop_silent_s(self) -> float:
        """How long the loop has given no sign of life."""
        return self.health.loop_silent_s

    # --- called by the loop ---

    def warn(self, name: str, text: str) -> None:
        """What is wrong from now on, under a name; empty where nothing is any more."""
        self._maker.warnings[name] = text

    def committed(self, batch: Batch, outputs: Outputs) -> None:
        """Count a batch that was committed."""
        self._totals.committed(batch, outputs)

    def renew(self, *, at_once: bool = False) -> None:
        """Make status and gauges anew, where they are older than INTERVAL_S, or at once."""
        now_s = time.monotonic()
        self.health.alive()
        if now_s < self._due_s and not at_once:
            return
        self._due_s = now_s + INTERVAL_S
        self._totals.sample(now_s)
        status = self._maker.make(now_s)
        self._status = status
        self.history = [*self.history[1 - HISTORY :], status["point"]]
        self._set_gauges(status)
        self._say_backlog(status["first_backlog"])
        if now_s - self._line_s >= LINE_S:
            self._line_s = now_s
            log.info("%s", line(status))

    def _say_backlog(self, backlog: FirstBacklog) -> None:
        """Say when a first backlog begins, and when it is over."""
        if bool(backlog["left"]) is self._in_backlog:
            return
        self._in_backlog = not self._in_backlog
        if self._in_backlog:
            log.info("%s", backlog_words(backlog))
        else:
            log.info("the first backlog is read: from here on drift, quality and missing labels are told")

    def _set_gauges(self, status: Status) -> None:
        """All gauges: those that the status says, and what the broker's statistics say beside it."""
        above = self._totals.above if status["partitions"]["owned"] else set()
        set_gauges(self._metrics, status, above=above, learning_lag_s=self._follower.lag_s)
        self._metrics.set("checkpoint_failing", bool(self._follower.checkpoints.problem))
        self._metrics.set("checkpoint_away", bool(self._follower.checkpoints.away))
        self._brokers.set(silent=self.health.is_silent)


def set_expiries(config: Config, metrics: Metrics) -> None:
    """Set when the certificates that Kafka's clients are given expire."""
    for one in client_certificates(config):
        of = "client" if one.setting == "ssl.certificate.location" else "authorities"
        metrics.set("certificate_expires_timestamp_seconds", one.expires_s, of=of)


class BrokerGauges:
    """Gauges of what the client counts of its brokers. Before its first statistics they are unknown, not none."""

    def __init__(self, metrics: Metrics, statistics: BrokerStatistics) -> None:
        self._metrics, self._statistics = metrics, statistics
        self._last: Any = None  # the statistics that the gauges were set from
        self._none_answered = False
        metrics.set("brokers_up", math.nan)

    def none_answers(self) -> None:
        """No broker answers; found by whoever asked for the status, in any thread."""
        self._metrics.set("brokers_up", 0)
        self._none_answered = True

    def set(self, *, silent: bool) -> None:
        """Set them from the newest statistics: those of before an outage say nothing after it."""
        now = self._statistics.last
        if now is not None and now is not self._last:
            self._last = now
            self._metrics.set("broker_round_trip_seconds", now.mean_s, of="mean")
            self._metrics.set("broker_round_trip_seconds", now.p99_s, of="p99")
            self._metrics.set("broker_throttle_seconds", now.throttle_s)
            self._metrics.set("brokers_up", now.up)
        elif self._none_answered and not silent:
            self._metrics.set("brokers_up", math.nan)  # until the client counts again
            self._none_answered = False
