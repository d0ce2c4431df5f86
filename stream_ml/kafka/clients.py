"""Kafka clients and their settings."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from stream_ml.config import Config
from stream_ml.errors import ConfigError
from stream_ml.kafka.access.certificates import check_files
from stream_ml.kafka.errors import error_of, on_error
from stream_ml.kafka.threads import call_within

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0  # of one request that is expected to be answered at once
MAX_POLL_INTERVAL_MS = 300_000  # a turn takes milliseconds; a rebuild polls while it reads
HEARTBEAT_MS = 1_000  # of a member, and how late it may hear that the group moves
FETCH_BACKOFF_MS = 2  # with small queues and librdkafka's 1000 ms, throughput collapses to a tenth (measured)
QUEUED_KBYTES = 16_384  # prefetched per consumer; the default of 64 MB is for clients without other memory
PREFETCH_S = 1.0  # for a question that is answered in milliseconds, and that one can do without
CLOSE_S = 5.0  # of a consumer: it takes milliseconds, and longer only where Kafka is away
FETCH_BYTES = 131_072  # of an answer to a consumer, and no slower (measured): as gzip it unpacks to 135 MB at most
UNPACKED_BYTES = 134_217_728  # of a batch as zstd; of one whose size is not said it unpacks a third of that, at worst
COMPRESSION = "lz4"  # of what is produced: no CPU that could be measured, a log of 0.4; zstd 0.35 for 5 % (measured)
FEW_PARTITIONS = 4
FETCH_PAUSE_MIN_MS, FETCH_PAUSE_MAX_MS = 10, 50
FETCH_WAIT_MS = 100  # how long the broker may hold an empty fetch
AUTHORITIES = (  # of the system: Debian and its like, Red Hat's, Alpine's, macOS
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
Client = TypeVar("Client", Consumer, Producer, AdminClient)


def common(config: Config) -> dict[str, Any]:
    """Settings of all clients."""
    return {
        "bootstrap.servers": config.kafka.bootstrap_servers,
        "client.id": f"{config.app.id}-{config.instance}",
        "socket.nagle.disable": True,
        "error_cb": on_error,
        "logger": log,
        **authorities_of_issuer(config),
        **config.client_properties(),
    }


def authorities_of_issuer(config: Config) -> dict[str, Any]:
    """Where the authorities are that an issuer of tokens is believed with, unless the configuration says so.

    librdkafka's wheel looks where one distribution keeps them, and says that there is no file (tried: Debian).
    """
    properties = config.client_properties()
    wanted = properties.get("sasl.oauthbearer.method") == "oidc" and not {"https.ca.location", "https.ca.pem"} & {
        *properties
    }
    found = next((path for path in AUTHORITIES if Path(path).is_file()), None) if wanted else None
    return {} if found is None else {"https.ca.location": found}


def topics_there(client: AdminClient) -> Any:
    """All topics, as `list_topics` gives them; KafkaException where Kafka does not answer."""
    try:
        return client.list_topics(timeout=TIMEOUT_S)
    except KafkaException:
        client.poll(0)  # serves the callback that tells why
        raise


def reading(config: Config) -> dict[str, Any]:
    """Settings of every consumer: only committed records, no position kept or guessed by the client."""
    return {
        **common(config),
        "group.id": config.app.id,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "fetch.queue.backoff.ms": FETCH_BACKOFF_MS,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "queued.max.messages.kbytes": QUEUED_KBYTES,
        "check.crcs": True,
        "fetch.max.bytes": FETCH_BYTES,
        "max.partition.fetch.bytes": FETCH_BYTES,
        "message.max.bytes": FETCH_BYTES,  # of a consumer it only says that a fetch may be as small
        "receive.message.max.bytes": UNPACKED_BYTES,
        **config.client_properties("consumer"),
    }


def reader(config: Config, **changes: Any) -> Consumer:
    """A consumer for assign() alone: it never joins the group."""
    return made(Consumer, {**reading(config), **changes})


def prefetch_metadata(consumer: Consumer, topics: Iterable[str]) -> None:
    """Let a consumer know who leads these topics, before it is assigned partitions of theirs.

    One that learns it on the way waits 0.4 s for its first record, half of the time (measured). Where Kafka does not
    answer it goes on without.
    """
    for topic in topics:
        try:
            consumer.list_topics(topic, timeout=PREFETCH_S)
        except KafkaException as exception:
            log.debug("%s: %s", topic, error_of(exception).str())
            return


def fetching(config: Config, partitions: int) -> dict[str, Any]:
    """How often a consumer of so many partitions of a topic asks for records.

    Of few: whenever there is one. A fetch of many costs the broker 10 us for each partition, whatever is in it
    (measured: 64 partitions and 1,000 records a second took half a core of it, and 5 % in this way): so it is asked at
    most every few milliseconds, less often the more there are, and answers what came meanwhile. So it is when nothing
    comes, too: 64 partitions that stand still cost a small broker 16 % of a core instead of 8 (measured).
    """
    if partitions <= FEW_PARTITIONS:
        return {}
    wait_ms = min(FETCH_PAUSE_MAX_MS, FETCH_PAUSE_MIN_MS + partitions // 4)
    return {"fetch.min.bytes": FETCH_BYTES, "fetch.wait.max.ms": wait_ms, **config.client_properties("consumer")}


def member(config: Config) -> Consumer:
    """The consumer that joins the group, and reads nothing.

    The assignor is cooperative-sticky: of 512 partitions 8 move when a 65th worker comes, and no other is given back.
    A member hears with its next heartbeat that the group moves, and all wait for the last one.
    """
    settings = {
        **reading(config),
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": config.delivery.session_timeout,
        "heartbeat.interval.ms": max(1, min(HEARTBEAT_MS, config.delivery.session_timeout // 4)),
        "max.poll.interval.ms": max(MAX_POLL_INTERVAL_MS, config.delivery.session_timeout),
    }
    if config.delivery.membership == "static":
        settings["group.instance.id"] = config.transactional_id
    return made(Consumer, settings)


def member_of(config: Config, group: str) -> Consumer:
    """A consumer that joins a group other than the workers', and reads what it is given from what is committed."""
    settings = {
        **reading(config),
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": False,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": config.delivery.session_timeout,
        "max.poll.interval.ms": max(MAX_POLL_INTERVAL_MS, config.delivery.session_timeout),
    }
    return made(Consumer, settings)


def producer(config: Config, transactional_id: str, **changes: Any) -> Producer:
    """A transactional producer under this id, not yet initialised."""
    return made(
        Producer,
        {
            **common(config),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": config.delivery.transaction_timeout,
            "queue.buffering.max.messages": 500_000,
            "compression.type": COMPRESSION,
            **config.client_properties("producer"),
            **changes,
        },
    )


def admin(config: Config) -> AdminClient:
    """An admin client."""
    return made(AdminClient, common(config))


def made(client: type[Client], settings: dict[str, Any]) -> Client:
    """A client with these settings; ConfigError where librdkafka refuses one, or a file is not there."""
    check_files(settings)
    try:
        return client(settings)
    except KafkaException as exception:
        raise ConfigError(
            f"kafka.properties, kafka.consumer or kafka.producer: {error_of(exception).str()}",
            "librdkafka's CONFIGURATION.md lists its keys",
        ) from exception


def close_within(consumer: Consumer) -> None:
    """Close a consumer, as long as that goes: one whose broker was away was seen to spin for ever in its close."""
    try:
        call_within(consumer.close, CLOSE_S)
    except KafkaException:
        log.warning("a consumer did not close within %.0f s; abandoned", CLOSE_S)
    except SystemError as error:  # what a callback of it raised, which the client's own code then mixes up
        log.warning("a consumer closed with an error of its client; its place is taken from it in time: %s", error)


def take(consumer: Consumer, most: int, wait_s: float) -> list[Message]:
    """What has arrived, at most so many messages, waiting only for the first.

    consume() alone would wait for the whole time unless it gets all that it asked for.
    """
    first = consumer.poll(wait_s)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)] if most > 1 else [first]
