"""One transaction a turn, and what follows from its ending.

1. COMMITTED: the staged changes become real.
2. ABORTED: the inputs go back. Where Kafka refused a record the next batch is half as large, until the record is alone.
3. UNKNOWN: the committed token tells, partition by partition.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from stream_ml.app.parts import Parts
from stream_ml.core.partition.batch import Batch, Coordinates, Outputs
from stream_ml.errors import FatalError
from stream_ml.kafka.committed import offsets_of, read_committed
from stream_ml.kafka.writing.transaction import RECORD_REFUSED, Ending, Transactor
from stream_ml.observe.metrics import Metrics
from stream_ml.records import Block
from stream_ml.runtime.failpoints import passes
from stream_ml.worker.intake import Intake
from stream_ml.worker.partitions.assignment import Ownership

ABORTS_MAX = 50  # in a row, a growing pause between them: then the process gives up

log = logging.getLogger(__name__)


class Committed(NamedTuple):
    """What became of a transaction: which partitions' outputs stand, and whether the rest was aborted.

    Where the rest was not aborted, somebody else owns it.
    """

    outputs: dict[int, Outputs]
    rest_aborted: bool


class Committer:
    """Commits the outputs of a turn. `limit` records a turn are to be taken; those in `poison_records` are refused."""

    def __init__(
        self,
        parts: Parts,
        transactor: Transactor,
        ownership: Ownership,
        intake: Intake,
        metrics: Metrics,
        alive: Callable[[], None],
    ) -> None:
        self._config, self._transactor, self._metrics, self._alive = parts.config, transactor, metrics, alive
        self._ownership, self._intake = ownership, intake
        self.limit = self._config.delivery.batch_max_records
        self.poison_records: set[Coordinates] = set()
        self._aborts = 0

    def commit(
        self,
        batches: dict[int, Batch],
        outputs: dict[int, Outputs],
        signals: Block,
        group: Any,
        meanwhile: Callable[[], float] | None,
    ) -> dict[int, Outputs]:
        """Commit the outputs; those that stand are taken over, the inputs of the others go back.

        Parameters
        ----------
        batches
            What the outputs were made of.
        signals
            Written along.
        group
            The metadata of this member.
        meanwhile
            Done while Kafka takes the records; gives the seconds that it took.

        Raises
        ------
        FatalError
            ABORTS_MAX transactions in a row were aborted.
        """
        blocks = [block for output in outputs.values() for block in output.blocks]
        offsets = [
            tp
            for number, output in outputs.items()
            for tp in offsets_of(
                self._config, number, output.events_position, output.feedback_position, output.metadata
            )
        ]
        began_s, other_s = time.monotonic(), list[float]()
        other = None if meanwhile is None else lambda: other_s.append(meanwhile())
        ending = self._transactor.run([*blocks, signals], offsets, group, other)
        self._intake.ended()
        self._alive()
        if ending is Ending.COMMITTED:
            took_s = time.monotonic() - began_s - sum(other_s)
            self._metrics.observe("stage_seconds", max(0.0, took_s), stage="commit")
        self._metrics.count("transactions", ending=ending.value)
        found = self._standing(ending, outputs)
        for number, output in found.outputs.items():
            self._ownership.owned[number].committed(batches[number], output, time.monotonic())
            if self.poison_records:
                self.poison_records.difference_update(batches[number].coordinates())
            passes("between-applies")
        self._go_back(batches, outputs, found)
        return found.outputs

    def _standing(self, ending: Ending, outputs: dict[int, Outputs]) -> Committed:
        if ending is Ending.COMMITTED:
            passes("after-commit")
            return Committed(outputs, rest_aborted=True)
        if ending is Ending.ABORTED:
            return Committed({}, rest_aborted=True)
        return self._resolve(outputs)

    def _resolve(self, outputs: dict[int, Outputs]) -> Committed:
        """After UNKNOWN: a new producer has ended the transaction; what stands committed says how."""
        self._transactor.open()
        standing: dict[int, Outputs] = {}
        for state in read_committed(self._config, list(outputs), stable=True):
            output = outputs[state.partition]
            if state.metadata is not None and state.metadata.token == output.metadata.token:
                standing[state.partition] = output
            elif state.metadata is None or state.metadata.writer != self._config.transactional_id:
                log.warning("partition %d has another owner", state.partition)
                self._ownership.forget(state.partition)
                self._intake.stop([state.partition])
        log.warning("commit of unknown outcome: partitions %s were committed", sorted(standing))
        return Committed(standing, rest_aborted=len(standing) == len(outputs))

    def _go_back(self, batches: dict[int, Batch], outputs: dict[int, Outputs], found: Committed) -> None:
        """What was not committed comes again, unless it is somebody else's."""
        back = [number for number in outputs if number not in found.outputs and number in self._ownership.owned]
        if back:
            self._intake.go_back(back)
            self.count_abort()
            self._bisect(batches)
        elif found.outputs:
            self._aborts = 0
            self.limit = min(self._config.delivery.batch_max_records, self.limit * 2)
        if not found.rest_aborted and not back:
            log.warning("partitions %s went to another owner", sorted(set(outputs) - set(found.outputs)))

    def count_abort(self) -> None:
        """A transaction was aborted: pause, and give up where it is one too many in a row."""
        self._aborts += 1
        if self._aborts > ABORTS_MAX:
            raise FatalError(f"{ABORTS_MAX} transactions in a row were aborted; the log lines above say why")
        time.sleep(min(1.0, 0.01 * 2 ** min(self._aborts, 7)))  # what refused it may need a moment

    def _bisect(self, batches: dict[int, Batch]) -> None:
        """Bisect a batch of which Kafka refused a record; alone in its batch, the record is a poison record."""
        if not any(error.code() in RECORD_REFUSED for error in self._transactor.refused):
            return
        inputs = [where for batch in batches.values() for where in batch.coordinates()]
        if len(inputs) == 1:
            self.poison_records.add(inputs[0])
            where = inputs[0]
            log.warning(
                "%s [%d] %d: what it would become is refused by Kafka; it becomes a dead letter",
                *where,
                extra=dict(zip(("topic", "partition", "offset"), where, strict=True)),
            )
        self.limit = max(1, min(self.limit, len(inputs)) // 2)
