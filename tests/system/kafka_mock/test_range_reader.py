"""Ranges that are read a piece at a time, with other work between two pieces."""

import pytest

from stream_ml.kafka.reading.ranges import RangeReader
from tests.system.kafka_mock.mock_cluster import MockCluster
from tests.system.kafka_mock.test_commit_outcomes import config_of
from tests.system.kafka_mock.test_group_inputs import cluster, produce  # noqa: F401 - a fixture

COUNT = 12_000  # more than one piece


@pytest.mark.timeout(60)
def test_a_client_that_is_served_between_two_pieces_loses_none_of_them(cluster: MockCluster) -> None:  # noqa: F811
    produce(cluster, 0, COUNT)
    reader = RangeReader(config_of(cluster), lambda: None)
    offsets = []
    for batch in reader.messages({("in", 0): (0, COUNT)}):
        offsets += [message.offset() for message in batch]
        reader.serve()
    reader.serve()
    reader.close()
    assert offsets == list(range(COUNT))
