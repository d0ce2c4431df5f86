"""Commands to all replicas, written into the training log."""

import getpass
import time
from typing import Any

from confluent_kafka import Producer

from stream_ml.config import Config
from stream_ml.core.log.entry import encode_command
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import FatalError
from stream_ml.kafka.clients import TIMEOUT_S, admin, common
from stream_ml.kafka.errors import reaching
from stream_ml.kafka.reading.ends import ends


def write_command(
    config: Config, command: str, arguments: dict[str, Any], seal: LogSeal | None = None, *, writer: str = ""
) -> int:
    """Write a command into the training log; every replica obeys it at the offset that is returned.

    A sealed one says how much of the log was there, so that it cannot be written again later by somebody else.
    """
    topic = config.training_log_topic
    if seal is not None:
        with reaching(config):
            arguments = arguments | {"seen": ends(admin(config), [(topic, 0)])[topic, 0][1]}
    value = encode_command(
        command, arguments, written_at_ms=_now_ms(), writer=writer or f"operator {getpass.getuser()}"
    )
    return write_entry(config, value, seal)


def write_entry(config: Config, value: bytes, seal: LogSeal | None) -> int:
    """Write an entry into the training log, sealed where there is a seal; its offset."""
    offsets: list[int] = []
    topic = config.training_log_topic

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            raise FatalError(f"nothing was written into {topic}: {error.str()}")
        offsets.append(message.offset())

    producer = Producer({**common(config), "enable.idempotence": True, "message.timeout.ms": int(TIMEOUT_S * 1000)})
    with reaching(config):
        headers = [seal.header(value)] if seal is not None else None
        producer.produce(topic, value, partition=0, on_delivery=delivered, headers=headers)
        producer.flush(TIMEOUT_S)
    if not offsets:
        raise FatalError(f"nothing was written into {topic}: Kafka did not confirm it")
    return offsets[0]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
