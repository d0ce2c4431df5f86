"""librdkafka's cluster within the process, which gives the answers that a test asks for.

It is part of the very library that confluent_kafka ships, and is reached by ctypes: an experimental interface without
any promise, so this is the only file that knows it. It proves how the client takes an answer, and nothing about
transactions: it fences nobody, and it throws committed offsets of transactions away.
"""

import ctypes
import functools
from collections import Counter
from enum import IntEnum
from pathlib import Path
from typing import Self

import confluent_kafka
import pytest

BROKER = 1
PRODUCER = 0  # of rd_kafka_type_t


class Request(IntEnum):
    """Kafka's numbers of the requests that are answered wrongly here."""

    PRODUCE = 0
    LIST_OFFSETS = 2
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS = 24
    ADD_OFFSETS = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class MockCluster:
    """One broker that lives until `close()`."""

    def __init__(self) -> None:
        self._lib = library()
        failure = ctypes.create_string_buffer(512)
        settings = self._lib.rd_kafka_conf_new()
        self._lib.rd_kafka_conf_set(settings, b"log_level", b"0", failure, len(failure))
        self._handle = self._lib.rd_kafka_new(PRODUCER, settings, failure, len(failure))
        assert self._handle, failure.value.decode()
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._handle, 1)
        self.bootstrap_servers: str = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._lib.rd_kafka_mock_start_request_tracking(self._cluster)

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        assert not self._lib.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)

    def refuse_topic(self, topic: str, error: int) -> None:
        """What metadata says of this topic from now on; 0: that all is well."""
        self._lib.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), error)

    def answer(self, request: Request, *errors: int) -> None:
        """The next requests of this kind are answered by these errors, one each, and not carried out."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._lib.rd_kafka_mock_push_request_errors_array(self._cluster, int(request), len(errors), codes)

    def answer_late(self, request: Request, delay_ms: int) -> None:
        """The next request of this kind is carried out at once, and answered after so long."""
        assert not self._lib.rd_kafka_mock_broker_push_request_error_rtts(
            self._cluster, BROKER, int(request), 1, ctypes.c_int(0), ctypes.c_int(delay_ms)
        )

    def healthy(self) -> None:
        """Take back all that was asked for."""
        for request in Request:
            self._lib.rd_kafka_mock_clear_request_errors(self._cluster, int(request))
        self.up()

    def down(self) -> None:
        """Disconnect everybody, let nobody in."""
        assert not self._lib.rd_kafka_mock_broker_set_down(self._cluster, BROKER)

    def up(self) -> None:
        assert not self._lib.rd_kafka_mock_broker_set_up(self._cluster, BROKER)

    def requests(self) -> Counter[int]:
        """How often each kind of request has come since this was last asked."""
        count = ctypes.c_size_t()
        found = self._lib.rd_kafka_mock_get_requests(self._cluster, ctypes.byref(count))
        kinds = Counter(self._lib.rd_kafka_mock_request_api_key(found[i]) for i in range(count.value))
        self._lib.rd_kafka_mock_request_destroy_array(found, count)
        self._lib.rd_kafka_mock_clear_requests(self._cluster)
        return kinds

    def close(self) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@functools.cache
def library() -> ctypes.CDLL:
    """The library that confluent_kafka has loaded, with the types of the functions that are used here."""
    package = Path(confluent_kafka.__file__).parent
    files = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    if not files:
        pytest.skip("confluent_kafka came without a librdkafka of its own: built from source?")
    found = ctypes.CDLL(str(files[0]))
    for name, (result, arguments) in FUNCTIONS.items():
        try:
            function = getattr(found, name)
        except AttributeError:
            pytest.skip(f"{files[0].name} does not export {name}")
        function.restype, function.argtypes = result, arguments
    return found


_POINTER, _INT, _TEXT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
_BROKER, _KIND = ctypes.c_int32, ctypes.c_int16
FUNCTIONS = {
    "rd_kafka_conf_new": (_POINTER, []),
    "rd_kafka_conf_set": (_INT, [_POINTER, _TEXT, _TEXT, _POINTER, _SIZE]),
    "rd_kafka_new": (_POINTER, [_INT, _POINTER, _POINTER, _SIZE]),
    "rd_kafka_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_new": (_POINTER, [_POINTER, _INT]),
    "rd_kafka_mock_cluster_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, [_POINTER]),
    "rd_kafka_mock_topic_create": (_INT, [_POINTER, _TEXT, _INT, _INT]),
    "rd_kafka_mock_topic_set_error": (None, [_POINTER, _TEXT, _INT]),
    "rd_kafka_mock_push_request_errors_array": (None, [_POINTER, _KIND, _SIZE, _POINTER]),
    "rd_kafka_mock_broker_push_request_error_rtts": (_INT, [_POINTER, _BROKER, _KIND, _SIZE]),  # and pairs of int
    "rd_kafka_mock_clear_request_errors": (None, [_POINTER, _KIND]),
    "rd_kafka_mock_broker_set_down": (_INT, [_POINTER, _BROKER]),
    "rd_kafka_mock_broker_set_up": (_INT, [_POINTER, _BROKER]),
    "rd_kafka_mock_start_request_tracking": (None, [_POINTER]),
    "rd_kafka_mock_get_requests": (ctypes.POINTER(_POINTER), [_POINTER, ctypes.POINTER(_SIZE)]),
    "rd_kafka_mock_request_api_key": (_KIND, [_POINTER]),
    "rd_kafka_mock_request_destroy_array": (None, [_POINTER, _SIZE]),
    "rd_kafka_mock_clear_requests": (None, [_POINTER]),
}
