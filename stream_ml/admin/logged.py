"""The schemas that a training log holds, read from its beginning."""

import itertools

from stream_ml.config import Config
from stream_ml.core.log.entry import begins_as_schema, decode_entry
from stream_ml.core.log.logged_schemas import LoggedSchema
from stream_ml.core.log.seals import LogSeal
from stream_ml.kafka.clients import admin
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.messages import record_of
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import is_sealed
from stream_ml.kafka.reading.newest import partitions_of
from stream_ml.kafka.reading.ranges import read_messages


def logged_schemas(config: Config, seal: LogSeal | None) -> tuple[list[LoggedSchema], list[int]]:
    """Every schema in the log, in its order, and offsets of entries that say that they are one and are not.

    The whole log is read for it; errors as of `read_messages`.
    """
    found: list[LoggedSchema] = []
    false: list[int] = []
    topic = config.training_log_topic
    with reaching(config):
        first, end = ends(admin(config), partitions_of(config, topic)[:1])[topic, 0]
        batches = read_messages(config, topic, 0, first, end, keep_alive=lambda: None)
        for message in itertools.chain.from_iterable(batches):  # a batch is held, and not the log
            value = message.value() or b""
            try:
                if begins_as_schema(value) and is_sealed(record_of(message), seal):
                    found.append(LoggedSchema.of(decode_entry(value)))
            except ValueError:
                false.append(message.offset())
    return found, false
