"""Records into a topic, each once, by a process that may end at any time: how far it is goes with them.

As with a partition's state (docs/adr, 0005) the progress is a text in the metadata of a committed offset: of a group
that nobody joins, on partition 0 of the topic that is written. So records and progress are of one transaction, and the
next process goes on behind what is there.
"""

import json
import secrets
from typing import Any

from confluent_kafka import TopicPartition

from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError
from stream_ml.kafka.clients import TIMEOUT_S, admin, reader, topics_there
from stream_ml.kafka.committed import committed_offsets
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.topics import record_bytes_of, wanted_topics
from stream_ml.kafka.writing.transaction import RECORD_REFUSED, Ending, Transactor
from stream_ml.records import Block

BYTES_MAX = 3_900  # of a progress: Kafka's own limit is offset.metadata.max.bytes, 4,096 by default
TRIES = 5  # of one transaction


class ProgressWriter:
    """Writes into one topic under one name; a second process of this name is refused as soon as both write.

    Parameters
    ----------
    work
        Names the work: group and transactional id are ``<app>.predict.<work>``.

    Attributes
    ----------
    progress
        What was written with the last transaction; empty before the first.

    Raises
    ------
    ConfigError
        There is no such topic, or it is one of the app's own.
    """

    def __init__(self, config: Config, topic: str, work: str) -> None:
        check_topic(config, topic)
        self._config, self._topic = config, topic
        name = f"{config.app.id}.predict.{work}"
        with reaching(config):
            self._transactor = Transactor(config, record_bytes_of(config, topic), None, name)
            self._reader = reader(config, **{"group.id": name})
            self._group = self._reader.consumer_group_metadata()
        self._token, self.progress = self._committed()

    def _committed(self) -> tuple[str, dict[str, Any]]:
        """Token and progress as they are committed."""
        with reaching(self._config):
            (found,) = committed_offsets(self._reader, [TopicPartition(self._topic, 0)], TIMEOUT_S)
        try:
            said = json.loads(found.metadata or "{}")
            return str(said.get("token", "")), dict(said.get("progress", {}))
        except (ValueError, TypeError, AttributeError):
            return "", {}

    def write(self, block: Block, progress: dict[str, Any]) -> None:
        """Records and how far the work is then, in one transaction.

        Raises
        ------
        FatalError
            Kafka takes it in none of TRIES times, a record is too large, or another process does the same work.
        """
        token = secrets.token_hex(8)
        text = json.dumps({"token": token, "progress": progress}, separators=(",", ":"))
        if len(text) > BYTES_MAX:
            raise FatalError(
                f"the progress takes {len(text):,} bytes, and {BYTES_MAX:,} are kept",
                "name fewer files, or a shorter time",
            )
        offset = TopicPartition(self._topic, 0, 0, text)
        for _ in range(TRIES):
            ending = self._transactor.run([block], [offset], self._group)
            if ending is Ending.UNKNOWN:
                self._transactor.open()
            if ending is Ending.COMMITTED or self._is_committed(token):
                self._token, self.progress = token, progress
                return
            refused = [one for one in self._transactor.refused if one.code() in RECORD_REFUSED]
            if refused:
                raise FatalError(f"{self._topic} does not take a prediction: {refused[0].str()}", "name another --out")
        raise FatalError(f"{self._topic} could not be written in {TRIES} tries", "the same command goes on")

    def _is_committed(self, token: str) -> bool:
        """Whether a transaction that did not say so was committed; FatalError where another process did one since."""
        found, _ = self._committed()
        if found not in (token, self._token):
            raise FatalError(f"another process writes the same into {self._topic}", "let one of them do it")
        return found == token

    def close(self) -> None:
        """Let go of Kafka."""
        self._transactor.close()
        self._reader.close()


def check_topic(config: Config, topic: str) -> None:
    """Raise ConfigError where a topic is not there, or is one that the app itself writes or reads."""
    if topic in {wanted.name for wanted in wanted_topics(config)}:
        raise ConfigError(f"{topic} is a topic of the app itself", "name one that is for these predictions alone")
    with reaching(config):
        there = topics_there(admin(config)).topics
    if topic not in there:
        raise ConfigError(f"there is no topic {topic}", "create it with as many partitions as its readers need")
