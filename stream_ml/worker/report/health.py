"""Whether a worker is alive, and whether Kafka answers it: read by other threads, while the loop stands in a call."""

import time

from stream_ml.config import Config
from stream_ml.kafka.access.refusals import refusals, words_of
from stream_ml.kafka.topic_watch import TopicWatch

SILENT_S = 3.0  # without an answer of Kafka, which is asked several times a second
HANGS_S = 20.0  # the loop stands still for as long in no transaction but one that will fail


class Health:
    """Signs of life: the loop's own, and Kafka's answers to the watch of topics."""

    def __init__(self, config: Config, topics: TopicWatch) -> None:
        self._config, self._topics = config, topics
        self._alive_s = time.monotonic()
        self.stopping = ""  # why, once the worker was told to

    def alive(self) -> None:
        """The loop turns, or reads while it rebuilds."""
        self._alive_s = time.monotonic()

    @property
    def loop_silent_s(self) -> float:
        """How long the loop has given no sign of life."""
        return time.monotonic() - self._alive_s

    @property
    def silent_s(self) -> float:
        """How long Kafka has not answered anything."""
        return time.monotonic() - self._topics.verdict.answered_s

    @property
    def is_silent(self) -> bool:
        """Whether Kafka has not answered for too long."""
        return self.silent_s > SILENT_S

    @property
    def silence(self) -> str:
        """Kafka's silence in words, with why, as far as a client has heard it."""
        where, refusal = self._config.kafka.bootstrap_servers, refusals.recent
        why = "" if refusal is None else f": {words_of(refusal, self._config, asks=False)[0]}"
        return f"Kafka at {where} has not answered for {self.silent_s:.0f} s{why}"

    def wrong(self) -> list[str]:
        """Why this worker is not ready, as far as that can be seen from outside of its loop."""
        if self.stopping:
            return [f"stopping, because of {self.stopping}: what is committed is learned, then a checkpoint"]
        if self.is_silent:
            return [self.silence]
        found = self._topics.verdict.reasons
        if not found and self.loop_silent_s > HANGS_S:
            found = [f"the loop has not turned for {self.loop_silent_s:.0f} s"]
        return found
