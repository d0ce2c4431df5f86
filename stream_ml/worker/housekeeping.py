"""What a worker does now and then, beside the path of records."""

import contextlib
import logging
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream_ml.app.parts import Parts
from stream_ml.kafka.consumers import Group, unowned
from stream_ml.kafka.errors import error_of, outage
from stream_ml.observe.metrics import Metrics
from stream_ml.worker.intake import Intake
from stream_ml.worker.partitions.assignment import Ownership
from stream_ml.worker.report.report import Report

INTERVAL_S = 10.0
SAMPLE_RECORDS = 50_000  # taken since the last sample: in a backlog a rebuild would begin far back after INTERVAL_S
FREE_S = 20.0  # until it is looked again whether a partition that was nobody's still is: its last owner may be slow
ENDS_WAIT_S = 0.5  # for the ends of the outputs

log = logging.getLogger(__name__)


class Housekeeping:
    """Of one worker; `run` is cheap until it is time."""

    def __init__(
        self,
        parts: Parts,
        client: AdminClient,
        group: Group,
        ownership: Ownership,
        intake: Intake,
        report: Report,
        metrics: Metrics,
    ) -> None:
        self._config, self._client, self._metrics = parts.config, client, metrics
        self._group, self._ownership, self._intake, self._report = group, ownership, intake, report
        self._unowned: set[int] = set()
        self._disagreement = ""
        self._done_s = 0.0
        self._asked_in_vain = False

    def run(self) -> None:
        """Look after restore points, partitions without an owner, and how producers place their keys."""
        now_s = time.monotonic()
        if now_s - self._done_s < (FREE_S if self._unowned else INTERVAL_S):
            if self._is_far() and not self._asked_in_vain:
                self._sample_ends()
            return
        self._done_s = now_s
        self._ownership.serve()
        self._look_for_owners()
        self._sample_ends()
        self._compare_partitioners()

    def group_moved(self) -> None:
        """Partitions have owners anew: what was nobody's is looked at from the beginning."""
        self._unowned = set()

    def _is_far(self) -> bool:
        """Whether a partition has taken many records since its newest restore point."""
        cores = (owned.core for owned in self._ownership.owned.values())
        return any(
            core.restore_points.since(core.events_position, core.feedback_position) > SAMPLE_RECORDS for core in cores
        )

    def _sample_ends(self) -> None:
        """Remember where the outputs end: a rebuild begins at such a point."""
        owned = self._ownership.owned
        if owned:
            try:
                self._asked_in_vain = True
                samples = self._ownership.output_ends(list(owned), ENDS_WAIT_S)
                self._asked_in_vain = False
            except KafkaException as exception:  # a later sample does as well: a rebuild would begin a little earlier
                log.warning("ends of the outputs cannot be read now: %s", error_of(exception).str())
                return
            log_answers_again()
            for number, sample in samples.items():
                core = owned[number].core
                core.restore_points.add(core.events_position, core.feedback_position, sample)
        elif outage.seconds is not None:
            with contextlib.suppress(KafkaException):
                self._client.list_topics(self._config.events.topic, timeout=1)
                log_answers_again()

    def _look_for_owners(self) -> None:
        """Partitions that came while the group stood still are given out; nobody else would notice."""
        config = self._config
        if not self._group.settled or outage.seconds is not None:
            return
        found = unowned(
            self._client, config.app.id, config.events.topic, self._ownership.partitions, self._group.member_id
        )
        free = sorted(self._unowned.intersection(found))  # one on its way between two members is nobody's for a moment
        self._unowned = set(found)
        words = f"partitions {free} of {config.events.topic} are nobody's: the group is asked anew" if free else ""
        if free:
            log.warning("%s", words)
            self._group.join()
        self._report.warn("unowned", words)

    def _compare_partitioners(self) -> None:
        words = self._intake.keys_disagree()
        self._metrics.set("partitioners_differ", bool(words))
        if words and words != self._disagreement:
            log.warning("%s", words)
        self._disagreement = words
        self._report.warn("partitioners", words)


def log_answers_again() -> None:
    """A line where an outage of Kafka is over."""
    seconds = outage.over()
    if seconds is not None:
        log.info("Kafka answers again, after %.0f s", seconds)
