"""Offsets of a partition set by hand, and what follows from it."""

import contextlib

from confluent_kafka import KafkaException, TopicPartition

from stream_ml.admin.continuation import continuation
from stream_ml.config import Config
from stream_ml.core.drift.signals import OF_THE_FOLD, decode_signal
from stream_ml.core.fold.halt import is_order
from stream_ml.core.join.watermark import BEGINNING
from stream_ml.core.log.entry import LaterEntry, decode_entry
from stream_ml.core.log.heads import decode_place
from stream_ml.core.log.seals import LogSeal, is_new
from stream_ml.core.log.sequences import SequenceTracker
from stream_ml.core.partition.commit_metadata import Metadata, OutputEnds, last_signalled, signalled_upto
from stream_ml.errors import ConfigError, FatalError
from stream_ml.kafka.clients import admin, reader
from stream_ml.kafka.committed import CommittedState, offsets_of, read_committed
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import is_sealed
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.retries import asked
from stream_ml.kafka.topics import inputs_id, topic_ids
from stream_ml.kafka.writing.commands import write_command
from stream_ml.records import BY_EVENT, BY_LABEL

BY_HAND = "set-by-hand"
SHOWN_BYTES = 64  # of a dead letter's key and value


def set_offsets(
    config: Config, partition: int, events: int, feedback: int, seal: LogSeal | None = None, *, forget: bool = False
) -> str:
    """Set a partition's offsets, continuing its sequence; says what was done.

    What waits before them is found again: events without a label, and labels without an event, as many as the caps of
    `pending` allow. What was done is written into the log as a rebase command: after offsets at or before records that
    have made examples learning would halt at the repeats otherwise, and the audit tells given up from lost by it.

    Parameters
    ----------
    forget
        Give up what waits before the offsets: nothing of before is read.

    Raises
    ------
    ConfigError
        Workers are running: the group would not take the offsets.
    """
    client = admin(config)
    with reaching(config):
        pair = read_committed(config, [partition], stable=True)[0]
        sequences = _sequences(config, seal)
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
    last = [sequences.last_trigger(partition, trigger) for trigger in (BY_EVENT, BY_LABEL)]
    backwards = events <= last[0] or feedback <= last[1]
    if forget:
        floors = (events, feedback)
        firsts = OutputEnds(*[found[output][1] for output in [*outputs, (config.training_log_topic, 0)]])
    old = None if forget else pair.metadata if pair.whole and not _before(pair, events, feedback) else None
    metadata = Metadata(
        next_sequence=sequences.next_sequence(partition),
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


def _before(pair: CommittedState, events: int, feedback: int) -> bool:
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


def _sequences(config: Config, seal: LogSeal | None) -> SequenceTracker:
    """The sequences of the whole log, counting every example as seen."""
    first, end = ends(admin(config), [(config.training_log_topic, 0)])[config.training_log_topic, 0]
    sequences, commanded_at = SequenceTracker(), -1
    for records in read_range(config, config.training_log_topic, 0, first, end, keep_alive=lambda: None):
        for record in records:
            if not is_sealed(record, seal):
                continue
            with contextlib.suppress(ValueError, LookupError, TypeError, OverflowError):  # as the fold passes it by
                try:
                    entry = decode_entry(record.value or b"")
                except LaterEntry:
                    place = decode_place(record.value or b"")
                    if place is not None:
                        sequences.record(*place)
                    continue
                if entry.kind == "example":
                    sequences.record(entry.source_partition, entry.sequence, entry.trigger, entry.trigger_offset)
                elif is_order(entry):
                    said = entry.parsed_arguments()
                    if seal is not None and seal.asked(record.offset) and not is_new(said, commanded_at, record.offset):
                        continue
                    commanded_at = record.offset
                    if entry.command == "rebase" and said.get("back", True):
                        sequences.rebase(int(said["partition"]))
    return sequences
