"""``stream-ml check --online`` on a real Kafka: what a worker would stumble over at once, or one day."""

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from typer.testing import CliRunner

from stream_ml.check.online import BATCH_BYTES, batch_notes
from stream_ml.cli.app import app
from stream_ml.kafka.topics import inspected
from tests.support.service import Service, service

pytestmark = pytest.mark.kafka


def check(made: Service, *flags: str) -> tuple[int, str]:
    """Exit code and what it prints."""
    found = CliRunner().invoke(app, ["check", str(made.folder / "w1.yaml"), "--online", *flags])
    return found.exit_code, found.output


def alter(kafka: str, topic: str, **settings: str) -> None:
    """Settings of a topic; underscores for dots."""
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    client = AdminClient({"bootstrap.servers": kafka})
    client.incremental_alter_configs([resource])[resource].result()


def test_nothing_is_wrong_with_topics_as_the_service_makes_them(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        code, said = check(made)
        assert code == 0, said
        assert "7 of 7 topics exist, 2 partitions of events" in said


@pytest.mark.parametrize(("ttl", "early_ttl"), [("10d", "1h"), ("1h", "30d"), ("52w", "1h")])
def test_nothing_is_wrong_with_the_topics_of_a_long_ttl(
    kafka: str, app_id: str, tmp_path: Path, ttl: str, early_ttl: str
) -> None:
    with service(tmp_path, kafka, app_id, feedback={"ttl": ttl, "early_ttl": early_ttl}) as made:
        code, said = check(made)
        assert code == 0, said


def test_a_topic_whose_batches_may_unpack_to_more_than_memory_is_noted_with_the_command_that_bounds_them(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        config = made.config
        alter(kafka, config.feedback.topic, max_message_bytes="1000000000")
        alter(kafka, config.training_log_topic, max_message_bytes="1000000000")
        found = inspected(config, AdminClient({"bootstrap.servers": kafka}))
        code, said = check(made)
    assert code == 0, said
    assert f"note  {config.feedback.topic} takes batches of 1000000000 bytes, which as gzip may unpack to 1032" in said
    assert f"kafka-configs.sh --alter --topic {config.feedback.topic} --add-config max.message.bytes=131072" in said
    assert f"note  {config.events.topic}" not in said
    assert [note.split()[0] for note in batch_notes(config, found, 2**30)] == [
        config.events.topic,
        config.feedback.topic,
    ]
    settings = {name: {"max.message.bytes": str(BATCH_BYTES)} for name in found.settings}
    assert batch_notes(config, found._replace(settings=settings), 2**30) == []
    assert len(batch_notes(config, found._replace(settings=settings), 2**29)) == 2


def test_every_missing_topic_is_named(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id):
        (tmp_path / "other.yaml").write_text(
            (tmp_path / "w1.yaml").read_text("utf-8").replace(f"id: {app_id}", f"id: {app_id}x"), "utf-8"
        )
        found = CliRunner().invoke(app, ["check", str(tmp_path / "other.yaml"), "--online"])
    assert found.exit_code == 78
    for name in ("training-log", "outcomes", "dead-letters", "signals"):
        assert f"{app_id}x.{name}" in found.output
    assert "stream-ml topics create" in found.output


def test_what_would_lose_data_one_day_is_told_with_the_command_that_mends_it(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        config = made.config
        alter(kafka, config.events.topic, retention_ms="3600000")
        alter(kafka, config.outcomes, cleanup_policy="compact")
        alter(kafka, config.training_log_topic, retention_bytes="1000000", max_message_bytes="500000")
        code, said = check(made, "--downtime", "2d")
    assert code == 78
    for told in (
        f"{config.events.topic} keeps records for 1h; a rebuild after an outage may need 50h",
        f"{config.outcomes} is compacted: records that a rebuild reads would vanish",
        f"{config.training_log_topic} has retention.bytes=1000000",
        f"takes records of 1048588 bytes and {config.training_log_topic} only of 500000",
    ):
        assert told in said
    assert said.count("kafka-configs.sh --alter --topic") == 4


def test_a_downtime_longer_than_the_brokers_keep_offsets_is_told(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        code, said = check(made, "--downtime", "90d")
    assert code == 78
    assert "the brokers forget a group's offsets" in said
