"""The smallest app - events (id, t, x), labels (id, t, y) - and one partition of it whose topics are Python lists."""

import functools
import io
import json
import pickle
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

from stream_ml.app.assemble import assemble
from stream_ml.app.parts import Parts
from stream_ml.config import Config
from stream_ml.core.avro.record import encode_record
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.replica import Replica
from stream_ml.core.inputs.labels import Labels
from stream_ml.core.join.join import Join
from stream_ml.core.join.pending import PendingEvent
from stream_ml.core.join.watermark import BEGINNING, JoinSettings
from stream_ml.core.log.entry import Entry, Example, decode_entry, encode_command, encode_example
from stream_ml.core.log.heads import decode_pairs
from stream_ml.core.partition.batch import Batch, Outputs, PartitionSettings
from stream_ml.core.partition.commit_metadata import OutputEnds, parse_metadata
from stream_ml.core.partition.outputs import dead_letter_origin, decode_outcome
from stream_ml.core.partition.partition import Partition
from stream_ml.core.partition.restore import CommittedOutputs, rebuilt_labels
from stream_ml.core.partition.serving import Serving
from stream_ml.records import NOT_SERVED, Clock, DeadLetter, Label, LogRecord, Produce, Record, Records, Served, Target

T0 = 1_600_000_000_000
NOW_MS = 1_700_000_000_000
LINEAGE = "0123456789abcdef"
EVENTS, FEEDBACK, PREDICTIONS = "visits", "truths", "predictions"
ROOMY = JoinSettings(ttl_ms=10**12, early_ttl_ms=10**12, events_max=10**6, early_labels_max=10**6, bytes_max=10**9)

_TIME = {"type": "long", "logicalType": "timestamp-millis"}
EVENT = {
    "type": "record",
    "name": "Visit",
    "fields": [{"name": "id", "type": "string"}, {"name": "t", "type": _TIME}, {"name": "x", "type": "double"}],
}
_LABEL_TYPES = {"binary": "boolean", "multiclass": "string", "regression": "double"}
_MODELS = {
    "binary": "river.linear_model:LogisticRegression",
    "multiclass": "river.naive_bayes:GaussianNB",
    "regression": "river.linear_model:LinearRegression",
}


def _truth(task: str) -> dict[str, Any]:
    types = (("id", "string"), ("t", _TIME), ("y", _LABEL_TYPES[task]))
    return {"type": "record", "name": "Truth", "fields": [{"name": n, "type": t} for n, t in types]}


# --- the app ---


@functools.cache
def parts(task: str = "binary") -> Parts:
    """The parts of the app; classes of the multiclass one are a, b, c."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "visit.avsc"), Path(folder, "truth.avsc")
        for file, schema in zip(files, (EVENT, _truth(task)), strict=True):
            file.write_text(json.dumps(schema), "utf-8")
        config = Config(
            app={"id": "app"},
            worker={"instance": "w1"},
            kafka={"bootstrap_servers": "unused:9092"},
            events={"topic": EVENTS, "schema": files[0], "id": "id", "time": "t"},
            feedback={"topic": FEEDBACK, "schema": files[1], "id": "id", "time": "t", "label": "y", "ttl": "1h"},
            predictions={"topic": PREDICTIONS},
            model={
                "factory": _MODELS[task],
                "task": task,
                "labels": ["a", "b", "c"] if task == "multiclass" else None,
            },
        )
        return assemble(config)


def fold_settings(task: str = "binary") -> FoldSettings:
    """Settings of a replica; each call gives payloads of its own."""
    return parts(task).fold_settings(LINEAGE)._replace(started=(0,))


def partition_settings(record_bytes_max: int = 1_000_000) -> PartitionSettings:
    """What partitions of the app share."""
    return parts().partition_settings(record_bytes_max)


def clock(monotonic_ms: int = 0, now_ms: int = NOW_MS) -> Clock:
    """A time years after the data."""
    return Clock(now_ms, monotonic_ms)


def content(thing: Any) -> bytes:
    """All of a model or a state, whichever of its equal values are one object."""
    found = io.BytesIO()
    pickler = pickle.Pickler(found)
    pickler.fast = True
    pickler.dump(thing)
    return found.getvalue()


# --- records ---

_EVENT = fastavro.parse_schema(EVENT)
_TRUTH = fastavro.parse_schema(_truth("binary"))


def event_bytes(event_id: str, t: int, x: float = 0.0) -> bytes:
    """Avro of an event."""
    return encode_record(_EVENT, {"id": event_id, "t": t, "x": x})


def event_record(offset: int, event_id: str, t: int, x: float = 0.0) -> Record:
    """An event as a consumer returns it."""
    return Record(EVENTS, 0, offset, t, event_id.encode(), event_bytes(event_id, t, x))


def label_record(offset: int, event_id: str, t: int, y: bool = True) -> Record:
    """Feedback as a consumer returns it."""
    value = encode_record(_TRUTH, {"id": event_id, "t": t, "y": y})
    return Record(FEEDBACK, 0, offset, t, event_id.encode(), value)


def label(offset: int, event_id: str, t: int, y: bool = True) -> Label:
    """Feedback, decoded."""
    return Label(label_record(offset, event_id, t, y), event_id, t, Target("true" if y else "false", None))


def labels_of(items: Sequence[Label | DeadLetter]) -> Labels:
    """Feedback of partition 0 as columns."""
    return Labels.of(FEEDBACK, 0, items)


def pending(offset: int, event_id: str, t: int, *, oversize: bool = False) -> PendingEvent:
    """An event that waits."""
    return PendingEvent(offset, event_id, t, 0, b"" if oversize else b"avro", NOT_SERVED, oversize=oversize)


# --- the training log ---


def example(
    sequence: int,
    x: float = 1.0,
    y: Target | bool = True,
    *,
    trigger: tuple[str, int] | None = None,
    partition: int = 0,
    served: Served = NOT_SERVED,
    event: bytes | None = None,
    schema: int | None = None,
) -> bytes:
    """An entry of kind example; its trigger is by default label number `sequence`, its schema the reader's."""
    target = Target("true" if y else "false", None) if isinstance(y, bool) else y
    topic, offset = trigger or (FEEDBACK, sequence)
    fingerprint = parts().reader.payloads.reader.fingerprint
    return encode_example(
        Example(
            source_partition=partition,
            sequence=sequence,
            trigger=(EVENTS, FEEDBACK).index(topic),  # type: ignore[arg-type]
            trigger_offset=offset,
            event_id=f"e{sequence}",
            event_time_ms=T0,
            event_offset=sequence,
            event_schema=fingerprint if schema is None else schema,
            event_framing="bare",
            event=event_bytes(f"e{sequence}", T0, x) if event is None else event,
            label_time_ms=T0,
            target=target,
            feedback_offset=sequence,
            served=served,
        ),
        written_at_ms=NOW_MS,
        writer="app-w1",
    )


def command(name: str, **arguments: Any) -> bytes:
    """An entry of kind command."""
    return encode_command(name, arguments, written_at_ms=NOW_MS, writer="operator")


def log_of(values: Sequence[bytes], first: int = 0) -> list[LogRecord]:
    """These entries at offsets from `first` on."""
    return [LogRecord(first + number, value) for number, value in enumerate(values)]


# --- one partition and its topics ---


class Pairing(NamedTuple):
    """Which records an example is made of, and where it stands."""

    sequence: int
    event_offset: int
    feedback_offset: int
    trigger: int
    trigger_offset: int


class World:
    """Partition 0 and every topic it touches. A commit appends to lists; a crash rebuilds out of them alone."""

    def __init__(
        self, join: JoinSettings, settings: PartitionSettings, events: Sequence[Record], feedback: Sequence[Record]
    ) -> None:
        self.join_settings, self.settings = join, settings
        self.events, self.feedback = events, feedback
        self.topics: dict[str, list[Record]] = {name: [] for name in (PREDICTIONS, *settings.topics)}
        self.ends = OutputEnds(0, 0, 0, 0)
        self.positions = (0, 0)
        self.replica = Replica(fold_settings())
        self.partition = Partition(settings, 0, Join(join), (0, 0), 0, self.ends, (0, 0))
        self.texts: list[str] = []
        self.crashes = 0
        self._put([], self.partition.claim_metadata((0, 0), "first").text())

    # --- a turn of the loop ---

    def process(
        self,
        events: int,
        labels: int,
        *,
        ends: tuple[bool, bool] = (False, False),
        now: Clock | None = None,
        poison_records: Collection[tuple[str, int, int]] = (),
    ) -> Outputs:
        """The core's answer to the next so many records."""
        at, now = self.partition, now or clock()
        found = self.events[at.events_position : at.events_position + events]
        held = self.feedback[at.feedback_position : at.feedback_position + labels]
        decoded = parts().reader.decode_many(Records.of(EVENTS, 0, found), now.now_ms)
        labelled = parts().feedback.decode_many(Records.of(FEEDBACK, 0, held), now.now_ms)
        batch = Batch(decoded, labelled, *ends, poison_records)
        return at.process(batch, Serving.of(self.replica), now, stale=False, token=f"t{len(self.texts)}")

    def commit(self, outputs: Outputs) -> None:
        """The transaction is committed, and what it changed applied; like the loop, nothing commits nothing."""
        if outputs.moved or self.positions != (outputs.events_position, outputs.feedback_position):
            self.positions = (outputs.events_position, outputs.feedback_position)
            self._put(list(outputs.records), outputs.metadata.text())
        self.partition.apply(outputs)

    def turn(self, events: int, labels: int, **how: Any) -> Outputs:
        """Process and commit."""
        outputs = self.process(events, labels, **how)
        self.commit(outputs)
        return outputs

    def restore_point(self) -> None:
        """Sample the ends, as the loop does now and then."""
        self.partition.restore_points.add(*self.positions, self.ends)

    def _put(self, records: Sequence[Produce], text: str) -> None:
        before = (
            self.ends[0],
            self.ends[3],
            self.ends[1],
            self.ends[2],
            len(self.topics[self.settings.topics.signals]),
        )
        found = dict(zip(self.topics, before, strict=True))
        for produce in records:
            topic, offset = produce.topic, found[produce.topic]
            self.topics[topic].append(Record(topic, 0, offset, NOW_MS, produce.key, produce.value, produce.headers))
            found[topic] += 1
        for topic in {produce.topic for produce in records}:
            found[topic] += 1  # the transaction's marker takes an offset, too
        log, outcomes, dead_letters, _ = self.settings.topics
        self.ends = OutputEnds(found[PREDICTIONS], found[outcomes], found[dead_letters], found[log])
        self.texts.append(text)

    # --- a crash ---

    def crash(self) -> None:
        """Forget the memory; claim the partition, then rebuild it, as a new owner does."""
        metadata = parse_metadata(self.texts[-1])
        assert metadata is not None
        floors = (metadata.events_floor, metadata.feedback_floor)
        join = Join(self.join_settings, metadata.times, metadata.inputs_ms)
        self.partition = Partition(
            self.settings, 0, join, self.positions, metadata.next_sequence, metadata.ends, floors
        )
        self.partition.signalled = metadata.signalled
        self._put([], self.partition.claim_metadata(floors, "claim").text())
        evidence = CommittedOutputs(0, floors, self.positions, (EVENTS, FEEDBACK), parts().reader.payloads)
        log, outcomes, dead_letters, _ = self.settings.topics
        values = [record.value or b"" for record in self._since(PREDICTIONS, metadata.ends.predictions)]
        for record in self._since(outcomes, metadata.ends.outcomes):
            evidence.outcome(record.value or b"")
        for record in self._since(dead_letters, metadata.ends.dead_letters):
            evidence.dead_letter(record)
        logged = [record.value or b"" for record in self._since(log, metadata.ends.training_log)]
        for pair in decode_pairs(logged):
            if pair is not None and pair.source_partition == 0:
                evidence.example(pair)
        events = self.events[floors[0] : self.positions[0]]
        labels = self.feedback[floors[1] : self.positions[1]]
        limit = self.settings.record_bytes_max
        waiting, self.partition.undecodable_labels = rebuilt_labels(labels, evidence, parts().feedback, 0)
        self._read_both(evidence, events, values)
        join.rebuild(evidence.events.finish(evidence.joined_events, limit), waiting)
        self.restore_point()

    def _read_both(self, evidence: CommittedOutputs, events: Sequence[Record], predictions: list[bytes]) -> None:
        """Events and predictions in pieces, whichever comes first: by how often there was a crash."""
        self.crashes += 1
        size = 1 + self.crashes % 5
        steps = [(0, at) for at in range(0, len(events), size)] + [(1, at) for at in range(0, len(predictions), size)]
        orders = (lambda step: step[0], lambda step: -step[0], lambda step: step[1])
        for kind, at in sorted(steps, key=orders[self.crashes % 3]):
            if kind:
                evidence.events.published(predictions[at : at + size], parts().predictions)
            else:
                evidence.events.take(Records.of(EVENTS, 0, events[at : at + size]))

    def _since(self, topic: str, offset: int) -> list[Record]:
        return [record for record in self.topics[topic] if record.offset >= offset]

    # --- what stands in the topics ---

    def log(self) -> list[Entry]:
        """Entries of the training log."""
        return [decode_entry(record.value or b"") for record in self.topics[self.settings.topics.training_log]]

    def pairings(self) -> list[Pairing]:
        """The examples, in log order."""
        return [
            Pairing(e.sequence, e.event_offset, e.feedback_offset, e.trigger, e.trigger_offset)
            for e in self.log()
            if e.kind == "example"
        ]

    def outcomes(self) -> list[tuple[int, str]]:
        """Feedback offset and outcome, in the order written."""
        found = [decode_outcome(record.value or b"") for record in self.topics[self.settings.topics.outcomes]]
        return [(int(outcome["feedback_offset"]), str(outcome["outcome"])) for outcome in found]

    def dead(self, topic: str) -> list[int]:
        """Offsets of the records of a topic that became dead letters."""
        origins = [dead_letter_origin(record) for record in self.topics[self.settings.topics.dead_letters]]
        return [origin[2] for origin in origins if origin is not None and origin[0] == topic]

    def predicted(self) -> dict[int, tuple[str, ...]]:
        """Flags of the predictions by event offset."""
        found = [parts().predictions.decode(record.value or b"") for record in self.topics[PREDICTIONS]]
        assert len({published.offset for published in found}) == len(found)
        return {published.offset: published.served.flags for published in found}


def held(join: Join) -> dict[str, Any]:
    """Everything that a join holds, but how far each of its inputs has come: a crash may forget that."""
    return {
        "times": join.times,
        "events": {event.event_id: event for event in join.store.events()},
        "waiting": {offset: join.waiting[offset] for offset in sorted(join.waiting)},
        "waiting_by_id": dict(join.waiting_by_id),
        "bytes": join.bytes,
    }


def blank_join(settings: JoinSettings = ROOMY, *, watermark_ms: int | None = None) -> Join:
    """An empty join, its time at the beginning or at W."""
    return Join(settings, BEGINNING if watermark_ms is None else BEGINNING.at(watermark_ms, settings))
