"""Dead letters back to where they came from, each once: produced and noted in one transaction.

What has been looked at is the committed offset of a group of its own for each reason, ``<app>.redrive.<reason>``. It
moves in the transaction that writes the records, so a redrive that dies has done nothing or all of its part. One
transactional id for each reason, whoever asks: a second redrive fences the first before it reads where that was.
"""

import contextlib
import time
from collections import Counter
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from stream_ml.admin.origins import Origins, Place
from stream_ml.config import Config
from stream_ml.core.partition.outputs import CUT, FORMAT_HEADER, dead_letter_origin, dead_letter_words
from stream_ml.errors import ConfigError, TransientError
from stream_ml.kafka.clients import TIMEOUT_S, admin, close_within, producer, reader
from stream_ml.kafka.committed import committed_offsets
from stream_ml.kafka.errors import error_of, reaching
from stream_ml.kafka.messages import record_of
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.newest import partitions_of
from stream_ml.kafka.reading.ranges import Where, read_ranges
from stream_ml.kafka.retries import asked
from stream_ml.records import NOT_UNPACKED, Produce, Record

FROM = "stream_ml.redriven.from"  # header: dead-letter topic, partition and offset
OURS = ("__connect.errors.", "stream_ml.value.", FORMAT_HEADER, FROM)
BATCH = 1_000  # dead letters in one transaction
FRESH_S = 6 * 86_400.0  # less than offsets.retention.minutes, a week by default


class Redriven(NamedTuple):
    """What was done, by topic, and of which dead letters nothing was.

    `cut` ones have lost a part, `foreign` ones name no record of the app's inputs or another one than they hold, and
    what `unproven` ones name was deleted.
    """

    written: Counter[str]
    cut: int = 0
    foreign: int = 0
    unproven: int = 0


def redrive(
    config: Config, reason: str, most: int, *, dry_run: bool, old: bool = False, unproven: bool | None = None
) -> Redriven:
    """Write dead letters of one reason, which nobody has redriven yet, to their topics again, `most` at most.

    Each is compared with the record that it says it was. Kafka forgets the offsets of a group without members after a
    week. So where there are none, only those of the last FRESH_S are looked at, which no redrive that was forgotten
    can have written; `old`: all.

    Parameters
    ----------
    unproven
        Whether dead letters are written, too, whose record retention has deleted; None: the first such ends it.

    Raises
    ------
    ConfigError
        Such a dead letter was met, and nobody has said what to do with it; the transactions before its own stand.
    TransientError
        A transaction was not committed; what it held is redriven by the next call.
    """
    done = Redriven(Counter())
    consumer = reader(config, **{"group.id": f"{config.app.id}.redrive.{reason}"})
    writer = producer(config, f"{config.app.id}-redrive-{reason}")
    try:
        with reaching(config):
            asked(
                lambda: writer.init_transactions(TIMEOUT_S)
            )  # fences another redrive, or ends it, before its offsets are read
            places = partitions_of(config, config.dead_letters)
            found = ends(admin(config), places)
            ranges = {where: (start, found[where][1]) for where, start in _starts(consumer, found, old=old).items()}
            inputs = {*partitions_of(config, config.events.topic), *partitions_of(config, config.feedback.topic)}
            write = None if dry_run else _Writer(config, writer, consumer)
            with contextlib.closing(Origins(config, inputs)) as origins:
                sort = _Sorting(inputs, origins, reason, unproven=False if dry_run and unproven is None else unproven)
                for batch in read_ranges(config, ranges, keep_alive=lambda: None):
                    left = most - sum(done.written.values())
                    if left <= 0:
                        break
                    done = _step([record_of(message) for message in batch], sort, left, done, write)
    finally:
        close_within(consumer)
    return done


def _starts(
    consumer: Consumer, found: dict[tuple[str, int], tuple[int, int]], *, old: bool
) -> dict[tuple[str, int], int]:
    places = [TopicPartition(*where) for where in found]
    committed = {(tp.topic, tp.partition): tp.offset for tp in committed_offsets(consumer, places, TIMEOUT_S)}
    since_ms = 0 if old else int(1000 * (time.time() - FRESH_S))
    moments = [TopicPartition(*where, since_ms) for where in found]
    times = asked(lambda: consumer.offsets_for_times(moments, TIMEOUT_S), made=True)
    fresh = {(tp.topic, tp.partition): tp.offset for tp in times}
    starts = {}
    for where, (first, end) in found.items():
        unknown = fresh[where] if fresh[where] >= 0 else end
        starts[where] = max(first, committed[where] if committed[where] >= 0 else unknown)
    return starts


def _step(dead_letters: list[Record], sort: "_Sorting", most: int, done: Redriven, write: "_Writer | None") -> Redriven:
    """One batch, in transactions of BATCH dead letters."""
    written, counts = Counter(done.written), Counter(dict(zip(_COUNTED, done[1:], strict=True)))
    for first in range(0, len(dead_letters), BATCH):
        chosen: list[Produce] = []
        seen: dict[int, int] = {}
        some = dead_letters[first : first + BATCH]
        sort.look_up(some)
        for record in some:
            if len(chosen) >= most:
                break
            seen[record.partition] = record.offset + 1
            again = sort.judged(record)
            if isinstance(again, Produce):
                chosen.append(again)
            else:
                counts[again] += 1
        if write is not None:
            write.transaction(chosen, seen)
        written.update(produce.topic for produce in chosen)
        most -= len(chosen)
    return Redriven(written, **{name: counts[name] for name in _COUNTED})


_COUNTED = Redriven._fields[1:]


class _Sorting:
    """Says which dead letters are to be written, and of the others why not.

    `inputs` are the partitions that may be written to.
    """

    def __init__(self, inputs: set[Where], origins: Origins, reason: str, *, unproven: bool | None) -> None:
        self._inputs, self._origins, self._reason, self._unproven = inputs, origins, reason, unproven
        self._there: dict[Place, Record] = {}

    def look_up(self, dead_letters: list[Record]) -> None:
        """Read the records that these say they were, all at once."""
        places = (self._place(record) for record in dead_letters)
        self._there = self._origins.records(place for place in places if place is not None)

    def _place(self, record: Record) -> Place | None:
        """Where a dead letter of the reason says that it was, in one of the inputs."""
        origin = dead_letter_origin(record)
        ours = origin is not None and origin[:2] in self._inputs and dead_letter_words(record)[0] == self._reason
        return origin if ours else None

    def judged(self, record: Record) -> Produce | str:
        """What is written for a dead letter that was looked up; else a counted kind, or `other`.

        ConfigError as of `redrive`.
        """
        if dead_letter_words(record)[0] != self._reason:
            return "other"
        place = self._place(record)
        if place is None:
            return "foreign"
        again = restored(record)
        if again is None:
            return "cut"
        if self._origins.deleted(place):
            if self._unproven is None:
                where = f"dead letter {record.partition}:{record.offset} was {place[0]} [{place[1]}] {place[2]}"
                raise ConfigError(
                    f"{where}, which retention has deleted: nothing proves that it was so",
                    "--unproven writes such dead letters all the same, --no-unproven passes them over",
                )
            return again if self._unproven else "unproven"
        return again if _content(again) == _content(self._there.get(place)) else "foreign"


def _content(record: Record | Produce | None) -> Any:
    """What two records have in common that are the same but for their places and our headers."""
    if record is None:
        return None
    return record.key, record.value, [header for header in record.headers or () if not header[0].startswith(OURS)]


def restored(record: Record) -> Produce | None:
    """The record that a dead letter was, with its origin as a header; None where some of it was cut, or it is none."""
    origin = dead_letter_origin(record)
    if origin is None or {name for name, _ in record.headers} & {*CUT, NOT_UNPACKED}:
        return None
    kept = [header for header in record.headers if not header[0].startswith(OURS)]
    came = f"{record.topic}:{record.partition}:{record.offset}".encode()
    return Produce(origin[0], origin[1], record.key, record.value, [*kept, (FROM, came)])


class _Writer:
    """Writes records and notes what was looked at, in one transaction."""

    def __init__(self, config: Config, made: Producer, consumer: Consumer) -> None:
        self._config, self._made, self._consumer = config, made, consumer

    def transaction(self, records: list[Produce], seen: dict[int, int]) -> None:
        """Write these, and that dead letters up to these offsets of each partition are done with."""
        made, refused = self._made, list[str]()
        offsets = [TopicPartition(self._config.dead_letters, partition, offset) for partition, offset in seen.items()]
        try:
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
            made.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), TIMEOUT_S)
            made.commit_transaction(TIMEOUT_S)
        except KafkaException as exception:
            with contextlib.suppress(KafkaException):  # else what it holds waits for the transaction's timeout
                made.abort_transaction(TIMEOUT_S)
            why = refused[0] if refused else error_of(exception).str()
            raise TransientError(
                f"dead letters were not redriven: {why}", "another redrive at work? the same command goes on with them"
            ) from None
