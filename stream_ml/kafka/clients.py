"""Settings of every Kafka client, and what Kafka's errors mean to this service."""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Literal, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError, TransientError

TIMEOUT_S = 10.0  # of one request that is expected to be answered at once
MAX_POLL_INTERVAL_MS = 300_000  # a turn takes milliseconds; a rebuild polls while it reads
HEARTBEAT_MS = 1_000  # of a member, and how late it may hear that the group moves
FETCH_BACKOFF_MS = 2  # with small queues and librdkafka's 1000 ms, throughput collapses to a tenth (measured)
QUEUED_KBYTES = 16_384  # prefetched per consumer; the default of 64 MB is for clients without other memory
RECENT_S = 30.0  # so long a refused login explains why Kafka does not answer
ACQUAINT_S = 1.0  # for a question that is answered in milliseconds, and that one can do without
CLOSE_S = 5.0  # of a consumer: it takes milliseconds, and longer only where Kafka is away
FETCH_BYTES = 131_072  # of an answer to a consumer, and no slower (measured): as gzip it unpacks to 135 MB at most
UNPACKED_BYTES = 134_217_728  # of a batch as zstd; of one whose size is not said it unpacks a third of that, at worst
COMPRESSION = "lz4"  # of what is produced: no CPU that could be measured, a log of 0.4; zstd 0.35 for 5 % (measured)
FEW_PARTITIONS = 4
FETCH_PAUSE_MIN_MS, FETCH_PAUSE_MAX_MS = 10, 50
FETCH_WAIT_MS = 100  # how long the broker may hold an empty fetch

log = logging.getLogger("stream_ml.kafka")

Step = Literal["fatal", "abort", "retry"]
Client = TypeVar("Client", Consumer, Producer, AdminClient)
Result = TypeVar("Result")


def step_after(error: KafkaError) -> Step:
    """What an error of a transactional call asks for: fatal > abort > retry, and no flag means fatal.

    `_CONFLICT` carries the retriable flag for ever after a fatal error, so it is never taken for retriable.
    Source: rdkafka.h, "Transactional producer API"; each row was met by injecting errors.
    """
    if error.code() == KafkaError._CONFLICT or error.fatal():  # noqa: SLF001 - confluent-kafka's public constants
        return "fatal"
    if error.txn_requires_abort():
        return "abort"
    return "retry" if error.retriable() else "fatal"


def error_of(exception: BaseException) -> KafkaError:
    """The KafkaError inside an exception.

    confluent-kafka raises a fatal error while it serves callbacks, and serves the next one all the same. What comes out
    is then a SystemError, with or without the KafkaException as its cause.
    """
    while not isinstance(exception, KafkaException):
        if exception.__cause__ is None:
            return KafkaError(KafkaError._FATAL, str(exception), True)  # noqa: SLF001
        exception = exception.__cause__
    error = exception.args[0]
    assert isinstance(error, KafkaError)  # noqa: S101 - confluent-kafka promises it
    return error


def common(config: Config) -> dict[str, Any]:
    """Settings of all clients."""
    return {
        "bootstrap.servers": config.kafka.bootstrap_servers,
        "client.id": f"{config.app.id}-{config.instance}",
        "socket.nagle.disable": True,
        "error_cb": _error,
        "logger": log,
        **config.client_properties(),
    }


class Outage:
    """Since when no broker has answered, as the clients' callbacks say; who hears from one says when it is over."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def begins(self) -> bool:
        """Note it; whether it is a new one."""
        new = self._since_s is None
        self._since_s = self._since_s or time.monotonic()
        return new

    @property
    def seconds(self) -> float | None:
        """How long it has lasted; None where there is none."""
        since_s = self._since_s
        return None if since_s is None else time.monotonic() - since_s

    def over(self) -> float | None:
        """A broker has answered: how long it lasted, None where there was none."""
        seconds, self._since_s = self.seconds, None
        return seconds


outage = Outage()


def _error(error: KafkaError) -> None:
    if error.code() == KafkaError._ALL_BROKERS_DOWN and outage.begins():  # noqa: SLF001
        log.warning("Kafka does not answer: no broker can be connected to; it is tried again and again")
    elif error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):  # noqa: SLF001 - librdkafka logs these
        log.warning("kafka: %s", error.str())
    if error.code() in _REFUSED_LOGIN:
        _refusals.append((time.monotonic(), error.str()))


# Why brokers could not be reached, as the clients said it; a request only says that it got no answer.
_REFUSED_LOGIN = {KafkaError._AUTHENTICATION, KafkaError._SSL}  # noqa: SLF001
_refusals: deque[tuple[float, str]] = deque(maxlen=1)


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


def acquaint(consumer: Consumer, topics: Iterable[str]) -> None:
    """Let a consumer know who leads these topics, before it is assigned partitions of theirs.

    One that learns it on the way waits 0.4 s for its first record, half of the time (measured). Where Kafka does not
    answer it goes on without.
    """
    for topic in topics:
        try:
            consumer.list_topics(topic, timeout=ACQUAINT_S)
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
    """A client with these settings; ConfigError where librdkafka refuses one."""
    try:
        return client(settings)
    except KafkaException as exception:
        raise ConfigError(
            f"kafka.properties, kafka.consumer or kafka.producer: {error_of(exception).str()}",
            "librdkafka's CONFIGURATION.md lists its keys",
        ) from exception


@contextlib.contextmanager
def reaching(config: Config) -> Iterator[None]:
    """Turn a failure to reach Kafka into a TransientError that names the address."""
    try:
        yield
    except KafkaException as exception:
        error = error_of(exception)
        where = config.kafka.bootstrap_servers
        if error.code() in UNREACHABLE and _refusals and time.monotonic() - _refusals[0][0] < RECENT_S:
            raise ConfigError(
                f"Kafka at {where} refuses the connection: {_refusals[0][1]}",
                "look at security.protocol, sasl.* and ssl.* in kafka.properties: stream-ml config show --origin",
            ) from exception
        if error.code() in UNREACHABLE:
            why = "no broker can be connected to" if error.code() in _NOT_CONNECTED else error.str()
            raise TransientError(
                f"Kafka at {where} does not answer: {why}",
                "is it running, and is kafka.bootstrap_servers right?",
            ) from exception
        if error.code() in _DENIED:
            raise ConfigError(
                f"Kafka at {where} refuses: {error.str()}", "grant it, or log in as another user"
            ) from exception
        raise FatalError(f"Kafka at {where}: {error.str()}") from exception


_NOT_CONNECTED = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}  # noqa: SLF001
UNREACHABLE = {
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001
    KafkaError._DESTROY_BROKER,  # noqa: SLF001
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError._NOENT,  # noqa: SLF001
    KafkaError._WAIT_COORD,  # noqa: SLF001
}
_DENIED = {
    KafkaError._AUTHENTICATION,  # noqa: SLF001
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}


def lasting(error: KafkaError) -> bool:
    """Whether a consumer's error stays: reading on would never succeed. All others librdkafka mends by itself.

    Among those are lost connections and FENCED_LEADER_EPOCH, which a restarted broker answers once (met in a storm).
    """
    return error.fatal() or error.code() in _LASTING


def ended_by(config: Config, where: str, error: KafkaError) -> FatalError:
    """The words for a lasting error of a reader; of the group too, which is looked for by every reader."""
    if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
        return FatalError(
            f"this user may not look at the group {config.app.id}: {error.str()}",
            f"kafka-acls.sh --add --allow-principal User:NAME --operation Describe --group {config.app.id}",
        )
    return FatalError(f"{where}: {error.str()}", "may this user read it?")


def absent(error: KafkaError) -> bool:
    """Whether an error says that a topic or a partition is not there."""
    return error.code() in _ABSENT


_ABSENT = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
}
_LASTING = _ABSENT | {
    KafkaError._FATAL,  # noqa: SLF001 - as a consumer gives it, without the flag: a static member that was fenced
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001
}


class Aside(threading.Thread, Generic[Result]):
    """A call in a thread of its own, which the end of the process does not wait for."""

    def __init__(self, call: Callable[[], Result]) -> None:
        super().__init__(name="aside", daemon=True)
        self._call = call
        self._found: list[Result] = []
        self._raised: list[BaseException] = []
        self.start()

    def run(self) -> None:
        """Do the call."""
        try:
            self._found.append(self._call())
        except BaseException as exception:  # raised again by `result`
            self._raised.append(exception)
        del self._call

    def result(self, timeout_s: float | None = None) -> Result:
        """What the call gave or raised; KafkaException where it is not done in time."""
        self.join(timeout_s)
        if self.is_alive():
            raise KafkaException(_HANGS)
        if self._raised:
            raise self._raised.pop()
        return self._found[0]


def bounded(call: Callable[[], None], timeout_s: float) -> None:
    """Do a call of which librdkafka does not keep a timeout; KafkaException where it is not done in time.

    It waits for ever for a group coordinator that went away at the wrong moment (librdkafka issue 5456). The thread
    that waits is then left behind with its client, which the next one fences, or the end of the process ends.
    """
    Aside(call).result(timeout_s)


def beside(call: Callable[[], Result], meanwhile: Callable[[], None]) -> Result:
    """What `call` gives, done in another thread while this one does something else; both have ended then."""
    started = Aside(call)
    try:
        meanwhile()
    finally:
        started.join()
    return started.result()


_HANGS = KafkaError(KafkaError._TIMED_OUT, "the client does not return", True)  # noqa: SLF001 - fatal


def let_go(consumer: Consumer) -> None:
    """Close a consumer, as long as that goes: one whose broker was away was seen to spin for ever in its close."""
    try:
        bounded(consumer.close, CLOSE_S)
    except KafkaException:
        log.warning("a consumer could not be closed within %.0f s; it is left behind", CLOSE_S)


def take(consumer: Consumer, most: int, wait_s: float) -> list[Message]:
    """What has arrived, at most so many messages, waiting only for the first.

    consume() alone would wait for the whole time unless it gets all that it asked for.
    """
    first = consumer.poll(wait_s)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)] if most > 1 else [first]
