"""Errors that pass by themselves, and the one way to wait them out: every question that a client asks a coordinator, a
leader or the controller goes through `asked`, but for the steps of a transaction, which have a table of their own.

librdkafka repeats some questions by itself and gives up others at once: NOT_COORDINATOR of a coordinator that is being
found or has moved, for one. Which codes a fresh broker answers with was tried with 50 clients while one started.
"""

import time
from collections.abc import Callable, Collection
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from stream_ml.kafka.clients import TIMEOUT_S
from stream_ml.kafka.errors import absent, error_of

PAUSE_S = 0.1  # between two questions; the deadline decides
T = TypeVar("T")

COORDINATORS = {  # is being found, has moved, or reads its partition
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError._WAIT_COORD,  # noqa: SLF001 - confluent-kafka's public constants
}
LEADERS = {  # of a partition that was just made, or whose leader changed
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError._NOENT,  # noqa: SLF001 - "no leaders found"
}
CONNECTIONS = {
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._DESTROY_BROKER,  # noqa: SLF001 - the connection went while it was asked
}
PASSING = COORDINATORS | LEADERS | CONNECTIONS


def asked(
    call: Callable[[], T],
    patience_s: float = TIMEOUT_S,
    *,
    passing: Collection[int] = frozenset(PASSING),
    made: bool = False,
    between: Callable[[], None] = lambda: None,
) -> T:
    """What the call gives, asked again while the error is one that passes.

    Parameters
    ----------
    patience_s
        How long; after it the last KafkaException is raised, which `reaching` makes a TransientError.
    made
        The topic should be there: that it is not, is what a broker says for a moment after it was made.
    between
        Called before each further question.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except KafkaException as exception:
            error = error_of(exception)
            if not (error.code() in passing or (made and absent(error))) or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_S)
        between()
