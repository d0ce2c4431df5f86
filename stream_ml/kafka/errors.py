"""What Kafka's errors mean to this service, and whether Kafka answers at all."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Literal

from confluent_kafka import KafkaError, KafkaException

from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError, TransientError
from stream_ml.kafka.access.refusals import issuer_of, refusals, words_of

log = logging.getLogger(__name__)

Step = Literal["fatal", "abort", "retry"]


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


def said_of(error: BaseException) -> str:
    """What a person is told of an error."""
    if isinstance(error, KafkaException):
        return f"Kafka: {error_of(error).str()}"
    return str(getattr(error, "message", error))


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

let_in = threading.Event()
"""Set once Kafka has let this process do what it is for. From then on it is not the configuration that is wrong: what
is refused may be let in again (TransientError), and what is forbidden was allowed before (FatalError)."""


def on_error(error: KafkaError) -> None:
    if error.code() == KafkaError._ALL_BROKERS_DOWN and outage.begins():  # noqa: SLF001
        log.warning("Kafka does not answer: no broker can be connected to; it is tried again and again")
    elif error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):  # noqa: SLF001 - librdkafka logs these
        log.warning("kafka: %s", error.str())
    refusals.note(error)


@contextlib.contextmanager
def reaching(config: Config) -> Iterator[None]:
    """Turn a failure to reach Kafka into an error that names the address, and whom to ask."""
    try:
        yield
    except KafkaException as exception:
        error = error_of(exception)
        where = config.kafka.bootstrap_servers
        refusal = refusals.recent
        if error.code() in UNREACHABLE and refusal is not None:
            message, hint = words_of(refusal, config)
            kind = TransientError if refusal.passes or let_in.is_set() else ConfigError
            raise kind(message, hint) from exception
        if error.code() in UNREACHABLE:
            why = "no broker can be connected to" if error.code() in _NOT_CONNECTED else error.str()
            issuer = issuer_of(config)
            more = f" Does the issuer of tokens at {issuer} answer?" if issuer else ""
            raise TransientError(
                f"Kafka at {where} does not answer: {why}",
                f"is it running, and is kafka.bootstrap_servers right?{more}",
            ) from exception
        if error.code() in _DENIED:
            forbidden = FatalError if let_in.is_set() else ConfigError
            raise forbidden(
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
