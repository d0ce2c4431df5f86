"""What Kafka's errors mean: which end a process, which librdkafka mends by itself."""

import pytest
from confluent_kafka import KafkaError

from stream_ml.kafka.clients import lasting


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.FENCED_LEADER_EPOCH,  # a restarted broker answers so once
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    ],
)
def test_a_consumer_reads_on_after_an_error_that_passes(code: int) -> None:
    assert not lasting(KafkaError(code))


@pytest.mark.parametrize(
    "error",
    [
        KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART),
        KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED),
        KafkaError(KafkaError._AUTO_OFFSET_RESET),
        KafkaError(KafkaError._FATAL, "no more", fatal=True),
    ],
)
def test_a_consumer_ends_after_an_error_that_stays(error: KafkaError) -> None:
    assert lasting(error)
