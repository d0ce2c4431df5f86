"""What became of a label, by the topics themselves: an example of the training log, an outcome, a dead letter.

All that a label can become is written after it. So each of the three topics is read from the label's own time on, up to
a number of records; what has not been found in them is not known yet.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from stream_ml.config import Config
from stream_ml.core.log.entry import decode_entry
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.partition.outputs import dead_letter_origin, dead_letter_words, decode_outcome
from stream_ml.kafka.clients import admin, topics_there
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.messages import record_of
from stream_ml.kafka.reading.ends import ends, since
from stream_ml.kafka.reading.log_reader import is_sealed
from stream_ml.kafka.reading.ranges import read_messages

READ_MAX = 200_000  # records of one topic that are looked at; of a training log that is two seconds
MARGIN_MS = 60_000  # that the clocks of two hosts may differ by

log = logging.getLogger(__name__)

Found = dict[str, Any]


class Where(NamedTuple):
    """A label's record."""

    partition: int
    offset: int


class LabelReader:
    """Looks labels up; its calls block, so they belong into a thread of their own."""

    def __init__(self, config: Config, seal: LogSeal | None) -> None:
        self._config, self._seal = config, seal
        self._client: AdminClient = admin(config)
        self._partitions: frozenset[int] = frozenset()

    def look(self, label: Where) -> Found | None:
        """What is known of a label; None where there is none.

        Returns
        -------
        dict
            `state`: example (with the `position` that it is learned with), outcome (with `outcome`), dead_letter (with
            `reason`), or waiting.

        Raises
        ------
        TransientError
            Kafka does not answer; the caller asks again.
        """
        config = self._config
        with reaching(config):
            if not self._has(label.partition):
                return None
            own = config.feedback.topic, label.partition
            first, end = ends(self._client, [own])[own]
            if not first <= label.offset < end:
                return None
            record = self._first(*own, label.offset, label.offset + 1, lambda one: one)
            if record is None:
                return None
            written_ms = record.timestamp()[1]
            looks: Mapping[tuple[str, int], Callable[[Message], Found | None]] = {
                (config.outcomes, label.partition): lambda one: _outcome(one, label.offset),
                (config.dead_letters, label.partition): lambda one: self._dead(one, label),
                (config.training_log_topic, 0): lambda one: self._example(one, label),
            }
            held = since(self._client, list(looks), written_ms - MARGIN_MS)
            for (topic, partition), judge in looks.items():
                start, stop = held[topic, partition]
                found: Found | None = self._first(topic, partition, start, min(stop, start + READ_MAX), judge)
                if found is not None:
                    return found
        return {"state": "waiting"}

    def _has(self, partition: int) -> bool:
        """Whether the topic of labels has this partition. Of one that is not there the ends are asked for again and
        again, for ten seconds, and a receipt may say any number."""
        if partition not in self._partitions:
            topic = topics_there(self._client).topics.get(self._config.feedback.topic)
            self._partitions = frozenset(topic.partitions if topic is not None else ())
        return partition in self._partitions

    def _first(self, topic: str, partition: int, start: int, stop: int, judge: Callable[[Message], Any]) -> Any:
        for batch in read_messages(self._config, topic, partition, start, stop, keep_alive=lambda: None):
            for message in batch:
                found = judge(message)
                if found is not None:
                    return found
        return None

    def _dead(self, message: Message, label: Where) -> Found | None:
        record = record_of(message)
        if dead_letter_origin(record) != (self._config.feedback.topic, *label):
            return None
        return {"state": "dead_letter", "reason": dead_letter_words(record)[0]}

    def _example(self, message: Message, label: Where) -> Found | None:
        try:
            entry = decode_entry(message.value() or b"")
        except ValueError:
            return None
        is_it = entry.kind == "example" and (entry.source_partition, entry.feedback_offset) == label
        if not is_it or not is_sealed(record_of(message), self._seal):
            return None
        return {"state": "example", "position": message.offset() + 1, "id": entry.event_id}


def _outcome(message: Message, offset: int) -> Found | None:
    try:
        found = decode_outcome(message.value() or b"")
    except ValueError:
        return None
    if found["feedback_offset"] != offset:
        return None
    return {"state": "outcome", "outcome": found["outcome"], "id": found["event_id"]}
