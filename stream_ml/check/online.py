"""What Kafka itself says: topics, retention, limits, permissions. Nothing is written and nothing is consumed."""

from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from stream_ml.check.durability import durability
from stream_ml.config import Config
from stream_ml.errors import Problems
from stream_ml.kafka.clients import FETCH_BYTES, TIMEOUT_S, admin, topics_there
from stream_ml.kafka.errors import error_of, reaching
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.topics import (
    Inspected,
    altered,
    broker_settings,
    inspected,
    kept_for,
    topic_problems,
    wanted_topics,
)
from stream_ml.runtime.memory import memory_bytes
from stream_ml.units import duration_text

EVENT_OVERHEAD = 4_096  # what an example takes beside the event that it holds
BATCH_BYTES = FETCH_BYTES  # of a packed batch, recommended where memory is 1 GiB: less than an answer has gains nothing
GZIP_MOST = 1_032  # times as large a batch may be unpacked. Source: zlib's technical details; no client bounds gzip
COPIES = 2  # of a batch: the client's and what is taken of it, which is one record after the other
RUNNING_BYTES = 250_000_000  # of a worker beside that, with a small model and few pending events


class Online(NamedTuple):
    """What was found; `facts` are lines for people.

    `notes` say what is not wrong and had better be known; `log_entries` is how many entries a new replica folds,
    `topics` those that exist.
    """

    problems: Problems
    facts: list[str]
    notes: list[str]
    log_entries: int
    topics: list[str]


def check_online(config: Config, downtime_ms: int) -> Online:
    """Everything that Kafka knows and `run` would stumble over, at once or one day.

    Parameters
    ----------
    downtime_ms
        The longest time that all workers may be down; what a rebuild reads must live longer.

    Raises
    ------
    TransientError
        Kafka does not answer.
    """
    client = admin(config)
    with reaching(config):
        found = inspected(config, client)
        problems = topic_problems(config, found)
        facts = [_topics_line(config, found)]
        _retention(config, found, downtime_ms, problems)
        _sizes(config, found, problems)
        _broker(config, client, downtime_ms, problems)
        cluster = topics_there(client)
        lasting = list(durability(cluster.topics, found.settings, len(cluster.brokers), list(found.counts)))
        for one in lasting:
            if not one.is_note:
                problems.add(one.text, one.hint)
        _permissions(config, client, found, problems)
        entries = 0
        if config.training_log_topic in found.counts:
            first, end = ends(client, [(config.training_log_topic, 0)])[config.training_log_topic, 0]
            entries = end - first
    notes = [*batch_notes(config, found, memory_bytes()), *(one.text for one in lasting if one.is_note)]
    return Online(problems, facts, notes, entries, list(found.counts))


def _topics_line(config: Config, found: Inspected) -> str:
    there = [topic.name for topic in wanted_topics(config) if topic.name in found.counts]
    partitions = found.counts.get(config.events.topic, 0)
    return (
        f"Kafka at {config.kafka.bootstrap_servers}: {len(there)} of 7 topics exist, {partitions} partitions of events"
    )


def _retention(config: Config, found: Inspected, downtime_ms: int, problems: Problems) -> None:
    """A rebuild reads what is younger than ttl + early_ttl, and workers may have been away meanwhile."""
    needed = kept_for(config, downtime_ms)
    for name in (
        config.events.topic,
        config.feedback.topic,
        config.predictions.topic,
        config.outcomes,
        config.dead_letters,
    ):
        settings = found.settings.get(name, {})
        kept = int(settings.get("retention.ms", "-1"))
        if 0 <= kept < needed:
            problems.add(
                f"{name} keeps records for {duration_text(kept)}; a rebuild after an outage may need "
                f"{duration_text(needed)} (ttl {duration_text(config.feedback.ttl)} + early_ttl "
                f"{duration_text(config.feedback.early_ttl)} + downtime {duration_text(downtime_ms)})",
                altered(name, f"retention.ms={needed}") + ", or a shorter --downtime",
            )
        if "compact" in settings.get("cleanup.policy", "delete"):
            problems.add(
                f"{name} is compacted: records that a rebuild reads would vanish",
                altered(name, "cleanup.policy=delete"),
            )


def _sizes(config: Config, found: Inspected, problems: Problems) -> None:
    def limit(name: str) -> int:
        return int(found.settings.get(name, {}).get("max.message.bytes", 0))

    events, log = limit(config.events.topic), limit(config.training_log_topic)
    if 0 < log < events:
        problems.add(
            f"{config.events.topic} takes records of {events} bytes and {config.training_log_topic} only of {log}: the "
            "largest events could be scored but not learned",
            altered(config.training_log_topic, f"max.message.bytes={events + EVENT_OVERHEAD}"),
        )


def bombed_bytes(batch: int) -> int:
    """Memory of a worker to which batches of this size come, packed as gzip and as large as that can be."""
    return RUNNING_BYTES + 2 * COPIES * GZIP_MOST * max(batch, FETCH_BYTES)


def batch_notes(config: Config, found: Inspected, memory: int) -> list[str]:
    """Input topics that take batches which, unpacked, may be more than this process has memory for."""
    notes = []
    for name in (config.events.topic, config.feedback.topic):
        batch = int(found.settings.get(name, {}).get("max.message.bytes", 0))
        if bombed_bytes(batch) > memory:
            notes.append(
                f"{name} takes batches of {batch} bytes, which as gzip may unpack to {GZIP_MOST} times as much: a "
                f"worker needs {bombed_bytes(batch) / 1e6:,.0f} MB of memory to bear that, and has "
                f"{memory / 1e6:,.0f}; where you do not trust its producers: "
                + altered(name, f"max.message.bytes={BATCH_BYTES}")
                + " (theirs is batch.size, then)"
            )
    return notes


def _broker(config: Config, client: AdminClient, downtime_ms: int, problems: Problems) -> None:
    """Limits of the cluster that the configuration must keep; a cluster that hides them is left alone."""
    settings = broker_settings(client)
    if not settings:
        return

    def number(name: str, otherwise: int) -> int:
        text = settings.get(name, "")
        return int(text) if text.lstrip("-").isdecimal() else otherwise

    delivery = config.delivery
    longest = number("transaction.max.timeout.ms", delivery.transaction_timeout)
    if delivery.transaction_timeout > longest:
        problems.add(
            f"delivery.transaction_timeout is {duration_text(delivery.transaction_timeout)}, and the brokers allow "
            f"{duration_text(longest)} (transaction.max.timeout.ms)",
            f"set delivery.transaction_timeout to at most {duration_text(longest)}",
        )
    least, most = number("group.min.session.timeout.ms", 0), number("group.max.session.timeout.ms", 2**31)
    if not least <= delivery.session_timeout <= most:
        problems.add(
            f"delivery.session_timeout is {duration_text(delivery.session_timeout)}, and the brokers allow "
            f"{duration_text(least)} to {duration_text(most)} (group.min.session.timeout.ms and max)",
            "set delivery.session_timeout between them",
        )
    kept_ms = number("offsets.retention.minutes", 2**31) * 60_000
    if kept_ms < downtime_ms:
        problems.add(
            f"the brokers forget a group's offsets {duration_text(kept_ms)} after its last worker left, and "
            f"the planned downtime is {duration_text(downtime_ms)}",
            "raise offsets.retention.minutes of the brokers, or give a shorter --downtime",
        )


_READ, _WRITE = (AclOperation.READ, AclOperation.DESCRIBE), (AclOperation.WRITE, AclOperation.DESCRIBE)


def _needed(config: Config) -> Iterator[tuple[str, tuple[AclOperation, ...]]]:
    both = (*_READ, AclOperation.WRITE)
    yield config.events.topic, _READ
    yield config.feedback.topic, _READ
    yield config.signals, _WRITE
    for name in (config.predictions.topic, config.training_log_topic, config.outcomes, config.dead_letters):
        yield name, both


def _permissions(config: Config, client: AdminClient, found: Inspected, problems: Problems) -> None:
    """Operations that the broker says this user may do; without an authorizer it allows all of them."""
    names = list(found.counts)
    if not names:
        return
    described = client.describe_topics(
        TopicCollection(names), include_authorized_operations=True, request_timeout=TIMEOUT_S
    )
    for name, operations in _needed(config):
        if name not in described:
            continue
        try:
            allowed = described[name].result().authorized_operations
        except KafkaException as exception:
            problems.add(f"{name} cannot be described: {error_of(exception).str()}", "grant DESCRIBE on it")
            continue
        denied = [operation.name for operation in operations if allowed is not None and operation not in allowed]
        if denied:
            problems.add(
                f"this user may not {' or '.join(denied)} {name}",
                "kafka-acls.sh --add --allow-principal User:NAME "
                + " ".join(f"--operation {operation.capitalize()}" for operation in denied)
                + f" --topic {name}",
            )
