"""Records at fixed times, whatever the service does: an open loop.

The time at which a record is due is fixed beforehand, and every latency counts from it. A sender that was held up
sends late and the delay counts, so nothing is left out when the system is slow (coordinated omission).
"""

import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import Producer

from benchmarks.cluster import Topics
from benchmarks.load import Source

LABEL_AFTER_S = 2.0  # a label is due so long after its event was
LABEL_EVERY = 10  # so-manieth event gets a label
NAP_S = 0.0005
PRODUCER = {"acks": "all", "linger.ms": 5, "log_level": 0}
"""The client's defaults, but not idempotent: with its five requests in flight and more to send, librdkafka's thread
turns without a pause (83 % of a core, measured with 2.16). The broker on the same core then came to a stand. With a
linger of 1 ms instead of 5 a busy broker takes longer for a request than the next one takes to come."""


class Due(NamedTuple):
    """A record and the host's time at which it must be sent."""

    at_s: float
    is_label: bool
    number: int


class Schedule(NamedTuple):
    """Events at a rate, each so-manieth with a label later."""

    start_s: float
    rate: float
    seconds: float
    label_every: int = LABEL_EVERY

    def event_at(self, number: int) -> float:
        """When event `number` is due."""
        return self.start_s + number / self.rate

    def label_at(self, number: int) -> float:
        """When the label of event `number` is due."""
        return self.event_at(number) + LABEL_AFTER_S

    def __iter__(self) -> Iterator[Due]:  # type: ignore[override]
        """Records in the order of their times; labels that would come after the end are left out."""
        label, behind = 0, round(LABEL_AFTER_S * self.rate)
        for number in range(round(self.seconds * self.rate)):
            yield Due(self.event_at(number), False, number)
            if number - behind >= label:
                yield Due(self.label_at(label), True, label)
                label += self.label_every


class Sender(threading.Thread):
    """Sends a schedule; `late_s` is how far behind it ever was."""

    def __init__(self, servers: str, topics: Topics, schedule: Schedule) -> None:
        super().__init__(daemon=True)
        self._topics, self._schedule = topics, schedule
        self._producer = Producer({"bootstrap.servers": servers, **PRODUCER})
        self._source = Source()
        self.late_s, self.events, self.labels, self.failed = 0.0, 0, 0, ""

    def run(self) -> None:
        try:
            for due in self._schedule:
                self._wait(due.at_s)
                self._send(due)
            self._producer.flush(30)
        except Exception as error:  # of a thread: its case says so
            self.failed = repr(error)

    def _wait(self, at_s: float) -> None:
        now_s = time.time()
        while now_s < at_s:
            self._producer.poll(0)
            time.sleep(min(NAP_S, at_s - now_s))  # until it is due
            now_s = time.time()
        self.late_s = max(self.late_s, now_s - at_s)

    def _send(self, due: Due) -> None:
        at_ms = int(due.at_s * 1000)
        if due.is_label:
            key, value = self._source.label(due.number, at_ms)
            self._producer.produce(self._topics.labels, value, key, timestamp=at_ms)
            self.labels += 1
        else:
            key, value = self._source.event(due.number, at_ms)
            self._producer.produce(self._topics.events, value, key, timestamp=at_ms)
            self.events += 1
