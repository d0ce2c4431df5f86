"""The Kafkas that tests run on: the embedded one, a container, or any address."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream_ml.kafka.broker import EmbeddedKafka

IMAGE = "apache/kafka:4.1.1"

CONTAINER_START_S = 120
"""For the container's log to say that the server has started: 4.4 s on 2 idle cores, the image being there."""


@contextmanager
def broker(choice: str, directory: Path) -> Iterator[str]:
    """Bootstrap servers for `choice`: ``embedded`` (kept in `directory`), ``docker``, or an address."""
    if choice == "embedded":
        with EmbeddedKafka(directory) as kafka:
            yield kafka.bootstrap_servers
    elif choice == "docker":
        container = apache_kafka()
        try:
            container.start(timeout=CONTAINER_START_S)
            yield container.get_bootstrap_server()
        finally:
            container.stop()
    else:
        yield choice


def apache_kafka() -> Any:
    """A container of Apache's own image, which testcontainers (made for Confluent's) cannot start by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer ones moved the module, older ones lack the new
        from testcontainers.kafka import KafkaContainer

    class ApacheKafkaContainer(KafkaContainer):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__(IMAGE)
            self.kraft_enabled = True  # with_kraft() would compare the tag with Confluent's version numbers
            self.with_env("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
            self.with_env("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")  # without both transactions hang
            self.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
            self.with_env("KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS", "1000")

        def _configure_kraft(self) -> None:
            super()._configure_kraft()
            self.boot_command = ""  # it edits files that only Confluent's image has

        def tc_start(self) -> None:
            here = f"{self.get_container_host_ip()}:{self.get_exposed_port(self.port)}"
            listeners = f"{self.listener_name}://{here},BROKER://$(hostname -i):9092"
            script = f"#!/bin/bash\nexport KAFKA_ADVERTISED_LISTENERS={listeners}\nexec /etc/kafka/docker/run\n"
            self.create_file(script.encode(), KafkaContainer.TC_START_SCRIPT)

    return ApacheKafkaContainer()
