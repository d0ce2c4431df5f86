"""Labels of a topic that is replayed are held back until the events have come as far in time."""

import pytest

from stream_ml.offline.replay.from_topics import _first_later
from stream_ml.records import DeadLetter
from tests.support.partition import label, label_record, labels_of

DEAD = DeadLetter(label_record(9, "d", 0), "not_avro", "why", "decode")


@pytest.mark.parametrize(
    ("times", "latest", "count"),
    [
        ([1, 2, 3], 2, 2),
        ([1, 2, 3], 9, 3),
        ([5, 6], 4, 0),
        ([1, 99, 2, 3], 2, 3),  # one far ahead holds nothing back
        ([1, 5, None, 6], 2, 1),  # one that cannot be used lets none before it go
        ([None, 5], 2, 0),
        ([None, 1], 2, 2),
    ],
)
def test_as_many_labels_go_as_the_events_have_come(times: list[int | None], latest: int, count: int) -> None:
    items = [DEAD if time is None else label(number, f"e{number}", time) for number, time in enumerate(times)]
    assert _first_later(labels_of(items), latest) == count
