"""Whether the topics of the app are still those that were there at the start: asked all the time, beside the loop.

A topic that is gone, was made anew or has grown gives errors that name nothing, minutes later, or none at all: a
consumer reads on at its old offset in a new topic. So Kafka's own ids and partition counts are compared. It happens in
a thread of its own, because the loop may stand in a transaction for as long as such a topic takes to fail.
"""

import logging
import threading
import time
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from stream_ml.config import Config
from stream_ml.kafka.clients import TIMEOUT_S
from stream_ml.kafka.errors import UNREACHABLE, absent, error_of
from stream_ml.kafka.topics import TopicFacts, made_anew, partitioned, uneven, wanted_topics

log = logging.getLogger(__name__)

LOOK_S = 0.25  # between two questions: a request of all topics, 0.7 ms of CPU here (measured)


class Verdict(NamedTuple):
    """What is wrong with the topics.

    Parameters
    ----------
    blocking
        Why nothing may be read or written, in words, each with what to type.
    uneven
        Why not every partition can be worked on; those that all topics have go on.
    warnings
        What is to be reported besides.
    partitions
        How many all topics have that need one for each of the events'.
    asked_s, answered_s
        When the question was asked that this answers, and when the answer came; monotonic.
    """

    blocking: tuple[str, ...]
    uneven: tuple[str, ...]
    warnings: tuple[str, ...]
    partitions: int
    asked_s: float
    answered_s: float

    @property
    def reasons(self) -> list[str]:
        """Why the worker is not ready."""
        return [*self.blocking, *self.uneven]


class Seen(NamedTuple):
    """One answer: ids and partitions of the topics that are there, and why others could not be looked at."""

    ids: dict[str, str]
    counts: dict[str, int]
    refused: dict[str, str]


class TopicWatch:
    """Compares the topics with those of the start. `verdict` is replaced as a whole, so reading it needs no lock."""

    def __init__(self, config: Config, client: AdminClient, facts: TopicFacts) -> None:
        self._config, self._client = config, client
        self._names = [topic.name for topic in wanted_topics(config)]
        self._read = (config.events.topic, config.feedback.topic, config.training_log_topic)
        self._ids = dict(facts.ids)
        self._anew: set[str] = set()
        self._missing: list[str] = []
        self._answered = threading.Condition()
        self._asked_now, self._stopped = threading.Event(), False
        now_s = time.monotonic()
        self.verdict = Verdict((), (), (), facts.partitions, now_s, now_s)

    def begin(self) -> None:
        """Look all the time, in a thread that the end of the process does not wait for."""
        threading.Thread(target=self._run, name="topics", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._stopped = True
        self._asked_now.set()

    def after(self, moment_s: float, wait_s: float) -> Verdict:
        """The verdict of a question asked after this moment, waited for; the last one where none comes in time."""
        self._asked_now.set()
        with self._answered:
            self._answered.wait_for(lambda: self.verdict.asked_s >= moment_s, wait_s)
        return self.verdict

    def _run(self) -> None:
        while not self._stopped:
            self._asked_now.wait(LOOK_S)
            self._asked_now.clear()
            try:
                self._look()
            except Exception:  # what nobody foresaw must not end the watch in silence
                log.exception("the topics cannot be looked at")
                time.sleep(LOOK_S)

    def _look(self) -> None:
        """Ask and judge; while Kafka is away what was known stays."""
        asked_s = time.monotonic()
        now = Seen({}, {}, {})
        try:
            for name, future in self._asked().items():
                try:
                    found = future.result()
                except KafkaException as exception:
                    error = error_of(exception)
                    if error.code() in UNREACHABLE:
                        raise
                    if not absent(error):
                        now.refused[name] = error.str()
                else:
                    now.ids[name], now.counts[name] = str(found.topic_id), len(found.partitions)
        except KafkaException:
            return
        known, verdict = self.verdict, self._judged(now, asked_s)
        for text in (*verdict.reasons, *verdict.warnings):
            if text not in (*known.reasons, *known.warnings):
                log.error("%s", text)
        with self._answered:
            self.verdict = verdict
            self._answered.notify_all()

    def _asked(self) -> dict[str, Future[Any]]:
        asked: dict[str, Future[Any]] = self._client.describe_topics(
            TopicCollection(self._names), request_timeout=TIMEOUT_S
        )
        return asked

    def _judged(self, now: Seen, asked_s: float) -> Verdict:
        ids, counts = now.ids, now.counts
        missing = [name for name in self._names if name not in ids and name not in now.refused]
        gone = [name for name in missing if name in self._missing]  # one that was just made may look so once
        self._missing = missing
        self._anew |= {name for name, id_ in ids.items() if self._ids.setdefault(name, id_) != id_}
        blocking = [f"topic {name} is gone; type stream-ml topics create CONFIG" for name in gone]
        blocking += [made_anew(name) for name in self._read if name in self._anew]
        warnings = [
            f"topic {name} was deleted and recreated while this worker ran: what it held before is gone"
            for name in self._names
            if name in self._anew and name not in self._read
        ]
        warnings += [f"topic {name} cannot be looked at: {why}" for name, why in now.refused.items()]
        said, partitions = self.verdict.uneven, self.verdict.partitions
        if len(counts) == len(self._names):
            said = tuple(f"{text}; {hint}" for text, hint in uneven(self._config, counts))
            partitions = min(counts[name] for name in partitioned(self._config))
        return Verdict(tuple(blocking), said, tuple(warnings), partitions, asked_s, time.monotonic())
