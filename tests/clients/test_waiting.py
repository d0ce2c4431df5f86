"""Records that wait for their turn, by partition; whose turn it is; how long a turn waits for more records."""

from types import SimpleNamespace
from typing import Any

import pytest

from stream_ml.admin.produce import Written, by_time
from stream_ml.kafka.waiting import Waiting
from stream_ml.worker.turns import CommitPacer, Line


def messages(first: int, count: int) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in range(first, first + count)]


def offsets(found: Any) -> list[int]:
    return [message.offset for message in found]


def test_records_of_a_partition_are_taken_in_their_order_whatever_came_between() -> None:
    waiting = Waiting()
    waiting.add(3, messages(10, 2))
    waiting.add(5, messages(70, 1))
    waiting.add(3, messages(12, 3))
    assert (len(waiting), waiting.of(3), waiting.of(5), waiting.of(4)) == (6, 5, 1, 0)
    taken, _ = waiting.take(3, 4)
    assert offsets(taken) == [10, 11] or offsets(taken) == [10, 11, 12, 13]
    rest = []
    while waiting.of(3):
        rest += offsets(waiting.take(3, 4)[0])
    assert offsets(taken) + rest == [10, 11, 12, 13, 14]
    assert len(waiting) == 1


def test_no_more_are_taken_than_asked_for() -> None:
    waiting = Waiting()
    waiting.add(0, messages(0, 10))
    assert offsets(waiting.take(0, 1)[0]) == [0]
    assert offsets(waiting.take(0, 0)[0]) == []
    assert offsets(waiting.take(0, 100)[0]) == list(range(1, 10))
    assert offsets(waiting.take(0, 100)[0]) == []


def test_an_end_is_told_with_the_last_record_before_it() -> None:
    waiting = Waiting()
    waiting.add(0, messages(0, 2))
    waiting.end(0, 2)
    assert waiting.take(0, 1)[1] is None
    assert waiting.take(0, 1)[1] == 2


def test_an_end_is_none_where_more_came_after_it() -> None:
    waiting = Waiting()
    waiting.add(0, messages(0, 1))
    waiting.end(0, 1)
    waiting.add(0, messages(1, 1))
    assert waiting.take(0, 5)[1] is None


def test_partitions_that_always_have_more_take_turns() -> None:
    line = Line()
    line.add([4, 7, 9])
    turns = []
    for _ in range(6):
        first = next(iter(line))
        turns.append(first)
        line.served(first, more=True)
        line.add([4])  # it keeps its place
    assert turns == [4, 7, 9, 4, 7, 9]


def test_who_has_nothing_left_leaves_the_line() -> None:
    line = Line()
    line.add([1, 2])
    line.served(1, more=False)
    assert list(line) == [2]


@pytest.mark.parametrize("since_s", [0.0, 0.02, 0.049])
def test_records_wait_for_more_until_the_floor_is_over(since_s: float) -> None:
    floor = CommitPacer(50)
    floor.ended(100.0)
    assert floor.left_s(100.0 + since_s, waiting=3, limit=5_000) == pytest.approx(0.05 - since_s)


def test_a_lone_event_after_a_pause_waits_for_nothing() -> None:
    floor = CommitPacer(50)
    assert floor.left_s(100.0, waiting=1, limit=5_000) == 0.0
    floor.ended(100.0)
    assert floor.left_s(100.051, waiting=1, limit=5_000) == 0.0


def test_a_full_turn_waits_for_nothing() -> None:
    floor = CommitPacer(50)
    floor.ended(100.0)
    assert floor.left_s(100.0, waiting=5_000, limit=5_000) == 0.0


def test_two_files_are_written_in_the_order_of_their_times_and_each_in_its_own() -> None:
    def records(topic: str, *times: int) -> list[tuple[int, Written]]:
        return [(time_ms, Written(topic, b"", str(time_ms).encode())) for time_ms in times]

    events, labels = records("e", 10, 30, 20, 40), records("l", 15, 30, 35)
    order = [(one.topic, int(one.value)) for one in by_time(iter(events), iter(labels))]
    assert order == [("e", 10), ("l", 15), ("e", 30), ("e", 20), ("l", 30), ("l", 35), ("e", 40)]
