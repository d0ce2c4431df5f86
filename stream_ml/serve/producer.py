"""Writes what callers bring to Kafka, and answers once Kafka has confirmed it."""

import asyncio
import logging
import os
import signal
import threading
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stream_ml.config import Config
from stream_ml.core.api.problems import Problem
from stream_ml.kafka.clients import common, made
from stream_ml.kafka.errors import error_of
from stream_ml.observe.trace_context import CURRENT
from stream_ml.records import Headers

POLL_S = 0.1  # of the thread that serves delivery reports; they come at once
FLUSH_S = 5.0  # at the end
QUEUE_LEAST = 10_000  # records that may wait for Kafka; beyond it a request is refused


log = logging.getLogger(__name__)


class Confirmed(NamedTuple):
    """Where a record stands."""

    partition: int
    offset: int


class Writer:
    """One idempotent producer of one process; its methods belong to the event loop.

    Attributes
    ----------
    problem
        Why nothing can be written any more; empty while it can.
    """

    def __init__(self, config: Config) -> None:
        self._ack_s, self._servers = config.serve.ack_timeout / 1000, config.kafka.bootstrap_servers
        self._queue_max = max(QUEUE_LEAST, 4 * config.serve.instances_max)
        self.problem = ""
        settings = {
            **common(config),
            "enable.idempotence": True,
            "linger.ms": 1,
            "queue.buffering.max.messages": self._queue_max,
            "delivery.timeout.ms": 120_000,
            **config.client_properties("producer"),
        }
        self._producer: Producer = made(Producer, settings)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="delivery", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._ended.is_set():
            try:
                self._producer.poll(POLL_S)
            except Exception as error:  # a fatal error of the client's: nothing it has is written any more
                self.problem = f"the producer has failed for good: {error_of(error).str()}; this process is replaced"
                log.critical("%s", self.problem)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    async def write(self, topic: str, records: list[tuple[bytes, bytes, Headers]]) -> list[Confirmed]:
        """Write keys, values and headers, and which trace it is; where each stands.

        Raises
        ------
        Problem
            not-recorded: Kafka did not confirm all of them in time. Some may be there nevertheless; the same again does
            no harm, for ids are known.
        """
        loop, current = asyncio.get_running_loop(), CURRENT.get()
        trace = [] if current is None else current.headers
        futures: list[asyncio.Future[Confirmed]] = [loop.create_future() for _ in records]
        for (key, value, headers), future in zip(records, futures, strict=True):
            try:
                self._producer.produce(
                    topic, value, key, headers=[*headers, *trace], on_delivery=_reporter(loop, future)
                )
            except (BufferError, KafkaException) as error:
                for one in futures:
                    one.cancel()
                full = f"{self._queue_max:,} records wait for Kafka already"
                raise self._problem(full if isinstance(error, BufferError) else str(error)) from None
        try:
            return await asyncio.wait_for(asyncio.gather(*futures), self._ack_s)
        except TimeoutError:
            raise self._problem(f"no confirmation in {self._ack_s:g} s") from None
        except KafkaException as error:
            raise self._problem(error.args[0].str()) from None

    def _problem(self, why: str) -> Problem:
        words = f"Kafka at {self._servers} did not confirm: {why}; send the same again"
        return Problem("not-recorded", words, headers={"Retry-After": "2"})

    def close(self) -> None:
        """Wait a little for what is on its way."""
        self._producer.flush(FLUSH_S)
        self._ended.set()
        self._thread.join(1.0)


def _reporter(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Confirmed]"):  # type: ignore[no-untyped-def]
    def report(error: KafkaError | None, message: Message) -> None:
        where = Confirmed(message.partition() or 0, message.offset() or 0) if error is None else None
        loop.call_soon_threadsafe(_done, future, where, error)

    return report


def _done(future: "asyncio.Future[Confirmed]", where: Confirmed | None, error: KafkaError | None) -> None:
    if future.done():
        return
    if where is not None:
        future.set_result(where)
    else:
        future.set_exception(KafkaException(error))
