"""Which topics a commit's metadata names, and what a worker makes of names that say less."""

from types import SimpleNamespace
from typing import Any

import pytest

from stream_ml.core.join.watermark import BEGINNING
from stream_ml.core.partition.commit_metadata import Metadata, OutputEnds
from stream_ml.kafka.committed import CommittedState, pair_of
from stream_ml.kafka.topics import inputs_id, wanted_topics
from stream_ml.worker.partitions.offsets import lost_offsets, recreated_inputs, way_on
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


@pytest.mark.parametrize(("version", "words"), [(3, "a later version"), (1, "a version before the first release")])
def test_a_state_that_this_version_does_not_read_is_said_to_be_one(version: int, words: str) -> None:
    """And not that offsets are lost: to set them by hand would lose what the other version has committed."""
    found = CommittedState(0, 5, 5, None, None, version)
    assert words in lost_offsets(found, started=True) and words in lost_offsets(found, started=False)
    assert ("offsets set" in way_on(found)) is (version == 1)


def test_offsets_of_two_transactions_are_not_gone_on_with() -> None:
    """Somebody committed one of them by hand, or Kafka has kept an older one."""
    made = Metadata(0, BEGINNING, (0, 0), 0, 0, OutputEnds(0, 0, 0, 0), "one", "w1", inputs_id=("a", "b"))
    config: Any = SimpleNamespace(events=SimpleNamespace(topic="e"), feedback=SimpleNamespace(topic="f"))
    other = made._replace(token="other")

    def state(events: str | None, feedback: str | None) -> CommittedState:
        found = (("e", 5, events), ("f", 6, feedback))
        both: Any = [SimpleNamespace(topic=topic, offset=offset, metadata=text) for topic, offset, text in found]
        return pair_of(config, 0, both)

    assert state(made.text(), made.feedback_text()).whole
    for events, feedback in (
        (made.text(), other.feedback_text()),
        (made.text(), None),
        (None, made.feedback_text()),
        (made.feedback_text(), made.feedback_text()),
    ):
        found = state(events, feedback)
        assert not found.whole and "not both of one transaction" in lost_offsets(found, started=True)
        assert found.inputs_id == ("a", "b")
