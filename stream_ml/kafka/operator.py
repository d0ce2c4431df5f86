"""What operators order: commands in the training log, and offsets of a partition set by hand."""

import contextlib
import getpass
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, Producer, TopicPartition

from stream_ml.config import Config
from stream_ml.core.ledger import Ledger
from stream_ml.core.log_entry import decode_entry, decode_pair, encode_command
from stream_ml.core.metadata import Metadata, OutputEnds, last_signalled, signalled_upto
from stream_ml.core.outputs import dead_letter_origin, decode_outcome
from stream_ml.core.pardons import is_order
from stream_ml.core.predictions import halted_at, prediction_origin
from stream_ml.core.seals import LogSeal, is_new
from stream_ml.core.signals import OF_THE_FOLD, decode_signal
from stream_ml.core.times import BEGINNING
from stream_ml.errors import ConfigError, FatalError
from stream_ml.kafka.clients import TIMEOUT_S, admin, common, reaching, reader
from stream_ml.kafka.messages import record_of
from stream_ml.kafka.pair import Pair, committed_pairs, offsets_of, pair_reader, read_pairs
from stream_ml.kafka.reading import ends, is_sealed, read_range, read_ranges
from stream_ml.kafka.retries import asked
from stream_ml.kafka.tailing import newest
from stream_ml.kafka.topics import inputs_id, topic_ids
from stream_ml.records import Record

BY_HAND = "set-by-hand"
SHOWN_BYTES = 64  # of a dead letter's key and value
SIGNALS_READ = 1_000  # newest ones, to see which halts have not ended
TAIL = 20_000  # newest records of an output that are read to see where a partition was


class Shown(NamedTuple):
    """A partition's committed state beside what there is to read, in offsets."""

    pair: Pair
    events: tuple[int, int]
    feedback: tuple[int, int]


def write_command(
    config: Config, command: str, arguments: dict[str, Any], seal: LogSeal | None = None, *, writer: str = ""
) -> int:
    """Write a command into the training log; every replica obeys it at the offset that is returned.

    A sealed one says how much of the log was there, so that it cannot be written again later by somebody else.
    """
    offsets: list[int] = []
    topic = config.training_log_topic

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            raise FatalError(f"the command was not written: {error.str()}")
        offsets.append(message.offset())

    if seal is not None:
        with reaching(config):
            arguments = arguments | {"seen": ends(admin(config), [(topic, 0)])[topic, 0][1]}
    value = encode_command(
        command, arguments, written_at_ms=_now_ms(), writer=writer or f"operator {getpass.getuser()}"
    )
    producer = Producer({**common(config), "enable.idempotence": True, "message.timeout.ms": int(TIMEOUT_S * 1000)})
    with reaching(config):
        headers = [seal.header(value)] if seal is not None else None
        producer.produce(topic, value, partition=0, on_delivery=delivered, headers=headers)
        producer.flush(TIMEOUT_S)
    if not offsets:
        raise FatalError("the command was not written: Kafka did not confirm it")
    return offsets[0]


def halts(config: Config) -> set[int]:
    """Positions at which learning is halted, as the newest predictions say, or a signal that no end followed.

    Each is written with a transaction of a worker's: a halt of this moment may not stand there yet.
    """
    found = set()
    for record in newest(config, config.predictions.topic, 1)[0]:
        with contextlib.suppress(ValueError):
            position = halted_at(record.value or b"", config.predictions.framing)
            found |= set() if position is None else {position}
    halted: dict[str, int] = {}
    for record in newest(config, config.signals, SIGNALS_READ)[0]:
        with contextlib.suppress(ValueError):
            signal = decode_signal(record.value or b"")
            if signal.kind == "halted":
                halted[signal.origin] = signal.position
            elif signal.kind == "resumed":
                halted.pop(signal.origin, None)
    return found | set(halted.values())


def check_halted(config: Config, position: int, verb: str) -> None:
    """Refuse to lift a halt that is none: it would do nothing, and be taken for an end of what never began.

    Raises
    ------
    ConfigError
        Learning is not halted there; it names where it is.
    """
    known = sorted(halts(config))
    if position in known:
        return
    there = "; ".join(f"stream-ml {verb} CONFIG {at}" for at in known)
    raise ConfigError(
        f"learning is not halted at {position}" + (f", but at {', '.join(map(str, known))}" if known else ""),
        there or "where it is halted stands in stream-ml top CONFIG; --anyway writes the command all the same",
    )


class Observer:
    """Looks at committed offsets again and again, with clients of its own."""

    def __init__(self, config: Config, partitions: int) -> None:
        self._config, self._numbers = config, range(partitions)
        self._admin = admin(config)
        self._consumer = pair_reader(config, stable=False)

    def pairs(self) -> list[Pair]:
        """Committed state of all partitions."""
        with reaching(self._config):
            return committed_pairs(self._config, self._consumer, list(self._numbers), TIMEOUT_S)

    def shown(self) -> list[Shown]:
        """Committed positions and the ranges of both topics."""
        topics = (self._config.events.topic, self._config.feedback.topic)
        pairs = self.pairs()
        with reaching(self._config):
            ranges = ends(self._admin, [(topic, p) for p in self._numbers for topic in topics])
        return [Shown(pair, ranges[topics[0], pair.partition], ranges[topics[1], pair.partition]) for pair in pairs]

    def close(self) -> None:
        """Let go of the clients."""
        self._consumer.close()


def set_offsets(config: Config, partition: int, events: int, feedback: int, seal: LogSeal | None = None) -> str:
    """Set a partition's offsets, continuing its sequence; says what was done.

    What waits before them is found again: events without a label, and labels without an event, as many as the caps of
    `pending` allow. What was done is written into the log as a rebase command: after offsets at or before records that
    have made examples learning would halt at the repeats otherwise, and the audit tells given up from lost by it.

    Raises
    ------
    ConfigError
        Workers are running: the group would not take the offsets.
    """
    client = admin(config)
    with reaching(config):
        pair = read_pairs(config, [partition], stable=True)[0]
        ledger = _ledger(config, seal)
        outputs = [(t, partition) for t in (config.predictions.topic, config.outcomes, config.dead_letters)]
        found = ends(client, [*outputs, (config.training_log_topic, 0)])
        inputs = [(config.events.topic, partition), (config.feedback.topic, partition)]
        held = ends(client, inputs)
        for where, position in zip(inputs, (events, feedback), strict=True):
            first, end = held[where]
            if not first <= position <= end:
                raise ConfigError(
                    f"{where[0]} [{partition}] holds {first} to {end}; {position} is not in it", "name an offset in it"
                )
        following = continuation(config, partition, seal)
        ids: dict[str, str] = {}
        with contextlib.suppress(KafkaException):  # without them the next owner's commit names the topics
            ids = topic_ids(client, [config.events.topic, config.feedback.topic])
    firsts = OutputEnds(*[found[output][0] for output in [*outputs, (config.training_log_topic, 0)]])
    floors = (
        max(held[inputs[0]][0], events - config.pending.events_max),
        max(held[inputs[1]][0], feedback - config.pending.early_labels_max),
    )
    last = [ledger.last_trigger(partition, topic) for topic in (config.events.topic, config.feedback.topic)]
    backwards = events <= last[0] or feedback <= last[1]
    old = pair.metadata if pair.whole and not _before(pair, events, feedback) else None
    metadata = Metadata(
        next_sequence=ledger.next_sequence(partition),
        times=old.times if old else BEGINNING,
        inputs_ms=old.inputs_ms if old else (BEGINNING.watermark_ms, BEGINNING.watermark_ms),
        events_floor=old.events_floor if old else floors[0],
        feedback_floor=old.feedback_floor if old else floors[1],
        ends=old.ends if old else firsts,
        token=BY_HAND,
        writer=BY_HAND,
        signalled=pair.metadata.signalled if pair.metadata else _signalled(config),
        inputs_id=inputs_id(config, ids),
    )
    _commit(config, offsets_of(config, partition, events, feedback, metadata))
    stood = (
        following.events if pair.events is None else pair.events,
        following.feedback if pair.feedback is None else pair.feedback,
    )
    arguments = {"partition": partition, "events": events, "feedback": feedback, "back": backwards}
    arguments |= {"from_events": stood[0], "from_feedback": stood[1]}
    at = write_command(config, "rebase", arguments, seal)
    done = f"partition {partition}: events {events}, feedback {feedback}; rebase written at {at}"
    if backwards:
        return f"{done}: records from there on are scored again"
    return done + following.words(events, feedback, floors) + f"; the sequence goes on at {metadata.next_sequence}"


class Continuation(NamedTuple):
    """What the newest outputs of a partition say: after which event and label it stood, and what had no end yet."""

    events: int
    feedback: int
    unlabelled: set[int]  # events that have a prediction and no example
    ended: set[int]  # labels that have an end
    whole: bool  # whether all outputs were read, and not only the newest

    def words(self, events: int, feedback: int, floors: tuple[int, int]) -> str:
        """What follows from setting the partition's offsets to these."""
        found = []
        if events < self.events:
            found.append(f"events {events} to {self.events - 1} have an end already and get a second one")
        if events > self.events:
            found.append(f"events {self.events} to {events - 1} are never scored")
        if feedback < self.feedback:
            found.append(f"labels from {feedback} to {self.feedback - 1} are looked at again")
        waiting = sum(floors[0] <= offset < events for offset in self.unlabelled)
        labels = sum(offset not in self.ended for offset in range(floors[1], feedback))
        if not self.whole:
            found.append("what waits for its other half is found again")
        elif waiting or labels:
            found.append(f"{waiting} events and {labels} labels wait for their other half")
        return "".join(f"; {text}" for text in found)


def continuation(config: Config, partition: int, seal: LogSeal | None = None) -> Continuation:
    """Where a partition would go on by what stands in its outputs: after the last event and label that have an end.

    Only the newest TAIL records of each output are read.
    """
    client = admin(config)
    topics = (config.predictions.topic, config.outcomes, config.dead_letters, config.training_log_topic)
    places = [(topic, 0 if topic == config.training_log_topic else partition) for topic in topics]
    scored: set[int] = set()
    ended: dict[str, set[int]] = {config.events.topic: set(), config.feedback.topic: set()}
    with reaching(config):
        found = ends(client, places)
        ranges = {where: (max(first, end - TAIL), end) for where, (first, end) in found.items()}
        for batch in read_ranges(config, ranges, keep_alive=lambda: None):
            for record in map(record_of, batch):
                for topic, offset in _ended(config, partition, record, seal):
                    of = scored if record.topic == config.predictions.topic else ended.setdefault(topic, set())
                    of.add(offset)
    events, labels = ended[config.events.topic], ended[config.feedback.topic]
    after = max(scored | events, default=-1) + 1
    whole = all(end - first <= TAIL for first, end in found.values())
    return Continuation(after, max(labels, default=-1) + 1, scored - events, labels, whole)


def _ended(config: Config, partition: int, record: Record, seal: LogSeal | None) -> Iterator[tuple[str, int]]:
    """The inputs that an output of the partition ends."""
    value = record.value or b""
    with contextlib.suppress(ValueError):
        if record.topic == config.outcomes:
            yield config.feedback.topic, int(decode_outcome(value)["feedback_offset"])
        elif record.topic == config.dead_letters:
            origin = dead_letter_origin(record)
            if origin is not None:
                yield origin[0], origin[2]
        elif record.topic == config.training_log_topic:
            pair = decode_pair(value) if is_sealed(record, seal) else None
            if pair is not None and pair.source_partition == partition:
                yield config.events.topic, pair.event_offset
                yield config.feedback.topic, pair.feedback_offset
        else:
            yield config.events.topic, prediction_origin(value, config.predictions.framing)


def _signalled(config: Config) -> dict[str, int]:
    """Last position of each lineage that stands in the signals. Told again it would be twice."""
    found: dict[str, int] = {}
    first, end = ends(admin(config), [(config.signals, 0)])[config.signals, 0]
    for records in read_range(config, config.signals, 0, first, end, keep_alive=lambda: None):
        for record in records:
            with contextlib.suppress(ValueError):
                signal = decode_signal(record.value or b"")
                if signal.subject in OF_THE_FOLD:
                    last = max(last_signalled(found, signal.origin), signal.position)
                    found = signalled_upto(found, signal.origin, last)
    return found


def _before(pair: Pair, events: int, feedback: int) -> bool:
    return events < (pair.events or 0) or feedback < (pair.feedback or 0)


def _commit(config: Config, offsets: list[TopicPartition]) -> None:
    consumer = reader(config)
    try:
        with reaching(config):
            asked(lambda: consumer.commit(offsets=offsets, asynchronous=False), made=True)
    except FatalError as exception:
        raise ConfigError(
            f"the group {config.app.id} does not take the offsets: {exception.message}",
            "stop its workers first; a static member's place is kept for the session timeout after that",
        ) from exception
    finally:
        consumer.close()


def _ledger(config: Config, seal: LogSeal | None) -> Ledger:
    """The ledger of the whole log, counting every example as seen."""
    first, end = ends(admin(config), [(config.training_log_topic, 0)])[config.training_log_topic, 0]
    ledger, commanded_at = Ledger(), -1
    for records in read_range(config, config.training_log_topic, 0, first, end, keep_alive=lambda: None):
        for record in records:
            if not is_sealed(record, seal):
                continue
            with contextlib.suppress(ValueError, LookupError, TypeError, OverflowError):  # as the fold passes it by
                entry = decode_entry(record.value or b"")
                if entry.kind == "example":
                    ledger.saw(entry.source_partition, entry.sequence, entry.trigger_topic, entry.trigger_offset)
                elif is_order(entry):
                    said = entry.parsed_arguments()
                    if seal is not None and seal.asked(record.offset) and not is_new(said, commanded_at, record.offset):
                        continue
                    commanded_at = record.offset
                    if entry.command == "rebase" and said.get("back", True):
                        ledger.rebase(int(said["partition"]))
    return ledger


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
