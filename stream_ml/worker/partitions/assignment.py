"""Takes partitions up and lets them go: fence, claim, check the sequence, rebuild what a crash lost.

For partition p, in this order:

1. committed() of both topics; where a dead writer's transaction holds them, that writer is fenced.
2. A first transaction holds only both offsets, with this worker's id in the metadata: whoever has to fence us next
   reads our id there, not our predecessor's. On a first start it holds also a log entry of kind start; and where the
   log has not the schema of our predictions yet, that, so that readers have it before they meet the first of them;
   and the declaration of our model, where the log does not know it.
3. Fold past the log's end. The next sequence must follow the highest that the fold has seen.
4. Rebuild the join from what was committed between the floors and the offsets.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from confluent_kafka.admin import AdminClient

from stream_ml.app.parts import Parts
from stream_ml.core.avro.record import LaterFormat
from stream_ml.core.join.join import Join
from stream_ml.core.partition.commit_metadata import OutputEnds
from stream_ml.core.partition.partition import Partition
from stream_ml.follower.follower import Follower
from stream_ml.kafka.broker_statistics import BrokerStatistics
from stream_ml.kafka.clients import TIMEOUT_S
from stream_ml.kafka.committed import CommittedState, offsets_of, read_committed, read_committed_stable
from stream_ml.kafka.messages import by_partition
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.ranges import RangeReader, Where
from stream_ml.kafka.topics import TopicFacts
from stream_ml.kafka.writing.transaction import Ending, Transactor
from stream_ml.records import Records
from stream_ml.runtime.failpoints import passes
from stream_ml.storage.keys import answer_seal
from stream_ml.worker.partitions.claim_entries import ClaimEntries
from stream_ml.worker.partitions.offsets import LOST_HINT, lost_offsets, recreated_inputs, way_on
from stream_ml.worker.partitions.owned import OwnedPartition
from stream_ml.worker.partitions.restore import Claimed, Rebuild, merged, take_log

log = logging.getLogger(__name__)

TOGETHER = 8  # partitions that are rebuilt at once
LATER_HINT = (
    "a later version of stream_ml has worked on this partition: start that one again. Where you know that none has: "
    "stream-ml offsets set CONFIG --partition {} --events N --feedback N --forget-waiting"
)
TOGETHER_MAX = 20_000  # records that are read at once; of more, first those that say what need not be held


class First(NamedTuple):
    """First offset and end of both inputs of a partition, and the ends of its outputs."""

    events: tuple[int, int]
    feedback: tuple[int, int]
    now: OutputEnds


class Ownership:
    """The partitions that this worker owns, and those that it suspended.

    So many attributes: a claim asks Kafka, the fold and the configuration, and what it finds is kept here.
    """

    def __init__(
        self, parts: Parts, facts: TopicFacts, client: AdminClient, follower: Follower, transactor: Transactor
    ) -> None:
        self._parts, self._config, self._client = parts, parts.config, client
        self._follower, self._transactor = follower, transactor
        answers = answer_seal(parts.config, parts.domain)
        self._settings = parts.partition_settings(facts.record_bytes_max, facts.inputs_id(parts.config), answers)
        self._entries = ClaimEntries(parts, follower, facts.record_bytes_max)
        self.partitions = facts.partitions
        self.wanted: list[int] = []  # given by the group, and neither owned nor suspended yet
        self.owned: dict[int, OwnedPartition] = {}
        self.suspended: dict[int, str] = {}
        self._kept: dict[int, OwnedPartition] = {}
        self._ranges = RangeReader(parts.config, follower.keep_alive)

    @property
    def brokers(self) -> BrokerStatistics:
        """What the client counts of its brokers."""
        return self._transactor.brokers

    def serve(self) -> None:
        """Now and then, between two rebuilds."""
        self._ranges.serve()

    def close(self) -> None:
        """Let go of the reader of ranges."""
        self._ranges.close()

    def release(self, numbers: Iterable[int], *, keep: bool) -> None:
        """Own these no longer; kept, what was held stays in memory in case one comes back untouched."""
        for number in numbers:
            owned = self.owned.pop(number, None)
            self.suspended.pop(number, None)
            if keep and owned is not None:
                self._kept[number] = owned

    def forget(self, number: int) -> None:
        """Own this partition no longer: somebody else commits it."""
        self.owned.pop(number, None)

    def take_up(self, group: Callable[[], object]) -> Iterator[bool]:
        """Own the wanted partitions, as far as they are fit, a step at a time; `owned` and `suspended` say which.

        Between two steps the partitions that are owned may be served; after one that gives false they must be, for
        what is learned in their turns is waited for. Where other partitions are wanted than before, begin anew.

        Parameters
        ----------
        group
            Gives the metadata of this member, as it is now.

        Raises
        ------
        ClaimFailed
            The group has moved, or the transaction failed; begin anew.
        """
        numbers = list(self.wanted)
        claims: dict[int, Claimed] = {}
        for number in numbers:
            self.suspended.pop(number, None)
        for number in (number for number in numbers if number >= self.partitions):
            self._suspend(number, f"not every topic has a partition {number}; type stream-ml topics grow CONFIG")
        pairs = read_committed_stable(self._config, [number for number in numbers if number < self.partitions])
        firsts = self._firsts([pair.partition for pair in pairs if pair.absent])
        for pair in pairs:
            number = pair.partition
            kept = self._kept.get(number)
            if recreated_inputs(self._config, pair, self._settings.inputs_id):
                kept = None
            if kept is not None and pair.metadata is not None and pair.metadata.token == kept.token:
                self._own(kept)
            else:
                claimed = self._examined(pair, firsts)
                if claimed is not None:
                    claims[number] = claimed
        self._kept = {}
        if not claims:
            return
        yield True
        token = self._claim(claims, group())
        self._follower.checkpoints.give_up()
        yield from self._folded()
        sound = [claimed for claimed in claims.values() if self._sequence_is_right(claimed.partition, token)]
        for first in range(0, len(sound), TOGETHER):
            yield True
            yield from self._rebuild(sound[first : first + TOGETHER], token)

    def _own(self, partition: OwnedPartition) -> None:
        """Own it from now on; never claim it again, for it is served while others are taken up."""
        self.owned[partition.number] = partition
        self.wanted.remove(partition.number)

    def _suspend(self, number: int, problem: str) -> None:
        self.suspended[number] = problem
        self.wanted.remove(number)
        log.error("partition %d suspended: %s", number, problem, extra={"partition": number})

    # --- 1: what is committed ---

    def _firsts(self, numbers: list[int]) -> dict[int, First]:
        """Where partitions of which nothing is committed may begin; asked for all at once."""
        if not numbers:
            return {}
        events, feedback = self._config.events.topic, self._config.feedback.topic
        found = ends(self._client, [(topic, number) for topic in (events, feedback) for number in numbers])
        now = self.output_ends(numbers)
        return {number: First(found[events, number], found[feedback, number], now[number]) for number in numbers}

    def _examined(self, pair: CommittedState, firsts: dict[int, First]) -> Claimed | None:
        number = pair.partition
        problem = recreated_inputs(self._config, pair, self._settings.inputs_id)
        problem = problem or lost_offsets(pair, started=number in self._follower.book.facts.started)
        if problem:
            self._suspend(number, f"{problem}; stop the workers, then: {way_on(pair)}")
            return None
        if pair.absent:
            return self._first_start(number, firsts[number])
        assert pair.metadata is not None and pair.events is not None and pair.feedback is not None  # noqa: S101
        metadata = pair.metadata
        floors = (metadata.events_floor, metadata.feedback_floor)
        join = Join(self._parts.join_settings(), metadata.times, metadata.inputs_ms)
        partition = Partition(
            self._settings,
            number,
            join,
            (pair.events, pair.feedback),
            metadata.next_sequence,
            metadata.ends,
            floors,
        )
        partition.signalled = metadata.signalled
        started = number in self._follower.book.facts.started  # not where its offsets were set by hand before
        blocks = []
        if not started:
            backlog_end = self._firsts([number])[number].events[1]
            blocks.append(self._entries.start(number, pair.events, pair.feedback, self.partitions, backlog_end))
        return Claimed(partition, floors, metadata.ends, blocks)

    def _first_start(self, number: int, first: First) -> Claimed:
        end = 1 if self._config.start == "latest" and not self._came_later(number) else 0
        events, feedback, now = first.events[end], first.feedback[end], first.now
        join = Join(self._parts.join_settings())
        partition = Partition(self._settings, number, join, (events, feedback), 0, now, (events, feedback))
        backlog_end = first.events[1]
        log.info(
            "partition %d starts for the first time: events %d, feedback %d, %d events lie there",
            *(number, events, feedback, backlog_end - events),
            extra={"partition": number, "events": events, "feedback": feedback},
        )
        start = self._entries.start(number, events, feedback, self.partitions, backlog_end)
        return Claimed(partition, (events, feedback), now, [start])

    def _came_later(self, number: int) -> bool:
        """Whether the app was started before there was this partition: then nothing in it is passed over."""
        started = self._follower.book.facts.started.values()
        counts = [found["partitions"] for found in started if isinstance(found.get("partitions"), int)]
        return bool(counts) and number >= min(counts)

    # --- 2: the claim ---

    def _claim(self, claims: dict[int, Claimed], group: object) -> str:
        """Commit the partitions as this worker's; gives the token of that transaction."""
        token = new_token(self._config.transactional_id)
        offsets, blocks = [], []
        for number, claimed in claims.items():
            partition = claimed.partition
            metadata = partition.claim_metadata(claimed.floors, token)
            offsets += offsets_of(
                self._config, number, partition.events_position, partition.feedback_position, metadata
            )
            blocks += claimed.blocks
        blocks += self._entries.schema()
        blocks += self._entries.models(first=0 in claims)
        ending = self._transactor.run(blocks, offsets, group)
        if ending is Ending.UNKNOWN:
            self._transactor.open()
            pairs = read_committed(self._config, list(claims), stable=True)
            ours = all(pair.metadata is not None and pair.metadata.token == token for pair in pairs)
            ending = Ending.COMMITTED if ours else Ending.ABORTED
        if ending is not Ending.COMMITTED:
            raise ClaimFailed
        passes("after-claim")
        return token

    # --- 3: the invariant ---

    def _folded(self) -> Iterator[bool]:
        """Until the fold is past what the log holds now: at once where nothing waits, else by the turns in between."""
        where = (self._config.training_log_topic, 0)
        end = ends(self._client, [where])[where][1]
        while not self._follower.is_past(end):
            if not self.owned:  # by now: what was owned may have gone meanwhile
                self._follower.fold_past_end(end)
                return
            yield False

    def _sequence_is_right(self, partition: Partition, token: str) -> bool:
        seen = self._follower.book.seen.next_sequence(partition.number)
        if seen == partition.next_sequence:
            return True
        now = read_committed_stable(self._config, [partition.number])[0].metadata
        if now is None or now.token != token:
            raise ClaimFailed  # while this process stood still somebody else went on: the log is later than the claim
        problem = (
            f"its offsets say that example {partition.next_sequence} is next, the training log says {seen}: "
            "a transaction was lost or came twice"
        )
        self._suspend(partition.number, f"{problem}; type {LOST_HINT.format(partition.number)}")
        return False

    # --- 4: what a crash lost ---

    def _rebuild(self, claims: list[Claimed], token: str) -> Iterator[bool]:
        """Fill the joins of these partitions and own them; everything that they need is read at once."""
        started = time.monotonic()
        now = self.output_ends([claimed.partition.number for claimed in claims])
        limit, seal = self._settings.record_bytes_max, self._follower.seal
        rebuilds = {
            claimed.partition.number: Rebuild(self._parts, claimed, now[claimed.partition.number], limit)
            for claimed in claims
        }
        passes("in-rebuild")
        for ranges in self._in_order(self._still_there(merged(rebuilds.values()))):
            for batch in self._ranges.messages(ranges):
                for records in by_partition(batch):
                    if records.topic == self._config.training_log_topic:
                        take_log(rebuilds, records, seal)
                    elif records.partition in rebuilds:
                        self._take(rebuilds, records)
                yield True
        while rebuilds:  # each lets go of what it has read before the next one is filled
            number, rebuild = rebuilds.popitem()
            rebuild.finish()
            partition = rebuild.claimed.partition
            partition.restore_points.add(partition.events_position, partition.feedback_position, now[number])
            _log_taken_up(partition, time.monotonic() - started)
            backlog_end = self._follower.book.facts.backlog_ends.get(number, 0)
            self._own(OwnedPartition(partition, token, backlog_end))
            yield True

    def _take(self, rebuilds: dict[int, Rebuild], records: Records) -> None:
        """Take records of a partition; what a later version wrote is not taken for nothing: that would lose it."""
        try:
            rebuilds[records.partition].take(records)
        except LaterFormat as later:
            number = records.partition
            del rebuilds[number]
            at = f"{records.topic} [{number}] {records.offsets[later.row]}"
            self._suspend(number, f"{at} is {later}: {LATER_HINT.format(number)}")

    def _in_order(self, ranges: dict[Where, tuple[int, int]]) -> list[dict[Where, tuple[int, int]]]:
        """What says which labels have ended first, where there is much: then those need not be held."""
        config = self._config
        held = (config.events.topic, config.feedback.topic, config.predictions.topic)
        if sum(stop - start for start, stop in ranges.values()) < TOGETHER_MAX:
            return [ranges]
        first = {where: found for where, found in ranges.items() if where[0] not in held}
        return [first, {where: found for where, found in ranges.items() if where[0] in held}]

    def _still_there(self, ranges: dict[Where, tuple[int, int]]) -> dict[Where, tuple[int, int]]:
        """The ranges without what was deleted since."""
        if not ranges:
            return {}
        first = {where: found[0] for where, found in ends(self._client, list(ranges)).items()}
        return {where: (max(start, first[where]), stop) for where, (start, stop) in ranges.items()}

    def output_ends(self, numbers: list[int], patience_s: float = TIMEOUT_S) -> dict[int, OutputEnds]:
        """Ends of what each partition writes to, as they are now; taken between two transactions."""
        config = self._config
        topics = (config.predictions.topic, config.outcomes, config.dead_letters)
        log_topic = (config.training_log_topic, 0)
        wanted = [*[(topic, number) for topic in topics for number in numbers], log_topic]
        found = ends(self._client, wanted, patience_s)
        return {
            number: OutputEnds(*[found[where][1] for where in [*((topic, number) for topic in topics), log_topic]])
            for number in numbers
        }


class ClaimFailed(Exception):
    """The group moved or the transaction failed while partitions were being taken up; done anew."""


def _log_taken_up(partition: Partition, seconds: float) -> None:
    where = (partition.number, partition.events_position, partition.feedback_position)
    log.info(
        "partition %d taken up at events %d, feedback %d: %d events and %d labels held, rebuilt in %.1f s",
        *where,
        *(len(partition.join.store), len(partition.join.waiting), seconds),
        extra=dict(zip(("partition", "events", "feedback"), where, strict=True)),
    )


def new_token(transactional_id: str) -> str:
    """A name for a transaction that no other transaction has."""
    return f"{transactional_id[:60]}-{secrets.token_hex(8)}"
