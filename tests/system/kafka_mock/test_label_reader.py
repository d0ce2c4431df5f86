"""Receipts of labels that are not there."""

import time

import pytest

from stream_ml.kafka.reading.labels import LabelReader, Where
from tests.system.kafka_mock.mock_cluster import MockCluster
from tests.system.kafka_mock.test_commit_outcomes import config_of
from tests.system.kafka_mock.test_group_inputs import cluster  # noqa: F401 - a fixture


@pytest.mark.timeout(60)
def test_a_receipt_of_a_partition_that_is_not_there_is_of_no_label(cluster: MockCluster) -> None:  # noqa: F811
    """Its ends would be asked for during ten seconds, at one of two places for all who ask; then: Kafka is away."""
    cluster.create_topic("feedback", 2)
    reader = LabelReader(config_of(cluster), None)
    began_s = time.monotonic()
    assert reader.look(Where(999_999, 0)) is None and reader.look(Where(2, 5)) is None
    assert reader.look(Where(1, 5)) is None, "a partition that is there, and no record"
    assert time.monotonic() - began_s < 10
