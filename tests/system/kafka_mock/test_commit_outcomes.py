"""How each error that Kafka can give to a transaction ends: COMMITTED, ABORTED, UNKNOWN, or an error of the service.

What must hold in every row, whatever the library makes of the error:

1. Before the commit is asked for, nothing can have been committed: COMMITTED (retried inside) or ABORTED.
2. From then on it can: COMMITTED (retried inside) or UNKNOWN, never ABORTED.
3. Afterwards transactions work again, with a new producer where the old one is lost for good.
4. It takes no longer than the bounds, and raises nothing but the service's own errors.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError, StreamMLError, TransientError
from stream_ml.kafka.errors import step_after
from stream_ml.kafka.writing import transaction
from stream_ml.kafka.writing.transaction import REOPENED_MAX, Ending, Transactor
from stream_ml.records import Block
from tests.system.kafka_mock.mock_cluster import MockCluster, Request

COMMITTED, ABORTED, UNKNOWN = Ending.COMMITTED, Ending.ABORTED, Ending.UNKNOWN
TIMEOUT_S = 1.0  # of a transaction, of a commit, of a call that may be repeated
RECORDS = [Block("out", 0, [b"k"] * 3, [b"v0", b"v1", b"v2"], {})]
OFFSETS = [TopicPartition("in", 0, 3, "token")]
CODES = {
    name: getattr(KafkaError, name)
    for name in dir(KafkaError)
    if name.isupper() and isinstance(getattr(KafkaError, name), int)
}

# Fatal by their meaning, abortable, retriable, and without a meaning for transactions.
FENCED = "PRODUCER_FENCED INVALID_PRODUCER_EPOCH"
DENIED = "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"
FATAL = f"{FENCED} {DENIED} INVALID_TXN_STATE"
MEMBER = "UNKNOWN_MEMBER_ID ILLEGAL_GENERATION FENCED_INSTANCE_ID"
REFUSED = "TOPIC_AUTHORIZATION_FAILED MSG_SIZE_TOO_LARGE TRANSACTION_ABORTABLE"
COORDINATOR = "COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR COORDINATOR_LOAD_IN_PROGRESS"
ODD = "UNKNOWN INVALID_REQUEST"
CLOSED = "_TRANSPORT"  # the connection is closed instead of an answer

NEW = "by a new producer"
SAME = "by the same producer"
TABLE = [
    (Request.ADD_PARTITIONS, FATAL, ABORTED, NEW),
    (Request.ADD_PARTITIONS, f"{REFUSED} NOT_ENOUGH_REPLICAS REQUEST_TIMED_OUT {ODD}", ABORTED, SAME),
    (Request.ADD_PARTITIONS, f"{COORDINATOR} CONCURRENT_TRANSACTIONS", COMMITTED, SAME),
    (Request.PRODUCE, "INVALID_PRODUCER_EPOCH OUT_OF_ORDER_SEQUENCE_NUMBER", ABORTED, NEW),
    (Request.PRODUCE, f"PRODUCER_FENCED {DENIED} INVALID_TXN_STATE UNKNOWN_PRODUCER_ID", ABORTED, SAME),
    (Request.PRODUCE, f"{REFUSED} INVALID_RECORD {ODD}", ABORTED, SAME),
    (Request.PRODUCE, "NOT_ENOUGH_REPLICAS REQUEST_TIMED_OUT NOT_LEADER_FOR_PARTITION", COMMITTED, SAME),
    (Request.ADD_OFFSETS, f"INVALID_PRODUCER_EPOCH {DENIED} INVALID_TXN_STATE", ABORTED, NEW),
    (Request.ADD_OFFSETS, f"PRODUCER_FENCED GROUP_AUTHORIZATION_FAILED {REFUSED} {ODD}", ABORTED, SAME),
    (Request.ADD_OFFSETS, f"{COORDINATOR} CONCURRENT_TRANSACTIONS REQUEST_TIMED_OUT", COMMITTED, SAME),
    (Request.TXN_OFFSET_COMMIT, f"INVALID_PRODUCER_EPOCH {DENIED} INVALID_TXN_STATE", ABORTED, NEW),
    (Request.TXN_OFFSET_COMMIT, f"PRODUCER_FENCED GROUP_AUTHORIZATION_FAILED {MEMBER} {ODD}", ABORTED, SAME),
    (Request.TXN_OFFSET_COMMIT, f"{COORDINATOR} REQUEST_TIMED_OUT", COMMITTED, SAME),
    (Request.END_TXN, f"{FATAL} {REFUSED} UNKNOWN_MEMBER_ID UNKNOWN", UNKNOWN, NEW),
    (Request.END_TXN, "NOT_ENOUGH_REPLICAS REQUEST_TIMED_OUT", UNKNOWN, NEW),
    (Request.END_TXN, f"{COORDINATOR} CONCURRENT_TRANSACTIONS", COMMITTED, SAME),
]
LEFT = [  # the connection closes: retried inside, or the library does not come back and is left behind
    (Request.ADD_PARTITIONS, CLOSED, {COMMITTED, ABORTED}),
    (Request.PRODUCE, CLOSED, {COMMITTED, ABORTED}),
    (Request.ADD_OFFSETS, CLOSED, {COMMITTED, ABORTED}),
    (Request.TXN_OFFSET_COMMIT, CLOSED, {COMMITTED, ABORTED}),
    (Request.END_TXN, CLOSED, {COMMITTED, UNKNOWN}),
]
LASTING = [
    (Request.ADD_PARTITIONS, "COORDINATOR_NOT_AVAILABLE", ABORTED),
    (Request.PRODUCE, "NOT_ENOUGH_REPLICAS", ABORTED),
    (Request.ADD_OFFSETS, "CONCURRENT_TRANSACTIONS", ABORTED),
    (Request.TXN_OFFSET_COMMIT, "COORDINATOR_LOAD_IN_PROGRESS", ABORTED),
    (Request.END_TXN, "CONCURRENT_TRANSACTIONS", UNKNOWN),
    (Request.END_TXN, "NOT_COORDINATOR", UNKNOWN),
    (Request.END_TXN, CLOSED, UNKNOWN),
]
AT_START = [
    (f"{FENCED}", FatalError),
    (f"{DENIED} CLUSTER_AUTHORIZATION_FAILED", ConfigError),
    (f"{COORDINATOR} CONCURRENT_TRANSACTIONS REQUEST_TIMED_OUT INVALID_TXN_STATE UNKNOWN {CLOSED}", None),
]


@pytest.fixture(autouse=True)
def short_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "COMMIT_SLOW_S", TIMEOUT_S)
    monkeypatch.setattr(transaction, "RETRY_MAX_S", TIMEOUT_S)
    monkeypatch.setattr(transaction, "OFFSETS_MAX_S", TIMEOUT_S)
    monkeypatch.setattr(transaction, "OPEN_S", TIMEOUT_S)


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """A cluster of the test's own: producers that an earlier test left behind would take its errors."""
    with MockCluster() as made:
        made.create_topic("in")
        made.create_topic("out")
        yield made


@pytest.fixture(scope="module")
def group() -> Any:
    """Metadata of a group that nobody has joined; the mock reads it and asks no more."""
    consumer = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "app", "log_level": 0})
    found = consumer.consumer_group_metadata()
    consumer.close()
    return found


@pytest.fixture
def config(cluster: MockCluster) -> Config:
    return config_of(cluster)


def config_of(cluster: MockCluster) -> Config:
    topics = {"schema": "no.avsc", "id": "key"}
    return Config(
        app={"id": "app"},
        worker={"instance": "w"},
        kafka={"bootstrap_servers": cluster.bootstrap_servers, "producer": {"log_level": 0}},
        events={"topic": "in", **topics},
        feedback={"topic": "feedback", "label": "y", "ttl": "1h", **topics},
        predictions={"topic": "out"},
        model={"factory": "no:model", "task": "binary"},
        delivery={"transaction_timeout": f"{TIMEOUT_S:.0f}s"},
    )


def rows(table: list[Any]) -> Any:
    """One test for each error of each line."""
    return [
        pytest.param(request, CODES[name], *rest, id=f"{request.name}-{name}")
        for request, names, *rest in table
        for name in names.split()
    ]


def works_again(transactor: Transactor, ending: Ending, group: Any) -> None:
    """The next transaction is committed; two may be aborted before: the library counts what was refused, and on a
    slow machine the broker that is back is not found at once."""
    if ending is UNKNOWN:
        transactor.open()
    found = [transactor.run(RECORDS, OFFSETS, group)]
    while found[-1] is ABORTED and len(found) < 3:
        found.append(transactor.run(RECORDS, OFFSETS, group))
    assert found[-1] is COMMITTED


class Survivor:
    """A cluster and a transactor that go from one error to the next, until a test fails."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.cluster = MockCluster()
        self.cluster.create_topic("in")
        self.cluster.create_topic("out")
        self.transactor = Transactor(config_of(self.cluster), 1_000_000)
        self.sound = True


@pytest.fixture(scope="module")
def long_lived() -> Iterator[Survivor]:
    made = Survivor()
    yield made
    made.transactor.close()
    made.cluster.close()


@pytest.fixture
def survivor(long_lived: Survivor) -> Survivor:
    """To make a producer takes half a second; to begin anew is needed only after a failure."""
    if not long_lived.sound:
        long_lived.begin()
    long_lived.sound = False
    return long_lived


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("request_", "code", "ending", "by"), rows(TABLE))
def test_error_once(survivor: Survivor, group: Any, request_: Request, code: int, ending: Ending, by: str) -> None:
    cluster, transactor = survivor.cluster, survivor.transactor
    cluster.requests()
    cluster.answer(request_, code)
    started = time.monotonic()
    assert transactor.run(RECORDS, OFFSETS, group) is ending
    assert time.monotonic() - started < 5 * TIMEOUT_S
    works_again(transactor, ending, group)
    seen = cluster.requests()
    assert seen[request_] > 1, "the error was met, and the request came again"
    if by is NEW:
        assert seen[Request.INIT_PRODUCER_ID]
    survivor.sound = True


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("request_", "code", "endings"), rows(LEFT))
def test_connection_closed_instead_of_an_answer(
    cluster: MockCluster, config: Config, group: Any, request_: Request, code: int, endings: set[Ending]
) -> None:
    transactor = Transactor(config, 1_000_000)
    assert transactor.run(RECORDS, OFFSETS, group) is COMMITTED
    cluster.answer(request_, code)
    started = time.monotonic()
    ending = transactor.run(RECORDS, OFFSETS, group)
    assert ending in endings
    assert time.monotonic() - started < 5 * TIMEOUT_S
    works_again(transactor, ending, group)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("request_", "code", "ending"), rows(LASTING))
def test_retriable_error_that_lasts(
    cluster: MockCluster, config: Config, group: Any, request_: Request, code: int, ending: Ending
) -> None:
    transactor = Transactor(config, 1_000_000)
    cluster.answer(request_, *[code] * 1000)
    started = time.monotonic()
    assert transactor.run(RECORDS, OFFSETS, group) is ending
    assert TIMEOUT_S / 2 < time.monotonic() - started < 5 * TIMEOUT_S, "repeated, and not for ever"
    cluster.healthy()
    works_again(transactor, ending, group)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("code", "error"), [pytest.param(CODES[n], error, id=n) for names, error in AT_START for n in names.split()]
)
def test_error_while_a_producer_is_made(
    cluster: MockCluster, config: Config, group: Any, code: int, error: type[StreamMLError] | None
) -> None:
    cluster.answer(Request.INIT_PRODUCER_ID, code)
    if error is None:
        transactor = Transactor(config, 1_000_000)
    else:
        with pytest.raises(error):
            Transactor(config, 1_000_000)
        transactor = Transactor(config, 1_000_000)
    assert transactor.run(RECORDS, OFFSETS, group) is COMMITTED


# --- time ---


def test_commit_answered_within_the_bound_is_committed(cluster: MockCluster, config: Config, group: Any) -> None:
    transactor = Transactor(config, 1_000_000)
    cluster.answer_late(Request.END_TXN, 300)
    assert transactor.run(RECORDS, OFFSETS, group) is COMMITTED
    works_again(transactor, COMMITTED, group)


def test_commit_answered_after_the_bound_is_unknown(cluster: MockCluster, config: Config, group: Any) -> None:
    transactor = Transactor(config, 1_000_000)
    cluster.answer_late(Request.END_TXN, 3000)
    started = time.monotonic()
    assert transactor.run(RECORDS, OFFSETS, group) is UNKNOWN
    assert time.monotonic() - started < 2 * TIMEOUT_S
    works_again(transactor, UNKNOWN, group)


class BrokerGoes(Transactor):
    """The broker goes away before one step of one transaction, and comes back after `back_s`, if at all."""

    def __init__(self, config: Config, cluster: MockCluster, step: str, back_s: float | None) -> None:
        super().__init__(config, 1_000_000)
        original = getattr(self, step)
        self.timer = timer = None if back_s is None else threading.Timer(back_s, cluster.up)

        def away(*given: Any) -> Any:
            setattr(self, step, original)
            cluster.down()
            if timer is not None:
                timer.start()
            return original(*given)

        setattr(self, step, away)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("step", "back_s", "endings"),
    [
        ("_begin", 0.3, {COMMITTED, ABORTED}),
        ("_begin", None, {ABORTED}),  # the broker has not heard of it: nothing to abort
        ("_flush", 3.0, {ABORTED}),
        ("_offsets", 0.3, {COMMITTED, ABORTED}),
        ("_offsets", 4.0, {ABORTED}),  # the abort is not answered either: a new producer aborts
        ("_commit", 0.3, {COMMITTED, UNKNOWN}),
        ("_commit", None, {UNKNOWN}),
    ],
)
def test_broker_away(
    cluster: MockCluster, config: Config, group: Any, step: str, back_s: float | None, endings: set[Ending]
) -> None:
    transactor = BrokerGoes(config, cluster, step, back_s)
    started = time.monotonic()
    ending = transactor.run(RECORDS, OFFSETS, group)
    assert ending in endings
    assert time.monotonic() - started < (back_s or 0) + 5 * TIMEOUT_S
    if transactor.timer is not None:
        transactor.timer.join()
    cluster.up()
    works_again(transactor, ending, group)


@pytest.mark.timeout(60)
def test_broker_that_stays_away_is_a_transient_error(cluster: MockCluster, config: Config, group: Any) -> None:
    transactor = BrokerGoes(config, cluster, "_offsets", None)
    started = time.monotonic()
    with pytest.raises(TransientError, match="does not answer"):
        transactor.run(RECORDS, OFFSETS, group)
    assert time.monotonic() - started < 8 * TIMEOUT_S  # open() waits for 3 of them


# --- never for ever ---


def test_state_error_after_a_fatal_one_ends_in_a_new_producer(cluster: MockCluster, config: Config, group: Any) -> None:
    transactor = Transactor(config, 1_000_000)
    cluster.answer(Request.END_TXN, KafkaError.PRODUCER_FENCED)
    assert transactor.run(RECORDS, OFFSETS, group) is UNKNOWN
    cluster.requests()
    started = time.monotonic()
    assert transactor.run(RECORDS, OFFSETS, group) is ABORTED  # without open(): the lost producer is used again
    assert time.monotonic() - started < 2 * TIMEOUT_S
    assert cluster.requests()[Request.INIT_PRODUCER_ID]
    assert transactor.run(RECORDS, OFFSETS, group) is COMMITTED


def test_producer_that_is_fenced_again_and_again_gives_up(cluster: MockCluster, config: Config, group: Any) -> None:
    transactor = Transactor(config, 1_000_000)
    cluster.answer(Request.ADD_OFFSETS, *[KafkaError.INVALID_PRODUCER_EPOCH] * 100)
    for _ in range(REOPENED_MAX - 1):
        assert transactor.run(RECORDS, OFFSETS, group) is ABORTED
    with pytest.raises(FatalError, match="does another process run"):
        transactor.run(RECORDS, OFFSETS, group)


def test_full_queue_of_a_broker_that_is_away_is_given_up(cluster: MockCluster, config: Config, group: Any) -> None:
    small = config.kafka.producer | {"queue.buffering.max.messages": 10}
    kafka = config.kafka.model_copy(update={"producer": small})
    transactor = BrokerGoes(config.model_copy(update={"kafka": kafka}), cluster, "_begin", None)
    started = time.monotonic()
    assert transactor.run(RECORDS * 20, OFFSETS, group) is ABORTED
    assert time.monotonic() - started < 5 * TIMEOUT_S
    cluster.up()
    works_again(transactor, ABORTED, group)


# --- what an error asks for ---


def error(code: int, *, fatal: bool = False, retriable: bool = False, abort: bool = False) -> KafkaError:
    return KafkaError(code, "made for the test", fatal, retriable, abort)


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (error(KafkaError.PRODUCER_FENCED, fatal=True), "fatal"),
        (error(KafkaError.PRODUCER_FENCED, abort=True), "abort"),  # the flag counts, not the name
        (error(KafkaError._TIMED_OUT, retriable=True), "retry"),
        (error(KafkaError._TIMED_OUT), "fatal"),
        (error(KafkaError.UNKNOWN), "fatal"),
        (error(KafkaError._STATE), "fatal"),
        (error(KafkaError._FENCED, fatal=True, retriable=True, abort=True), "fatal"),
        (error(KafkaError._FENCED, fatal=True, abort=True), "fatal"),
        (error(KafkaError._FENCED, fatal=True, retriable=True), "fatal"),
        (error(KafkaError.REQUEST_TIMED_OUT, retriable=True, abort=True), "abort"),
        (error(KafkaError._CONFLICT), "fatal"),
        (error(KafkaError._CONFLICT, retriable=True), "fatal"),
        (error(KafkaError._CONFLICT, abort=True), "fatal"),
        (error(KafkaError._CONFLICT, retriable=True, abort=True), "fatal"),
    ],
    ids=lambda value: (
        f"{value.name()}{'F' * value.fatal()}{'R' * value.retriable()}{'A' * value.txn_requires_abort()}"
        if isinstance(value, KafkaError)
        else value
    ),
)
def test_fatal_outranks_abortable_outranks_retriable_and_no_flag_is_fatal(found: KafkaError, step: str) -> None:
    assert step_after(found) == step
