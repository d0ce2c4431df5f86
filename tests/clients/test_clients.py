"""What Kafka's errors mean: which end a process, which librdkafka mends by itself."""

import pytest
from confluent_kafka import KafkaError

from stream_ml.config import Config
from stream_ml.errors import ConfigError
from stream_ml.kafka.clients import admin, close_within, member, producer, reader
from stream_ml.kafka.errors import lasting


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
        KafkaError(KafkaError._FATAL, "a fenced static member, as poll() gives it: without the flag"),
    ],
)
def test_a_consumer_ends_after_an_error_that_stays(error: KafkaError) -> None:
    assert lasting(error)


@pytest.mark.parametrize("make", [admin, reader, member, lambda config: producer(config, "t")])
@pytest.mark.parametrize("properties", [{"security.protokol": "SSL"}, {"ssl.ca.location": "/nowhere/ca.pem"}])
def test_a_setting_that_librdkafka_refuses_is_an_error_of_the_configuration(make, properties) -> None:  # type: ignore[no-untyped-def]
    source = {"topic": "t", "schema": "s", "id": "key"}
    config = Config(
        app={"id": "a"},
        kafka={"bootstrap_servers": "none:1", "properties": {"security.protocol": "SSL"} | properties},
        events=source,
        feedback={**source, "topic": "f", "label": "y", "ttl": "1h"},
        predictions={"topic": "p"},
        model={"factory": "m:f", "task": "binary"},
    )
    with pytest.raises(ConfigError, match=r"kafka\.properties") as caught:
        make(config)
    assert caught.value.exit_code == 78


def test_a_consumer_whose_client_mixes_up_an_error_at_its_close_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """As confluent-kafka was seen to raise it after a callback had raised: a worker told to stop ended with 1."""

    class MixedUp:
        def close(self) -> None:
            raise SystemError("_PyErr_SetObject: exception <class 'str'> is not a BaseException subclass")

    close_within(MixedUp())  # type: ignore[arg-type]
    assert "closed with an error of its client" in caplog.text
