"""Which training log it is: read from its first entry, before anything that hangs on it is made."""

import logging
import secrets
import time

from stream_ml.config import Config
from stream_ml.core.log.entry import decode_entry, encode_genesis
from stream_ml.core.log.identity import LogIdentity
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import ConfigError
from stream_ml.kafka.clients import admin
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import TopicFacts
from stream_ml.kafka.writing.commands import write_entry
from stream_ml.records import NOT_SEALED, Record
from stream_ml.storage.checkpoints import known_logs
from stream_ml.storage.keys import key_of, log_seal

log = logging.getLogger(__name__)


def identified(config: Config, facts: TopicFacts, *, make: bool) -> TopicFacts:
    """The facts with what the training log says of itself; parameters and errors as of `identity`."""
    return facts._replace(log=identity(config, facts.training_log_topic_id, make=make))


def identity(config: Config, topic_id: str, *, make: bool) -> LogIdentity:
    """What the training log says of itself.

    Parameters
    ----------
    topic_id
        Kafka's id of the log's topic.
    make
        Write it into a log that is empty. Of several that do so at once the first one holds for all.

    Raises
    ------
    ConfigError
        The log has entries, and does not begin with its identity; or it is empty, and nothing is to be made.
    """
    with reaching(config):
        seal = log_seal(config, topic_id)
        found = _read(config, topic_id, seal)
        if found is None and make:
            _write(config, seal)
            found = _read(config, topic_id, seal)
    if found is None:
        raise ConfigError(
            f"{config.training_log_topic} is empty: no worker has started yet",
            "start one: stream-ml run CONFIG",
        )
    return found


def _read(config: Config, topic_id: str, seal: LogSeal | None) -> LogIdentity | None:
    """What the first committed entry says; None in an empty log."""
    topic = config.training_log_topic
    first, end = ends(admin(config), [(topic, 0)])[topic, 0]
    if first > 0:  # what stands there now need not be what stood at the beginning
        return _remembered(config, topic_id, first)
    entry = _first_record(config, first, end)
    if entry is None:
        return None
    value = log_value(entry, seal)
    try:
        return LogIdentity.of(decode_entry(value))
    except ValueError as error:
        if value == NOT_SEALED.encode():
            raise ConfigError(
                f"the first entry of {topic} is not sealed with the key of training_log.key_file",
                "name where sealing begins: training_log.sealed_from",
            ) from None
        raise ConfigError(
            f"{topic} does not begin with its identity ({error}): a version before the first release wrote it, or "
            "somebody else",
            "take another app.id, or delete the topic where nothing in it is needed",
        ) from None


def _first_record(config: Config, first: int, end: int) -> Record | None:
    """The first committed record of the log; aborted ones before it say nothing."""
    for batch in read_range(config, config.training_log_topic, 0, first, end, keep_alive=_nothing):
        for record in batch:
            return record
    return None


def _remembered(config: Config, topic_id: str, first: int) -> LogIdentity:
    """Of a log whose beginning was deleted, as a checkpoint of it has it."""
    folder = config.path(config.checkpoints.directory)
    for of in known_logs(folder, key_of(config), unsealed=config.checkpoints.unsealed):
        if of.get("topic_id") == topic_id:
            return LogIdentity.named(of.get("id"), of.get("hash_key"))
    raise ConfigError(
        f"{config.training_log_topic} begins at {first}: its identity was deleted with its beginning, and "
        f"{folder} holds no checkpoint of it",
        f"put a checkpoint of it into {folder}, or take another app.id",
    )


def _write(config: Config, seal: LogSeal | None) -> None:
    now_ms = time.time_ns() // 1_000_000
    value = encode_genesis(
        secrets.token_hex(16),
        secrets.token_hex(16),
        config.app.id,
        written_at_ms=now_ms,
        writer=config.transactional_id,
    )
    at = write_entry(config, value, seal)
    log.info("%s has an identity from now on, at %d", config.training_log_topic, at)


def _nothing() -> None:
    """There is no group to stay in."""
