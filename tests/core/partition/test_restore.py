"""What a rebuild makes of events and predictions: the same whichever is read first, in pieces of any size."""

import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from stream_ml.core.join.join import Join
from stream_ml.core.join.pending import CHUNK_ROWS, PendingEvent, Rows
from stream_ml.core.partition.predictions import PredictionCodec
from stream_ml.core.partition.restore import Marks, RebuiltEvents
from stream_ml.records import Record, Records
from tests.support.partition import (
    EVENTS,
    PREDICTIONS,
    ROOMY,
    T0,
    World,
    event_record,
    partition_settings,
    parts,
    pending,
)

COUNT = 2 * CHUNK_ROWS + 500
LIMIT = 1_000_000
NONE = Marks(0, 0)
EVENTS_FIRST, PREDICTIONS_FIRST, IN_TURN = "events first", "predictions first", "in turn"


def codec() -> PredictionCodec:
    return parts().predictions


def scored(count: int, *, duplicates: Sequence[int] = ()) -> tuple[list[Record], list[bytes]]:
    """Events and their predictions, of which some are of an id that came before."""
    events = [event_record(n, "e0" if n in duplicates else f"e{n}", T0 + n) for n in range(count)]
    world = World(ROOMY, partition_settings(), events, [])
    for _ in range(0, count, 2_000):
        world.turn(2_000, 0)
    return events, [record.value or b"" for record in world.topics[PREDICTIONS]]


def rebuilt(
    events: Sequence[Record], predictions: Sequence[bytes], order: str = IN_TURN, size: int = 700, floor: int = 0
) -> list[PendingEvent]:
    """What a join holds after it."""
    found = RebuiltEvents(0, floor, EVENTS, parts().reader.payloads)
    steps = [(0, at) for at in range(0, len(events), size)] + [(1, at) for at in range(0, len(predictions), size)]
    orders: dict[str, Any] = {
        EVENTS_FIRST: lambda step: step[0],
        PREDICTIONS_FIRST: lambda step: -step[0],
        IN_TURN: lambda step: step[1],
    }
    for kind, at in sorted(steps, key=orders[order]):
        if kind:
            found.published(predictions[at : at + size], codec())
        else:
            found.take(Records.of(EVENTS, 0, events[at : at + size]))
    join = Join(ROOMY)
    join.rebuild(found.finish(NONE, LIMIT), [])
    return join.store.events()


@pytest.mark.parametrize("order", [EVENTS_FIRST, PREDICTIONS_FIRST, IN_TURN])
@pytest.mark.parametrize("size", [1_000, CHUNK_ROWS, COUNT])
def test_all_orders_and_sizes_come_to_the_same(order: str, size: int) -> None:
    events, predictions = scored(COUNT)
    found = rebuilt(events, predictions, order, size)
    assert [event.offset for event in found] == list(range(COUNT))
    assert [event.value for event in found] == [record.value for record in events]
    fingerprint = parts().reader.payloads.reader.fingerprint
    assert {event.schema for event in found} == {fingerprint}
    assert [event.served for event in found] == [codec().decode(value).served for value in predictions]


def test_what_is_finished_is_not_held_twice() -> None:
    """Memory beside what the join holds in the end: a restart that needs twice that is one that dies at each start."""
    events, predictions = scored(COUNT)
    values = [bytes(bytearray(record.value or b"")) for record in events]
    tracemalloc.start()
    try:
        found = RebuiltEvents(0, 0, EVENTS, parts().reader.payloads)
        for at in range(0, COUNT, 500):
            found.published(predictions[at : at + 500], codec())
            own = [
                record._replace(value=value) for record, value in zip(events[at:], values[at : at + 500], strict=False)
            ]
            found.take(Records.of(EVENTS, 0, own))
        join = Join(ROOMY)
        tracemalloc.reset_peak()
        join.rebuild(found.finish(NONE, LIMIT), [])
        peak = tracemalloc.get_traced_memory()[1]
        del found, own
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(join.store) == COUNT
    assert peak < 1.2 * kept


def test_no_piece_is_larger_than_what_is_given_back_as_a_whole() -> None:
    events, predictions = scored(COUNT)
    found = RebuiltEvents(0, 0, EVENTS, parts().reader.payloads)
    for at in range(0, COUNT, 999):
        found.published(predictions[at : at + 999], codec())
    found.take(Records.of(EVENTS, 0, events))
    assert all(len(rows) <= CHUNK_ROWS for rows in found.finish(NONE, LIMIT))


@pytest.mark.parametrize("order", [EVENTS_FIRST, PREDICTIONS_FIRST, IN_TURN])
def test_an_event_without_a_prediction_and_a_prediction_without_its_event_are_left_out(order: str) -> None:
    events, predictions = scored(100)
    some = [value for number, value in enumerate(predictions) if number not in (0, 7, 50, 99)]
    there = [record for record in events if record.offset not in (0, 8, 51, 98)]
    found = rebuilt(there, some, order, 13)
    assert [event.offset for event in found] == [n for n in range(100) if n not in (0, 7, 8, 50, 51, 98, 99)]


@pytest.mark.parametrize("order", [EVENTS_FIRST, PREDICTIONS_FIRST, IN_TURN])
def test_an_event_whose_id_came_before_is_left_out(order: str) -> None:
    events, predictions = scored(50, duplicates=(3, 49))
    assert [event.offset for event in rebuilt(events, predictions, order, 7)] == [
        n for n in range(50) if n not in (3, 49)
    ]


def test_what_lies_before_the_floor_is_left_out() -> None:
    events, predictions = scored(50)
    assert [event.offset for event in rebuilt(events[20:], predictions, floor=20)] == list(range(20, 50))


@pytest.mark.parametrize("order", [EVENTS_FIRST, PREDICTIONS_FIRST, IN_TURN])
def test_of_two_predictions_for_one_event_the_later_one_holds(order: str) -> None:
    """As after offsets that were set back: those events were scored again, some of them as duplicates."""
    events, predictions = scored(60)
    _, again = scored(60, duplicates=(30, 59))
    found = rebuilt(events, [*predictions, *again[25:]], order, 9)
    assert [event.offset for event in found] == [n for n in range(60) if n not in (30, 59)]
    _, first = scored(60, duplicates=(30, 59))
    found = rebuilt(events, [*first, *predictions[25:]], order, 9)
    assert [event.offset for event in found] == list(range(60))
    assert [event.value for event in found] == [record.value for record in events]


def test_a_later_prediction_alone_makes_an_event_that_the_first_left_out() -> None:
    events, predictions = scored(3)
    _, first = scored(3, duplicates=(1, 2))
    assert [event.offset for event in rebuilt(events, [*first[1:], predictions[1], predictions[0]])] == [0, 1]


def test_joined_events_are_remembered_without_their_bytes() -> None:
    events, predictions = scored(10)
    found = RebuiltEvents(0, 0, EVENTS, parts().reader.payloads)
    found.published(predictions, codec())
    found.take(Records.of(EVENTS, 0, events))
    joined = Marks(0, 10)
    joined.add(4)
    (rows,) = found.finish(joined, LIMIT)
    assert [rows.joined(row) for row in range(10)] == [row == 4 for row in range(10)]
    assert rows.values[4] == b""


def test_an_id_that_is_held_twice_is_forgotten_without_an_error() -> None:
    join = Join(ROOMY)
    for offset in (1, 9):
        rows = Rows()
        rows.append(pending(offset, "x", T0))
        join.rebuild([rows], [])
    join.store.free(2)
    assert len(join.store) == 0 and join.store.events() == []


def test_many_later_predictions_take_no_time_to_speak_of() -> None:
    events, predictions = scored(COUNT)
    found = rebuilt(events, [*predictions, *predictions])
    assert [event.offset for event in found] == list(range(COUNT))


def test_marks_are_those_of_their_range() -> None:
    marks = Marks(5, 8)
    assert not marks
    for offset in (-1, 0, 4, 5, 7, 8, 2**62):
        marks.add(offset)
    assert [offset for offset in range(-2, 12) if offset in marks] == [5, 7]
    assert marks and 2**62 not in marks
    assert not Marks(8, 5)
