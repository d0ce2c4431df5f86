"""The smallest app - events (id, t, x), labels (id, t, y) - and the real worker's modules over simulated clients."""

import functools
import json
import logging
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import fastavro

import stream_ml.follower.checkpointing
import stream_ml.follower.follower
import stream_ml.kafka.clients
import stream_ml.kafka.consumers
import stream_ml.kafka.errors
import stream_ml.kafka.reading.assigned
import stream_ml.kafka.reading.ends
import stream_ml.kafka.reading.log_reader
import stream_ml.kafka.reading.ranges
import stream_ml.kafka.writing.transaction
import stream_ml.worker.commit
import stream_ml.worker.housekeeping
import stream_ml.worker.intake
import stream_ml.worker.loop
import stream_ml.worker.partitions.assignment
import stream_ml.worker.partitions.moves
import stream_ml.worker.report.health
import stream_ml.worker.report.report
import stream_ml.worker.report.status
import stream_ml.worker.report.totals
from stream_ml.app.assemble import assemble
from stream_ml.app.parts import Parts
from stream_ml.config import Config, Delivery, Pending, Worker
from stream_ml.core.avro.record import encode_record
from stream_ml.core.log.identity import LogIdentity
from stream_ml.kafka.topic_watch import Verdict
from stream_ml.kafka.topics import TopicFacts
from stream_ml.storage.checkpoints import Checkpoint
from stream_ml.storage.writer import Save
from tests.system.simulation import clients, producer
from tests.system.simulation.scheduler import SimulatedTime, Simulation, activate, simulation

T0 = 1_600_000_000_000
PARTITIONS = 2
EVENTS, FEEDBACK, PREDICTIONS, APP = "visits", "truths", "predictions", "app"
LOG, OUTCOMES, DEAD_LETTERS = f"{APP}.training-log", f"{APP}.outcomes", f"{APP}.dead-letters"
TOPICS = {EVENTS: PARTITIONS, FEEDBACK: PARTITIONS, PREDICTIONS: PARTITIONS, LOG: 1, OUTCOMES: PARTITIONS}
TOPICS |= {DEAD_LETTERS: PARTITIONS, f"{APP}.signals": 1}
FACTS = TopicFacts(PARTITIONS, "simulated-topic-id", 1_000_000, log=LogIdentity("5" * 32, "6" * 32))
TTL_MS, EARLY_TTL_MS = 3_600_000, 1_200_000

_TIME = {"type": "long", "logicalType": "timestamp-millis"}


def _schema(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


_EVENT = _schema("Visit", id="string", t=_TIME, x="double")
_TRUTH = _schema("Truth", id="string", t=_TIME, y="boolean")
_PARSED = {EVENTS: fastavro.parse_schema(_EVENT), FEEDBACK: fastavro.parse_schema(_TRUTH)}


def encoded(topic: str, **values: Any) -> bytes:
    """Avro of an event or a label."""
    return encode_record(_PARSED[topic], values)


@functools.cache
def base() -> Parts:
    """The parts of the app, made once."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "visit.avsc"), Path(folder, "truth.avsc")
        for file, schema in zip(files, (_EVENT, _TRUTH), strict=True):
            file.write_text(json.dumps(schema), "utf-8")
        config = Config(
            app={"id": APP},
            worker={"instance": "w1"},
            kafka={"bootstrap_servers": "unused:9092"},
            events={"topic": EVENTS, "schema": files[0], "id": "id", "time": "t"},
            feedback={
                "topic": FEEDBACK,
                "schema": files[1],
                "id": "id",
                "time": "t",
                "label": "y",
                "ttl": "1h",
                "early_ttl": "20m",
            },
            predictions={"topic": PREDICTIONS},
            model={"factory": "river.linear_model:LogisticRegression", "task": "binary"},
            checkpoints={"interval": "3s"},
        )
        return assemble(config)


def parts_of(instance: str, *, batch: int, membership: str, pending_max: int | None) -> Parts:
    """The parts with what a worker or a schedule sets for itself."""
    parts = base()
    changes: dict[str, Any] = {
        "worker": Worker(instance=instance),
        "delivery": Delivery(batch_max_records=batch, membership=membership),  # type: ignore[arg-type]
    }
    if pending_max is not None:
        changes["pending"] = Pending(events_max=pending_max, early_labels_max=pending_max)
    return parts._replace(config=parts.config.model_copy(update=changes))


class MemoryStore:
    """Checkpoints in memory, as bytes; one store for all workers of a schedule."""

    files: dict[int, tuple[dict[str, Any], bytes]]
    pickled_bytes = 0

    def __init__(
        self, directory: Path, lineage: str, *, keep: int, key: bytes | None = None, spaced: bool = False
    ) -> None:
        self.files, self._keep = simulation().cluster.checkpoints.setdefault(lineage, {}), keep

    def prepare(self) -> str:
        """Nothing to make."""
        return ""

    def save(
        self,
        position: int,
        header: dict[str, Any],
        content: Any,
        *,
        checkpoint_types: list[str],
        passing: Callable[[], None],
        pickled: Callable[[], None],
    ) -> None:
        """Keep the first of each position."""
        self.files.setdefault(position, ({**header, "position": position}, pickle.dumps(content, protocol=5)))
        simulation().note(f"checkpoint {position}")
        for old in sorted(self.files)[: -self._keep]:
            del self.files[old]

    def size(self, position: int) -> int:
        """Bytes of the one of this position."""
        return len(self.files[position][1]) if position in self.files else 0

    def newest(self, at_most: int | None = None) -> Iterator[Checkpoint]:
        """From the newest to the oldest."""
        for position in sorted(self.files, reverse=True):
            if at_most is None or position <= at_most:
                yield Checkpoint(*self.files[position])

    def content(self, checkpoint: Checkpoint, checkpoint_types: list[str]) -> Any:
        """What was kept."""
        return pickle.loads(checkpoint.payload)


class AtOnceWriter:
    """Takes the place of the writer with a thread of its own, in which no time can be simulated."""

    took_s, holds = 0.0, False

    def __init__(self) -> None:
        self._save: Save | None = None

    @property
    def busy(self) -> bool:
        """Whether one was begun."""
        return self._save is not None

    def begin(self, save: Save) -> None:
        """Keep it for the next turn."""
        self._save = save

    def turn(self, budget_s: float) -> bool:
        """Write all of it."""
        save, self._save = self._save, None
        if save is not None:
            save(passing=lambda: None, pickled=lambda: None)
        return save is not None

    def drop(self, *, wait: bool = True) -> None:
        """Give it up."""
        self._save = None


class Counts:
    """Takes the place of the metrics: a registry costs more than a schedule's fold."""

    def __init__(self) -> None:
        self.of: dict[str, float] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        where = ":".join([name, *labels.values()])
        self.of[where] = self.of.get(where, 0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.of[":".join([name, *labels.values()])] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Histograms say nothing here."""


@functools.cache
def lineage() -> str:
    """Lineage of the app's model."""
    return base().lineage(FACTS.log.log_id)


@functools.cache
def _spec() -> dict[str, Any]:
    return base().spec(FACTS.log.log_id)


@functools.cache
def _watch() -> str:
    return base().watch(FACTS.log.log_id)


class _Tokens:
    """Takes the place of the module `secrets`: tokens of the schedule's own."""

    @staticmethod
    def token_hex(size: int) -> str:
        return f"{simulation().rng.getrandbits(8 * size):0{2 * size}x}"


def _one_after_the_other(call: Callable[[], Any], meanwhile: Callable[[], None]) -> Any:
    """Takes the place of `run_concurrently`: a schedule has no chance in it but its seed's."""
    meanwhile()
    return call()


class _SameTopics:
    """Takes the place of the watch over topics: none of them changes in a schedule, and Kafka answers."""

    def __init__(self, config: Config, client: Any, facts: TopicFacts) -> None:
        self._partitions = facts.partitions

    @property
    def verdict(self) -> Verdict:
        """Nothing is wrong, as of now."""
        now_s = SimulatedTime.monotonic()
        return Verdict((), (), (), self._partitions, now_s, now_s)

    def after(self, moment_s: float, wait_s: float) -> Verdict:
        """The same."""
        return self.verdict

    def begin(self) -> None:
        """No thread."""

    close = begin


def _unowned(client: Any, group: str, topic: str, partitions: int, member_id: str) -> list[int]:
    """Takes the place of the question to an admin client."""
    return simulation().cluster.group.unowned(member_id)


class _ToTrace(logging.Handler):
    def __init__(self, sim: Simulation) -> None:
        super().__init__()
        self._sim = sim

    def emit(self, record: logging.LogRecord) -> None:
        self._sim.note(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def simulated(sim: Simulation, *, tracing: bool = False) -> Iterator[None]:
    """The service's modules meet simulated clients and a simulated clock in here."""
    kafka, reading, worker = stream_ml.kafka, stream_ml.kafka.reading, stream_ml.worker
    taken, report = worker.partitions, worker.report
    follower, checkpointing = stream_ml.follower.follower, stream_ml.follower.checkpointing
    timed = (
        kafka.consumers,
        kafka.errors,
        reading.ranges,
        reading.log_reader,
        reading.assigned,
        kafka.writing.transaction,
    )
    timed += (
        follower,
        checkpointing,
        stream_ml.follower.lineup,
        stream_ml.follower.track,
        worker.loop,
        worker.commit,
        worker.housekeeping,
        worker.intake,
    )
    timed += (taken.assignment, taken.moves, report.health, report.report, report.status, report.totals)
    changes: list[tuple[Any, str, Any]] = [(module, "time", SimulatedTime) for module in timed]
    changes += [(kafka.clients, name, getattr(clients, name)) for name in ("Consumer", "AdminClient")]
    changes += [(kafka.clients, "Producer", producer.Producer)]
    # Looking up River's version reads a file: a third of a schedule's time.
    known, said = lineage(), _spec()
    changes += [(Parts, "lineage", lambda *_: known), (Parts, "spec", lambda *_: said)]
    watch = _watch()
    changes += [(Parts, "watch", lambda *_: watch)]
    changes += [(kafka.writing.transaction, "run_concurrently", _one_after_the_other)]
    changes += [(reading.ends, "OffsetSpec", clients.OffsetSpec)]
    changes += [(checkpointing, "CheckpointStore", MemoryStore)]
    changes += [(checkpointing, "CheckpointWriter", AtOnceWriter), (taken.assignment, "secrets", _Tokens)]
    changes += [(worker.loop, "TopicWatch", _SameTopics), (worker.housekeeping, "unowned", _unowned)]
    # Of two partitions the second is taken up after a turn of the first, wherever the group has moved meanwhile.
    changes += [(taken.assignment, "TOGETHER", 1), (taken.moves, "TAKE_UP_S", 0.0), (taken.moves, "ALONE_S", 0.0)]
    logger, handler = logging.getLogger("stream_ml"), _ToTrace(sim)
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO if tracing else logging.CRITICAL)
    logger.propagate = False
    logger.addHandler(handler)
    patches = [mock.patch.object(*change) for change in changes]
    for patch in patches:
        patch.start()
    activate(sim)
    try:
        yield
    finally:
        activate(None)
        for patch in reversed(patches):  # of two patches of one name the first knows what was there before
            patch.stop()
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
