"""The schemas that a training log holds, read from its beginning."""

from stream_ml.config import Config
from stream_ml.core.log_entry import begins_as_schema, decode_entry
from stream_ml.core.written import LoggedSchema
from stream_ml.kafka.clients import admin, reaching
from stream_ml.kafka.reading import ends, read_messages
from stream_ml.kafka.tailing import partitions_of


def logged_schemas(config: Config) -> list[LoggedSchema]:
    """Every schema in the log, in its order. The whole log is read for it; errors as of `read_messages`."""
    topic = config.training_log
    with reaching(config):
        first, end = ends(admin(config), partitions_of(config, topic)[:1])[topic, 0]
        batches = read_messages(config, topic, 0, first, end, keep_alive=lambda: None)
        values = (message.value() or b"" for batch in batches for message in batch)
        return [LoggedSchema.of(decode_entry(value)) for value in values if begins_as_schema(value)]
