"""Whether a schedule ended well: read from the committed logs alone, with no rule of the service's own code.

Only its decoders are used, and its fold, to say what a replica should have been at each position.
"""

from collections import defaultdict
from typing import Any, NamedTuple

from stream_ml.audit.audit import audit
from stream_ml.core.fold.replica import Replica as Fold
from stream_ml.core.log.entry import decode_entry
from stream_ml.core.partition.commit_metadata import Metadata, parse_feedback_mark, parse_metadata
from stream_ml.core.partition.outputs import dead_letter_origin, decode_outcome
from stream_ml.records import LogRecord, Record
from tests.system.simulation.app import (
    DEAD_LETTERS,
    EARLY_TTL_MS,
    EVENTS,
    FACTS,
    FEEDBACK,
    OUTCOMES,
    PARTITIONS,
    PREDICTIONS,
    TTL_MS,
    base,
    lineage,
    parts_of,
    simulated,
)
from tests.system.simulation.world import Schedule

Input = tuple[str, int, int]


class Output(NamedTuple):
    """What an input became. `entry` of an example, `score` and `version` of a prediction."""

    kind: str
    origin: Input
    where: tuple[str, int, int]
    score: float | None = None
    version: int = -1


class Judge:
    """Findings of one schedule, in words; none where all is well."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._cluster = schedule.cluster
        self.findings: list[str] = []
        self._log = [(offset, decode_entry(entry.value or b""), entry.value or b"") for offset, entry in schedule.log()]
        self._outputs: dict[Input, list[Output]] = defaultdict(list)
        self._examples = [(offset, entry) for offset, entry, _ in self._log if entry.kind == "example"]

    def run(self) -> list[str]:
        """Look at everything."""
        self._gather()
        self._every_input_ends_once()
        self._sequences()
        self._pairs()
        self._replicas()
        return self.findings

    def _found(self, text: str) -> None:
        self.findings.append(text)

    # --- what stands in the topics ---

    def _gather(self) -> None:
        predictions = base().predictions
        for number in range(PARTITIONS):
            for offset, entry in self._cluster.logs[PREDICTIONS, number].committed():
                said = predictions.decode(entry.value or b"")
                origin = (said.topic, said.partition, said.offset)
                self._add(
                    Output("prediction", origin, (PREDICTIONS, number, offset), said.served.score, said.served.position)
                )
            for offset, entry in self._cluster.logs[OUTCOMES, number].committed():
                outcome = decode_outcome(entry.value or b"")
                origin = (FEEDBACK, number, outcome["feedback_offset"])
                self._add(Output(f"outcome {outcome['outcome']}", origin, (OUTCOMES, number, offset)))
            for offset, entry in self._cluster.logs[DEAD_LETTERS, number].committed():
                dead_letter = Record(DEAD_LETTERS, number, offset, 0, entry.key, entry.value, entry.headers)
                found = dead_letter_origin(dead_letter)
                assert found is not None
                self._add(Output("dead letter", found, (DEAD_LETTERS, number, offset)))
        for offset, example in self._examples:
            origin = (FEEDBACK, example.source_partition, example.feedback_offset)
            self._add(Output("example", origin, ("log", 0, offset)))

    def _add(self, output: Output) -> None:
        self._outputs[output.origin].append(output)
        if output.origin not in self._schedule.given:
            self._found(f"{output.kind} at {output.where} names {output.origin}, which nobody produced")

    def _metadata(self, number: int) -> Metadata | None:
        stored = [self._cluster.group.committed.get((topic, number)) for topic in (EVENTS, FEEDBACK)]
        state = parse_metadata(stored[0].metadata if stored[0] else None)
        mark = parse_feedback_mark(stored[1].metadata if stored[1] else None)
        if state is None or mark is None or state.token != mark.token:
            self._found(f"partition {number}: the pair's offsets are not of one transaction: {stored}")
            return None
        return state

    # --- the rules ---

    def _every_input_ends_once(self) -> None:
        state = {number: self._metadata(number) for number in range(PARTITIONS)}
        for where in self._schedule.given:
            ends = self._outputs.get(where, [])
            now = state[where[1]]
            waits = where[0] == FEEDBACK and now is not None and where[2] >= now.feedback_floor
            if len(ends) > 1:
                self._found(f"{where} ends {len(ends)} times: {ends}")
            elif not ends and not waits:
                self._found(f"{where} has no end")
            wrong = {"example"} if where[0] == EVENTS else {"prediction"}
            if any(end.kind in wrong for end in ends):
                self._found(f"{where} ends as {ends}")

    def _sequences(self) -> None:
        following: dict[int, int] = defaultdict(int)
        triggers: dict[tuple[int, int], int] = {}
        for offset, example in self._examples:
            number = example.source_partition
            if example.sequence != following[number]:
                self._found(
                    f"log {offset}: partition {number} has {example.sequence} where {following[number]} is next"
                )
            following[number] = example.sequence + 1
            of = (number, example.trigger)
            if example.trigger_offset <= triggers.get(of, -1):
                self._found(f"log {offset}: trigger {of} {example.trigger_offset} after {triggers[of]}")
            triggers[of] = example.trigger_offset
        for number in range(PARTITIONS):
            now = self._metadata(number)
            if now is not None and now.next_sequence != following[number]:
                self._found(
                    f"partition {number}: {now.next_sequence} is next by its offsets, {following[number]} by the log"
                )

    def _pairs(self) -> None:
        given = self._schedule.given
        joined: set[Input] = set()
        ids: set[tuple[int, str]] = set()
        for offset, example in self._examples:
            number = example.source_partition
            event = given.get((EVENTS, number, example.event_offset))
            label = given.get((FEEDBACK, number, example.feedback_offset))
            if event is None or label is None or not event.event_id == label.event_id == example.event_id:
                self._found(f"log {offset}: {event} and {label} are no pair")
                continue
            if not event.time_ms - EARLY_TTL_MS <= label.time_ms <= event.time_ms + TTL_MS:
                self._found(f"log {offset}: the label's time does not fit")
            if (EVENTS, number, example.event_offset) in joined:
                self._found(f"log {offset}: event {example.event_offset} of partition {number} is learned twice")
            if (number, example.event_id) in ids and not self._may_be_forgotten(number, example.event_id):
                self._found(f"log {offset}: id {example.event_id} of partition {number} is learned twice")
            joined.add((EVENTS, number, example.event_offset))
            ids.add((number, example.event_id))

    def _may_be_forgotten(self, number: int, event_id: str) -> bool:
        """Whether a cap, or the partition's time, may have freed the first event with this id: then a second joins."""
        schedule = self._schedule
        here = [record for where, record in schedule.given.items() if where[1] == number]
        first = next(record for record in here if record.topic == EVENTS and record.event_id == event_id)
        latest_ms = max(record.time_ms for record in here) + int(schedule.sim.now_s * 1000)
        return schedule.plan.pending_max is not None or latest_ms - first.time_ms > TTL_MS + EARLY_TTL_MS

    # --- the fold ---

    def _replicas(self) -> None:
        """Fold the log anew: replicas, checkpoints and predictions must be what it gives at their positions."""
        schedule = self._schedule
        wanted: dict[int, list[tuple[str, Any]]] = defaultdict(list)
        for replica in schedule.replicas:
            if replica.halt is not None:
                self._found(f"{replica.name} halted: {replica.halt}")
            else:
                wanted[replica.position].append((f"replica of {replica.name}", replica.bits))
            if replica.dropped:
                self._found(f"{replica.name} dropped {replica.dropped} examples")
        for position, content in schedule.checkpoint_bits():
            wanted[position].append((f"checkpoint {position}", content))
        scores = self._scores()
        fold = Fold(base().fold_settings(lineage()))
        self._compare(fold, wanted, scores)
        for offset, _, value in self._log:
            fold.fold([LogRecord(offset, value)])
            self._compare(fold, wanted, scores)
        for position in (*wanted, *scores):
            self._found(f"position {position} is none of the log's")

    def _scores(self) -> dict[int, list[tuple[Output, float]]]:
        found: dict[int, list[tuple[Output, float]]] = defaultdict(list)
        for output in (output for ends in self._outputs.values() for output in ends):
            given = self._schedule.given.get(output.origin)
            if output.kind == "prediction" and given is not None:
                found[output.version].append((output, given.x))
        return found

    def _compare(
        self, fold: Fold, wanted: dict[int, list[tuple[str, Any]]], scores: dict[int, list[tuple[Output, float]]]
    ) -> None:
        for name, bits in wanted.pop(fold.position, ()):
            if bits != fold.only.probe_bits():
                self._found(f"{name} differs from the log folded to {fold.position}")
        for output, x in scores.pop(fold.position, ()):
            score = fold.only.model.score_one({"x": x}).score
            if score != output.score:
                self._found(f"{output} was scored {output.score}, the log gives {score}")


def judged(schedule: Schedule) -> list[str]:
    """What is wrong with a schedule that has run."""
    found = [*schedule.sim.failures]
    found += [f"partition {number} suspended: {why}" for number, why in schedule.suspended.items()]
    return [*found, *Judge(schedule).run()]


def audited(schedule: Schedule) -> list[str]:
    """What the service's own audit finds; a whole one, and every score derived again."""
    plan = schedule.plan
    schedule.sim.armed_faults.clear()
    parts = parts_of("audit", batch=plan.batch, membership=plan.membership, pending_max=plan.pending_max)
    with simulated(schedule.sim):
        return [f"audit: {finding}" for finding in audit(parts, FACTS, 1_000).findings]
