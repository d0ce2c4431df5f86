"""The Kafkas that tests run on: the embedded one, a container, or any address."""

import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream_ml.embedded.broker import EmbeddedKafka

IMAGE = "apache/kafka:4.1.1"

START_S = 150.0
"""For a broker without which many tests fail: 4 s on idle cores, over 60 s on very busy ones."""

CONTAINER_START_S = 120
"""For the container's log to say that the server has started: 4.4 s on 2 idle cores, the image being there."""

DEFAULTS = """\
offsets.topic.num.partitions=50
transaction.state.log.num.partitions=50
group.initial.rebalance.delay.ms=3000
broker.session.timeout.ms=9000
broker.heartbeat.interval.ms=2000
"""
"""Kafka's own, in place of those that make the embedded broker quick."""

GUARDED = """\
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},LOGIN://127.0.0.1:{login}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms={mechanism}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
"""A second listener at port `login`, behind a mechanism of SASL; on the first everybody may do everything."""


@contextmanager
def broker(choice: str, directory: Path) -> Iterator[str]:
    """Bootstrap servers for `choice`: ``embedded`` or ``cold`` (kept in `directory`), ``docker``, or an address."""
    if choice == "embedded":
        with embedded(directory) as kafka:
            yield kafka.bootstrap_servers
    elif choice == "cold":
        with cold(directory) as bootstrap_servers:
            yield bootstrap_servers
    elif choice == "docker":
        container = apache_kafka()
        try:
            container.start(timeout=CONTAINER_START_S)
            yield container.get_bootstrap_server()
        finally:
            container.stop()
    else:
        yield choice


@contextmanager
def embedded(directory: Path, settings: str = "") -> Iterator[EmbeddedKafka]:
    """A broker for many tests, perhaps with more settings."""
    kafka = EmbeddedKafka(directory, settings=settings)
    kafka.start(timeout_s=START_S)
    with kafka:
        yield kafka


@contextmanager
def cold(directory: Path) -> Iterator[str]:
    """A broker with Kafka's own settings, from the moment at which its port answers: its coordinators come later."""
    kafka = EmbeddedKafka(directory, settings=DEFAULTS)
    starting = threading.Thread(target=kafka.start)
    starting.start()
    try:
        while not _listens(kafka.port) and starting.is_alive():
            time.sleep(0.01)  # between two looks; the start has a bound
        yield kafka.bootstrap_servers
    finally:
        starting.join()
        kafka.stop()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


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
