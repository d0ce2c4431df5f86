"""Feedback is held back until events have come as far in time, or are at their end, or have had their time."""

import pytest

from stream_ml.core.inputs.alignment import AWAIT_MAX_MS, WAIT_AT_END_MS, WAIT_MAX_MS, FirstLabels, HeldFeedback
from tests.support.partition import T0, clock, label, labels_of

HOUR_MS = 3_600_000


def held_back(held: HeldFeedback, *, at_end: bool, now_ms: int, events_ms: int = T0) -> int:
    """How many of three labels are held back now."""
    return 3 - len(held.ready(events_ms, at_end, clock(now_ms), 10))


@pytest.fixture
def held() -> HeldFeedback:
    """Labels an hour, two and three after the events, which arrive at 0."""
    found = HeldFeedback()
    found.extend(labels_of([label(n, f"e{n}", T0 + (n + 1) * HOUR_MS) for n in range(3)]), clock(0))
    return found


def test_labels_later_than_the_events_are_held_back_while_events_come(held: HeldFeedback) -> None:
    assert held_back(held, at_end=False, now_ms=0) == 3
    assert held_back(held, at_end=False, now_ms=1, events_ms=T0 + HOUR_MS) == 2
    assert held_back(held, at_end=False, now_ms=2, events_ms=T0 + 3 * HOUR_MS) == 0


def test_a_label_goes_on_before_its_events_when_nothing_has_come_for_so_long(held: HeldFeedback) -> None:
    assert held_back(held, at_end=False, now_ms=0) == 3
    assert held_back(held, at_end=False, now_ms=WAIT_MAX_MS - 1) == 3
    assert held_back(held, at_end=False, now_ms=WAIT_MAX_MS) == 2


# After idle hours both topics got a backlog: the labels were fetched first, and ended as orphans of events to come.
def test_labels_that_arrive_while_events_are_at_their_end_wait_a_moment_and_all_at_once(held: HeldFeedback) -> None:
    assert held_back(held, at_end=True, now_ms=WAIT_AT_END_MS - 1) == 3
    assert held_back(held, at_end=True, now_ms=WAIT_AT_END_MS) == 0


def test_labels_of_events_that_are_there_are_never_held_back(held: HeldFeedback) -> None:
    assert held_back(held, at_end=True, now_ms=0, events_ms=T0 + 3 * HOUR_MS) == 0


def test_a_backlog_of_events_waits_for_the_first_labels_of_a_backlog_but_not_for_ever() -> None:
    first = FirstLabels(clock(1_000))
    assert not first.awaited(0, False, clock(1_000)), "events or labels are no backlog, or nobody knows yet"
    assert first.awaited(0, True, clock(1_001))
    assert first.awaited(0, True, clock(1_000 + AWAIT_MAX_MS - 1))
    assert not first.awaited(0, True, clock(1_000 + AWAIT_MAX_MS))
    assert first.over


def test_once_labels_have_come_events_never_wait_again() -> None:
    """Labels of one partition may fill what is held while another one's are used up: all would wait for nobody."""
    first = FirstLabels(clock(0))
    assert first.awaited(0, True, clock(1))
    assert not first.awaited(1, True, clock(2))
    assert not first.awaited(0, True, clock(3))
