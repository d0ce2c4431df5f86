"""Dead letters back to where they came from, each once: produced and noted in one transaction.

What has been looked at is the committed offset of a group of its own for each reason, ``<app>.redrive.<reason>``. It
moves in the transaction that writes the records, so a redrive that dies has done nothing or all of its part.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from stream_ml.config import Config
from stream_ml.core.outputs import dead_letter_origin, dead_letter_words
from stream_ml.errors import TransientError
from stream_ml.kafka.clients import TIMEOUT_S, admin, error_of, let_go, producer, reaching, reader, record_of
from stream_ml.kafka.reading import ends, read_ranges
from stream_ml.kafka.tailing import partitions_of
from stream_ml.records import Produce, Record

FROM = "stream_ml.redriven.from"  # header: dead-letter topic, partition and offset
OURS = ("__connect.errors.", "stream_ml.value.", FROM)
BATCH = 1_000  # letters in one transaction


class Redriven(NamedTuple):
    """What was done, by the letters' topic of origin; `cut` have lost the end of their value and stay."""

    written: Counter[str]
    cut: int
    foreign: int


def redrive(config: Config, reason: str, most: int, *, dry_run: bool) -> Redriven:
    """Write letters of one reason, which nobody has redriven yet, to their topics again, `most` at most.

    Raises
    ------
    TransientError
        A transaction was not committed; what it held is redriven by the next call.
    """
    done = Redriven(Counter(), 0, 0)
    consumer = reader(config, **{"group.id": f"{config.app.id}.redrive.{reason}"})
    try:
        with reaching(config):
            places = partitions_of(config, config.dead_letters)
            found = ends(admin(config), places)
            ranges = {where: (start, found[where][1]) for where, start in _starts(consumer, found).items()}
            for batch in read_ranges(config, ranges, keep_alive=lambda: None):
                left = most - sum(done.written.values())
                if left <= 0:
                    break
                done = _step(config, consumer, [record_of(message) for message in batch], reason, left, done, dry_run)
    finally:
        let_go(consumer)
    return done


def _starts(consumer: Consumer, found: dict[tuple[str, int], tuple[int, int]]) -> dict[tuple[str, int], int]:
    asked = [TopicPartition(*where) for where in found]
    committed = {(tp.topic, tp.partition): tp.offset for tp in consumer.committed(asked, TIMEOUT_S)}
    return {where: max(first, committed[where]) for where, (first, _) in found.items()}


def _step(
    config: Config, consumer: Consumer, records: list[Record], reason: str, most: int, done: Redriven, dry_run: bool
) -> Redriven:
    """One batch, in transactions of BATCH letters."""
    written, cut, foreign = Counter(done.written), done.cut, done.foreign
    for part in _parts(records):
        chosen: list[Produce] = []
        seen: dict[int, int] = {}
        for record in part:
            if len(chosen) >= most:
                break
            seen[record.partition] = record.offset + 1
            if dead_letter_words(record)[0] != reason:
                continue
            again = restored(record)
            if again is None:
                is_cut = dead_letter_origin(record) is not None
                cut, foreign = cut + is_cut, foreign + (not is_cut)
            else:
                chosen.append(again)
        if not dry_run:
            _write(config, consumer, chosen, seen, reason)
        written.update(produce.topic for produce in chosen)
        most -= len(chosen)
    return Redriven(written, cut, foreign)


def _parts(records: list[Record]) -> Iterator[list[Record]]:
    return (records[first : first + BATCH] for first in range(0, len(records), BATCH))


def restored(record: Record) -> Produce | None:
    """The record that a dead letter was, with its origin as a header; None where its value was cut, or it is none."""
    origin = dead_letter_origin(record)
    headers = dict(record.headers or ())
    if origin is None or "stream_ml.value.sha256" in headers:
        return None
    kept = [header for header in record.headers if not header[0].startswith(OURS)]
    came = f"{record.topic}:{record.partition}:{record.offset}".encode()
    return Produce(origin[0], origin[1], record.key, record.value, [*kept, (FROM, came)])


def _write(config: Config, consumer: Consumer, records: list[Produce], seen: dict[int, int], reason: str) -> None:
    offsets = [TopicPartition(config.dead_letters, partition, offset) for partition, offset in seen.items()]
    made = producer(config, f"{config.transactional_id}-redrive-{reason}")
    refused: list[str] = []
    try:
        made.init_transactions(TIMEOUT_S)
        made.begin_transaction()
        for produce in records:
            made.produce(
                produce.topic,
                produce.value,
                produce.key,
                produce.partition,
                headers=list(produce.headers),
                on_delivery=lambda error, _: refused.append(error.str()) if error else None,
            )
            made.poll(0)
        made.flush(TIMEOUT_S)
        made.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), TIMEOUT_S)
        made.commit_transaction(TIMEOUT_S)
    except KafkaException as exception:
        why = refused[0] if refused else error_of(exception).str()
        raise TransientError(f"dead letters were not redriven: {why}", "the same command goes on with them") from None
