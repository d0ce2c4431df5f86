"""When the end of the training log was heard of last: asked all the time, beside the loop.

A consumer says that a partition has ended once, and not again while nothing comes: one that is cut off from Kafka looks
like one whose log is quiet (librdkafka issue 2991). So Kafka is asked for the end of what is committed.
"""

import logging
import threading
import time
from typing import NamedTuple

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from stream_ml.config import Config
from stream_ml.kafka.clients import admin
from stream_ml.kafka.errors import outage
from stream_ml.kafka.topics import TopicFacts, made_anew

log = logging.getLogger(__name__)

LOOK_S = 1.0  # between two questions
ANSWER_S = 1.0  # for an answer
SAME_EVERY = 10  # questions between two looks whether the topic is still the same


class Heard(NamedTuple):
    """An answer.

    Parameters
    ----------
    asked_s
        When the question was asked (monotonic clock): the end is at least as new as that.
    end
        Of what is committed.
    """

    asked_s: float
    end: int


class LogHeartbeat:
    """Asks in a thread of its own. `heard` is replaced as a whole, so reading it needs no lock.

    Attributes
    ----------
    heard
        The last answer; None before the first.
    wrong
        Why the log can no longer be followed; empty while it can.
    """

    def __init__(self, config: Config, facts: TopicFacts) -> None:
        self._client: AdminClient = admin(config)
        self._where = TopicPartition(config.training_log_topic, 0)
        self._topic_id = facts.training_log_topic_id
        self._stopped, self._knows_leader = threading.Event(), False
        self.heard: Heard | None = None
        self.wrong = ""

    def begin(self) -> None:
        """Ask all the time, in a thread that the end of the process does not wait for."""
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _run(self) -> None:
        asked = 0
        while not self._stopped.wait(LOOK_S if asked else 0.0):
            began_s = time.monotonic()
            try:
                self.heard = Heard(began_s, self._end())
                outage.over()
                if asked % SAME_EVERY == 0:
                    self.wrong = self._changed()
            except KafkaException as error:  # it is away: what is known grows old
                self._knows_leader = False  # else it asks with the leader's old epoch for ever
                log.debug("the end of %s cannot be read now: %s", self._where.topic, error)
            except Exception:  # what nobody foresaw must not end the watch in silence
                log.exception("the end of %s cannot be read", self._where.topic)
            asked += 1

    def _end(self) -> int:
        if not self._knows_leader:
            self._client.list_topics(self._where.topic, timeout=ANSWER_S)
            self._knows_leader = True
        answers = self._client.list_offsets(
            {self._where: OffsetSpec.latest()},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=ANSWER_S,
        )
        return int(answers[self._where].result().offset)

    def _changed(self) -> str:
        """Why the topic is another one than at the start; empty where it is not."""
        topic = self._where.topic
        found = self._client.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_S)[topic].result()
        return made_anew(topic) if str(found.topic_id) != self._topic_id else ""
