"""The embedded Kafka on its own core, and the harness's side of it: topics, loads, ends, what stands in an output."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from confluent_kafka import Consumer, IsolationLevel, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from benchmarks.load import Load, Pair
from benchmarks.machine import cores, pinned
from stream_ml.embedded.broker import EmbeddedKafka

REQUEST_S = 30.0
FLUSH_S = 120.0
HEAP = "1g"  # 64 partitions of several topics, 600,000 records in flight; what Kafka itself asks for by default
READING = {
    "group.id": "harness",
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "enable.partition.eof": True,  # an end of a partition comes as an error
    "log_level": 0,
}
PRODUCER = {"enable.idempotence": True, "linger.ms": 5, "log_level": 0}


class Topics(NamedTuple):
    """Topics of one run, all with as many partitions."""

    prefix: str
    partitions: int

    @property
    def events(self) -> str:
        return f"{self.prefix}-events"

    @property
    def labels(self) -> str:
        return f"{self.prefix}-labels"

    @property
    def predictions(self) -> str:
        return f"{self.prefix}-predictions"


class Counted(NamedTuple):
    """Committed records of a topic, and how many different keys they have."""

    records: int
    keys: int


class Cluster:
    """One broker. Records are produced with one partitioner (librdkafka's default) to both inputs."""

    def __init__(self, folder: Path, *, anywhere: bool = False) -> None:
        self.folder = folder
        self._core = None if anywhere else cores().others
        self._kafka = EmbeddedKafka(folder, heap=HEAP)
        self.servers = ""
        self._runs = 0

    def __enter__(self) -> Self:
        with pinned(self._core):
            self._kafka.start()
        self.servers = self._kafka.bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        return self

    def __exit__(self, *_: object) -> None:
        self._kafka.stop()

    def fresh(self, case: str, partitions: int) -> Topics:
        """Names that no run has had yet; the topics of events and labels are made."""
        self._runs += 1
        topics = Topics(f"run{self._runs}-{case}", partitions)
        self.create(topics.events, topics.labels, partitions=partitions)
        return topics

    def create(self, *names: str, partitions: int) -> None:
        made = self._admin.create_topics([NewTopic(name, partitions) for name in names], request_timeout=REQUEST_S)
        for future in made.values():
            future.result()
        deadline = time.monotonic() + REQUEST_S  # a broker that is busy deleting shows them later
        while not set(names) <= self._admin.list_topics(timeout=REQUEST_S).topics.keys():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{', '.join(names)}: made, and not to be seen after {REQUEST_S:.0f} s")
            time.sleep(0.05)  # between two looks; the deadline decides

    def drop(self, topics: Topics) -> None:
        """Delete every topic of a run, so that the disk stays small."""
        names = [name for name in self._admin.list_topics(timeout=REQUEST_S).topics if name.startswith(topics.prefix)]
        for future in self._admin.delete_topics(names, request_timeout=REQUEST_S).values():
            future.result()

    def fill(self, topics: Topics, load: Load) -> None:
        """Produce a whole load: a backlog."""
        self.produce(topics.events, load.events)
        self.produce(topics.labels, load.labels)

    def produce(self, topic: str, records: Iterable[Pair]) -> None:
        producer = Producer({"bootstrap.servers": self.servers, **PRODUCER})
        for key, value in records:
            while True:
                try:
                    producer.produce(topic, value, key)
                    break
                except BufferError:
                    producer.poll(0.05)
        if producer.flush(FLUSH_S):
            raise RuntimeError(f"{topic}: records could not be produced within {FLUSH_S:.0f} s")

    def ended(self, topic: str, partitions: int) -> int:
        """Sum of a topic's ends, records of open transactions and transaction markers among them; 0 without it."""
        wanted = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(partitions)}
        level = IsolationLevel.READ_UNCOMMITTED
        try:
            found = self._admin.list_offsets(wanted, isolation_level=level, request_timeout=REQUEST_S)
            return sum(future.result().offset for future in found.values())
        except KafkaException:
            return 0  # made by the process itself, and not there yet

    def committed(self, topic: str) -> Iterator[Message]:
        """Every committed record of a topic, partition by partition in order."""
        consumer = Consumer({"bootstrap.servers": self.servers, **READING})
        partitions = list(consumer.list_topics(topic, timeout=REQUEST_S).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        left = len(partitions)
        while left:
            for record in consumer.consume(10_000, 1.0):
                if record.error() is None:
                    yield record
                else:
                    left -= 1
        consumer.close()

    def count(self, topic: str) -> Counted:
        """Committed records and keys: what was lost and what is there twice can be told."""
        records, keys = 0, set()
        for record in self.committed(topic):
            records += 1
            keys.add(record.key())
        return Counted(records, len(keys))
