"""Which topics a commit's metadata names, and what a worker makes of names that say less."""

from stream_ml.core.join.watermark import BEGINNING
from stream_ml.core.partition.commit_metadata import Metadata, OutputEnds
from stream_ml.kafka.committed import CommittedState
from stream_ml.kafka.topics import inputs_id, wanted_topics
from stream_ml.worker.partitions.offsets import recreated_inputs
from tests.support.partition import parts

CONFIG = parts().config
THERE = inputs_id(CONFIG, {topic.name: topic.name for topic in wanted_topics(CONFIG)})


def _pair(named: tuple[str, str]) -> CommittedState:
    metadata = Metadata(0, BEGINNING, (0, 0), 0, 0, OutputEnds(0, 0, 0, 0), "t", "set-by-hand")
    metadata = metadata._replace(inputs_id=named)
    return CommittedState(0, 1, 1, metadata, metadata.inputs_id)


def test_ids_that_could_not_be_asked_for_do_not_look_like_topics_made_anew() -> None:
    assert (
        recreated_inputs(CONFIG, _pair(inputs_id(CONFIG, {})), THERE) == ""
    )  # as offsets set where Kafka does not say


def test_ids_of_other_topics_do() -> None:
    others = inputs_id(CONFIG, {topic.name: f"{topic.name}2" for topic in wanted_topics(CONFIG)})
    assert recreated_inputs(CONFIG, _pair(others), THERE) != ""
