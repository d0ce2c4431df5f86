"""Calls of clients that are done in a thread of their own, because they may never return."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from confluent_kafka import KafkaError, KafkaException

Result = TypeVar("Result")


class BackgroundCall(threading.Thread, Generic[Result]):
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


def call_within(call: Callable[[], None], timeout_s: float) -> None:
    """Do a call of which librdkafka does not keep a timeout; KafkaException where it is not done in time.

    It waits for ever for a group coordinator that went away at the wrong moment (librdkafka issue 5456). The thread
    that waits is then left behind with its client, which the next one fences, or the end of the process ends.
    """
    BackgroundCall(call).result(timeout_s)


def run_concurrently(call: Callable[[], Result], meanwhile: Callable[[], None]) -> Result:
    """What `call` gives, done in another thread while this one does something else; both have ended then."""
    started = BackgroundCall(call)
    try:
        meanwhile()
    finally:
        started.join()
    return started.result()


_HANGS = KafkaError(KafkaError._TIMED_OUT, "the client does not return", True)  # noqa: SLF001 - fatal
